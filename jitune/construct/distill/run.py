"""A distillation: `distill(config)` reads the input, runs the method, and writes a folder that says everything of it.

    distill(config.from_words("respond", ["--config.input=prompts.jsonl", "--config.output_dir=out", ...]))

| file | what |
|---|---|
| kept.jsonl | the records that were made, with model, prompt hash, sampling, seed and parents in their provenance |
| rejected.jsonl | stage, reason, detail, source, id, the model's text, and the record as far as it got |
| generations.jsonl | every reply that was paid for; of a second generator generations_second.jsonl |
| memory.jsonl | what the method must know again, such as a pool of instructions |
| funnel.json | counts, reasons, lengths, and what it cost |
| card.md, report.html | a data card; the page, with examples and samples |
| ledger.jsonl | how far the run is |

A run that was killed goes on with the same call, and ends with the same kept.jsonl and rejected.jsonl; no reply is
paid for twice. One that stops because the budget is spent has written what was paid for, and goes on with a larger one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from jitune.construct.curate.report import examples
from jitune.construct.distill import card, report, table
from jitune.construct.distill import config as options
from jitune.construct.distill.asking import Asking
from jitune.construct.distill.folder import KEPT, MEMORY, REJECTED, State
from jitune.construct.distill.funnel import funnel
from jitune.construct.distill.method import Given
from jitune.construct.ledger import NAME, Ledger
from jitune.construct.whole_file import whole_file
from jitune.data.record import Record
from jitune.data.streams import Bad
from jitune.evals.progress import Bars
from jitune.evals.store import one_process
from jitune.generators.account import line
from jitune.generators.call import Generator
from jitune.generators.open import open_generator
from jitune.types import UserError

CACHES = {"teacher": "generations.jsonl", "second": "generations_second.jsonl"}
MADE = ("funnel.json", "card.md", "report.html")


def distill(config: Any, *, teacher: Generator | None = None, second: Generator | None = None, shown: bool = False
            ) -> Path:
    """Runs a distillation, or goes on with one that was killed; returns its folder.

    Args:
      config: as `construct.distill.config` makes it.
      teacher, second: generators in place of those of the config; they are left open.
      shown: progress bars on standard error.

    Raises:
      UserError: a value of the config, an input that cannot be read, a generator that will never answer, or a folder
        that holds something else.
    """
    one_process("distillation")
    options.check(config)
    folder, method = Path(config.output_dir).expanduser(), table.load(config.method)
    empty_or_ours(folder)
    records = read(config)
    with ExitStack() as stack, Bars(shown=shown) as bars:
        teacher = teacher or opened(config, "teacher", folder, stack, bars)
        second = second or (opened(config, "second", folder, stack, bars) if options.has(config, "second") else None)
        header = options.header(config, teacher.identity, second.identity if second else None)
        ledger = stack.enter_context(Ledger(folder, (KEPT, REJECTED, MEMORY), header, others=MADE))
        state = State(ledger, table.section(config.method))
        state.begin(records)
        good = [item for _, item in records if isinstance(item, Record)]
        why = steps(state, method, config, good, teacher, second, bars)
        finish(folder, config, state, header, {"teacher": teacher, "second": second}, why)
    return folder


def empty_or_ours(folder: Path) -> None:
    """Refuses a folder of something else before a cache is opened in it."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"config.output_dir={folder}: is a file; a folder is needed")
    there = [name for name in (KEPT, REJECTED, *MADE) if (folder / name).exists()]
    if there and not (folder / NAME).exists():
        raise UserError(f"{folder / there[0]}: is there already; give another folder, or move it away")


def read(config: Any) -> list[tuple[int, Record | Bad]]:
    """(number of the input, record or broken row) of all inputs. Raises UserError where all rows are broken."""
    found = [(number, item) for number, reading in enumerate(options.readings(config))
             for item in islice(reading, config.limit or None)]
    if found and all(isinstance(item, Bad) for _, item in found):
        first = found[0][1]
        raise UserError(f"{first.file}:{first.number}: {first.detail}; none of {len(found):,} rows of config.input can "
                        "be read")
    return found


def opened(config: Any, name: str, folder: Path, stack: ExitStack, bars: Bars) -> Generator:
    """A generator of the config with its cache in the folder."""
    if not options.has(config, name):
        raise UserError(f"config.{name}.model is not set; give a model's folder, or MODEL@https://host/v1 of an "
                        "endpoint")
    generator = open_generator(config[name], cache=folder / CACHES[name], say=bars.say)
    stack.callback(generator.close)
    return generator


def steps(state: State, method: Any, config: Any, records: list[Record], teacher: Generator, second: Generator | None,
          bars: Bars) -> str:
    """Runs the method from where it stands; returns why it stopped before its end, or ""."""
    section = options.options(config)
    total = method.total(section, records) if hasattr(method, "total") else 0
    with bars.bar(state.method, total) as advance:
        ask, ask_second = Asking(teacher), Asking(second) if second else None
        given = Given(ask, teacher, section, records, config.seed, list(state.kept), state.state, second, ask_second,
                      list(state.memory))
        at = 0
        for step in method.run(given):
            why = ask.why or (ask_second.why if ask_second else "")
            state.step(step, commit=not why)
            advance(max(0, step.done - at), f"{len(state.ids):,} kept")
            at = max(at, step.done)
            if why:
                return why
    return str(state.state.get("ended", ""))


def finish(folder: Path, config: Any, state: State, header: Mapping[str, Any], generators: Mapping[str, Any],
           why: str) -> None:
    """Writes what is made of the counts and the files; a run that is done can be finished again."""
    state.ledger.flush()
    tree = state.tally.tree
    accounts = {name: one.account for name, one in generators.items() if one}
    result = funnel(tree, config, header, accounts, options.made_of(config), why)
    result["goes_on"] = bool(why) and why != state.state.get("ended")  # the method itself has not come to an end
    page = report.page_of(result, examples(folder / REJECTED, tree["examples"], config.examples),
                          report.chosen(folder / KEPT, config.samples))
    for name, text in (("funnel.json", json.dumps(result, ensure_ascii=False, indent=1) + "\n"),
                       ("card.md", card.card(result)), ("report.html", page)):
        with whole_file(folder / name) as file:
            file.write(text.encode(errors="backslashreplace"))


def summary(folder: Path) -> str:
    """A finished run in a few lines."""
    result = json.loads((folder / "funnel.json").read_text(encoding="utf-8"))
    counts = result["records"]
    lines = [f"{counts['kept']:,} kept in {folder / KEPT}, {counts['rejected']:,} rejected"]
    if counts["malformed"] + counts["left_out"]:
        lines.append(f"  {counts['malformed'] + counts['left_out']:,} rows of the input were not used")
    lines += [f"  {count:,} {reason}" for reason, count in list(result["reasons"].items())[:6]]
    lines += [f"  {name}: {line(one['account'])}" for name, one in result["generators"].items()]
    failed = result["reasons"].get("failed")
    if failed and (folder / CACHES["teacher"]).exists():
        lines.append(f"  {failed:,} answers failed; a new folder with a copy of the files generations*.jsonl asks for "
                     "them alone once more")
    if result["ended"]:
        more = "; the same command goes on from here" if result["goes_on"] else ""
        lines.append(f"  stopped before its end: {result['ended']}{more}")
    return "\n".join([*lines, f"  {folder / 'report.html'}, card.md and funnel.json say more"])


def goes_on(folder: Path) -> bool:
    """Whether a run was stopped by its budget or by calls that failed, so that the same one has more to do."""
    return json.loads((folder / "funnel.json").read_text(encoding="utf-8"))["goes_on"]
