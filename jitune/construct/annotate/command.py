"""Annotating from a command line: file and log in, a server until Ctrl-C, a line for each annotator out.

    annotate("data.jsonl", "data.jsonl.annotations.jsonl", Options(tasks=["rate"]), annotator="ann")
    export("data.jsonl", "data.jsonl.annotations.jsonl", "out.jsonl")   # "out.jsonl: 48 records of 50 items ..."

A log that is there says itself what is asked of whom; options that differ from it are refused.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import webbrowser
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from jitune.construct.annotate import export as exporting
from jitune.construct.annotate import label_studio
from jitune.construct.annotate.desk import Desk, Plan, clean_name, from_header, make_plan, to_header
from jitune.construct.annotate.guidelines import read as read_guidelines
from jitune.construct.annotate.items import Items, gather
from jitune.construct.annotate.log import Log
from jitune.construct.annotate.page import make
from jitune.construct.annotate.questions import parse
from jitune.construct.annotate.server import is_loopback, serve
from jitune.construct.reading import read_records
from jitune.construct.whole_file import whole_file
from jitune.data.record import Record
from jitune.data.record_rows import to_line
from jitune.evals.pages.shown import numbered
from jitune.evals.progress import Bars
from jitune.types import UserError

LARGE = 20 * 2**20  # bytes that take long enough to read for a bar


class Options(NamedTuple):
    """What a command line says; what is left empty is as the log says, or by default."""

    tasks: Sequence[str] = ()
    scales: Sequence[str] = ()
    reasons: Sequence[str] = ()
    asks: Sequence[str] = ()
    annotators: tuple[str, ...] = ()
    overlap: int = 0
    seed: int = 0
    format: str = "auto"
    fields: str = ""
    guidelines: str = ""


def annotate(source: str, log_path: str, options: Options, *, annotator: str = "", host: str = "127.0.0.1",
             port: int = 0, browser: bool = False) -> None:
    """Serves the page of a file until Ctrl-C, then prints what is done.

    Raises:
      UserError: the file, the log, the options or the port cannot be used.
    """
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        raise UserError("jitune data annotate needs aiohttp: pip install 'jitune[data]'") from None
    annotator = clean_name(annotator) if annotator else ""
    guidelines = read_guidelines(options.guidelines) if options.guidelines else ""
    with Log(log_path) as log:
        desk = open_desk(source, log, options)
        with closing(desk.items):
            if annotator:
                desk.places(annotator)
            tokens = {} if is_loopback(host) else make_tokens(Path(f"{log_path}.token"), desk.plan.annotators)
            page = make(os.path.basename(source.rstrip("/")), guidelines=guidelines, names=desk.plan.annotators)
            serve(desk, page, host=host, port=port, tokens=tokens, opened=_teller(annotator, browser, log_path))
            print("\n".join(summary(desk)), flush=True)


def open_desk(source: str, log: Log, options: Options) -> Desk:
    """The items of a file under the plan of a log, which is made and written where the log is new."""
    asked = (*options.tasks, *options.scales, *options.reasons, *options.asks)
    questions = parse(options.tasks or ["rate"], scales=options.scales, reasons=options.reasons,
                      asks=options.asks) if asked or log.header is None else from_header(log.header).questions
    items = gather(_records(source, options), questions, what=source)
    try:
        plan = _plan(items, log, questions, options)
        log.start(to_header(plan, items))
    except BaseException:
        items.close()
        raise
    for count, what in ((items.repeated, "shown once: said before"),
                        *((n, f"left out: {why}") for why, n in items.left_out.items())):
        if count:
            print(f"{source}: {numbered(count, 'record')} {what}", file=sys.stderr)
    return Desk(items, log, plan)


def _plan(items: Items, log: Log, questions: tuple, options: Options) -> Plan:
    known = from_header(log.header) if log.header else None
    designed = options.annotators or options.overlap or options.seed
    if known and not designed:
        return known._replace(questions=questions)
    annotators = options.annotators or (known.annotators if known else ())
    return make_plan(questions, len(items), annotators=annotators, overlap=options.overlap, seed=options.seed)


def _records(source: str, options: Options) -> Iterator[Record]:
    """The records of a file, with a bar where it is large."""
    reading, before = read_records([source], format=options.format, fields=options.fields), 0
    with Bars(shown=reading.total > LARGE) as bars, bars.bar("reading", reading.total, size=True) as advance:
        for record in reading:
            yield record
            advance(reading.read - before)
            before = reading.read


def make_tokens(path: Path, annotators: Sequence[str]) -> dict[str, str]:
    """A token for each annotator, or one for everybody; kept beside the log, so that links outlive the server.

    Raises:
      UserError: the file of tokens cannot be read or written.
    """
    names = annotators or ("",)
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                json.dump({name: secrets.token_urlsafe(24) for name in names}, stream)
        tokens = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: the tokens cannot be kept there: {error}") from None
    if not isinstance(tokens, dict) or set(tokens) != set(names) or not all(
            isinstance(token, str) and len(token) >= 16 for token in tokens.values()):
        raise UserError(f"{path}: holds tokens of other annotators; delete it, and new ones are made")
    return tokens


def _teller(annotator: str, browser: bool, log_path: str) -> Callable[[list[str]], None]:
    """Prints where the page is, and opens it."""
    def told(urls: list[str]) -> None:
        mine = [url for url in urls if f"annotator={urlencode({'': annotator})[1:]}" in url] if annotator else []
        if annotator and not mine:
            mine = [url + ("&" if "?" in url else "?") + urlencode({"annotator": annotator}) for url in urls[:1]]
        for url in dict.fromkeys((*mine, *(urls if not mine or len(urls) > 1 else ()))):
            print(url, flush=True)
        print(f"answers are kept in {log_path}; Ctrl-C ends", flush=True)
        screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if browser and screen and sys.stdout.isatty():  # elsewhere it would be a browser in this terminal, or none
            webbrowser.open((mine or urls)[0])

    return told


def summary(desk: Desk) -> list[str]:
    """A line for each annotator: what is done of the own items."""
    names = desk.plan.annotators or sorted(desk.log.marks.answers)
    lines = []
    for name in names:
        states = Counter(desk.status(name)["states"])
        done = states["l"] + states["e"] + states["s"]
        lines.append(f"{name}: {done:,} of {states.total():,} done ({states['l']:,} answered, {states['e']:,} left "
                     f"empty, {states['s']:,} skipped)")
    return lines or ["nobody annotated anything"]


def export(source: str, log_path: str, out: str, *, to: str = "records", format: str = "auto",
           fields: str = "") -> str:
    """Writes what was annotated; returns a line that says how much.

    Args:
      to: "records" for JSONL, or "label_studio" for JSON and, beside it, the interface that shows it.

    Raises:
      UserError: the log is missing or about another file, or OUT cannot be written.
    """
    path = Path(out)
    read = {os.path.abspath(source), os.path.abspath(log_path)}
    if read & {os.path.abspath(out), os.path.abspath(originals_of(path))}:
        raise UserError(f"--export {out}: would overwrite what it is made of")
    if to == "records" and path.suffix not in (".jsonl", ".ndjson"):
        raise UserError(f"--export {out}: records are written as .jsonl")
    said, counts = exporting.open_log(log_path), Counter()
    if not any(marks for found in said.marks.answers.values() for marks in found.values()):
        raise UserError(f"{log_path}: nobody annotated anything yet, so there is nothing to export")
    records = _records(source, Options(format=format, fields=fields))
    if to == "records":
        return _export_records(path, records, said, counts)
    pairs = exporting.items(records, said)
    written = _replace(path, _json_list(label_studio.tasks(pairs, said.plan.questions)))
    interface = path.with_suffix(".interface.xml")
    _replace(interface, iter([label_studio.interface(said.plan.questions).encode()]))
    return f"{out}: {numbered(max(0, written - 1), 'task')}; {interface}: the labelling interface that shows them"


def _export_records(path: Path, records: Iterable[Record], said: exporting.Said, counts: Counter) -> str:
    """Writes the records that come out and, where there are any, the originals that they stand in the place of."""
    others, written, replaced = originals_of(path), 0, 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(others) as aside, whole_file(path) as stream:
            def original(record: Record) -> None:
                nonlocal replaced
                replaced += 1
                aside.write(to_line(record))

            for record in exporting.results(records, said, counts, original):
                stream.write(to_line(record))
                written += 1
        if not replaced:
            others.unlink()
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    unchanged = counts.pop("unchanged", 0)
    told = [numbered(count, what) for what, count in counts.items() if what not in ("item", "answer")]
    told += [f"{numbered(unchanged, 'item')} that needed no correction"] if unchanged else []
    line = (f"{path}: {numbered(written, 'record')} of {numbered(counts['item'], 'item')} and "
            f"{numbered(counts['answer'], 'answer')}" + (f" ({', '.join(told)})" if told else ""))
    return line + (f"\n{others}: {numbered(replaced, 'item')} that texts were written for, with what was said of "
                   f"{'it' if replaced == 1 else 'them'} besides" if replaced else "")


def originals_of(path: Path) -> Path:
    """Where an export keeps the items that texts were written for: out.jsonl -> out.originals.jsonl."""
    return path.with_name(f"{path.stem}.originals{path.suffix}")


def _json_list(tasks: Iterator[dict]) -> Iterator[bytes]:
    mark = b"[\n"
    for task in tasks:
        yield mark + json.dumps(task, ensure_ascii=False).encode()
        mark = b",\n"
    yield b"\n]\n" if mark != b"[\n" else b"[]\n"


def _replace(path: Path, parts: Iterator[bytes]) -> int:
    """Writes a file whole or not at all; returns how many parts it has."""
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as stream:
            for count, part in enumerate(parts, 1):  # noqa: B007
                stream.write(part)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    return count
