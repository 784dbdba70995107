"""Sources: where rows come from.

In: a spec, which is a path or the name of a dataset. Out: `Rows`, a sequence of `(row, (file, number))`
with numbers counted from 1, so that every later message can say where a row stands.

    rows = read_rows("data/alpaca.jsonl")
    rows[0]          # ({"instruction": "Add 2 and 3.", "output": "5"}, ("data/alpaca.jsonl", 1))

| spec | rows |
|---|---|
| `.json` | a list of objects, or an object with one list under data, train, rows, examples or instances |
| `.jsonl`, `.ndjson` | one object a line; the number is the line, blank lines are counted and skipped |
| `.csv`, `.tsv` | one row a record below the header; every value is text |
| `.txt` | the whole file as one row `{"text": ...}` |
| `.parquet` | one row a record, converted when it is asked for |
| a folder | all such files below it, sorted; or what `datasets.save_to_disk` wrote, `folder[split]` |
| `org/name`, `org/name:config`, `org/name[split]` | a dataset of the Hugging Face hub; the split is train |

Text files may end in `.gz`. A local path wins over a hub name.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import json
import os
import re
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import IO, Any, NamedTuple

from jitune.types import UserError

PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")
LIST_KEYS = ("data", "train", "rows", "examples", "instances")
HUB_NAME = re.compile(r"(\w[\w.-]*/[\w.-]+)(?::([\w.-]+))?", re.ASCII)


class Part(NamedTuple):
    """The rows of one file, and the number of each."""

    file: str
    rows: Sequence[dict]
    numbers: Sequence[int]


class Rows(Sequence):
    """The rows of several files as one sequence of `(row, (file, number))`; a slice is a list."""

    def __init__(self, parts: Sequence[Part]):
        self.parts = tuple(parts)
        self.ends = list(accumulate(len(part.rows) for part in self.parts))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]  # negative indices, and IndexError beyond the end
        which = bisect_right(self.ends, at)
        part, at = self.parts[which], at - (self.ends[which - 1] if which else 0)
        return part.rows[at], (part.file, part.numbers[at])

    def __iter__(self) -> Iterator[tuple[dict, tuple[str, int]]]:
        for part in self.parts:
            for row, number in zip(part.rows, part.numbers, strict=True):
                yield row, (part.file, number)


class ArrowRows(Sequence):
    """The rows of a `pyarrow.Table` or a `datasets.Dataset`, converted when they are asked for."""

    def __init__(self, file: str, source: Any):
        self.file, self.source, self.is_table = file, source, hasattr(source, "to_batches")

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict:
        at = range(len(self))[index]
        try:
            row = self.source.slice(at, 1).to_pylist()[0] if self.is_table else self.source[at]
        except UnicodeDecodeError as error:
            raise UserError(f"{self.file}:{at + 1}: not valid UTF-8: {error.reason}") from error
        # Arrow gives every object of a column the keys of all of them: a null there is a missing key.
        return {key: _without_nulls(value) for key, value in row.items()}


def read_rows(spec: str) -> Rows:
    """Read the rows that one spec names; a UserError begins with the file and, for a row, its number."""
    files = _find_files(spec)
    if files is not None:
        return Rows([_read_file(file) for file in files])
    return Rows([_arrow_part(spec, _load_dataset(spec))])


def split_specs(specs: str) -> list[str]:
    """Split a comma-separated list; a path that exists keeps its commas.

    Example: "a.json, b.jsonl" -> ["a.json", "b.jsonl"].
    """
    pieces, found, start = specs.split(","), [], 0
    while start < len(pieces):
        joined = [(end, ",".join(pieces[start:end]).strip()) for end in range(len(pieces), start, -1)]
        real = [(end, name) for end, name in joined if name and os.path.exists(os.path.expanduser(name))]
        start, name = (real or joined[-1:])[0]
        found += [name] if name else []
    return found


def digest(specs: Sequence[str]) -> str:
    """The sha256 of the data itself, in order: the bytes of files, or the fingerprint of a dataset.

    It does not depend on where the files are, so that a resumed run can refuse other data.
    """
    total = hashlib.sha256()
    for spec in specs:
        files = _find_files(spec)
        if files is None:
            total.update(f"dataset {_load_dataset(spec)._fingerprint}\n".encode())
        for file in files or ():
            with open(file, "rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            total.update(f"{_extension(file)} {found}\n".encode())
    return total.hexdigest()


def _find_files(spec: str) -> list[str] | None:
    """The data files that a spec names, or None where it names a dataset."""
    name, split = _split_name(spec)
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        if _is_saved_dataset(path):
            return None
        files = _walk(path)
    elif os.path.exists(path):
        files = [path]
    elif name.startswith((".", "/", "~")) or _extension(name) in (*SUPPORTED, *PICKLES):
        raise UserError(f"{name}: no such file{_nearest(path)}")
    elif HUB_NAME.fullmatch(name):
        return None
    else:
        raise UserError(f"{name}: no such file, nor the name org/name of a hub dataset{_nearest(path)}")
    if split:
        raise UserError(f"{spec}: a [split] belongs to a dataset; {name} holds plain files")
    return files


def _split_name(spec: str) -> tuple[str, str | None]:
    """Take a `[split]` off: "org/name[test]" -> ("org/name", "test")."""
    match = re.fullmatch(r"([^\[]+)\[(.+)\]", spec)
    return (match[1], match[2]) if match and not os.path.exists(os.path.expanduser(spec)) else (spec, None)


def _extension(path: str) -> str:
    """The extension in lower case; for `.gz` the one before it."""
    return os.path.splitext(path.lower().removesuffix(".gz"))[1]


def _nearest(path: str) -> str:
    folder, base = os.path.split(path.rstrip("/"))
    if folder and not os.path.isdir(folder):
        return f"; the folder {folder} does not exist"
    near = difflib.get_close_matches(base, os.listdir(folder or "."), n=3, cutoff=0.5)
    return f"; the nearest names in {folder or 'this folder'} are {', '.join(near)}" if near else ""


def _is_saved_dataset(path: str) -> bool:
    names = set(os.listdir(path))
    return "dataset_dict.json" in names or {"state.json", "dataset_info.json"} <= names


def _walk(folder: str) -> list[str]:
    found = []
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if _is_saved_dataset(path):
            raise UserError(f"{folder}: {path} is a saved dataset; name that folder itself")
        found += [os.path.join(path, name) for name in names if not name.startswith(".")]
    files = sorted(file for file in found if _extension(file) in SUPPORTED)
    if not files:
        raise UserError(f"{folder}: no data files in this folder; supported are {', '.join(SUPPORTED)}")
    return files


def _read_file(file: str) -> Part:
    extension = _extension(file)
    if extension in PICKLES:
        raise UserError(f"{file}: refused: {extension} files can hold pickles, which run code when opened; "
                        "convert the data to .jsonl or .parquet")
    if extension not in SUPPORTED:
        raise UserError(f"{file}: cannot read this kind of file; supported are {', '.join(SUPPORTED)}")
    try:
        if extension == ".parquet":
            return _arrow_part(file, _read_parquet(file))
        with (gzip.open if file.lower().endswith(".gz") else open)(file, "rb") as stream:
            found = list(READERS[extension](file, stream))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{file}: not a valid gzip file: {error}") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or _first_line(error)}") from error
    if not found:
        raise UserError(f"{file}: is empty")
    for number, row in found:
        if not isinstance(row, dict):
            raise UserError(f"{file}:{number}: expected an object, got {json.dumps(row)[:60]}")
    return Part(file, [row for _, row in found], [number for number, _ in found])


def _arrow_part(file: str, source: Any) -> Part:
    if not len(source):
        raise UserError(f"{file}: is empty")
    return Part(file, ArrowRows(file, source), range(1, len(source) + 1))


def _read_parquet(file: str) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(file, memory_map=True, partitioning=None)
    except pyarrow.ArrowException as error:
        raise UserError(f"{file}: not a readable parquet file: {_first_line(error)}") from error


# A reader of one kind of file gives pairs (number, row).
def _read_json(file: str, stream: IO[bytes]) -> Iterable[tuple[int, Any]]:
    text = _decode(file, stream.read())
    try:
        value = json.loads(text) if text.strip() else []
    except json.JSONDecodeError as error:
        # Many published `.json` files hold one object a line.
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            return _read_lines(file, text.encode().split(b"\n"))
        raise UserError(f"{file}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not valid JSON: {error}") from error
    if isinstance(value, dict):
        lists = [key for key in value if isinstance(value[key], list)]
        if len(lists) != 1 or lists[0] not in LIST_KEYS:
            raise UserError(f"{file}: the top level is an object with keys {list(value)[:10]}; expected a "
                            f"list of objects, or an object with one list under {', '.join(LIST_KEYS)}")
        value = value[lists[0]]
    if not isinstance(value, list):
        raise UserError(f"{file}: the top level is {json.dumps(value)[:60]}; expected a list of objects")
    return enumerate(value, 1)


def _read_lines(file: str, lines: Iterable[bytes]) -> Iterable[tuple[int, Any]]:
    for number, line in enumerate(lines, 1):
        text = _decode(file, line, number)
        try:
            if text.strip():
                yield number, json.loads(text.rstrip())
        except (ValueError, RecursionError) as error:
            what = f"column {error.colno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else error
            hint = "; a list of objects belongs in a .json file" if text.lstrip().startswith("[") else ""
            raise UserError(f"{file}:{number}: not valid JSON: {what}{hint}") from error


def _read_table(file: str, stream: IO[bytes], *, delimiter: str = ",") -> Iterable[tuple[int, dict]]:
    csv.field_size_limit(2**31 - 1)
    text = io.StringIO(_decode(file, stream.read()), newline="")
    # strict: an unclosed quote would otherwise swallow the rest of the file in silence.
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    number = 0
    try:
        records = filter(None, reader)
        header = next(records, [])
        if len(set(header)) != len(header):
            raise UserError(f"{file}: the header names a column twice: {header}")
        for number, cells in enumerate(records, 1):
            if len(cells) != len(header):
                raise UserError(f"{file}:{number}: {len(cells)} fields (the record ends in line "
                                f"{reader.line_num}); the header has {len(header)}: {header}")
            yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise UserError(f"{file}:{number + 1}: broken record, line {reader.line_num}: {error}") from error


def _read_text(file: str, stream: IO[bytes]) -> Iterable[tuple[int, dict]]:
    text = _decode(file, stream.read())
    return [(1, {"text": text})] if text.strip() else []


READERS = {
    ".json": _read_json,
    ".jsonl": _read_lines,
    ".ndjson": _read_lines,
    ".csv": _read_table,
    ".tsv": partial(_read_table, delimiter="\t"),
    ".txt": _read_text,
}
SUPPORTED = (*READERS, ".parquet")


def _decode(file: str, data: bytes, line: int = 1) -> str:
    """UTF-8 to text, less a byte order mark; `line` is the number of the first line of `data`."""
    try:
        return data.decode("utf-8").removeprefix("\ufeff" if line == 1 else "")
    except UnicodeDecodeError as error:
        at = error.start - data.rfind(b"\n", 0, error.start)
        line += data.count(b"\n", 0, error.start)
        hint = "; the file looks like UTF-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ""
        what = f"byte 0x{data[error.start]:02x} at position {at} of line {line}"
        raise UserError(f"{file}:{line}: not valid UTF-8: {what}{hint}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _load_dataset(spec: str) -> Any:
    """Load a saved dataset, or one of the hub; code that comes with a dataset is never run."""
    name, split = _split_name(spec)
    path = os.path.expanduser(name)
    saved = os.path.isdir(path)
    try:
        import datasets

        if saved:
            found = datasets.load_from_disk(path)
        else:
            hub, config = HUB_NAME.fullmatch(name).groups()
            return datasets.load_dataset(hub, config, split=split or "train")
    except ImportError as error:
        raise UserError(f"{spec}: reading it needs the package `datasets`: {error}") from error
    except Exception as error:  # the library raises many kinds, most of them about the network
        local = "" if saved else "no such local path, and "
        raise UserError(f"{spec}: {local}the dataset cannot be loaded: {_first_line(error)}") from error
    splits, wanted = found if isinstance(found, dict) else {"train": found}, split or "train"
    if wanted not in splits:
        raise UserError(f"{spec}: no split '{wanted}'; the splits are {', '.join(splits)}")
    return splits[wanted]
