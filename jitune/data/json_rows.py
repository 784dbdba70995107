"""The rows of a `.json` file, one after another, while the file is read: memory holds one row, not the file.

    for value, raw in rows("a.json", [b'[{"q": 1}, {"q": ', b'2}]']):
        value, raw               # ({"q": 1}, '{"q": 1}'), then ({"q": 2}, '{"q": 2}')

The top level is a list, or an object with one list under a key of `LIST_KEYS`. A value that is cut off by the end of
the buffer is decoded again from a buffer twice as long, so the time stays linear in the length of a row.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from jitune.types import UserError

LIST_KEYS = ("data", "train", "rows", "examples", "instances")
CHUNK = 1 << 16  # characters that are decoded at a time, at least
NEAR = 16  # what is cut off is found out at most so far from the end: \uXXXX\uXXXX, -Infinity
SPACE = re.compile(r"[ \t\n\r]*")
DECODER = json.JSONDecoder()


class Text:
    """The text of a file from a position on; it knows the line and the column of all that it holds."""

    def __init__(self, file: str, blocks: Iterable[bytes]):
        self.file, self.blocks = file, iter(blocks)
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.buffer, self.at, self.ended = "", 0, False
        self.line, self.column = 1, 1  # of the buffer's first character
        self.lines, self.tail = 1, 0  # the line of the bytes that come next, and how many bytes of it are decoded
        while not self.buffer and self.more():
            pass
        self.buffer = self.buffer.removeprefix("\ufeff")

    def more(self) -> bool:
        """Drops what lies before `at`, and reads as much again as is left; False at the end of the file."""
        self.line, self.column = self.place(self.at)
        pieces, wanted = [self.buffer[self.at:]], max(CHUNK, len(self.buffer) - self.at)
        while wanted > 0 and not self.ended:
            block = next(self.blocks, b"")
            self.ended = not block
            pieces.append(self._decode(block))
            wanted -= len(block)
        self.buffer, self.at = "".join(pieces), 0
        return not self.ended or any(pieces[1:])

    def _decode(self, block: bytes) -> str:
        try:
            text = self.decoder.decode(block, self.ended)
        except UnicodeDecodeError as error:
            data, first = error.object, self.lines == 1 and not self.tail
            before, broken = data[:error.start], data.rfind(b"\n", 0, error.start)
            at = error.start - broken if broken >= 0 else self.tail + error.start + 1
            raise UserError(not_utf8(self.file, self.lines + before.count(b"\n"), data[error.start], at,
                                     data if first else b"")) from error
        if "\n" in text:
            self.lines, self.tail = self.lines + text.count("\n"), len(text[text.rfind("\n") + 1:].encode())
        else:
            self.tail += len(text.encode())
        return text

    def place(self, at: int) -> tuple[int, int]:
        """(line, column) of a position in the buffer, both counted from 1."""
        breaks = self.buffer.count("\n", 0, at)
        return self.line + breaks, at - self.buffer.rfind("\n", 0, at) if breaks else self.column + at

    def error(self, what: str, at: int) -> UserError:
        line, column = self.place(at)
        return UserError(f"{self.file}:{line}:{column}: not valid JSON: {what}")

    def peek(self) -> str:
        """Skips white space; returns the next character, or "" at the end."""
        while True:
            self.at = SPACE.match(self.buffer, self.at).end()
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self.more():
                return ""

    def take(self, wanted: str, what: str) -> None:
        """Steps over a character that must come next."""
        if self.peek() != wanted:
            raise self.error(what, self.at)
        self.at += 1

    def value(self) -> tuple[Any, str]:
        """The JSON value that comes next, and its text."""
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self.buffer, self.at)
                if end + 2 < len(self.buffer) or self.ended:  # else it might be a number that goes on: 1|e+|5
                    raw, self.at = self.buffer[self.at:end], end
                    return value, raw
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self.buffer) - NEAR
                if self.ended or not cut:
                    raise self.error(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:
                raise UserError(f"{self.file}: not valid JSON: {error}") from error
            self.more()


def not_utf8(file: str, line: int, byte: int, at: int, start: bytes) -> str:
    """What is said of a byte that is not UTF-8; `start`: how the file begins, as far as it is known."""
    hint = "; the file looks like UTF-16, save it as UTF-8" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else ""
    return f"{file}:{line}: not valid UTF-8: byte 0x{byte:02x} at position {at} of line {line}{hint}"


def rows(file: str, blocks: Iterable[bytes]) -> Iterator[tuple[Any, str]]:
    """Yields every item of the list, whatever it is, with its text.

    Raises:
      UserError: `file:line:column: not valid JSON: ...`, or there is no list of rows; after the rows before it.
    """
    text = Text(file, blocks)
    first = text.peek()
    if first == "[":
        yield from _items(text)
    elif first == "{":
        yield from _rows_of_object(text)
    elif first:
        value, _ = text.value()
        _end(text)
        raise UserError(f"{file}: the top level is {json.dumps(value)[:60]}; expected a list of objects")
    _end(text)


def _end(text: Text) -> None:
    if text.peek():
        raise text.error("Extra data", text.at)


def _items(text: Text) -> Iterator[tuple[Any, str]]:
    """The items of the list that `text` stands in front of."""
    text.at += 1
    if text.peek() == "]":
        text.at += 1
        return
    while True:
        yield text.value()
        if text.peek() == "]":
            text.at += 1
            return
        text.take(",", "Expecting ',' delimiter")


def _rows_of_object(text: Text) -> Iterator[tuple[Any, str]]:
    """The items of the one list in an object; whether it is the only one is known at the end."""
    keys, lists = {}, []
    text.at += 1
    while keys or text.peek() != "}":
        if text.peek() != '"':
            raise text.error("Expecting property name enclosed in double quotes", text.at)
        key = text.value()[0]
        keys[key] = None
        text.take(":", "Expecting ':' delimiter")
        if text.peek() == "[":
            lists.append(key)
            wanted = lists == [key] and key in LIST_KEYS
            yield from (item for item in _items(text) if wanted)
        else:
            text.value()
        if text.peek() == "}":
            break
        text.take(",", "Expecting ',' delimiter")
    text.at += 1
    _end(text)
    if len(lists) != 1 or lists[0] not in LIST_KEYS:
        raise UserError(f"{text.file}: the top level is an object with keys {list(keys)[:10]}; expected a "
                        f"list of objects, or an object with one list under {', '.join(LIST_KEYS)}")
