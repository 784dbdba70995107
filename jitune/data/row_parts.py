"""What readers share: messages out of what rows say, and parts of rows that are left out.

    say("user", "Add 2 and 3.")        # ({"role": "user", "content": "Add 2 and 3."},)
    as_messages([{"from": "human", "value": "Hi"}], "'chosen'")     # ({"role": "user", "content": "Hi"},)

A reader is a generator: it gives records, and a `Drop` for each part of its input that becomes none. What is left
out of a record (a cancelled annotation, a draft) it counts in `notes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jitune.data import formats
from jitune.data.record import Provenance
from jitune.types import UserError

Origin = tuple[str, int]
Messages = tuple[dict, ...]
# Keys under which files keep a conversation, the parts of a question, and an answer; the first that is there counts.
CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "input_chat")
PROMPTS = ("prompt", "instruction", "question", "query")
CONTEXTS = ("input", "context")
RESPONSES = ("response", "answer", "output", "completion")


class Drop(NamedTuple):
    """A part of the input that becomes no record.

    reason: one word, under which it is counted.
    detail: what was found, for people to read.
    origin: `(file, row)`.
    fault: the input is broken there; False where it is left out on purpose, such as a tie.
    raw: what was dropped, as JSON has it; None for the whole row.
    """

    reason: str
    detail: str
    origin: Origin
    fault: bool = True
    raw: Any = None


class Reader(NamedTuple):
    """How one kind of file is read.

    Attributes:
      detects: says whether a row is of this kind.
      read: `(row, origin, notes, fields, **options)`, a generator of records and Drops; where there is a `group`,
        `(rows, notes, fields, **options)` with `rows` a list of `(row, origin)`.
      keys: the keys that rows of this kind have, for people to read.
      group: `(row, **options)`, what rows share that are read together as long as they follow each other.
      method: of the records' provenance.
      renames: `fields` names columns of the row, which are renamed before it is read.
      options: names of the options that `read` and `group` take.
    """

    detects: Callable[[Mapping], bool]
    read: Callable
    keys: str
    group: Callable | None = None
    method: str = ""
    renames: bool = False
    options: tuple[str, ...] = ()


def say(role: str, text: Any) -> Messages:
    """One message, checked as those of training data are."""
    return formats.messages({"messages": [{"role": role, "content": text}]}).messages


def as_messages(value: Any, what: str, *, role: str = "assistant") -> Messages:
    """Messages of a text by `role`, of one message, or of a list of them, in OpenAI's or ShareGPT's shape.

    Raises:
      UserError: beginning with `what`.
    """
    if not isinstance(value, (str, Mapping, list, tuple)):
        raise UserError(f"{what} must be text, a message or a list of messages, got {value!r:.60}")
    try:
        if isinstance(value, str):
            return say(role, value)
        value = [value] if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
        return formats.messages({"messages": value}).messages
    except UserError as error:
        raise UserError(f"{what}: {error}") from error


def first(row: Mapping, keys: tuple[str, ...]) -> str | None:
    """The first of the keys under which the row holds a value."""
    return next((key for key in keys if row.get(key) not in (None, "", [])), None)


def is_text(value: Any) -> bool:
    """Whether a value is text with more in it than white space."""
    return isinstance(value, str) and bool(value.strip())


def source(origin: Origin) -> Provenance:
    """The provenance of a row, as far as its place says."""
    return Provenance(source=f"{origin[0]}:{origin[1]}" if origin[0] else "")


def chosen_word(value: Any, allowed: tuple[str, ...], option: str) -> None:
    """Refuses an option's value that is none of the allowed ones."""
    if value not in allowed:
        raise UserError(f"{option}={value!r}: is none of {', '.join(allowed)}")


def without(row: Mapping, used: Any) -> dict:
    """The rest of a row, for a record's `meta`; empty columns are left out."""
    return {key: value for key, value in row.items() if key not in used and value is not None}


def objects(value: Any, what: str) -> list[Mapping]:
    """A list of objects, empty where there is none."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise UserError(f"{what} must be a list of objects, got {value!r:.60}")
    return value
