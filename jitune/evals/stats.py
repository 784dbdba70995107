"""Error bars: scores and their clusters in, means, intervals and p-values out.

    interval = mean_interval([1, 0, 1, 1], ["a", "a", "", ""])      # .value 0.75, .se 0.2795, .clusters 3
    paired(before, after, clusters)          # the mean of after - before, with an interval and a p-value
    holm([0.01, 0.04, 0.03, 0.005])          # [0.03, 0.06, 0.06, 0.02]

A cluster is a label; items of one label are not independent; an item of the label "" stands alone. What cannot be
told (the error of one item, or of one cluster) is None, never 0. Intervals hold 95 % unless `level` says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

LEVEL = 0.95
FEW_CLUSTERS = 20  # below, clustered errors come out too small (Cameron & Miller 2015, section VI: "20 to 50")
REPLICATES = 1000


class Interval(NamedTuple):
    """A mean with its error. method: `wilson`, `clustered` or `normal`; note: what to doubt, or ""."""

    value: float | None
    se: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int
    method: str
    note: str = ""


class Paired(NamedTuple):
    """A mean difference. method (of p): `mcnemar`, `t` or `none`. mde: see `detectable`."""

    delta: float | None
    se: float | None
    low: float | None
    high: float | None
    p: float | None
    mde: float | None
    n: int
    clusters: int
    method: str
    note: str = ""


def z_of(level: float = LEVEL) -> float:
    """The two-sided quantile of the normal distribution: 1.95996 at 0.95."""
    return float(special.ndtri((1 + level) / 2))


def t_of(df: int, level: float = LEVEL) -> float:
    """The two-sided quantile of Student's distribution: 2.776 for 4 degrees of freedom."""
    return float(special.stdtrit(df, (1 + level) / 2))


def wilson(k: float, n: float, *, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share k / n (Wilson 1927): wilson(5, 10) -> (0.2366, 0.7634). n is positive."""
    z = z_of(level)
    p, spread = k / n, z * z / n
    centre, half = p + spread / 2, z * math.sqrt(p * (1 - p) / n + spread / (4 * n))
    return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))


def group(clusters: Sequence[str] | None, n: int) -> np.ndarray:
    """[n] numbers of the clusters, in the order of their first items: ["b", "a", "", "b", ""] -> [0, 1, 2, 0, 3]."""
    if clusters is None:
        return np.arange(n)
    numbers: dict[Hashable, int] = {}
    keys = [label or (place,) for place, label in enumerate(clusters)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def standard_error(values: Sequence[float], clusters: Sequence[str] | None = None) -> float | None:
    """The standard error of the mean; None for less than two items or clusters.

    Independent items: sd / sqrt(n), sd with n - 1. Clusters: sqrt(sum over clusters of (sum over items of
    (s - mean))^2) / n (Miller 2024, "Adding Error Bars to Evals").
    """
    values = np.asarray(values, dtype=np.float64)
    codes, n = group(clusters, len(values)), len(values)
    count = int(codes.max()) + 1 if n else 0
    if count < 2:
        return None
    if np.ptp(values) == 0:
        return 0.0
    if count == n:
        return float(values.std(ddof=1) / math.sqrt(n))
    return float(np.sqrt((np.bincount(codes, values - values.mean()) ** 2).sum()) / n)


def mean_interval(values: Sequence[float], clusters: Sequence[str] | None = None, *, level: float = LEVEL,
                  bounds: tuple[float, float] | None = None) -> Interval:
    """The mean of scores with its interval.

    0 or 1 each and no clusters: Wilson. Otherwise mean +- t x se, t with clusters - 1 degrees of freedom, cut to
    `bounds`. Zeros and ones in clusters that are all alike have an error of 0, which says nothing: there the interval
    is Wilson's with the clusters as items. Other scores that are all alike have no error that could be told.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    if n == 0:
        return Interval(None, None, None, None, 0, 0, "none")
    mean, se, count = float(values.mean()), standard_error(values, clusters), int(group(clusters, n).max()) + 1
    share = bool(np.isin(values, (0.0, 1.0)).all())
    if share and (count == n or se == 0):
        low, high = wilson(mean * count, count, level=level)
        return Interval(mean, se, low, high, n, count, "wilson")
    method = "normal" if count == n else "clustered"
    note = few(count) if method == "clustered" else ""
    if se == 0:
        se, note = None, "all scores are alike, so that no error can be told"
    if se is None:
        return Interval(mean, None, None, None, n, count, method, note)
    low, high = around(mean, se, count - 1, level)
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Interval(mean, se, low, high, n, count, method, note)


def few(count: int) -> str:
    """What to say of this many clusters."""
    if count == 1:
        return "one cluster: no error can be told"
    return f"{count} clusters: the error may be too small" if count < FEW_CLUSTERS else ""


def around(mean: float, se: float, df: int, level: float = LEVEL) -> tuple[float, float]:
    """mean -+ t x se."""
    half = t_of(df, level) * se
    return mean - half, mean + half


def paired(before: Sequence[float], after: Sequence[float], clusters: Sequence[str] | None = None, *,
           level: float = LEVEL) -> Paired:
    """The mean of after - before over the same items, with its (clustered) error.

    p is McNemar's, exact, where scores are 0 or 1 and items are independent; otherwise of t = delta / se with
    clusters - 1 degrees of freedom. Where all differences are alike, t would be infinite: there p is that of the
    exact test that turns the signs of clusters, 2 x 0.5^clusters, and the interval goes from the difference to what
    is left of it at Wilson's lower end for "all of the clusters". Where nothing differs, it is `unchanged`.
    """
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if before.shape != after.shape:
        raise ValueError(f"paired: {len(before)} scores before and {len(after)} after")
    difference, n = after - before, len(before)
    if n == 0:
        return Paired(None, None, None, None, None, None, 0, 0, "none")
    count = int(group(clusters, n).max()) + 1
    delta, se = float(difference.mean()), standard_error(difference, clusters)
    note = few(count) if count < n or n == 1 else ""
    if se is not None and se < 1e-12 * np.abs(difference).max():
        se = 0.0  # alike but for rounding
    alike = se == 0 and delta != 0
    low, high = around(delta, se, count - 1, level) if se is not None else (None, None)
    if alike:
        low, high = sorted((delta, delta * wilson(count, count, level=level)[0]))
        se = (high - low) / z_of(level)
    elif se == 0:
        se, low, high = unchanged(count, np.concatenate([before, after]), level=level)
    binary = np.isin(before, (0.0, 1.0)).all() and np.isin(after, (0.0, 1.0)).all()
    if binary and count == n:
        method, p = "mcnemar", mcnemar(int((difference > 0).sum()), int((difference < 0).sum()))
    elif not difference.any():
        method, p = "t", 1.0
    elif se is None:
        method, p = "none", None
    else:
        method, p = "t", 2 * 0.5**count if alike else two_sided(delta / se, count - 1)
    return Paired(delta, se, low, high, p, detectable(se) if se else None, n, count, method, note)


def unchanged(count: int, values: Sequence[float], *, level: float = LEVEL) -> tuple[float | None, ...]:
    """(se, low, high) of a difference of 0 in every one of `count` clusters, which is no proof that there is none.

    Wilson's upper end for "none of the clusters" differs, times how far a score can move: 1 for scores in [0, 1],
    and otherwise what these range over; None where that is nothing.
    """
    values = np.asarray(values, dtype=np.float64)
    reach = 1.0 if values.min() >= 0 and values.max() <= 1 else float(np.ptp(values))
    if not reach:
        return None, None, None
    half = wilson(0, count, level=level)[1] * reach
    return half / z_of(level), -half, half


def two_sided(t: float, df: int) -> float:
    """The p-value of a t statistic."""
    return float(min(1.0, 2 * special.stdtr(df, -abs(t))))


def mcnemar(better: int, worse: int) -> float:
    """The exact two-sided p-value of McNemar's test: pairs that changed, as tosses of a coin. mcnemar(1, 9) -> 0.0215.

    Pairs that did not change do not matter; none that did: 1.
    """
    n = better + worse
    return float(min(1.0, 2 * special.bdtr(min(better, worse), n, 0.5))) if n else 1.0


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for their number (Holm 1979); None stays None and is not counted."""
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    running = 0.0
    for rank, (p, place) in enumerate(known):
        running = max(running, min(1.0, (len(known) - rank) * p))
        adjusted[place] = running
    return adjusted


def detectable(se: float, *, level: float = LEVEL, power: float = 0.8) -> float:
    """The smallest true difference that a test finds with `power`: (z_a/2 + z_b) x se; se = sd(d) / sqrt(n)."""
    return (z_of(level) + float(special.ndtri(power))) * se


def draws(clusters: Sequence[str] | None, n: int, *, replicates: int = REPLICATES, seed: int = 0) -> Iterator:
    """Resamples of whole clusters with replacement, each as the places of its items.

    The same clusters in the same order give the same resamples: two runs' replicates are paired one by one.
    """
    codes = group(clusters, n)
    if n == 0:
        return
    order = np.argsort(codes, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    alone, rng = len(members) == n, np.random.default_rng(seed)
    for _ in range(replicates):
        chosen = rng.integers(len(members), size=len(members))
        yield order[chosen] if alone else np.concatenate([members[c] for c in chosen])


def bootstrap(statistic: Callable[[np.ndarray], float | None], clusters: Sequence[str] | None, n: int, *,
              replicates: int = REPLICATES, seed: int = 0) -> list[float | None]:
    """The statistic of the items at each resample's places; None where it has no finite value."""
    found = (statistic(places) for places in draws(clusters, n, replicates=replicates, seed=seed))
    return [float(v) if v is not None and math.isfinite(v) else None for v in found]


def bootstrap_means(values: np.ndarray, clusters: Sequence[str] | None, *, replicates: int = REPLICATES,
                    seed: int = 0) -> np.ndarray:
    """`bootstrap` of the mean, quickly: values: [n] or [n, columns] -> [replicates] or [replicates, columns]."""
    values = np.asarray(values, dtype=np.float64)
    codes = group(clusters, len(values))
    sizes, sums = np.bincount(codes), np.zeros((int(codes.max()) + 1, *values.shape[1:]))
    np.add.at(sums, codes, values)
    rng = np.random.default_rng(seed)
    chosen = (rng.integers(len(sizes), size=len(sizes)) for _ in range(replicates))
    return np.array([sums[c].sum(0) / sizes[c].sum() for c in chosen])


def percentile(replicates: Sequence[float | None], *, level: float = LEVEL) -> tuple[float, float, float] | None:
    """(se, low, high) of bootstrap replicates, the percentile interval; None where less than half have a value."""
    found = np.array([r for r in replicates if r is not None], dtype=np.float64)
    if len(found) < max(2, len(replicates) / 2):
        return None
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(found.std(ddof=1)), float(low), float(high)


def bootstrap_p(differences: Sequence[float | None]) -> float | None:
    """Two-sided p of "no difference": twice the share of replicates on the far side of 0, itself counted in."""
    found = np.array([d for d in differences if d is not None], dtype=np.float64)
    if not len(found):
        return None
    tail = min((found <= 0).sum(), (found >= 0).sum()) + 1
    return float(min(1.0, 2 * tail / (len(found) + 1)))
