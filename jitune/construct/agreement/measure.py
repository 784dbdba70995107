"""Agreement on one question: a `Table` in, figures with intervals out, overall, by pair of annotators and by label.

    found = measure(table, level="ordinal")
    found["alpha"]         # {"value": 0.71, "low": 0.65, "high": 0.77}
    found["pairs"][0]      # {"a": "ann", "b": "bo", "n": 50, "percent": {...}, "kappa": {...}, "linear": {...}, ...}

Intervals are percentiles of a bootstrap over items. There is none of fewer than 10 items, nor where all resamples give
the same: it would look certain, and is not. Items with the same labels are alike to every figure, so that a
resample is a draw of how often each kind of item comes, and its cost does not grow with the items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jitune.construct.agreement.labels import Table, counts, value_of
from jitune.evals import agreement
from jitune.evals.stats import REPLICATES, percentile

FEWEST = 10  # items of two labels or more, below which resamples are too few kinds of draw for an interval
LISTED, MOST_PAIRS = 1000, 200  # pairs of annotators with figures, and with intervals: those with the most items
ROOM = 2**24  # numbers that resamples may take at a time


def measure(table: Table, *, level: str = "nominal", clusters: Sequence[int] | None = None,
            replicates: int = REPLICATES, seed: int = 0) -> dict[str, Any]:
    """All figures of a question of labels.

    Args:
      clusters: [items] numbers; items of one are drawn together, such as the pairs of candidates of one ranking.

    Returns:
      {"items", "twice": items with two labels or more, "labels", "raters": {labels an item: items}, "percent",
      "fleiss", "alpha": of the level, "nominal": alpha of labels as names, where the level is another, "kappa": the
      mean over all pairs of annotators, "reason": why there is none of these, "pairs": of the annotators with the
      most items in common, "pairs_in_all": how many there are, "by_label", "apart": groups of annotators without an
      item in common, "drawn": items or clusters with two labels, of which resamples are made}. A figure is {"value",
      "low", "high"}, each a number or None.
    """
    found = counts(table)
    raters = found.sum(1)
    kinds, weights = resamples(found, replicates, seed, clusters)
    values = [value_of(label) or 0.0 for label in table.labels] if level == "interval" else None

    def alpha(what, weights=None, level=level):
        return agreement.alpha(what, level, values=values, weights=weights)

    figures = {"percent": agreement.percent, "fleiss": agreement.fleiss, "alpha": alpha}
    if level != "nominal":
        figures["nominal"] = lambda c, w=None: alpha(c, w, "nominal")
    several, number = np.unique(raters[raters > 0], return_counts=True)
    drawn = independent(np.flatnonzero(raters > 1), clusters)
    shown = {name: figure(what(found), what(kinds, weights), drawn) for name, what in figures.items()}
    every = shared(table)
    pairs = by_pair(table, every, level=level, clusters=clusters, replicates=replicates, seed=seed)
    alone = kappas(every)
    alone = alone[~np.isnan(alone)]
    return {"items": int((raters > 0).sum()), "twice": int((raters > 1).sum()), "labels": len(table.code),
            "raters": dict(zip(map(int, several), map(int, number), strict=True)), **shown,
            "kappa": float(alone.mean()) if len(alone) else None, "reason": agreement.reason(found), "pairs": pairs,
            "pairs_in_all": len(every), "by_label": by_label(table, found, kinds, weights, drawn),
            "apart": apart(table), "drawn": drawn}


def independent(items: Sequence[int], clusters: Sequence[int] | None) -> int:
    """How many things are drawn of these items: the items, or their clusters."""
    return len(items) if clusters is None else len(set(np.asarray(clusters)[items].tolist()))


def resamples(found: np.ndarray, replicates: int, seed: int,
              clusters: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(kinds [kinds, labels] of items, how often each comes [replicates, kinds]) of counts [items, labels]."""
    if clusters is not None:
        return found, drawn_clusters(clusters, min(replicates, ROOM // max(1, len(found))), seed)
    found = found[found.sum(1) > 0]
    kinds, number = np.unique(found, axis=0, return_counts=True)
    replicates = max(0, min(replicates, ROOM // max(1, len(kinds))))
    if not len(found):
        return kinds, np.zeros((0, len(kinds)))
    return kinds, np.random.default_rng(seed).multinomial(len(found), number / len(found), size=replicates)


def drawn_clusters(clusters: Sequence[int], replicates: int, seed: int) -> np.ndarray:
    """[replicates, items] how often each item comes, where whole clusters are drawn."""
    count, place = np.unique(np.asarray(clusters), return_inverse=True)
    if not len(count):
        return np.zeros((0, 0))
    even = np.full(len(count), 1 / len(count))
    return np.random.default_rng(seed).multinomial(len(count), even, size=replicates)[:, place]


def figure(value: float | None, drawn: Any, number: int) -> dict[str, float | None]:
    """A value with the percentile interval of its replicates; without, where it has no value or no spread to tell.

    number: of the items, or clusters of them, that the replicates are drawn from.
    """
    drawn = [None if np.isnan(v) else float(v) for v in drawn]
    ends = percentile(drawn) if value is not None and drawn and number >= FEWEST else None
    ends = ends if ends and ends[1] < ends[2] else None
    return {"value": value, "low": ends[1] if ends else None, "high": ends[2] if ends else None}


def by_pair(table: Table, every: Mapping[tuple[int, int], np.ndarray], *, level: str = "nominal",
            clusters: Sequence[int] | None = None, replicates: int = REPLICATES, seed: int = 0) -> list[dict]:
    """Figures of the pairs of annotators with the most items in common, in the order of the annotators.

    kappa: Cohen's; linear and quadratic: weighted by the places of labels on an ordinal scale, or by their values on
    an interval one; None for names. "reason" says why there is none. every: see `shared`.
    """
    most = sorted((-len(codes), key) for key, codes in every.items())[:LISTED]
    drawn = {key for _, key in most[:MOST_PAIRS]}
    return [_pair(table, key, every[key], level, clusters, replicates if key in drawn else 0, seed)
            for key in sorted(key for _, key in most)]


def kappas(every: Mapping[tuple[int, int], np.ndarray]) -> np.ndarray:
    """[pairs] Cohen's kappa of each pair of annotators, NaN where both give one and the same label; see `shared`."""
    if not every:
        return np.zeros(0)
    sizes = np.array([len(codes) for codes in every.values()])
    both, pair = np.concatenate(list(every.values())), np.repeat(np.arange(len(sizes)), sizes)
    width = both[:, 1:].max() + 1
    same = np.bincount(pair, both[:, 1] == both[:, 2], minlength=len(sizes))
    (a, by_a), (b, by_b) = (np.unique(pair * width + both[:, i], return_counts=True) for i in (1, 2))
    cells, at_a, at_b = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    chance = np.bincount(cells // width, by_a[at_a] * by_b[at_b], minlength=len(sizes))
    apart = sizes.astype(np.float64) ** 2 - chance  # expected disagreements, times n
    return np.where(apart > 0, 1 - sizes * (sizes - same) / np.where(apart > 0, apart, 1), np.nan)


def _pair(table: Table, key: tuple[int, int], both: np.ndarray, level: str, clusters: Sequence[int] | None,
          replicates: int, seed: int) -> dict:
    used, places = np.unique(both[:, 1:], return_inverse=True)
    n, width, places = len(both), len(used), places.reshape(-1, 2)
    cells = places[:, 0] * width + places[:, 1]
    confusion = np.bincount(cells, minlength=width * width)
    replicates = min(replicates, ROOM // max(width**2, n))
    if clusters is None:
        many = np.random.default_rng(seed).multinomial(n, confusion / n, size=replicates)
    else:
        many = drawn_clusters(np.asarray(clusters)[both[:, 0]], replicates, seed) @ np.eye(width**2)[cells]
    tables, many = confusion.reshape(width, width), many.reshape(-1, width, width)
    scale = [value_of(table.labels[u]) or 0.0 for u in used] if level == "interval" else used
    same, drawn = np.trace(tables) / n, independent(both[:, 0], clusters)
    found = {"percent": figure(float(same), np.trace(many, axis1=1, axis2=2) / many.sum((1, 2)), drawn)}
    for name, weights in (("kappa", ""), ("linear", "linear"), ("quadratic", "quadratic")):
        if weights and level == "nominal":
            found[name] = {"value": None, "low": None, "high": None}
            continue
        far = agreement.distances(scale if weights else np.arange(width), weights)
        found[name] = figure(agreement.number(agreement.cohen(tables, far)), agreement.cohen(many, far), drawn)
    alone = "all labels are the same, so that chance alone agrees on everything" if width == 1 else ""
    return {"a": table.annotators[key[0]], "b": table.annotators[key[1]], "n": n, **found, "reason": alone,
            "labels": [table.labels[u] for u in used], "confusion": tables.tolist()}


def shared(table: Table) -> dict[tuple[int, int], np.ndarray]:
    """{(annotator, annotator): [items in common, 3] item, code, code} of a table sorted by item and annotator."""
    rows, step = [], 1
    while True:
        first = np.flatnonzero(table.item[step:] == table.item[:-step]) if step < len(table.item) else []
        if not len(first):
            break
        rows.append(np.stack([table.annotator[first], table.annotator[first + step], table.item[first],
                              table.code[first], table.code[first + step]], 1))
        step += 1
    if not rows:
        return {}
    rows = np.concatenate(rows)
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    keys, starts = np.unique(rows[:, :2], axis=0, return_index=True)
    return {(int(a), int(b)): part[:, 2:] for (a, b), part in
            zip(keys, np.split(rows, np.sort(starts)[1:]), strict=True)}


def by_label(table: Table, found: np.ndarray, kinds: np.ndarray, weights: np.ndarray,
             drawn: int) -> list[dict]:
    """Of each label: how often it was given, and how far people agree on it against all others.

    specific: where one says it, how often another does (positive specific agreement). alpha: Krippendorff's of the
    label against the rest.
    """
    total, rows = found.sum(), []
    twice = found[found.sum(1) > 1]
    for place, label in enumerate(table.labels[:50]):
        def against_rest(what, at=place):
            return np.stack([what[:, at], what.sum(1) - what[:, at]], 1)

        own, raters = twice[:, place], twice.sum(1)
        pairs = float((own * (raters - 1)).sum())
        same = float((own * (own - 1)).sum())
        one = against_rest(found)
        rows.append({"label": label, "n": int(found[:, place].sum()),
                     "share": float(found[:, place].sum() / total) if total else None,
                     "specific": same / pairs if pairs else None,
                     "alpha": figure(agreement.alpha(one), agreement.alpha(against_rest(kinds), weights=weights),
                                     drawn)})
    return rows


def apart(table: Table) -> list[list[str]]:
    """Groups of annotators that are linked by items in common, where there are two or more groups; else []."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    who = np.unique(table.annotator)
    size = len(table.annotators) + len(table.items)
    links = coo_matrix((np.ones(len(table.item)), (table.annotator, table.item + len(table.annotators))), (size, size))
    found = connected_components(links, directed=False)[1]
    groups: dict[int, list[str]] = {}
    for place in who:
        groups.setdefault(int(found[place]), []).append(table.annotators[place])
    return list(groups.values()) if len(groups) > 1 else []
