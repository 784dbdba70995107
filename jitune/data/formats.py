"""Formats: one row of a user's data in, one `Example` out.

    to_example({"instruction": "Add", "input": "2 3", "output": "5"}, ("a.json", 7))
    # Example(messages=({"role": "user", "content": "Add\\n\\n2 3"}, {"role": "assistant", "content": "5"}),
    #         origin=("a.json", 7))

Each format is a function of a row, named in `FORMATS`; `detect` picks one by the row's keys, and a format
of your own is named by its import path, `my_module:my_function`. Nothing that changes what is trained is
dropped in silence: images, a second system prompt or an unknown speaker is a UserError with file and row.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from jitune.types import Example, UserError

# The keys by which `detect` knows a format; the first whose keys a row all has is taken.
SIGNATURES = (
    ("messages", ("messages",)),
    ("sharegpt", ("conversations",)),
    ("sharegpt", ("conversation",)),
    ("alpaca", ("instruction", "output")),
    ("prompt_completion", ("prompt", "completion")),
    ("prompt_completion", ("prompt", "response")),
    ("prompt_completion", ("prompt_text", "completion")),
    ("text", ("text",)),
)
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "function_call"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "function_response"), "tool"),
}
WEIGHT_KEYS = ("loss_weight", "weight", "train")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
MEDIA = ("images", "audios", "videos")
NOT_TEXT = (*MEDIA, "image", "audio", "video", "refusal")
# Templates write the parts of a message in this order.
PART_ORDER = {"reasoning": 0, "thinking": 0, "text": 1, "tool_call": 2}


def to_example(row: Mapping, origin: tuple[str, int], *, format: str = "auto",
               fields: Mapping[str, str] | None = None) -> Example:
    """Convert one row.

    Args:
      origin: `(file, row)`, the beginning of every error and the example's provenance.
      format: a name in `FORMATS`, "auto" or "module:function" for your own `(row) -> Example`.
      fields: the format's name of a column -> the row's, e.g. {"instruction": "question"}.

    Raises:
      UserError: the row does not fit; the message is `file:row: what is wrong`.
    """
    try:
        row = renamed(plain(row), fields or {})
        name = detect(row) if format == "auto" else format
        example = _converted(load_format(name), row, name)
    except UserError as error:
        raise UserError(f"{origin[0]}:{origin[1]}: {error}") from error
    return replace(example, origin=tuple(origin))


def detect(row: Mapping) -> str:
    """The name of the format whose keys the row has; keys with a value count before null ones."""
    filled = {key for key, value in row.items() if value is not None}
    judged = {"messages", "conversations", "completion", "provenance"}  # the last: a record, whatever its content
    labelled = isinstance(row.get("label"), bool) and filled & judged
    ranked = {"prompt", "candidates"} <= filled and not filled & {"completion", "response"}
    if labelled or ranked or {"chosen", "rejected"} <= filled:
        what = "several candidates" if ranked else "chosen and rejected, or a true/false label"
        raise UserError(f"the row is a preference ({what}), which would be ignored; the objectives dpo, simpo, orpo "
                        "and kto learn from it; name the format to train on the rest all the same")
    for keys in (filled, set(row)):
        for name, needed in SIGNATURES:
            if keys.issuperset(needed):
                return name
    known = ", ".join(f"{name} ({', '.join(needed)})" for name, needed in SIGNATURES)
    raise UserError(f"no known format: the row has keys {list(row)}; known formats: {known}; rename columns "
                    "with fields, or name a function of your own as module:function")


def load_format(name: str) -> Callable[[dict], Example]:
    """The function of a format's name or import path."""
    if name in FORMATS:
        return FORMATS[name]
    module, colon, function = name.partition(":")
    if not colon:
        raise UserError(f"unknown format '{name}'; known: auto, {', '.join(FORMATS)}, module:function")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"format '{name}' cannot be imported: {error}") from error


def alpaca(row: dict) -> Example:
    """instruction, input and output; optional system, history of [question, answer] pairs, and tools."""
    instruction, more, answer = _column(row, "instruction"), _column(row, "input", ""), _column(row, "output")
    system, history = _column(row, "system", ""), row.get("history") or []
    turns = [("system", system)] if system else []
    for index, pair in enumerate(_as_list(history, "'history'"), 1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise UserError(f"'history' item {index} must be a pair [question, answer], got {_shown(pair)}")
        turns += [(role, _text(part, f"'history' item {index}"))
                  for role, part in zip(("user", "assistant"), pair, strict=True)]
    question = f"{instruction}\n\n{more}" if more.strip() else instruction
    turns += [("user", question), ("assistant", answer)]
    return Example(messages=tuple({"role": role, "content": text} for role, text in turns), tools=read_tools(row))


def sharegpt(row: dict) -> Example:
    """conversations: a list of {from, value}; optional system and tools; weight on a message."""
    other = row.get("conversations") is None and "conversation" in row
    return conversation(row, "conversation" if other else "conversations")


def messages(row: dict) -> Example:
    """messages: a list of {role, content} as OpenAI's; tool calls, typed parts, loss weights and tools."""
    return conversation(row, "messages")


def prompt_completion(row: dict) -> Example:
    """prompt (not trained) and completion or response (trained): both text, or both lists of messages."""
    key = "response" if row.get("completion") is None and "response" in row else "completion"
    before = "prompt_text" if row.get("prompt") is None and "prompt_text" in row else "prompt"
    prompt, completion = row.get(before), row.get(key)
    if not isinstance(prompt, list) and not isinstance(completion, list):
        pieces = ((_column(row, before), 0.0), (_column(row, key), 1.0))
        if _column(row, "system", "") or read_tools(row):
            raise UserError("'system' and 'tools' have no place in a text prompt; write it as messages")
        return Example(text=pieces)
    if not isinstance(prompt, list) or not isinstance(completion, list):
        got = f"{_shown(prompt)} and {_shown(completion)}"
        raise UserError(f"'prompt' and '{key}' must both be text or both lists of messages, got {got}")
    first, second = conversation(row, "prompt"), conversation({key: completion}, key)
    weights = (0.0,) * len(first.messages) + (second.message_weights or (None,) * len(second.messages))
    return replace(first, messages=first.messages + second.messages, message_weights=weights)


def text(row: dict) -> Example:
    """text: the whole of it is trained."""
    return Example(text=((_column(row, "text"), 1.0),))


FORMATS = {function.__name__: function for function in (messages, sharegpt, alpaca, prompt_completion, text)}


def conversation(row: dict, key: str) -> Example:
    """The messages under `key`, with `system`, `tools` and loss weights; a UserError says which item is wrong."""
    if key not in row:
        raise UserError(f"'{key}' is missing; the row has keys {list(row)}")
    items = _as_list(row[key], f"'{key}'")
    if not items:
        raise UserError(f"'{key}' is an empty list")
    found, weights = [], []
    for index, item in enumerate(items, 1):
        try:
            message, weight = _message(item)
        except UserError as error:
            raise UserError(f"'{key}' item {index}: {error}") from error
        found.append(message)
        weights.append(weight)
    system = _column(row, "system", "")
    if system and found[0]["role"] == "system":
        raise UserError(f"two system prompts: the column 'system' and the first of '{key}'")
    if system:
        found, weights = [{"role": "system", "content": system}, *found], [None, *weights]
    weighted = tuple(weights) if any(weight is not None for weight in weights) else None
    return Example(messages=tuple(found), tools=read_tools(row), message_weights=weighted)


def _message(item: Any) -> tuple[dict, float | None]:
    """One message as chat templates take it, and its loss weight."""
    if not isinstance(item, dict):
        raise UserError(f"expected an object, got {_shown(item)}")
    item = {key: value for key, value in item.items() if value is not None}
    unread = [key for key in NOT_TEXT if item.get(key)]
    if unread:
        raise UserError(f"'{unread[0]}' is not supported: only the text in 'content' is trained")
    speaker = _text(item.get("from", item.get("role")), "'from'" if "from" in item else "'role'")
    if speaker not in ROLES:
        raise UserError(f"unknown role {_shown(speaker)}; known are {', '.join(ROLES)}")
    role, content = ROLES[speaker], item.get("value", item.get("content"))
    calls = _calls(item.get("tool_calls", [])) + _calls(item.get("function_call", []))
    if speaker == "function_call":
        content, calls = None, _calls(content)
    content, reasoning, more = _parts(content) if isinstance(content, list) else (content, "", [])
    reasoning = "".join([_text(item[key], f"'{key}'") for key in REASONING_KEYS if key in item] + [reasoning])
    calls += more
    if role != "assistant" and (calls or reasoning):
        raise UserError(f"only an assistant calls tools and reasons, not the {role}")
    if content is None and not (calls or reasoning):
        raise UserError(f"'{'value' if 'from' in item else 'content'}' is missing")
    message = {"role": role, "content": "" if content is None else _text(content, "'content'")}
    message |= {"reasoning_content": reasoning} if reasoning else {}
    message |= {"tool_calls": calls} if calls else {}
    message |= {key: _text(item[key], f"'{key}'") for key in ("name", "tool_call_id") if key in item}
    return message, _weight(item)


def _parts(parts: list) -> tuple[str | None, str, list[dict]]:
    """Typed parts -> (text, reasoning, tool calls); the text is None where there is no text part."""
    texts, reasoning, calls, order = [], [], [], []
    for part in parts:
        part = part if isinstance(part, dict) else {"type": "text", "text": part}
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in PART_ORDER:
            raise UserError(f"a content part of type {_shown(kind)} cannot be trained; known are "
                            f"{', '.join(PART_ORDER)}")
        value = next((part[key] for key in ("value", "text", kind) if part.get(key) is not None), None)
        order.append(PART_ORDER[kind])
        if kind == "tool_call":
            calls += _calls(value)
        else:
            (texts if kind == "text" else reasoning).append(_text(value, f"a content part of type '{kind}'"))
    if order != sorted(order):
        raise UserError("content parts out of order: templates write reasoning, then text, then tool calls")
    return "".join(texts) if texts else None, "".join(reasoning), calls


def _calls(value: Any) -> list[dict]:
    """Tool calls, as a list or one alone, as objects or JSON, with or without the `function` wrapper."""
    value = _parsed(value, "a tool call")
    calls = []
    for call in [_parsed(one, "a tool call") for one in (value if isinstance(value, list) else [value])]:
        function = call.get("function") or call if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UserError(f"a tool call must be an object with 'name' and 'arguments', got {_shown(call)}")
        what = f"the arguments of '{function['name']}'"
        arguments = function.get("arguments", function.get("parameters"))
        arguments = {} if arguments in (None, "") else _parsed(arguments, what)
        if not isinstance(arguments, dict):
            raise UserError(f"{what} must be an object, got {_shown(arguments)}")
        found = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
        calls.append(found | ({"id": str(call["id"])} if call.get("id") else {}))
    return calls


def read_tools(row: dict) -> tuple[dict, ...]:
    """Tool definitions in `tools`, or in `functions` as they were named before."""
    key = "tools" if row.get("tools") else "functions"
    tools = []
    for index, tool in enumerate(_as_list(row.get(key) or [], f"'{key}'"), 1):
        tool = _parsed(tool, f"'{key}' item {index}")
        if isinstance(tool, dict) and "function" not in tool and tool.get("type", "function") == "function":
            tool = {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UserError(f"'{key}' item {index} must be a function with a 'name', got {_shown(tool)}")
        tools.append(tool)
    return tuple(tools)


def _weight(item: dict) -> float | None:
    for key in WEIGHT_KEYS:
        if key in item:
            weight = item[key]
            if not isinstance(weight, (int, float)) or not 0 <= weight <= sys.float_info.max:
                raise UserError(f"'{key}' must be a number of 0 or more, got {_shown(weight)}")
            return float(weight)
    return None


def _column(row: dict, key: str, default: str | None = None) -> str:
    if row.get(key) is None and default is not None:
        return default
    if key not in row:
        raise UserError(f"'{key}' is missing; the row has keys {list(row)}")
    return _text(row[key], f"'{key}'")


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{what} must be text, got {_shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what} holds half of a surrogate pair at character {error.start + 1}, "
                        "as of an emoji that was cut in two") from error
    return value


def _as_list(value: Any, what: str) -> list:
    value = _parsed(value, what)
    if not isinstance(value, list):
        raise UserError(f"{what} must be a list, got {_shown(value)}")
    return value


def _parsed(value: Any, what: str) -> Any:
    """The value itself, or what the JSON in a text says."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what}: not valid JSON, {error}: {_shown(value)}") from error


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=lambda other: type(other).__name__)
    shown = shown.encode(errors="backslashreplace").decode()
    return shown if len(shown) <= 60 else f"{shown[:60]}..."


def plain(value: Any) -> Any:
    """Rows of pandas and Arrow hold numpy arrays and scalars: make lists and numbers of them."""
    if isinstance(value, Mapping):
        return {key: item if type(item) is str else plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    found = value.tolist() if hasattr(value, "tolist") else value
    return found if type(found) is type(value) else plain(found)


def renamed(row: dict, fields: Mapping[str, str]) -> dict:
    """The row with the columns that `fields` names, the format's name -> the row's, under the format's names."""
    for actual in fields.values():
        if actual not in row:
            raise UserError(f"fields: no column '{actual}'; the row has keys {list(row)}")
    kept = {key: value for key, value in row.items() if key not in fields and key not in fields.values()}
    return kept | {name: row[actual] for name, actual in fields.items()}


def _converted(convert: Callable[[dict], Example], row: dict, name: str) -> Example:
    """Call a format; whatever goes wrong in a user's own function is an error about the row."""
    if name in FORMATS:
        unread = [key for key in MEDIA if row.get(key)]
        if unread:
            raise UserError(f"'{unread[0]}' is not supported: only text is trained")
        return convert(row)
    try:
        example = convert(row)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"format '{name}': {type(error).__name__}: {error}") from error
    if not isinstance(example, Example):
        raise UserError(f"format '{name}' returned {type(example).__name__}, not an Example")
    if bool(example.messages) == bool(example.text):
        raise UserError(f"format '{name}' must fill either messages or text")
    if example.message_weights is not None and len(example.message_weights) != len(example.messages):
        raise UserError(f"format '{name}' gave {len(example.message_weights)} weights for "
                        f"{len(example.messages)} messages")
    return example
