"""The items that people disagree on most: a `Table` in, places of items out, the most disagreed first.

    most_disagreed(table, count=20)     # [(17, 1.0, 1.58), ...]: place, disagreement, entropy in bits

An item's disagreement is the mean distance of two of its labels (1 for names that differ, of ranks or values squared
and over their largest otherwise), which is what it adds to the observed disagreement in Krippendorff's alpha; then
comes the entropy of its labels; ties stay in the order of the items.
"""

from __future__ import annotations

import numpy as np

from jitune.construct.agreement.labels import Table, counts, value_of


def most_disagreed(table: Table, *, level: str = "nominal", count: int = 50) -> list[tuple[int, float, float]]:
    """(place, disagreement, entropy) of at most `count` items on which people disagree at all."""
    found = counts(table).astype(np.float64)
    raters = found.sum(1)
    chosen = np.flatnonzero(raters > 1)
    found, raters = found[chosen], raters[chosen]
    if not len(chosen):
        return []
    if level == "nominal":
        within = raters**2 - (found**2).sum(1)
    else:
        totals = found.sum(0)
        scale = np.cumsum(totals) - totals / 2 if level == "ordinal" else np.array(
            [value_of(label) or 0.0 for label in table.labels])
        used = scale[totals > 0]
        scale = (scale - used.min()) / (np.ptp(used) or 1.0)
        within = 2 * (raters * (found @ scale**2) - (found @ scale) ** 2)
    disagreement = np.round(within / (raters * (raters - 1)), 12)
    shares = found / raters[:, None]
    entropy = np.round(-(shares * np.log2(np.where(shares > 0, shares, 1))).sum(1), 12)
    apart = (found > 0).sum(1) > 1
    order = [i for i in np.lexsort((chosen, -entropy, -disagreement)) if apart[i]][:count]
    return [(int(chosen[i]), float(disagreement[i]), float(entropy[i])) for i in order]
