"""Why a loop of self-improvement stops: the figures of all rounds in, a sentence out, or "" to go on.

    stop_reason([{"records": 900, "length_median": 40, ...}, {"records": 880, "length_median": 95, ...}])
    # "the median length of answers went from 40 in round 0 to 95 in round 1, more than 2 times (limits.length)"

A round's figures are `collapse.measure`'s, and where they are known `accuracy` with `accuracy_se`
(`collapse.heldout`), and `judge_drift` (`collapse.judge_drift`). `round` numbers it; else its place does. A figure
that is missing or None says nothing, and so does an accuracy without an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jitune.types import UserError

# A negative number switches a limit off. No paper gives them: they are meant to let sound rounds pass, and to stop
# what has plainly gone wrong.
LIMITS: dict[str, float] = {
    "records": 1.0,  # of a round, at least
    "distinct_2": 0.6,  # of answers, at least so much of round 0's
    "entropy": 0.8,  # of the words of instructions, at least so much of round 0's
    "length": 2.0,  # median length of answers, at most so many times round 0's, and no less than round 0's over it
    "near_duplicates": 0.5,  # share within a round, at most, where round 0 was below
    "near_duplicates_of_previous": -1.0,  # share, at most; off, for samples of one pool of prompts may well come again
    "looping": 0.1,  # share of answers that repeat themselves, at most so much above round 0's
    "top_answer": 0.3,  # share of the most frequent answer, at most so much above round 0's
    "judge_drift": 0.0,  # shift of the judge's mean on anchors, beyond its interval too
    "accuracy": 2.0,  # held out, below the best round before, in standard errors of the difference
}


def stop_reason(history: Sequence[Mapping[str, Any]], limits: Mapping[str, float] | None = None) -> str:
    """What the last round of a history breaks, all of it joined by "; ", or "".

    limits: in place of those of `LIMITS` of the same names.

    Raises:
      UserError: a limit that is not known.
    """
    unknown = [name for name in limits or () if name not in LIMITS]
    if unknown:
        raise UserError(f"limits.{unknown[0]} is not known; there are {', '.join(LIMITS)}")
    bounds = {name: value for name, value in {**LIMITS, **(limits or {})}.items() if value >= 0}
    if not history:
        return ""
    rounds = [{"round": number, **one} for number, one in enumerate(history)]
    return "; ".join(f"{what} (limits.{name})" for name, check in CHECKS.items() if name in bounds
                     for what in check(name, bounds[name], rounds))


def _records(name: str, limit: float, rounds: Sequence[Mapping]) -> Iterator[str]:
    count = rounds[-1].get("records")
    if count is not None and count < limit:
        yield f"round {rounds[-1]['round']} kept {count} records, and at least {limit:g} are needed"


def _at_size(name: str, limit: float, rounds: Sequence[Mapping]) -> Iterator[str]:
    """distinct_2 of answers and the entropy of instructions, at the largest size that both rounds have."""
    of = {"distinct_2": "answers", "entropy": "instructions"}[name]
    words = {"distinct_2": "distinct-2 of answers", "entropy": "the entropy of instructions"}[name]
    then, now = ((one.get("at") or {}).get(of) or {} for one in (rounds[0], rounds[-1]))
    shared = set(then) & set(now)
    if not shared or len(rounds) < 2:
        return
    size = max(shared, key=int)
    before, after = ((one[size]["distinct"][1] if name == "distinct_2" else one[size][name]) for one in (then, now))
    if before and after is not None and after < limit * before:
        unit = " bits" if name == "entropy" else ""
        yield (f"{words} fell from {before:.3f}{unit} in round {rounds[0]['round']} to {after:.3f}{unit} in round "
               f"{rounds[-1]['round']}, both of {int(size):,} words, below {limit:g} of it")


def _length(name: str, limit: float, rounds: Sequence[Mapping]) -> Iterator[str]:
    before, after = (one.get("length_median") for one in (rounds[0], rounds[-1]))
    if before and after is not None and not before / limit <= after <= before * limit:
        times = f"more than {limit:g} times" if after > before else f"less than 1/{limit:g} of it"
        yield (f"the median length of answers went from {before:g} words in round {rounds[0]['round']} to {after:g} in "
               f"round {rounds[-1]['round']}, {times}")


def _most(name: str, limit: float, rounds: Sequence[Mapping]) -> Iterator[str]:
    """A share that must not pass a limit; where the data began above it, a loop cannot be blamed."""
    before, after = (one.get(name) for one in (rounds[0], rounds[-1]))
    if after is not None and after > limit and not (before is not None and before > limit):
        words = {"near_duplicates": "near-duplicates within a round",
                 "near_duplicates_of_previous": "near-duplicates of the round before"}[name]
        since = f"from {before:.3f} in round {rounds[0]['round']} " if before is not None else ""
        yield f"{words} went {since}to {after:.3f} in round {rounds[-1]['round']}, above {limit:g}"


def _above(name: str, limit: float, rounds: Sequence[Mapping]) -> Iterator[str]:
    """A share that must not pass that of round 0 by more."""
    before, after = (one.get(name) for one in (rounds[0], rounds[-1]))
    if before is not None and after is not None and after > before + limit:
        words = {"looping": "answers that repeat themselves", "top_answer": "the most frequent answer's share"}[name]
        yield (f"{words} went from {before:.3f} in round {rounds[0]['round']} to {after:.3f} in round "
               f"{rounds[-1]['round']}, by more than {limit:g}")


def _drift(name: str, limit: float, rounds: Sequence[Mapping]) -> Iterator[str]:
    one = rounds[-1].get("judge_drift")
    if isinstance(one, Mapping) and one.get("drifted") and abs(one["shift"]) > limit:
        yield (f"the judge's mean on anchors moved from {one['then']:.3f} to {one['now']:.3f} in round "
               f"{rounds[-1]['round']}: by {one['shift']:+.3f}, interval {one['low']:+.3f} to {one['high']:+.3f}")


def _accuracy(name: str, limit: float, rounds: Sequence[Mapping]) -> Iterator[str]:
    known = [one for one in rounds[:-1] if one.get("accuracy") is not None]
    now = rounds[-1].get("accuracy")
    if not known or now is None:
        return
    best = max(known, key=lambda one: one["accuracy"])
    errors = [one["accuracy_se"] for one in (best, rounds[-1]) if one.get("accuracy_se") is not None]
    error = math.hypot(*errors)
    if errors and best["accuracy"] - now > limit * error:
        yield (f"held-out accuracy fell from {best['accuracy']:.3f} in round {best['round']} to {now:.3f} in round "
               f"{rounds[-1]['round']}, by more than {limit:g} standard errors of {error:.3f}")


CHECKS = {"records": _records, "accuracy": _accuracy, "distinct_2": _at_size, "entropy": _at_size, "length": _length,
          "near_duplicates": _most, "near_duplicates_of_previous": _most, "looping": _above, "top_answer": _above,
          "judge_drift": _drift}
