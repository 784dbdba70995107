"""The engine: requests in, responses out, for one model on whatever mesh its parameters lie.

    engine = open_engine(pretrained)
    engine.answer([Score("2 + 2 =", " 4"), Generate("2 + 2 =", max_new_tokens=8)])

Log-likelihoods are those of lm-evaluation-harness: see `tokens` for what is context and what continuation, and
`plan.window` for what is cut. Whatever is not a number is an error that names the request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import numpy as np

from jitune import sharding
from jitune.evals.engine import answers, plan, tokens
from jitune.evals.engine.score import knows_ends, score
from jitune.evals.task import Generate, Generated, LogLikelihood, Prompt, Request, Response, Rolling, Score
from jitune.generation import decode_loop
from jitune.generation.batches import round_up
from jitune.generation.decode_loop import slots_in_front
from jitune.generation.prompts import default_stop_ids
from jitune.generation.sampling import GREEDY
from jitune.types import Pretrained, UserError

CONTEXT = 8192  # the most of a model's own context that is used, unless max_length asks for more
WIDTHS = (512, 2048)  # of rows to score, before the one of the whole context
OnDone = Callable[[list[tuple[int, Any]]], None]


def open_engine(pretrained: Pretrained, *, batch_size: int = 8, max_length: int = 0,
                chat_template: str | None = None) -> Engine:  # fmt: skip
    """The engine of a model.

    Args:
      pretrained: with an adapter, its model is `transform.apply(model)` and its params the pair.
      batch_size: rows of a batch of prompts to answer, rounded up to the mesh's batch shards.
      max_length: tokens of a window, those that are trained in front included; 0: the model's context, at most 8192.
      chat_template: Jinja source in place of the tokenizer's own; `none`: conversations are written plainly.

    Raises:
      UserError: without a tokenizer, or where nothing of the context is left.
    """
    if pretrained.tokenizer is None:
        raise UserError("evaluation needs a tokenizer, and the model has none; put its files beside its weights")
    context = pretrained.config.max_positions
    if max_length and context and max_length > context:
        raise UserError(f"max_length={max_length} is more than the model's context of {context}")
    taken, length = slots_in_front(pretrained.model), max_length or min(context or CONTEXT, CONTEXT)
    if length - taken < 2:
        raise UserError(f"max_length={length} leaves no room for a text: {taken} positions are trained ones in front")
    return Engine(pretrained, batch_size, length - taken, chat_template)


class Engine:
    """See `open_engine`. limit: tokens of a window, without those in front."""

    def __init__(self, pretrained: Pretrained, batch_size: int, limit: int, chat_template: str | None):
        self.pretrained, self.limit, self.chat_template = pretrained, limit, chat_template
        self.mesh = sharding.mesh_of(pretrained.params)
        self.shards = sharding.batch_shards(self.mesh) if self.mesh else 1
        self.rows = round_up(max(batch_size, 1), self.shards)
        big = jax.default_backend() != "cpu"
        self.budget, self.queries = (16384, 1024) if big else (2048, 256)  # tokens of a batch, logits at once
        self.widths = [w for w in WIDTHS if 2 * w <= limit] + [round_up(limit, 128)]
        template = None if chat_template == tokens.PLAIN else chat_template
        self.stop_ids = default_stop_ids(pretrained.tokenizer, pretrained.config, chat_template=template)
        self.trees = knows_ends(pretrained.model, pretrained.params)
        self.programs = _programs()
        self.counts = dict.fromkeys(("requests", "unique", "scored_tokens", "input_tokens", "score_slots", "truncated",
                                     "shortened", "generated_tokens", "prompt_tokens"), 0)  # fmt: skip
        self.seconds = 0.0

    @property
    def stats(self) -> dict[str, float]:
        """Counts since the engine was opened.

        requests, and those that differ (unique); scored_tokens; input_tokens that were computed for them, and padding,
        the share of all computed slots that held none; truncated prompts; shortened answers, which the context leaves
        less room than was asked for; prompt_tokens and generated_tokens; seconds; compiles, of programs of all engines.
        """
        counts = {k: v for k, v in self.counts.items() if k != "score_slots"}
        slots = self.counts["score_slots"]
        padding = 1 - self.counts["input_tokens"] / slots if slots else 0.0
        return {**counts, "padding": padding, "seconds": self.seconds, "compiles": _programs() - self.programs}

    def render(self, prompt: Prompt) -> str:
        """The text that the model sees of a prompt, without the BOS that the tokenizer may put in front."""
        return tokens.render(self.pretrained.tokenizer, prompt, self.chat_template)

    def answer(self, requests: Sequence[Request], *, on_done: OnDone | None = None) -> list[Response]:
        """Responses in the requests' order; equal requests are computed once.

        on_done: called with [(index, response), ...] as batches finish. Raises UserError, naming the request, for one
        that cannot be answered and for logits that are not finite.
        """
        members: dict[Request, list[int]] = {}
        for i, request in enumerate(requests):
            members.setdefault(request, []).append(i)
        unique = list(members)
        self.counts["requests"] += len(requests)
        self.counts["unique"] += len(unique)
        found: dict[int, Response] = {}

        def done(responses):
            new = [(i, response) for j, response in responses for i in members[unique[j]]]
            found.update(new)
            if on_done and new:
                on_done(new)

        self._score_requests([(j, r) for j, r in enumerate(unique) if not isinstance(r, Generate)], done)
        self._generate_requests([(j, r) for j, r in enumerate(unique) if isinstance(r, Generate)], done)
        return [found[i] for i in range(len(requests))]

    def score_tokens(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, on_done: OnDone | None = None,
                     name: Callable[[int], str] | None = None) -> list[tuple[float, bool, int]]:  # fmt: skip
        """(log-likelihood, greedy, truncated) of each (context ids, continuation ids); see LogLikelihood.

        on_done: called with [(index, result), ...] as batches finish. name: of a pair, for errors.
        Raises UserError for an empty context, an empty continuation or one longer than the context, for ids that are
        not the model's, and for what is not finite.
        """
        name = name or (lambda i: f"pair {i + 1} of {len(pairs)}")
        began = time.perf_counter()
        windows = [self._window(*pair, name, i) for i, pair in enumerate(pairs)]
        found: dict[int, tuple[float, bool, int]] = {}
        for batch in self._score(windows, name):
            found.update(batch)
            if on_done and batch:
                on_done(batch)
        self.seconds += time.perf_counter() - began
        return [found[i] for i in range(len(pairs))]

    def generate_tokens(self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int | Sequence[int],
                        stop: Sequence[str] | Sequence[Sequence[str]] = (), temperature: float | Sequence[float] = 0.0,
                        samples: Sequence[int] | None = None, sampling=GREEDY, on_done: OnDone | None = None,
                        name: Callable[[int], str] | None = None) -> list[Generated]:  # fmt: skip
        """Answers to prompts of token ids, in their order.

        max_new_tokens, stop (texts), temperature: of all prompts, or one of each. samples: numbers that tell samples of
        one prompt apart, by default how often the prompt was there before. sampling: top_k, top_p, min_p and
        repetition_penalty. A prompt is cut on the left to the context less max_new_tokens; where that leaves nothing,
        the answer has half of the context. on_done, name: as in `score_tokens`.
        """
        name = name or (lambda i: f"prompt {i + 1} of {len(prompts)}")
        began = time.perf_counter()
        seen: dict[Any, int] = {}
        jobs, truncated = [], []
        for i, prompt in enumerate(prompts):
            new, texts, heat = (_each(x, i) for x in (max_new_tokens, stop, temperature))
            key = tuple(prompt)
            number = samples[i] if samples is not None else seen.get(key, 0) if heat else 0
            seen[key] = seen.get(key, 0) + 1
            job, cut = self._job(key, new, texts, heat, number, sampling, name(i))
            jobs.append(job)
            truncated.append(cut)
        found: dict[int, Generated] = {}
        for batch in self._generate(jobs, truncated):
            found.update(batch)
            if on_done:
                on_done(batch)
        self.seconds += time.perf_counter() - began
        return [found[i] for i in range(len(prompts))]

    def _window(self, context, continuation, name, i: int) -> plan.Window:
        """The window of a pair. Raises UserError, see `score_tokens`."""
        if not len(context) or not len(continuation):
            which = "continuation" if len(context) else "context"
            raise UserError(f"{name(i)}: the {which} has no token, so there is nothing to "
                            f"{'score' if len(context) else 'score it after'}")  # fmt: skip
        if len(continuation) > self.limit:
            raise UserError(f"{name(i)}: the continuation has {len(continuation)} tokens, and a window {self.limit}; "
                            "shorten it, or score it as a rolling text")  # fmt: skip
        window = plan.window(context, continuation, self.limit)
        self._check_ids(window.inputs, name(i))
        self._check_ids(window.targets, name(i))
        self.counts["truncated"] += window.truncated > 0
        return window

    def _check_ids(self, ids, where: str) -> None:
        size = self.pretrained.config.vocab_size
        if len(ids) and not 0 <= np.min(ids) <= np.max(ids) < size:
            raise UserError(f"{where}: token ids {np.min(ids)} to {np.max(ids)} are not all in the model's vocabulary "
                            f"of {size}; is this the model's own tokenizer?")  # fmt: skip

    def _score(self, windows: list[plan.Window], name) -> Iterator[list[tuple[int, tuple[float, bool, int]]]]:
        """Yields (index, result) of the windows that a batch finishes; one batch is ahead of what is read."""
        units, places = plan.share(windows, self.widths, trees=self.trees)
        members: dict[int, list[int]] = {}
        for i, place in enumerate(places):
            members.setdefault(place.unit, []).append(i)
        waiting = None
        for rows in plan.batches(units, self.widths, self._rows_of):
            running = self._start(rows)
            self.counts["input_tokens"] += int((rows.batch["segment_ids"] > 0).sum())
            self.counts["score_slots"] += rows.batch["tokens"].size
            if waiting:
                yield list(self._read(*waiting, windows, places, members, name))
            waiting = rows, running
        if waiting:
            yield list(self._read(*waiting, windows, places, members, name))

    def _rows_of(self, width: int) -> int:
        return round_up(max(self.budget // width, 1), self.shards)

    def _start(self, rows: plan.Rows):
        """Sends a batch to the devices."""
        model, params = self.pretrained[:2]
        chunk = max(1, self.queries // len(rows.at))
        chunk = 1 << (min(chunk, 128).bit_length() - 1)  # it divides the widths
        batch, at, targets = sharding.put_whole((rows.batch, rows.at, rows.targets), self.mesh)
        with jax.set_mesh(self.mesh) if self.mesh else nullcontext():
            return score(params, batch, at, targets, np.int32(-(-rows.queries // chunk)), model=model, chunk=chunk)

    def _read(self, rows: plan.Rows, running, windows, places, members, name):
        """Results of the windows whose segments a batch holds. Raises UserError for what is not finite."""
        logprobs, greedy = (np.asarray(x).reshape(len(rows.at), -1) for x in jax.device_get(running))
        for unit, row, first in rows.parts:
            for i in members[unit]:
                at = first * plan.TARGETS + places[i].queries
                found = logprobs[row, at].astype(np.float64)
                if not np.isfinite(found).all():
                    bad = int(np.flatnonzero(~np.isfinite(found))[0])
                    raise UserError(f"{name(i)}: the log-likelihood of token {bad + 1} of {len(found)} is "
                                    f"{found[bad]}: broken weights, or a dtype that overflows")  # fmt: skip
                self.counts["scored_tokens"] += len(found)
                yield i, (float(found.sum()), bool(greedy[row, at].all()), windows[i].truncated)

    def _score_requests(self, requests: list[tuple[int, Score | Rolling]], done) -> None:
        """Score and Rolling requests; a Rolling is done with the last of its windows."""
        if not requests:
            return
        began = time.perf_counter()
        pairs = self._pairs(requests)
        owners = [k for k, windows in enumerate(pairs) for _ in windows]
        flat = [pair for windows in pairs for pair in windows]
        parts: dict[int, list] = {}

        def collect(results):
            ready = []
            for i, (logprob, greedy, truncated) in results:
                k = owners[i]
                parts.setdefault(k, []).append((i, logprob, greedy, truncated))
                if len(parts[k]) == len(pairs[k]):
                    ready.append((requests[k][0], self._sum(sorted(parts.pop(k)), flat)))
            done(ready)

        self.seconds += time.perf_counter() - began
        self.score_tokens(flat, on_done=collect, name=lambda i: _name(requests[owners[i]][1]))

    def _sum(self, parts, flat) -> LogLikelihood:
        """One LogLikelihood of a request's windows."""
        count = sum(len(flat[i][1]) for i, *_ in parts)
        truncated = sum(p[3] for p in parts)
        return LogLikelihood(sum(p[1] for p in parts), all(p[2] for p in parts), count, truncated)

    def _pairs(self, requests) -> list[list[tuple[list[int], list[int]]]]:
        """Pairs of token ids of each request."""
        tokenizer = self.pretrained.tokenizer
        triples = [(self.render(r.prompt), r.continuation, tokens.is_plain(r.prompt, self.chat_template))
                   for _, r in requests if isinstance(r, Score)]  # fmt: skip
        scored = iter(tokens.encode_pairs(tokenizer, triples))
        texts = tokens.encode(tokenizer, [r.text for _, r in requests if isinstance(r, Rolling)], plain=False)
        pairs = []
        for _, r in requests:
            if isinstance(r, Score):
                pairs.append([next(scored)])
                continue
            context, ids = tokens.after_nothing(tokenizer, texts[r.text])
            pairs.append(tokens.rolling(ids, context[0], self.limit))
            if not ids:
                raise UserError(f"{_name(r)}: the text has no token to score")
        return pairs

    def _generate_requests(self, requests: list[tuple[int, Generate]], done) -> None:
        """Generate requests, whatever their options."""
        if not requests:
            return
        began = time.perf_counter()
        tokenizer = self.pretrained.tokenizer
        prompts = []
        for plain in (True, False):
            texts = {j: self.render(r.prompt) for j, r in requests
                     if tokens.is_plain(r.prompt, self.chat_template) == plain}
            ids = tokens.encode(tokenizer, texts.values(), plain=plain)
            prompts += [(j, ids[text] or [tokens.prefix_token(tokenizer)]) for j, text in texts.items()]
        prompts = [ids for _, ids in sorted(prompts)]
        asked = [r for _, r in requests]
        self.seconds += time.perf_counter() - began
        self.generate_tokens(
            prompts, max_new_tokens=[r.max_new_tokens for r in asked], stop=[tuple(r.stop) for r in asked],
            temperature=[r.temperature for r in asked], samples=[r.sample for r in asked],
            on_done=lambda batch: done([(requests[k][0], g) for k, g in batch]), name=lambda k: _name(asked[k]),
        )  # fmt: skip

    def _job(self, prompt, new, texts, heat, number, sampling, name) -> tuple[answers.Job, int]:
        """A job, and how many tokens of its prompt were cut off."""
        if not prompt:
            raise UserError(f"{name}: the prompt is empty; at least one token is needed")
        if new < 1:
            raise UserError(f"{name}: max_new_tokens={new} must be at least 1")
        if new >= self.limit:
            self.counts["shortened"] += 1
            new = max(self.limit // 2, 1)
        kept = prompt[-(self.limit - new) :]
        self._check_ids(kept, name)
        cut = len(prompt) - len(kept)
        self.counts["truncated"] += cut > 0
        return answers.Job(kept, new, tuple(texts), heat, number if heat else 0, name, sampling), cut

    def _generate(self, jobs: list[answers.Job], truncated: list[int]) -> Iterator[list[tuple[int, Generated]]]:
        """Yields (index, answer) of a batch's jobs; equal jobs are computed once."""
        members: dict[answers.Job, list[int]] = {}
        for i, job in enumerate(jobs):
            members.setdefault(job, []).append(i)
        unique = list(members)
        model, params, tokenizer, _ = self.pretrained
        run = answers.answer(model, params, tokenizer, unique, stop_ids=self.stop_ids, rows=self.rows, limit=self.limit)
        for batch in run:
            self.counts["prompt_tokens"] += sum(len(unique[j].prompt) for j, _ in batch)
            self.counts["generated_tokens"] += sum(len(g.tokens) for _, g in batch)
            yield [(i, Generated(g.text, g.finish_reason, len(g.tokens), truncated[i]))
                   for j, g in batch for i in members[unique[j]]]  # fmt: skip


def _each(value, i: int):
    """The i-th of a value that there may be for each."""
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], str):
        return value[i]
    return value


def _programs() -> int:
    """How many programs of the engine have been compiled in this process."""
    functions = score, decode_loop.prefill, decode_loop.decode
    return sum(f._cache_size() for f in functions)


def _name(request: Request) -> str:
    """A request in a few words, for errors."""
    if isinstance(request, Rolling):
        return f"Rolling({request.text[:60]!r})"
    prompt = request.prompt if isinstance(request.prompt, str) else request.prompt[-1][1]
    if isinstance(request, Score):
        return f"Score(...{prompt[-40:]!r}, {request.continuation[:40]!r})"
    return f"Generate({prompt[:60]!r})"
