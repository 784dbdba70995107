"""What a request may say: one table of fields with their types and ranges, for both ways of asking.

    asked = read({"model": "base", "messages": [...], "max_tokens": 16, "temperature": 0}, CHAT)
    asked["max_tokens"]                       # 16; what is not given, or null, has its default

Refused is any error that a client is told of, as OpenAI's API words them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from jitune.generation.sampling import BIASES

CHAT, COMPLETION = "chat/completions", "completions"
MOST_ANSWERS = 16  # of one request
MOST_STOPS, LONGEST_STOP = 16, 1000
# They change nothing of an answer here.
IGNORED = ("user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier", "prompt_cache_key")
# OpenAI's, which need what is not here: (field, values that ask for nothing, why it is refused).
UNSUPPORTED = (
    ("response_format", ({"type": "text"},), "only {'type': 'text'} is supported: answers are not constrained"),
    ("tool_choice", ("auto", "none"), "only 'auto' and 'none' are supported: answers are not constrained"),
    ("functions", (), "is not supported; give tools"),
    ("function_call", (), "is not supported; give tools"),
    ("modalities", (["text"],), "only ['text'] is supported"),
    ("audio", (), "is not supported: answers are texts"),
    ("prediction", (), "is not supported"),
    ("web_search_options", (), "is not supported"),
    ("reasoning_effort", (), "is not supported"),
    ("verbosity", (), "is not supported"),
    ("suffix", ("",), "is not supported: texts are continued at their end"),
)


class Refused(Exception):
    """A request that is not answered. param: the field at fault. headers: of the reply."""

    def __init__(self, status: int, message: str, *, kind: str = "invalid_request_error", param: str | None = None,
                 code: str | None = None, headers: dict[str, str] | None = None):  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.kind, self.param = status, message, kind, param
        self.code, self.headers = code, headers or {}

    @property
    def body(self) -> dict:
        """As OpenAI's API has it."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


class Field(NamedTuple):
    """kind: its Python type in JSON; ok: whether a value is in range; allowed: what the client is told; default."""

    kind: type
    ok: Callable[[Any], bool]
    allowed: str
    default: Any = None


def _between(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: low <= value <= high


def _any(value: Any) -> bool:
    return True


SHARED = {
    "model": Field(str, _any, "a text"),
    "max_tokens": Field(int, _between(1, 2**31), "a whole number of at least 1"),
    "temperature": Field(float, _between(0, 2), "a number from 0 to 2", 1.0),
    "top_p": Field(float, _between(0, 1), "a number from 0 to 1", 1.0),
    "top_k": Field(int, _between(-1, 2**31 - 1), "a whole number; 0 and -1 are off", 0),
    "min_p": Field(float, _between(0, 1), "a number from 0 to 1", 0.0),
    "repetition_penalty": Field(float, _between(0.01, 10), "a number from 0.01 to 10", 1.0),
    "presence_penalty": Field(float, _between(-2, 2), "a number from -2 to 2", 0.0),
    "frequency_penalty": Field(float, _between(-2, 2), "a number from -2 to 2", 0.0),
    "seed": Field(int, _between(-(2**63), 2**64 - 1), "a whole number of 64 bits"),
    "n": Field(int, _between(1, MOST_ANSWERS), f"a whole number from 1 to {MOST_ANSWERS}", 1),
    "stop": Field(object, _any, "a text or a list of texts"),
    "stream": Field(bool, _any, "true or false", False),
    "stream_options": Field(dict, _any, "an object"),
    "logit_bias": Field(dict, _any, "an object of token ids"),
    **{name: Field(object, _any, "anything") for name in IGNORED},
}
FIELDS = {
    CHAT: {
        **SHARED,
        "messages": Field(list, lambda v: len(v) > 0, "a list of at least one message"),
        "max_completion_tokens": SHARED["max_tokens"],
        "logprobs": Field(bool, _any, "true or false", False),
        "top_logprobs": Field(int, _between(0, 20), "a whole number from 0 to 20"),
        "tools": Field(list, _any, "a list of tools"),
    },
    COMPLETION: {
        **SHARED,
        "prompt": Field(object, _any, "a text, token ids, or a list of these"),
        "echo": Field(bool, _any, "true or false", False),
        "logprobs": Field(int, _between(0, 5), "a whole number from 0 to 5"),
        "best_of": Field(int, _between(1, MOST_ANSWERS), "equal to n"),
    },
}
WORDS = {int: "an integer", float: "a number", bool: "a boolean", str: "a string", list: "an array", dict: "an object"}


def read(body: Any, path: str) -> dict[str, Any]:
    """The fields of a request's JSON, with defaults. Raises Refused, naming field, value and what is allowed."""
    if not isinstance(body, dict):
        raise Refused(400, f"the request's body is {WORDS.get(type(body), 'null')}; a JSON object is needed")
    fields = FIELDS[path]
    for name, harmless, why in UNSUPPORTED:
        if name not in fields and body.get(name) is not None and body[name] not in harmless:
            raise refuse(name, body[name], why, code="unsupported_parameter")
    known = {*fields, *(name for name, *_ in UNSUPPORTED)}
    if unknown := [name for name in body if name not in known]:
        raise Refused(400, f"Unrecognized request argument supplied: {shown(unknown[0])}", param=unknown[0][:60])
    found = {name: value(body.get(name), name, field) for name, field in fields.items()}
    found["stop"], found["logit_bias"] = _stops(found["stop"]), _bias(found["logit_bias"])
    found["include_usage"] = _include_usage(found)
    if path == CHAT:
        found["tool_choice"] = body.get("tool_choice") or "auto"
        _chat_only(found)
    elif found["best_of"] not in (None, found["n"]):
        raise refuse("best_of", found["best_of"], f"must be equal to n ({found['n']}): answers are not ranked")
    return found


def _chat_only(found: dict[str, Any]) -> None:
    if found["max_completion_tokens"] is not None:
        if found["max_tokens"] not in (None, found["max_completion_tokens"]):
            raise refuse("max_tokens", found["max_tokens"], "is another than max_completion_tokens; give one of them")
        found["max_tokens"] = found["max_completion_tokens"]
    if found["top_logprobs"] is not None and not found["logprobs"]:
        raise refuse("top_logprobs", found["top_logprobs"], "needs logprobs to be true")


def value(given: Any, name: str, field: Field) -> Any:
    """A field's value, or its default where it is not given. Raises Refused."""
    if given is None:
        return field.default
    kind = field.kind
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    fits = number if kind is float else (number and isinstance(given, int)) if kind is int else isinstance(given, kind)
    if not fits:
        raise refuse(name, given, f"must be {field.allowed}", code="invalid_type")
    if kind is float and not (abs(given) < 2**1000 and math.isfinite(given)) or not field.ok(given):
        raise refuse(name, given, f"must be {field.allowed}", code="invalid_value")
    if kind is str:
        text(given, name)
    return float(given) if kind is float else given


def text(given: str, name: str) -> str:
    """A text that has a form in UTF-8. Raises Refused for half a surrogate pair."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise Refused(400, f"{name} holds half of a surrogate pair, which is no character", param=name) from None
    return given


def refuse(name: str, given: Any, why: str, *, code: str = "invalid_value") -> Refused:
    """A refusal that names the field, what was given, and why it cannot be."""
    return Refused(400, f"{name} is {shown(given)}; it {why}" if why.startswith(("must", "is ", "needs", "has")) else
                   f"{name} is {shown(given)}; {why}", param=name, code=code)  # fmt: skip


def shown(given: Any) -> str:
    """The beginning of a value, on one line."""
    if isinstance(given, int) and not isinstance(given, bool) and abs(given) >= 10**30:
        return "a number of more than 30 digits"
    if isinstance(given, (list, dict)) and len(given) > 8:
        return f"{'a list' if isinstance(given, list) else 'an object'} of {len(given)}"
    found = repr(given).encode("utf-8", "backslashreplace").decode()
    return found if len(found) <= 80 else f"{found[:76]} ..."


def _stops(given: Any) -> tuple[str, ...]:
    stops = [] if given is None else [given] if isinstance(given, str) else given
    allowed = f"must be a text or a list of at most {MOST_STOPS} texts, each of 1 to {LONGEST_STOP} characters"
    if not isinstance(stops, list) or len(stops) > MOST_STOPS:
        raise refuse("stop", given, allowed)
    for stop in stops:
        if not isinstance(stop, str) or not 0 < len(stop) <= LONGEST_STOP:
            raise refuse("stop", stop, allowed)
        text(stop, "stop")
    return tuple(stops)


def _bias(given: dict | None) -> dict[int, float]:
    allowed = f"must have at most {BIASES} token ids, each with a number from -100 to 100"
    if len(given or ()) > BIASES:
        raise refuse("logit_bias", given, allowed)
    found = {}
    for key, bias in (given or {}).items():
        number = isinstance(bias, (int, float)) and not isinstance(bias, bool) and -100 <= bias <= 100
        if not (key.isascii() and key.isdecimal() and len(key) < 10 and number):
            raise refuse("logit_bias", {key: bias}, allowed)
        found[int(key)] = float(bias)
    return found


def _include_usage(found: dict[str, Any]) -> bool:
    options = found["stream_options"]
    if options is None:
        return False
    if not found["stream"]:
        raise refuse("stream_options", options, "needs stream to be true")
    for name in options:
        if name not in ("include_usage", "include_obfuscation"):
            raise refuse("stream_options", options, "has a field that is not known; known is include_usage")
    given = options.get("include_usage") or False
    if not isinstance(given, bool):
        raise refuse("stream_options.include_usage", given, "must be true or false", code="invalid_type")
    return given
