"""A judge: questions in, verdicts out, each paid for once.

    judge = open_judge("gpt-x@https://host/v1", cache="out/judge.jsonl", prices=(2.5, 10.0), budget=5.0)
    judge.answer([prompts.single("Name a prime.", "7")])    # [Verdict("Correct. [[9]]")]
    judge.account                                           # {"model": "gpt-x", "calls": 1, "cached": 0, "cost": ...}

Answers are kept in an append-only file by sha256 of who judges, the parameters and the conversation: a rerun, or one
that goes on after it was killed, asks only for what is missing. Failures are not kept. Temperature is 0.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jitune.evals.judge.calls import BUDGET, Question, ask_many
from jitune.evals.judge.endpoint import KEY_ENV, Endpoint, Reply, body_of
from jitune.evals.judge.prompts import first_letter
from jitune.evals.judge.purse import Purse, count_tokens
from jitune.evals.store import Store
from jitune.evals.task import Ask, Verdict
from jitune.types import UserError

# One file may hold what several judges said: the keys tell them apart.
HEADER = {"kind": "judge"}
OnDone = Callable[[list[tuple[int, Verdict]]], None] | None


class Judge:
    """What `open_judge` gives.

    Args:
      identity: who judges, as JSON; part of every key. Its `model` and, where there is one, `base_url` are shown.
      ask: `(questions, purse, on_reply, proven)`; calls `on_reply(index, Reply or reason)` once a question.
      parameters: `(question) -> JSON` of how it is asked, for keys.
      cache: a file; None: nothing is kept.
      partial: with a budget that may not suffice, ask as long as it does; otherwise that is an error.
      max_tokens: of an answer, in place of what the tasks say; 0: what they say.
    """

    def __init__(self, identity: Mapping[str, Any], ask: Callable, parameters: Callable, *, cache=None,
                 purse: Purse | None = None, partial: bool = False, max_tokens: int = 0):
        self.identity, self.ask, self.parameters = dict(identity), ask, parameters
        self.purse, self.partial, self.max_tokens = purse or Purse(), partial, max_tokens
        self.store = Store(cache, HEADER) if cache else None
        self.kept: dict[str, dict] = {}
        self.counts = dict.fromkeys(("asked", "calls", "cached", "failed", "not_asked", "cut_off"), 0)
        self.models: set[str] = set()

    def answer(self, asks: Sequence[Ask], on_done: OnDone = None) -> list[Verdict]:
        """Verdicts in order, their values the judge's texts. Equal questions are asked once.

        on_done: called with [(index, verdict), ...] as they come.

        Raises:
          UserError: the endpoint cannot work (key, model, nothing listens), or the estimate is above the budget.
        """
        questions = [Question(a.messages, self.max_tokens or a.max_new_tokens) for a in asks]
        return self._answer(questions, self._text, on_done)

    def prefer(self, asks: Sequence[Ask], *, options: tuple[str, str] = ("A", "B"), on_done: OnDone = None
               ) -> list[Verdict]:
        """How likely the answer's first token is the first option and not the second, from 0 to 1: AlpacaEval's
        preference (Li et al. 2023). Needs a judge that gives log-probabilities."""

        def read(reply: Reply) -> Verdict:
            share = first_letter(reply.choices or {}, options)
            return Verdict(share) if share is not None else Verdict(None, "judge: neither option is a likely token")

        return self._answer([Question(a.messages, 1, options) for a in asks], read, on_done)

    def estimate(self, asks: Sequence[Ask]) -> dict[str, Any]:
        """Calls that `answer` would make, and at most how many tokens and what cost, if every answer is as long as
        it may be."""
        return self._estimate([Question(a.messages, self.max_tokens or a.max_new_tokens) for a in asks])

    @property
    def account(self) -> dict[str, Any]:
        """Who judged, what was asked for, and what it took, since the judge was opened; cost: None without prices.

        uncounted: calls whose tokens the endpoint did not count, so that they are estimates.
        """
        shown = {name: self.identity[name] for name in ("kind", "model", "base_url") if name in self.identity}
        return {**shown, "answered_by": sorted(self.models), **self.counts,
                "input_tokens": self.purse.input_tokens, "output_tokens": self.purse.output_tokens,
                "uncounted": self.purse.uncounted, "cost": self.purse.spent, "budget": self.purse.budget}

    def close(self) -> None:
        """Leaves the cache on disk."""
        if self.store:
            self.store.close()

    def key(self, question: Question) -> str:
        """Of the cache: sha256 over the judge, the parameters and the messages."""
        what = [self.identity, self.parameters(question), question.messages]
        return hashlib.sha256(json.dumps(what, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def _get(self, key: str) -> Reply | None:
        value = self.store.get(key) if self.store else self.kept.get(key)
        return Reply(**value) if value else None

    def _put(self, key: str, reply: Reply) -> None:
        value = asdict(reply)
        self.store.put(key, value) if self.store else self.kept.__setitem__(key, value)

    def _missing(self, questions: Sequence[Question]) -> dict[str, list[int]]:
        """key -> the places of questions that are not answered yet."""
        places: dict[str, list[int]] = {}
        for i, question in enumerate(questions):
            places.setdefault(self.key(question), []).append(i)
        return {key: where for key, where in places.items() if self._get(key) is None}

    def _estimate(self, questions: Sequence[Question]) -> dict[str, Any]:
        asked = [questions[where[0]] for where in self._missing(questions).values()]
        tokens = sum(count_tokens(q.messages) for q in asked), sum(q.max_tokens for q in asked)
        return {"calls": len(asked), "answered": len(questions) - len(asked), "input_tokens": tokens[0],
                "output_tokens": tokens[1], "cost": self.purse.cost(*tokens)}

    def _check_budget(self, questions: Sequence[Question]) -> None:
        if self.purse.budget is None or self.partial:
            return
        expected, spent = self._estimate(questions), self.purse.spent
        if spent + expected["cost"] > self.purse.budget:
            tokens = f"{expected['input_tokens']:,} tokens in, {expected['output_tokens']:,} out"
            raise UserError(
                f"--judge_budget {self.purse.budget:g}: {expected['calls']} calls may cost up to "
                f"{expected['cost']:.4g} ({tokens}), and {spent:.4g} is spent; nothing was asked. Give more, or "
                "--judge_partial to ask as long as it lasts")

    def _answer(self, questions: list[Question], read: Callable[[Reply], Verdict], on_done: OnDone) -> list[Verdict]:
        self._check_budget(questions)
        missing = self._missing(questions)
        waiting = {i for where in missing.values() for i in where}
        verdicts: list[Verdict | None] = [None] * len(questions)

        def settle(where, verdict):
            for i in where:
                verdicts[i] = verdict
            if on_done and where:
                on_done([(i, verdict) for i in where])

        for i, question in enumerate(questions):
            if i not in waiting:
                settle([i], read(self._get(self.key(question))))
        self.counts["asked"] += len(questions)
        self.counts["cached"] += len(questions) - len(waiting)
        keys = list(missing)

        def on_reply(n, reply):
            if isinstance(reply, Reply):
                self._put(keys[n], reply)
                self.counts["calls"] += 1
                self.models |= {reply.model} - {""}
                verdict = read(reply)
            else:
                self.counts["not_asked" if reply == BUDGET else "failed"] += 1
                verdict = Verdict(None, reply)
            settle(missing[keys[n]], verdict)

        self.ask([questions[missing[k][0]] for k in keys], self.purse, on_reply, self.counts["calls"] > 0)
        return verdicts

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
      local: options of `local.open_local` (batch_size, dtype, ...). calling: timeout, tries, sleep, ... of Endpoint.

    Raises:
      UserError: for what is missing or cannot be.
    """
    model, base_url = split_spec(spec, base_url)
    if not base_url:
        from jitune.evals.judge.local import open_local

        identity, ask, asked_with = open_local(model, **(local or {}))
        return Judge(identity, ask, asked_with, cache=cache, max_tokens=max_tokens)
    endpoint = Endpoint(base_url, model, key_env=key_env, parameters=dict(parameters or {}), concurrency=concurrency,
                        **calling)
    if not model:
        raise UserError("--judge: names no model; MODEL@https://host/v1 is needed")

    def asked_with(question: Question) -> dict:
        body = body_of(endpoint, (), question.max_tokens, bool(question.options))
        return {name: value for name, value in body.items() if name not in ("model", "messages")}

    def ask(questions, purse, on_reply, proven):
        for index, reply in ask_many(endpoint, questions, purse, proven=proven):
            on_reply(index, reply)

    lengths = [n for n in map((parameters or {}).get, ("max_tokens", "max_completion_tokens")) if isinstance(n, int)]
    identity = {"kind": "endpoint", "model": model, "base_url": endpoint.shown}
    return Judge(identity, ask, asked_with, cache=cache, purse=Purse(prices, budget), partial=partial,
                 max_tokens=lengths[0] if lengths else max_tokens)


def split_spec(spec: str, base_url: str = "") -> tuple[str, str]:
    """(model, base URL) of `MODEL@https://host/v1`; of a directory's or a model's name (name, base_url)."""
    model, at, url = spec.partition("@")
    if at and url.startswith(("http://", "https://")):
        if base_url:
            raise UserError(f"--judge {spec.partition('?')[0]}: names its endpoint; --judge_base_url must not be given")
        return model, url
    if at and "://" in url:
        raise UserError("--judge: MODEL@http://HOST/v1 or MODEL@https://HOST/v1 is needed")
    return spec, base_url
