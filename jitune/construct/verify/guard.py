"""Verifiers that cannot stop a run: one that raises, hangs or dies gives `Checked(None, reason)`.

    with Apart("my_checks:verify", {}, seconds=10, workers=2) as verify:
        verify(record, text)                   # Checked(None, "no verdict within 10 s")
        verify.check_all([(record, text)])     # in order, two at a time

`Here` calls a verifier of jitune's own in this process. `Apart` calls one of the user's in processes of its own: a
process that gives no verdict in time is killed with all that it started, and replaced.
"""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jitune.construct.verify.verifier import Checked, Verifier
from jitune.construct.verify.worker import judge, told
from jitune.data.record import Record
from jitune.data.record_rows import to_row
from jitune.types import UserError

START = 120.0  # seconds in which a process must have loaded its verifier
BOOT = ("import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
        "from jitune.construct.verify.worker import main; main()")

Pairs = Sequence[tuple[Record, str]]


def check_all(verify: Verifier, pairs: Pairs, *, on_done: Callable[[int], None] | None = None) -> list[Checked]:
    """Verdicts of any verifier in order; one that raises gives None with the error. on_done: told how many are done."""
    if isinstance(verify, (Here, Apart)):
        return verify.check_all(pairs, on_done=on_done)
    return _in_order(lambda record, text: judge(verify, record, text), pairs, 1, on_done)


class Here:
    """A verifier in this process; `workers` at a time, which helps one that waits for a process of its own."""

    def __init__(self, verify: Verifier, *, workers: int = 1):
        self.verify, self.workers = verify, workers

    def __call__(self, record: Record, text: str) -> Checked:
        return judge(self.verify, record, text)

    def check_all(self, pairs: Pairs, *, on_done: Callable[[int], None] | None = None) -> list[Checked]:
        """Verdicts in order."""
        return _in_order(self, pairs, self.workers, on_done)

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()


class Apart:
    """A verifier `module:function` in processes of its own.

    Args:
      target: the verifier, or with `build` what makes it of its options.
      options: given by name; values as JSON has them.
      seconds: of one verdict. workers: processes at most.

    Raises:
      UserError: the verifier cannot be loaded.
    """

    def __init__(self, target: str, options: Mapping[str, Any], *, seconds: float, workers: int = 1,
                 build: bool = False):  # fmt: skip
        if target.startswith("__main__:"):
            raise UserError(f"verifier {target}: other processes have another __main__; put it into a module")
        self.target, self.seconds, self.workers = target, seconds, workers
        try:
            words = (target, json.dumps(dict(options)), str(int(build)), str(seconds))
        except (TypeError, ValueError) as error:
            raise UserError(f"verifier {target}: its options are no JSON: {error}") from error
        self.command = [sys.executable, "-c", BOOT, json.dumps(sys.path), *words]
        # A place is a process that waits, or None where one is yet to be started.
        self.places: queue.LifoQueue = queue.LifoQueue()
        for _ in range(workers - 1):
            self.places.put(None)
        self.places.put(_Process(self.command, target))

    def __call__(self, record: Record, text: str) -> Checked:
        try:
            line = json.dumps({"record": to_row(record), "text": text}).encode() + b"\n"
        except (TypeError, ValueError, UserError) as error:
            return Checked(None, told(error))
        process, left = self.places.get(), None
        try:
            process = process or _Process(self.command, self.target)
            said, good = process.ask(line, self.seconds)
            left = process if good else None
            return said
        finally:
            if left is None and process is not None:
                process.end()
            self.places.put(left)

    def check_all(self, pairs: Pairs, *, on_done: Callable[[int], None] | None = None) -> list[Checked]:
        """Verdicts in order."""
        return _in_order(self, pairs, self.workers, on_done)

    def close(self) -> None:
        """Ends the processes; a call behind it would start one anew."""
        for process in [self.places.get() for _ in range(self.workers)]:
            if process is not None:
                process.end()
            self.places.put(None)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()


Guarded = Here | Apart


class _Process:
    """One worker."""

    def __init__(self, command: Sequence[str], target: str):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.rest = b""
        line = self._line(time.monotonic() + START)
        error = json.loads(line)["error"] if line else (
            f"not loaded within {START:g} s" if line is None else f"its process {self.ended()}")
        if error:
            self.end()
            raise UserError(f"verifier {target}: cannot be loaded: {error}")

    def ask(self, line: bytes, seconds: float) -> tuple[Checked, bool]:
        """The verdict, and whether the process is good for another one."""
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead: it has no answer either
        found = self._line(time.monotonic() + seconds)
        if found:
            said = json.loads(found)
            return Checked(said["right"], said["detail"]), True
        reason = f"no verdict within {seconds:g} s" if found is None else f"the verifier's process {self.ended()}"
        return Checked(None, reason), False

    def _line(self, deadline: float) -> bytes | None:
        """A line; b"" where the process ended; None where the time is over."""
        reader, poll = self.process.stdout.fileno(), select.poll()
        poll.register(reader, select.POLLIN)
        while b"\n" not in self.rest:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                return None
            more = os.read(reader, 1 << 16)
            if not more:
                return b""
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    def ended(self) -> str:
        """How the process ended."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "closed its output"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"

    def end(self) -> None:
        """Kills it and all that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            try:
                stream.close()
            except BrokenPipeError:
                pass


def _in_order(check: Verifier, pairs: Pairs, workers: int, on_done: Callable[[int], None] | None) -> list[Checked]:
    found = []
    if workers == 1 or len(pairs) < 2:
        for pair in pairs:
            found.append(check(*pair))
            if on_done:
                on_done(len(found))
        return found
    pool = ThreadPoolExecutor(workers)
    try:
        for checked in pool.map(lambda pair: check(*pair), pairs):
            found.append(checked)
            if on_done:
                on_done(len(found))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return found
