"""Checks for collapse: the records of a round in, figures out; figures of all rounds in, why to stop out.

    history = [measure(first), measure(second, previous=first)]
    stop_reason(history)       # "" to go on, or "distinct-2 of answers fell from 0.812 in round 0 to 0.301 in ..."

A model that learns from itself may come to say ever the same. What is counted, of answers and instructions:

| figure | what |
|---|---|
| distinct_1 ... distinct_4 | different n-grams of words over all n-grams of the answers (Li et al. 2016) |
| entropy, bigram_entropy | of the words, and of the pairs of words, of the instructions, in bits: - sum p log2 p |
| opening_entropy | of the first two words of the instructions, in bits |
| length_mean, length_median | of the answers, in words |
| near_duplicates | share of records that are like an earlier one of the round: MinHash, Jaccard over 0.8 of 5-grams |
| near_duplicates_of_previous | share that are like one of the round before; None without one |
| looping | share of answers that repeat themselves, as the stage `repetition` of curation finds |
| repeated_answers | share of answers that a record before gave, word by word |
| top_answer | share of the most frequent answer |

The first three depend on how much text is looked at, so they are taken at fixed sizes, in words, of a sample in the
order of the records' digests (`at`), and rounds are compared at the largest size that both have. Words are those of
`curate.words`: of any script. All else is taken of at most `most` records of that order. Nothing is random, and the
order in which records come changes nothing but which of two duplicates is the second.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np

from jitune.construct.curate import exact, minhash
from jitune.construct.curate.filters import repetition
from jitune.construct.curate.pieces import text_of
from jitune.construct.curate.stage import Reject
from jitune.construct.curate.words import tokens
from jitune.construct.improve.stopping import LIMITS, stop_reason
from jitune.data.record import Record, answer, content_of, digest, turns
from jitune.evals import stats

__all__ = ["LIMITS", "heldout", "judge_drift", "measure", "near_duplicates", "profile", "stop_reason"]
SIZES = (100, 300, 1000, 3000, 10_000, 30_000)  # in words
ORDERS = (1, 2, 3, 4)
MOST = 10_000
LOOPS = 2000  # answers that are looked at for loops, which takes longest
SHAPE, THRESHOLD = minhash.PRESETS["datatrove"], 0.8


def measure(records: Sequence[Record], previous: Sequence[Record] | None = None, *, most: int = MOST,
            sizes: Sequence[int] = SIZES) -> dict[str, Any]:
    """The figures of a round's records; those that cannot be told are None.

    previous: the records of the round before. most: records that are looked at. sizes: of samples, in words, rising.
    """
    chosen = _ordered(records)[:most]
    answers = [text for text in map(answer, chosen) if text]
    instructions = [instruction(record) for record in chosen]
    said, asked = [tokens(text) for text in answers], [tokens(text) for text in instructions if text]
    at = {"answers": profile(said, sizes), "instructions": profile(asked, sizes)}
    last, first = _last(at["answers"]), _last(at["instructions"])
    openings = Counter(tuple(words[:2]) for words in asked)
    within, against = near_duplicates(chosen, _ordered(previous)[:most] if previous else None)
    return {
        "records": len(records), "looked_at": len(chosen),
        **{f"distinct_{n}": last["distinct"][n - 1] if last else None for n in ORDERS},
        "entropy": first["entropy"] if first else None, "bigram_entropy": first["bigram_entropy"] if first else None,
        "opening_entropy": entropy(openings) if asked else None,
        "length_mean": fmean(map(len, said)) if said else None,
        "length_median": median(map(len, said)) if said else None,
        "near_duplicates": within, "near_duplicates_of_previous": against,
        **_answers(answers), "at": at,
    }


def instruction(record: Record) -> str:
    """What the user says, joined by blank lines; the same in any number of rounds where only answers are sampled."""
    return "\n\n".join(text for role, text in turns(record) if role == "user")


def profile(texts: Iterable[Sequence[str]], sizes: Sequence[int] = SIZES) -> dict[str, dict[str, Any]]:
    """Of the first so many words of the texts: {"100": {"distinct": [4], "entropy": bits, "bigram_entropy": bits}}.

    n-grams do not reach over the end of a text. The last entry is of all words, or of the largest size.

    Example: [["a", "b", "a", "b"]] gives {"4": ...}: distinct [2/4, 2/3, 2/2, 1/1], entropy 1 bit.
    """
    grams, taken, found, left = [Counter() for _ in ORDERS], 0, {}, list(sizes)
    for words in texts:
        start = 0
        while left and start < len(words):
            # A text that a size cuts goes on behind it; its n-grams are counted with their last word.
            stop = min(len(words), start + left[0] - taken)
            for n, counts in zip(ORDERS, grams, strict=True):
                counts.update(tuple(words[i - n + 1 : i + 1]) for i in range(max(start, n - 1), stop))
            taken, start = taken + stop - start, stop
            if taken == left[0]:
                found[str(left.pop(0))] = _figures(grams)
    if taken and left and taken not in sizes:
        found[str(taken)] = _figures(grams)
    return found


def _figures(grams: Sequence[Counter]) -> dict[str, Any]:
    distinct = [len(counts) / counts.total() if counts else None for counts in grams]
    return {"distinct": distinct, "entropy": entropy(grams[0]), "bigram_entropy": entropy(grams[1])}


def entropy(counts: Mapping[Any, int]) -> float:
    """- sum p log2 p, in bits, of counts: {"a": 2, "b": 1, "c": 1} -> 1.5; 0 where there are none."""
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values()) + 0.0 if total else 0.0


def near_duplicates(records: Sequence[Record], previous: Sequence[Record] | None = None) -> tuple[float | None, ...]:
    """(share that are like an earlier record, share that are like one of `previous`); None where there are none.

    Two are alike where their MinHash signatures meet in a band and agree to 0.8: prompt and last answer together.
    """
    drawn = minhash.permutations(SHAPE.bands * SHAPE.rows, 1)
    now, before = _signatures(records, drawn), _signatures(previous or (), drawn)
    within = _like(now, [{} for _ in range(SHAPE.bands)], learn=True)
    known: list[dict] = [{} for _ in range(SHAPE.bands)]
    _like(before, known, learn=True)
    return _share(within), _share(_like(now, known, learn=False)) if previous else None


def _signatures(records: Sequence[Record], drawn: np.ndarray) -> list[np.ndarray]:
    found = (minhash.shingles(text_of(record, "both"), SHAPE) for record in records)
    return [minhash.signature(one, drawn) for one in found if len(one)]


def _like(signatures: Sequence[np.ndarray], bands: list[dict], *, learn: bool) -> list[bool]:
    """Whether each is like one in the bands; learn: those that are not are put there."""
    verdicts = []
    for one in signatures:
        keys = [part.tobytes() for part in one.reshape(SHAPE.bands, SHAPE.rows)]
        met = {id(other): other for band, key in zip(bands, keys, strict=True) for other in band.get(key, ())}
        verdicts.append(any((one == other).mean() >= THRESHOLD for other in met.values()))
        for band, key in zip(bands, keys, strict=True) if learn and not verdicts[-1] else ():
            band.setdefault(key, []).append(one)
    return verdicts


def _answers(answers: Sequence[str]) -> dict[str, float | None]:
    """looping, repeated_answers, top_answer."""
    judge = repetition.build().judge
    loops = [isinstance(judge(Record("", ({"role": "user", "content": "-"}, {"role": "assistant", "content": text}))),
                        Reject) for text in answers[:LOOPS]]
    counts = Counter(exact.fold(text, case=True, space=True) for text in answers)
    total = counts.total()
    return {"looping": _share(loops), "repeated_answers": (total - len(counts)) / total if total else None,
            "top_answer": max(counts.values()) / total if total else None}


def judge_drift(then: Sequence[float | None], now: Sequence[float | None], *, replicates: int = 2000,
                seed: int = 0) -> dict[str, Any]:
    """How a judge's scores of the same anchors have moved: means, shift and its paired bootstrap interval (95 %).

    Anchors are answers that never change; scores of None are unscored, and a pair with one counts as `unscored`.
    drifted: the interval leaves 0 out; None with fewer than two pairs.

    Raises:
      ValueError: not as many scores now as then.
    """
    pairs = [(a, b) for a, b in zip(then, now, strict=True) if a is not None and b is not None]
    found = {"n": len(pairs), "unscored": len(then) - len(pairs), "then": None, "now": None, "shift": None,
             "low": None, "high": None, "drifted": None}
    if not pairs:
        return found
    before, after = (np.asarray(side, np.float64) for side in zip(*pairs, strict=True))
    found |= {"then": float(before.mean()), "now": float(after.mean()), "shift": float((after - before).mean())}
    if len(pairs) < 2:
        return found
    means = stats.bootstrap_means(after - before, None, replicates=replicates, seed=seed)
    _, low, high = stats.percentile(means)
    return found | {"low": low, "high": high, "drifted": not low <= 0 <= high}


def heldout(correct: Sequence[float]) -> dict[str, Any]:
    """`accuracy` of a round with its standard error, for the history: {"accuracy": 0.5, "accuracy_se": 0.07}."""
    interval = stats.mean_interval(correct)
    return {"accuracy": interval.value, "accuracy_se": interval.se}


def _ordered(records: Sequence[Record]) -> list[Record]:
    """In the order of the digests of their content, which no file's order changes."""
    return [record for _, _, record in sorted((digest(content_of(r)), i, r) for i, r in enumerate(records))]


def _share(verdicts: Sequence[bool]) -> float | None:
    return sum(verdicts) / len(verdicts) if verdicts else None


def _last(found: Mapping[str, Any]) -> Any:
    return found[max(found, key=int)] if found else None
