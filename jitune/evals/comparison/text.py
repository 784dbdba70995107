"""A comparison as text of 80 columns: the dict of `compare` in, printed tables out.

    print_comparison(console, compare("eval/base", "eval/tuned"))

Shares are in percent, and their deltas in points. A delta is b - a with the half of its 95 % interval; `better` and
`worse` count documents; p is Holm's over the tasks' headlines, and a * stands where it is below 0.05.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

TAGS = {"language": "languages", "domain": "domains"}
SHOWN_FLIPS = 2


def print_comparison(console, found: dict) -> None:
    """Prints it; console: a `rich.console.Console`."""
    console.print(f"a: {found['a']['directory']}\nb: {found['b']['directory']}", soft_wrap=True)
    for text in found["warnings"]:
        console.print(f"warning: {text}", soft_wrap=True)
    for name, (one, two) in found["settings"].items():
        console.print(f"setting {name}: {one} in a, {two} in b", soft_wrap=True)
    for name, reason in found["left_out"].items():
        console.print(f"left out: {name}: {reason}", soft_wrap=True)
    for axis in found["axes"]:
        tasks = {n: t for n, t in found["tasks"].items() if t["axis"] == axis}
        console.print(f"\n{axis}", style="bold")
        console.print(headlines(tasks, console.width))
    for tag, title in TAGS.items():
        if len(found["slices"][tag]) > 1:
            console.print(f"\n{title}: change in points, positive is better", style="bold")
            console.print(by_slice(tag, found["slices"][tag], console.width))
    notes = [(n, m, c["note"]) for n, t in found["tasks"].items() for m, c in t["metrics"].items() if c["note"]]
    if notes:
        console.print()
    for name, metric, note in notes:
        console.print(f"{name}, {metric}: {note}")
    console.print(f"\n{found['verdict']}")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int):
    """A table of `width` columns without lines; the first column is of names, which give way to the numbers."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="dim")
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    widths[0] = max(min(widths[0], width - sum(widths[1:]) - 2 * len(widths[1:])), 4)
    for place, (name, size) in enumerate(zip(columns, widths, strict=True)):
        made.add_column(name, justify="right" if place else "left", no_wrap=True, overflow="ellipsis", width=size)
    for first, *others in rows:
        made.add_row(shorten(first, widths[0]), *others)
    return made


def shorten(text: str, width: int) -> str:
    """A text of at most `width` columns: what is too much is left out in its middle, for ends tell names apart."""
    if cell_len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{set_cell_size(text, width - 1 - tail).rstrip()}\N{HORIZONTAL ELLIPSIS}{text[-tail:]}"


def headlines(tasks: dict[str, dict], width: int):
    """The headline of each task of an axis, and its other metrics below it, set in."""
    rows = []
    for name, task in tasks.items():
        for metric, c in task["metrics"].items():
            first = metric == task["headline"]
            p = c["p_holm"] if first else c["p"]
            star = "*" if first and p is not None and p < 0.05 else " "
            rows.append((f"{name}: {metric}" if first else f"  {metric}", f"{c['pairs']:,}", number(c["a"], c["unit"]),
                         number(c["b"], c["unit"]), delta(c["delta"], c["low"], c["high"], c["unit"]),
                         str(c["better_pairs"]), str(c["worse_pairs"]), f"{probability(p)}{star}"))
    return table(("task", "pairs", "a", "b", "b - a", "better", "worse", "p "), rows, width)


def by_slice(tag: str, values: dict[str, dict], width: int):
    """The axes' changes by language or domain; positive is better."""
    axes = list(dict.fromkeys(axis for changes in values.values() for axis in changes))
    rows = []
    for value, changes in values.items():
        cells = [changes.get(a) for a in axes]
        shown = [delta(c["value"], c["low"], c["high"], "", digits=2 if c["unit"] == "sd" else 1)
                 + (" sd" if c["unit"] == "sd" else "") if c and c["value"] is not None else "" for c in cells]
        rows += [(value, *shown)] if any(shown) else []
    return table((tag, *axes), rows, width)


def number(value: float | None, unit: str) -> str:
    """0.415 -> 41.5 where it is a share, and 0.415 otherwise; - for None."""
    if value is None:
        return "-"
    return f"{100 * value:.1f}" if unit == "share" else f"{value:.4g}" if abs(value) < 1e5 else f"{value:.2e}"


def delta(value: float | None, low: float | None, high: float | None, unit: str, *, digits: int | None = None) -> str:
    """+3.1 ±1.2"""
    if value is None:
        return "-"
    scale = 100 if unit == "share" else 1
    if abs(value) >= 1e5:
        return f"{value:+.2e}" + ("" if low is None else f" ±{(high - low) / 2:.1e}")
    digits = (1 if unit == "share" or abs(value) >= 10 else 2) if digits is None else digits
    half = "" if low is None else f" ±{scale * (high - low) / 2:.{digits}f}"
    return f"{round(scale * value, digits) + 0.0:+.{digits}f}{half}"


def probability(p: float | None) -> str:
    """0.0213 -> 0.021; what is smaller than a thousandth as such."""
    return "-" if p is None else "<.001" if p < 0.001 else f"{p:.3f}"
