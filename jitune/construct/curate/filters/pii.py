"""Personal data: redacted in every text of a record, or the record rejected.

    build().judge(record)                      # "Mail ann@acme.io" -> Keep, "Mail [EMAIL]"; steps += "redact_pii"
    build(action="reject").judge(record)       # Reject("pii", "1 email", spans=...)
    build(engine="presidio", entities="EMAIL_ADDRESS,PHONE_NUMBER")

Every text is read: all messages with their reasoning and the arguments of calls, raw texts, answers of all kinds,
candidates, annotations and what else a source said (`meta`). Counts by kind are written to `meta["pii"]`. Detail and
spans of a rejection name kinds, never what was found, since a report is read by many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from jitune.construct.curate.filters import parts, pii_patterns, pii_presidio
from jitune.construct.curate.filters.pii_patterns import KINDS, Match
from jitune.construct.curate.stage import Filter, Keep, Reject, Verdict
from jitune.data.record import Record

Find = Callable[[str], list[Match]]
ACTIONS, ENGINES = ("redact", "reject"), ("patterns", "presidio")
STEP = "redact_pii"
# Keys of messages that are names for machines.
NOT_TEXT = frozenset(("role", "type", "id", "tool_call_id"))


def redact(text: str, find: Find, counts: Counter) -> str:
    """The text with "[EMAIL]" and the like in place of what was found; `counts` is added to."""
    found = find(text)
    if not found:
        return text
    pieces, end = [], 0
    for match in found:
        pieces += [text[end:match.start], f"[{match.kind.upper()}]"]
        counts[match.kind] += 1
        end = match.end
    return "".join((*pieces, text[end:]))


def _redact_all(value: Any, find: Find, counts: Counter) -> Any:
    """The same of every text in a JSON value; the very value where nothing was found."""
    if isinstance(value, str):
        return redact(value, find, counts)
    if not value:
        return value
    before = sum(counts.values())
    if isinstance(value, dict):
        new = {key: item if key in NOT_TEXT else _redact_all(item, find, counts) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        new = type(value)(_redact_all(item, find, counts) for item in value)
    else:
        return value
    return new if sum(counts.values()) > before else value


def redacted(record: Record, find: Find) -> tuple[Record, Counter]:
    """The record without personal data, and how many of each kind were replaced."""
    counts: Counter = Counter()
    fix = partial(_redact_all, find=find, counts=counts)
    changed = {
        "messages": fix(record.messages), "chosen": fix(record.chosen), "rejected": fix(record.rejected),
        "text": tuple((fix(piece), weight) for piece, weight in record.text),
        "candidates": tuple(replace(c, messages=fix(c.messages)) if c.messages else c for c in record.candidates),
        "annotations": tuple(replace(a, value=fix(a.value)) if a.value is not None else a for a in record.annotations),
        "meta": fix(dict(record.meta)),
    }
    if not counts:
        return record, counts
    provenance = replace(record.provenance, steps=(*record.provenance.steps, STEP))
    before = record.meta.get("pii")
    total = Counter(before if isinstance(before, dict) else {}) + counts
    changed["meta"] = {**changed["meta"], "pii": dict(sorted(total.items()))}
    return replace(record, **changed, provenance=provenance), counts


def judge(record: Record, *, find: Find, action: str) -> Verdict:
    """Keeps the record, redacted; or rejects it as pii."""
    clean, counts = redacted(record, find)
    if action == "reject" and counts:
        return Reject("pii", ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
    return Keep(clean)


def build(*, action: str = "redact", kinds: str = ",".join(KINDS), engine: str = "patterns", language: str = "en",
          entities: str = "", model: str = "", min_score: float = 0.4) -> Filter:
    """The filter.

    Args:
      action: redact or reject.
      kinds: for the engine "patterns", out of KINDS, by commas.
      engine: "patterns", or "presidio" (`pip install 'jitune[pii]'`), which knows more kinds.
      language, entities, model, min_score: for presidio: of its recognizers; their names, "" for those of persons; the
        spaCy model to find names with, "" for patterns alone; the least score, in [0, 1].

    Raises:
      UserError: an unknown action, kind, engine or entity, or presidio or its model is not installed.
    """
    (action,) = parts.names(action, ACTIONS, "pii: action") or ACTIONS[:1]
    (engine,) = parts.names(engine, ENGINES, "pii: engine") or ENGINES[:1]
    if engine == "patterns":
        find = partial(pii_patterns.find, kinds=parts.names(kinds, KINDS, "pii: kinds"))
    else:
        score = parts.number(min_score, "pii: min_score", 0, 1)
        find = partial(pii_presidio.find, language=language, entities=pii_presidio.check(language, entities, model),
                       model=model, min_score=score)
    return Filter("pii", partial(judge, find=find, action=action))
