"""The files of a run while it goes: steps are written and counted, and committed with what the method must know again.

    state = State(ledger, "respond")
    state.step(Step(kept=[record], state={"at": 512}))      # kept.jsonl grows, and the ledger knows it
    state.kept, state.memory, state.state                   # of all steps so far, of an earlier process too
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jitune.construct.curate.stage import Reject
from jitune.construct.curate.tally import Tally, facts
from jitune.construct.distill.method import Rejected, Step
from jitune.construct.ledger import Ledger
from jitune.data.record import Record, named
from jitune.data.record_rows import from_row, to_line
from jitune.data.streams import Bad
from jitune.types import UserError

KEPT, REJECTED, MEMORY = "kept.jsonl", "rejected.jsonl", "memory.jsonl"
READ = "read"


class State:
    """Where a run is.

    Attributes:
      kept, memory, state: what the steps so far have brought.
      tally: counts, see `curate.tally`.
    """

    def __init__(self, ledger: Ledger, method: str):
        self.ledger, self.method = ledger, method
        self.tally = Tally([method], ledger.notes.get("tree", {}))
        self.state: dict[str, Any] = ledger.notes.get("state", {})
        self.kept = [from_row(row, (str(ledger.folder / KEPT), n))
                     for n, row in enumerate(lines(ledger.folder / KEPT), 1)]
        self.memory = list(lines(ledger.folder / MEMORY))
        self.ids = {record.id for record in self.kept}
        self.clock = time.perf_counter()

    def begin(self, records: list[tuple[int, Record | Bad]]) -> None:
        """Counts the input, and writes what could not be read; once."""
        if self.ledger.done:
            return
        for input, item in records:
            if isinstance(item, Bad):
                self.tally.unread(input, fault=item.fault)
                self._reject(READ, Rejected(item.reason, item.detail, f"{item.file}:{item.number}", str(item.raw)))
            else:
                self.tally.read(input, facts(item))
        self.commit()

    def step(self, step: Step, *, commit: bool = True) -> None:
        """Writes what a step brought. commit: False leaves it to be done again by the next run."""
        for record in step.kept:
            self._keep(record)
        for one in step.rejected:
            self._reject(self.method, one)
        for value in step.memory:
            self.ledger.write(MEMORY, json.dumps(value, ensure_ascii=False).encode() + b"\n")
        self.state = dict(step.state)
        self.commit() if commit else self._spent()

    def commit(self) -> None:
        """Everything so far is on disk."""
        self._spent()
        self.ledger.commit(self.ledger.done + 1, tree=self.tally.tree, state=self.state)

    def _spent(self) -> None:
        now = time.perf_counter()
        self.tally.tree["seconds"] += now - self.clock
        self.clock = now

    def _keep(self, record: Record) -> None:
        try:
            record = named(record)
            line = to_line(record)
        except (UserError, UnicodeEncodeError) as error:
            self._reject(self.method, Rejected("malformed", str(error), record.provenance.source))
            return
        if record.id in self.ids:
            self._reject(self.method, Rejected("duplicate", f"the same as record {record.id}",
                                               record.provenance.source, record=record))
            return
        self.ids.add(record.id)
        self.ledger.write(KEPT, line)
        self.tally.made(facts(record))

    def _reject(self, stage: str, one: Rejected) -> None:
        record = named(one.record) if one.record else None
        id = record.id if record else ""
        row = {"stage": stage, "reason": one.reason, "detail": one.detail, "source": one.source, "id": id,
               "text": one.text}  # fmt: skip
        text = json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace")
        text = text[:-1] + b', "record": ' + to_line(record).rstrip(b"\n") + b"}" if record else text
        mark = id or f"{one.source}{one.text[:200]}"
        self.tally.reject(stage, Reject(one.reason, one.detail), mark, self.ledger.write(REJECTED, text + b"\n"))


def lines(path: Path) -> Iterator[Any]:
    """The JSON values of a file's lines; none where there is no file."""
    if path.exists():
        with open(path, "rb") as stream:
            for line in stream:
                yield json.loads(line)
