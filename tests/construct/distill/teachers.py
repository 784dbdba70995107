"""Teachers that play a part, and what a method does with them."""

from collections import Counter

from jitune.construct.distill.method import Given
from jitune.data.record import Provenance, Record, named
from jitune.generators.replay import Replay


def ask_record(text: str, row: int = 1, answer: str = "", system: str = "") -> Record:
    """A record with a question."""
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": "user", "content": text}]
    messages += [{"role": "assistant", "content": answer}] if answer else []
    return named(Record("", tuple(messages), provenance=Provenance(source=f"seeds.jsonl:{row}", license="CC0-1.0")))


def run_all(method, given: Given, *, steps: int | None = None):
    """(kept, rejected, the last state) of a run, or of its first steps."""
    kept, rejected, state = list(given.kept), [], dict(given.state)
    for number, step in enumerate(method.run(given), 1):
        kept += step.kept
        rejected += step.rejected
        state = dict(step.state)
        if steps and number >= steps:
            break
    return kept, rejected, state


def given(teacher, records, options, *, second=None, seed=0, kept=(), state=None) -> Given:
    """What a runner gives."""
    teacher = teacher if isinstance(teacher, Replay) else Replay(teacher)
    return Given(teacher.answer, teacher, options, records, seed, kept, state or {}, second,
                 second.answer if second else None)


def reasons(rejected) -> dict:
    """How often each reason came."""
    return dict(Counter(one.reason for one in rejected))
