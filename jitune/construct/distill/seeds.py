"""Seed tasks out of records: an instruction, its instances of input and output, and whether it is a classification.

    tasks(records, what="alpaca")[0]
    # Task("What is the relation between the given pairs?", (Instance("Night : Day :: ...", "..."),), False, ("8f...",))

Rows of Self-Instruct's seed file give a record for each instance; those of one row are one task again. Records of
conversations are tasks of one instance: the first that is asked, and the first answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jitune.data.record import Provenance, Record, named, turns
from jitune.types import UserError


class Instance(NamedTuple):
    """One case of a task; the input may be empty."""

    input: str
    output: str


class Task(NamedTuple):
    """ids: of the records that it is made of."""

    instruction: str
    instances: tuple[Instance, ...]
    classification: bool | None
    ids: tuple[str, ...]


def tasks(records: Sequence[Record], *, what: str) -> list[Task]:
    """The tasks, in order.

    Raises:
      UserError: there is none, or one without an instruction or an answer.
    """
    found: dict[tuple[str, str], Task] = {}
    for record in records:
        instruction, instance = read(record)
        where = record.provenance.source or f"record {record.id}"
        if not instruction.strip() or instance is None:
            raise UserError(f"{where}: is no seed task of {what}: it has no "
                            + ("instance with an output" if instruction.strip() else "instruction"))
        place = (record.provenance.source or record.id), instruction
        before = found.get(place) or Task(instruction, (), classification(record), ())
        found[place] = before._replace(instances=(*before.instances, instance), ids=(*before.ids, record.id))
    if not found:
        raise UserError(f"{what}: config.input holds no seed task with an instance; a row is an instruction with "
                        "instances of input and output, as in Self-Instruct's seed_tasks.jsonl")
    return list(found.values())


def read(record: Record) -> tuple[str, Instance | None]:
    """(instruction, instance) of a record; None where it has no answer."""
    said = list(turns(record))
    asked = next((text for role, text in said if role == "user"), "")
    answer = next((text for role, text in said if role == "assistant"), "")
    given = record.meta.get("input")
    given = given if isinstance(given, str) and given and asked.endswith(given) else ""
    instruction = asked.removesuffix(given).strip() if given else asked.strip()
    return instruction, Instance(given.strip(), answer.strip()) if answer.strip() else None


def classification(record: Record) -> bool | None:
    """Whether a seed file says that its task is a classification; None where it does not say."""
    said = record.meta.get("is_classification")
    return said if isinstance(said, bool) else None


def message(instruction: str, given: str) -> str:
    """What the user says of a task: the instruction, and below it the input."""
    return f"{instruction}\n\n{given}" if given else instruction


def record(instruction: str, instance: Instance, provenance: Provenance, **meta: Any) -> Record:
    """A record of an instance that was made; `tasks` reads it again."""
    said = ({"role": "user", "content": message(instruction, instance.input)},
            {"role": "assistant", "content": instance.output})
    return named(Record("", said, meta={"input": instance.input, **meta}, provenance=provenance))
