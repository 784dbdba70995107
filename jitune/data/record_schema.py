"""The schema of records in files: which keys a row has and of what kind, for JSON and for Parquet.

    json_schema()      # JSON Schema (2020-12) of a line of a JSONL file: {"type": "object", "properties": ...}
    arrow_schema()     # the columns of a Parquet file, always these: id: string, messages: list<struct<...>>, ...

Both are made from the tables below. What the keys mean is said in `jitune.data.record`, which keys go together in
`jitune.data.record_rows`.
"""

from __future__ import annotations

from typing import Any

from jitune.data.record import STATES

INTEGERS = range(-(2**63), 2**63)  # what a column of integers holds
# The kinds of values: text, texts (a list), integer, number, boolean, any (JSON), object, and json (any, as a text).
PROVENANCE = {
    "source": "text", "method": "text", "parents": "texts", "annotators": "texts", "model": "text",
    "model_digest": "text", "prompt_hash": "text", "sampling": "object", "seed": "integer", "license": "text",
    "steps": "texts",
}  # fmt: skip
ANNOTATION = {"annotator": "text", "question": "text", "value": "any", "value_json": "json", "state": "text",
              "at": "text", "seconds": "number"}  # fmt: skip
CANDIDATE = {"messages": "messages", "rank": "integer", "score": "number", "id": "text"}
MESSAGE = {"role": "text", "content": "text", "reasoning_content": "text", "tool_calls": "tool_calls", "name": "text",
           "tool_call_id": "text", "loss_weight": "number"}  # fmt: skip
SCORE = {"name": "text", "value": "number"}  # in Parquet
RECORD = {
    "id": "text", "messages": "messages", "tools": "tools", "text": "text", "prompt": "messages",
    "prompt_text": "text", "completion": "text", "chosen": "messages", "rejected": "messages",
    "candidates": "candidates", "label": "boolean", "scores": "scores", "annotations": "annotations", "meta": "object",
    "provenance": "provenance",
}  # fmt: skip
STRUCTS = {"messages": MESSAGE, "candidates": CANDIDATE, "annotations": ANNOTATION, "provenance": PROVENANCE}
ONLY_PARQUET = ("prompt_text", "value_json")  # in the place of prompt and value


def json_schema() -> dict:
    """The JSON Schema of a record as JSONL has it."""
    schema = _json_struct(RECORD, ("id", "provenance"))
    # In JSONL the prompt of raw text stands where the messages before a preference do.
    schema["properties"]["prompt"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/messages"}]}
    schema["properties"]["id"] = {"type": "string", "minLength": 1}
    schema["dependentRequired"] = {"chosen": ["prompt", "rejected"], "rejected": ["prompt", "chosen"],
                                   "candidates": ["prompt"], "completion": ["prompt"]}
    schema["$defs"] = {"messages": {"type": "array", "items": _json_struct(MESSAGE)}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A record of jitune"} | schema


def _json_struct(kinds: dict[str, str], required: tuple[str, ...] = ()) -> dict:
    names = [name for name in kinds if name not in ONLY_PARQUET]
    found = {"type": "object", "properties": {name: _json_type(kinds[name]) for name in names}}
    if "state" in kinds:
        found["properties"]["state"]["enum"] = list(STATES)
    required = {"role": ("role",), "annotator": ("annotator", "question")}.get(names[0], required)
    return found | ({"required": list(required)} if required else {}) | {"additionalProperties": False}


def _json_type(kind: str) -> dict:
    simple = {"text": "string", "integer": "integer", "number": "number", "boolean": "boolean", "object": "object"}
    if kind in simple:
        return {"type": simple[kind]}
    if kind == "messages":
        return {"$ref": "#/$defs/messages"}
    if kind == "texts":
        return {"type": "array", "items": {"type": "string"}}
    if kind == "scores":
        return {"type": "object", "additionalProperties": {"type": "number"}}
    if kind in ("tools", "tool_calls"):
        shape = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        call = {"type": "object", "properties": {"function": shape}, "required": ["function"]}
        return {"type": "array", "items": call}
    if kind == "provenance":
        return _json_struct(PROVENANCE)
    return {"type": "array", "items": _json_struct(STRUCTS[kind])} if kind in STRUCTS else {}


def arrow_schema() -> Any:
    """The `pyarrow.Schema` of a Parquet file of records."""
    import pyarrow

    return pyarrow.schema([(name, _arrow_type(kind)) for name, kind in RECORD.items()])


def _arrow_type(kind: str) -> Any:
    import pyarrow as pa

    simple = {"text": pa.string, "integer": pa.int64, "number": pa.float64, "boolean": pa.bool_,
              "object": pa.string, "tools": pa.string, "json": pa.string}  # fmt: skip
    if kind in simple:
        return simple[kind]()
    if kind == "texts":
        return pa.list_(pa.string())
    if kind == "scores":
        return pa.list_(_arrow_struct(SCORE))
    if kind == "tool_calls":
        function = pa.struct([("name", pa.string()), ("arguments", pa.string())])
        return pa.list_(pa.struct([("type", pa.string()), ("function", function), ("id", pa.string())]))
    struct = _arrow_struct(STRUCTS[kind])
    return struct if kind == "provenance" else pa.list_(struct)


def _arrow_struct(kinds: dict[str, str]) -> Any:
    import pyarrow

    fields = [(name, _arrow_type(kind)) for name, kind in kinds.items() if kind != "any"]
    return pyarrow.struct(fields)
