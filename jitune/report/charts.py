"""Charts of a report as inline SVG: points in, a figure with title, legend and text alternative out.

    lines({"train": [(1, 2.5), (2, 2.0)]}, title="Loss", x_label="step")
    bars(["accuracy"], {"before": [0.3], "after": [0.5]}, title="Gain", errors={"after": [0.05]})

Values that are None or not finite leave gaps. A chart is drawn 360 wide, the width of a phone, and takes its colours
from the page's style sheet. Lines longer than POINTS are thinned to the means of equal stretches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup, escape

from jitune.report.page import exact, number

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 20, 34  # what is left around the plot for ticks and labels
POINTS = 300
COLOURS = 6
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
    thinned = {name: thin([(x, y if _fits(y, log) else None) for x, y in points]) for name, points in series.items()}
    shown = [p for points in thinned.values() for p in points if p[1] is not None]
    if not shown:
        return _figure(title, [], _text(WIDTH / 2, HEIGHT / 2, "no values", "middle"), f"{title}: no values", HEIGHT)
    xs, ys = [x for x, _ in shown], [y for _, y in shown]
    whole = all(float(x).is_integer() for x in xs)
    x_low, x_high = _range(min(xs), max(xs), 0)
    y_low, y_high = _range(min(*ys, 0) if zero else min(ys), max(ys), 0.05, log=log, floor=0 if min(ys) >= 0 else None)
    x_at = _scale(x_low, x_high, LEFT, WIDTH - RIGHT)
    y_at = _scale(y_low, y_high, HEIGHT - BOTTOM, TOP, log=log)
    parts = [f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_at(y):.1f}" y2="{y_at(y):.1f}"/>'
             + _text(LEFT - 6, y_at(y) + 4, label, "end")
             for y, label in labelled(y_low, y_high, log=log, percent=percent)]
    parts += [_text(x_at(x), HEIGHT - BOTTOM + 16, label, "middle")
              for x, label in labelled(x_low, x_high, count=5, whole=whole)]
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>')
    parts += [_text(WIDTH - RIGHT, HEIGHT - 3, x_label, "end"), _text(0, 10, y_label)]
    for i, (name, points) in enumerate(thinned.items()):
        label = f"{name}, " if len(thinned) > 1 else ""
        parts.append(_line(points, i, x_at, y_at, f"{label}{x_label}", percent))
    summary = "; ".join(_describe(name, points, x_label, percent) for name, points in thinned.items())
    return _figure(title, list(thinned), "".join(parts), f"{title}: {summary}", HEIGHT)


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
            if _fits(v) for end in (v, *_whisker(v, e or 0))]
    if not ends:
        return _figure(title, [], _text(WIDTH / 2, 30, "no values", "middle"), f"{title}: no values", 60)
    beside = len(series) == 1 and max(map(len, groups)) <= BESIDE
    low, high = _range(min(*ends, 0), max(*ends, 0), 0)
    at = _scale(low, high, 6 * max(map(len, groups)) + 10 if beside else 4, WIDTH - 56)
    parts, texts, y = [], [], 4
    for g, group in enumerate(groups):
        parts.append(_text(0, y + 11 if beside else y + 10, group, kind="group"))
        y += 0 if beside else 16
        for i, name in enumerate(series):
            whose = f"{group}, {name}" if len(series) > 1 else group
            parts.append(_bar(at, y, i, series[name][g], errors[name][g], whose, percent))
            texts.append(f"{whose}: {number(series[name][g], percent=percent)}")
            y += THICK + 3
        y += 2 if beside else 8
    rules = "".join(f'<line class="{"axis" if x == 0 else "rule"}" x1="{at(x):.1f}" x2="{at(x):.1f}" y1="0" y2="{y}"/>'
                    + _text(at(x), y + 14, mark, "middle") for x, mark in labelled(low, high, 4, percent=percent))
    parts.append(_text(WIDTH, y + 14, label, "end"))
    return _figure(title, list(series), rules + "".join(parts), f"{title}. {'; '.join(texts)}", y + 20, boxes=True)


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


def ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """About `count` round numbers in [low, high], 1, 2 or 5 times a power of ten apart.

    ticks(0, 12) -> [0, 2, 4, 6, 8, 10, 12]. whole: no fractions.
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.75)
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in [low, high], thinned to six; 1, 2 and 5 times them where there are fewer than three."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [p for p in powers if low <= 10.0**p <= high]
    if len(inside) >= 3:
        return [10.0**p for p in inside[:: math.ceil(len(inside) / 6)]]
    return [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high] or [low, high]


def labelled(low, high, count=5, *, log=False, whole=False, percent=False) -> list[tuple[float, str]]:
    """The ticks with their texts."""
    if log:
        return [(t, _short(t)) for t in log_ticks(low, high)]
    marks = ticks(low, high, count, whole=whole)
    if percent:
        digits = max(0, -math.floor(math.log10(100 * (marks[1] - marks[0])) + 1e-9)) if len(marks) > 1 else 1
        return [(t, f"{100 * t:.{digits}f}%") for t in marks]
    texts = [_short(t) for t in marks]
    if len(set(texts)) < len(texts):  # four digits do not tell them apart
        texts = [f"{t:.8g}" for t in marks]
    return list(zip(marks, texts, strict=True))


def _short(x: float) -> str:
    """1500 -> "1.5k"; for ticks, which have few digits."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:.6g}{letter}"
    return number(x)


def _fits(y, log: bool = False) -> bool:
    return y is not None and math.isfinite(y) and (not log or y > 0)


def _range(low, high, margin, *, log=False, floor=None):
    """The ends of an axis: a margin around the values, and some length where they are all the same."""
    if log:
        room = 10 ** (margin * math.log10(high / low)) if high > low else 2.0
        return low / room, high * room
    room = margin * (high - low) if high > low else (abs(high) * 0.1 or 1.0)
    low, high = low - room if low else low, high + room
    return (max(low, floor) if floor is not None else low), high


def _scale(low, high, start, end, *, log=False):
    """The position of a value on an axis from `start` (low) to `end` (high)."""
    f = math.log10 if log else float
    return lambda v: start + (f(v) - f(low)) / (f(high) - f(low)) * (end - start)


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
    if not _fits(v):
        return _text(at(0) + 4, y + 11, "no value")
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
    return bar + _text(end + 5, y + 11, shown, kind="figure")


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


def _text(x, y, text, anchor="start", kind="") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>' if text else ""


def _figure(title, names, drawing, alternative, height, *, boxes=False) -> Markup:
    """The figure: title and legend in HTML, where they wrap, and the drawing."""
    legend = ""
    if len(names) > 1:
        keys = "".join(f"<li>{_key(i, boxes)}{escape(name)}</li>" for i, name in enumerate(names))
        legend = f'<ul class="legend">{keys}</ul>'
    return Markup(f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{legend}\n'
                  f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(alternative)}">{drawing}</svg>'
                  "</figure>")


def _key(i, box) -> str:
    """What a series looks like, for the legend."""
    colour, dash = f"var(--c{i % COLOURS + 1})", DASHES[i // COLOURS % len(DASHES)]
    shape = (f'<rect x="10" width="14" height="10" fill="{colour}"/>' if box else
             f'<line class="line" x1="2" x2="22" y1="5" y2="5" stroke="{colour}" stroke-dasharray="{dash}"/>')
    return f'<svg viewBox="0 0 24 10" aria-hidden="true">{shape}</svg>'
