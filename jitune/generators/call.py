"""What is asked of a generator, and what comes back.

    call = Call((("user", "Name a prime."),), max_tokens=16, temperature=0.7, seed=3)
    [reply] = generator.answer([call])      # Reply("7", "stop", 6, 1), or Lost("budget", "...")

A conversation is rendered by the generator's chat template (a local model) or the server (`chat/completions`); a plain
text is continued as it is (a local model without a template, or `completions`). `seed` tells several samples of one
prompt apart: equal calls are one call, paid for once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

from jitune.data.record import CANONICAL, Provenance

# A text that is continued as it is, or a conversation of (role, content).
Prompt = str | tuple[tuple[str, str], ...]
FLOATS = ("temperature", "top_p", "presence_penalty", "frequency_penalty")


@dataclass(frozen=True)
class Call:
    """One question.

    Attributes:
      prompt: a conversation, or a text to continue.
      max_tokens: of the answer, at most.
      temperature: 0 is greedy. top_p: 1 keeps all tokens; top_k: 0 does.
      presence_penalty, frequency_penalty: as OpenAI defines them, of tokens that were generated; 0: none.
      stop: texts that end an answer, which is cut before them.
      seed: the number of the sample; of a greedy call it counts for nothing.
      options: where the likeliest first token is asked for, those that count (see `Reply.choices`); else ().
    """

    prompt: Prompt
    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """An answer.

    finish_reason: "stop" or "length". tokens: as they were counted, or None where they were not. model: who says that
    it answered. choices: first token -> log-probability, where `Call.options` asked for them.
    """

    text: str
    finish_reason: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    model: str = ""
    choices: Mapping[str, float] | None = None


class Lost(NamedTuple):
    """No answer. reason: one word: budget | failed | too_long | filtered. detail: for people to read."""

    reason: str
    detail: str = ""


class Generator(Protocol):
    """Whatever answers calls.

    Attributes:
      identity: who answers, as JSON: `kind` (endpoint | local | replay), `model`, `digest` or `base_url`, and whatever
        else changes answers. Part of every key; it holds no secret.
      raw: whether it continues plain texts.
      account: what was asked and what it took: calls, cached, failed, input_tokens, output_tokens, cost, budget, ...
    """

    identity: Mapping[str, Any]
    raw: bool

    @property
    def account(self) -> dict[str, Any]:
        """Counts since it was opened."""

    def answer(self, calls: Sequence[Call], on_done: Callable[[list[tuple[int, Reply | Lost]]], None] | None = None
               ) -> list[Reply | Lost]:
        """Answers in the calls' order. on_done: told [(index, answer), ...] as they come, cached ones first.

        Raises UserError where no call will ever work (key, model, nothing listens, no raw prompts).
        """

    def estimate(self, calls: Sequence[Call]) -> dict[str, Any]:
        """What `answer` would take at most: calls, answered (kept already), input_tokens, output_tokens, cost."""

    def close(self) -> None:
        """Leaves everything on disk."""


def key(identity: Mapping[str, Any], call: Call) -> str:
    """Under which a reply is kept: sha256 of who is asked, how, and what.

    The seed of a greedy call is left out, and the name of a model that has a digest: a folder that was moved holds the
    same model. Options with their default are left out, so that what is kept outlives new ones.
    """
    asked = {f.name: value for f in fields(Call) if (value := getattr(call, f.name)) != f.default}
    asked |= {name: float(asked[name]) for name in FLOATS if name in asked}
    asked["max_tokens"] = call.max_tokens
    if not call.temperature:
        asked.pop("seed", None)
    who = {name: value for name, value in identity.items() if name != "model" or not identity.get("digest")}
    return hashlib.sha256(CANONICAL([who, asked]).encode()).hexdigest()


def digest(value: Any) -> str:
    """16 hex digits of the SHA-256 of what is JSON."""
    return hashlib.sha256(CANONICAL(value).encode()).hexdigest()[:16]


def break_up(text: str, controls: Sequence[str]) -> str:
    """A text in which no control token stands: a space comes after its first character."""
    for token in controls:
        while token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def prompt_hash(call: Call) -> str:
    """16 hex digits of the SHA-256 of what was asked."""
    return digest(call.prompt)


def provenance(identity: Mapping[str, Any], call: Call, *, method: str, parents: Sequence[str] = (),
               source: str = "", license: str = "") -> Provenance:  # fmt: skip
    """Where a generated record comes from."""
    names = ("max_tokens", "temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "stop")
    plain = Call("")
    sampling = {n: list(v) if isinstance(v := getattr(call, n), tuple) else v for n in names
                if n in names[:2] or getattr(call, n) != getattr(plain, n)}  # fmt: skip
    return Provenance(source=source, method=method, parents=tuple(parents), model=str(identity.get("model", "")),
                      model_digest=str(identity.get("digest", "")), prompt_hash=prompt_hash(call), sampling=sampling,
                      seed=call.seed if call.temperature else None, license=license)  # fmt: skip
