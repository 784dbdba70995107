"""Many calls to an endpoint, several at a time.

    source = Remote(endpoint)
    source.ask(calls, purse, keep, tell)     # tell(index, Reply or Lost) as they come; keep(index, Reply) before

The first call goes alone: if nothing listens there, or the key is wrong, one error says so before more is sent. What
is answered is kept by the thread that asked, so that a run that is stopped loses none of it: it waits for the calls
that are under way, and says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import islice
from typing import Any

from jitune.generators import wire
from jitune.generators.call import Call, Lost, Reply, digest
from jitune.generators.endpoint import Endpoint, Failed
from jitune.generators.purse import Purse
from jitune.types import UserError

# After so many failures in a row nothing more is sent.
IN_A_ROW = 10
AHEAD = 4  # calls that are handed to each thread; a job of 100,000s is not handed over at once


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
        stop = threading.Event()
        work = _worker(self.endpoint, purse, stop, keep)
        first = work(0, calls[0], proven)
        if isinstance(first, UserError):
            raise first
        tell(0, first)
        told = _Told(tell, first, proven)
        with ThreadPoolExecutor(self.endpoint.concurrency) as pool:
            rest, under_way = iter(range(1, len(calls))), {}
            try:
                while True:
                    for i in islice(rest, AHEAD * self.endpoint.concurrency - len(under_way)):
                        under_way[pool.submit(work, i, calls[i], True)] = i
                    if not under_way:
                        break
                    done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in sorted(done, key=under_way.get):
                        told.take(under_way.pop(future), future.result())
                    if told.row >= IN_A_ROW:
                        stop.set()
            except KeyboardInterrupt:
                if self.say and (count := sum(future.running() for future in under_way)):
                    self.say(f"{count} calls are under way and may be paid for: their answers are waited for, "
                             f"{self.endpoint.timeout:g} s at most")
                raise
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)
        told.finish(self.endpoint)


class _Told:
    """What came back so far: row is how many calls failed in a row, good whether any worked."""

    def __init__(self, tell, first: Reply | Lost, proven: bool):
        self.tell, self.trouble, self.why = tell, None, ""
        self.good, self.row = proven or isinstance(first, Reply), 0
        self._count(first)

    def take(self, i: int, reply) -> None:
        """What a worker gave: a reply, an error that stops all, or None where it did not ask."""
        if isinstance(reply, UserError):
            self.trouble = self.trouble or reply
        elif reply is None and not self.trouble:
            self.tell(i, Lost("failed", f"not asked after {IN_A_ROW} failures in a row ({self.why})"))
        elif reply is not None:
            self.tell(i, reply)
            self._count(reply)

    def finish(self, e: Endpoint) -> None:
        """Raises UserError where nothing will work."""
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
    """`(index, call, patient) -> Reply, Lost, UserError, or None where it was not asked`; once stopped, nothing is
    sent."""
    def sleep(seconds: float) -> bool:
        if not stop.is_set():
            purse.tried_again()
            stop.wait(seconds) if e.sleep is time.sleep else e.sleep(seconds)
        return stop.is_set()

    def work(i: int, call: Call, patient: bool):
        try:
            reply = None if stop.is_set() else _one(replace(e, sleep=sleep), call, purse, stop, patient)
        except UserError as error:
            stop.set()  # before this thread takes the next call
            return error
        if isinstance(reply, Reply):
            keep(i, reply)
        return reply

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
