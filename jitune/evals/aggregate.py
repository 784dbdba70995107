"""A task's outcomes added up: documents and outcomes in, the task's entry of results.json out.

    entry = summarize(task, documents, outcomes, available=frozenset({"judge"}))
    entry["metrics"][entry["headline"]]["value"]       # 0.415; "se", "low", "high", "n", "unscored", ... beside it

    entry = {
      "axis", "title", "domain", "languages": [the values of the tag language], "source",
      "headline": the first metric that is not left out, or None,
      "n": documents, "unscored": those whose headline is None,
      "failures": {reason: count}, "extraction_failures": count,
      "metrics": {name: estimate}, "left_out": [metrics whose assessor is not available],
      "slices": {tag: {value: {"n": documents, name: estimate without its words}}},
      "requests": asked of the model; a task without one measures measures, and is in no axis' mean,
      "documents": digest of all documents' hashes, in any order}

    estimate = {
      "value", "se", "low", "high",        # None where nothing was scored, or no error can be told
      "n": scored documents, "clusters": independent groups among them, "unscored": scores of None,
      "method": "wilson" | "clustered" | "normal" | "bootstrap" | "none", "note": what to doubt, or "",
      "strict": value with failed extractions counted as the metric's worst, None where there is no such reading,
      "replicates": [numbers or None],     # of a bootstrap, and "resamples": a digest of what was drawn, so that two
                                           # runs' replicates are known to belong together
      "unit", "better", "chance", "meaning", "corpus": whether it is a function of all items at once}

A score of None is unscored: counted, and in no value. A metric that a document's scores do not name at all does not
apply to it (harmless prompts have no attack success), and is not counted there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jitune.evals import stats
from jitune.evals.task import Document, Metric, Outcome, Task, digest
from jitune.types import UserError

ALWAYS = ("language", "domain")
MOST_VALUES = 50  # a tag with more values is a name, not a slice
SLICE_REPLICATES = 200


class Item(NamedTuple):
    """A document and how it came out."""

    document: Document
    outcome: Outcome


def summarize(task: Task, documents: Sequence[Document], outcomes: Sequence[Outcome], *,
              available: Iterable[str] = frozenset()) -> dict:
    """The entry of a task; see the module's docstring.

    Args:
      available: the assessors that were there: of `judge`, `classifier`, `execution`.

    Raises:
      UserError: for a score that is no finite number.
    """
    present = {"", *available}
    metrics = [m for m in task.metrics if m.needs in present]
    # In one order whatever the order of loading: resamples of two runs are paired by it.
    items = sorted((Item(d, o) for d, o in zip(documents, outcomes, strict=True)),
                   key=lambda i: (i.document.hash, i.document.id))
    check(task, items)
    failures = Counter(i.outcome.failure for i in items if i.outcome.failure)
    headline = metrics[0].name if metrics else None
    found = {m.name: estimate(m, items, replicates=stats.REPLICATES) for m in metrics}
    return {
        "axis": task.axis, "title": task.title, "domain": task.domain, "source": task.source,
        "languages": sorted({d.tags["language"] for d in documents if d.tags.get("language")}),
        "headline": headline, "n": len(items), "unscored": found[headline]["unscored"] if headline else 0,
        "failures": dict(failures.most_common()), "extraction_failures": failures["extraction"],
        "metrics": {m.name: {**found[m.name], **words(m)} for m in metrics},
        "left_out": [m.name for m in task.metrics if m.needs not in present],
        "slices": slices(task, metrics, items, found), "requests": sum(len(d.requests) for d in documents),
        "documents": digest(sorted(i.document.hash for i in items)),
    }


def words(metric: Metric) -> dict:
    """What a report says of a metric."""
    return {"unit": metric.unit, "better": metric.better, "chance": metric.chance, "meaning": metric.meaning,
            "corpus": metric.corpus is not None}


def check(task: Task, items: Sequence[Item]) -> None:
    """Refuses scores that are no numbers: a NaN would be the mean of all, and an argmax over NaN the first answer."""
    for item in items:
        for name, score in item.outcome.scores.items():
            if score is not None and not (isinstance(score, (int, float)) and math.isfinite(score)):
                raise UserError(f"{task.name}: document {item.document.id}: the score {name} is {score!r}; "
                                "a finite number or None is needed")


def estimate(metric: Metric, items: Sequence[Item], *, replicates: int) -> dict:
    """The numbers of one metric over some items; see the module's docstring."""
    if metric.corpus is not None:
        return of_the_whole(metric, items, replicates=replicates)
    named = [i for i in items if metric.name in i.outcome.scores]
    scored = [i for i in named if i.outcome.scores[metric.name] is not None]
    values = [float(i.outcome.scores[metric.name]) for i in scored]
    inside = metric.unit == "share" and all(0 <= v <= 1 for v in values)
    found = stats.mean_interval(values, [i.document.cluster for i in scored], bounds=(0, 1) if inside else None)
    found = found if named else found._replace(note="applies to none of the documents")
    return {**found._asdict(), "unscored": len(named) - len(scored), "strict": strict(metric, named)}


def strict(metric: Metric, named: Sequence[Item]) -> float | None:
    """The mean with failed extractions counted as the worst; None where none failed, or no worst is known."""
    scores = [i.outcome.scores[metric.name] for i in named]
    failed = sum(s is None and i.outcome.failure == "extraction" for s, i in zip(scores, named, strict=True))
    if metric.worst is None or not failed:
        return None
    known = [s for s in scores if s is not None]
    return (math.fsum(known) + failed * metric.worst) / (len(known) + failed)


def of_the_whole(metric: Metric, items: Sequence[Item], *, replicates: int) -> dict:
    """A metric that is no mean over items, with the percentile interval of a bootstrap over clusters.

    All items go to the metric, unscored ones too. An item is counted as unscored where its score of this name is
    None, or where it has none of this name and a failure.
    """
    unscored = sum(i.outcome.scores.get(metric.name) is None and (metric.name in i.outcome.scores
                                                                 or bool(i.outcome.failure)) for i in items)
    value = whole(metric, items) if items else None
    labels = [i.document.cluster for i in items]
    count = int(stats.group(labels, len(items)).max()) + 1 if items else 0
    found = {"value": value, "se": None, "low": None, "high": None, "n": len(items) - unscored, "clusters": count,
             "method": "none", "note": "", "unscored": unscored, "strict": None}
    if value is None or count < 2:
        return found
    last = None

    def resampled(places):
        nonlocal last
        last = places.tolist()
        return whole(metric, [items[p] for p in last])

    drawn = stats.bootstrap(resampled, labels, len(items), replicates=replicates)
    interval = stats.percentile(drawn)
    if interval is None:
        return {**found, "note": "most resamples have no value"}
    se, low, high = interval
    note = stats.few(count) if count < len(items) else ""
    if not se:  # at the edge of what it can be, as a rule: that is no proof of certainty
        se, low, high, note = None, None, None, "every resample has this value, so that no error can be told"
    return {**found, "se": se, "low": low, "high": high, "method": "bootstrap", "note": note,
            "resamples": digest(last), "replicates": [r if r is None else float(f"{r:.7g}") for r in drawn]}


def whole(metric: Metric, items: Sequence[Item]) -> float | None:
    """The metric's own function of all items; None where it has no finite value."""
    value = metric.corpus([i.document for i in items], [i.outcome for i in items])
    return float(value) if value is not None and math.isfinite(value) else None


def slices(task: Task, metrics: Sequence[Metric], items: Sequence[Item], whole: dict[str, dict]) -> dict[str, dict]:
    """The estimates by every tag with 2 to 50 values, and by language and domain always. whole: those of all items."""
    found = {}
    for tag in (*ALWAYS, *sorted({t for i in items for t in i.document.tags} - {*ALWAYS})):
        groups: dict[str, list[Item]] = {}
        for item in items:
            groups.setdefault(tag_of(task, item.document, tag), []).append(item)
        groups.pop("", None)
        if groups and (tag in ALWAYS or 2 <= len(groups) <= MOST_VALUES):
            found[tag] = {value: a_slice(metrics, group, whole if len(group) == len(items) else {}, keep=tag in ALWAYS)
                          for value, group in sorted(groups.items())}
    return found


def tag_of(task: Task, document: Document, tag: str) -> str:
    """The value of a tag; the domain is the task's where the document has none."""
    return str(document.tags.get(tag) or (task.domain if tag == "domain" else ""))


def a_slice(metrics: Sequence[Metric], items: Sequence[Item], known: dict, *, keep: bool) -> dict[str, Any]:
    """The estimates of the metrics that apply to these items, but for those known; replicates only where `keep`."""
    found: dict[str, Any] = {"n": len(items)}
    for m in metrics:
        if m.corpus is None and not any(m.name in i.outcome.scores for i in items):
            continue
        numbers = known.get(m.name) or estimate(m, items, replicates=SLICE_REPLICATES)
        found[m.name] = {k: v for k, v in numbers.items() if keep or k not in ("replicates", "resamples")}
    return found
