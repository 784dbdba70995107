"""Charts of a report as inline SVG: points in, a figure with title, legend and text alternative out.

    lines({"train": [(1, 2.5), (2, 2.0)]}, title="Loss", x_label="step")
    bars(["accuracy"], {"before": [0.3], "after": [0.5]}, title="Gain", errors={"after": [0.05]})

Values that are None or not finite leave gaps. Lines longer than POINTS are thinned to the means of equal stretches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup, escape

from jitune.report.axes import COLOURS, WIDTH, axis_range, figure, fits, key, labelled, put, scale
from jitune.report.page import exact, number

HEIGHT = 230
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 20, 34  # what is left around the plot for ticks and labels
POINTS = 300
DASHES = ("", "6 3", "2 3")  # lines differ in more than their colour
THICK = 14  # of a bar
BESIDE = 14  # letters of a name that fits beside its bar
MARKED = 40  # a line of no more points shows them


def lines(series: dict[str, Sequence], *, title: str, x_label: str = "step", y_label: str = "",
          log: bool = False, zero: bool = False, percent: bool = False) -> Markup:
    """A line chart of {name: [(x, y), ...]}, x ascending.

    log: a logarithmic y axis, on which what is not positive leaves a gap. zero: the y axis starts at 0. percent:
    y is shown in percent.
    """
    thinned = {name: thin([(x, y if fits(y, log) else None) for x, y in points]) for name, points in series.items()}
    shown = [p for points in thinned.values() for p in points if p[1] is not None]
    if not shown:
        return figure(title, [], put(WIDTH / 2, HEIGHT / 2, "no values", "middle"), f"{title}: no values", HEIGHT)
    xs, ys = [x for x, _ in shown], [y for _, y in shown]
    whole = all(float(x).is_integer() for x in xs)
    x_low, x_high = axis_range(min(xs), max(xs), 0)
    floor = 0 if min(ys) >= 0 else None
    y_low, y_high = axis_range(min(*ys, 0) if zero else min(ys), max(ys), 0.05, log=log, floor=floor)
    x_at = scale(x_low, x_high, LEFT, WIDTH - RIGHT)
    y_at = scale(y_low, y_high, HEIGHT - BOTTOM, TOP, log=log)
    parts = [f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_at(y):.1f}" y2="{y_at(y):.1f}"/>'
             + put(LEFT - 6, y_at(y) + 4, label, "end")
             for y, label in labelled(y_low, y_high, log=log, percent=percent)]
    parts += [put(x_at(x), HEIGHT - BOTTOM + 16, label, "middle")
              for x, label in labelled(x_low, x_high, count=5, whole=whole)]
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>')
    parts += [put(WIDTH - RIGHT, HEIGHT - 3, x_label, "end"), put(0, 10, y_label)]
    for i, (name, points) in enumerate(thinned.items()):
        label = f"{name}, " if len(thinned) > 1 else ""
        parts.append(_line(points, i, x_at, y_at, f"{label}{x_label}", percent))
    summary = "; ".join(_describe(name, points, x_label, percent) for name, points in thinned.items())
    return figure(title, _keys(list(thinned)), "".join(parts), f"{title}: {summary}", HEIGHT)


def bars(groups: Sequence[str], series: dict[str, Sequence], *, title: str, errors: dict[str, Sequence] | None = None,
         label: str = "", percent: bool = False) -> Markup:
    """Horizontal bars from 0, one a group and series.

    Args:
      groups: what is measured; stands over its bars, or beside them where there is one series and names are short.
      series: {name: [one value a group, or None]}.
      errors: {name: [one error bar a group, or None]}, for any of the series: half its width, or its two ends.
      label: of the axis, such as a unit.
      percent: values are shown in percent.

    Raises:
      ValueError: a series does not have one value a group.
    """
    errors = {name: (errors or {}).get(name) or [None] * len(groups) for name in series}
    if any(len(v) != len(groups) for v in (*series.values(), *errors.values())):
        raise ValueError(f"bars {title!r}: each series must have {len(groups)} values")
    ends = [end for name in series for v, e in zip(series[name], errors[name], strict=True)
            if fits(v) for end in (v, *_whisker(v, e or 0))]
    if not ends:
        return figure(title, [], put(WIDTH / 2, 30, "no values", "middle"), f"{title}: no values", 60)
    beside = len(series) == 1 and max(map(len, groups)) <= BESIDE
    low, high = axis_range(min(*ends, 0), max(*ends, 0), 0)
    at = scale(low, high, 6 * max(map(len, groups)) + 10 if beside else 4, WIDTH - 56)
    parts, texts, y = [], [], 4
    for g, group in enumerate(groups):
        parts.append(put(0, y + 11 if beside else y + 10, group, kind="group"))
        y += 0 if beside else 16
        for i, name in enumerate(series):
            whose = f"{group}, {name}" if len(series) > 1 else group
            parts.append(_bar(at, y, i, series[name][g], errors[name][g], whose, percent))
            texts.append(f"{whose}: {number(series[name][g], percent=percent)}")
            y += THICK + 3
        y += 2 if beside else 8
    rules = "".join(f'<line class="{"axis" if x == 0 else "rule"}" x1="{at(x):.1f}" x2="{at(x):.1f}" y1="0" y2="{y}"/>'
                    + put(at(x), y + 14, mark, "middle") for x, mark in labelled(low, high, 4, percent=percent))
    parts.append(put(WIDTH, y + 14, label, "end"))
    return figure(title, _keys(list(series), box=True), rules + "".join(parts), f"{title}. {'; '.join(texts)}", y + 20)


def thin(points: Sequence, most: int = POINTS) -> list[tuple]:
    """At most `most` points: means over stretches of equal length; a stretch without a value is a gap (None)."""
    size = max(1, math.ceil(len(points) / most))
    if size == 1:
        return [tuple(p) for p in points]
    thinned = []
    for i in range(0, len(points), size):
        xs, ys = zip(*points[i : i + size], strict=True)
        known = [y for y in ys if y is not None]
        thinned.append((sum(xs) / len(xs), sum(known) / len(known) if known else None))
    return thinned


def _line(points, i, x_at, y_at, label, percent) -> str:
    """A line broken at its gaps, and its points, which tell their values to the mouse."""
    colour, dash = f"var(--c{i % COLOURS + 1})", DASHES[i // COLOURS % len(DASHES)]
    at = [(x, y, None if y is None else (f"{x_at(x):.1f}", f"{y_at(y):.1f}")) for x, y in points]
    drawn = []
    for known, stretch in groupby(at, lambda p: p[2] is not None):
        if known:
            path = " ".join(",".join(place) for _, _, place in stretch)
            drawn.append(f'<polyline class="line" stroke="{colour}" stroke-dasharray="{dash}" points="{path}"/>')
    kind, radius = ("mark", 2.5) if sum(p[2] is not None for p in at) <= MARKED else ("hit", 4)
    for x, y, place in at:
        if place:
            drawn.append(f'<circle class="{kind}" r="{radius}" cx="{place[0]}" cy="{place[1]}" fill="{colour}" '
                         f'data-x="{exact(x)}" data-value="{exact(y)}">'
                         f"<title>{escape(label)} {number(x)}: {number(y, percent=percent)}</title></circle>")
    return "".join(drawn)


def _whisker(v, error) -> tuple[float, float]:
    """The ends of an error bar that is given by half its width or by its ends."""
    return tuple(error) if isinstance(error, Sequence) else (v - error, v + error)


def _bar(at, y, i, v, error, label, percent) -> str:
    """One bar with its whisker and its value."""
    if not fits(v):
        return put(at(0) + 4, y + 11, "no value")
    left, right = sorted((at(0), at(v)))
    shown, end = number(v, percent=percent), right
    bar = (f'<rect x="{left:.1f}" y="{y}" width="{right - left:.1f}" height="{THICK}" fill="var(--c{i % COLOURS + 1})" '
           f'data-value="{exact(v)}"><title>{escape(label)}: {shown}</title></rect>')
    if error:
        (a, b), middle = map(at, _whisker(v, error)), y + THICK / 2
        ends = (" to ".join(number(e, percent=percent) for e in error) if isinstance(error, Sequence) else
                f"\N{PLUS-MINUS SIGN} {number(error, percent=percent)}")
        bar += (f'<path class="whisker" d="M{a:.1f} {middle}H{b:.1f}M{a:.1f} {y + 4}v{THICK - 8}M{b:.1f} {y + 4}'
                f'v{THICK - 8}"><title>{shown} {ends}</title></path>')
        end = max(right, b)
    return bar + put(end + 5, y + 11, shown, kind="figure")


def _describe(name, points, x_label, percent) -> str:
    """A line in words."""
    known = [p for p in points if p[1] is not None]
    if not known:
        return f"{name} has no values"
    (x0, y0), (x1, y1) = known[0], known[-1]
    if len(known) == 1:
        return f"{name} {number(y0, percent=percent)} at {x_label} {number(x0)}"
    return (f"{name} from {number(y0, percent=percent)} at {x_label} {number(x0)} to {number(y1, percent=percent)} "
            f"at {x_label} {number(x1)}")


def _keys(names, *, box=False) -> list[tuple[str, str]]:
    """What each series looks like, for the legend; one alone needs none."""
    if len(names) < 2:
        return []
    colours = [f"var(--c{i % COLOURS + 1})" for i in range(len(names))]
    dashes = [DASHES[i // COLOURS % len(DASHES)] for i in range(len(names))]
    return [(key(f'<rect x="10" width="14" height="10" fill="{colour}"/>' if box else
                 f'<line class="line" x1="2" x2="22" y1="5" y2="5" stroke="{colour}" stroke-dasharray="{dash}"/>'),
             name) for name, colour, dash in zip(names, colours, dashes, strict=True)]
