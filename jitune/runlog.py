"""What a run writes while it goes: metrics.jsonl, the progress bar, TensorBoard, W&B, trackio."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jitune.types import UserError

LOGGERS = ("tensorboard", "wandb", "trackio")


def write_atomically(path: Path, text: str) -> None:
    """Writes a small file so that a kill leaves the old one or the new one."""
    draft = path.with_name(path.name + ".partial")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


class JsonLines:
    """Appends one JSON object a line, flushed at once; on opening, lines after `step` are cut off.

    A number that is not finite is written as null, since JSON has no other word for it.
    """

    def __init__(self, path: Path, *, step: int):
        kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
        write_atomically(path, "".join(kept))
        self._file = path.open("a", encoding="utf-8")
        self._last = json.loads(kept[-1]) if kept else {}
        self._start = self._file.tell() - len(kept[-1].encode()) if kept else 0

    def write(self, row: dict[str, Any]) -> None:
        self._start, self._last = self._file.tell(), row
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self._file.write(json.dumps(clean, ensure_ascii=False) + "\n")
        self._file.flush()

    def amend(self, numbers: dict[str, Any]) -> None:
        """Adds numbers to the last line."""
        self._file.truncate(self._start)
        self._file.seek(self._start)
        self.write(self._last | numbers)

    def close(self) -> None:
        self._file.close()


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file up to the first that a kill left unfinished."""
    lines = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                json.loads(line)
            except ValueError:
                break
            if line.endswith("\n"):
                lines.append(line)
    return lines


def parse_loggers(names: str) -> list[str]:
    """"tensorboard,wandb" -> a list. Raises UserError for unknown names and packages that are not here."""
    chosen = [n.strip() for n in names.split(",") if n.strip()]
    for name in chosen:
        if name not in LOGGERS:
            raise UserError(f"config.loggers={names!r}: {name!r} is not known; known are {', '.join(LOGGERS)}")
        package = {"tensorboard": "tensorboardX"}.get(name, name)
        try:
            _import_tensorboard() if name == "tensorboard" else __import__(name)
        except ImportError:
            raise UserError(f"config.loggers={names!r}: the package {package} is not installed") from None
    return chosen


def _import_tensorboard() -> None:
    """Imports tensorboardX without torch, which it imports for seconds where it is there; numbers do not need it."""
    torch = sys.modules.get("torch")
    sys.modules["torch"] = torch  # None: an import of it fails
    try:
        __import__("tensorboardX")
    finally:
        if torch is None:
            del sys.modules["torch"]


def open_loggers(names: list[str], directory: Path, config: dict, step: int, run_id: str) -> list:
    """Returns one `(log(step, numbers), close())` for each named logger.

    step: where the run starts. run_id: what a resumed run shares with the run that it continues, and no other.
    """
    opened = []
    name = config["run_name"] or directory.resolve().name
    for logger in names:
        if logger == "tensorboard":
            opened.append(_open_tensorboard(directory / "tensorboard", step))
        elif logger == "wandb":
            import wandb

            run = wandb.init(project="jitune", name=name, dir=str(directory), config=config, id=run_id, resume="allow")
            opened.append((lambda step, row, run=run: run.log(row, step=step), run.finish))
        else:
            import trackio

            trackio.init(project="jitune", name=f"{name}-{run_id}", config=config, resume="allow")
            opened.append((lambda step, row, trackio=trackio: trackio.log(row, step=step), trackio.finish))
    return opened


def _open_tensorboard(directory: Path, step: int):
    """`(log, close)` of an event file in which steps after `step` begin anew.

    tensorboardX's SummaryWriter writes in a thread; where that fails, on a full disk say, the run would hang.
    """
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary

    directory.mkdir(parents=True, exist_ok=True)
    writer = EventsWriter(str(directory / "events"))
    start = SessionLog(status=SessionLog.SessionStatus.START)
    writer.write_event(Event(wall_time=time.time(), step=step + 1, session_log=start))
    flushed = [0.0]

    def log(step, row):
        values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items()]
        writer.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        if time.monotonic() > flushed[0] + 30:
            writer.flush()
            flushed[0] = time.monotonic()

    return log, writer.close


class Recorder:
    """Turns the metrics of steps, still being computed, into rows of numbers, a few steps late.

    `push` never waits for the step that was just dispatched, so that the devices are kept busy. The newest
    row stays open until the next one, for what is only known later: `extend(eval_loss=...)`.

    check: called with each row, raises where the run must not go on. measure: `(step, numbers, seconds, done) -> more
    numbers` for the row; done is when the step was, on the clock of `time.perf_counter`.
    """

    def __init__(self, lines: JsonLines | None, loggers: list, progress: Progress, check, *, measure=None, lag=2):
        self.lines, self.loggers, self.progress, self.check, self.lag = lines, loggers, progress, check, lag
        self.measure = measure or (lambda *_: {})
        self.pending: deque = deque()
        self.watcher = ThreadPoolExecutor(1)
        self.row: dict[str, Any] = {}
        self.clock = time.perf_counter()

    def push(self, step: int, metrics: Any, learning_rate: float) -> None:
        """Takes the metrics of a step that was dispatched."""
        self.pending.append((step, self.watcher.submit(_fetch, metrics), learning_rate))
        while len(self.pending) > self.lag:
            self._settle()

    def drain(self) -> None:
        """Waits for every step that was pushed."""
        while self.pending:
            self._settle()

    def _settle(self) -> None:
        step, fetched, rate = self.pending.popleft()
        numbers, done = fetched.result()
        seconds, self.clock = done - self.clock, done
        self.flush()
        measured = self.measure(step, numbers, seconds, done)
        self.row = {
            "step": step,
            "loss": numbers.pop("loss"),
            "learning_rate": rate,
            "tokens_per_second": numbers["tokens"] / seconds,
            "step_seconds": seconds,
            "supervised_share": numbers["supervised"] / max(1.0, numbers["tokens"]),
            **numbers,
            **measured,
        }
        self.check(self.row)

    def extend(self, **numbers: float) -> None:
        """Adds numbers to the newest row; the time until now is not counted to the next step."""
        self.row |= numbers
        self.clock = time.perf_counter()

    def amend(self, step: int, **numbers: float) -> None:
        """Adds numbers to the row of this step, the last one, which may be written already."""
        self.flush()
        if self.lines:
            self.lines.amend({"step": step, **numbers})
        for log, _ in self.loggers:
            log(step, numbers)
        self.clock = time.perf_counter()

    def flush(self) -> None:
        """Writes the newest row everywhere."""
        row, self.row = self.row, {}  # one that cannot be written is not tried again
        if row:
            if self.lines:
                self.lines.write(row)
            numbers = {k: v for k, v in row.items() if k != "step"}
            for log, _ in self.loggers:
                log(row["step"], numbers)
            self.progress.update(row)

    def close(self) -> None:
        """Writes what is known and closes every writer; steps still being computed are left out.

        Whatever fails, a writer on a full disk say, the others are closed, and the bar is off the terminal.
        """
        with contextlib.ExitStack() as last_first:
            last_first.callback(self.progress.close)
            if self.lines:
                last_first.callback(self.lines.close)
            for _, close in reversed(self.loggers):
                last_first.callback(close)
            last_first.callback(self.watcher.shutdown, cancel_futures=True)
            self.flush()


def _fetch(metrics):
    """Waits for a step; returns (its numbers, when it was done)."""
    import jax  # not above: what only wants `duration` need not wait for it

    numbers = {name: float(value) for name, value in jax.device_get(metrics).items()}
    return numbers, time.perf_counter()


class Progress:
    """A line at the bottom of a terminal with a bar and the newest numbers; elsewhere plain lines, about twenty."""

    def __init__(self, *, active: bool):
        from rich.console import Console

        # A file gets plain text even where the environment asks for colours.
        plain = None if sys.stderr.isatty() else False
        self.console = Console(stderr=True, highlight=False, quiet=not active, force_terminal=plain)
        self.live, self.total, self.every, self.memory = None, 0, 1, "peak"
        self.done, self.row, self.first = 0, None, None

    def start(self, total: int, done: int, *, memory: str = "peak") -> None:
        """Shows the bar of a run of `total` steps, `done` of which are behind it; memory: see `meter.memory_kind`."""
        from rich.live import Live

        self.total, self.every, self.done, self.memory = total, max(1, total // 20), done, memory
        console = self.console
        if console.is_terminal and not console.is_dumb_terminal and not console.quiet:
            self.live = Live(get_renderable=self._draw, console=console, refresh_per_second=4)
            self.live.start()

    def update(self, row: dict[str, Any]) -> None:
        """Shows a row of metrics."""
        if "eval_loss" in row:
            self.say(f"step {row['step']}: eval loss {row['eval_loss']:.4f}")
        self.done, self.row = row["step"], row
        self.first = self.first or (row["step"], time.perf_counter())
        if not self.live and (row["step"] % self.every == 0 or row["step"] in (1, self.total)):
            self.say("  ".join([f"step {row['step']}/{self.total}", *self._fields()]))

    def _fields(self) -> list[str]:
        if self.row is None:
            return []
        step, began = self.first
        behind = self.done - step
        left = (time.perf_counter() - began) / behind * (self.total - self.done) if behind else None
        return fields(self.row, left, self.memory)

    def _draw(self):
        return status_line(self.done, self.total, self._fields(), self.console)

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        self.console.print(text, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Leaves the bar as it is and the terminal to what comes next."""
        if self.live:
            self.live.stop()
        self.live = None
        sys.stderr.flush()


def fields(row: dict[str, Any], left: float | None, memory: str) -> list[str]:
    """The numbers of a row in words, what matters most first; left: seconds until the end of the run."""
    found = [f"loss {row['loss']:.4f}", f"{short(row['tokens_per_second'])} tok/s"]
    if "margin" in row:
        found[1:1] = [f"margin {row['margin']:.3f}", f"told apart {row['accuracy']:.0%}"]
    if left is not None:
        found.append(f"{duration(left)} left")
    if "mfu" in row:
        found.append(f"MFU {row['mfu']:.0%}" if row["mfu"] >= 0.1 else f"MFU {row['mfu']:.1%}")
    if "memory_bytes" in row:
        found.append(f"{'RSS' if memory == 'resident' else 'peak'} {row['memory_bytes'] / 2**30:.1f}G")
    return [*found, f"trained {row['supervised_share']:.0%}"]


def short(number: float) -> str:
    """99999 -> "99,999", 123456 -> "123k", 1234567 -> "1.23M"."""
    if number < 99_999.5:
        return f"{number:,.0f}"
    return f"{number / 1e3:.0f}k" if number < 999_500 else f"{number / 1e6:.2f}M"


def duration(seconds: float) -> str:
    """59 -> "59s", 754 -> "12m34s", 3723 -> "1h02m", 200000 -> "2d07h"."""
    seconds = round(seconds)
    for size, unit, part, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{unit}{seconds % size // part:02d}{smaller}"
    return f"{seconds}s"


def status_line(done: int, total: int, parts: list[str], console):
    """A rich Text of one line, never wider than the console: "12/100 ━━━━ loss 2.1 ...".

    Parts that do not fit are left out from the right; the bar takes what is left, from four columns on.
    """
    from rich.text import Text

    width = console.width
    head, tail = f"{done}/{total}"[:width], ""
    for part in parts:
        if len(head) + len(tail) + 1 + len(part) > width:
            break
        tail += f" {part}"
    line = Text(head, no_wrap=True, overflow="crop", end="")
    room = width - len(head) - len(tail) - 1
    if room >= 4:
        full = min(room, room * done // max(1, total))
        on, off = ("#", "-") if console.options.ascii_only else ("━", "─")
        line.append(" ").append(on * full, "cyan").append(off * (room - full), "bright_black")
    return line.append(tail)
