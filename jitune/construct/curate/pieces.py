"""Which text of a record a stage looks at, and checks of the options that stages share.

    text_of(record, "prompt")       # what the user and the system say
    text_of(record, "both")         # that, a blank line, and the last answer
    text_of(record, "conversation") # all that is said, calls of tools and answers that were not preferred too
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from jitune.data.record import Record, answer, prompt, turns
from jitune.types import UserError

PARTS = ("conversation", "both", "prompt", "answer")


def text_of(record: Record, part: str) -> str:
    """The text of one of `PARTS`, turns joined by blank lines; "" where the record has none."""
    if part == "prompt":
        return prompt(record)
    if part == "answer":
        return answer(record)
    texts = (prompt(record), answer(record)) if part == "both" else _said(record)
    return "\n\n".join(filter(None, texts))


def _said(record: Record) -> Iterator[str]:
    """Every turn, the tools that it calls, and all answers: two pairs of one preferred answer may well differ."""
    yield from (text for _, text in turns(record))
    for messages in (record.rejected, *(candidate.messages for candidate in record.candidates)):
        yield from (message.get("content") or "" for message in messages)
    calls = (call for message in (*record.messages, *record.chosen) for call in message.get("tool_calls") or ())
    yield from (json.dumps(call.get("function", call), ensure_ascii=False) for call in calls)


def check_word(option: str, given: Any, allowed: Sequence[str]) -> None:
    """Raises: UserError naming the option, what was given and what there is."""
    if given not in allowed:
        raise UserError(f"{option} = {given!r} is not known; there are {', '.join(map(str, allowed))}")


def check_number(option: str, given: Any, low: float, high: float, *, whole: bool = False) -> None:
    """Raises: UserError where a number is not in [low, high], or not whole where it must be."""
    kinds = int if whole else (int, float)
    if isinstance(given, bool) or not isinstance(given, kinds) or not low <= given <= high:
        what = "a whole number" if whole else "a number"
        raise UserError(f"{option} = {given!r}: {what} from {low} to {high} is needed")
