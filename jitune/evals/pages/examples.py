"""The worst of a task's samples for its page: the lowest scores, and one answer of each kind that was not scored.

    for kind, row in choose(samples, entry, most=4): show(row, entry, where="samples/gsm8k.jsonl")

A choice among chosen samples gives the same ones. What models wrote is cut and escaped; see `shown`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from jitune.evals.pages.shown import as_text, long_text, short
from jitune.report import page
from jitune.report.page import number

MOST = 4  # examples of a task
ALL = 110  # examples of a page
ANSWERS = 3  # shown of one document
FOLDED_OF = {1: 1500, 2: 700, 3: 300}  # bytes of an answer to unfold, by the number of answers
SCORES = 8  # log-likelihoods shown of one document


def choose(samples: Sequence[Mapping], entry: Mapping, *, most: int = MOST) -> list[Mapping]:
    """At most `most` samples: one of each failure but at most half, then the lowest scores that are not the best."""
    metric = judged_by(samples, entry)
    failed: dict[str, Mapping] = {}
    for row in samples:
        if score(row, metric) is None and applies(row, metric):
            failed.setdefault(row.get("failure") or "", row)
    sign = -1 if dig(entry, metric).get("better") == "lower" else 1
    scored = [(sign * score(row, metric), i) for i, row in enumerate(samples) if score(row, metric) is not None]
    best = (0 if sign < 0 else 1) if dig(entry, metric).get("unit") == "share" else None
    low = [samples[i] for s, i in sorted(scored) if best is None or s != sign * best]
    kept = list(failed.values())[: max(most // 2, most - len(low))]
    return low[: most - len(kept)] + kept


def judged_by(samples: Sequence[Mapping], entry: Mapping) -> str:
    """The metric that tells documents apart: the headline, or the first that has scores."""
    names = [entry.get("headline"), *entry.get("metrics", {})]
    return next((n for n in names if n and any(score(row, n) is not None for row in samples)), names[0] or "")


def dig(entry: Mapping, metric: str) -> Mapping:
    """The estimate of a metric, {} where there is none."""
    return entry.get("metrics", {}).get(metric) or {}


def score(row: Mapping, metric: str) -> float | None:
    """A sample's score."""
    return (row.get("scores") or {}).get(metric)


def applies(row: Mapping, metric: str) -> bool:
    """Whether a document was to be scored by the metric."""
    return metric in (row.get("scores") or {}) or bool(row.get("failure"))


def show(row: Mapping, metric: str, entry: Mapping, *, where: str = "") -> Markup:
    """One sample: the prompt, the answers with what became of them, and what was expected.

    where: the file that has all of it.
    """
    answers = spoken(row, where)
    if answers:
        label, text, _ = answers[0]
        answers[0] = (label, text, outcome(row, metric, entry))
    answers.append(("read as", long_text(row.get("answer"), where=where, shown=300, folded=300) or "(no answer found)"))
    if row.get("target") is not None:
        answers.append(("expected", long_text(row["target"], where=where, shown=400, folded=400)))
    answers += [("assessor", long_text(said(v), where=where, shown=300, folded=600)) for v in verdicts(row)[:2]]
    return page.sample(long_text(row.get("prompt"), where=where) or "(no prompt)", answers, label=label_of(row),
                       wide=True)


def label_of(row: Mapping) -> str:
    """Which document, of which slices."""
    tags = [short(f"{k} {v}", 60) for k, v in list((row.get("tags") or {}).items())[:6]]
    return " \N{MIDDLE DOT} ".join([short(row.get("id"), 100), *tags])


def outcome(row: Mapping, metric: str, entry: Mapping) -> str:
    """What became of the answer."""
    found = score(row, metric)
    if found is None:
        return f"not scored{': ' + short(row['failure'], 60) if row.get('failure') else ''}"
    return f"{metric} {number(found, percent=dig(entry, metric).get('unit') == 'share' and found not in (0, 1))}"


def spoken(row: Mapping, where: str) -> list[tuple[str, Any, None]]:
    """The generated answers, or the log-likelihoods in one block."""
    given = [r for r in row.get("responses") or [] if isinstance(r, Mapping)]
    texts = [r for r in given if "text" in r]
    found = []
    for i, r in enumerate(texts[:ANSWERS], 1):
        label = f"answer {i} of {len(texts)}" if len(texts) > 1 else "answer"
        cut = ", cut off" if r.get("finish_reason") == "length" else ""
        found.append((label + cut, long_text(r["text"], where=where, folded=FOLDED_OF[min(len(texts), ANSWERS)]), None))
    scored = [r for r in given if "logprob" in r]
    if scored:
        lines = [f"{number(r['logprob'])} nats, {number(r.get('tokens'))} tokens{', greedy' * bool(r.get('greedy'))}"
                 + (f": {short(r['continuation'])}" if r.get("continuation") else "") for r in scored[:SCORES]]
        lines += [f"and {len(scored) - SCORES:,} more"] if len(scored) > SCORES else []
        found.append(("log-likelihoods", page.said("\n".join(lines)), None))
    return found or [("answer", "", None)]


def verdicts(row: Mapping) -> list[Mapping]:
    """What assessors said; those that failed too."""
    return [v for v in row.get("verdicts") or [] if isinstance(v, Mapping)]


def said(verdict: Mapping) -> str:
    """One verdict as text."""
    if verdict.get("value") is None:
        return f"failed: {verdict.get('failure') or 'no reason was given'}"
    return as_text(verdict["value"])


def budget(tasks: int) -> int:
    """Examples a task may show, so that the page stays small: 4 of 25 tasks, 1 of 100."""
    return min(MOST, ALL // max(tasks, 1))
