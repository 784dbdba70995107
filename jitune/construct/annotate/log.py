"""The log of annotations: append-only JSON lines, each on disk before anybody is told that it is saved.

    with Log("data.jsonl.annotations.jsonl") as log:
        log.start({"items": 50, ...})           # the first line; a log of another header is refused
        log.append({"kind": "answer", "event": "6f...", "annotator": "ann", "item": "8f...", "state": "done", ...})
        log.latest("ann", "8f...")              # that entry

Three kinds of entries: `answer` (all of an item's questions, or that it was skipped), `undo` of the latest answer, and
`draft` (what was typed so far). An event's id makes it count once, however often it is sent. In memory is where each
entry lies, not what it says. A last line that was cut off is dropped: nobody was told that it was saved.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from jitune.evals.store import lock, parse, to_line
from jitune.types import UserError

FORMAT = 1
NAMES = ("kind", "event", "annotator", "item")
KINDS = ("answer", "undo", "draft")


class Mark(NamedTuple):
    """Where an answer lies. state: l (labelled), e (empty: looked at, nothing to say) or s (skipped)."""

    state: str
    start: int
    size: int


class Marks:
    """What a log says, by annotator and item.

    Attributes:
      answers: {annotator: {item: marks of its answers, the latest last}}. drafts: {(annotator, item): (start, size)}.
      recent: {annotator: items in the order of their answers}. events: ids of all that was taken.
    """

    def __init__(self):
        self.answers: dict[str, dict[str, list[Mark]]] = {}
        self.drafts: dict[tuple[str, str], tuple[int, int]] = {}
        self.recent: dict[str, list[str]] = {}
        self.events: set[str] = set()

    def take(self, entry: dict, start: int, size: int) -> None:
        """Counts an entry."""
        name, item = entry["annotator"], entry["item"]
        self.events.add(entry["event"])
        if entry["kind"] == "draft":
            self.drafts[name, item] = (start, size)
            return
        marks = self.answers.setdefault(name, {}).setdefault(item, [])
        if entry["kind"] == "answer":
            marks.append(Mark(_state(entry), start, size))
            self.recent.setdefault(name, []).append(item)
        elif marks:
            marks.pop()
            recent = self.recent[name]
            del recent[len(recent) - 1 - recent[::-1].index(item)]
        self.drafts.pop((name, item), None)

    def state(self, annotator: str, item: str) -> str:
        """l, e, s, or "." where there is no answer."""
        marks = self.answers.get(annotator, {}).get(item)
        return marks[-1].state if marks else "."


class Log:
    """A log that this process writes; no other one can at the same time.

    Attributes:
      header: the first line's, or None for a new log. marks: what it says.
    """

    def __init__(self, path: str | Path):
        self.path, self.marks, self.header, self.torn = Path(path), Marks(), None, False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.path, "a+b", buffering=0)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror}") from None
        try:
            self._lock()
            self.end = 0
            with open(self.path, "rb") as stream:
                self.header = read_header(stream, self.path)
                self.end = stream.tell() if self.header else 0
                for entry, start, size in entries(stream, self.path) if self.header else ():
                    self.marks.take(entry, start, size)
                    self.end = start + size
            self.file.truncate(self.end)
        except BaseException:
            self.file.close()
            raise

    def _lock(self) -> None:
        try:
            lock(self.file, self.path)
        except UserError:
            raise UserError(f"{self.path}: another server writes this log; several annotators can use its page, or "
                            "give another --log") from None

    def start(self, header: dict) -> None:
        """Writes the first line of a new log, or of one in which nobody said anything yet.

        Raises:
          UserError: the log has another one.
        """
        header = {"format": FORMAT, **header}
        if self.header not in (None, header) and not self.marks.events:
            self.file.truncate(0)
            self.header, self.end = None, 0
        if self.header is None:
            self._write(to_line({"annotations": header}))
            self.header = header
        names = [name for name in sorted({*self.header, *header}) if self.header.get(name) != header.get(name)]
        if names:
            follow = {"assignment"} | ({"items", "digest"} if "questions" in names else set())  # what fits them
            found = "; ".join(_differing(name, self.header.get(name), header.get(name)) for name in names
                              if name not in follow or not {*names} - follow)
            raise UserError(f"{self.path}: was begun for something else ({found}); give another --log, or the same "
                            "file and options")

    def append(self, entry: dict) -> bool:
        """Keeps an entry, on disk when this returns; False where its event is there already.

        Raises:
          OSError: it could not be written, as on a full disk; the log is as it was before.
        """
        if entry["event"] in self.marks.events:
            return False
        start, line = self.end, to_line(entry)
        self._write(line)
        self.marks.take(entry, start, len(line))
        return True

    def _write(self, line: bytes) -> None:
        if self.torn:
            self.file.truncate(self.end)
        self.torn, left = True, memoryview(line)
        try:
            while left:
                left = left[self.file.write(left):]
            os.fsync(self.file.fileno())
        except OSError:
            # Half a line must not stand before the next one.
            self.file.truncate(self.end)
            self.torn = False
            raise
        self.torn, self.end = False, self.end + len(line)

    def latest(self, annotator: str, item: str) -> dict | None:
        """The entry of an annotator's answer to an item, or None."""
        marks = self.marks.answers.get(annotator, {}).get(item)
        return read_entry(self.file, *marks[-1][1:]) if marks else None

    def draft(self, annotator: str, item: str) -> dict | None:
        """The entry of the draft since the latest answer, or None."""
        found = self.marks.drafts.get((annotator, item))
        return read_entry(self.file, *found) if found else None

    def close(self) -> None:
        """Lets go of the file; one that nothing was written to is taken away."""
        if self.header is None and not self.end:
            self.path.unlink(missing_ok=True)
        self.file.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def load(path: str | Path) -> tuple[dict, Marks]:
    """The header of a log and what it says, while somebody may be writing it.

    Raises:
      UserError: there is no log, or the file is something else.
    """
    marks = Marks()
    try:
        with open(path, "rb") as stream:
            header = read_header(stream, path)
            for entry, start, size in entries(stream, path) if header else ():
                marks.take(entry, start, size)
    except OSError as error:
        raise UserError(f"{path}: the log cannot be read: {error.strerror}") from None
    if header is None:
        raise UserError(f"{path}: the log is empty")
    return header, marks


def read_header(stream: IO[bytes], path: str | Path) -> dict | None:
    """What the first line says; None for an empty file or a first line that was cut off."""
    line = stream.readline()
    entry = parse(line, ("annotations",))
    if entry is None:
        beginning = b'{"annotations": '
        if not line or (not line.endswith(b"\n") and (line.startswith(beginning) or beginning.startswith(line))):
            return None
        raise UserError(f"{path}:1: is not a log of annotations; give another --log")
    header = entry["annotations"]
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(f"{path}:1: is a log of a format that this version does not read")
    return header


def entries(stream: IO[bytes], path: str | Path) -> Iterator[tuple[dict, int, int]]:
    """(entry, start, size) of every line that is left of a stream, but one that was cut off.

    Raises:
      UserError: a whole line is no entry.
    """
    for number, line in enumerate(iter(stream.readline, b""), 2):
        entry = parse(line, NAMES)
        if entry is None or entry["kind"] not in KINDS:
            if not line.endswith(b"\n"):
                return
            raise UserError(f"{path}:{number}: is not a line of a log of annotations; what is before it is whole: "
                            "mend the line or take it out")
        yield entry, stream.tell() - len(line), len(line)


def read_entry(stream: IO[bytes], start: int, size: int) -> dict[str, Any]:
    """The entry that lies there."""
    return parse(os.pread(stream.fileno(), size, start), NAMES)


def _state(entry: dict) -> str:
    if entry.get("state") == "skipped":
        return "s"
    answers = entry.get("answers") or {}
    return "l" if any(found.get("state") == "labelled" for found in answers.values()) else "e"


def _differing(name: str, there: Any, here: Any) -> str:
    """What two headers say otherwise, for people to read."""
    if name == "questions":
        return f"it asks to {_asking(there)}, and this is to {_asking(here)}"
    if name == "annotators":
        return " and ".join((f"its annotators are {', '.join(there)}" if there else "anybody annotates it",
                             f"these are {', '.join(here)}" if here else "this is for anybody"))
    words = {"items": "it has {} items, and the file {}", "digest": "the file's records are others now",
             "overlap": "its overlap is {}, and here it is {}", "seed": "its seed is {}, and here it is {}",
             "assignment": "its items go to others"}
    return words.get(name, "its " + name + " is {}, and here it is {}").format(there, here)


def _asking(questions: Sequence[dict]) -> str:
    """[{"kind": "rate", "name": "rating", "points": [[1, ""], [2, ""]]}] -> "rate 'rating' (1, 2)"."""
    told = []
    for question in questions or ():
        points = ", ".join(str(value) + (f"={name}" if name else "") for value, name in question["points"])
        told.append(f"{question['kind']} '{question['name']}'" + (f" ({points})" if points else ""))
    return " and ".join(told) or "do nothing"
