"""Files of records: how they are known again, out of JSONL as Parquet, and back.

    fingerprint(["a.json"])                              # "8f...", of its bytes
    to_parquet("out/kept.jsonl", "out/kept.parquet")     # 1000, the number of its records
    for record in read("out/kept.parquet"): ...
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jitune.construct.whole_file import whole_file
from jitune.data.record import Record
from jitune.data.record_rows import as_parquet, from_row
from jitune.data.record_schema import arrow_schema
from jitune.data.sources import digest, file_digest
from jitune.data.streams import stream

ROWS, SIZE = 4096, 1 << 24  # a row group of Parquet ends after so many records, or bytes of their lines
WHOLE, BLOCK, BLOCKS = 1 << 26, 1 << 20, 32
EVERY = 1.0  # seconds between commits


def fingerprint(specs: Sequence[str]) -> str:
    """A digest of the input by which a run that goes on knows it again; cheap for files of any size.

    Of a file up to 64 MB all bytes are hashed; of a larger one its size and 32 blocks of 1 MB, the first and the last
    and those evenly between, so that a change in the middle of a huge file may not be seen. Of a dataset its own
    fingerprint. Names count only by their extension: files may be moved.
    """
    return digest(specs, of_file=_file_digest)[:24]


def _file_digest(file: str) -> str:
    size = os.path.getsize(file)
    if size <= WHOLE:
        return file_digest(file)
    found = hashlib.sha256(str(size).encode())
    with open(file, "rb") as opened:
        for number in range(BLOCKS):
            opened.seek((size - BLOCK) * number // (BLOCKS - 1))
            found.update(opened.read(BLOCK))
    return found.hexdigest()


class Seen:
    """Which ids have come before, in 11 to 22 bytes an id: 64 bits of their digests in one table.

    Two different ids are taken for one with probability n² / 2^65, which is 1 in 370,000 for 10 million ids.
    """

    def __init__(self):
        self.table, self.count = array("Q", bytes(8 * 1024)), 0

    def add(self, id: str) -> bool:
        """Remembers the id; False where it was there."""
        key = int.from_bytes(hashlib.blake2b(id.encode(errors="surrogatepass"), digest_size=8).digest()) or 1
        if not self._put(key):
            return False
        self.count += 1
        if self.count * 4 > len(self.table) * 3:
            old, self.table = self.table, array("Q", bytes(16 * len(self.table)))
            for one in old:
                if one:
                    self._put(one)
        return True

    def _put(self, key: int) -> bool:
        table, mask = self.table, len(self.table) - 1
        at = key & mask
        while table[at]:
            if table[at] == key:
                return False
            at = (at + 1) & mask
        table[at] = key
        return True


def read(spec: str) -> Iterator[Record]:
    """The records of a file, one after another; a UserError begins with `file:row`."""
    for row, origin in stream([spec]):
        yield from_row(row, origin)


def to_parquet(source: str | Path, out: str | Path, *, advance: Callable[[int], None] = lambda count: None) -> int:
    """Writes the lines of a JSONL file of records as Parquet, a row group at a time; returns their number.

    The file appears under its name when it is whole. `advance` is called with the bytes that were read since.
    """
    import pyarrow
    import pyarrow.parquet

    schema, count = arrow_schema(), 0
    with whole_file(out) as file, pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for rows, size in _groups(source):
            writer.write_table(pyarrow.Table.from_pylist([as_parquet(row) for row in rows], schema=schema))
            count += len(rows)
            advance(size)
    return count


def _groups(source: str | Path) -> Iterator[tuple[list[Any], int]]:
    rows, size = [], 0
    with open(source, "rb") as lines:
        for line in lines:
            rows.append(json.loads(line))
            size += len(line)
            if len(rows) >= ROWS or size >= SIZE:
                yield rows, size
                rows, size = [], 0
    if rows:
        yield rows, size
