"""An append-only file of what was computed or paid for: killed runs go on from it, and a rerun calls nothing.

    with Store(path, header={"model": digest}) as store:
        store.get(key)         # None where it is not there
        store.put(key, value)  # on disk before it returns

The first line is the header; a store of another header is refused. A last line that was cut off is dropped.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import IO, Any

from jitune.types import UserError

try:
    import fcntl
except ImportError:  # Windows, where processes do not keep each other out
    fcntl = None


class Store:
    """A dict on disk, JSON lines of {"key", "value"}; safe for threads of one process."""

    def __init__(self, path: str | Path, header: dict):
        self.path, self.header = Path(path), header
        self.values: dict[str, Any] = {}
        self.lock = threading.Lock()
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
        end, lines = 0, self.file.read().splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            entry = parse(line, ("key", "value") if number > 1 else ("header",))
            if entry is None:
                # Cut off by a kill; a file of something else is not ours to cut.
                if number == len(lines) and (number > 1 or to_line({"header": self.header}).startswith(line)):
                    break
                raise UserError(f"{self.path}:{number}: is not a line of a cache; give another folder, or move the "
                                "file away to start anew")
            if number == 1:
                self._check(entry["header"])
            else:
                self.values[entry["key"]] = entry["value"]
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

    def get(self, key: str) -> Any:
        """The value of a key, or None."""
        return self.values.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keeps a value."""
        with self.lock:
            self.values[key] = value
            self._write({"key": key, "value": value})

    def close(self) -> None:
        """Leaves everything on disk."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_) -> None:
        self.close()


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
