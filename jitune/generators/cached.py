"""A generator over a source of answers: equal calls are asked once, and answers are kept in an append-only file.

    generator = Cached(source, cache="out/answers.jsonl", purse=Purse((2.5, 10.0), budget=5.0))
    generator.answer([Call("Name a prime:")])     # [Reply("7", ...)]; in the next run it is in the file
    generator.account                             # {"calls": 1, "cached": 0, "cost": 0.0001, ...}

A source has `identity`, `raw`, `check(call)`, `ask(calls, purse, keep, tell, proven)` and `shared`, whether all
processes of a run ask the same. Only answers are kept: what failed is asked again by the next run. An answer stands in
the file before anyone is told of it. Beside the answers the file has the identities of who gave them, so that it can
be played back (see `replay`).
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jitune.evals.store import Store, from_first_process
from jitune.generators import call as calls_
from jitune.generators.account import line
from jitune.generators.call import Call, Lost, Reply
from jitune.generators.purse import Purse
from jitune.types import UserError

# One file may hold what several generators said: the keys tell them apart.
HEADER = {"kind": "generations"}
IDENTITY = "identity "  # begins the keys of entries that say who answered
OPTIONAL = ("input_tokens", "output_tokens", "model", "choices")
SAY_EVERY = 10.0  # seconds between two lines of progress
OnDone = Callable[[list[tuple[int, Reply | Lost]]], None] | None


class Cached:
    """See `call.Generator`.

    Args:
      source: who is asked.
      cache: a file; None: answers are kept in memory.
      key: `(call) -> text` of what an answer is kept under, by default `call.key`. header: of the file.
      purse: prices and caps. resume: the file's answers are this run's: what they cost counts against the caps.
      say: told a line of progress every ten seconds.
    """

    def __init__(self, source: Any, *, cache: str | Path | None = None, key: Callable[[Call], str] | None = None,
                 header: Mapping[str, Any] | None = None, purse: Purse | None = None, resume: bool = True,
                 say: Callable[[str], None] | None = None):
        self.source, self.identity, self.raw = source, dict(source.identity), source.raw
        self.key = key or (lambda call: calls_.key(self.identity, call))
        self.purse, self.say, self.said = purse or Purse(), say, time.monotonic()
        self.counts, self.models = dict.fromkeys(("calls", "cached", "failed", "not_asked"), 0), set()
        self.seconds, self.kept, self.held = 0.0, {}, 0
        self.store = None
        if cache and (not source.shared or first_process()):
            self.store = Store(cache, dict(header or HEADER), offsets=True,
                               each=lambda key, value: self._found(key, value, resume))
            if not header and self.store.get(name := IDENTITY + calls_.digest(self.identity)) is None:
                self.store.put(name, self.identity)

    def answer(self, calls: Sequence[Call], on_done: OnDone = None) -> list[Reply | Lost]:
        """See `call.Generator.answer`."""
        for call in calls:
            if isinstance(call.prompt, str) and not self.raw:
                raise UserError(f"generator {self.identity.get('model')}: a chat API puts its template around a plain "
                                "text; continuing one needs api=completion, or a model of your own")
            self.source.check(call)
        began = time.monotonic()
        places: dict[str, list[int]] = {}
        for i, call in enumerate(calls):
            places.setdefault(self.key(call), []).append(i)
        found: list[Reply | Lost | None] = [None] * len(calls)

        def settle(key: str, reply: Reply | Lost) -> None:
            for i in places[key]:
                found[i] = reply
            if on_done:
                on_done([(i, reply) for i in places[key]])

        missing, get = [], self._reader(places)
        for key, where in places.items():
            value = get(key)
            if value is None:
                missing.append(key)
            else:
                self.counts["cached"] += len(where)
                settle(key, revive(value))
        try:
            self._ask([calls[places[key][0]] for key in missing], missing, settle)
        finally:
            self.seconds += time.monotonic() - began
        return found

    def estimate(self, calls: Sequence[Call]) -> dict[str, Any]:
        """Calls that `answer` would make, and at most how many tokens and what cost, if every answer is as long as
        it may be; tokens of prompts are guessed from their bytes."""
        keys = [self.key(call) for call in calls]
        get, unique = self._reader(keys), dict(zip(keys, calls, strict=True))
        known = {key for key in unique if get(key) is not None}
        asked = [call for key, call in unique.items() if key not in known]
        tokens = tuple(sum(self.purse.expected(c)[side] for c in asked) for side in (0, 1))
        return {"calls": len(asked), "answered": sum(key in known for key in keys), "input_tokens": tokens[0],
                "output_tokens": tokens[1], "cost": self.purse.cost(*tokens)}

    @property
    def account(self) -> dict[str, Any]:
        """Who answered, what was asked and what it took since it was opened.

        answered_by: the models that an endpoint names, those of the file's answers too where a run is resumed.
        calls: answers that were computed or paid for; cached: those of the file; failed; not_asked: for the budget;
        retries; input_tokens, output_tokens; uncounted: calls whose tokens the endpoint did not count, so that they are
        estimates; cost: None without prices; earlier_cost: of what was in the file; budget, token_budget; seconds in
        `answer`, and tokens_per_second, of answers.
        """
        shown = {name: self.identity[name] for name in ("kind", "model", "base_url") if name in self.identity}
        purse = self.purse
        return {**shown, "answered_by": sorted(self.models), **self.counts, "retries": purse.retries,
                "input_tokens": purse.input_tokens, "output_tokens": purse.output_tokens, "uncounted": purse.uncounted,
                "cost": purse.spent, "earlier_cost": purse.earlier, "earlier_tokens": purse.earlier_tokens,
                "budget": purse.budget, "token_budget": purse.tokens, "seconds": self.seconds,
                "tokens_per_second": purse.output_tokens / self.seconds if self.seconds else 0.0}

    def close(self) -> None:
        """Leaves the cache on disk."""
        if self.store:
            self.store.close()
            self.store = None

    def _ask(self, calls: list[Call], keys: list[str], settle) -> None:
        """Asks for what is missing; an answer is kept before anyone is told."""
        def keep(n: int, reply: Reply) -> None:
            value = kept(calls[n], reply, self.purse)
            self.store.put(keys[n], value) if self.store else self.kept.__setitem__(keys[n], value)

        done = itertools.count(1)

        def on_reply(n: int, reply: Reply | Lost) -> None:
            number = next(done)
            if isinstance(reply, Reply):
                self.counts["calls"] += 1
                self.models |= {reply.model} - {""}
            else:
                self.counts["not_asked" if reply.reason == "budget" else "failed"] += 1
            settle(keys[n], reply)
            if self.say and time.monotonic() - self.said > SAY_EVERY:
                self.said = time.monotonic()
                self.say(f"{number:,} of {len(keys):,} calls are through; in all {line(self.account)}")

        # What a file holds says nothing of an endpoint now; a model of one's own is the same.
        proven = self.counts["calls"] + (self.counts["cached"] if self.source.shared else 0) > 0
        self.source.ask(calls, self.purse, keep, on_reply, proven)

    def _reader(self, keys) -> Callable[[str], dict | None]:
        """What gives the value that is kept of a key; in every process of a run what the first process has."""
        here = (self.store or self.kept).get
        if self.source.shared and "jax" in sys.modules and sys.modules["jax"].process_count() > 1:
            return from_first_process({key: value for key in keys if (value := here(key)) is not None}).get
        return here

    def _found(self, key: str, value: Any, resume: bool) -> None:
        """Counts an entry of the file; where a run is resumed, as spent, and who answered."""
        if key.startswith(IDENTITY) or not isinstance(value, dict):
            return
        self.held += 1
        if not resume:
            return
        tokens = value.get("guessed") or (value.get("input_tokens") or 0, value.get("output_tokens") or 0)
        self.purse.earlier_tokens += sum(tokens)
        self.models |= {value.get("model", "")} - {""}
        self.purse.earlier += value["cost"] if "cost" in value else self.purse.cost(*tokens) or 0.0


def kept(call: Call, reply: Reply, purse: Purse) -> dict:
    """A reply as JSON, with what it cost where prices are known, and the tokens as guessed where none were counted."""
    value = {k: v for k, v in asdict(reply).items() if k not in OPTIONAL or v not in (None, "")}
    tokens = reply.input_tokens, reply.output_tokens
    if None in tokens:
        guesses = purse.expected(call)
        tokens = tuple(guess if count is None else count for count, guess in zip(tokens, guesses, strict=True))
        value["guessed"] = list(tokens)
    cost = purse.cost(*tokens)
    return value if cost is None else {**value, "cost": cost}


def revive(value: Mapping[str, Any]) -> Reply:
    """A reply from what is kept of it."""
    return Reply(**{k: v for k, v in value.items() if k not in ("cost", "guessed")})


def first_process() -> bool:
    """Whether this process has the file, of several that run one model."""
    import jax

    return jax.process_index() == 0
