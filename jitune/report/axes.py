"""What charts share: axes with round ticks, texts, and the figure around a drawing, as inline SVG.

    at = scale(0, 1, 44, 352)                              # at(0.5) -> 198.0
    ticks(0, 12)                                           # [0, 2, 4, 6, 8, 10, 12]
    figure("Loss", [], put(0, 10, "nats"), "Loss", 230)    # <figure class="chart">...

A chart is drawn 360 wide, the width of a phone, and takes its colours from the page's style sheet.
"""

from __future__ import annotations

import math

from markupsafe import Markup, escape

from jitune.report.page import number

WIDTH = 360
COLOURS = 6


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
        return [(t, short(t)) for t in log_ticks(low, high)]
    marks = ticks(low, high, count, whole=whole)
    if percent:
        digits = max(0, -math.floor(math.log10(100 * (marks[1] - marks[0])) + 1e-9)) if len(marks) > 1 else 1
        return [(t, f"{100 * t:.{digits}f}%") for t in marks]
    texts = [short(t) for t in marks]
    if len(set(texts)) < len(texts):  # four digits do not tell them apart
        texts = [f"{t:.8g}" for t in marks]
    return list(zip(marks, texts, strict=True))


def short(x: float) -> str:
    """1500 -> "1.5k"; for ticks, which have few digits."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:.6g}{letter}"
    return number(x)


def fits(y, log: bool = False) -> bool:
    """Whether a value can be drawn."""
    return y is not None and math.isfinite(y) and (not log or y > 0)


def axis_range(low, high, margin, *, log=False, floor=None):
    """The ends of an axis: a margin around the values, and some length where they are all the same."""
    if log:
        room = 10 ** (margin * math.log10(high / low)) if high > low else 2.0
        return low / room, high * room
    room = margin * (high - low) if high > low else (abs(high) * 0.1 or 1.0)
    low, high = low - room if low else low, high + room
    return (max(low, floor) if floor is not None else low), high


def scale(low, high, start, end, *, log=False):
    """The position of a value on an axis from `start` (low) to `end` (high)."""
    f = math.log10 if log else float
    return lambda v: start + (f(v) - f(low)) / (f(high) - f(low)) * (end - start)


def put(x, y, text, anchor="start", kind="") -> str:
    """A text of a drawing; anchor: `start`, `middle` or `end`, what of it stands at x."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>' if text else ""


def figure(title, keys, drawing, alternative, height) -> Markup:
    """The figure: title and legend in HTML, where they wrap, and the drawing. keys: (a `key`, a name) each."""
    shown = "".join(f"<li>{one}{escape(name)}</li>" for one, name in keys)
    legend = f'<ul class="legend">{shown}</ul>' if shown else ""
    return Markup(f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{legend}\n'
                  f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(alternative)}">{drawing}</svg>'
                  "</figure>")


def key(shape) -> str:
    """What a series looks like, for the legend: 24 wide, 10 high."""
    return f'<svg viewBox="0 0 24 10" aria-hidden="true">{shape}</svg>'
