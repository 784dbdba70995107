"""Many questions to an endpoint, several at a time.

    for index, reply in ask_many(endpoint, questions, purse): ...   # Reply, or the reason of a failure as text

The first question goes alone: if nothing listens there, or the key is wrong, one error says so before more is sent.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import NamedTuple

from jitune.evals.judge.endpoint import Endpoint, Failed, Reply, ask
from jitune.evals.judge.purse import Purse, count_tokens
from jitune.types import UserError

# After so many failures in a row nothing more is sent.
IN_A_ROW = 10
BUDGET = "budget"


class Question(NamedTuple):
    """options: where the likeliest first token is asked for, those that count."""

    messages: tuple[tuple[str, str], ...]
    max_tokens: int
    options: tuple[str, ...] = ()


def ask_many(e: Endpoint, questions: Sequence[Question], purse: Purse, *, proven: bool = False
             ) -> Iterator[tuple[int, Reply | str]]:
    """Replies as they come, with the index of their question; a text where there is none, saying why.

    proven: the endpoint has answered before. Raises UserError where no call will work; replies that were under way
    are given before.
    """
    if not questions:
        return
    first = _one(e, questions[0], purse, patient=proven)
    yield 0, first
    good, row, why = proven or isinstance(first, Reply), int(_failed(first)), first if _failed(first) else ""
    stop, trouble = threading.Event(), None
    with ThreadPoolExecutor(e.concurrency) as pool:
        work = _worker(e, purse, stop)
        futures = {pool.submit(work, q): i for i, q in enumerate(questions) if i}
        try:
            for future in as_completed(futures):
                reply = future.result()
                if isinstance(reply, UserError):
                    trouble = trouble or reply
                elif reply is None and not trouble:
                    yield futures[future], f"endpoint: not asked after {IN_A_ROW} failures in a row ({why})"
                elif reply is not None:
                    yield futures[future], reply
                    good, row = good or isinstance(reply, Reply), row + 1 if _failed(reply) else 0
                    why = reply if _failed(reply) else why
                    if row >= IN_A_ROW:
                        stop.set()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    if trouble:
        raise trouble
    if row >= IN_A_ROW and not good:
        raise UserError(f"{e.shown}: {IN_A_ROW} calls failed and none worked; the last: {why}")


def _worker(e: Endpoint, purse: Purse, stop: threading.Event):
    """`(question) -> Reply, reason, UserError, or None where it was not asked`; once stopped, nothing is sent."""
    def sleep(seconds):
        if stop.is_set():
            raise Failed("stopped")
        e.sleep(seconds)

    def work(question: Question):
        try:
            return None if stop.is_set() else _one(replace(e, sleep=sleep), question, purse)
        except UserError as error:
            stop.set()  # before this thread takes the next question
            return error

    return work


def _failed(reply: Reply | str) -> bool:
    return isinstance(reply, str) and reply != BUDGET


def _one(e: Endpoint, question: Question, purse: Purse, *, patient: bool = True) -> Reply | str:
    """One question, if the purse allows; `patient` as in `endpoint.post`."""
    expected = count_tokens(question.messages), 1 if question.options else question.max_tokens
    if not purse.reserve(*expected):
        return BUDGET
    used = None
    try:
        reply = ask(e, question.messages, question.max_tokens, first_token=bool(question.options), patient=patient)
        used = reply.input_tokens, reply.output_tokens
        return reply
    except Failed as error:
        if not patient and not error.reached:
            raise UserError(f"{e.shown}: {error}; is the endpoint running, and the URL right?") from None
        if not patient and error.status == 403:
            raise UserError(f"{e.shown}: refuses the key in {e.key_env}, or the model: {error}") from None
        return f"endpoint: {error}"
    finally:
        purse.settle(*expected, used=used)
