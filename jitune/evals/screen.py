"""What `jitune eval` prints: results in, lines of at most 80 columns out."""

from __future__ import annotations

from jitune.evals.comparison.text import shorten
from jitune.evals.task import AXES

WIDTH = 80


def table(results: dict) -> list[str]:
    """The headline of every task, with its interval, and what could not be scored beside it."""
    lines = []
    for axis in AXES:
        tasks = {name: task for name, task in results["tasks"].items() if task["axis"] == axis}
        if tasks:
            lines += ["", f"{axis:<22} {'headline':<22}{'value':>8} {'95 % interval':>15} {'n':>5}{'none':>6}"]
            lines += [row(name, task) for name, task in tasks.items()]
    if results["skipped"]:
        lines += ["", "skipped"]
        lines += [f"  {line}" for name, why in results["skipped"].items() for line in fold(f"{name}: {why}", WIDTH - 2)]
    if any(task["unscored"] for task in results["tasks"].values()):
        lines += ["", "none: documents without a score, which are in no mean"]
        lines += [line for name, task in results["tasks"].items() if task["failures"]
                  for line in fold(f"  {name}: {reasons(task['failures'])}", WIDTH)]
    cut_off = [f"{name} {task['truncated']} of {task['n']}" for name, task in results["tasks"].items()
               if task.get("truncated")]
    if cut_off:
        lines += ["", *fold(f"cut on the left to fit the context: {', '.join(cut_off)}", WIDTH)]
    engine = results["engine"]
    lines += ["", f"{engine['unique']:,} requests in {results['seconds']:,.0f} s, {engine['compiles']} compiles"]
    if results.get("judge"):
        account = results["judge"]
        told = f"judge {account['model']}: {account['calls']:,} calls, {account['cached']:,} from the cache"
        rest = {"failed": account["failed"], "not asked for the budget": account["not_asked"],
                "cut off": account["cut_off"]}
        told += "".join(f", {count:,} {what}" for what, count in rest.items() if count)
        told += "" if account["cost"] is None else f", cost {account['cost']:.4g}"
        lines += fold(told, WIDTH)
    return lines


def row(name: str, task: dict) -> str:
    """A line of the table."""
    metric = task["headline"]
    x = task["metrics"].get(metric)
    if x is None:
        return f"  {shorten(name, 20):<20} {'-':>30}"
    percent = x["unit"] == "share"
    value = number(x["value"], percent)
    interval = "" if x["low"] is None else f"{number(x['low'], percent)} to {number(x['high'], percent)}"
    counts = f"{task['n']:>5}{task['unscored']:>6}"
    return f"  {shorten(name, 20):<20} {shorten(metric, 21):<22}{value:>8} {interval:>15} {counts}"


def reasons(failures: dict[str, int]) -> str:
    """{"judge": 3} -> "3 judge"; the first word is what failed."""
    return ", ".join(f"{count} {reason}" for reason, count in failures.items())


def number(x: float | None, percent: bool) -> str:
    """0.4321 -> "43.2 %" in percent, else "0.432"; None -> "-"."""
    if x is None:
        return "-"
    return f"{100 * x:.1f}" if percent else f"{x:.3g}"


def fold(text: str, width: int) -> list[str]:
    """A text on lines of at most `width` columns."""
    import textwrap

    return textwrap.wrap(text, width, subsequent_indent="  ")
