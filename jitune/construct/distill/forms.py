"""Calls out of conversations, for teachers that chat and teachers that only continue texts.

    asked((("user", "Name a prime."),), "chat", max_tokens=16)   # Call((("user", "Name a prime."),), 16)
    asked((("user", "Name a prime."),), "raw", max_tokens=16)    # Call("### Instruction:\\nName a prime.\\n\\n### ...")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jitune.data.record import Record
from jitune.generators.call import Call

FORMS = ("chat", "raw")
# Headings as Alpaca's template has them, which many base models have seen.
HEADINGS = {"system": "### System:", "user": "### Instruction:", "assistant": "### Response:"}
STOPS = ("\n### ",)


def asked(messages: tuple[tuple[str, str], ...], form: str, **parameters: Any) -> Call:
    """A call of a conversation of (role, content). form: chat, or raw for one text with headings."""
    if form == "chat":
        return Call(messages, **parameters)
    text = "".join(f"{HEADINGS[role]}\n{content}\n\n" for role, content in messages)
    return Call(f"{text}{HEADINGS['assistant']}\n", **{"stop": STOPS, **parameters})


def limits(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a method's options say of sampling."""
    return {name: options[name] for name in ("temperature", "top_p", "max_tokens")}


def instruction_of(record: Record) -> str:
    """The first text of the user, or ""."""
    return next((m.get("content") or "" for m in record.messages if m["role"] == "user"), "")
