"""Labels of files: tables of every shape, records and exports of tools in, `Label`s one at a time out.

    found = read(["ann_1.csv", "ann_2.csv"], Columns(item="id", label=("truthful",)))
    found.shape.kind                   # "files"
    for label in found: ...            # Label("q1", "1", "truthful", "yes", origin=("ann_1.csv", 1))
    found.texts({"q1"})                # {"q1": the row in which q1 first stood}, on a second way through the files

A cell that is blank is an empty answer, one of `missing` a skipped one, and one that is not there says nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from jitune.construct.agreement.labels import Label, text_of
from jitune.construct.agreement.shapes import Columns, Shape, names, plan
from jitune.construct.reading import READERS, Reading, read_records
from jitune.data.record import STATES, Record, origin_of
from jitune.data.record_rows import to_row
from jitune.data.streams import Bad, stream
from jitune.types import UserError

PEEK = 300  # rows of each file that are looked at for its shape
EXPORTS = ("jitune", "label_studio", "label_studio_min", "argilla", "argilla_flat", "argilla_old")
# Columns whose names say that they hold what people said together, which who judges again must not see.
TELLING = re.compile(r"(?:^|_)(?:labels?|final|gold|majority|consensus|agree(?:d|ment)?|adjudicat(?:ed|ion)|"
                     r"aggregated?)(?:_|$)")
TIES = ("tie", "both", "neither", "equal", "draw")


class Labels:
    """The labels of files; every iteration begins anew.

    Attributes:
      shape: how they are read.
      files: their names.
      read, total: bytes so far and in all.
      notes: how often what happened while records were read, such as cancelled annotations; {} for tables.
      other_texts: {column: items whose text differs between files}, of files with an annotator each: such items were
        perhaps not the same when they were labelled.
      hidden: columns, or keys of records' `meta`, that `texts` left out since they may tell what was said.
    """

    def __init__(self, files: Sequence[str], shape: Shape, missing: Collection[str] = (), *, format: str = "",
                 hide: Collection[str] | None = None):
        self.shape, self.missing, self.files = shape, frozenset(missing), tuple(files)
        self.hide, self.hidden = hide, set()
        self.rows = read_records(files, format=format) if format else stream(files, bad="give")
        self.names = names(files)
        self.several = len(files) > 1
        self.other_texts: Counter = Counter()
        self.seen: dict[tuple[str, str], bytes] = {}

    @property
    def read(self) -> int:
        """Bytes so far."""
        return self.rows.read

    @property
    def total(self) -> int:
        """Bytes in all; 0 where that is not known."""
        return self.rows.total

    @property
    def notes(self) -> dict[str, int]:
        """What happened while records were read."""
        return dict(self.rows.notes) if isinstance(self.rows, Reading) else {}

    def __iter__(self) -> Iterator[Label]:
        self.other_texts, self.seen = Counter(), {}
        if isinstance(self.rows, Reading):
            for record in self.rows:
                yield from _said(record)
            return
        for row, origin in self._sound():
            yield from self._row(row, origin)

    def texts(self, items: Collection[str], labels: Collection[str] = (), *,
              told: Callable[[], None] = lambda: None) -> dict[str, dict]:
        """{item: the row in which it first stood, less what was said of it}, for the items asked for.

        labels: cells that hold one of them are left out too. told: called after each row.
        """
        wanted, found = set(items), {}
        if isinstance(self.rows, Reading):
            for record in self.rows:
                if record.id in wanted:
                    found[record.id] = to_row(replace(record, annotations=(), meta=self._blind(record.meta)))
                told()
            return found
        for row, origin in self._sound():
            told()
            for item, cell in self._items(row, origin):
                if item in wanted and item not in found:
                    found[item] = {key: value for key, value in self._blind(self._own(row, cell)).items()
                                   if not isinstance(value, str) or value not in labels}
            if len(found) == len(wanted):
                break
        return found

    def _blind(self, row: Mapping) -> dict:
        """A row without the columns that may tell what was said of it."""
        cells = {cell.item for cell in self.shape.cells}
        tells = telling if self.hide is None else self.hide.__contains__
        hidden = {key for key in row if key not in cells and tells(key)}
        self.hidden |= hidden
        return {key: value for key, value in row.items() if key not in hidden}

    def _sound(self) -> Iterator[tuple[dict, tuple[str, int]]]:
        """The rows; one that is malformed, or holds half of a surrogate pair, is an error."""
        for found in self.rows:
            if isinstance(found, Bad):
                raise UserError(found.message)
            yield found

    def _items(self, row: Mapping, origin: tuple[str, int]) -> Iterator[tuple[str, Any]]:
        for cell in self.shape.cells:
            yield self._item(row, origin, cell), cell

    def _own(self, row: Mapping, cell: Any) -> dict:
        """A row without what was said of it, so that who labels it next does not see that."""
        left = self.shape.columns()
        if self.shape.kind != "pattern":
            return {key: value for key, value in row.items() if key and key not in left and value != "" and (
                self.shape.kind != "files" or key in self.shape.shared)}
        others = {c.item for c in self.shape.cells} - {cell.item}
        heads, own = {_numbered(c.item)[0] for c in self.shape.cells}, _numbered(cell.item)
        return {key: value for key, value in row.items() if key not in left | others and value != "" and (
            _numbered(key)[0] not in heads or _numbered(key) == own)}

    def _row(self, row: Mapping, origin: tuple[str, int]) -> Iterator[Label]:
        cells, shape = self.shape.cells, self.shape
        for cell in cells:
            value = row.get(cell.label)
            if value is None or (isinstance(value, float) and math.isnan(value)):
                continue
            item = self._item(row, origin, cell)
            who = _needed(row, cell.annotator, origin) if cell.annotator else cell.name or self.names[origin[0]]
            question = _needed(row, shape.question, origin) if shape.question else cell.question
            state = self._state(row, value, origin)
            if state == "labelled" and shape.between:
                value = _ranked(row, shape.between, value, origin)
            seconds = _number(row.get(shape.seconds)) if shape.seconds else None
            if seconds is not None and shape.kind == "pattern":
                seconds /= len(cells)  # of a row, which holds several items
            yield Label(item, who, question, value if state == "labelled" else None, state, seconds, origin)
        if shape.kind == "files" and self.several:
            self._compare(row, self._item(row, origin, cells[0]))

    def _item(self, row: Mapping, origin: tuple[str, int], cell: Any) -> str:
        item = _needed(row, cell.item, origin) if cell.item else f"row {origin[1]}"
        return f"{self.names[origin[0]]}/{item}" if self.shape.kind == "wide" and self.several else item

    def _state(self, row: Mapping, value: Any, origin: tuple[str, int]) -> str:
        if self.shape.state:
            state = text_of(row.get(self.shape.state))
            if state not in STATES:
                raise UserError(f"{origin[0]}:{origin[1]}: the state {state!r:.40} is none of {', '.join(STATES)}")
            return state
        text = text_of(value)
        return "skipped" if text in self.missing else "labelled" if text.strip() else "empty"

    def _compare(self, row: Mapping, item: str) -> None:
        """Counts items that came with another text in another file, by 8 bytes of each text's digest."""
        left = self.shape.columns()
        for column, value in row.items():
            if column and column not in left and isinstance(value, str) and value:
                found = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()
                if self.seen.setdefault((item, column), found) != found:
                    self.other_texts[column] += 1


def read(specs: Sequence[str], columns: Columns | None = None, *, missing: Collection[str] = (),
         format: str = "auto", hide: Collection[str] | None = None) -> Labels:
    """The labels of files, read as `columns` say, or as is plain from them.

    Args:
      specs: files and folders, as in data/sources.py.
      missing: what a cell holds where an annotator gave no answer, such as "NA".
      format: table, one of `EXPORTS` or another of `jitune.construct.reading`; auto: a table where columns are said,
        otherwise as the first row is known.
      hide: columns that `Labels.texts` leaves out besides the labels; by default those that are `telling`.

    Raises:
      UserError: a file is missing, empty or broken, or its shape is not plain; while iterating, `file:row: ...`.
    """
    files = [name for name, _ in stream(specs).parts]
    samples = {file: [row for row, _ in islice(stream([file]), PEEK)] for file in files}
    columns = columns or Columns()
    if format not in ("auto", "table") and columns != Columns():
        raise UserError(f"--format {format} says itself where the labels stand; leave the columns out")
    known = {file: format if format not in ("auto", "table") else _export(rows[0]) for file, rows in samples.items()}
    if format != "table" and columns == Columns() and any(known.values()):
        if len(set(known.values())) > 1:
            told = "; ".join(f"{file}: {name or 'a table'}" for file, name in known.items())
            raise UserError(f"the files are of several formats; give them one after the other ({told})")
        return Labels(files, Shape("records", ()), missing, format=known[files[0]], hide=hide)
    if any(known.values()) and columns.question and columns == Columns(question=columns.question):
        raise UserError(f"--question {columns.question}: names a column of a table; --questions chooses among those of "
                        "records and exports")
    headers = {file: list(dict.fromkeys(key for row in rows for key in row)) for file, rows in samples.items()}
    strange = [column for column in hide or () if not any(column in header for header in headers.values())]
    if strange:
        raise UserError(f"--hide: no column {strange[0]!r:.60}")
    return Labels(files, plan(headers, samples, columns), missing, hide=hide)


def telling(column: str) -> bool:
    """Whether a column's name says that it tells what people said together: final_label, goldLabel, agreement."""
    return bool(TELLING.search(re.sub(r"\W+|(?<=[a-z])(?=[A-Z])", "_", column).lower()))


def _export(row: Mapping) -> str:
    """The name of the tool's format that a row has, or ""."""
    return next((name for name in EXPORTS if READERS[name].detects(row)), "")


def _said(record: Record) -> Iterator[Label]:
    """What was said of a record. A list is a ranking where it names all of its candidates."""
    origin = origin_of(record)
    names = {c.id or str(i) for i, c in enumerate(record.candidates)} or {"chosen", "rejected"}
    for a in record.annotations:
        yield Label(record.id, a.annotator, a.question, _value(a.value, names), a.state, a.seconds, origin)


def _value(value: Any, names: Collection[str]) -> Any:
    if not isinstance(value, list | tuple) or not value:
        return value
    tiers = [[str(x) for x in part] if isinstance(part, list | tuple) else [part] for part in value]
    if len(names) > 1 and sorted(map(str, (name for tier in tiers for name in tier))) == sorted(names):
        return tiers
    nested = any(isinstance(part, list | tuple | dict) for part in value)
    return json.dumps(value, ensure_ascii=False) if nested else value  # paths of a taxonomy, spans of a text


def _needed(row: Mapping, column: str, origin: tuple[str, int]) -> str:
    found = text_of(row.get(column))
    if not found.strip():
        raise UserError(f"{origin[0]}:{origin[1]}: nothing stands in the column {column!r}")
    return found


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) and found >= 0 else None


def _numbered(column: str) -> tuple[str, str]:
    """A column's name up to its first number, and that: "q1_uid" -> ("q", "1")."""
    head, number, _ = re.fullmatch(r"(\D*)(\d*)(.*)", column, re.DOTALL).groups()
    return (head, number) if number else (column, "")


def _ranked(row: Mapping, between: Sequence[str], value: Any, origin: tuple[str, int]) -> list[list[str]]:
    """A vote on two that two columns name, as a ranking; the vote is a name, a column, its place, or a tie."""
    a, b = (_needed(row, column, origin) for column in between)
    vote = text_of(value)
    if a == b:
        raise UserError(f"{origin[0]}:{origin[1]}: compares {a!r:.60} with itself")
    if vote in (a, between[0], "a", "A", "first", "1"):
        return [[a], [b]]
    if vote in (b, between[1], "b", "B", "second", "2"):
        return [[b], [a]]
    if vote.casefold().startswith(TIES):
        return [sorted((a, b))]
    raise UserError(f"{origin[0]}:{origin[1]}: the vote {vote!r:.60} is neither {a!r:.60} nor {b!r:.60} nor a tie")
