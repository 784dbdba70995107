"""How pages show what an evaluation found: estimates as cells and points, a model's texts made safe and short.

    clean({"text": "a\\0b"})                                  # {"text": "a\\\\u0000b"}: nothing stays unseen
    long_text("..." * 9000, where="samples/gsm8k.jsonl")     # the start, more to unfold, and how much is left out
    missing({"n": 90, "unscored": 10})                       # 10 (10.0%)

A page stays small whatever models wrote: texts are cut by the bytes that they take on the page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from jitune.data.visible import visible
from jitune.report import page
from jitune.report.intervals import Point
from jitune.report.page import DASH, number, value

SHOWN, FOLDED = 700, 1500  # bytes of a text: at once, and where the reader unfolds it
DOUBTFUL = 0.05  # a value of which more is unscored is drawn as a ring


def clean(tree: Any, *, most: int | None = None) -> Any:
    """Anything of JSON with what cannot be seen in its texts written out, as in \\u202e.

    most: characters of a text that are kept.
    """
    if isinstance(tree, str):
        text = tree if most is None or len(tree) <= most else tree[:most] + "\N{HORIZONTAL ELLIPSIS}"
        return visible(text)
    if isinstance(tree, Mapping):
        return {clean(str(k), most=most): clean(v, most=most) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [clean(v, most=most) for v in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def as_text(what: Any) -> str:
    """A text as it is, anything else as JSON; None is empty."""
    if what is None or isinstance(what, str):
        return what or ""
    return json.dumps(what, ensure_ascii=False)


def fitting(text: str, most: int) -> int:
    """How many characters of a text take no more than `most` bytes on a page."""
    if len(text) * 5 <= most:
        return len(text)
    taken = 0
    for i, c in enumerate(text):
        taken += len(str(escape(c)).encode("utf-8", "surrogatepass"))
        if taken > most:
            return i
    return len(text)


def short(text: Any, most: int = 200) -> str:
    """A text of at most `most` bytes on a page."""
    text = as_text(text)
    end = fitting(text, most)
    return text if end == len(text) else text[:end] + "\N{HORIZONTAL ELLIPSIS}"


def long_text(what: Any, *, where: str = "", shown: int = SHOWN, folded: int = FOLDED) -> Markup:
    """A text of any length as a block. where: the file in which the rest can be read."""
    text = as_text(what)
    if not text:
        return Markup("")
    end = fitting(text, shown)
    if end == len(text):
        return page.said(text)
    end = text.rfind(" ", max(end - 40, 0), end) + 1 or end  # between words, where there are any
    rest = text[end:]
    more = fitting(rest, folded)
    left = numbered(len(rest) - more, "more character") + (f" in {where}" if where else "") + "."
    note = Markup('<p class="note">{}</p>').format(left) if more < len(rest) else ""
    return page.join((page.said(text[:end] + "\N{HORIZONTAL ELLIPSIS}"),
                      page.details(numbered(len(rest), "more character"), page.said(rest[:more]), note)))


def figure(x: float | None, unit: str | None) -> Markup:
    """A value of a metric: shares in percent."""
    return value(x, percent=unit == "share")


def between(estimate: Mapping, unit: str | None, *, change: bool = False) -> Markup:
    """The ends of an interval: 40.0% – 46.2%; of a change +1.0 to +3.2 (points)."""
    low, high = estimate.get("low"), estimate.get("high")
    if low is None or high is None:
        return Markup(DASH)
    a, b = (plus(v, unit) if change else number(v, percent=unit == "share") for v in (low, high))
    text = f"{a} {'to' if change else DASH} {b}".replace(" ", "\N{NO-BREAK SPACE}")
    return Markup('<span class="num" data-low="{}" data-high="{}">{}</span>').format(
        page.exact(low), page.exact(high), text)


def plus(x: float, unit: str | None) -> str:
    """A change with its sign, shares in points: 0.0213 -> "+2.1"."""
    return f"{round(100 * x, 1) + 0.0:+.1f}" if unit == "share" else f"{float(f'{x:.3g}') + 0.0:+.3g}"


def signed(x: float | None, unit: str | None) -> Markup:
    """A change as a cell."""
    return value(x) if x is None else value(x, text=plus(x, unit), unit="points" if unit == "share" else "")


def points(x: float | None, unit: str | None, *, named: bool = True) -> Markup:
    """The size of a change as a cell: 0.0213 -> 2.1 points."""
    if x is None or unit != "share":
        return value(x, text="" if x is None else f"{x:.3g}")
    return value(x, text=f"{100 * x:.1f}", unit="points" if named else "")


def said_p(p: float | None) -> Markup:
    """A p-value: 0.031, <0.001."""
    return value(p) if p is None else value(p, text="<0.001" if p < 0.001 else f"{p:.3f}")


def missing(estimate: Mapping) -> Markup | int:
    """How many documents have no score, and their share of all: 10 (10.0%)."""
    return part(estimate.get("unscored") or 0, (estimate.get("n") or 0) + (estimate.get("unscored") or 0))


def part(count: int, of: int) -> Markup | int:
    """A count and its share: 10 (10.0%); 0 is 0."""
    if not count or not of:
        return count
    return Markup("{}\N{NO-BREAK SPACE}<small>({})</small>").format(value(count), number(count / of, percent=True))


def doubtful(estimate: Mapping) -> bool:
    """Whether so much is unscored that the value may stand for another set."""
    unscored = estimate.get("unscored") or 0
    return unscored > DOUBTFUL * ((estimate.get("n") or 0) + unscored)


def point(estimate: Mapping) -> Point:
    """An estimate as it is drawn."""
    return Point(estimate.get("value"), estimate.get("low"), estimate.get("high"), doubtful(estimate))


def numbered(count: int, noun: str) -> str:
    """1 document, 1,200 documents"""
    return f"{count:,} {noun}{'s' * (count != 1)}"
