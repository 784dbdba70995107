"""Records as rows of files: JSONL for people, Parquet for machines, the same record out of both.

    to_row(record)       # {"id": "8f…", "messages": [{"role": "user", "content": "hi"}, …], "provenance": {…}}
    from_row({"id": "1", "text": "hi", "provenance": {}}, ("a.jsonl", 1))      # Record("1", text=(("hi", 1.0),))

Rows are what the training readers take as they are. Which keys hold the content says what kind of data it is:

| content | keys |
|---|---|
| a conversation | `messages`, each with its `loss_weight` where it has one |
| raw text | `text`, or `prompt` and `completion` |
| a preference | `prompt`, `chosen`, `rejected`, all lists of messages, as TRL takes them |
| several answers | `prompt`, and `candidates` with ranks or scores |
| an answer that is good or bad | `messages` and `label` |

Beside them stand `id` and `provenance`, which every record has, and `tools`, `scores`, `annotations`, `meta`. A key
that is not known is refused: whatever else a source says belongs in `meta`. Columns of Parquet have one type each, so
there values of any type are JSON in a text: `tools`, `meta`, arguments of tool calls, sampling, and an annotation's
`value_json`; scores are a list of names and values, and the prompt of raw text is `prompt_text`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from jitune.data.file_rows import HALF
from jitune.data.formats import conversation, read_tools
from jitune.data.record import STATES, Annotation, Candidate, Provenance, Record
from jitune.data.record_schema import ANNOTATION, CANDIDATE, INTEGERS, PROVENANCE, RECORD, SCORE
from jitune.types import Example, UserError

WORDS = {"text": "text", "texts": "a list of texts", "integer": "an integer", "number": "a finite number",
         "boolean": "true or false", "object": "an object"}  # fmt: skip
AS_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


# Writing.


def to_row(record: Record) -> dict:
    """The record as a JSON value; fields that are empty are left out, but `id` and `provenance` never are.

    Raises:
      UserError: the record is none: text beside messages, one answer of a pair, weights of other messages.
    """
    row: dict[str, Any] = {"id": record.id, **_content(record)}
    if record.tools:
        row["tools"] = list(record.tools)
    if record.label is not None:
        row["label"] = record.label
    if record.scores:
        row["scores"] = dict(record.scores)
    if record.annotations:
        row["annotations"] = [_filled(annotation, ANNOTATION, {"state": "labelled"}) | {
            "annotator": annotation.annotator, "question": annotation.question} for annotation in record.annotations]
    if record.meta:
        row["meta"] = dict(record.meta)
    row["provenance"] = _filled(record.provenance, PROVENANCE, {})
    return row


def _content(record: Record) -> dict:
    answers = bool(record.chosen or record.rejected or record.candidates)
    if bool(record.chosen) != bool(record.rejected):
        raise UserError(f"record {record.id}: chosen and rejected go together")
    if record.text:
        weights = [weight for _, weight in record.text]
        if record.messages or record.tools or answers or weights not in ([1.0], [0.0, 1.0]):
            raise UserError(f"record {record.id}: raw text is one piece of weight 1, or a prompt of weight 0 and a "
                            "completion of weight 1, with no messages, tools or further answers beside it")
        return dict(zip(("text",) if len(weights) == 1 else ("prompt", "completion"),
                        (piece for piece, _ in record.text), strict=True))
    weights = record.message_weights
    if weights is None and not answers:
        return {"messages": list(record.messages)} if record.messages else {}
    weights = weights or (None,) * len(record.messages)
    if len(weights) != len(record.messages):
        raise UserError(f"record {record.id}: {len(weights)} weights for {len(record.messages)} messages")
    messages = [message | ({} if weight is None else {"loss_weight": weight})
                for message, weight in zip(record.messages, weights, strict=True)]
    row: dict[str, Any] = {"prompt" if answers else "messages": messages} if answers or messages else {}
    row |= {"chosen": list(record.chosen), "rejected": list(record.rejected)} if record.chosen else {}
    if record.candidates:
        row["candidates"] = [{"messages": list(one.messages)} | _filled(one, ("rank", "score", "id"), {})
                             for one in record.candidates]
    return row


def _filled(value: Any, names: Any, usual: dict) -> dict:
    """The fields of a dataclass that say something."""
    found, there = {}, value.__dict__
    for name in names:
        item = there.get(name)
        if item is None or name != "value" and (item == "" or item == () or item == {} or item == usual.get(name)):
            continue
        found[name] = list(item) if isinstance(item, tuple) else item
    return found


def to_line(record: Record) -> bytes:
    """The record as a line of a JSONL file.

    Raises:
      UserError: it holds what JSON has no word for: a number that is not finite, half of a surrogate pair.
    """
    return _json(to_row(record), record).encode() + b"\n"


def to_parquet_row(record: Record) -> dict:
    """The record as a row of `arrow_schema`; raises as `to_line` does."""
    return as_parquet(to_row(record), record)


def as_parquet(row: dict, record: Record | None = None) -> dict:
    """What `to_row` gives, in the form of `arrow_schema`; `record` is for messages."""
    row = dict(row)
    for key in ("messages", "prompt", "chosen", "rejected"):
        if isinstance(row.get(key), list):
            row[key] = _with_json_calls(row[key], record)
    if isinstance(row.get("prompt"), str):
        row["prompt_text"] = row.pop("prompt")
    if "candidates" in row:
        row["candidates"] = [one | {"messages": _with_json_calls(one["messages"], record)} for one in row["candidates"]]
    if "annotations" in row:
        row["annotations"] = [one | {"value_json": _json(one["value"], record)} if "value" in one else one
                              for one in row["annotations"]]
    if "scores" in row:
        row["scores"] = [{"name": name, "value": value} for name, value in row["scores"].items()]
    row |= {key: _json(row[key], record) for key in ("tools", "meta") if key in row}
    if "sampling" in row["provenance"]:
        row["provenance"] = row["provenance"] | {"sampling": _json(row["provenance"]["sampling"], record)}
    return row


def _with_json_calls(messages: list[dict], record: Record | None) -> list[dict]:
    return [message | {"tool_calls": [call | {"function": call["function"] | {
        "arguments": _json(call["function"]["arguments"], record)}} for call in message["tool_calls"]]}
        if "tool_calls" in message else message for message in messages]


def _json(value: Any, record: Record | None) -> str:
    try:
        text = AS_JSON(value)
        text.encode()
        return text
    except (ValueError, TypeError, RecursionError) as error:
        place = (record.provenance.source or f"record {record.id}") if record else "a record"
        what = ("holds half of a surrogate pair" if isinstance(error, UnicodeEncodeError) else
                f"cannot be written as JSON: {error}")
        raise UserError(f"{place}: {what}") from error


# Reading.


def is_record(row: Mapping) -> bool:
    """Whether a row says that it is a record: it has an id and a provenance."""
    return isinstance(row.get("id"), str) and isinstance(row.get("provenance"), Mapping)


def from_row(row: Mapping, origin: tuple[str, int] = ("", 0)) -> Record:
    """The record of a row, of JSONL or of Parquet; messages are read as the training formats read them.

    Raises:
      UserError: `file:row: what is wrong`.
    """
    try:
        _check_values(row, "")
        return _record({key: value for key, value in row.items() if value is not None})
    except UserError as error:
        raise UserError(f"{origin[0]}:{origin[1]}: {error}") from error
    except RecursionError as error:
        raise UserError(f"{origin[0]}:{origin[1]}: values are nested too deep") from error


def _record(row: dict) -> Record:
    known = [key for key in RECORD if key != "prompt_text"]
    for key in row:
        if key not in RECORD:
            raise UserError(f"unknown key '{key}'; a record has {', '.join(known)}; what else is known of it "
                            "belongs in 'meta'")
    for key in ("id", "provenance"):
        if key not in row:
            raise UserError(f"'{key}' is missing; the row has keys {list(row)}")
    if not _typed(row["id"], "'id'", "text"):
        raise UserError("'id' is empty")
    content = _read_content(row)
    annotations = [_struct(one, f"'annotations' item {n}", ANNOTATION)
                   for n, one in enumerate(_listed(row, "annotations"), 1)]
    provenance = _struct(row["provenance"], "'provenance'", PROVENANCE)
    return Record(
        row["id"], content.messages, content.tools, content.message_weights, content.text,
        _answer(row, "chosen"), _answer(row, "rejected"),
        tuple(_candidate(one, f"'candidates' item {n}") for n, one in enumerate(_listed(row, "candidates"), 1)),
        _typed(row["label"], "'label'", "boolean") if "label" in row else None, _scores(row.get("scores", {})),
        tuple(_annotation(one, f"'annotations' item {n}") for n, one in enumerate(annotations, 1)),
        _typed(row.get("meta", {}), "'meta'", "object"), Provenance(**provenance),
    )  # fmt: skip


def _read_content(row: dict) -> Example:
    """Messages, weights and tools, or text; neither where the record holds only what was said of an item."""
    prompt = row.get("prompt_text", row.get("prompt"))
    answers = bool(row.get("chosen") or row.get("rejected") or row.get("candidates"))
    if bool(row.get("chosen")) != bool(row.get("rejected")):
        raise UserError("'chosen' and 'rejected' go together")
    given = [key for key in ("messages", "text", "prompt", "prompt_text") if key in row]
    if len(given) > 1 or (answers and given != ["prompt"]) or (answers and not isinstance(prompt, list)):
        raise UserError(f"the content is one of 'messages', 'text', 'prompt' with 'completion', and a list 'prompt' "
                        f"with 'chosen' and 'rejected' or 'candidates'; the row has keys {list(row)}")
    if prompt is not None and not isinstance(prompt, str) and not answers:
        raise UserError("'prompt' is not text and has no answers: a conversation stands under 'messages'")
    if "completion" in row and not isinstance(prompt, str):
        raise UserError("'completion' goes with a 'prompt' that is text")
    if "text" in row or "completion" in row or isinstance(prompt, str):
        if row.get("tools"):
            raise UserError("'tools' have no place beside raw text")
        keys = [key for key in ("text", *given, "completion") if key in row]
        pieces = [_typed(row[key], f"'{key}'", "text") for key in dict.fromkeys(keys)]
        if "text" not in row and len(pieces) != 2:
            raise UserError("'prompt' is text and has no 'completion'")
        return Example(text=tuple(zip(pieces, (0.0, 1.0) if len(pieces) == 2 else (1.0,), strict=True)))
    key = "prompt" if answers else "messages"
    if not _listed(row, key):
        return Example(tools=read_tools(row))
    return conversation({key: row[key], "tools": row.get("tools")}, key)


def _answer(row: dict, key: str) -> tuple[dict, ...]:
    if not _listed(row, key):
        return ()
    found = conversation({key: row[key]}, key)
    if found.message_weights is not None:
        raise UserError(f"'{key}': a loss_weight has no place in an answer of a preference")
    return found.messages


def _candidate(value: Any, what: str) -> Candidate:
    found = _struct(value, what, CANDIDATE)
    try:
        messages = _answer(found, "messages")
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
    return Candidate(messages, found.get("rank"), found.get("score"), found.get("id", ""))


def _annotation(found: dict, what: str) -> Annotation:
    found = dict(found)
    if "value_json" in found:
        found["value"] = found.pop("value_json")
    for key in ("annotator", "question"):
        if key not in found:
            raise UserError(f"{what}: '{key}' is missing")
    if found.get("state", STATES[0]) not in STATES:
        raise UserError(f"{what}: the state is one of {', '.join(STATES)}, not {found['state']!r:.60}")
    if found.get("state", STATES[0]) != STATES[0] and found.get("value") is not None:
        raise UserError(f"{what}: has a value, but its state is {found['state']}")
    return Annotation(**found)


def _scores(value: Any) -> dict[str, float]:
    if isinstance(value, list):
        pairs = [_struct(one, f"'scores' item {n}", SCORE)
                 for n, one in enumerate(value, 1)]
        value = {one.get("name"): one.get("value") for one in pairs}
        if len(value) != len(pairs):
            raise UserError("'scores' has a name twice")
    value = _typed(value, "'scores'", "object")
    return {name: _typed(score, f"'scores': {name}", "number") for name, score in value.items()}


def _listed(row: dict, key: str) -> list:
    value = row.get(key, [])
    if not isinstance(value, list):
        raise UserError(f"'{key}' must be a list, got {_shown(value)}")
    return value


def _struct(value: Any, what: str, kinds: dict[str, str]) -> dict:
    """An object whose values have these kinds; nulls are left out."""
    if not isinstance(value, Mapping):
        raise UserError(f"{what} must be an object, got {_shown(value)}")
    unknown = [key for key in value if key not in kinds]
    if unknown:
        raise UserError(f"{what}: unknown key '{unknown[0]}'; known are {', '.join(kinds)}")
    return {key: _typed(item, f"{what}: '{key}'", kinds[key]) for key, item in value.items() if item is not None}


def _typed(value: Any, what: str, kind: str) -> Any:
    """The value in its Python form, if it is of the kind."""
    if kind in ("json", "object") and isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{what}: not valid JSON, {error}: {_shown(value)}") from error
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "number" and plain and (isinstance(value, float) or value in INTEGERS):
        return float(value)
    if kind == "texts" and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    good = {"text": isinstance(value, str), "boolean": isinstance(value, bool), "object": isinstance(value, dict),
            "integer": plain and isinstance(value, int) and value in INTEGERS}.get(kind, kind not in WORDS)  # fmt: skip
    if not good:
        raise UserError(f"{what} must be {WORDS[kind]}, got {_shown(value)}")
    return value


def _check_values(value: Any, what: str) -> None:
    """Refuses what no file of records may hold, anywhere in a row."""
    if isinstance(value, str):
        half = None if value.isascii() else HALF.search(value)
        if half:
            raise UserError(f"{what or 'a key'} holds half of a surrogate pair at character {half.start() + 1}, as of "
                            "an emoji that was cut in two")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_values(key, "")
            _check_values(item, what or f"'{key}'")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_values(item, what)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{what} holds {value}, which is no number of JSON")
    elif value is not None and not isinstance(value, (int, float)):
        raise UserError(f"{what} holds a value of type {type(value).__name__}, which JSON does not have")


def _shown(value: Any) -> str:
    return repr(value)[:60]
