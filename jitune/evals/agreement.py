"""How far raters agree: labels in, percent, Cohen's and Fleiss' kappa and Krippendorff's alpha out.

    kappa(["yes", "yes", "no"], ["yes", "no", "no"])             # 0.4
    krippendorff([["a", "a"], ["a", "b"], ["b", None]])          # 0.0
    fleiss([[2, 0], [1, 1], [0, 2]])                             # [items, labels] -> 1/3

Three steps stand behind each: labels, counts of labels an item (or a confusion matrix), a figure. The last is done
for many resamples at once: `weights` [replicates, items] say how often each item was drawn, and a figure a replicate
comes back, NaN where it has none. The functions on labels give None there; `reason` says why.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

LEVELS = ("nominal", "ordinal", "interval")
WEIGHTS = ("", "linear", "quadratic")


def kappa(first: Sequence[Hashable], second: Sequence[Hashable], *, weights: str = "",
          order: Sequence[Hashable] | None = None) -> float | None:
    """Cohen's kappa of two raters' labels (Cohen 1960; weighted: Cohen 1968).

    Args:
      first, second: [items] labels.
      weights: "linear" or "quadratic" in the distance of two labels on the scale; "" for all alike.
      order: the scale, from one end to the other; the labels in sorted order by default.

    Returns:
      None where there is no item, or chance alone agrees on everything.
    """
    if len(first) != len(second):
        raise ValueError(f"kappa: {len(first)} labels and {len(second)}")
    labels = order or sorted({*first, *second}, key=None if weights else repr)
    place = {label: i for i, label in enumerate(labels)}
    table = np.zeros((len(place), len(place)))
    for a, b in zip(first, second, strict=True):
        table[place[a], place[b]] += 1
    return number(cohen(table, distances(np.arange(len(place)), weights)))


def krippendorff(units: Sequence[Sequence[Hashable | None]], *, level: str = "nominal",
                 order: Sequence[Hashable] | None = None) -> float | None:
    """Krippendorff's alpha (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability").

    Args:
      units: for each item the labels that its raters gave, in any number, None where one gave none.
      level: nominal; ordinal: the distance of two labels is that of their ranks; interval: that of their values.
      order: of an ordinal scale; the labels in sorted order by default.

    Returns:
      None where nothing was labelled twice, or all labels of such items are the same.
    """
    kept = [[v for v in unit if v is not None] for unit in units]
    values = order or sorted({v for unit in kept for v in unit}, key=repr if level == "nominal" else None)
    place = {v: i for i, v in enumerate(values)}
    counts = np.zeros((len(kept), len(place)))
    for i, unit in enumerate(kept):
        for v in unit:
            counts[i, place[v]] += 1
    return alpha(counts, level, values=list(values) if level == "interval" else None)


def fleiss(counts: Any, weights: np.ndarray | None = None) -> float | np.ndarray | None:
    """Fleiss' kappa (Fleiss 1971) of counts [items, labels]: how many raters gave an item a label.

    Items may have different numbers of raters, as Gwet (2014, "Handbook of Inter-Rater Reliability", chapter 2)
    has it: an item counts once in the observed agreement, if it has two labels or more, and once in the shares of the
    labels, by the shares of its own. For equal numbers this is Fleiss' own.

    Returns:
      a float or None; with weights [replicates, items], an array [replicates].
    """
    counts, drawn = _given(counts, weights)
    raters = counts.sum(1)
    twice, once = raters > 1, raters > 0
    pairs = ((counts[twice] ** 2).sum(1) - raters[twice]) / (raters[twice] * (raters[twice] - 1))
    shares = drawn[:, once] @ (counts[once] / raters[once, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = drawn[:, twice] @ pairs / drawn[:, twice].sum(1)
        chance = ((shares / drawn[:, once].sum(1, keepdims=True)) ** 2).sum(1)
    return _one(_above_chance(1 - observed, 1 - chance), weights)


def percent(counts: Any, weights: np.ndarray | None = None) -> float | np.ndarray | None:
    """The share of pairs of labels on one item that are alike; arguments and result as those of `fleiss`."""
    counts, drawn = _given(counts, weights)
    raters = counts.sum(1)
    same, pairs = (counts**2).sum(1) - raters, raters * (raters - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _one((drawn @ same) / (drawn @ pairs), weights)


def alpha(counts: Any, level: str = "nominal", *, values: Sequence[float] | None = None,
          weights: np.ndarray | None = None) -> float | np.ndarray | None:
    """Krippendorff's alpha of counts [items, labels]; the labels stand in the order of the scale.

    Two labels v apart, in their ranks or values, disagree by v^2. Squares are summed by their means, so that nothing
    of size [labels, labels] is needed. values: [labels], for interval.
    """
    if level not in LEVELS:
        raise ValueError(f"alpha: level {level!r}; {', '.join(LEVELS)} is needed")
    counts, drawn = _given(counts, weights)
    raters = counts.sum(1)
    counts, drawn, raters = counts[raters > 1], drawn[:, raters > 1], raters[raters > 1]
    totals = drawn @ counts
    n = totals.sum(1)
    if level == "nominal":
        within = (drawn / (raters - 1)) @ (raters**2 - (counts**2).sum(1))
        between = n**2 - (totals**2).sum(1)
    else:
        scale = np.cumsum(totals, 1) - totals / 2 if level == "ordinal" else np.asarray(values, float)[None]
        scale = np.broadcast_to(scale, totals.shape)
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = scale - np.nan_to_num((totals * scale).sum(1) / n)[:, None]
        spread = raters[:, None] * (counts @ (scale**2).T) - (counts @ scale.T) ** 2  # [items, replicates]
        within = 2 * ((drawn / (raters - 1)).T * spread).sum(0)
        between = 2 * (n * (totals * scale**2).sum(1) - ((totals * scale).sum(1)) ** 2)
        between = np.where((totals > 0).sum(1) > 1, between, 0.0)
    return _one(_above_chance((n - 1) * within, between), weights)


def distances(values: Sequence[float], weights: str = "") -> np.ndarray:
    """[labels, labels] how much two labels disagree: 0 or 1, |v - w| or (v - w)^2."""
    if weights not in WEIGHTS:
        raise ValueError(f"kappa: weights {weights!r}; linear, quadratic or none are needed")
    values = np.asarray(values, dtype=np.float64)
    apart = np.abs(values[:, None] - values[None])
    return {"": (apart > 0).astype(np.float64), "linear": apart, "quadratic": apart**2}[weights]


def cohen(tables: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Cohen's kappa of confusion matrices [..., labels, labels] -> [...]; apart: see `distances`."""
    n = tables.sum((-2, -1))
    chance = np.einsum("...a,...b,ab->...", tables.sum(-1), tables.sum(-2), apart)
    return _above_chance(n * (tables * apart).sum((-2, -1)), chance)


def reason(counts: Any) -> str:
    """Why counts [items, labels] have no kappa or alpha; "" where they have."""
    counts = np.asarray(counts, dtype=np.float64)
    twice = counts[counts.sum(1) > 1] if counts.size else counts
    if not twice.size:
        return "no item was labelled twice"
    if (twice.sum(0) > 0).sum() == 1:
        return "all labels are the same, so that chance alone agrees on everything"
    return ""


def number(x: Any) -> float | None:
    """A float, or None for NaN."""
    return None if np.isnan(x) else float(x)


def _given(counts: Any, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    counts = np.asarray(counts, dtype=np.float64)
    counts = counts if counts.ndim == 2 else counts.reshape(len(counts), 0)
    return counts, np.ones((1, len(counts))) if weights is None else np.asarray(weights, dtype=np.float64)


def _above_chance(observed: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """1 - observed / chance, both disagreements; NaN where chance has none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance > 0, 1 - observed / chance, np.nan)


def _one(found: np.ndarray, weights: np.ndarray | None) -> float | np.ndarray | None:
    return number(found[0]) if weights is None else found
