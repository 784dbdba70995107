"""Output files that grow together, and how much of the input they cover: a run that was killed goes on from there.

    with Ledger("out", ("kept.jsonl", "rejected.jsonl"), header={"input": digest}) as ledger:
        for n, row in enumerate(rows, 1):
            if n > ledger.done:                    # rows that an earlier run has dealt with
                ledger.write("kept.jsonl", line)
                if n % 1000 == 0: ledger.commit(n)
        ledger.commit(n)

`ledger.jsonl` holds the header and a line a commit: the rows that are done and the length of every file then. What a
kill left behind the last commit is cut off. A folder of another header is refused where something was committed, and a
second process too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jitune.evals.store import lock, parse, to_line
from jitune.types import UserError

NAME = "ledger.jsonl"
SHOWN = 4  # differences that a refusal tells
BUFFER = 1 << 16  # bytes of a file that are written at a time


class Ledger:
    """Append-only files of one folder under one count of rows.

    Attributes:
      done: input rows that the files cover; 0 for a new folder.
      notes: what the last commit said besides, such as counters; {} for a new folder.
      sizes: the length of each open file, what is not committed yet included.
    """

    def __init__(self, folder: str | Path, files: Sequence[str], header: dict, *, name: str = NAME,
                 others: Sequence[str] = ()):
        """others: what is written beside the files, which a folder must not hold either before there is a ledger."""
        self.folder, self.path = Path(folder), Path(folder) / name
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder}: is a file; a folder is needed")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.done, self.notes, self.streams, self.sizes, self.dirty = 0, {}, {}, {}, set()
        self.file = open(self.path, "a+b")
        try:
            lock(self.file, self.folder)
            self.committed = self._read(header, (*files, *others))
            for file in files:
                self.add(file)
        except BaseException:
            self._close()
            raise

    def _read(self, header: dict, files: Sequence[str]) -> dict[str, int]:
        """Takes up the last commit; returns the length of each file then."""
        self.file.seek(0)
        end, sizes, other = 0, {}, None
        for number, line in enumerate(self.file, 1):
            entry = parse(line, ("done", "sizes") if number > 1 else ("header",))
            if entry is None:
                if line.endswith(b"\n"):
                    raise UserError(f"{self.path}:{number}: is not a line of a ledger; give another folder")
                break
            if number == 1 and entry["header"] != header:
                other = entry["header"]
            elif other is not None:
                raise UserError(f"{self.folder}: was written for something else ({difference(other, header)}); give "
                                "another folder, or move it away")
            elif number > 1:
                self.done, sizes, self.notes = entry["done"], entry["sizes"], entry.get("notes", {})
            end += len(line)
        end = end if other is None else 0  # a run that failed before its first commit is no run
        self.file.truncate(end)
        if not end:
            there = [file for file in files if (self.folder / file).exists()]
            if there and other is None:
                self.path.unlink()
                raise UserError(f"{self.folder / there[0]}: is there already; give another folder, or move it away")
            self.file.write(to_line({"header": header}))
            self.file.flush()
        return sizes

    def add(self, file: str) -> None:
        """Opens one more file, as it was at the last commit; a file that no commit knows is new."""
        size = self.committed.get(file, 0)
        self.streams[file], self.sizes[file] = self._open(file, size), size

    def drop(self, file: str) -> None:
        """Closes a file for good and takes it away; it may be missing."""
        if file in self.streams:
            self.streams.pop(file).close()
            self.dirty.discard(file)
        self.sizes.pop(file, None)
        (self.folder / file).unlink(missing_ok=True)

    def _open(self, file: str, size: int):
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = open(path, "ab", BUFFER)
        if stream.tell() < size:
            stream.close()
            raise UserError(f"{path}: is shorter than when it was written; it was changed, so give another folder")
        stream.truncate(size)
        return stream

    def write(self, file: str, data: bytes) -> int:
        """Appends to one of the files; not safe from kills before `commit`. Returns where it begins."""
        begins = self.sizes[file]
        self.streams[file].write(data)
        self.sizes[file] += len(data)
        self.dirty.add(file)
        return begins

    def flush(self) -> None:
        """What was written can be read."""
        for file in self.dirty:
            self.streams[file].flush()

    def commit(self, done: int, **notes: Any) -> None:
        """Everything written so far is on disk, and covers `done` rows of the input."""
        for file in sorted(self.dirty):
            self.streams[file].flush()
            os.fsync(self.streams[file].fileno())
        self.dirty.clear()
        self.file.write(to_line({"done": done, "sizes": self.sizes, "notes": notes}))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.done, self.notes, self.committed = done, notes, dict(self.sizes)

    def _close(self) -> list[OSError]:
        """Closes all files, and gives what went wrong: what was written last may not have found its place."""
        failed = []
        for stream in (*self.streams.values(), self.file):
            try:
                stream.close()
            except OSError as error:
                failed.append(error)
        return failed

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind, *_) -> None:
        failed = self._close()
        if failed and kind is None:  # else the first error is on its way, and says more
            raise failed[0]


def difference(found: Any, wanted: dict) -> str:
    """What another header says otherwise, for people to read."""
    if not isinstance(found, dict):
        return "it has no header"
    found, wanted = flat(found), flat(wanted)
    names = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    names.sort(key=lambda name: not (name in found and name in wanted))  # what has changed before what has come or gone
    told = [f"{name} {found.get(name)!r:.60} there, {wanted.get(name)!r:.60} here" for name in names[:SHOWN]]
    return "; ".join([*told, *([f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else [])])


def flat(header: dict) -> dict:
    """The header with the values of the objects in it under names of their own: {"teacher.model": "large"}."""
    found = {}
    for name, value in header.items():
        inner = {f"{name}.{key}": one for key, one in flat(value).items()} if isinstance(value, dict) else {}
        found |= inner or {name: value}
    return found
