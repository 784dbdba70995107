"""What a page shows of a record: plain texts under headings, for the questions that are asked.

    view(record, questions, ["rejected", "chosen"])
    # {"messages": [{"role": "user", "text": "Add 2 and 3."}], "answers": ["5", "6"], "asked": ["preference"], ...}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jitune.construct.annotate.questions import Question, answers_of, applies, original
from jitune.data.record import Record


def asked(record: Record, questions: Sequence[Question]) -> list[Question]:
    """The questions that fit a record."""
    return [question for question in questions if not applies(question, record)]


def view(record: Record, questions: Sequence[Question], order: Sequence[str]) -> dict[str, Any]:
    """What is shown.

    Args:
      order: the names of the answers to compare, as this annotator sees them.

    Returns:
      {"messages": [{"role", "text", "thought", "calls"}], "answers": texts in the order, "asked": names of questions,
      "original": the text to correct or None, "tools": JSON or ""}. The answer at the end is left out where people
      write one of their own and nothing is asked of the one that is there, so that it does not lead them.
    """
    found = asked(record, questions)
    kinds = {question.kind for question in found}
    compared = answers_of(record) if kinds & {"pair", "rank"} else {}
    blind = "write" in kinds and not kinds & {"rate", "correct"}
    return {
        "messages": [_message(m) for m in (before_answer(record) if blind else everything(record))],
        "answers": [compared[name] for name in order] if compared else [],
        "asked": [question.name for question in found],
        "original": original(record) if "correct" in kinds else None,
        "tools": json.dumps(record.tools, ensure_ascii=False, indent=1) if record.tools else "",
    }


def everything(record: Record) -> list[dict]:
    """The messages of a record; raw pieces as the user's and the assistant's."""
    if not record.text:
        return list(record.messages)
    roles = ["text"] if len(record.text) == 1 else ["user" if not weight else "assistant" for _, weight in record.text]
    return [{"role": role, "content": piece} for role, (piece, _) in zip(roles, record.text, strict=True)]


def before_answer(record: Record) -> list[dict]:
    """The messages of a record without an answer of the assistant at the end."""
    messages = everything(record)
    return messages[:-1] if len(messages) > 1 and messages[-1]["role"] == "assistant" else messages


def _message(message: dict) -> dict[str, str]:
    calls = message.get("tool_calls")
    return {
        "role": message.get("role", ""),
        "text": message.get("content") or "",
        "thought": message.get("reasoning_content") or "",
        "calls": json.dumps([c.get("function", c) for c in calls], ensure_ascii=False, indent=1) if calls else "",
    }
