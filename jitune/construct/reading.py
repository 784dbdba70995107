"""Records out of files: whatever people and tools export, one iterator.

    reading = read_records(["hh_test.jsonl.gz"], license="MIT")
    for record in reading: ...
    reading.notes           # {"differing_prefixes": 5, "empty_answers": 4}: what happened besides
    reading.read, reading.total     # bytes so far and in all, for a progress bar

| format | rows |
|---|---|
| jitune | jitune's own records |
| messages, sharegpt, alpaca, prompt_completion, text | training data, see `jitune.data.formats` |
| dolly | instruction, context, response, category |
| self_instruct | instruction, and instances of input and output |
| prompts | questions without an answer, to be written: prompt, instruction (and input) or question |
| pairs, two_outputs, ranking, kto | preferences, see `jitune.data.preferences` |
| oasst | trees of OpenAssistant, nested |
| oasst_flat | their messages, one a row, linked by parent |
| label_studio, label_studio_min | exports of Label Studio, JSON and JSON_MIN |
| argilla, argilla_flat, argilla_old | exports of Argilla 2, its flattened columns, and those of Argilla 1 |
| `module:function` | your own `(row) -> Example`, `Record` or several of them |

A format of one's own is one file with a generator and one row of `READERS`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jitune.construct.readers import argilla, label_studio, oasst, own, training
from jitune.data import preferences
from jitune.data.formats import FORMATS
from jitune.data.pipeline import parse_fields
from jitune.data.record import Record, changed
from jitune.data.row_parts import Origin, Reader
from jitune.data.streams import Bad, stream
from jitune.types import UserError

# Asked in this order; the first that knows a row reads it.
READERS = {
    "jitune": Reader(own.detects, own.read, "id, provenance"),
    "label_studio": Reader(label_studio.is_task, label_studio.read, "data, annotations", method="annotation",
                           options=label_studio.OPTIONS),
    "label_studio_min": Reader(label_studio.is_min, label_studio.read_min, "annotator, annotation_id",
                               label_studio.group_min, method="annotation", options=label_studio.OPTIONS),
    "argilla": Reader(argilla.is_record, argilla.read, "fields, responses", method="annotation",
                      options=argilla.OPTIONS),
    "argilla_flat": Reader(argilla.is_flat, argilla.read_flat, "question.responses, or question and "
                           "question-suggestion", method="annotation", options=argilla.OPTIONS),
    "argilla_old": Reader(argilla.is_old, argilla.read_old, "text or inputs, annotation, status", method="annotation",
                          options=argilla.OPTIONS),
    "oasst": Reader(oasst.is_tree, oasst.read_tree, "prompt with text and replies", method="annotation",
                    options=oasst.OPTIONS),
    "oasst_flat": Reader(oasst.is_flat, oasst.read_flat, "message_id, parent_id, text, role", oasst.group,
                         method="annotation", options=oasst.OPTIONS),
    **preferences.READERS,
    "dolly": Reader(training.is_dolly, training.dolly, "instruction, context, response", method="annotation",
                    renames=True),
    "self_instruct": Reader(training.is_self_instruct, training.self_instruct, "instruction, instances",
                            method="annotation", renames=True),
    "training": Reader(training.detects, training.read, ", ".join(FORMATS), renames=True),
    "prompts": Reader(training.is_prompt, training.prompts, "prompt alone", renames=True),
}


class Reading:
    """Records, one after the other; made by `read_records`.

    Attributes:
      notes: how often something happened that is no record's own matter, by one word: rows that were dropped and
        why, annotations that were cancelled, drafts, and so on; whole after the last record.
      read, total: bytes of the files so far and in all; the total is 0 where it is not known.
      at: `(file, row)` of the last record; None where several rows made it, as of a tree.
    """

    def __init__(self, specs: Sequence[str], format: str, readers: Mapping[str, Reader], fields: Mapping[str, str],
                 options: Mapping[str, Any], given: Mapping[str, str], bad: str):
        self.specs, self.format, self.fields, self.options = tuple(specs), format, fields, options
        self.pick, self.given, self.bad, self.counts = _picker(readers, format), given, bad, Counter()
        self.rows, self.at = stream(self.specs, bad="give"), None

    @property
    def notes(self) -> Counter:
        return +self.counts  # without what happened no times

    @property
    def read(self) -> int:
        return self.rows.read

    @property
    def total(self) -> int:
        return self.rows.total

    def __iter__(self) -> Iterator[Record | Bad]:
        self.counts.clear()
        for reader, rows in _grouped(self._known()):
            if isinstance(rows, Bad):
                yield self._bad(rows)
            else:
                yield from self._records(reader, rows)

    def _known(self) -> Iterator[tuple[Any, Reader | None, Any]]:
        """(what it shares with others, reader, row with its origin) of every row; a Bad has no reader."""
        for item in self.rows:
            if isinstance(item, Bad):
                yield None, None, item
                continue
            row, origin = item
            try:
                row = _clean(row, self.counts)
                name, reader, row = self.pick(row, self.fields)
                together = None
                if reader.group and not reader.detects(row):
                    raise _not_of(name, reader, row)
                if reader.group:
                    together = name, origin[0], reader.group(row, **_fitting(reader, self.options))
                yield together, reader, (row, origin)
            except UserError as error:
                yield None, None, _as_bad(row, origin, error)

    def _records(self, reader: Reader, rows: list) -> Iterator[Record | Bad]:
        options = _fitting(reader, self.options)
        (row, origin), whole = rows[0], {where: row for row, where in rows}
        try:
            if reader.group:
                found = list(reader.read(rows, self.counts, self.fields, **options))
            else:
                found = list(reader.read(row, origin, self.counts, self.fields, **options))
        except UserError as error:
            yield self._bad(_as_bad(row, origin, error))
            return
        except Exception:  # a reader need not look again for what its `detects` has seen
            if reader.detects(row):
                raise
            yield self._bad(_as_bad(row, origin, _not_of(self.format, reader, row)))
            return
        self.at = None if reader.group else origin
        for item in found:
            if isinstance(item, Record):
                yield self._with_provenance(item, reader)
            elif item.fault or self.bad == "give":
                raw = _raw(item.raw or whole[item.origin])
                yield self._bad(Bad(*item.origin, item.reason, item.detail, raw, item.fault))
            else:
                self.counts[item.reason] += 1

    def _bad(self, bad: Bad) -> Bad:
        if self.bad != "give":
            raise UserError(f"{bad.message}; 'jitune data convert {bad.file} --out NEW.jsonl --bad skip' leaves such "
                            "rows out")
        self.counts[bad.reason] += 1
        return bad

    def _with_provenance(self, record: Record, reader: Reader) -> Record:
        known = record.provenance
        own_license = record.meta.get("license")
        method = self.given["method"] or known.method or reader.method
        license = self.given["license"] or known.license or (own_license if isinstance(own_license, str) else "")
        if (method, license) == (known.method, known.license):
            return record
        return changed(record, provenance=changed(known, method=method, license=license))


def read_records(specs: Sequence[str], *, format: str = "auto", fields: str | Mapping[str, str] = "",
                 license: str = "", method: str = "", bad: str = "raise",
                 options: str | Mapping[str, Any] = "") -> Reading:
    """Reads records from files, folders and datasets.

    Args:
      specs: as `jitune.data.sources` names them.
      format: a name of the table above, `module:function`, or auto: each row is known by its keys.
      fields: the format's name of a column -> the row's, as text ("instruction=question,output=answer") or mapping;
        for Label Studio and Argilla of the keys of an item's data, and of questions.
      license, method: of all records' provenance; else as the row or the format says.
      bad: "raise" stops at the first row that is broken; "give" gives a `Bad` in its place, and one for each row
        that is left out on purpose, such as a tie.
      options: of the reader, such as "make=pairs,pairs=adjacent" for oasst.

    Raises:
      UserError: the format or an option is unknown; while iterating, beginning with `file:row:`.
    """
    if bad not in ("raise", "give"):
        raise UserError(f"bad={bad!r}: is none of raise, give")
    fields = parse_fields(fields) if isinstance(fields, str) else dict(fields)
    options = parse_fields(options, name="options") if isinstance(options, str) else dict(options)
    readers = READERS if format == "auto" else {format: find_reader(format)}
    _check_options(options, readers)
    return Reading([specs] if isinstance(specs, str) else specs, format, readers, fields, options,
                   {"license": license, "method": method}, bad)


def find_reader(format: str) -> Reader:
    """The reader of a name in `READERS` or `FORMATS`, or of a user's `module:function`."""
    if format in READERS:
        return READERS[format]
    if format in FORMATS:
        return Reader(lambda row: True, training.of_format(format), "", renames=True)
    if ":" not in format:
        raise UserError(f"unknown format '{format}'; known: auto, {', '.join((*READERS, *FORMATS))}, module:function")
    return Reader(lambda row: True, training.load_function(format), "", renames=True)


def _picker(readers: Mapping[str, Reader], format: str) -> Callable:
    """`(row, fields) -> (name, reader, row with its columns renamed)`."""
    def pick(row: dict, fields: Mapping[str, str]) -> tuple[str, Reader, dict]:
        renamed = None
        for name, reader in readers.items():
            if reader.renames and renamed is None:
                renamed = _renamed(row, fields)
            named = renamed if reader.renames else row
            if format != "auto" or reader.detects(named):
                return name, reader, named
        raise UserError(f"no known format: the row has keys {_listed(row)}; rename columns with fields, or name the "
                        f"format: {', '.join((*readers, *FORMATS))}, module:function")
    return pick


def _grouped(known: Iterator) -> Iterator[tuple[Reader | None, Any]]:
    """(reader, rows that belong together) or (None, Bad); a Bad among rows that belong together comes before them."""
    shared, reader, rows = None, None, []
    for together, its_reader, item in known:
        if its_reader is None:
            yield None, item
            continue
        if rows and together != shared:
            yield reader, rows
            rows = []
        if its_reader.group is None:
            yield its_reader, [item]
        else:
            shared, reader = together, its_reader
            rows.append(item)
    if rows:
        yield reader, rows


def _renamed(row: dict, fields: Mapping[str, str]) -> dict:
    if not fields:
        return row
    missing = [column for column in fields.values() if column not in row]
    if missing:
        raise UserError(f"fields: no column '{missing[0]}'; the row has keys {list(row)}")
    kept = {key: value for key, value in row.items() if key not in fields and key not in fields.values()}
    return kept | {name: row[column] for name, column in fields.items()}


def _clean(row: dict, counts: Counter) -> dict:
    """The row as JSON has it: times and the like of Parquet become text, and numbers that are none (NaN) null."""
    if _is_plain(row):
        return row
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        row = _plain(row, counts)
        text = json.dumps(row, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError("holds half of a surrogate pair, as of an emoji that was cut in two, after "
                        f"{text[max(0, error.start - 20):error.start]!r}") from error
    return row


def _is_plain(row: dict) -> bool:
    """Whether a row holds nothing but texts in ASCII, whole numbers and nulls, as most do; cheaper than JSON."""
    texts = list(row)
    for item in row.values():
        kind = type(item)
        if kind is str:
            texts.append(item)
        elif item is not None and kind is not int and kind is not bool:
            return False
    return all(type(key) is str for key in row) and "".join(texts).isascii()


def _plain(value: Any, counts: Counter) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item, counts) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, counts) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        counts["not_finite"] += 1
        return None
    if value is None or isinstance(value, (str, int, float)):
        return value
    return _plain(value.tolist(), counts) if hasattr(value, "tolist") else str(value)


def _as_bad(row: dict, origin: Origin, error: UserError) -> Bad:
    return Bad(*origin, "malformed", str(error).removeprefix(f"{origin[0]}:{origin[1]}: "), _raw(row))


def _not_of(format: str, reader: Reader, row: Mapping) -> UserError:
    return UserError(f"is no row of the format {format}, whose rows have {reader.keys}; it has keys {_listed(row)}")


def _listed(row: Mapping, most: int = 12) -> str:
    """The first keys of a row, for people to read."""
    return ", ".join(map(repr, list(row)[:most])) + (f" and {len(row) - most} more" if len(row) > most else "")


def _raw(value: Any) -> str:
    """What was dropped, as JSON; halves of surrogate pairs are written as escapes."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text.encode(errors="backslashreplace").decode()


def _fitting(reader: Reader, options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in reader.options if name in options}


def _check_options(options: Mapping[str, Any], readers: Mapping[str, Reader]) -> None:
    known = sorted({word for reader in readers.values() for word in reader.options})
    for name in options:
        if name not in known:
            raise UserError(f"option '{name}' is unknown to the format; known are {', '.join(known) or 'none'}")
