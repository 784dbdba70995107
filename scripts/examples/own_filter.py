"""A stage of curation of your own, and curation in a script: what people rated low is left out.

    python scripts/examples/own_filter.py

runs six records through the stage and two of jitune's, and says what became of each. The same stage in a run with
files, from the folder of this file:

    jitune data curate --config curate --config.input=rated.jsonl --config.output_dir=curated \\
        --config.stages=rated=own_filter:build,empty,exact,minhash --config.rated.least=3.5

`build` takes plain options with defaults, which are the options of the config, and returns a `Filter`, `Sieve` or
`Choice`; see `jitune.construct.curate.stage`. Workers build it anew by its name, so it lies in a module.
"""

from collections import Counter
from functools import partial
from statistics import mean

from jitune.construct.curate import exact
from jitune.construct.curate.filters import empty
from jitune.construct.curate.sift import sift
from jitune.construct.curate.stage import Filter, Keep, Reject
from jitune.data.record import Annotation, Record


def judge(record, *, question, least, missing):
    """Keeps what its annotators rate `least` or more in the mean."""
    given = [a.value for a in record.annotations if a.question == question and a.state == "labelled"]
    if not given:
        return Keep(record) if missing == "keep" else Reject("not_rated", f"nobody answered {question}")
    if mean(given) < least:
        return Reject("rated_low", f"{mean(given):.2f} by {len(given)}, at least {least:g}")
    return Keep(record)


def build(*, question: str = "quality", least: float = 4.0, missing: str = "reject"):
    """missing: reject, or keep, what nobody rated."""
    return Filter("rated", partial(judge, question=question, least=least, missing=missing))


ROWS = (("Name a bird that swims.", "A penguin.", (5, 4)), ("Name a bird that swims.", "A  penguin.", (5, 5)),
        ("Name the capital of Peru.", "Quito.", (1, 2)), ("Name a prime number above 10.", "N/A", (4, 4)),
        ("What is 12 times 12?", "It is 144.", (4, 5)), ("Write a haiku.", "Rain on the tin roof", ()))  # fmt: skip


def records():
    """Records as `jitune data annotate` exports them; from files: `jitune.construct.reading.read_records`."""
    for number, (prompt, answer, ratings) in enumerate(ROWS, 1):
        given = (Annotation(who, "quality", rating) for who, rating in zip(("ann", "bo"), ratings, strict=False))
        yield Record(f"r{number}", annotations=tuple(given), messages=(
            {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}))  # fmt: skip


def main():
    counts = Counter()
    for one in sift(records(), [build(least=3.5), empty.build(), exact.build(of="both")]):
        if one.reject is None:
            print(f"{one.record.id}: kept")
        else:
            print(f"{one.record.id}: {one.stage}: {one.reject.reason} ({one.reject.detail})")
        counts[one.reject.reason if one.reject else "kept"] += 1
    print(", ".join(f"{count} {word}" for word, count in counts.most_common()))


if __name__ == "__main__":
    main()
