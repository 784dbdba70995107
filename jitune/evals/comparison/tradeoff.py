"""What an axis gained or lost: the headlines' comparisons in, one change an axis and a line of words out.

    changes = by_axis({"gsm8k": ("utility", comparison), "xstest": ("safety", comparison)})
    changes["utility"]          # {"value": 3.1, "se": 0.6, "low": 1.9, "high": 4.3, "unit": "points", "tasks": [...]}
    verdict(changes)            # "utility +3.1 (±1.2) points, safety -8.0 (±3.0) points: utility gained at the ..."

An axis' change is the plain mean over its tasks, which are taken as given and as independent of each other: its error
is sqrt(sum of se^2) / tasks, and says nothing of other tasks that might have stood for the axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from jitune.evals import stats
from jitune.evals.task import AXES


def by_axis(headlines: Mapping[str, tuple[str, dict]]) -> dict[str, dict]:
    """The change of each axis that has a task: task -> (axis, comparison of its headline) in; see compare.py."""
    axes = [*AXES, *sorted({axis for axis, _ in headlines.values()} - {*AXES})]
    grouped = {axis: {n: c for n, (x, c) in headlines.items() if x == axis} for axis in axes}
    return {axis: change(tasks) for axis, tasks in grouped.items() if tasks}


def change(tasks: Mapping[str, dict]) -> dict:
    """The mean change of some headlines; of shares in points, or of others in standard deviations."""
    left_out = {n: "no pair was scored" for n, c in tasks.items() if c["change"] is None}
    known = {n: c for n, c in tasks.items() if n not in left_out}
    unit = "points" if any(c["unit"] == "share" for c in known.values()) or not known else "sd"
    if unit == "points":
        left_out |= {n: "is no share" for n, c in known.items() if c["unit"] != "share"}
        scale = {n: 100.0 for n in known if n not in left_out}
    else:
        left_out |= {n: "has no standard deviation" for n, c in known.items() if not c["sd"] and c["change"]}
        scale = {n: 1 / c["sd"] if c["sd"] else 0.0 for n, c in known.items() if n not in left_out}
    if any(tasks[n]["se"] is not None for n in scale):
        blind = {n for n in scale if tasks[n]["se"] is None}
        left_out |= {n: "its error cannot be told" for n in blind}
        scale = {n: s for n, s in scale.items() if n not in blind}
    value, se = combine([(tasks[n]["change"], tasks[n]["se"], s) for n, s in scale.items()])
    half = None if se is None else stats.z_of() * se
    return {"value": value, "se": se, "low": None if half is None else value - half,
            "high": None if half is None else value + half, "unit": unit, "tasks": [*scale], "left_out": left_out}


def combine(parts: list[tuple[float, float | None, float]]) -> tuple[float | None, float | None]:
    """The mean of changes times their scales, and its error; None where there is none."""
    if not parts:
        return None, None
    value = math.fsum(change * scale for change, _, scale in parts) / len(parts)
    if any(se is None for _, se, _ in parts):
        return value, None
    return value, math.sqrt(math.fsum((se * scale) ** 2 for _, se, scale in parts)) / len(parts)


def direction(found: Mapping) -> int:
    """1 where the interval lies above 0, -1 where it lies below, else 0."""
    if found["low"] is None:
        return 0
    return (found["low"] > 0) - (found["high"] < 0)


def verdict(changes: Mapping[str, dict]) -> str:
    """One line: every axis' change with the half of its 95 % interval, and what was gained at the cost of what."""
    parts = ", ".join(f"{axis} {said(c)}" for axis, c in changes.items())
    gained = join([a for a, c in changes.items() if direction(c) > 0])
    lost = join([a for a, c in changes.items() if direction(c) < 0])
    missing = join([a for a in AXES if a not in changes or changes[a]["value"] is None])
    if gained and lost:
        end = f"{gained} gained at the cost of {lost}"
    elif gained:
        end = f"{gained} gained, no loss shows"
    elif lost:
        end = f"{lost} lost, no gain shows"
    else:
        end = "no change shows"
    return f"{parts}: {end}" + (f"; {missing} not measured" if missing else "")


def said(found: Mapping) -> str:
    """+3.1 (±1.2) points"""
    if found["value"] is None:
        return "unknown"
    half = "no interval" if found["low"] is None else f"±{(found['high'] - found['low']) / 2:.{digits(found)}f}"
    # Adding 0 makes 0 of -0.
    value = round(found["value"], digits(found)) + 0.0
    return f"{value:+.{digits(found)}f} ({half}) {'points' if found['unit'] == 'points' else 'standard deviations'}"


def digits(found: Mapping) -> int:
    """Decimals shown."""
    return 1 if found["unit"] == "points" else 2


def join(names: list[str]) -> str:
    """a, b and c"""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
