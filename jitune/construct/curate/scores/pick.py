"""What is kept of scored records: a range, then the best of what is in it.

    rule = Rule(max=1.0, fraction=0.5)
    pick([0.9, 1.2, 0.4, nan], rule, "ifd")     # [None, Reject("ifd_above"), Reject("ifd_not_top"), Reject("no_score")]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jitune.construct.curate.stage import Reject
from jitune.types import UserError

MISSING, BEST, OF = ("reject", "keep"), ("high", "low"), ("left", "all")


class Rule(NamedTuple):
    """Which scores are kept.

    min, max: of the range, both in it; None where it has no end.
    top: how many of those in the range are kept, the best first; 0: all.
    fraction: as `top`, but a share, rounded down, at least one; 0: all.
    of: the share is of the records `left` in the range, or of `all` that were scored or not.
    best: `high` or `low`. Of equal scores the earlier record is the better one.
    missing: `reject` records without a score (as `no_score`), or `keep` them; they never count as the best.
    """

    min: float | None = None
    max: float | None = None
    top: int = 0
    fraction: float = 0.0
    of: str = "left"
    best: str = "high"
    missing: str = "reject"


def check_rule(rule: Rule, stage: str) -> Rule:
    """The rule. Raises UserError, naming the stage, for what cannot be."""
    for name, allowed in (("of", OF), ("best", BEST), ("missing", MISSING)):
        if getattr(rule, name) not in allowed:
            raise UserError(f"{stage}: {name}={getattr(rule, name)!r} is not one of {', '.join(allowed)}")
    for name in ("min", "max"):
        value = getattr(rule, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value)):
            raise UserError(f"{stage}: {name}={value!r} is not a number")
    if rule.min is not None and rule.max is not None and rule.min > rule.max:
        raise UserError(f"{stage}: min={rule.min} is more than max={rule.max}")
    if isinstance(rule.top, bool) or not isinstance(rule.top, int) or rule.top < 0:
        raise UserError(f"{stage}: top={rule.top!r} must be a number of records, 0 for all")
    if not 0 <= rule.fraction <= 1:
        raise UserError(f"{stage}: fraction={rule.fraction!r} must be from 0 to 1")
    if rule.top and rule.fraction:
        raise UserError(f"{stage}: top={rule.top} and fraction={rule.fraction}: give one of them")
    return rule


def pick(values: Sequence[float], rule: Rule, name: str, why: Sequence[str] = ()) -> list[Reject | None]:
    """None for a record to keep, or a Reject, in order.

    values: scores, NaN where there is none. name: of the score, with which the reasons begin. why: of each record, what
    is wrong where there is no score.
    """
    values = np.asarray(values, np.float64)
    found: list[Reject | None] = [None] * len(values)
    left = []
    for i, value in enumerate(values):
        if math.isnan(value):
            found[i] = Reject("no_score", f"{name}: {why[i] if why else 'none'}") if rule.missing == "reject" else None
        elif rule.min is not None and value < rule.min:
            found[i] = Reject(f"{name}_below", f"{name} {value:.4g}, at least {rule.min:g}")
        elif rule.max is not None and value > rule.max:
            found[i] = Reject(f"{name}_above", f"{name} {value:.4g}, at most {rule.max:g}")
        else:
            left.append(i)
    count = _count(rule, len(left), len(values))
    sign = -1 if rule.best == "high" else 1
    order = sorted(left, key=lambda i: (sign * values[i], i))
    for place, i in enumerate(order[count:], count + 1):
        found[i] = Reject(f"{name}_not_top", f"{name} {values[i]:.4g}, place {place} of {len(left)}, {count} are kept")
    return found


def _count(rule: Rule, left: int, total: int) -> int:
    """How many are kept of those in the range."""
    if rule.fraction:
        share = rule.fraction * (left if rule.of == "left" else total)
        return max(int(share + 1e-9), 1)  # 0.29 of 100 is 29, which floats make 28.999...
    return rule.top or left
