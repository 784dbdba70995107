"""A model behind an HTTP endpoint that speaks OpenAI's protocol: one request, tried again where that may help.

    e = Endpoint("http://localhost:8000/v1", "my-teacher")
    post(e, "chat/completions", {"model": "my-teacher", "messages": [...]}, read=lambda reply: reply["choices"])

What is sent and how a reply is read is in `wire`.

The key is read from an environment variable when a call is made. It is in no error, no record and no repr. Failed
(for one question) and UserError (nothing will work: wrong key, wrong model, nothing listens) are what can go wrong.
"""

from __future__ import annotations

import datetime
import email.utils
import http.client
import json
import os
import random
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jitune.types import UserError

KEY_ENV = "OPENAI_API_KEY"
LONGEST_WAIT = 120.0
LONGEST_TIMEOUT = 86_400  # sockets take no number at will
LARGEST_REPLY = 16 << 20
# Of codes below 500: timeouts and "too many" pass; the others say that the request is wrong.
PASSING = (408, 409, 425, 429)
TOO_LONG = ("context_length", "context length", "context size", "maximum model length", "too many tokens",
            "prompt is too long", "exceed_context")
FILTERED = ("content_filter", "content management policy", "responsibleaipolicy", "content_policy_violation")


class Failed(Exception):
    """One call failed after its last try. `status`: the HTTP code, or 0. `reached`: whether a server answered.

    kind: as `call.Lost` has it. used: the tokens that it took all the same, where they were counted.
    """

    def __init__(self, reason: str, *, status: int = 0, reached: bool = True, kind: str = "failed", used=None):
        super().__init__(reason)
        self.status, self.reached, self.kind, self.used = status, reached, kind, used


@dataclass(frozen=True)
class Endpoint:
    """Where and how to call.

    Attributes:
      base_url: as in `https://host/v1`; a query (`?api-version=...`) is kept for calls and not shown.
      key_env: the name of the environment variable with the key; none is sent where it is not set.
      api: `chat`, or `completion`, which continues plain texts.
      parameters: added to every request; None takes one out ({"temperature": None} for models that refuse it).
      chat_template: Jinja source that renders conversations for api=completion; "": they are refused there.
      empty: whether an answer without a text is an answer; otherwise it is a failure.
      timeout: seconds for a call. tries: calls of one question at most. concurrency: calls at a time.
      sleep, chance: how waiting is done and where jitter comes from; tests give their own. A sleep that gives true
        says that it is not tried again.
    """

    base_url: str
    model: str
    key_env: str = KEY_ENV
    api: str = "chat"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    chat_template: str = ""
    empty: bool = True
    timeout: float = 120.0
    tries: int = 6
    concurrency: int = 8
    sleep: Callable[[float], bool | None] = time.sleep
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
            raise UserError("the key's environment variable: its name is needed (key_env=NAME), not the key")
        if self.api not in ("chat", "completion"):
            raise UserError(f"the endpoint's api={self.api!r} is not one of chat, completion")
        if self.concurrency < 1 or self.tries < 1 or not 0 < self.timeout <= LONGEST_TIMEOUT:
            raise UserError("an endpoint's concurrency and tries must be 1 or more, and its timeout above 0 and at "
                            f"most {LONGEST_TIMEOUT:,} seconds")

    @property
    def shown(self) -> str:
        """The URL without its query."""
        return self.base_url.partition("?")[0].rstrip("/")

    def url(self, path: str) -> str:
        """The URL of a path below the base."""
        query = self.base_url.partition("?")[2]
        return f"{self.shown}/{path}" + (f"?{query}" if query else "")


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: following it would carry the key to another host."""

    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(_Stay)


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
            passing = error.kind == "failed" and (not error.status or error.status in PASSING or error.status >= 500)
            pause = min(60.0, 2.0 ** (number - 1)) * (0.5 + 0.5 * e.chance())
            wait = max(pause, getattr(error, "after", 0.0))
            if passing and wait > LONGEST_WAIT:
                raise Failed(f"{error}; asks to wait for {wait:,.0f} s", status=error.status,
                             used=error.used) from None
            if not passing or number == e.tries or not (patient or error.reached):
                raise
            if e.sleep(wait):
                raise
    raise AssertionError("unreachable")


def scrub(e: Endpoint, text: str) -> str:
    """A text as it may be shown: on one line, 200 characters at most, without the key."""
    return " ".join(hide(e, text).split())[:200]


def hide(e: Endpoint, text: str, *, least: int = 1) -> str:
    """A text without the key, if that has at least so many characters."""
    key = os.environ.get(e.key_env, "").strip()
    return text.replace(key, "***").replace(json.dumps(key)[1:-1], "***") if len(key) >= least else text


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
    except (ValueError, RecursionError):
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
    failed = Failed(f"HTTP {status}{more}{unset if status == 403 else ''}", status=status,
                    kind=_kind(said) if 400 <= status < 500 else "failed")
    failed.after = _seconds(error.headers.get("Retry-After"))
    return failed


def _kind(said: str) -> str:
    """What a refusal is about, by the codes and words of OpenAI, Azure, vLLM, llama.cpp and others."""
    said = said.lower()
    if any(words in said for words in TOO_LONG):
        return "too_long"
    return "filtered" if any(words in said for words in FILTERED) else "failed"


def _message(raw: bytes) -> str:
    """The message of an error's body: OpenAI's {"error": {"message", "code"}}, or the text itself."""
    try:
        found = json.loads(raw)["error"]
        return " ".join(filter(None, (str(found.get("code") or ""), str(found["message"]))))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
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
