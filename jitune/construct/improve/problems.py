"""Problems: records in, those that can be asked out, with why the others cannot.

    found = read_problems("train.jsonl", option="prompts", format="auto", fields="")
    question(found.problems[0])         # (("user", "What is 2 + 3?"),)
    reference(found.problems[0])        # "... #### 5"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from jitune.construct.improve import select
from jitune.construct.reading import read_records
from jitune.data import sources
from jitune.data.record import CANONICAL, Record, own_answer
from jitune.data.streams import Bad
from jitune.generators.call import Prompt
from jitune.types import UserError


class Problems(NamedTuple):
    """What is asked. reasons: how many rows were left out, by one word. digest: of the files."""

    problems: list[Record]
    reasons: dict[str, int]
    digest: str


def read_problems(spec: str, *, option: str, format: str = "auto", fields: str = "", limit: int = 0,
                  answered: Callable[[Record], str] | None = None, without: Problems | None = None
                  ) -> Problems:  # fmt: skip
    """Reads problems.

    Args:
      spec: files, folders or hub names, joined by commas. option: the config's, for messages.
      format, fields: as `read_records` takes them.
      limit: problems at most; 0: all.
      answered: gives the answer of a problem; those without one are left out. None: all are asked.
      without: problems that must not be among them.

    Raises:
      UserError: what cannot be read at all, or nothing is left.
    """
    names, reasons, found, seen = sources.split_specs(spec), Counter(), [], set()
    taken = {CANONICAL(question(p)) for p in without.problems} if without else set()
    rows = read_records(names, format=format, fields=fields, bad="give")
    usable = (r for r in rows if _fits(r, reasons, seen, taken, answered))
    found = list(islice(usable, limit or None))
    if not found:
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items()) or "there are no rows"
        raise UserError(f"config.{option}={spec}: leaves nothing to ask ({why})")
    return Problems(found, dict(sorted(reasons.items())), sources.digest(names))


def _fits(record: Record | Bad, reasons: Counter, seen: set, taken: set, answered) -> bool:
    if isinstance(record, Bad):
        reasons[record.reason] += 1
        return False
    asked = question(record)
    key = CANONICAL(asked)
    fault = ("no_question" if not asked or not isinstance(asked, str) and asked[-1][0] != "user" else
             "in_heldout" if key in taken else "duplicate" if key in seen else
             "no_answer" if answered and not answered(record).strip() else "")
    seen.add(key)
    if fault:
        reasons[fault] += 1
    return not fault


def question(record: Record) -> Prompt:
    """What a model is asked: the conversation in front of the last answer, or the text in front of the completion."""
    if record.text:
        return record.text[0][0] if len(record.text) > 1 else ""
    return tuple((m["role"], m.get("content") or "") for m in select.question(record))


def is_answered(record: Record) -> bool:
    """Whether an answer stands behind the question."""
    return len(record.text) > 1 if record.text else record.messages[-1]["role"] == "assistant"


def reference(record: Record) -> str:
    """The right answer: the record's last one, or `answer` of its meta; "" where there is none."""
    known = record.meta.get("answer")
    return own_answer(record) or ("" if known is None else str(known))
