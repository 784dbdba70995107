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

import difflib
import hashlib
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from jitune.data.file_rows import PICKLES, SUPPORTED, check_kind, extension, first_line, opened, text_rows
from jitune.types import UserError

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
        return plain_row(row)


def plain_row(row: dict) -> dict:
    """A row as Arrow gives it, where every object of a column has the keys of all: a null there is a missing key."""
    return {key: _without_nulls(value) for key, value in row.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def read_rows(spec: str) -> Rows:
    """Read the rows that one spec names; a UserError begins with the file and, for a row, its number."""
    files = find_files(spec)
    if files is not None:
        return Rows([_read_file(file) for file in files])
    return Rows([_arrow_part(spec, load_dataset(spec))])


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


def file_digest(file: str) -> str:
    """The sha256 of a file's bytes."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(specs: Sequence[str], *, of_file: Callable[[str], str] = file_digest) -> str:
    """The sha256 of the data itself, in order: the bytes of files, or the fingerprint of a dataset.

    It does not depend on where the files are, so that a resumed run can refuse other data.
    """
    total = hashlib.sha256()
    for spec in specs:
        files = find_files(spec)
        if files is None:
            total.update(f"dataset {load_dataset(spec)._fingerprint}\n".encode())
        for file in files or ():
            total.update(f"{extension(file)} {of_file(file)}\n".encode())
    return total.hexdigest()


def find_files(spec: str) -> list[str] | None:
    """The data files that a spec names, or None where it names a dataset; nothing is opened."""
    name, split = _split_name(spec)
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        if _is_saved_dataset(path):
            return None
        files = _walk(path)
    elif os.path.exists(path):
        files = [path]
    elif name.startswith((".", "/", "~")) or extension(name) in (*SUPPORTED, *PICKLES):
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


LEFT_BEHIND = (".bad", ".partial", ".annotations.jsonl", ".token")


def _nearest(path: str) -> str:
    folder, base = os.path.split(path.rstrip("/"))
    if folder and not os.path.isdir(folder):
        return f"; the folder {folder} does not exist"
    names = [name for name in os.listdir(folder or ".") if base.startswith(".") or not (
        name.startswith(".") or name.endswith(LEFT_BEHIND))]  # what commands write beside data is no data
    near = difflib.get_close_matches(base, names, n=3, cutoff=0.5)
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
    files = sorted(file for file in found if extension(file) in SUPPORTED)
    if not files:
        raise UserError(f"{folder}: no data files in this folder; supported are {', '.join(SUPPORTED)}")
    return files


def _read_file(file: str) -> Part:
    check_kind(file)
    with opened(file) as (_, stream):
        if extension(file) == ".parquet":
            return _arrow_part(file, _read_parquet(file))
        found = list(text_rows(file, stream, give=False))
    if not found:
        raise UserError(f"{file}: is empty")
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
        raise UserError(f"{file}: not a readable parquet file: {first_line(error)}") from error


def load_dataset(spec: str) -> Any:
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
        raise UserError(f"{spec}: {local}the dataset cannot be loaded: {first_line(error)}") from error
    splits, wanted = found if isinstance(found, dict) else {"train": found}, split or "train"
    if wanted not in splits:
        raise UserError(f"{spec}: no split '{wanted}'; the splits are {', '.join(splits)}")
    return splits[wanted]
