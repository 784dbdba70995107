"""Requests to token ids: conversations by the model's chat template, texts and ids as they are.

    chat(tokenizer, {"messages": [{"role": "user", "content": "2 + 2?"}], "tools": None, "tool_choice": "auto"})
    completion(tokenizer, "The sea", vocab_size=512)       # [[...]]: one list of ids a prompt

Rendering is `generation.prompts`', which `jitune generate` uses too. Refused names the message or prompt at fault.
"""

from __future__ import annotations

import json
from typing import Any

from jitune.generation.prompts import encode_prompt, render_messages
from jitune.serve.fields import Refused, refuse, shown, text
from jitune.types import UserError

ROLES = ("system", "developer", "user", "assistant", "tool")
KEYS = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "refusal", "annotations",
        "audio", "function_call")  # fmt: skip
MOST_PROMPTS = 64


def chat(tokenizer: Any, asked: dict[str, Any]) -> list[int]:
    """Token ids of a conversation, the generation prompt included."""
    messages = [_message(message, i) for i, message in enumerate(asked["messages"])]
    tools = asked["tools"] if asked["tools"] and asked["tool_choice"] != "none" else None
    for i, tool in enumerate(tools or ()):
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise refuse(f"tools[{i}]", tool, "must be {'type': 'function', 'function': {'name': ..., ...}}")
        text(json.dumps(tool, ensure_ascii=False), f"tools[{i}]")
    try:
        if tools:
            whole = render_messages(tokenizer, {"messages": messages, "tools": tools}, None, "messages")
            if whole == render_messages(tokenizer, {"messages": messages}, None, "messages"):
                raise refuse("tools", tools, "must not be given: the model's chat template takes no tools",
                             code="unsupported_parameter")
        return encode_prompt(tokenizer, {"messages": messages, "tools": tools}, where="messages")
    except UserError as error:
        raise Refused(400, str(error), param="messages") from None


def _message(message: Any, i: int) -> dict[str, Any]:
    """A message as chat templates take it."""
    where = f"messages[{i}]"
    if not isinstance(message, dict):
        raise refuse(where, message, "must be an object with a role and content")
    role = message.get("role")
    if role not in ROLES:
        raise refuse(f"{where}.role", role, f"must be one of {', '.join(ROLES)}")
    if unknown := [key for key in message if key not in KEYS]:
        raise refuse(where, message, f"has a field that is not known: {shown(unknown[0])}")
    found = {"role": "system" if role == "developer" else role, "content": _content(message.get("content"), where)}
    for key in ("name", "tool_call_id", "reasoning_content"):
        if isinstance(message.get(key), str):
            found[key] = text(message[key], f"{where}.{key}")
    if message.get("tool_calls"):
        found["tool_calls"] = _tool_calls(message["tool_calls"], f"{where}.tool_calls")
    elif found["content"] is None:
        raise refuse(f"{where}.content", None, "must be a text, or a list of parts of the type text")
    return found


def _content(content: Any, where: str) -> str | None:
    """A text, or its parts joined; None where there is none."""
    if content is None or isinstance(content, str):
        return content if content is None else text(content, f"{where}.content")
    if not isinstance(content, list):
        raise refuse(f"{where}.content", content, "must be a text, or a list of parts of the type text")
    for j, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise refuse(f"{where}.content[{j}]", part, "must be {'type': 'text', 'text': ...}: the model reads texts")
    return text("".join(part["text"] for part in content), f"{where}.content")


def _tool_calls(calls: Any, where: str) -> list[dict]:
    """Calls with their arguments as objects, which is how templates take them."""
    found = []
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function") if isinstance(call, dict) else None
        try:
            arguments = function["arguments"]
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
            if not isinstance(function["name"], str) or not isinstance(arguments, dict):
                raise TypeError
        except (KeyError, TypeError, ValueError, RecursionError):
            raise refuse(where, call, "must have function.name and function.arguments, an object as JSON") from None
        text(json.dumps([call, arguments], ensure_ascii=False), where)
        found.append({**call, "function": {**function, "arguments": arguments}})
    return found


def completion(tokenizer: Any, prompt: Any, *, vocab_size: int) -> list[list[int]]:
    """Token ids of each prompt: of a text, a list of texts, token ids, or a list of lists of token ids."""
    allowed = "must be a text, a list of texts, token ids, or a list of lists of token ids, and not be empty"
    one = isinstance(prompt, str) or isinstance(prompt, list) and prompt and all(map(_is_id, prompt))
    prompts = [prompt] if one else prompt
    if not isinstance(prompts, list) or not prompts:
        raise refuse("prompt", prompt, allowed)
    if len(prompts) > MOST_PROMPTS:
        raise refuse("prompt", prompt, f"must have at most {MOST_PROMPTS} prompts")
    return [_encode(tokenizer, each, vocab_size, allowed) for each in prompts]


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _encode(tokenizer: Any, prompt: Any, vocab_size: int, allowed: str) -> list[int]:
    if isinstance(prompt, str) and prompt:
        return encode_prompt(tokenizer, {"prompt": text(prompt, "prompt")}, where="prompt")
    if not isinstance(prompt, list) or not prompt or not all(map(_is_id, prompt)):
        raise refuse("prompt", prompt, allowed)
    if outside := [token for token in prompt if not 0 <= token < vocab_size]:
        raise refuse("prompt", outside[0], f"must have token ids below {vocab_size}")
    return prompt
