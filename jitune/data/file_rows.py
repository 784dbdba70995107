"""The rows of one text file, one after another, and what is wrong with those that are none.

    with opened("a.jsonl") as (raw, stream):
        for item in text_rows("a.jsonl", stream, give=True):
            item                 # (1, {"q": "x"}), then Bad("a.jsonl", 2, "json", "not valid JSON: ...", "{")

With `give` a malformed row is a `Bad` in its place, and the rows behind it are read; without, it is a UserError. A
list that is not valid JSON, a quote that is never closed and a broken gzip file are errors in any case, since nobody
can tell where the next row begins.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import chain
from typing import IO, Any, NamedTuple

from jitune.data import json_rows
from jitune.data.json_rows import not_utf8
from jitune.types import UserError

PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")
BLOCK = 1 << 16  # bytes read at a time
LOOK = 1 << 22  # bytes of a first line that are looked at, to tell JSON lines from one object
FIELD = 1 << 28  # characters of a field: where more come, a quote was left open
HALF = re.compile("[\ud800-\udfff]")
ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")  # how JSON writes one; pairs match too, which are good


class Bad(NamedTuple):
    """A row that cannot be used.

    file, number: where it stands; the number as for good rows.
    reason: one word, under which such rows are counted: json, object, fields, record, encoding, surrogate.
    detail: what is wrong, for people to read.
    raw: the row as it was, as text; bytes that are no text are written as \\xNN.
    fault: it is broken; False where a reader leaves it out on purpose, such as a tie.
    """

    file: str
    number: int
    reason: str
    detail: str
    raw: str
    fault: bool = True

    @property
    def message(self) -> str:
        """`file:row: what is wrong`."""
        return f"{self.file}:{self.number}: {self.detail}"


Item = tuple[int, Any] | Bad


def extension(path: str) -> str:
    """The extension in lower case; for `.gz` the one before it."""
    return os.path.splitext(path.lower().removesuffix(".gz"))[1]


def check_kind(file: str) -> None:
    """Refuses files that cannot be read, and those that would run code."""
    kind = extension(file)
    if kind in PICKLES:
        raise UserError(f"{file}: refused: {kind} files can hold pickles, which run code when opened; "
                        "convert the data to .jsonl or .parquet")
    if kind not in SUPPORTED:
        raise UserError(f"{file}: cannot read this kind of file; supported are {', '.join(SUPPORTED)}")


@contextmanager
def opened(file: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """(the file, its bytes less gzip); errors of reading inside the block are UserErrors that name the file."""
    try:
        zipped = file.lower().endswith(".gz")
        with open(file, "rb") as raw, gzip.open(raw) if zipped else nullcontext(raw) as stream:
            yield raw, stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{file}: not a valid gzip file: {error}") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or first_line(error)}") from error


def text_rows(file: str, stream: IO[bytes], *, give: bool) -> Iterator[Item]:
    """Yields (number, row) of an open text file; with `give` also `Bad`, and then also for halves of surrogate pairs.

    Raises:
      UserError: `file: ...` or `file:row: ...`.
    """
    for item in READERS[extension(file)](file, stream, give):
        if not isinstance(item, Bad) and not isinstance(item[1], dict):
            item = Bad(file, item[0], "object", f"expected an object, got {json.dumps(item[1])[:60]}",
                       json.dumps(item[1]))
        if isinstance(item, Bad) and not give:
            raise UserError(item.message)
        yield item


def has_half_pair(value: Any) -> bool:
    """Whether a text anywhere in a JSON value holds half of a surrogate pair."""
    if isinstance(value, str):
        return not value.isascii() and HALF.search(value) is not None
    if isinstance(value, dict):
        return any(has_half_pair(key) or has_half_pair(item) for key, item in value.items())
    return isinstance(value, list) and any(map(has_half_pair, value))


def decode(file: str, data: bytes, line: int = 1) -> str:
    """UTF-8 to text, less a byte order mark; `line` is the number of the first line of `data`."""
    try:
        return data.decode("utf-8").removeprefix("\ufeff" if line == 1 else "")
    except UnicodeDecodeError as error:
        at = error.start - data.rfind(b"\n", 0, error.start)
        broken = line + data.count(b"\n", 0, error.start)
        raise UserError(not_utf8(file, broken, data[error.start], at, data)) from error


def first_line(error: Exception) -> str:
    """The first line of what a library says."""
    return (str(error).splitlines() or [type(error).__name__])[0]


# A reader of one kind of file gives items in the order of the file.
def _read_lines(file: str, lines: Iterable[bytes], give: bool) -> Iterator[Item]:
    for number, line in enumerate(lines, 1):
        try:
            text = decode(file, line, number)
        except UserError as error:
            yield Bad(file, number, "encoding", _without_place(error, file, number), _escaped(line))
            continue
        try:
            if text.strip():
                yield _checked(file, number, json.loads(text.rstrip()), text, give)
        except (ValueError, RecursionError) as error:
            what = f"column {error.colno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else error
            hint = "; a list of objects belongs in a .json file" if text.lstrip().startswith("[") else ""
            yield Bad(file, number, "json", f"not valid JSON: {what}{hint}", text.rstrip("\r\n"))


def _read_json(file: str, stream: IO[bytes], give: bool) -> Iterator[Item]:
    # Many published `.json` files hold one object a line: the first line is an object, and another line comes.
    head, objects = [], 0
    while line := stream.readline(BLOCK):
        head.append(line)
        start = line.strip(b"\xef\xbb\xbf \t\r\n")
        if not start:
            continue
        if objects or start.startswith(b"{"):
            head[-1] += b"" if line.endswith(b"\n") else stream.readline(-1 if objects else LOOK)
        if objects:
            yield from _read_lines(file, chain(head, stream), give)
            return
        if not _is_object(head[-1]):
            break
        objects = 1
    blocks = chain(head, iter(partial(stream.read, BLOCK), b""))
    for number, (value, raw) in enumerate(json_rows.rows(file, blocks), 1):
        yield _checked(file, number, value, raw, give)


def _is_object(line: bytes) -> bool:
    if len(line) >= LOOK:
        return False
    try:
        return isinstance(json.loads(line.removeprefix(b"\xef\xbb\xbf")), dict)
    except (ValueError, RecursionError):
        return False


def _checked(file: str, number: int, value: Any, raw: str, give: bool) -> Item:
    if give and ESCAPED.search(raw) and has_half_pair(value):
        return Bad(file, number, "surrogate", "holds half of a surrogate pair, as of an emoji that was cut in two",
                   raw.strip())
    return number, value


def _read_table(file: str, stream: IO[bytes], give: bool, *, delimiter: str = ",") -> Iterator[Item]:
    csv.field_size_limit(FIELD)
    taken, torn = [], []  # the lines of the record at hand, and what is wrong with their encoding
    # strict: an unclosed quote would otherwise swallow the rest of the file in silence.
    reader = csv.reader(_table_lines(file, stream, give, taken, torn), delimiter=delimiter, strict=True)
    header, number = None, 0
    while True:
        taken.clear(), torn.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number, what = number + 1, f"broken record, line {reader.line_num}: {error}"
            item = Bad(file, number, "record", what, "".join(taken))
            if header is None or "unexpected end" in str(error) or "field limit" in str(error):
                raise UserError(item.message) from error
            yield item
            continue
        if header is None and cells:
            header = _header(file, cells, torn)
        elif cells:
            number += 1
            yield _record(file, number, header, cells, "".join(taken) if give else "", torn, reader.line_num)


def _header(file: str, cells: list[str], torn: list) -> list[str]:
    for line, what in torn:
        raise UserError(f"{file}:{line}: {what}")
    if len(set(cells)) != len(cells):
        raise UserError(f"{file}: the header names a column twice: {cells}")
    return cells


def _record(file: str, number: int, header: list[str], cells: list[str], raw: str, torn: list, line: int) -> Item:
    if torn:
        return Bad(file, number, "encoding", torn[0][1], _escaped(raw.encode("utf-8", "surrogateescape")))
    if len(cells) != len(header):
        return Bad(file, number, "fields", f"{len(cells)} fields (the record ends in line {line}); the header has "
                   f"{len(header)}: {header}", raw)  # fmt: skip
    return number, dict(zip(header, cells, strict=True))


def _table_lines(file: str, stream: IO[bytes], give: bool, taken: list, torn: list) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        try:
            text = decode(file, line, number)
        except UserError as error:
            if not give:
                raise
            torn.append((number, _without_place(error, file, number)))
            text = line.decode("utf-8", "surrogateescape")
        # A lone carriage return ends a line too.
        for piece in io.StringIO(text, newline="") if "\r" in text.rstrip("\r\n") else (text,):
            taken.append(piece)
            yield piece


def _read_text(file: str, stream: IO[bytes], give: bool) -> Iterator[Item]:
    text = decode(file, stream.read())
    if text.strip():
        yield 1, {"text": text}


def _without_place(error: UserError, file: str, number: int) -> str:
    return str(error).removeprefix(f"{file}:{number}: ")


def _escaped(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace").rstrip("\r\n")


READERS = {
    ".json": _read_json,
    ".jsonl": _read_lines,
    ".ndjson": _read_lines,
    ".csv": _read_table,
    ".tsv": partial(_read_table, delimiter="\t"),
    ".txt": _read_text,
}
SUPPORTED = (*READERS, ".parquet")
