"""A judge: questions in, verdicts out, each paid for once.

    judge = open_judge("gpt-x@https://host/v1", cache="out/judge.jsonl", prices=(2.5, 10.0), budget=5.0)
    judge.answer([prompts.single("Name a prime.", "7")])    # [Verdict("Correct. [[9]]")]
    judge.account                                           # {"model": "gpt-x", "calls": 1, "cached": 0, "cost": ...}

A judge asks a generator (see `generators.cached`). Answers are kept in an append-only file by sha256 of who judges,
the parameters and the conversation: a rerun, or one that goes on after it was killed, asks only for what is missing.
Failures are not kept. Temperature is 0.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jitune.evals.judge.prompts import first_letter
from jitune.evals.task import Ask, Verdict
from jitune.generators.cached import Cached
from jitune.generators.call import Call, Lost, Reply
from jitune.generators.endpoint import KEY_ENV, Endpoint
from jitune.generators.open import longest, split_spec
from jitune.generators.purse import Purse
from jitune.types import UserError

# One file may hold what several judges said: the keys tell them apart.
HEADER = {"kind": "judge"}
OnDone = Callable[[list[tuple[int, Verdict]]], None] | None


class Judge:
    """What `open_judge` gives.

    Args:
      source: who is asked, as `generators.cached` takes one. Its `model` and, where there is one, `base_url` are shown.
      parameters: `(call) -> JSON` of how it is asked, for keys.
      cache: a file; None: nothing is kept.
      partial: with a budget that may not suffice, ask as long as it does; otherwise that is an error.
      max_tokens: of an answer, in place of what the tasks say; 0: what they say.
    """

    def __init__(self, source: Any, parameters: Callable[[Call], Mapping[str, Any]], *, cache=None,
                 purse: Purse | None = None, partial: bool = False, max_tokens: int = 0):
        self.identity = {k: v for k, v in source.identity.items() if k != "parameters"}  # keys have them by the call
        self.parameters, self.partial, self.max_tokens = parameters, partial, max_tokens
        self.generator = Cached(source, cache=cache, key=self.key, header=HEADER, purse=purse, resume=False)
        self.counts = {"asked": 0, "cut_off": 0}

    def answer(self, asks: Sequence[Ask], on_done: OnDone = None) -> list[Verdict]:
        """Verdicts in order, their values the judge's texts. Equal questions are asked once.

        on_done: called with [(index, verdict), ...] as they come.

        Raises:
          UserError: the endpoint cannot work (key, model, nothing listens), or the estimate is above the budget.
        """
        return self._answer(self._calls(asks), self._text, on_done)

    def prefer(self, asks: Sequence[Ask], *, options: tuple[str, str] = ("A", "B"), on_done: OnDone = None
               ) -> list[Verdict]:
        """How likely the answer's first token is the first option and not the second, from 0 to 1: AlpacaEval's
        preference (Li et al. 2023). Needs a judge that gives log-probabilities."""

        def read(reply: Reply) -> Verdict:
            share = first_letter(reply.choices or {}, options)
            return Verdict(share) if share is not None else Verdict(None, "judge: neither option is a likely token")

        return self._answer([Call(a.messages, 1, options=options) for a in asks], read, on_done)

    def estimate(self, asks: Sequence[Ask]) -> dict[str, Any]:
        """Calls that `answer` would make, and at most how many tokens and what cost, if every answer is as long as
        it may be."""
        return self.generator.estimate(self._calls(asks))

    @property
    def account(self) -> dict[str, Any]:
        """Who judged, what was asked for, and what it took, since the judge was opened; cost: None without prices.

        uncounted: calls whose tokens the endpoint did not count, so that they are estimates.
        """
        found = self.generator.account
        names = ("kind", "model", "base_url", "answered_by", "asked", "calls", "cached", "failed", "not_asked",
                 "cut_off", "retries", "input_tokens", "output_tokens", "uncounted", "cost", "budget")
        return {name: value for name in names if (value := {**found, **self.counts}.get(name, self)) is not self}

    @property
    def store(self) -> Any:
        """The file of answers, or None."""
        return self.generator.store

    def close(self) -> None:
        """Leaves the cache on disk."""
        self.generator.close()

    def key(self, call: Call) -> str:
        """Of the cache: sha256 over the judge, the parameters and the messages."""
        what = [self.identity, self.parameters(call), call.prompt]
        return hashlib.sha256(json.dumps(what, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def _calls(self, asks: Sequence[Ask]) -> list[Call]:
        return [Call(a.messages, self.max_tokens or a.max_new_tokens) for a in asks]

    def _check_budget(self, calls: Sequence[Call]) -> None:
        purse = self.generator.purse
        if purse.budget is None or self.partial:
            return
        expected, spent = self.generator.estimate(calls), purse.spent
        if spent + expected["cost"] > purse.budget:
            tokens = f"{expected['input_tokens']:,} tokens in, {expected['output_tokens']:,} out"
            raise UserError(
                f"--judge_budget {purse.budget:g}: {expected['calls']} calls may cost up to "
                f"{expected['cost']:.4g} ({tokens}), and {spent:.4g} is spent; nothing was asked. Give more, or "
                "--judge_partial to ask as long as it lasts")

    def _answer(self, calls: list[Call], read: Callable[[Reply], Verdict], on_done: OnDone) -> list[Verdict]:
        self._check_budget(calls)
        verdicts: list[Verdict | None] = [None] * len(calls)
        self.counts["asked"] += len(calls)

        def settle(done: list[tuple[int, Reply | Lost]]) -> None:
            reply = done[0][1]  # equal questions come together
            verdict = read(reply) if isinstance(reply, Reply) else Verdict(None, self._failure(reply))
            for i, _ in done:
                verdicts[i] = verdict
            if on_done:
                on_done([(i, verdict) for i, _ in done])

        self.generator.answer(calls, settle)
        return verdicts

    def _failure(self, lost: Lost) -> str:
        if lost.reason == "budget":
            return "budget"
        if self.identity.get("kind") == "endpoint":
            return f"endpoint: {lost.detail}"
        if lost.reason == "too_long":
            return f"judge: the question does not fit its context ({lost.detail})"
        return f"judge: {lost.detail}"

    def _text(self, reply: Reply) -> Verdict:
        """Of an answer that was cut off the last verdict may not be what it was coming to."""
        if reply.finish_reason == "length":
            self.counts["cut_off"] += 1
            return Verdict(None, f"judge: the answer was cut off at {reply.output_tokens or '?'} tokens")
        return Verdict(reply.text)


def open_judge(spec: str, *, base_url: str = "", key_env: str = KEY_ENV, cache: str | Path | None = None,
               prices: tuple[float, float] | None = None, budget: float | None = None, partial: bool = False,
               max_tokens: int = 0, parameters: Mapping[str, Any] | None = None, concurrency: int = 8,
               local: Mapping[str, Any] | None = None, **calling) -> Judge:
    """The judge that a spec names.

    Args:
      spec: `MODEL@https://host/v1`; a model's name with base_url; or the directory of a model or an adapter.
      prices: for a million tokens of input and of output, in the currency of the budget.
      parameters: added to every request of an endpoint; None takes one out.
      local: options of `generators.local.open_local` (batch_size, dtype, ...). calling: timeout, tries, sleep, ... of
        Endpoint.

    Raises:
      UserError: for what is missing or cannot be.
    """
    model, base_url = split_spec(spec, base_url, what="--judge", other="--judge_base_url")
    if not base_url:
        from jitune.generators.local import open_local

        source = open_local(model, what="--judge", **(local or {}))
        return Judge(source, lambda call: {"max_tokens": call.max_tokens, "options": call.options}, cache=cache,
                     max_tokens=max_tokens)
    from jitune.generators import wire
    from jitune.generators.calls import Remote

    if budget is not None and prices is None:
        raise UserError("--judge_budget: needs the prices, as in --judge_prices 2.5,10 (for a million tokens of "
                        "input, of output)")
    parameters = dict(parameters or {})
    # An answer without a text is no verdict.
    endpoint = Endpoint(base_url, model, key_env=key_env, parameters=parameters, concurrency=concurrency, empty=False,
                        **calling)
    if not model:
        raise UserError("--judge: names no model; MODEL@https://host/v1 is needed")
    remote = Remote(endpoint, say=lambda text: print(text, file=sys.stderr))
    return Judge(remote, lambda call: wire.options_of(endpoint, call), cache=cache,
                 purse=Purse(prices, budget), partial=partial, max_tokens=longest(parameters) or max_tokens)
