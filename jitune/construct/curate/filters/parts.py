"""What filters look at in a record, and how their options are read.

    of(record)                             # Parts(prompts=("Add 2 and 3.",), answers=("5",), conversation=True)
    names("email, phone", allowed, "pii: kinds")   # ("email", "phone")

Answers are what a model would learn to say: the assistant's messages and the chosen answer. A rejected answer, one
with the label "unwanted", and a message of weight 0 are not wanted to be good, so no filter asks that of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jitune.data.record import Record
from jitune.types import UserError


class Parts(NamedTuple):
    """The texts of a record.

    Attributes:
      prompts: of the user, in order; empty ones too.
      answers: of the assistant, in order; empty ones too, unless they call a tool.
      systems: of the system.
      conversation: whether there is a user to speak of; a raw text alone has no prompt.
    """

    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    systems: tuple[str, ...] = ()
    conversation: bool = True


def of(record: Record) -> Parts:
    """The prompts and the wanted answers of a record."""
    if not record.messages and not record.chosen:
        pieces = record.text
        prompts = tuple(piece for piece, weight in pieces if not weight) if len(pieces) > 1 else ()
        answers = tuple(piece for piece, weight in pieces if weight or len(pieces) == 1)
        return Parts(prompts, () if record.label is False else answers, (), len(pieces) > 1)
    by_role: dict[str, list[str]] = {"user": [], "assistant": [], "system": []}
    weights = record.message_weights or ()
    for index, message in enumerate(record.messages):
        if not weights or message["role"] != "assistant" or index >= len(weights) or weights[index] != 0:
            _add(by_role, message)
    if record.label is False and by_role["assistant"] and record.messages[-1]["role"] == "assistant":
        by_role["assistant"].pop()
    for message in record.chosen:
        _add(by_role, message)
    return Parts(*(tuple(by_role[role]) for role in ("user", "assistant", "system")))


def below(record: Record, prompt: str) -> str:
    """The input below the instruction of a prompt: Alpaca's, as its reader notes it, or what a blank line sets off."""
    given = record.meta.get("input")
    return given if given and isinstance(given, str) and prompt.endswith(given) else prompt.partition("\n\n")[2]


def _add(by_role: dict[str, list[str]], message: dict) -> None:
    content = message.get("content") or ""
    if message["role"] in by_role and (content or not message.get("tool_calls")):
        by_role[message["role"]].append(content)


def names(given: str | Sequence[str], allowed: Iterable[str], what: str) -> tuple[str, ...]:
    """The names in "a, b" or ["a", "b"], each once.

    Raises:
      UserError: for one that is not allowed.
    """
    allowed = tuple(allowed)
    found = re.split(r"[,\s]+", given.strip()) if isinstance(given, str) else list(given)
    for name in found:
        if name and name not in allowed:
            raise UserError(f"{what}: {name!r} is not known; allowed are {', '.join(allowed)}")
    return tuple(dict.fromkeys(name for name in found if name))


def number(given: float | None, what: str, low: float = 0, high: float = float("inf")) -> float:
    """A number in [low, high].

    Raises:
      UserError: for anything else.
    """
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not low <= given <= high:
        allowed = f"a number from {low:g} to {high:g}" if high < float("inf") else f"a number of {low:g} or more"
        raise UserError(f"{what} is {given!r}; allowed is {allowed}")
    return given


def shown(text: str, width: int = 60) -> str:
    """The beginning of a text on one line, in quotes, for a rejection's detail."""
    line = " ".join(text[:4 * width].split())
    return f'"{line[:width]}…"' if len(line) > width or len(text) > 4 * width else f'"{line}"'
