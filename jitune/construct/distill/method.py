"""The contract of distillation by sequence: a method is a generator of steps over what it was given.

    def respond(given):
        replies = given.ask(calls)                    # cached: asked for once, in order
        yield Step(kept=[...], rejected=[...], state={})

The runner writes a step's records and its state before the next one begins, and a run that was killed goes on behind
the last step: the method is called with what was kept and the state as they stood then. Within a step, replies that
have come are in the cache, so that asking again costs nothing; calls must therefore follow from `Given` alone, never
from a clock, from chance without `seed`, or from the order in which replies come.

A method is a module with `defaults() -> dict`, its section of the config in plain values, and `run(given)`. It may have
`total(options, records) -> int`, what there is to do, such as records to answer, and `reads(options) -> list[str]`,
files that its options name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jitune.data.record import Record
from jitune.generators.call import Call, Generator, Lost, Reply


class Rejected(NamedTuple):
    """What was generated and is not kept.

    reason: one word, under which it is counted, such as "too_similar". detail: for people to read. source: where it
    comes from: `file:row` of a prompt, or the number of a call. text: the model's words. record: as far as it got.
    """

    reason: str
    detail: str = ""
    source: str = ""
    text: str = ""
    record: Record | None = None


class Step(NamedTuple):
    """What a step brought.

    state: JSON, small, that the method needs to go on behind it; it takes the place of the last step's. Its `ended`
    says, for people, why the method stops before its aim. memory: JSON values that are added to `Given.memory`, for
    what grows, such as a pool of instructions. done: how much of `total` is done (see below), for the progress bar.
    """

    kept: Sequence[Record] = ()
    rejected: Sequence[Rejected] = ()
    state: Mapping[str, Any] = {}
    memory: Sequence[Any] = ()
    done: int = 0


class Given(NamedTuple):
    """What a method works with.

    ask: `(calls) -> answers in order`, of the teacher. generator: the teacher itself, for its identity. options: the
    method's section of the config. records: the input, such as seeds, prompts or documents. seed: of the run. kept,
    state, memory: of the steps before, of an earlier process too. second: another generator, where the method has two;
    ask_second: `ask` of it.
    """

    ask: Callable[[Sequence[Call]], list[Reply | Lost]]
    generator: Generator
    options: Any
    records: Sequence[Record]
    seed: int = 0
    kept: Sequence[Record] = ()
    state: Mapping[str, Any] = {}
    second: Generator | None = None
    ask_second: Callable[[Sequence[Call]], list[Reply | Lost]] | None = None
    memory: Sequence[Any] = ()


Method = Callable[[Given], Iterator[Step]]
