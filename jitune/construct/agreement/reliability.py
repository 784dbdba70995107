"""How far each annotator can be relied on: a `Table` in, a row an annotator out.

    found = reliability(table, estimate)
    found[0]    # {"annotator": "ann", "n": 50, "others": 0.92, "kappa": 0.81, "accuracy": 0.95, ...}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jitune.construct.agreement.dawid_skene import Estimate
from jitune.construct.agreement.labels import Table, counts
from jitune.evals import agreement
from jitune.evals.stats import mean_interval


def reliability(table: Table, estimate: Estimate | None = None, *,
                clusters: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """A row an annotator who labelled anything.

    Args:
      clusters: [items] numbers; items of one are not independent.

    Returns:
      [{"annotator", "n": labels, "shared": those on items that others labelled too, "decided": those where the others
      have a majority, "others": the share of these in which the annotator says what it says, "low", "high": its
      interval, Wilson's or of clusters, "kappa": Cohen's with that majority, "accuracy": by Dawid and Skene,
      "confusion": of it, true by given, "seconds": the median of one label, "given": {label: times}}]; None where it
      cannot be told.
    """
    found = counts(table)
    accuracy = estimate.accuracy() if estimate else None
    rows = []
    for who, name in enumerate(table.annotators):
        mine = np.flatnonzero(table.annotator == who)
        if not len(mine):
            continue
        said, others = table.code[mine], found[table.item[mine]].copy()
        others[np.arange(len(mine)), said] -= 1
        decided, voted = majority(others)
        n, seconds = int(decided.sum()), table.seconds[mine]
        own = None if clusters is None else [str(clusters[i]) for i in table.item[mine][decided]]
        same = mean_interval(said[decided] == voted[decided], own, bounds=(0.0, 1.0))
        confusion = np.zeros((len(table.labels),) * 2)
        np.add.at(confusion, (said[decided], voted[decided]), 1)
        kappa = agreement.cohen(confusion, agreement.distances(np.arange(len(confusion)))) if n else np.nan
        rows.append({
            "annotator": name, "n": len(mine), "shared": int((others.sum(1) > 0).sum()), "decided": n,
            "others": same.value, "low": same.low, "high": same.high, "kappa": agreement.number(kappa),
            "accuracy": None if accuracy is None else float(accuracy[who]),
            "confusion": None if estimate is None else estimate.confusion[who].tolist(),
            "seconds": float(np.nanmedian(seconds)) if np.isfinite(seconds).any() else None,
            "given": {table.labels[c]: int(k) for c, k in enumerate(np.bincount(said, minlength=len(table.labels)))
                      if k}})
    return rows


def majority(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([items] whether one label has more votes than any other, [items] the label) of votes [items, labels]."""
    if not votes.shape[1]:
        return np.zeros(len(votes), bool), np.zeros(len(votes), int)
    top = votes.max(1, keepdims=True)
    return (top[:, 0] > 0) & ((votes == top).sum(1) == 1), votes.argmax(1)
