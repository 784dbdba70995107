"""The engine: requests in, responses out, for one model on whatever mesh its parameters lie.

    engine = open_engine(pretrained)
    engine.answer([Score("2 + 2 =", " 4"), Generate("2 + 2 =", max_new_tokens=8)])

Log-likelihoods are those of lm-evaluation-harness: see `tokens` for what is context and what continuation, and
`plan.window` for what is cut. Whatever is not a number is an error that names the request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from jitune import limits, sharding
from jitune.evals.engine import answers, plan, pool, scoring, tokens
from jitune.evals.engine.score import score
from jitune.evals.task import Generate, Generated, LogLikelihood, Prompt, Request, Response, Rolling, Score
from jitune.generation import decode_loop
from jitune.generation.batches import round_up
from jitune.generation.decode_loop import slots_in_front
from jitune.generation.prompts import default_stop_ids
from jitune.generation.sampling import GREEDY, Sampling
from jitune.models.cache import check_kind
from jitune.types import Pretrained, UserError

CONTEXT = 8192  # the most of a model's own context that is used, unless max_length asks for more
OnDone = Callable[[list[tuple[int, Any]]], None]
Name = Callable[[int], str]
COUNTS = ("requests", "unique", "scored_tokens", "input_tokens", "score_slots", "truncated", "shortened",
          "prompt_tokens", "generated_tokens")  # fmt: skip


def open_engine(pretrained: Pretrained, batch_size: int = 8, max_length: int = 0,
                chat_template: str | None = None, kv_cache: str = "", *, longer: str = "") -> Engine:  # fmt: skip
    """The engine of a model.

    Args:
      pretrained: with an adapter, its model is `transform.apply(model)` and its params the pair.
      batch_size: rows of a batch of prompts to answer, rounded up to the mesh's batch shards.
      max_length: tokens of a window, those that are trained in front included; 0: the model's context, at most 8192.
      chat_template: Jinja source in place of the tokenizer's own; `none`: conversations are written plainly.
      kv_cache: what answers are computed with, see `models.cache.KINDS`; scores know no cache.
      longer: the option that would have lifted the limit of the context, which an error about it names.

    Raises:
      UserError: without a tokenizer, for a max_length beyond the context, or where nothing of it is left.
    """
    if pretrained.tokenizer is None:
        raise UserError("evaluation needs a tokenizer, and the model has none; put its files beside its weights")
    context = pretrained.config.max_positions
    if max_length and context and max_length > context:
        limits.check_length(max_length, pretrained.config, f"max_length={max_length}", option=longer)
    taken, length = slots_in_front(pretrained.model), max_length or min(context or CONTEXT, CONTEXT)
    if length - taken < 2:
        raise UserError(f"max_length={length} leaves no room for a text: {taken} positions are trained ones in front")
    check_kind(kv_cache, "kv_cache")
    return Engine(pretrained, batch_size, length - taken, chat_template, kv_cache)


class Engine:
    """See `open_engine`. limit: tokens of a window, without those in front. setup: how windows are scored."""

    def __init__(self, pretrained: Pretrained, batch_size: int, limit: int, chat_template: str | None,
                 kv_cache: str = ""):  # fmt: skip
        self.pretrained, self.limit, self.chat_template = pretrained, limit, chat_template
        self.kv_cache = kv_cache
        mesh = sharding.mesh_of(pretrained.params)
        self.rows = round_up(max(batch_size, 1), sharding.batch_shards(mesh) if mesh else 1)
        self.setup = scoring.prepare(pretrained.model, pretrained.params, limit=limit)
        template = None if chat_template == tokens.PLAIN else chat_template
        self.stop_ids = default_stop_ids(pretrained.tokenizer, pretrained.config, chat_template=template)
        self.counts, self.seconds, self.programs = dict.fromkeys(COUNTS, 0), 0.0, _programs()

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
        self.counts["requests"] += len(requests)
        self.counts["unique"] += len(members)
        found: dict[int, Response] = {}

        def done(responses: list[tuple[Request, Response]]) -> None:
            new = [(i, response) for request, response in responses for i in members[request]]
            found.update(new)
            if on_done and new:
                on_done(new)

        self._score_requests([r for r in members if not isinstance(r, Generate)], done)
        self._generate_requests([r for r in members if isinstance(r, Generate)], done)
        return [found[i] for i in range(len(requests))]

    def score_tokens(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], on_done: OnDone | None = None, *,
                     name: Name | None = None) -> list[tuple[float, bool, int]]:  # fmt: skip
        """(log-likelihood, greedy, truncated) of each (context ids, continuation ids); see LogLikelihood.

        on_done: called with [(index, result), ...] as batches finish. name: of a pair, for errors.
        Raises UserError for an empty context, an empty continuation or one longer than a window, for ids that are not
        the model's, and for what is not finite.
        """
        name = name or (lambda i: f"pair {i + 1} of {len(pairs)}")
        found: dict[int, tuple[float, bool, int]] = {}
        with self._clock():
            windows = [self._window(*pair, name, i) for i, pair in enumerate(pairs)]
            for batch in scoring.score_windows(self.setup, windows, name=name, counts=self.counts):
                results = [(i, (*result, windows[i].truncated)) for i, result in batch]
                found.update(results)
                if on_done and results:
                    on_done(results)
        return [found[i] for i in range(len(pairs))]

    def embed_tokens(self, documents: Sequence[Sequence[int]], *, last: bool = False,
                     name: Name | None = None) -> np.ndarray:  # fmt: skip
        """The mean of the final hidden states of each document's tokens, or the last: float32 [documents, dim].

        documents: token ids; what goes beyond a window is cut off on the right and counted as truncated. Raises
        UserError for a document without a token, for ids that are not the model's, and for what is not finite.
        """
        name = name or (lambda i: f"document {i + 1} of {len(documents)}")
        for i, ids in enumerate(documents):
            if not len(ids):
                raise UserError(f"{name(i)}: has no token")
            self._check_ids(ids, name, i)
        self.counts["truncated"] += sum(len(ids) > self.limit for ids in documents)
        with self._clock():
            kept = [ids[: self.limit] for ids in documents]
            return pool.embed(self.setup, kept, name=name, counts=self.counts, last=last)

    def generate_tokens(self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int | Sequence[int],
                        stop: Sequence[str] | Sequence[Sequence[str]] = (), temperature: float | Sequence[float] = 0.0,
                        samples: Sequence[int] | None = None,
                        sampling: Sampling | Sequence[Sampling] = GREEDY,
                        on_done: OnDone | None = None, name: Name | None = None) -> list[Generated]:  # fmt: skip
        """Answers to prompts of token ids, in their order; equal ones are computed once.

        max_new_tokens, stop (texts), temperature: of all prompts, or a list with one of each. samples: numbers that
        tell samples of one prompt apart, by default how often the prompt was there before. sampling: top_k, top_p,
        min_p and penalties, of all or a list with one of each; equal ones are answered together. A prompt is cut on the
        left to the context less max_new_tokens; where that leaves nothing, the answer has half of the context. on_done,
        name: as in `score_tokens`.
        """
        name = name or (lambda i: f"prompt {i + 1} of {len(prompts)}")
        seen: dict[Any, int] = {}
        jobs: dict[answers.Job, list[int]] = {}
        cuts, found = [], {}
        for i, prompt in enumerate(map(tuple, prompts)):
            new, texts, heat, how = (_each(x, i) for x in (max_new_tokens, stop, temperature, sampling))
            number = samples[i] if samples is not None else seen.get(prompt, 0)
            seen[prompt] = seen.get(prompt, 0) + 1
            job = self._job(prompt, new, texts, heat, number, how, name(i))
            jobs.setdefault(job, []).append(i)
            cuts.append(len(prompt) - len(job.prompt))
        self.counts["truncated"] += sum(cut > 0 for cut in cuts)
        with self._clock():
            for batch in self._run(list(jobs)):
                results = [(i, Generated(g.text, g.finish_reason, len(g.tokens), cuts[i]))
                           for job, g in batch for i in jobs[job]]  # fmt: skip
                found.update(results)
                if on_done:
                    on_done(results)
        return [found[i] for i in range(len(prompts))]

    def _score_requests(self, requests: list[Score | Rolling], done) -> None:
        """Score and Rolling requests; a Rolling is done with the last of its windows."""
        tokenizer = self.pretrained.tokenizer
        pairs = tokens.pairs_of(tokenizer, requests, chat_template=self.chat_template, limit=self.limit)
        owners = [k for k, windows in enumerate(pairs) for _ in windows]
        flat = [pair for windows in pairs for pair in windows]
        parts: dict[int, list] = {}

        def collect(results) -> None:
            ready = []
            for i, result in results:
                parts.setdefault(owners[i], []).append((i, *result))
                if len(parts[owners[i]]) == len(pairs[owners[i]]):
                    ready.append((requests[owners[i]], _sum(sorted(parts.pop(owners[i])), flat)))
            done(ready)

        self.score_tokens(flat, collect, name=lambda i: tokens.name_of(requests[owners[i]]))

    def _generate_requests(self, requests: list[Generate], done) -> None:
        """Generate requests, whatever their options."""
        prompts = tokens.prompts_of(self.pretrained.tokenizer, requests, chat_template=self.chat_template)
        self.generate_tokens(
            prompts, max_new_tokens=[r.max_new_tokens for r in requests], stop=[tuple(r.stop) for r in requests],
            temperature=[r.temperature for r in requests], samples=[r.sample for r in requests],
            on_done=lambda batch: done([(requests[k], answer) for k, answer in batch]),
            name=lambda k: tokens.name_of(requests[k]),
        )  # fmt: skip

    def _window(self, context, continuation, name: Name, i: int) -> plan.Window:
        """The window of a pair. Raises UserError, see `score_tokens`."""
        if not len(context):
            raise UserError(f"{name(i)}: the context has no token; give the prefix token where there is none")
        if not len(continuation):
            raise UserError(f"{name(i)}: the continuation has no token of its own, so there is nothing to score")
        if len(continuation) > self.limit:
            raise UserError(f"{name(i)}: the continuation has {len(continuation)} tokens, and a window {self.limit}; "
                            "shorten it, or score it as a rolling text")  # fmt: skip
        window = plan.window(context, continuation, self.limit)
        self._check_ids(window.inputs, name, i)
        self._check_ids(window.targets, name, i)
        self.counts["truncated"] += window.truncated > 0
        return window

    def _job(self, prompt, new, texts, heat, number, sampling, name: str) -> answers.Job:
        """A job with as much of the prompt as fits."""
        if not prompt:
            raise UserError(f"{name}: the prompt is empty; at least one token is needed")
        if new < 1:
            raise UserError(f"{name}: max_new_tokens={new} must be at least 1")
        if new >= self.limit:
            self.counts["shortened"] += 1
            new = self.limit // 2
        kept = prompt[-(self.limit - new) :]
        self._check_ids(kept, lambda _: name, 0)
        return answers.Job(kept, new, tuple(texts), float(heat), number if heat else 0, name, sampling)

    def _check_ids(self, ids, name: Name, i: int) -> None:
        low, high, size = np.min(ids), np.max(ids), self.pretrained.config.vocab_size
        if not 0 <= low <= high < size:
            raise UserError(f"{name(i)}: token ids {low} to {high} are not all in the model's vocabulary of {size}; "
                            "is this the model's own tokenizer?")  # fmt: skip

    def _run(self, jobs: list[answers.Job]) -> Iterator[list[tuple[answers.Job, Any]]]:
        """Yields (job, its Generation) of one batch after the other."""
        model, params, tokenizer, _ = self.pretrained
        run = answers.answer(model, params, tokenizer, jobs, stop_ids=self.stop_ids, rows=self.rows, limit=self.limit,
                             kv_cache=self.kv_cache)  # fmt: skip
        for batch in run:
            self.counts["prompt_tokens"] += sum(len(jobs[j].prompt) for j, _ in batch)
            self.counts["generated_tokens"] += sum(len(g.tokens) for _, g in batch)
            yield [(jobs[j], g) for j, g in batch]

    @contextmanager
    def _clock(self):
        """Counts the seconds of what is done in it."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began


def _sum(parts: list[tuple[int, float, bool, int]], pairs) -> LogLikelihood:
    """The log-likelihood of (index of the pair, log-likelihood, greedy, truncated) of all windows of a request."""
    count = sum(len(pairs[i][1]) for i, *_ in parts)
    return LogLikelihood(sum(p[1] for p in parts), all(p[2] for p in parts), count, sum(p[3] for p in parts))


def _each(value, i: int):
    """The i-th of a list with one for each; anything else is for all. A tuple, and a list of texts, are one value."""
    if isinstance(value, list) and value and not isinstance(value[0], str):
        return value[i]
    return value


def _programs() -> int:
    """How many programs of the engine have been compiled in this process."""
    return sum(f._cache_size() for f in (score, pool.pool, decode_loop.prefill, decode_loop.decode))
