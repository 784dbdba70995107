"""Training data in, records out: every format of `jitune.data.formats`, and jitune's own records.

    row = {"instruction": "Add 2 and 3.", "output": "5", "topic": "sums"}
    [record] = read(row, ("a.json", 7), Counter(), {})
    record.messages, record.meta        # (user: Add 2 and 3., assistant: 5), {"topic": "sums"}

Columns that a format does not use are kept in `meta`; so is Alpaca's `input`, which ends the user's message and tells
where the instruction does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from jitune.data import formats
from jitune.data.record import Record, from_example, named
from jitune.data.row_parts import (
    CONTEXTS,
    PROMPTS,
    Drop,
    Origin,
    as_messages,
    first,
    is_text,
    objects,
    say,
    source,
    without,
)
from jitune.types import Example, UserError

TOOLS = ("tools", "functions")
# The columns that each format makes use of.
USED = {
    "messages": ("messages", "system", *TOOLS),
    "sharegpt": ("conversations", "conversation", "system", *TOOLS),
    "alpaca": ("instruction", "input", "output", "system", "history", *TOOLS),
    "prompt_completion": ("prompt", "completion", "response", "system", *TOOLS),
    "text": ("text",),
}

BESIDE = ("id", "system", "category", "topic", "source", "license", "lang", "language", "metadata", "meta")


def detects(row: Mapping) -> bool:
    """Whether a row is of a training format."""
    try:
        formats.detect(row)
    except UserError:
        return False
    return True


def read(row: Mapping, origin: Origin, notes: Counter, fields: Mapping[str, str]) -> Iterator[Record]:
    """A record of one row of a training format, which its keys tell."""
    yield from read_format(row, origin, notes, fields, name=formats.detect(row))


def read_format(row: Mapping, origin: Origin, notes: Counter, fields: Mapping[str, str], *,
                name: str) -> Iterator[Record]:
    """A record of one row of the format of that name."""
    meta = without(row, USED[name]) | (_input(row.get("input")) if name == "alpaca" else {})
    yield from_example(formats.to_example(row, origin, format=name), meta=meta)


def _input(value: Any) -> dict:
    """What a record keeps of Alpaca's input."""
    return {"input": value} if is_text(value) else {}


def of_format(name: str) -> Callable:
    """The reader of one training format."""
    return partial(read_format, name=name)


def dolly(row: Mapping, origin: Origin, notes: Counter, fields: Mapping[str, str]) -> Iterator[Record]:
    """A record of one row of Dolly: instruction, context, response, category (databricks-dolly-15k)."""
    more = {"instruction": row["instruction"], "input": row.get("context"), "output": row["response"]}
    yield from_example(formats.to_example(more, origin, format="alpaca"),
                       meta=without(row, ("instruction", "context", "response")) | _input(row.get("context")))


def is_dolly(row: Mapping) -> bool:
    """Whether a row has Dolly's columns."""
    return {"instruction", "context", "response"} <= set(row)


def self_instruct(row: Mapping, origin: Origin, notes: Counter, fields: Mapping[str, str]) -> Iterator[Record | Drop]:
    """A record of each instance of a seed task of Self-Instruct (Wang et al. 2023): instruction, instances of input
    and output."""
    instances = objects(row["instances"], "'instances'")
    if not instances:
        yield Drop("no_instance", "an instruction without an instance", origin, fault=False)
    rest = without(row, ("instruction", "instances"))
    for number, one in enumerate(instances):
        try:
            example = formats.to_example({**one, "instruction": row["instruction"]}, origin, format="alpaca")
        except UserError as error:
            raise UserError(f"'instances', number {number}: {error}") from error
        yield from_example(example, meta=rest | without(one, ("input", "output")) | _input(one.get("input")))


def is_self_instruct(row: Mapping) -> bool:
    """Whether a row is a seed task of Self-Instruct."""
    return isinstance(row.get("instances"), list) and "instruction" in row


def is_prompt(row: Mapping) -> bool:
    """Whether a row is a prompt and nothing that could be an answer (TRL's prompt-only)."""
    return bool(row.get("prompt")) and set(row) <= {"prompt", *BESIDE}


def prompts(row: Mapping, origin: Origin, notes: Counter, fields: Mapping[str, str]) -> Iterator[Record]:
    """A record of a question that nobody answered yet; forced by its name, other columns are kept in `meta`."""
    key = first(row, PROMPTS)
    if key is None:
        raise UserError(f"none of {', '.join(PROMPTS)} is there; the row has keys {list(row)}")
    messages, more, meta = as_messages(row[key], f"'{key}'", role="user"), first(row, CONTEXTS), {}
    if more and isinstance(row[key], str) and isinstance(row[more], str):
        messages, used, meta = say("user", f"{row[key]}\n\n{row[more]}"), {key, more}, _input(row[more])
    else:
        used = {key}
    if messages[-1]["role"] == "assistant":
        raise UserError(f"'{key}' ends with an answer; its format is messages")
    if row.get("system") and messages[0]["role"] != "system":
        messages, used = say("system", row["system"]) + messages, used | {"system"}
    yield named(Record("", messages, meta=without(row, used) | meta, provenance=source(origin)))


def load_function(path: str) -> Callable:
    """The reader of a user's function `module:function`: `(row) -> Example | Record | several of them`."""
    return partial(_call, formats.load_format(path), path)


def _call(function: Callable, path: str, row: Mapping, origin: Origin, notes: Counter,
          fields: Mapping[str, str]) -> Iterator[Record]:
    """Whatever goes wrong in a user's own function is an error about the row."""
    try:
        found = function(dict(row))
        found = list(found) if isinstance(found, Iterable) else [found]
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"format '{path}': {type(error).__name__}: {error}") from error
    for one in found:
        yield _as_record(one, path, origin)


def _as_record(found: Any, path: str, origin: Origin) -> Record:
    if isinstance(found, Record):
        place = found.provenance.source or f"{origin[0]}:{origin[1]}"
        return replace(found, provenance=replace(found.provenance, source=place))
    if not isinstance(found, Example):
        raise UserError(f"format '{path}' returned {type(found).__name__}, not an Example or a Record")
    if bool(found.messages) == bool(found.text):
        raise UserError(f"format '{path}' must fill either messages or text")
    return from_example(replace(found, origin=tuple(origin)))
