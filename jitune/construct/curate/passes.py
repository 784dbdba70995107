"""Passes of a curation over files: Filters and Sieves in a row make one pass, a Choice makes one of its own.

    input -> pass 0 -> work/0.jsonl -> pass 1 (a Choice) -> kept.jsonl
                 |                          |
                 +----- rejected.jsonl -----+

A line between passes is `3<TAB>{record}`: which input the record comes from. What a Sieve admitted is `work/NAME.keys`,
what a Choice measured `work/NAME.f32`. All files grow under one ledger, whose commits say which pass is going on and
hold the counts, so that a run that was killed goes on from the last one and ends with the same bytes.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from jitune.construct.curate.sift import choose, head_of, measure, note, tell
from jitune.construct.curate.stage import Choice, Filter, Memory, Reject, Sieve, Stage
from jitune.construct.curate.table import Spec
from jitune.construct.curate.tally import Tally, facts
from jitune.construct.curate.workers import Judged, Pool, as_line, chunks
from jitune.construct.ledger import Ledger
from jitune.data.record import Record
from jitune.data.record_rows import from_row

KEPT, REJECTED = "kept.jsonl", "rejected.jsonl"
COMMIT_SECONDS = (2.0, 30.0)  # between commits: a fiftieth of the time so far, within these
LENGTHS = struct.Struct("<HI")  # of a key and an id in a file of keys


class State:
    """A run's ledger and counts, and how far it is: the number of the pass, and the phase of a Choice."""

    def __init__(self, ledger: Ledger, names: Sequence[str]):
        self.ledger, self.tally = ledger, Tally(names, ledger.notes.get("tally", {}))
        self.number, self.phase = ledger.notes.get("pass", 0), ledger.notes.get("phase", "")
        self.done = ledger.done
        self.began = self.clock = time.perf_counter()
        self.cpu = time.process_time()

    def commit(self, done: int) -> None:
        """Writes how far the run is."""
        now, cpu, tree = time.perf_counter(), time.process_time(), self.tally.tree
        tree["seconds"] += now - self.clock
        tree["cpu"] += cpu - self.cpu
        self.clock, self.cpu, self.done = now, cpu, done
        self.ledger.commit(done, tally=tree, phase=self.phase, **{"pass": self.number})

    def commit_now_and_then(self, done: int) -> None:
        """Commits where the last time is long ago."""
        low, high = COMMIT_SECONDS
        now = time.perf_counter()
        if now - self.clock >= min(high, max(low, (now - self.began) / 50)):
            self.commit(done)

    def turn(self, number: int, phase: str = "") -> None:
        """Goes on to another pass or phase."""
        self.number, self.phase = number, phase
        self.commit(0)

    def reject(self, stage: str, reject: Reject, *, id: str, source: str, line: bytes = b"", raw: Any = None) -> None:
        """Writes and counts a rejection."""
        row = {"stage": stage, "reason": reject.reason, "detail": reject.detail, "spans": reject.spans,
               "source": source, "id": id}  # fmt: skip
        row |= {"raw": raw} if raw is not None else {}
        # A JSON text may name half of a surrogate pair, \udc80, which no file of UTF-8 can hold.
        text = json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace")
        text = text[:-1] + b', "record": ' + line + b"}" if line else text
        self.tally.reject(stage, reject, id or source, self.ledger.write(REJECTED, text + b"\n"))


def plan(stages: Sequence[tuple[str, Stage]]) -> list[list[int]]:
    """Which stages make a pass: [filter, sieve, choice, filter] -> [[0, 1], [2], [3]]."""
    found: list[list[int]] = []
    for i, (_, stage) in enumerate(stages):
        if i and not isinstance(stage, Choice) and not isinstance(stages[i - 1][1], Choice):
            found[-1].append(i)
        else:
            found.append([i])
    return found


def between(number: int) -> str:
    """The file of what passed a pass that is not the last."""
    return f"work/{number}.jsonl"


def stream_pass(state: State, stages: Sequence[tuple[str, Filter | Sieve]], specs: Sequence[Spec],
                items: Iterable[tuple[int, Any]], *, out: str, workers: int, tick: Callable[[int], None]) -> None:
    """Runs items (input, a Record or a `Bad`) through filters and sieves; what passes goes to `out`.

    Args:
      items: all of the pass; those that earlier runs have dealt with are skipped.
      tick: is told how many items are done.
    """
    memories = {at: restored(state.ledger, name, stage)
                for at, (name, stage) in enumerate(stages) if isinstance(stage, Sieve)}
    done, items = state.done, iter(items)
    for skipped in range(done):
        next(items)
        if skipped % 1000 == 0:
            tick(skipped)
    state.ledger.add(out) if out not in state.ledger.sizes else None
    with Pool(specs, stages, workers) as pool:
        for chunk, found in pool.map(chunks(items)):
            for (name, _), seconds in zip(stages, found.cpu, strict=True):
                state.tally.spent(name, seconds)
            state.tally.tree["cpu"] += found.whole if pool.workers else 0.0
            repeated = admit(state, stages, memories, [i for _, i in chunk if isinstance(i, Record)], found.judged)
            judged = iter(zip(found.judged, repeated, strict=True))
            for input, item in chunk:
                if isinstance(item, Record):
                    settle(state, stages, input, item, *next(judged), out)
                else:
                    unread(state, input, item)
            done += len(chunk)
            tick(done)
            state.commit_now_and_then(done)
    state.done = done


def unread(state: State, input: int, bad: Any) -> None:
    """Counts and keeps a row that could not be read, or that its reader left out."""
    state.tally.unread(input, fault=bad.fault)
    raw = bad.raw.decode(errors="surrogateescape") if isinstance(bad.raw, bytes) else bad.raw
    state.reject("read", Reject(bad.reason, bad.detail), id="", source=f"{bad.file}:{bad.number}",
                 raw="" if raw is None else raw)


def admit(state: State, stages: Sequence[tuple[str, Stage]], memories: dict[int, Memory], records: Sequence[Record],
          judged: Sequence[Judged]) -> list[tuple[int, Reject, bytes] | None]:
    """Asks the memories, sieve after sieve, in the order of the stream.

    Returns of each record the sieve that rejects it, why, and the record's line then; or None.
    """
    found: list[tuple[int, Reject, bytes] | None] = [None] * len(records)
    for at, memory in memories.items():
        name, began, admitted = stages[at][0], time.process_time(), []
        for i, (record, one) in enumerate(zip(records, judged, strict=True)):
            _, key, line = next((s for s in one.sieves if s[0] == at), (at, None, None))
            if key is None or found[i]:
                continue
            reject = memory.admit(key, record.id)
            if reject:
                found[i] = at, reject, as_line(record) if line is None else line
            else:
                id = record.id.encode()
                admitted += LENGTHS.pack(len(key), len(id)), key, id
        if admitted:
            state.ledger.write(keys_file(name), b"".join(admitted))
        state.tally.spent(name, time.process_time() - began)
    return found


def settle(state: State, stages: Sequence[tuple[str, Stage]], input: int, record: Record, one: Judged,
           repeated: tuple[int, Reject, bytes] | None, out: str) -> None:
    """Counts a record and writes it to where it belongs."""
    tally = state.tally
    at, reject, line = repeated or (one.stage, one.reject, one.line)
    if state.number == 0:
        tally.read(input, one.before)
        tally.language(one.after.language)
    for stage in one.changed:
        if at is None or stage <= at:
            tally.changed(stages[stage][0])
    if reject is not None:
        state.reject(stages[at][0], reject, id=record.id, source=record.provenance.source, line=line)
    elif out == KEPT:
        tally.keep(input, one.after)
        state.ledger.write(out, line + b"\n")
    else:
        state.ledger.write(out, b"%d\t" % input + line + b"\n")


def keys_file(name: str) -> str:
    """Where the keys of a sieve are kept."""
    return f"work/{name}.keys"


def restored(ledger: Ledger, name: str, sieve: Sieve) -> Memory:
    """The memory of a sieve, with what earlier runs admitted."""
    file, memory = keys_file(name), sieve.memory()
    ledger.add(file)
    with open(ledger.folder / file, "rb") as stream:
        while head := stream.read(LENGTHS.size):
            of_key, of_id = LENGTHS.unpack(head)
            memory.restore(stream.read(of_key), stream.read(of_id).decode())
    return memory


def read_between(path: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """(input, the record's line) of a file between passes, from row `start` on."""
    with open(path, "rb") as stream:
        for line in islice(stream, start, None):
            input, _, rest = line.rstrip(b"\n").partition(b"\t")
            yield int(input), rest


def as_record(path: Path, line: bytes, number: int) -> Record:
    """The record of a line."""
    return from_row(json.loads(line), (str(path), number))


def read_records_between(path: Path, start: int = 0) -> Iterator[tuple[int, Record]]:
    """(input, record) of a file between passes, from row `start` on."""
    for number, (input, line) in enumerate(read_between(path, start), start + 1):
        yield input, as_record(path, line, number)


def choice_pass(state: State, name: str, choice: Choice, inputs: Sequence[str], path: Path, *, out: str,
                tick: Callable[[str, int], None]) -> None:
    """Measures all records of a file between passes, chooses among them, and writes them to where they belong.

    inputs: the names of the inputs, which the choice is given as sources. tick: is told the phase and its progress.
    """
    began = time.process_time()
    if choice.width and state.phase in ("", "measure"):
        measure_all(state, name, choice, path, tick)
    heads = [head_of(record, inputs[input]) for input, record in read_records_between(path)]
    measured = measurements(state.ledger.folder / f"work/{name}.f32", len(heads), choice.width)
    verdicts = choose(choice, heads, measured)
    state.tally.tree["told"][name] = tell(choice, heads, measured, verdicts)
    del heads
    if state.phase != "write":
        state.tally.spent(name, time.process_time() - began)
        state.turn(state.number, "write")
    write_all(state, name, choice, path, verdicts, measured, out, tick)


def measure_all(state: State, name: str, choice: Choice, path: Path, tick: Callable) -> None:
    """Appends rows of numbers, batch after batch: a run that goes on makes the same batches."""
    file, state.phase, done = f"work/{name}.f32", "measure", state.done
    state.ledger.add(file)
    records = (record for _, record in read_records_between(path, done))
    while batch := list(islice(records, choice.batch_size)):
        rows = measure(choice, batch)
        state.ledger.write(file, rows.astype("<f4").tobytes())
        done += len(batch)
        tick("measuring", done)
        state.commit_now_and_then(done)
    state.commit(done)


def measurements(path: Path, rows: int, width: int) -> Any:
    """What was measured, float32 [rows, width], on disk."""
    import numpy

    if not rows or not width:
        return numpy.zeros((rows, width), numpy.float32)
    return numpy.memmap(path, "<f4", "r", shape=(rows, width))


def write_all(state: State, name: str, choice: Choice, path: Path, verdicts: Sequence[Reject | None], measured: Any,
              out: str, tick: Callable) -> None:
    """Writes records with their verdicts."""
    done = state.done
    state.ledger.add(out) if out not in state.ledger.sizes else None
    for at, (input, line) in enumerate(read_between(path, done), done):
        record, reject = as_record(path, line, at + 1), verdicts[at]
        noted = note(choice, record, measured[at])
        if noted is not record:
            record, line = noted, as_line(noted)
            state.tally.changed(name)
        if reject:
            state.reject(name, reject, id=record.id, source=record.provenance.source, line=line)
        elif out == KEPT:
            state.tally.keep(input, facts(record))
            state.ledger.write(out, line + b"\n")
        else:
            state.ledger.write(out, b"%d\t" % input + line + b"\n")
        if at % 256 == 0:
            tick("writing", at + 1)
            state.commit_now_and_then(at + 1)
    tick("writing", len(verdicts))
    state.done = len(verdicts)

