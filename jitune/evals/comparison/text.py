"""A comparison as text of 80 columns: the dict of `compare` in, printed tables out.

    print_comparison(console, compare("eval/base", "eval/tuned"))

Shares are in percent, and their deltas in points. A delta is b - a with the half of its 95 % interval; `better` and
`worse` count documents; p is Holm's over the tasks' headlines, and a * stands where it is below 0.05.
"""

from __future__ import annotations

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
        console.print(headlines(tasks))
    for tag, title in TAGS.items():
        if len(found["slices"][tag]) > 1:
            console.print(f"\n{title}: change in points, positive is better", style="bold")
            console.print(by_slice(tag, found["slices"][tag]))
    notes = [(n, m, c["note"]) for n, t in found["tasks"].items() for m, c in t["metrics"].items() if c["note"]]
    if notes:
        console.print()
    for name, metric, note in notes:
        console.print(f"{name}, {metric}: {note}")
    console.print(f"\n{found['verdict']}")


def table(*columns: str):
    """A table without lines; a column whose name begins with > is of numbers; the first one gives way."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="dim")
    for place, name in enumerate(columns):
        made.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", no_wrap=True,
                        overflow="ellipsis", min_width=0 if place == 0 else len(name.removeprefix(">")))
    return made


def headlines(tasks: dict[str, dict]):
    """The headline of each task of an axis, and its other metrics below it, set in."""
    made = table("task", ">pairs", ">a", ">b", ">b - a", ">better", ">worse", ">p")
    for name, task in tasks.items():
        for metric, c in task["metrics"].items():
            first = metric == task["headline"]
            p = c["p_holm"] if first else c["p"]
            star = "*" if first and p is not None and p < 0.05 else " "
            made.add_row(f"{name}: {metric}" if first else f"  {metric}", f"{c['pairs']:,}", number(c["a"], c["unit"]),
                         number(c["b"], c["unit"]), delta(c["delta"], c["low"], c["high"], c["unit"]),
                         str(c["better_pairs"]), str(c["worse_pairs"]), f"{probability(p)}{star}")
    return made


def by_slice(tag: str, values: dict[str, dict]):
    """The axes' changes by language or domain; positive is better."""
    axes = list(dict.fromkeys(axis for changes in values.values() for axis in changes))
    made = table(tag, *(f">{a}" for a in axes))
    for value, changes in values.items():
        cells = [changes.get(a) for a in axes]
        made.add_row(value, *(delta(c["value"], c["low"], c["high"], "") + (" sd" if c["unit"] == "sd" else "")
                              if c and c["value"] is not None else "" for c in cells))
    return made


def number(value: float | None, unit: str) -> str:
    """0.415 -> 41.5 where it is a share, and 0.415 otherwise; - for None."""
    return "-" if value is None else f"{100 * value:.1f}" if unit == "share" else f"{value:.4g}"


def delta(value: float | None, low: float | None, high: float | None, unit: str) -> str:
    """+3.1 ±1.2"""
    if value is None:
        return "-"
    scale = 100 if unit == "share" else 1
    digits = 1 if unit == "share" or abs(value) >= 10 else 2
    half = "" if low is None else f" ±{scale * (high - low) / 2:.{digits}f}"
    return f"{round(scale * value, digits) + 0.0:+.{digits}f}{half}"


def probability(p: float | None) -> str:
    """0.0213 -> 0.021; what is smaller than a thousandth as such."""
    return "-" if p is None else "<.001" if p < 0.001 else f"{p:.3f}"
