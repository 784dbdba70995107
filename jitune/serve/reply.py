"""A request that runs, as a response of the web server: one JSON, or server-sent events as tokens come.

    return reply(running, asked, "chat/completions", "chatcmpl-...", end=loop.time() + 600, timeout=600)

Either ends, and frees its rows, when the client hangs up or `end` has come. A stream's status line waits for its first
token, so that what goes wrong before that has a status of its own; later errors are an event.
"""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

from jitune.generation.detokenize import decode
from jitune.serve import replies
from jitune.serve.engine import BROKEN
from jitune.serve.fields import CHAT, Refused
from jitune.serve.replies import Told
from jitune.serve.row import Piece
from jitune.serve.running import Running, late

LAST_WORD = 2.0  # seconds that a client has to take an error


def reply(running: Running, asked: Mapping[str, Any], path: str, name: str, *, end: float, timeout: float) -> Callable:
    """An ASGI response. name: its id. end: on the loop's clock; timeout: what clients are told of it, in seconds."""
    served = running.served
    told = Told(path, name, int(time.time()), served.name, served.fingerprint)
    answer = _Choices(running, asked, told)

    async def respond(scope, receive, send) -> None:
        work = asyncio.ensure_future(_stream(answer, send) if asked["stream"] else _whole(answer, send))
        watch = asyncio.ensure_future(gone(receive))
        try:
            left = end - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait({work, watch}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                work.cancel()
                await asyncio.wait({work})
                with suppress(TimeoutError):  # a client that reads nothing is not waited for
                    await asyncio.wait_for(_fail(answer, send, late(timeout)), LAST_WORD)
            elif work in done:
                await work
        except Exception:
            running.engine.log(traceback.format_exc())
            await _fail(answer, send, Refused(500, BROKEN, kind="server_error"))
        finally:
            running.close()
            for task in (work, watch):
                task.cancel()

    return respond


async def gone(receive: Callable) -> None:
    """Returns when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


class _Choices:
    """What the pieces of a request's answers become. begun: whether the status line is sent."""

    def __init__(self, running: Running, asked: Mapping[str, Any], told: Told):
        self.running, self.asked, self.told, self.begun = running, asked, told, False
        self.told_tokens, self.heads = [0] * len(running.rows), {}

    def echoed(self, index: int) -> str:
        """The prompt in front of an answer, where it is asked for."""
        if not self.asked.get("echo"):
            return ""
        if index not in self.heads:
            self.heads[index] = decode(self.running.served.tokenizer, self.running.rows[index].ask.prompt)
        return self.heads[index]

    def logprobs(self, index: int, piece: Piece) -> dict | None:
        """Of a piece's tokens; None where they are not asked for."""
        row, asked = self.running.rows[index], self.asked
        if not row.ask.logprobs:
            return None
        spelling = self.running.served.spelling
        if self.told.path == CHAT:
            return replies.chat_logprobs(spelling, piece, asked["top_logprobs"] or 0, row.stop_ids)
        before, self.told_tokens[index] = self.told_tokens[index], self.told_tokens[index] + len(piece.tokens)
        found = replies.completion_logprobs(spelling, piece, asked["logprobs"], row.stop_ids, row.ask.prompt,
                                            row.tokens[:before], len(self.echoed(index)))  # fmt: skip
        if row.scores is None:
            return found
        scores, row.scores = row.scores, None  # told once
        head = replies.prompt_columns(spelling, row.ask.prompt, scores, asked["logprobs"])
        return replies.joined(head, found)

    def usage(self) -> dict[str, int]:
        """Of all answers; a prompt counts once, however many it has."""
        rows, n = self.running.rows, self.asked["n"]
        return replies.usage(sum(len(row.prompt) for row in rows[::n]), sum(len(row.tokens) for row in rows))


async def _whole(answer: _Choices, send: Callable) -> None:
    """All answers in one JSON."""
    path, found = answer.told.path, {}
    try:
        async for index, piece in answer.running:
            text, finish = answer.echoed(index) + piece.text, answer.running.rows[index].finish_reason
            found[index] = replies.choice(path, index, text, answer.logprobs(index, piece), finish)
        body = replies.whole(answer.told, [found[i] for i in sorted(found)], answer.usage())
        await _send_json(answer, send, 200, body)
    except Refused as error:
        await _fail(answer, send, error)


async def _stream(answer: _Choices, send: Callable) -> None:
    """Events as tokens come."""
    try:
        async for event in _events(answer):
            await _begin(answer, send, 200, [(b"content-type", b"text/event-stream; charset=utf-8"),
                                             (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")])
            await send({"type": "http.response.body", "body": b"data: " + _json(event) + b"\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
    except Refused as error:
        await _fail(answer, send, error)


async def _events(answer: _Choices) -> AsyncIterator[dict]:
    told, path, counted = answer.told, answer.told.path, answer.asked["include_usage"]
    seen: set[int] = set()
    async for index, piece in answer.running:
        first = index not in seen
        seen.add(index)
        text = (answer.echoed(index) if first else "") + piece.text
        logprobs = answer.logprobs(index, piece)
        if text or first or logprobs and any(logprobs.values()):
            choice = replies.delta(path, index, text, logprobs, None, first=first)
            yield replies.part(told, [choice], counted=counted)
        if piece.last:
            finish = answer.running.rows[index].finish_reason
            yield replies.part(told, [replies.delta(path, index, "", None, finish, first=False)], counted=counted)
    if counted:
        yield replies.part(told, [], answer.usage(), counted=True)


async def _begin(answer: _Choices, send: Callable, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    """The status line, once."""
    if not answer.begun:
        answer.begun = True
        await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send_json(answer: _Choices, send: Callable, status: int, body: dict, **headers: str) -> None:
    raw = _json(body)
    more = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await _begin(answer, send, status, [(b"content-type", b"application/json"),
                                        (b"content-length", str(len(raw)).encode()), *more])
    await send({"type": "http.response.body", "body": raw})


async def _fail(answer: _Choices, send: Callable, error: Refused) -> None:
    """An error as the reply, or as the last event of a stream that has begun."""
    if not answer.begun:
        await _send_json(answer, send, error.status, error.body, **error.headers)
    elif answer.asked["stream"]:
        await send({"type": "http.response.body", "body": b"data: " + _json(error.body) + b"\n\n"})


def _json(body: dict) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(errors="replace")
