"""jitune's own records in, the same records out, with the source that they had.

    [record] = read(to_row(record), ("kept.jsonl", 1), Counter(), {})
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from jitune.data.record import Record
from jitune.data.record_rows import from_row, is_record
from jitune.data.row_parts import Origin, source

detects = is_record


def read(row: Mapping, origin: Origin, notes: Counter, fields: Mapping[str, str]) -> Iterator[Record]:
    """The record of one row; where it has no source, that is the row."""
    record = from_row(row, origin)
    if not record.provenance.source:
        record = replace(record, provenance=replace(record.provenance, source=source(origin).source))
    yield record
