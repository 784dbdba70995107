"""A curation: `curate(config)` reads, runs the stages, and writes a folder that says everything of it.

    curate(config.from_words("curate", ["--config.input=a.jsonl", "--config.output_dir=curated"]))

| file | what |
|---|---|
| kept.jsonl | the records that passed, a row each (`jitune.data.record_rows`); kept.parquet where it is asked for |
| rejected.jsonl | stage, reason, detail, spans, source, id, and the record as it was then; of a broken row its text |
| funnel.json | counts, reasons, lengths, languages, licences, and what each stage cost |
| card.md | a data card, as dataset cards of the Hugging Face hub |
| report.html | the funnel with examples |
| ledger.jsonl | how far the run is; with work/ while it goes |

A run that was killed goes on with the same call, and ends with the same kept.jsonl and rejected.jsonl.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from jitune.construct.curate import card, identity, ids, report, table
from jitune.construct.curate import config as options
from jitune.construct.curate.funnel import funnel
from jitune.construct.curate.passes import KEPT, REJECTED, State, between, choice_pass, keys_file, plan, stream_pass
from jitune.construct.curate.passes import read_records_between as records_between
from jitune.construct.curate.stage import Choice, Stage
from jitune.construct.curate.table import Spec
from jitune.construct.ledger import Ledger
from jitune.construct.whole_file import whole_file
from jitune.evals.pages.shown import numbered
from jitune.evals.progress import Bars

MADE = ("funnel.json", "card.md", "report.html", "kept.parquet")
IDS = Spec("ids", "jitune.construct.curate.ids:build", {})


class Inputs:
    """What the inputs hold, one after the other: (input, Record or Bad) each.

    Attributes:
      read, total: bytes so far and in all; the total is 0 where it is not known.
      notes: what the readers counted besides, such as cancelled annotations.
    """

    def __init__(self, config: Any):
        self.readings = options.readings(config)
        self.limit = config.limit
        totals = [reading.total for reading in self.readings]
        self.total = sum(totals) if all(totals) else 0

    @property
    def read(self) -> int:
        return sum(reading.read for reading in self.readings)

    @property
    def notes(self) -> Counter:
        found: Counter = Counter()
        for reading in self.readings:
            found.update(reading.notes)
        return found

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        for number, reading in enumerate(self.readings):
            for item in islice(reading, self.limit or None):
                yield number, item


def curate(config: Any, *, shown: bool = False) -> Path:
    """Runs a curation, or goes on with one that was killed; returns its folder.

    Args:
      config: as `construct.curate.config` makes it.
      shown: progress bars on standard error.

    Raises:
      UserError: a value of the config, an input that cannot be read, a stage that fails on a record, or a folder that
        holds something else.
    """
    options.check(config)
    specs = [IDS, *options.specs(config)]
    stages = [(spec.name, table.build(spec) if spec is not IDS else ids.build()) for spec in specs]
    made = {spec.name: identity.made_of(spec) for spec in specs}
    folder, header = Path(config.output_dir).expanduser(), options.header(config, specs, made)
    digests = header["digest of the input"]
    with Ledger(folder, (KEPT, REJECTED), header, others=MADE) as ledger, Bars(shown=shown) as bars:
        state = State(ledger, [spec.name for spec in specs])
        groups = plan(stages)
        for number in range(state.number, len(groups)):
            one_pass(state, config, specs, stages, groups, number, bars)
        result = funnel(state.tally.tree, config, list(zip(specs, (s for _, s in stages), strict=True)), digests, made)
        finish(folder, config, result, state.tally.tree["examples"])
    return folder


def one_pass(state: State, config: Any, specs: list[Spec], stages: list[tuple[str, Stage]], groups: list[list[int]],
             number: int, bars: Bars) -> None:
    """Runs one pass from where it stands, and takes away what only it needed."""
    group, ledger = groups[number], state.ledger
    out = KEPT if number == len(groups) - 1 else between(number)
    path = ledger.folder / between(number - 1)
    mine, inputs = [stages[i] for i in group], options.inputs(config)
    if isinstance(mine[0][1], Choice):
        total = sum(1 for _ in open(path, "rb"))
        with phases(bars, mine[0][0], total) as tick:
            choice_pass(state, *mine[0], inputs, path, out=out, tick=tick)
        used = [f"work/{mine[0][0]}.f32"]
    else:
        items = Inputs(config) if number == 0 else None
        total = items.total if items else sum(1 for _ in open(path, "rb"))
        own = all(specs[i].target.startswith(table.HERE) for i in group)  # a user's stage may take any time
        size = (items.total if items else path.stat().st_size) if own else 0
        with counted(bars, "reading" if items else mine[0][0], total, (lambda: items.read) if items else None) as tick:
            stream_pass(state, mine, [specs[i] for i in group], items or records_between(path), out=out,
                        workers=options.workers(config, size), tick=tick)
        if items:
            state.tally.tree["notes"] = dict(items.notes)
        used = [keys_file(name) for name, _ in mine]
    state.turn(number + 1)
    for file in (*used, between(number - 1)):
        ledger.drop(file)


@contextmanager
def counted(bars: Bars, name: str, total: int, read: Callable[[], int] | None = None):
    """A bar that is told how many items are done; `read` says how many bytes that is."""
    with bars.bar(name, total, size=read is not None) as advance:
        at = 0

        def tick(done: int) -> None:
            nonlocal at
            now = read() if read else done
            advance(now - at, numbered(done, "record") if read else "")
            at = now

        yield tick


@contextmanager
def phases(bars: Bars, name: str, total: int):
    """A bar for each phase of a choice, which begins when it is first told (phase, records)."""
    ticks: dict[str, Callable[[int], None]] = {}
    with ExitStack() as stack:

        def tick(phase: str, done: int) -> None:
            if phase not in ticks:
                stack.close()
                ticks[phase] = stack.enter_context(counted(bars, f"{name}: {phase}", total))
            ticks[phase](done)

        yield tick


def finish(folder: Path, config: Any, result: dict[str, Any], marks: dict[str, Any]) -> None:
    """Writes what is made of the counts and the files; a run that is done can be finished again."""
    page = report.page_of(result, report.examples(folder / REJECTED, marks, config.examples))
    for name, text in (("funnel.json", json.dumps(result, ensure_ascii=False, indent=1) + "\n"),
                       ("card.md", card.card(result)), ("report.html", page)):
        with whole_file(folder / name) as file:
            file.write(text.encode(errors="backslashreplace"))
    if config.parquet:
        from jitune.construct.record_files import to_parquet

        to_parquet(folder / KEPT, folder / "kept.parquet")
    shutil.rmtree(folder / "work", ignore_errors=True)


def summary(folder: Path) -> str:
    """A finished run in a few lines."""
    result = json.loads((folder / "funnel.json").read_text(encoding="utf-8"))
    counts = result["records"]
    lines = [f"{counts['read']:,} read, {counts['kept']:,} kept in {folder / KEPT}"]
    for name, what in (("malformed", "could not be read"), ("left_out", "left out by their reader")):
        lines += [f"  {counts[name]:,} {what}"] if counts[name] else []
    for stage in result["stages"]:
        if stage["rejected"]:
            why = ", ".join(f"{count:,} {reason}" for reason, count in list(stage["reasons"].items())[:4])
            lines.append(f"  {stage['name']}: {stage['rejected']:,} rejected ({why})")
    return "\n".join([*lines, f"  {folder / 'report.html'}, card.md and funnel.json say more"])
