"""What clients are sent: answers as OpenAI's API words them, whole or piece by piece.

    told = Told("chat/completions", "chatcmpl-...", created=1700000000, model="base", fingerprint="fp_...")
    whole(told, [choice, ...], usage(5, 3))          # {"object": "chat.completion", ...}
    part(told, choice)                               # {"object": "chat.completion.chunk", ...}
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from jitune.generation.detokenize import BROKEN, CONTEXT, decode
from jitune.generation.prompt_logprobs import PromptLogprobs
from jitune.serve.fields import CHAT
from jitune.serve.row import Piece

LEAST = -9999.0  # what OpenAI's API says of tokens that are ruled out: JSON has no infinity
WINDOW = 16  # tokens that are decoded together to find where one begins
BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Told(NamedTuple):
    """What all parts of one reply have in common. path: how it was asked."""

    path: str
    id: str
    created: int
    model: str
    fingerprint: str


def whole(told: Told, choices: Sequence[dict], used: dict) -> dict[str, Any]:
    """A reply in one."""
    kind = "chat.completion" if told.path == CHAT else "text_completion"
    return {**_head(told, kind), "choices": list(choices), "usage": used}


def part(told: Told, choices: Sequence[dict], used: dict | None = None, *, counted: bool = False) -> dict[str, Any]:
    """A part of a stream. counted: whether the stream ends with its usage, which is null in all parts before."""
    kind = "chat.completion.chunk" if told.path == CHAT else "text_completion"
    return {**_head(told, kind), "choices": list(choices), **({"usage": used} if counted else {})}


def _head(told: Told, kind: str) -> dict[str, Any]:
    return {"id": told.id, "object": kind, "created": told.created, "model": told.model,
            "system_fingerprint": told.fingerprint}  # fmt: skip


def usage(prompt: int, completion: int) -> dict[str, int]:
    """Tokens in and out."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def choice(path: str, index: int, text: str, logprobs: dict | None, finish: str) -> dict[str, Any]:
    """An answer in one."""
    found = {"index": index, "logprobs": logprobs, "finish_reason": finish}
    return found | ({"message": {"role": "assistant", "content": text, "refusal": None}} if path == CHAT
                    else {"text": text})


def delta(path: str, index: int, text: str, logprobs: dict | None, finish: str | None, *, first: bool) -> dict:
    """A piece of an answer. first: of its index; a chat's says whose answer it is."""
    found = {"index": index, "logprobs": logprobs, "finish_reason": finish}
    if path != CHAT:
        return found | {"text": text}
    role = {"role": "assistant"} if first else {}
    return found | {"delta": role | ({"content": text} if text or first else {})}


class Spelling:
    """The bytes that each token of a tokenizer stands for, which need not be whole characters."""

    def __init__(self, tokenizer: Any):
        self.tokenizer, self.added = tokenizer, {*tokenizer.added_tokens_decoder}
        self.byte_level = "ByteLevel" in str(tokenizer.backend_tokenizer.decoder)

    def bytes(self, token: int) -> bytes:
        """Of an id; none of one that is no token."""
        piece = self.tokenizer.convert_ids_to_tokens(token)
        if piece is None or token in self.added:
            return (piece or "").encode()
        table = _byte_level()
        if self.byte_level and all(c in table for c in piece):
            return bytes(table[c] for c in piece)
        if match := BYTE.fullmatch(piece):
            return bytes([int(match[1], 16)])
        return piece.replace("\u2581", " ").encode()

    def text(self, token: int) -> str:
        """As much of a text as a token is."""
        return self.bytes(token).decode(errors="replace")


def chat_logprobs(spelling: Spelling, piece: Piece, top: int, stop_ids) -> dict[str, Any]:
    """Log-probabilities of a piece's tokens, without what ended the answer, each with the `top` likeliest."""
    def entry(token: int, logprob: float) -> dict[str, Any]:
        return {"token": spelling.text(token), "bytes": list(spelling.bytes(token)), "logprob": max(logprob, LEAST)}

    content = [{**entry(token, logprob), "top_logprobs": [entry(*pair) for pair in best[:top]]}
               for token, logprob, best in _each(piece, stop_ids)]  # fmt: skip
    return {"content": content, "refusal": None}


def completion_logprobs(spelling: Spelling, piece: Piece, top: int, stop_ids, prompt: Sequence[int],
                        before: Sequence[int], offset: int = 0) -> dict[str, Any]:  # fmt: skip
    """As `chat_logprobs`, in the form of completions.

    before: the answer's tokens in front of the piece's. offset: characters in front of the answer (an echoed prompt).
    """
    each = _each(piece, stop_ids)
    offset += len(decode(spelling.tokenizer, before, prompt))
    return _columns(spelling, each, top, offset, [*prompt, *before])


def prompt_columns(spelling: Spelling, prompt: Sequence[int], scores: PromptLogprobs, top: int) -> dict[str, Any]:
    """The same of an echoed prompt, whose first token has null for what stands before no other."""
    every = zip(prompt, scores.logprobs, scores.top_logprobs or [None] * len(prompt), strict=True)
    return _columns(spelling, list(every), top, 0, ())


def joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Columns of tokens that follow each other."""
    return {name: None if value is None else value + other[name] for name, value in one.items()}


def _columns(spelling: Spelling, each, top: int, offset: int, before: Sequence[int]) -> dict[str, Any]:
    """OpenAI's columns of (token, logprob, the likeliest); offset: characters of the text before them."""
    found = {"tokens": [spelling.text(token) for token, *_ in each],
             "token_logprobs": [None if logprob is None else max(logprob, LEAST) for _, logprob, _ in each],
             "top_logprobs": None,
             "text_offset": [offset + n for n in begins(spelling.tokenizer, [t for t, *_ in each], before)]}
    if top:  # of tokens that look alike the likelier one stays
        found["top_logprobs"] = [None if best is None else {
            spelling.text(i): max(x, LEAST) for i, x in reversed(best[:top])} for *_, best in each]  # fmt: skip
    return found


def begins(tokenizer: Any, tokens: Sequence[int], before: Sequence[int] = ()) -> list[int]:
    """How many characters of a text, which follows `before`, stand before each of its tokens."""
    found, chars, start, head = [], 0, 0, list(before[-CONTEXT:])
    for i in range(len(tokens)):
        text = decode(tokenizer, tokens[start:i], head)
        found.append(chars + len(text))
        if i - start >= WINDOW and not text.endswith(BROKEN):  # a text of any length is not decoded again and again
            chars, start, head = found[-1], i, list(tokens[max(i - CONTEXT, 0) : i])
    return found


def _each(piece: Piece, stop_ids):
    """(token, logprob, the likeliest) of a piece, without what ended the answer."""
    alternatives = piece.top or [[]] * len(piece.tokens)
    every = zip(piece.tokens, piece.logprobs, alternatives, strict=True)
    return [entry for entry in every if entry[0] not in stop_ids]


@cache
def _byte_level() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for (GPT-2's table): those that can be printed
    stand for themselves, the others, in their order, for 256 and on."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in printed)
    return {chr(byte): byte for byte in printed} | {chr(256 + i): byte for i, byte in enumerate(others)}
