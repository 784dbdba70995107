"""A model behind an HTTP endpoint that speaks OpenAI's chat protocol: one call, tried again where that may help.

    e = Endpoint("http://localhost:8000/v1", "my-judge")
    ask(e, [("user", "Which is better?")], max_tokens=512)   # Reply("... [[A]]", "stop", 120, 44)

The key is read from an environment variable when a call is made. It is in no error, no record and no repr. Failed
(for one question) and UserError (nothing will work: wrong key, wrong model, nothing listens) are what can go wrong.
"""

from __future__ import annotations

import datetime
import email.utils
import http.client
import json
import math
import os
import random
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jitune.types import UserError

KEY_ENV = "OPENAI_API_KEY"
LONGEST_WAIT = 120.0
LARGEST_REPLY = 16 << 20
# Of codes below 500: timeouts and "too many" pass; the others say that the request is wrong.
PASSING = (408, 409, 425, 429)


class Failed(Exception):
    """One call failed after its last try. `status`: the HTTP code, or 0. `reached`: whether a server answered."""

    def __init__(self, reason: str, *, status: int = 0, reached: bool = True):
        super().__init__(reason)
        self.status, self.reached = status, reached


@dataclass(frozen=True)
class Endpoint:
    """Where and how to call.

    Attributes:
      base_url: as in `https://host/v1`; a query (`?api-version=...`) is kept for calls and not shown.
      key_env: the name of the environment variable with the key; none is sent where it is not set.
      parameters: added to every request; None takes one out ({"temperature": None} for models that refuse it).
      timeout: seconds for a call. tries: calls of one question at most. concurrency: calls at a time.
      sleep, chance: how waiting is done and where jitter comes from; tests give their own.
    """

    base_url: str
    model: str
    key_env: str = KEY_ENV
    parameters: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 120.0
    tries: int = 6
    concurrency: int = 8
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random

    def __post_init__(self):
        parts = urllib.parse.urlsplit(self.base_url)
        if "@" in parts.netloc:
            raise UserError("the endpoint's URL: a user or password in it is refused; put the key into an environment "
                            f"variable ({KEY_ENV}, or another that is named)")
        printable = all("!" <= c <= "~" for c in self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not printable:
            raise UserError(f"the endpoint's URL {self.shown!r}: http://HOST/v1 or https://HOST/v1 is needed")
        if not re.fullmatch(r"[A-Za-z_]\w*", self.key_env):
            raise UserError("the key's environment variable: its name is needed (--judge_key_env NAME), not the key")
        if self.concurrency < 1 or self.tries < 1 or not self.timeout > 0:
            raise UserError("an endpoint's concurrency and tries must be 1 or more, and its timeout above 0")

    @property
    def shown(self) -> str:
        """The URL without its query."""
        return self.base_url.partition("?")[0].rstrip("/")

    def url(self, path: str) -> str:
        """The URL of a path below the base."""
        query = self.base_url.partition("?")[2]
        return f"{self.shown}/{path}" + (f"?{query}" if query else "")


@dataclass(frozen=True)
class Reply:
    """An answer. tokens: as the endpoint counted them, or None where it did not. choices: first token -> logprob."""

    text: str
    finish_reason: str
    input_tokens: int | None
    output_tokens: int | None
    model: str = ""
    choices: Mapping[str, float] | None = None


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: following it would carry the key to another host."""

    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(_Stay)


def body_of(e: Endpoint, messages: Sequence[tuple[str, str]], max_tokens: int, first_token: bool = False) -> dict:
    """What is sent: temperature 0, and with `first_token` the likeliest first tokens asked for."""
    body = {"model": e.model, "messages": [{"role": r, "content": c} for r, c in messages], "temperature": 0.0,
            "max_tokens": max_tokens}
    if first_token:
        body |= {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
    return {name: value for name, value in {**body, **e.parameters}.items() if value is not None}


def ask(e: Endpoint, messages: Sequence[tuple[str, str]], max_tokens: int, *, first_token: bool = False,
        patient: bool = True) -> Reply:
    """One answer. Raises Failed after the last try, UserError where no call will ever work.

    first_token: one token and the log-probabilities of what it might have been. patient: see `post`.
    """
    return post(e, "chat/completions", body_of(e, messages, max_tokens, first_token),
                lambda reply: _read_reply(e, reply, first_token), patient=patient)


def post(e: Endpoint, path: str, body: dict, read: Callable[[Any], Any], *, patient: bool = True) -> Any:
    """`read(the reply's JSON)`, tried again with growing pauses after what may pass.

    patient: also where nothing listens; otherwise that fails at once.

    The pause before try k+1 is drawn from [d/2, d] with d = 2^(k-1) seconds, 60 at most; a Retry-After is waited for,
    if it is no longer than LONGEST_WAIT.
    """
    for number in range(1, e.tries + 1):
        try:
            reply = _send(e, path, body)
            try:
                return read(reply)
            except UserError:
                raise
            except (KeyError, TypeError, IndexError, AttributeError, ValueError):
                raise Failed(f"a reply that is not understood: {scrub(e, json.dumps(reply))}") from None
        except Failed as error:
            passing = not error.status or error.status in PASSING or error.status >= 500
            pause = min(60.0, 2.0 ** (number - 1)) * (0.5 + 0.5 * e.chance())
            wait = max(pause, getattr(error, "after", 0.0))
            if not passing or number == e.tries or wait > LONGEST_WAIT or not (patient or error.reached):
                raise
            e.sleep(wait)
    raise AssertionError("unreachable")


def scrub(e: Endpoint, text: str) -> str:
    """A text as it may be shown: on one line, 200 characters at most, without the key."""
    key = os.environ.get(e.key_env, "").strip()
    if key:
        text = text.replace(key, "***").replace(json.dumps(key)[1:-1], "***")
    return " ".join(text.split())[:200]


def _send(e: Endpoint, path: str, body: dict) -> Any:
    """One try: the JSON of the reply. No exception of the libraries gets out, since their texts may hold headers."""
    key = os.environ.get(e.key_env, "").strip()
    if not all("!" <= c <= "~" for c in key):
        raise UserError(f"the environment variable {e.key_env} holds characters that no key has")
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "jitune"}
    headers |= {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(e.url(path), json.dumps(body).encode(), headers)
    end = time.monotonic() + e.timeout
    try:
        with OPENER.open(request, timeout=e.timeout) as reply:
            raw = _read_all(reply, end)
    except urllib.error.HTTPError as error:
        raise _refusal(e, error, end) from None
    except TimeoutError:
        raise Failed(f"no answer within {e.timeout:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise Failed(f"no answer within {e.timeout:g} s") from None
        lost = isinstance(error, (http.client.HTTPException, ConnectionResetError, BrokenPipeError))
        raise Failed(f"cannot be reached: {scrub(e, str(reason) or type(reason).__name__)}", reached=lost) from None
    try:
        return json.loads(raw)
    except ValueError:
        raise Failed(f"a reply that is no JSON: {scrub(e, raw.decode(errors='replace')) or 'empty'}") from None


def _read_all(reply, end: float) -> bytes:
    """The whole reply; a server that drips it out does not hold us for longer than one that is silent."""
    parts, size = [], 0
    while part := reply.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if time.monotonic() > end:
            raise TimeoutError
        if size > LARGEST_REPLY:
            raise Failed("a reply of more than 16 MiB")
    return b"".join(parts)


def _refusal(e: Endpoint, error: urllib.error.HTTPError, end: float) -> Exception:
    """What an HTTP error means: UserError where every call would fail the same way."""
    status, said = error.code, ""
    try:
        said = _message(_read_all(error, end))
    except (OSError, http.client.HTTPException, Failed):
        pass
    finally:
        error.close()
    said = scrub(e, said)
    more = f" ({said})" if said else ""
    unset = "" if os.environ.get(e.key_env, "").strip() else f"; the environment variable {e.key_env} is not set"
    if status == 401:
        return UserError(f"{e.shown}: does not accept the key in {e.key_env}: HTTP 401{more}{unset}")
    if status == 404:
        return UserError(f"{e.shown}: has no model {e.model!r}, or is not the base URL: HTTP 404{more}")
    if status == 402 or status == 429 and "insufficient_quota" in said:
        return UserError(f"{e.shown}: the account's quota is used up: HTTP {status}{more}")
    if 300 <= status < 400:
        return UserError(f"{e.shown}: redirects, which is not followed (HTTP {status}); give the final base URL")
    failed = Failed(f"HTTP {status}{more}{unset if status == 403 else ''}", status=status)
    failed.after = _seconds(error.headers.get("Retry-After"))
    return failed


def _message(raw: bytes) -> str:
    """The message of an error's body: OpenAI's {"error": {"message", "code"}}, or the text itself."""
    try:
        found = json.loads(raw)["error"]
        return " ".join(filter(None, (str(found.get("code") or ""), str(found["message"]))))
    except (ValueError, KeyError, TypeError, AttributeError):
        return raw.decode(errors="replace")


def _seconds(after: str | None) -> float:
    """Retry-After, seconds or a date, in seconds from now."""
    try:
        return max(0.0, float(after or 0))
    except ValueError:
        pass
    try:
        at = email.utils.parsedate_to_datetime(after)
        return max(0.0, (at - datetime.datetime.now(datetime.UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _read_reply(e: Endpoint, reply: Any, first_token: bool) -> Reply:
    choice = reply["choices"][0]
    usage = reply.get("usage") or {}
    counts = [n if isinstance(n, int) and n >= 0 else None
              for n in (usage.get("prompt_tokens"), usage.get("completion_tokens"))]
    text, choices = choice["message"]["content"], None
    if first_token:
        if not (choice.get("logprobs") or {}).get("content"):
            raise UserError(f"{e.shown}: gives no log-probabilities of first tokens")
        top = choice["logprobs"]["content"][0]["top_logprobs"]
        choices = {t["token"]: float(t["logprob"]) for t in reversed(top) if not math.isnan(float(t["logprob"]))}
        text = text or ""
    if not isinstance(text, str) or not (text.strip() or first_token):
        raise ValueError("no text")
    return Reply(text, str(choice.get("finish_reason") or "stop"), *counts, str(reply.get("model") or ""), choices)
