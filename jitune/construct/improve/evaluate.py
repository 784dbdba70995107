"""Held-out accuracy of a model: problems that no round learns from, answered greedily and checked.

    found = measure(given_model, problems, verify, max_tokens=512)
    found["accuracy"]       # {"value": 0.4, "se": ..., "low": ..., "high": ..., "n": 50, ...}
    gain(before, found)     # the paired difference, problem by problem

An answer that the verifier cannot judge is unscored: counted, in no share. Intervals are Wilson's at 95 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jitune.construct.improve.makers import Asked
from jitune.construct.improve.problems import question
from jitune.data.record import Record
from jitune.evals.stats import mean_interval, paired
from jitune.generators.call import Call, Reply


def measure(model: Asked, problems: Sequence[Record], verify: Any, *, max_tokens: int) -> dict[str, Any]:
    """Asks and checks.

    Returns:
      model: its identity. accuracy: an `evals.stats.Interval` over what could be scored. right, wrong, unscored:
      counts. cut: answers that were cut by length, which are checked as they are. answers: of each problem, in order,
      {id, right, detail, text}.
    """
    replies = model.ask([Call(question(p), max_tokens) for p in problems])
    there = [(p, r.text) for p, r in zip(problems, replies, strict=True) if isinstance(r, Reply)]
    verdicts = iter(verify.check_all(there))
    answers = []
    for problem, reply in zip(problems, replies, strict=True):
        if isinstance(reply, Reply):
            right, detail = next(verdicts)
            answers.append({"id": problem.id, "right": right, "detail": detail, "text": reply.text})
        else:
            answers.append({"id": problem.id, "right": None, "detail": f"{reply.reason} {reply.detail}".strip(),
                            "text": ""})
    scored = [float(a["right"]) for a in answers if a["right"] is not None]
    return {
        "model": dict(model.identity), "accuracy": mean_interval(scored)._asdict(), "right": int(sum(scored)),
        "wrong": len(scored) - int(sum(scored)), "unscored": len(answers) - len(scored),
        "cut": sum(isinstance(r, Reply) and r.finish_reason == "length" for r in replies), "answers": answers,
    }  # fmt: skip


def gain(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The mean change over the problems that both could be scored on, an `evals.stats.Paired`; None without both.

    Both are of the same problems in the same order; ids may come twice.
    """
    if not before or not after:
        return None
    both = ((b["right"], a["right"]) for b, a in zip(before["answers"], after["answers"], strict=True))
    pairs = [(b, a) for b, a in both if a is not None and b is not None]
    if not pairs:
        return None
    return paired([float(b) for b, _ in pairs], [float(a) for _, a in pairs])._asdict()
