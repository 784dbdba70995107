"""Streams: the rows of files, one after another, in memory that does not grow with the files.

    rows = stream(["data/alpaca.jsonl", "more/"], bad="give")
    for item in rows:
        if isinstance(item, Bad): print(item.message)    # "data/alpaca.jsonl:7: not valid JSON: ..."
        else: row, (file, number) = item
        rows.read, rows.total                            # bytes so far and in all

What can be read and how rows are counted is as in sources.py, whose `read_rows` gives the same rows at once. One row
is held at a time, of Parquet a batch of rows, of `.txt` the file. Of a compressed file the compressed bytes count.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from jitune.data.file_rows import Bad, check_kind, extension, first_line, opened, text_rows
from jitune.data.sources import ArrowRows, find_files, load_dataset, plain_row
from jitune.types import UserError

__all__ = ["Bad", "Stream", "stream"]
BATCH = 256  # rows of Parquet that are converted at a time
OFTEN = 32  # rows of a text file between looks at how far it is read
BUFFER = 1 << 20  # bytes of a Parquet column that are read at a time

Item = tuple[dict, tuple[str, int]] | Bad


class Stream:
    """Rows of several sources; every iteration begins anew.

    Attributes:
      read: bytes of the input so far.
      total: bytes of the input in all; 0 where that is not known.
    """

    def __init__(self, parts: Sequence[tuple[str, Any]], bad: str):
        self.parts, self.bad, self.read = tuple(parts), bad, 0
        self.sizes = [_size(name, dataset) for name, dataset in self.parts]
        self.total = sum(self.sizes) if all(self.sizes) else 0

    def __iter__(self) -> Iterator[Item]:
        self.read = before = 0
        for (name, dataset), size in zip(self.parts, self.sizes, strict=True):
            count = 0
            for done, item in _items(name, dataset, size, give=self.bad == "give"):
                count, self.read = count + 1, before + done
                yield item if isinstance(item, Bad) else (item[1], (name, item[0]))
            if not count:
                raise UserError(f"{name}: is empty")
            self.read = before = before + size


def stream(specs: Sequence[str], *, bad: str = "raise") -> Stream:
    """The rows of several specs, see sources.py, as `(row, (file, number))`.

    Args:
      bad: raise: a malformed row is a UserError. give: it is a `Bad` in its place, and so is a row of a text file
        with half of a surrogate pair anywhere in it.

    Raises:
      UserError: at once where there is no such file, or it cannot be read; while iterating `file: ...` where a file
        is broken beyond a row (a list that is not JSON, gzip, Parquet), and `file:row: ...` as `bad` says.
    """
    if bad not in ("raise", "give"):
        raise ValueError(f"bad: {bad!r} is neither raise nor give")
    parts = []
    for spec in specs:
        files = find_files(spec)
        parts += [(spec, load_dataset(spec))] if files is None else [(file, None) for file in files]
        for file in files or ():
            check_kind(file)
    return Stream(parts, bad)


def _size(name: str, dataset: Any) -> int:
    if dataset is None:
        return os.path.getsize(name)
    return getattr(getattr(dataset, "data", None), "nbytes", 0)


def _items(name: str, dataset: Any, size: int, *, give: bool) -> Iterator[tuple[int, Any]]:
    """Yields (bytes read so far, (number, row) or Bad)."""
    if dataset is not None:
        rows = ArrowRows(name, dataset)
        yield from ((size * number // len(rows), (number, row)) for number, row in enumerate(rows, 1))
        return
    with opened(name) as (raw, text):
        if extension(name) == ".parquet":
            yield from _parquet(name, size, give)
        else:
            done = 0
            for number, item in enumerate(text_rows(name, text, give=give)):
                done = done if number % OFTEN else raw.tell()  # a call of the system each time
                yield done, item


def _parquet(file: str, size: int, give: bool) -> Iterator[tuple[int, Any]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER) as opened_file:
            total = opened_file.metadata.num_rows
            for batch in opened_file.iter_batches(batch_size=BATCH):
                for item in _batch_rows(file, batch, number, give):
                    number += 1
                    yield size * number // total, item
    except pyarrow.ArrowException as error:
        raise UserError(f"{file}: not a readable parquet file: {first_line(error)}") from error


def _batch_rows(file: str, batch: Any, before: int, give: bool) -> Iterator[Any]:
    try:
        yield from [(number, plain_row(row)) for number, row in enumerate(batch.to_pylist(), before + 1)]
        return
    except UnicodeDecodeError:
        pass
    for at in range(len(batch)):
        try:
            yield before + at + 1, plain_row(batch.slice(at, 1).to_pylist()[0])
        except UnicodeDecodeError as error:
            found = Bad(file, before + at + 1, "encoding", f"not valid UTF-8: {error.reason}", "")
            if not give:
                raise UserError(found.message) from error
            yield found
