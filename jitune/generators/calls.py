"""Many calls to an endpoint, several at a time.

    source = Remote(endpoint)
    source.ask(calls, purse, keep, tell)     # tell(index, Reply or Lost) as they come; keep(index, Reply) before

The first call goes alone: if nothing listens there, or the key is wrong, one error says so before more is sent. What
is answered is kept by the thread that asked, so that a run that is stopped loses none of it: it waits for the calls
that are under way, and says so. Stopped once more it waits no longer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from jitune.generators import wire
from jitune.generators.call import Call, Lost, Reply, digest
from jitune.generators.endpoint import Endpoint, Failed
from jitune.generators.purse import Purse
from jitune.types import UserError

# After so many failures in a row nothing more is sent.
IN_A_ROW = 10


class Remote:
    """An endpoint as a source of answers; see `cached.Cached`. say: told what an interrupted run still waits for."""

    shared = False

    def __init__(self, endpoint: Endpoint, *, say: Callable[[str], None] | None = None):
        self.endpoint, self.raw, self.say = endpoint, endpoint.api == "completion", say
        # What a plain chat endpoint is known by has stayed the same: kept answers hold.
        self.identity: dict[str, Any] = {"kind": "endpoint", "model": endpoint.model, "base_url": endpoint.shown}
        if endpoint.api != "chat":
            self.identity["api"] = endpoint.api
        if endpoint.parameters:
            self.identity["parameters"] = dict(endpoint.parameters)
        if endpoint.chat_template:
            self.identity["chat_template"] = digest(endpoint.chat_template)

    def check(self, call: Call) -> None:
        """Raises UserError for a call that the API cannot take."""
        wire.check(self.endpoint, call)

    def ask(self, calls: Sequence[Call], purse: Purse, keep: Callable[[int, Reply], None],
            tell: Callable[[int, Reply | Lost], None], proven: bool = False) -> None:
        """Calls `tell(index, reply)` once a call, in this thread, and `keep` before, in any.

        proven: the endpoint has answered before. Raises UserError where no call will work; replies that were under way
        are told before.
        """
        if not calls:
            return
        stop, done, told, threads = threading.Event(), SimpleQueue(), _Told(tell, proven), []
        work, waits = _worker(self.endpoint, purse, stop, keep), True

        def begin(count: int, numbers: Iterator[int], patient: bool) -> None:
            def serve() -> None:
                for i in numbers:
                    done.put((i, work(i, calls[i], patient)))

            for _ in range(count):  # daemons: no exit waits for them
                thread = threading.Thread(target=serve, daemon=True)
                thread.start()
                threads.append(thread)

        try:
            begin(1, iter([0]), proven)
            told.take(*done.get())
            rest = 0 if told.trouble else len(calls) - 1
            begin(min(rest, self.endpoint.concurrency), iter(range(1, len(calls))), True)
            for _ in range(rest):
                told.take(*done.get())
                if told.row >= IN_A_ROW:
                    stop.set()
        except KeyboardInterrupt:
            waits = False  # but here, where another one is heard
            stop.set()
            if self.say and (count := sum(thread.is_alive() for thread in threads)):
                self.say(f"{count} calls are under way and may be paid for: their answers are waited for, "
                         f"{self.endpoint.timeout:g} s at most; once more ends it at once")
            for thread in threads:
                thread.join()
            raise
        finally:
            stop.set()
            for thread in threads if waits else ():
                thread.join()
        told.finish(self.endpoint)


class _Told:
    """What came back so far: row is how many calls failed in a row, good whether any worked, trouble what stops all."""

    def __init__(self, tell, proven: bool):
        self.tell, self.trouble, self.why, self.good, self.row = tell, None, "", proven, 0

    def take(self, i: int, reply) -> None:
        """What a worker gave: a reply, an error that stops all, or None where it did not ask."""
        if isinstance(reply, Exception):
            self.trouble = self.trouble or reply
        elif reply is None and not self.trouble:
            self.tell(i, Lost("failed", f"not asked after {IN_A_ROW} failures in a row ({self.why})"))
        elif reply is not None:
            self.tell(i, reply)
            self._count(reply)

    def finish(self, e: Endpoint) -> None:
        """Raises what stopped all, or UserError where nothing will work."""
        if self.trouble:
            raise self.trouble
        if self.row >= IN_A_ROW and not self.good:
            raise UserError(f"{e.shown}: {IN_A_ROW} calls failed and none worked; the last: {self.why}")

    def _count(self, reply: Reply | Lost) -> None:
        """What the budget, a filter or the length stops says nothing of the endpoint."""
        failed = isinstance(reply, Lost) and reply.reason == "failed"
        self.good = self.good or isinstance(reply, Reply)
        self.row = self.row + 1 if failed else 0
        self.why = reply.detail if failed else self.why


def _worker(e: Endpoint, purse: Purse, stop: threading.Event, keep):
    """`(index, call, patient) -> Reply, Lost, an error, or None where it was not asked`; once stopped, nothing is
    sent."""
    def sleep(seconds: float) -> bool:
        if not stop.is_set():
            purse.tried_again()
            stop.wait(seconds) if e.sleep is time.sleep else e.sleep(seconds)
        return stop.is_set()

    def work(i: int, call: Call, patient: bool):
        try:
            reply = None if stop.is_set() else _one(replace(e, sleep=sleep), call, purse, stop, patient)
            if isinstance(reply, Reply):
                keep(i, reply)
            return reply
        except Exception as error:  # such as a UserError, or a disk that is full; raised by whom it is told
            stop.set()  # before this thread takes the next call
            return error

    return work


def _one(e: Endpoint, call: Call, purse: Purse, stop: threading.Event, patient: bool) -> Reply | Lost | None:
    """One call, if the purse allows; `patient` as in `endpoint.post`."""
    most = purse.expected(call)
    if not purse.reserve(*most):
        return Lost("budget")
    used = None
    try:
        if stop.is_set():  # while it waited for the purse
            return None
        reply = wire.ask(e, call, patient=patient)
        used = reply.input_tokens, reply.output_tokens
        return reply
    except Failed as error:
        used = error.used
        if not patient and not error.reached:
            raise UserError(f"{e.shown}: {error}; is the endpoint running, and the URL right?") from None
        if not patient and error.status == 403 and error.kind == "failed":
            raise UserError(f"{e.shown}: refuses the key in {e.key_env}, or the model: {error}") from None
        return Lost(error.kind, str(error))
    finally:
        purse.settle(*most, used=used)
