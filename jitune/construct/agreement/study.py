"""Everything that is told of the labels of a question: a `Table` in, figures for a screen, a page and files out.

    found = study(table, level="ordinal", rule=Rule(">=4"))
    found["kind"]                    # "labels", "rankings", "texts" or "nothing"
    found["figures"]["alpha"]        # {"value": 0.71, "low": 0.65, "high": 0.77}
    list(aggregated(table, found))   # a row an item: votes, majority, Dawid and Skene's label with its probability
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jitune.construct.agreement.accepted import Rule, fraction
from jitune.construct.agreement.dawid_skene import SMOOTHING, Estimate, estimate
from jitune.construct.agreement.labels import Table, counts, in_words, near, value_of
from jitune.construct.agreement.measure import FEWEST as FEWEST_ITEMS
from jitune.construct.agreement.measure import measure
from jitune.construct.agreement.queue import most_disagreed
from jitune.construct.agreement.rankings import pairs_table
from jitune.construct.agreement.rankings import study as study_rankings
from jitune.construct.agreement.reliability import majority, reliability
from jitune.evals.agreement import LEVELS
from jitune.evals.pages.shown import numbered
from jitune.evals.stats import REPLICATES
from jitune.types import UserError

MOST_LABELS = 50  # for confusion matrices
FEWEST = 3  # annotators of Dawid and Skene's model: of two, nothing says which one is right


def study(table: Table, *, level: str = "nominal", scale: bool = False, rule: Rule | None = None, queue: int = 50,
          smoothing: float = SMOOTHING, replicates: int = REPLICATES, seed: int = 0) -> dict[str, Any]:
    """All figures of a question.

    Args:
      level: of its labels: nominal, ordinal or interval.
      scale: the order of the labels was given; otherwise only numbers have one.
      rule: what is accepted, or None.
      queue: the most disagreed items, at most so many.
      smoothing: of Dawid and Skene's model.

    Raises:
      UserError: the labels do not have the level, or the rule names others.
    """
    head = {"question": table.question, "level": level, "states": dict(table.states), "repeated": table.repeated,
            "conflicting": table.conflicting, "near": table.near}
    if table.free or not len(table.code):
        return {**head, "kind": "texts" if table.free else "nothing", "notes": notes(table, {}, level)}
    options = {"replicates": replicates, "seed": seed}
    if table.ballots:
        pairs, owners = pairs_table(table)
        figures = measure(pairs, clusters=owners, **options)
        return {**head, "kind": "rankings", "level": "nominal", "labels": pairs.labels, "figures": figures,
                "notes": notes(table, figures, level), "items": len(table.items),
                "annotators": reliability(pairs, clusters=owners), "rankings": study_rankings(table, **options),
                "queue": _ranked_queue(table, pairs, owners, queue)}
    check_level(table, level, scale)
    figures = measure(table, level=level, **options)
    fitted = fit(table, smoothing)
    return {**head, "kind": "labels", "labels": table.labels, "figures": figures, "smoothing": smoothing,
            "notes": notes(table, figures, level), "annotators": reliability(table, fitted),
            "majority": _majority(table), "dawid_skene": _fitted(table, fitted),
            "accepted": accept(table, fitted, rule, scale or level != "nominal") if rule else None,
            "queue": _queue(table, level, queue), "posterior": fitted}


def check_level(table: Table, level: str, scale: bool) -> None:
    """Raises a UserError where labels have no order, or no distances."""
    if level not in LEVELS:
        raise UserError(f"--level {level!r:.40}: {', '.join(LEVELS)} are known")
    values = [value_of(label) for label in table.labels]
    if level == "interval" and None in values:
        raise UserError(f"{table.question}: {table.labels[values.index(None)]!r:.60} is no number, as --level interval "
                        "needs them")
    if level == "ordinal" and not scale and (None in values or len(set(values)) < len(values)):
        raise UserError(f"{table.question}: --level ordinal needs --scale, the labels in order; they are "
                        f"{', '.join(map(repr, table.labels[:20]))}")


def fit(table: Table, smoothing: float = SMOOTHING) -> Estimate | None:
    """Dawid and Skene's model of a table; None with fewer than three annotators, one label or too many of them."""
    if len(np.unique(table.annotator)) < FEWEST or not 1 < len(table.labels) <= MOST_LABELS:
        return None
    return estimate(table.item, table.annotator, table.code, items=len(table.items), annotators=len(table.annotators),
                    labels=len(table.labels), smoothing=smoothing)


def notes(table: Table, figures: Mapping, level: str) -> list[str]:
    """What the reader must know before the figures, a sentence each."""
    told, people = [], np.unique(table.annotator)
    if table.free:
        return ["texts rather than labels: more than 1,000 differ, or one has more than 200 letters; not compared"]
    if not len(table.code):
        return ["no labels" + ("" if not table.states else f" ({_states(table.states)})")]
    if len(people) == 1:
        told.append(f"one annotator only, {table.annotators[people[0]]}: there is nobody to agree with")
    elif not figures.get("twice"):
        told.append(f"the {len(people)} annotators have no item in common: agreement cannot be told")
    elif figures.get("reason"):
        votes = counts(table)  # of items that were labelled twice all labels are this one
        said = table.labels[votes[votes.sum(1) > 1].sum(0).argmax()]
        told.append(figures["reason"] + (f" ({said!r:.60})" if not table.ballots else ""))
    told += [why] if (why := no_interval(figures)) else []
    if figures.get("twice") and figures["apart"]:
        groups = " | ".join(", ".join(group[:5]) + " ..." * (len(group) > 5) for group in figures["apart"][:5])
        told.append(f"{len(figures['apart'])} groups of annotators have no item in common: {groups}")
    told += [f"labels that differ in case, blanks or writing only, kept apart: {', '.join(map(repr, group))}"
             for group in table.near]
    told += [f"annotators whose names differ in case, blanks or writing only, kept apart: {', '.join(map(repr, group))}"
             for group in near(table.annotators)]
    if table.repeated:
        told.append(f"{numbered(table.repeated, 'label')} given again by the same annotator to the same item, counted "
                    "once")
    if table.conflicting:
        told.append(f"{numbered(table.conflicting, 'time')} an annotator gave an item labels that differ")
    if figures.get("twice") and len(figures["raters"]) > 1:
        fewest, most = min(figures["raters"]), max(figures["raters"])
        told.append(f"items have {fewest} to {most} labels: Fleiss' kappa counts each item once, as Gwet (2014) has it")
    return told


def no_interval(figures: Mapping) -> str:
    """Why figures stand without an interval, or ""."""
    if not figures.get("twice"):
        return ""
    if figures["drawn"] < FEWEST_ITEMS:
        return (f"{numbered(figures['drawn'], 'item')} with two labels or more, fewer than {FEWEST_ITEMS}: too few for "
                "intervals")
    alike = any(figures[name]["value"] is not None and figures[name]["low"] is None for name in ("percent", "alpha"))
    return "figures without an interval came out the same in all resamples" if alike else ""


def _states(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))


def _majority(table: Table) -> dict[str, Any]:
    found = counts(table)
    decided, voted = majority(found)
    labelled = found.sum(1) > 0
    return {"decided": int(decided.sum()), "ties": int((labelled & ~decided).sum()),
            "labels": {label: int((decided & (voted == i)).sum()) for i, label in enumerate(table.labels)}}


def _fitted(table: Table, fitted: Estimate | None) -> dict[str, Any] | None:
    if fitted is None:
        return None
    labelled = counts(table).sum(1) > 0
    best = fitted.posterior.argmax(1)
    decided, voted = majority(counts(table))
    return {"prior": dict(zip(table.labels, map(float, fitted.prior), strict=True)), "steps": len(fitted.objective),
            "converged": fitted.converged, "objective": fitted.objective[-1],
            "labels": {label: int((labelled & (best == i)).sum()) for i, label in enumerate(table.labels)},
            "other_than_majority": int((decided & (best != voted)).sum())}


def accept(table: Table, fitted: Estimate | None, rule: Rule, ordered: bool) -> dict[str, Any]:
    """The accepted fraction: of single labels, of items by their majority, by Dawid and Skene, and by their mean."""
    accepts = rule.of(table.labels, ordered=ordered)
    found = counts(table)
    decided, voted = majority(found)
    labelled = np.flatnonzero(found.sum(1) > 0)
    clusters = [table.items[i] for i in table.item] if len(table.code) > len(labelled) else None
    result = {"rule": rule.text, "labels": fraction([accepts[c] for c in table.code], clusters),
              "majority": fraction([accepts[voted[i]] if decided[i] else None for i in labelled])}
    if fitted:
        result["dawid_skene"] = fraction([accepts[c] for c in fitted.posterior[labelled].argmax(1)])
    values = [value_of(label) for label in table.labels]
    if None not in values and rule.number(0.0) is not None:
        means = found[labelled] @ np.array(values) / found[labelled].sum(1)
        result["mean"] = fraction([rule.number(float(m)) for m in means])
    return result


def _queue(table: Table, level: str, count: int) -> list[dict]:
    rows = []
    for place, disagreement, entropy in most_disagreed(table, level=level, count=count):
        mine = range(*np.searchsorted(table.item, [place, place + 1]))
        rows.append({"item": table.items[place], "source": "{}:{}".format(*table.origins[place]),
                     "disagreement": disagreement, "entropy": entropy,
                     "labels": {table.annotators[table.annotator[m]]: table.labels[table.code[m]] for m in mine}})
    return rows


def _ranked_queue(table: Table, pairs: Table, owners: list[int], count: int) -> list[dict]:
    """Items by the mean over their pairs of candidates."""
    sums = np.zeros((2, len(table.items)))
    for place, *found in most_disagreed(pairs, count=len(pairs.items)):
        sums[:, owners[place]] += found
    means = sums / np.maximum(1, np.bincount(owners, minlength=len(table.items)))
    order = [int(i) for i in np.lexsort((np.arange(len(table.items)), -means[1], -means[0])) if means[0, i] > 0]
    said: dict[int, dict] = {}
    for item, who, tiers in table.ballots:
        said.setdefault(item, {})[table.annotators[who]] = in_words(tiers)
    return [{"item": table.items[i], "source": "{}:{}".format(*table.origins[i]), "disagreement": float(means[0, i]),
             "entropy": float(means[1, i]), "labels": said[i]} for i in order[:count]]


def aggregated(table: Table, found: Mapping) -> Iterator[dict]:
    """A row an item that has a label, as it is written to a file; a tie has no majority, and says what ties."""
    if found["kind"] == "rankings":
        for row in found["rankings"]["merged"]:
            yield {"item": row["item"], "question": table.question, **row}
    if found["kind"] != "labels":
        return
    fitted, votes = found["posterior"], counts(table)
    decided, voted = majority(votes)
    values = [value_of(label) for label in table.labels]
    for place in np.flatnonzero(votes.sum(1) > 0):
        given = {label: int(n) for label, n in zip(table.labels, votes[place], strict=True) if n}
        row = {"item": table.items[place], "question": table.question, "votes": given,
               "majority": table.labels[voted[place]] if decided[place] else None}
        if not decided[place]:
            row["tie"] = [label for label, n in given.items() if n == max(given.values())]
        if fitted is not None:
            best = int(fitted.posterior[place].argmax())
            row["label"], row["probability"] = table.labels[best], float(fitted.posterior[place, best])
            row["posterior"] = dict(zip(table.labels, map(float, fitted.posterior[place]), strict=True))
        if None not in values:
            row["mean"] = float(votes[place] @ np.array(values) / votes[place].sum())
        yield row
