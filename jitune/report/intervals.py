"""A chart of values with their intervals, a row each (a forest plot), as inline SVG.

    intervals(["gsm8k", "mgsm"], {"": [Point(0.4, 0.35, 0.45), Point(0.2, 0.1, 0.3)]}, title="Scores", span=(0, 1))
    intervals(["safety"], {"": [Point(-2.0, -3.1, -0.9)]}, title="Change", reference=0, label="points")
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from jitune.report.axes import COLOURS, WIDTH, axis_range, figure, fits, key, labelled, put, scale
from jitune.report.page import exact, number

ROW = 19  # of a point with its interval
NARROW, WIDE = 22, 52  # letters of a name that fits beside its point, and of any name that is drawn
LETTER = 6.3  # width of one
FIGURES = 50  # what is left at the right for the values


class Point(NamedTuple):
    """A value and the ends of its interval. hollow: drawn as a ring, for a value that is to be read with care."""

    value: float | None
    low: float | None = None
    high: float | None = None
    hollow: bool = False


def intervals(groups: Sequence[str], series: dict[str, Sequence[Point | None]], *, title: str,
              marks: Sequence[float | None] | None = None, mark: str = "chance", span: Sequence | None = None,
              reference: float | None = None, label: str = "", percent: bool = False,
              show: Callable[[float], str] | None = None) -> Markup:
    """Points with whiskers on one axis.

    Args:
      groups: what is measured; stands beside its points, or over them where names are long.
      series: {name: [one Point a group, or None]}; None takes no room, a Point without a value says so.
      marks: a value a group to compare its points with, drawn as a short line; `mark` is what they are.
      span: the ends of the axis; as wide as what is drawn by default, and never narrower than that.
      reference: where a line stands through all rows, such as 0 for differences.
      label: of the axis, such as a unit.
      percent: values are shown in percent.
      show: writes the values beside the points; `number` by default.

    Raises:
      ValueError: a series, or the marks, do not have one value a group.
    """
    marks = [None] * len(groups) if marks is None else marks
    if any(len(v) != len(groups) for v in (*series.values(), marks)):
        raise ValueError(f"intervals {title!r}: each series must have {len(groups)} values")
    show = show or (lambda v: number(v, percent=percent))
    drawn = [v for points in series.values() for p in points if p and fits(p.value) for v in p[:3] if fits(v)]
    if not drawn:
        return figure(title, [], put(WIDTH / 2, 30, "no values", "middle"), f"{title}: no values", 60)
    ends = [*drawn, *(v for v in (*marks, reference) if fits(v))]
    low, high = axis_range(min(ends), max(ends), 0.03) if span is None else (min(*ends, *span), max(*ends, *span))
    letters = max(map(width, groups))
    beside = letters <= NARROW
    at = scale(low, high, LETTER * letters + 14 if beside else 6, WIDTH - FIGURES)
    parts, told, y = [], [], 2
    for g, group in enumerate(groups):
        row = [(i, name, points[g]) for i, (name, points) in enumerate(series.items()) if points[g] is not None]
        parts.append(put(0, y + 13, cut(group), kind="group"))
        y += 0 if beside else ROW - 2
        for i, name, p in row:
            whose = f"{group}, {name}" if len(series) > 1 else group
            told.append(f"{whose}: {in_words(p, show)}" + (f", {mark} {show(marks[g])}" if fits(marks[g]) else ""))
            parts.append(_point(at, y + ROW / 2, i, p, marks[g], told[-1], show))
            y += ROW
        y += 0 if beside and len(row) == 1 else 5
    rules = "".join(f'<line class="{"axis" if x == reference else "rule"}" x1="{at(x):.1f}" x2="{at(x):.1f}" y1="0" '
                    f'y2="{y}"/>' + put(at(x), y + 14, text, "middle")
                    for x, text in labelled(low, high, 4, percent=percent))
    bottom = put(WIDTH, y + 29, label, "end")
    keys = _keys(list(series), mark if any(map(fits, marks)) else "")
    height = y + (33 if label else 20)
    return figure(title, keys, rules + "".join(parts) + bottom, f"{title}. {'; '.join(told)}", height)


def width(text: str) -> int:
    """Of a text as it is drawn, in letters; those of East Asia take two: "年月" -> 4."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in cut(text))


def cut(text: str) -> str:
    """A name no wider than a chart."""
    room, wide = WIDE, 0
    for i, c in enumerate(text):
        wide += 1 + (unicodedata.east_asian_width(c) in "WF")
        if wide > room:
            return text[: i - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return text


def in_words(p: Point, show: Callable[[float], str]) -> str:
    """A point as text: "43.1%, 40.0% to 46.2%"."""
    if not fits(p.value):
        return "no value"
    return show(p.value) + (f", {show(p.low)} to {show(p.high)}" if fits(p.low) and fits(p.high) else "")


def _point(at, y, i, p, mark, told, show) -> str:
    """One point with its whisker, what it is compared with, and its value at the right."""
    tick = _tick(at(mark), y) if fits(mark) else ""
    if not fits(p.value):
        return tick + put(WIDTH, y + 4, "no value", "end")
    colour, whisker = _colour(i), ""
    if fits(p.low) and fits(p.high):
        a, b = at(p.low), at(p.high)
        whisker = (f'<path class="line" stroke="{colour}" d="M{a:.1f} {y}H{b:.1f}M{a:.1f} {y - 3}v6M{b:.1f} {y - 3}v6" '
                   f'data-low="{exact(p.low)}" data-high="{exact(p.high)}"/>')
    shape = _symbol(at(p.value), y, i, "var(--bg)" if p.hollow else colour, f' data-value="{exact(p.value)}"')
    return (f"<g><title>{escape(told)}</title>{tick}{whisker}{shape}</g>"
            + put(WIDTH, y + 4, show(p.value), "end", "figure"))


def _symbol(x, y, i, fill, more="") -> str:
    """A circle, a square or a diamond: series differ in more than their colour."""
    look = f'fill="{fill}" stroke="{_colour(i)}" stroke-width="1.75"{more}'
    if i % 3 == 0:
        return f'<circle cx="{x:.1f}" cy="{y}" r="3.75" {look}/>'
    r = 3.4 if i % 3 == 1 else 4.8
    square, diamond = f"M{x - r:.1f} {y - r}h{2 * r}v{2 * r}h{-2 * r}z", f"M{x - r:.1f} {y}l{r} {-r}l{r} {r}l{-r} {r}z"
    return f'<path d="{square if i % 3 == 1 else diamond}" {look}/>'


def _colour(i) -> str:
    return f"var(--c{i % COLOURS + 1})"


def _tick(x, y) -> str:
    return f'<path class="mark" d="M{x:.1f} {y - 7}v14"/>'


def _keys(names, mark) -> list[tuple[str, str]]:
    """The legend: the series where there are several, and what the short lines are."""
    series = [(key(_symbol(12, 5, i, _colour(i))), name) for i, name in enumerate(names)] if len(names) > 1 else []
    return series + ([(key(_tick(12, 5)), mark)] if mark else [])
