"""What Self-Instruct and Alpaca share: seeds in, requests for more tasks until there are enough instructions.

    start = begin(given, "alpaca")                     # the seed tasks, the gate, how a model is asked
    yield from grow(given, start.made, bring)          # bring(range(0, 5)) -> kept, rejected, new instructions

Requests are numbered; what one draws and asks follows from the run's seed and its number. The instructions that were
taken are the run's memory, whether or not a record came of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from jitune.construct.curate.stage import Reject
from jitune.construct.distill import checks, seeds
from jitune.construct.distill.instructions import Gate
from jitune.construct.distill.method import Given, Rejected, Step
from jitune.data.record import Record
from jitune.types import UserError

FORMS = ("auto", "completion", "chat")


def defaults() -> dict[str, Any]:
    """Options of both."""
    return {
        "count": 100,  # instructions to make
        "requests": 5,  # at a time; more of them keep a generator busier
        "threshold": 0.7,  # of ROUGE-L F1 with seeds and pool, above which an instruction is too similar
        "policy": "unicode",  # english: the released code's filters and tokens, which refuse other scripts
        "form": "auto",  # completion: a text that is continued; chat: a message; auto: completion where it can be
        "patience": 50,  # requests without a new instruction, after which it ends
        "filters": "",  # filters of `jitune data curate` that an answer must pass, beyond the published rules
    }


def total(options: Any, records: Sequence[Record]) -> int:
    """How many instructions are to be made."""
    return options.count


class Start(NamedTuple):
    """What a run works with. made: instructions that were taken; `grow` adds to them. chat: prompts are messages."""

    tasks: list[seeds.Task]
    made: list[str]
    gate: Gate
    chat: bool
    check: Callable[[str, str], Reject | None]


def begin(given: Given, what: str, *, labels: bool = False) -> Start:
    """The start of a run. labels: of classification tasks alone. Raises UserError for options that cannot work."""
    o, made = given.options, list(given.memory)
    tasks = [task for task in seeds.tasks(given.records, what=what) if task.classification or not labels]
    if len(tasks) < o.in_context:
        raise UserError(f"{what}: a request shows {o.in_context} tasks (config.{what}.in_context), and there are "
                        f"{len(tasks)} seeds")
    if o.form not in FORMS:
        raise UserError(f"config.{what}.form={o.form!r} is not one of {', '.join(FORMS)}")
    gate = Gate(o.policy, filter(None, o.blacklist.split(",")), o.threshold,
                [*(task.instruction for task in tasks), *made], option=f"config.{what}")
    return Start(tasks, made, gate, o.form == "chat" or o.form == "auto" and not given.generator.raw,
                 checks.checks(o.filters, option=f"config.{what}.filters"))


def grow(given: Given, made: list[str], bring: Callable[[range], tuple[list[Record], list[Rejected], list[str]]]
         ) -> Iterator[Step]:
    """Steps of `requests` at a time, until `count` instructions are made or `patience` requests brought none."""
    o, at, idle = given.options, given.state.get("request", 0), given.state.get("idle", 0)
    while len(made) < o.count and idle < o.patience:
        kept, rejected, new = bring(range(at, at + o.requests))
        made += new
        at, idle = at + o.requests, 0 if new else idle + o.requests
        state = {"request": at, "idle": idle}
        if idle >= o.patience:
            state["ended"] = f"{idle} requests brought no new instruction; {len(made):,} of {o.count:,} made"
        yield Step(kept, rejected, state, new, min(len(made), o.count))
