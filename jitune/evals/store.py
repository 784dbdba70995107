"""An append-only file of what was computed or paid for: killed runs go on from it, and a rerun calls nothing.

    with Store(path, header={"model": digest}) as store:
        store.get(key)         # None where it is not there
        store.put(key, value)  # on disk before it returns

The first line is the header; a store of another header is refused. A last line that was cut off is dropped. With
`offsets` values stay in the file and only their places are in memory, for files of hundreds of thousands of entries.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from jitune.types import UserError

try:
    import fcntl
except ImportError:  # Windows, where processes do not keep each other out
    fcntl = None


class Store:
    """A dict on disk, JSON lines of {"key", "value"}; safe for threads of one process.

    offsets: `values` are read from the file when they are asked for. each: told (key, value) of every entry that is
    there already.
    """

    def __init__(self, path: str | Path, header: dict, *, offsets: bool = False,
                 each: Callable[[str, Any], None] | None = None):
        self.path, self.header, self.each = Path(path), header, each
        self.lock = threading.RLock()
        self.places: dict[str, int] | None = {} if offsets else None
        self.values: Mapping[str, Any] = Places(self) if offsets else {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.path, "a+b")
        try:
            lock(self.file, self.path)
            end = self._read()
        except BaseException:
            self.file.close()
            raise
        self.file.truncate(end)
        self.file.seek(end)
        if not end:
            self._write({"header": header})

    def _read(self) -> int:
        """Fills `values`; returns where the last whole line ends."""
        self.file.seek(0)
        end, number = 0, 0
        while line := self.file.readline():
            number += 1
            entry = parse(line, ("key", "value") if number > 1 else ("header",))
            if entry is None:
                # Cut off by a kill; a file of something else is not ours to cut.
                last = not self.file.read(1)
                if last and (number > 1 or to_line({"header": self.header}).startswith(line)):
                    break
                raise UserError(f"{self.path}:{number}: is not a line of a cache; give another folder, or move the "
                                "file away to start anew")
            if number == 1:
                self._check(entry["header"])
            else:
                self._hold(entry["key"], entry["value"], end)
                if self.each:
                    self.each(entry["key"], entry["value"])
            end += len(line)
        return end

    def _check(self, found: Any) -> None:
        if found == self.header:
            return
        names = sorted({*(found or {}), *self.header}) if isinstance(found, dict) else []
        parts = [f"{n} {found.get(n)!r:.60} there, {self.header.get(n)!r:.60} here"
                 for n in names if found.get(n) != self.header.get(n)]
        raise UserError(f"{self.path}: was written for something else ({'; '.join(parts) or 'it has no header'}); "
                        "give another folder, or move the file away")

    def _write(self, entry: dict) -> None:
        self.file.write(to_line(entry))
        self.file.flush()

    def _hold(self, key: str, value: Any, start: int) -> None:
        if self.places is None:
            self.values[key] = value
        else:
            self.places[key] = start

    def get(self, key: str) -> Any:
        """The value of a key, or None."""
        return self.values.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keeps a value."""
        with self.lock:
            start = self.file.seek(0, os.SEEK_END) if self.places is not None else 0
            self._write({"key": key, "value": value})
            self._hold(key, value, start)

    def close(self) -> None:
        """Leaves everything on disk."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class Places(Mapping):
    """The values of a store that lie in its file."""

    def __init__(self, store: Store):
        self.store = store

    def __getitem__(self, key: str) -> Any:
        with self.store.lock:
            self.store.file.seek(self.store.places[key])
            return json.loads(self.store.file.readline())["value"]

    def __iter__(self) -> Iterator[str]:
        return iter(self.store.places)

    def __len__(self) -> int:
        return len(self.store.places)


def from_first_process(values: Mapping[str, Any]) -> dict:
    """The first process's values, in every process of a run with jax."""
    import jax

    if jax.process_count() == 1:
        return dict(values)
    import numpy as np
    from jax.experimental.multihost_utils import broadcast_one_to_all

    data = np.frombuffer(json.dumps(dict(values)).encode(), np.uint8)
    size = int(broadcast_one_to_all(np.int64(len(data))))
    padded = np.zeros(size, np.uint8)
    padded[: min(size, len(data))] = data[:size]
    return json.loads(bytes(np.asarray(broadcast_one_to_all(padded))))


def one_process(what: str) -> None:
    """Refuses one of several processes of a run with jax, all of which would write the same files. Raises UserError."""
    jax = sys.modules.get("jax")  # without it there is one process
    if jax and jax.distributed.is_initialized() and jax.process_count() > 1:
        raise UserError(f"{what} runs in one process, on all of its devices; this is one of {jax.process_count()}")


def lock(file: IO, path: str | Path) -> None:
    """Keeps other processes out, whose lines would stand in the middle of ours; the end of a process lets go.

    Raises:
      UserError: another process has the file.
    """
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{path}: is in use by another process that is still going; wait for its end, or give "
                        "another folder") from None
    except OSError:  # a file system without locks
        pass


def to_line(entry: dict) -> bytes:
    """An entry as it stands in the file."""
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"


def parse(line: bytes, names: tuple[str, ...]) -> dict | None:
    """The entry of a line, or None where it is cut off, or lacks one of the names."""
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and all(name in entry for name in names) else None
