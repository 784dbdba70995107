"""Any data to records: what `jitune data convert` does.

    done = convert(["hh.jsonl.gz", "alpaca.json"], "out/all.parquet", bad="skip", license="MIT")
    done.kept, done.rejected         # 3311, {"json": 2, "duplicate_id": 1}
    done.rejects                     # "out/all.parquet.bad": a line for each of the three, with file, row, reason, raw

Records are appended to a hidden file beside OUT, which gets its name when all are there. A run that was killed goes
on after the rows that its ledger covers, and writes the same bytes as one that was not.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jitune.construct.ledger import Ledger, difference
from jitune.construct.reading import Reading, read_records
from jitune.construct.record_files import EVERY, Seen, fingerprint, to_parquet
from jitune.data.file_rows import Bad
from jitune.data.record import Record, changed, named, origin_of
from jitune.data.record_rows import to_line
from jitune.data.sources import find_files
from jitune.evals.store import lock
from jitune.types import UserError

KINDS = (".jsonl", ".parquet")
REPEAT = "repeat"  # published data has them; nothing is lost with them, and they are listed
HINT = "; --bad skip leaves such rows out and lists them"


@dataclass
class Converted:
    """What became of the input.

    Attributes:
      kept: records in the file.
      rejected: rows that are not in it, by reason.
      notes: what the reader left out besides, by one word, such as annotations that were cancelled.
      rejects: the file that lists what was rejected; "" where nothing was.
      already: nothing was done, since an earlier run had finished.
    """

    kept: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    rejects: str = ""
    already: bool = False


@dataclass(frozen=True)
class Places:
    """out, and beside it: part (its lines so far), rejects, ledger (how far it has come)."""

    out: Path

    @property
    def part(self) -> Path:
        return self.out.with_name(f".{self.out.name}.part")

    @property
    def rejects(self) -> Path:
        return self.out.with_name(f"{self.out.name}.bad")

    @property
    def ledger(self) -> Path:
        return self.out.with_name(f".{self.out.name}.ledger")


def convert(specs: Sequence[str], out: str | Path, *, format: str = "auto", fields: str = "", license: str = "",
            method: str = "", options: str = "", bad: str = "stop", restart: bool = False,
            progress: Callable[[str, int], Any] | None = None) -> Converted:  # fmt: skip
    """Writes the records of any sources to a `.jsonl` or `.parquet` file.

    Args:
      specs, format, fields, license, method, options: as in `jitune.construct.reading.read_records`.
      bad: stop: a row that is broken, or an id that another record has, is an error. skip: it is listed in OUT.bad
        with its reason, as rows are in any case that repeat an earlier one, or that the reader leaves out on purpose,
        such as ties.
      restart: begin anew, whatever an earlier run has left.
      progress: `(name, bytes in all)` gives a context whose value is called with the bytes that were read since.

    Raises:
      UserError: `file:row: ...`; OUT is there already, or was begun with other input or options; nothing was kept.
    """
    places, progress = Places(Path(out)), progress or (lambda name, total: nullcontext(lambda count: None))
    _check(specs, places.out, bad)
    reading = read_records(specs, format=format, fields=fields, license=license, method=method, options=options,
                           bad="give")
    if restart:
        _remove(places)
    header = {"convert": 1, "input": fingerprint(specs), "format": format, "fields": fields, "license": license,
              "method": method, "options": options}
    earlier, notes = _earlier(places)
    already = earlier == header and bool(notes.get("finished")) and places.out.exists()
    if already:
        _clear(places)  # after a run that was killed between its last steps
    else:
        notes = _run(places, header, earlier, reading, bad, progress)
    done = Converted(notes["kept"], notes["rejected"], notes["notes"],
                     str(places.rejects) if notes["rejected"] else "", already)
    if not done.kept:
        raise UserError(f"{places.out}: no row became a record; {places.rejects} says why")
    return done


def _remove(places: Places) -> None:
    """Removes OUT and what earlier runs left, unless one is still going."""
    with open(places.ledger, "rb") if places.ledger.exists() else nullcontext() as ledger:
        if ledger:
            lock(ledger, places.out)
        for path in (places.ledger, places.part, places.rejects, places.out):
            path.unlink(missing_ok=True)


def _earlier(places: Places) -> tuple[dict | None, dict]:
    """(header, counts at the last commit) of an earlier run; (None, {}) where there was none."""
    try:
        with open(places.ledger, "rb") as file:
            first, last = json.loads(file.readline()), {}
            for line in file:
                last = json.loads(line)
        return first["header"], last.get("notes", {})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None, {}


def _run(places: Places, header: dict, earlier: dict | None, reading: Reading, bad: str,
         progress: Callable[[str, int], Any]) -> dict:
    """Converts what is left; returns the counts. A run that fails before its first row is done leaves no files."""
    if places.out.exists():
        other = f" and was made {_otherwise(earlier, header)}" if earlier not in (None, header) else ""
        raise UserError(f"{places.out}: is there already{other}; give another name, move it away, or begin anew with "
                        "--restart")
    if earlier not in (None, header):
        raise UserError(f"{places.out}: was begun {_otherwise(earlier, header)}; give another "
                        "name, or begin anew with --restart")
    ledger = Ledger(places.out.parent, (places.part.name, places.rejects.name), header, name=places.ledger.name)
    try:
        with ledger:
            if not ledger.notes.get("finished"):
                with progress("convert", reading.total) as advance:
                    _append(ledger, places, reading, bad, advance)
            _publish(places, progress)
    except BaseException:
        for path in (places.ledger, places.part, places.rejects):
            if not ledger.done or path.exists() and not path.stat().st_size:
                path.unlink(missing_ok=True)
        raise
    return ledger.notes


def _otherwise(earlier: dict, header: dict) -> str:
    """What an earlier run was given; of the input, whose digest tells nobody anything, only that it differs."""
    options = difference({**earlier, "input": ""}, {**header, "input": ""})
    same = earlier.get("input") == header["input"]
    return f"with other options ({options})" if same else "of other input" + f", and with {options}" * bool(options)


def _check(specs: Sequence[str], out: Path, bad: str) -> None:
    if out.suffix not in KINDS:
        raise UserError(f"{out}: records are written to a file that ends in {' or '.join(KINDS)}")
    if bad not in ("stop", "skip"):
        raise UserError(f"bad={bad}: is neither stop nor skip")
    for spec in specs:
        for file in find_files(spec) or ():
            if Path(file).resolve() == out.resolve():
                raise UserError(f"{out}: is one of the files that are read; give another name")
        if os.path.isdir(spec) and out.resolve().is_relative_to(Path(spec).resolve()):
            raise UserError(f"{out}: lies in the folder {spec} that is read; give another place")


def _publish(places: Places, progress: Callable[[str, int], Any]) -> None:
    if places.out.suffix == ".parquet":
        with progress("parquet", places.part.stat().st_size) as advance:
            to_parquet(places.part, places.out, advance=advance)
    else:
        os.replace(places.part, places.out)
    _clear(places)


def _clear(places: Places) -> None:
    """Removes what a finished run needs no more."""
    places.part.unlink(missing_ok=True)
    if places.rejects.exists() and not places.rejects.stat().st_size:
        places.rejects.unlink()


def _append(ledger: Ledger, places: Places, reading: Reading, bad: str, advance: Callable[[int], None]) -> None:
    seen, kept, rejected = Seen(), ledger.notes.get("kept", 0), Counter(ledger.notes.get("rejected", {}))
    count, shown, told, good, faulty = 0, 0, time.monotonic(), places.part.name, places.rejects.name
    for count, item in enumerate(reading, 1):
        line, fault = _line(item, seen, reading.at)
        if count > ledger.done:
            if fault and bad == "stop" and _stops(item, fault):
                ledger.commit(count - 1, kept=kept, rejected=dict(rejected))
                raise UserError(f"{fault['file']}:{fault['row']}: {fault['detail']}{HINT}")
            ledger.write(faulty if fault else good, line)
            kept += not fault
            rejected.update([fault["reason"]] if fault else [])
        if count % 256 == 0 and time.monotonic() - told > EVERY:
            advance(reading.read - shown)
            shown, told = reading.read, time.monotonic()
            if count > ledger.done:
                ledger.commit(count, kept=kept, rejected=dict(rejected))
    advance(reading.read - shown)
    notes = {word: number for word, number in reading.notes.items() if word not in rejected}
    ledger.commit(count, kept=kept, rejected=dict(rejected), notes=notes, finished=True)


def _line(item: Record | Bad, seen: Seen, at: tuple[str, int] | None) -> tuple[bytes, dict | None]:
    """The line of an item, and what is wrong with it. at: the row that it is, where it is one row alone."""
    fault = {} if isinstance(item, Record) else {
        "file": item.file, "row": item.number, "reason": item.reason, "detail": item.detail, "raw": item.raw}
    if not fault:
        record = named(item)
        place = dict(zip(("file", "row"), at or origin_of(record), strict=True))
        try:
            line = to_line(record)
            if seen.add(record.id):
                return line, None
            fault = place | _repeated(record) | {"raw": line.decode().rstrip()}
        except UserError as error:
            detail = str(error).removeprefix(f"{record.provenance.source}: ")
            fault = place | {"reason": "unwritable", "detail": detail, "raw": repr(record)}
    return json.dumps(fault, ensure_ascii=False, default=str).encode(errors="backslashreplace") + b"\n", fault


def _repeated(record: Record) -> dict:
    """Why a record whose id has come before is left out: it says the same, or something else under the same name."""
    if record.id == named(changed(record, id="")).id:
        return {"reason": REPEAT, "detail": f"says the same as an earlier record; both are '{record.id}'"}
    return {"reason": "duplicate_id", "detail": f"the id '{record.id}' is that of an earlier record"}


def _stops(item: Record | Bad, fault: dict) -> bool:
    """Whether a row is a mistake: not what repeats an earlier one, nor what the reader leaves out on purpose."""
    return fault["reason"] != REPEAT if isinstance(item, Record) else item.fault
