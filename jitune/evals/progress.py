"""Progress bars of an evaluation, with the time left; on a terminal one line each, elsewhere a line now and then.

    with Bars(shown=True) as bars, bars.bar("scoring", 800) as advance:
        advance(8)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from jitune.runlog import duration

EVERY = 30.0  # seconds between lines, where there is no terminal


class Bars(AbstractContextManager):
    """Bars on standard error, one below the other."""

    def __init__(self, *, shown: bool):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        plain = None if sys.stderr.isatty() else False
        self.console = Console(stderr=True, highlight=False, quiet=not shown, force_terminal=plain)
        self.live = shown and self.console.is_terminal and not self.console.is_dumb_terminal
        columns = (TextColumn("{task.description:<12}"), BarColumn(bar_width=32),
                   TextColumn("{task.fields[of]}"), TimeRemainingColumn(elapsed_when_finished=True))  # fmt: skip
        self.progress = Progress(*columns, console=self.console, disable=not self.live)

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(self, *_) -> None:
        self.progress.stop()

    @contextmanager
    def bar(self, name: str, total: int, *, size: bool = False) -> Iterator[Callable[[int], None]]:
        """A bar of `total` items, or bytes where it is a `size`; gives the function that advances it.

        That may be told, besides how many, a `note` to show behind, such as "1,200 records".
        """
        from rich.filesize import decimal

        shown = decimal if size else "{:,}".format
        if not total:
            yield lambda count, note="": None
            return
        task, began, done, told = self.progress.add_task(name, total=total, of=""), time.perf_counter(), 0, 0.0

        def advance(count: int, note: str = "") -> None:
            nonlocal done, told
            done += count
            note = f", {note}" if note else ""
            self.progress.update(task, advance=count, of=f"{shown(done)} of {shown(total)}{note}")
            spent = time.perf_counter() - began
            if not self.live and done < total and spent - told >= EVERY:
                told = spent
                left = f", {duration(spent / done * (total - done))} left" if done else ""
                self.say(f"{name}: {shown(done)} of {shown(total)}{note}{left}")

        yield advance
        if not self.live:
            of = "" if done >= total else f" of {shown(total)}"
            self.say(f"{name}: {shown(done)}{of} in {duration(time.perf_counter() - began)}")

    def say(self, text: str) -> None:
        """Prints a line above the bars."""
        self.console.print(text, markup=False, soft_wrap=True)
