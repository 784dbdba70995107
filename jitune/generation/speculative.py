"""Speculative decoding: a small draft model proposes tokens, and the target's answers come faster, otherwise the same.

    answers, told = generate_speculative(target, draft, prompts, max_new_tokens=64, draft_tokens=4)
    told.acceptance, told.tokens_per_forward      # 0.71, 3.2
    for piece in stream_speculative(target, draft, [1, 5, 9], max_new_tokens=64): print(piece, end="")

Greedy answers are the target's own, token by token; samples are drawn from the target's distribution, with the
sampling's penalties, temperature and filters (Leviathan et al., arXiv 2211.17192; Chen et al., 2302.01318). Log-
probabilities are those of the target. Both models must have the same vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from jitune import sharding
from jitune.generation import decode_loop, speculative_loop
from jitune.generation.batches import (
    Answer,
    Generation,
    bucket,
    first_capacity,
    pad,
    pad_stops,
    pieces,
    sort_stops,
    turned,
)
from jitune.generation.decode_loop import Prompts, slots_in_front, turning
from jitune.generation.generate import check_options
from jitune.generation.prompts import check_prompt
from jitune.generation.sampling import GREEDY, Sampling
from jitune.generation.several import answer_batches
from jitune.generation.speculative_loop import Setup
from jitune.hub.vocabulary import check_vocabulary
from jitune.models.cache import check_kind
from jitune.types import Pretrained, UserError

MOST_DRAFT_TOKENS = 31
WASTE = 128  # empty slots between tokens before they are moved together


class Speculation(NamedTuple):
    """How it went. rounds: forwards of the target over one row each; drafted, accepted: proposals; tokens: generated
    in these rounds, without the first of each answer, which the prompt's forward gives."""

    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    tokens: int = 0

    @property
    def acceptance(self) -> float:
        """The share of proposals that were accepted, of all that were made."""
        return self.accepted / max(self.drafted, 1)

    @property
    def tokens_per_forward(self) -> float:
        """Tokens that a forward of the target gave a row; 1 without a draft."""
        return self.tokens / max(self.rounds, 1)

    def __add__(self, other: Speculation) -> Speculation:
        return Speculation(*(a + b for a, b in zip(self, other, strict=True)))


def generate_speculative(
    target: Pretrained,
    draft: Pretrained,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    draft_tokens: int = 4,
    n: int = 1,
    sampling: Sampling = GREEDY,
    stop_ids: Sequence[int] = (),
    stop_strings: Sequence[str] = (),
    batch_size: int = 8,
    max_positions: int | None = None,
    row_ids: Sequence[int] | None = None,
    top_logprobs: int = 0,
    kv_cache: str = "",
    on_done: Callable[[int], None] | None = None,
) -> tuple[list[list[Generation]], Speculation]:
    """n answers to every prompt, in their order, and how many proposals were accepted.

    draft_tokens: proposals of a round. max_positions: the target's context by default. The others: see
    `generate.generate` and `several.generate_several`. Both models lie on one mesh, or on none.

    Raises:
      UserError: vocabularies that differ, a draft with too small a context, draft_tokens out of range, and what
        `generate` raises.
    """
    limit = target.config.max_positions if max_positions is None else max_positions
    setup = _setup(target, draft, draft_tokens, sampling, top_logprobs)
    check_options(target.tokenizer, max_new_tokens, stop_strings, top_logprobs)
    check_kind(kv_cache, "generate: kv_cache")
    taken = _check_context(target, draft, prompts, max_new_tokens, limit)
    mesh, turn, told = sharding.mesh_of(target.params), turning(target.model), Speculation()

    def tell(more: Speculation) -> None:
        nonlocal told
        told += more

    def start(batch: Prompts, stop_ids):
        def run(batch):
            return _blocks(target, draft, mesh, batch, max_new_tokens, sampling.seed, stop_ids, setup, tell, kv_cache)

        return turned(run, batch, turn, stop_ids)

    answers = answer_batches(
        start, target.tokenizer, prompts, n=n, max_new_tokens=max_new_tokens, stop_ids=stop_ids,
        stop_strings=stop_strings, batch_size=batch_size, shards=sharding.batch_shards(mesh) if mesh else 1,
        max_positions=limit, taken=taken, row_ids=row_ids, copied=not turn, on_done=on_done,
    )  # fmt: skip
    return answers, told


def stream_speculative(
    target: Pretrained,
    draft: Pretrained,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    draft_tokens: int = 4,
    sampling: Sampling = GREEDY,
    stop_ids: Sequence[int] = (),
    stop_strings: Sequence[str] = (),
    max_positions: int | None = None,
    kv_cache: str = "",
    tell: Callable[[Speculation], None] = lambda told: None,
) -> Iterator[str]:
    """Yields the text of one answer as it grows, as `generate.stream` does; every round is a block.

    tell: gets the figures of each block. The generator's return value is the Generation.
    """
    limit = target.config.max_positions if max_positions is None else max_positions
    setup = _setup(target, draft, draft_tokens, sampling, 0)
    check_options(target.tokenizer, max_new_tokens, stop_strings)
    check_kind(kv_cache, "generate: kv_cache")
    taken = _check_context(target, draft, [prompt], max_new_tokens, limit)
    check_prompt(prompt, "prompt", max_positions=limit, taken=taken)
    stop_ids, stop_strings = sort_stops(target.tokenizer, stop_ids, stop_strings)
    mesh = sharding.mesh_of(target.params)
    rows = sharding.batch_shards(mesh) if mesh else 1
    batch = pad([prompt], [0], rows, max_new_tokens, limit and limit - taken)
    answer = Answer(target.tokenizer, prompt, stop_ids, stop_strings)

    def run(batch):
        rest = sampling.seed, stop_ids, setup, tell, kv_cache, 1
        return _blocks(target, draft, mesh, batch, max_new_tokens, *rest)

    return (yield from pieces(turned(run, batch, turning(target.model), stop_ids), answer, rows))


class Drafted(NamedTuple):
    """A draft with what `generate` and `stream` of `generation.generate` take: `Drafted(draft, config).generate(...)`.

    config: the targets'. tell: gets the Speculation of each call, or of each block of a stream.
    """

    draft: Pretrained
    config: Any
    draft_tokens: int = 4
    tell: Callable[[Speculation], None] = lambda told: None

    def generate(self, model, params, tokenizer, prompts, *, n: int | None = None, **options) -> list:
        """A Generation for every prompt; with n a list of them."""
        target = Pretrained(model, params, tokenizer, self.config)
        options["draft_tokens"] = self.draft_tokens
        answers, told = generate_speculative(target, self.draft, prompts, n=1 if n is None else n, **options)
        self.tell(told)
        return [several[0] for several in answers] if n is None else answers

    def stream(self, model, params, tokenizer, prompt, **options) -> Iterator[str]:
        """The text of one answer as it grows."""
        target = Pretrained(model, params, tokenizer, self.config)
        options |= {"draft_tokens": self.draft_tokens, "tell": self.tell}
        return stream_speculative(target, self.draft, prompt, **options)


def check_draft(target: Pretrained, draft: Pretrained, *, names: tuple[str, str] = ("target", "draft")) -> None:
    """Raises UserError, one line with both names, where the draft cannot propose tokens to the target."""
    what = f"speculative decoding with draft {names[1]} for {names[0]}"
    if target.tokenizer is None or draft.tokenizer is None:
        sizes = [p.config.vocab_size for p in (target, draft)]
        if sizes[0] != sizes[1]:
            raise UserError(f"{what}: both need the same vocabulary; the target has {sizes[0]} tokens, "
                            f"the draft {sizes[1]}")  # fmt: skip
    else:
        check_vocabulary(target.tokenizer, draft.tokenizer, target.config, draft.config, what=what,
                         names=("target", "draft"))  # fmt: skip
    if sharding.mesh_of(target.params) != sharding.mesh_of(draft.params):
        raise UserError(f"{what}: both must lie on the same mesh; load them with the same one")


def _setup(target, draft, draft_tokens, sampling, top) -> Setup:
    if not 1 <= draft_tokens <= MOST_DRAFT_TOKENS:
        raise UserError(f"speculative decoding: draft_tokens={draft_tokens} is not allowed; it is from 1 to "
                        f"{MOST_DRAFT_TOKENS}")  # fmt: skip
    check_draft(target, draft)
    windows = any(any(p.config.windows) for p in (target, draft))
    # A seed is no reason to compile anew.
    sampling = replace(sampling, seed=0)
    return Setup(target.model, draft.model, sampling, target.config.vocab_size, draft_tokens, windows, top)


def _check_context(target: Pretrained, draft: Pretrained, prompts, max_new_tokens: int, limit: int) -> int:
    """The draft must be able to read all that the target may write. Returns what is in front of the target's tokens."""
    taken, others = (slots_in_front(p.model) for p in (target, draft))
    longest = max(map(len, prompts), default=0) + max_new_tokens
    needed = min(longest, limit - taken) if limit else longest
    most = draft.config.max_positions - others
    if draft.config.max_positions and needed > most:
        raise UserError(f"speculative decoding: the draft's context of {most} tokens is too small for a prompt with "
                        f"its answer of {needed}; lower max_new_tokens to {max(most - longest + max_new_tokens, 0)}, "
                        "or take another draft")  # fmt: skip
    return taken


def _blocks(target, draft, mesh, batch: Prompts, max_new_tokens, seed, stop_ids, setup: Setup, tell, kv_cache="",
            rounds=None):  # fmt: skip
    """As `batches.blocks`, of two models. rounds: of a block; tell: gets the Speculation of each block."""
    ids, width = pad_stops(stop_ids), batch.tokens.shape[1]
    rounds = min(rounds or setup.rounds, setup.rounds)
    need = rounds * (setup.k + 1)  # slots that a block may take
    most = bucket(width + max_new_tokens + need)
    capacity = first_capacity(target.model, batch.left.shape[0], width, most, kv_cache)
    context = (lambda: jax.set_mesh(mesh)) if mesh else nullcontext
    with context():
        batch, seed = sharding.put_whole(batch, mesh), np.uint32(seed)
        shared = {"capacity": capacity, "kv_cache": kv_cache}
        params, draft_params, rows = target.params, draft.params, batch.left.shape[0]
        if max_new_tokens > 1:
            params = decode_loop.prepare(params, model=target.model, rows=rows, tokens=setup.k + 1, **shared)
            draft_params = decode_loop.prepare(draft_params, model=draft.model, rows=rows, **shared)
        options = {"model": target.model, "sampling": setup.sampling, "top": setup.top, **shared}
        state, block = decode_loop.prefill(params, batch, seed, ids, **options)
        options = {"model": draft.model, "sampling": GREEDY, **shared}  # what the draft draws here is not used
        other, _ = decode_loop.prefill(draft_params, batch, seed, ids, **options)
        pair = speculative_loop.join(state, other, batch)
    used = extent = width
    while True:
        stopped = yield jax.device_get(block)
        with context():
            if used + need > capacity:
                if used - extent >= WASTE or used + need > most:
                    pair, used = speculative_loop.pack(pair, np.int32(extent)), extent
                while used + need > capacity:
                    more = min(bucket(capacity + 1), most) - capacity
                    pair, capacity = _grow(pair, more), capacity + more
            stopped = sharding.put_whole(stopped, mesh)
            pair, block, told = speculative_loop.decode(
                params, draft_params, pair, ids, stopped, np.int32(rounds), setup=setup
            )
            told = jax.device_get(told)
        used, extent = int(told.used), int(told.extent)
        counts = int(told.rounds.sum()), int(told.accepted.sum()), int(np.asarray(block.counts).sum())
        tell(Speculation(counts[0], counts[0] * setup.k, counts[1], counts[2]))


def _grow(pair, more: int):
    state = pair.state._replace(cache=decode_loop.grow(pair.state.cache, more))
    return pair._replace(state=state, draft=decode_loop.grow(pair.draft, more))
