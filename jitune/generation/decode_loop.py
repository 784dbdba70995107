"""The decode loop on the device: prompts into a KV cache, then one token after another, in blocks.

    params = prepare(params, model=model, rows=8, capacity=128)
    state, block = prefill(params, prompts, seed, stop_ids, model=model, sampling=sampling, capacity=128)
    state = state._replace(cache=grow(state.cache, 128))
    state, block = decode(params, state, stop_ids, stopped, limit, model=model, sampling=sampling)

The first may be left out. The others are compiled once for a `Model` object, a shape of prompts or cache, and a
`Sampling`. A model is used through its functions only; params are whatever they take.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jitune import hoist, host_memory
from jitune.generation.sampling import Sampling, choose, choose_each, counts_tokens, process, row_keys
from jitune.models import cache as caches
from jitune.types import BATCH_AXES, KVCache, Model, Unfilled

CHUNK = 512  # prompt tokens that go through the model at once; it bounds the attention scores in memory
BLOCK = 32  # the most tokens of one call of `decode`


class Prompts(NamedTuple):
    """A batch of prompts. tokens: [batch, width], left-padded; lengths, row_ids, left: [batch], int32.

    width is at most the chunk or a multiple of it. row_ids seed the rows. left: how many tokens a row may
    generate; 0 for rows that only fill up the batch. temperatures: float32 [batch], in place of the Sampling's, whose
    other options hold for the rows that are not greedy (0); None: all rows have the Sampling's. controls: a
    `sampling.Controls`, in place of the Sampling, the seed and the temperatures; or None.

    answered: int32 [batch], how many of the last tokens are of the answer, where a row goes on; None: of none.

    Several answers to a prompt: row_ids, left and temperatures are [batch * copies], the copies of a prompt together.
    Prompts are computed once then, and their cache repeated.
    """

    tokens: Any
    lengths: Any
    row_ids: Any
    left: Any
    temperatures: Any = None
    controls: Any = None
    answered: Any = None


class State(NamedTuple):
    """Between two steps. key is the run's; the others, but for the cache, are [batch].

    token: chosen last, not in the cache yet; position: its place in its row; left: tokens still to generate,
    0 where the row is finished; seen: bool [batch, vocab], or None without a repetition penalty; temperatures and
    controls: as in Prompts; counts: int32 [batch, vocab], tokens of the answer, or None without a presence or
    frequency penalty.
    """

    cache: Any
    token: Any
    position: Any
    left: Any
    row_ids: Any
    key: Any
    seen: Any
    temperatures: Any = None
    counts: Any = None
    controls: Any = None


class Block(NamedTuple):
    """New tokens and logprobs: [batch, n]; counts: [batch], how many of them a row has; left: as in State.

    top: (ids, logprobs), [batch, n, k], the likeliest tokens at each place; None where they are not asked for.
    """

    tokens: Any
    logprobs: Any
    counts: Any
    left: Any
    top: Any = None


@lru_cache(maxsize=16)
def slots_in_front(model: Model | None) -> int:
    """How many positions of its context a model takes itself, for a prefix or a prompt in front; 0 without a model."""
    if model is None:
        return 0
    cache = jax.eval_shape(lambda: model.init_cache(1, 1))
    return cache.cache.segment_ids.shape[1] - 1 if isinstance(cache, Unfilled) else 0


@lru_cache(maxsize=16)
def turning(model: Model | None) -> int:
    """A row of so many tokens, prompt and answer, goes through the model anew before more come; 0: none ever does.

    For models whose keys depend on the whole length of a document (longrope): up to the original length they are those
    of short documents, and a row that crosses it is put in again, as a longer prompt. So do transformers' Phi-3 models.
    """
    if model is None:
        return 0
    cache = jax.eval_shape(lambda: model.init_cache(1, 1))
    cache = cache.cache if isinstance(cache, Unfilled) else cache
    turn = cache.turn if isinstance(cache, KVCache) else 0
    return max(turn + 1 - slots_in_front(model), 0) if turn else 0


@partial(jax.jit, static_argnames=("model", "sampling", "capacity", "chunk", "top", "kv_cache"))
def prefill(params, prompts: Prompts, seed, stop_ids, first=None, *, model: Model, sampling: Sampling, capacity: int,
            chunk: int = CHUNK, top: int = 0, kv_cache: str = ""):  # fmt: skip
    """Fills a new cache of `capacity` slots with the prompts and draws every row's first token.

    seed: uint32. stop_ids: int32 [n]; a row ends with any of them. chunk: prompt tokens that go through the model at
    once. first: int32, the chunk to begin with, where those before it are padding in all rows; None: all are computed.
    top: alternatives that are told of each token. kv_cache: what keys and values are kept in, see `models.cache.KINDS`.
    Returns (State, Block of one token).
    """
    rows, width = prompts.tokens.shape
    chunk = min(width, chunk)
    positions = jnp.arange(width) - (width - prompts.lengths[:, None])
    batch = {
        "tokens": prompts.tokens,
        "segment_ids": (positions >= 0).astype(jnp.int32),
        "positions": jnp.maximum(positions, 0),
    }
    if turning(model):
        batch["lengths"] = jnp.broadcast_to(prompts.lengths[:, None], positions.shape)

    def advance(i, carry):
        part = {k: jax.lax.dynamic_slice_in_dim(v, i * chunk, chunk, axis=1) for k, v in batch.items()}
        hidden, cache = hoist.call(model.hidden, params, part, carry[1])
        return hidden[:, -1], pin(cache)

    first, kind = 0 if first is None else first, (kv_cache,) if kv_cache else ()
    cache = pin(model.init_cache(rows, capacity, *kind))
    if width == chunk or isinstance(cache, Unfilled):  # which becomes another kind of cache in the first call
        last, cache = advance(first, (None, cache))
        first += 1
    else:
        last = jax.eval_shape(lambda: advance(0, (None, cache))[0])
        last = jnp.zeros(last.shape, last.dtype)
    if width > chunk:  # the model stands in the program once, where it can
        last, cache = jax.lax.fori_loop(first, width // chunk, advance, (last, cache))
    logits = hoist.call(model.unembed, params, last)
    seen = None
    if sampling.repetition_penalty != 1 or prompts.controls is not None:
        seen = jnp.zeros(logits.shape, bool).at[jnp.arange(rows)[:, None], prompts.tokens].max(positions >= 0)
    token, position = prompts.tokens[:, -1], prompts.lengths - 1
    copies = prompts.row_ids.shape[0] // rows
    if copies > 1:
        cache = pin(repeat_rows(cache, copies))
        logits, seen, token, position = (
            None if x is None else jnp.repeat(x, copies, axis=0) for x in (logits, seen, token, position)
        )
    row_state = (token, position, prompts.left, prompts.row_ids)
    counted = counts_tokens(sampling) or prompts.controls is not None
    generated = jnp.zeros(logits.shape, jnp.int32) if counted else None
    if counted and prompts.answered is not None:
        mine = (positions >= prompts.lengths[:, None] - prompts.answered[:, None]) & (positions >= 0)
        generated = generated.at[jnp.arange(rows)[:, None], prompts.tokens].add(mine.astype(jnp.int32))
    state = State(cache, *row_state, jax.random.key(seed), seen, prompts.temperatures, generated, prompts.controls)
    counts = (state.left > 0).astype(jnp.int32)
    state, logprobs = _draw(logits, state, stop_ids, sampling)
    best = likeliest(logits[:, None], top, state.controls)
    return state, replicate(Block(state.token[:, None], logprobs[:, None], counts, state.left, best))


def advance(model: Model, params, batch, cache):
    """(logits [batch, vocab] of the last tokens of a batch, the cache with all of them)."""
    hidden, cache = model.hidden(params, batch, cache)
    return model.unembed(params, hidden[:, -1]), cache


def prepare(params, *, model: Model, rows: int, capacity: int, kv_cache: str = "", tokens: int = 1) -> Any:
    """Parameters for many calls of `prefill` and `decode`, with states of any size.

    On a CPU the layers are cut out of their stacks, which takes as much memory again, but for experts; and where one
    row has one token, matrices are laid for that. Elsewhere a cut costs nothing, and where memory is short these are
    the parameters as they are. So they are in a run of several processes, which must not decide differently.

    rows, tokens: how many most calls have, and of each row; capacity, kv_cache: as for `prefill`.
    """
    if jax.default_backend() != "cpu" or jax.process_count() > 1:
        return params
    cut = partial(_cut, model=model, rows=rows, capacity=capacity, kv_cache=kv_cache, tokens=tokens)
    copies = jax.tree.leaves(jax.eval_shape(cut, params).pieces)
    if 2 * sum(x.size * x.dtype.itemsize for x in copies) > host_memory.available():
        return params
    return cut(params).beside(params)


@partial(jax.jit, static_argnames=("model", "rows", "capacity", "kv_cache", "tokens"))
def _cut(params, *, model: Model, rows: int, capacity: int, kv_cache: str, tokens: int):
    batch = dict.fromkeys(("tokens", "segment_ids", "positions"), jnp.ones((rows, tokens), jnp.int32))
    cache = jax.eval_shape(lambda: model.init_cache(rows, capacity, *([kv_cache] if kv_cache else [])))
    kinds = [cache]
    if isinstance(cache, Unfilled):  # its first call reads what no other does
        kinds.append(jax.eval_shape(model.hidden, params, batch, cache)[1])

    def calls(params, batch, *kinds):
        return [advance(model, params, batch, cache) for cache in kinds]

    return hoist.move(calls, params, batch, *kinds)


def _next(state: State) -> dict[str, Any]:
    """The batch of the tokens that were chosen last."""
    tokens = state.token[:, None]
    return {"tokens": tokens, "segment_ids": jnp.ones_like(tokens), "positions": state.position[:, None]}


@partial(jax.jit, static_argnames=("model", "sampling", "top"), donate_argnames="state")
def decode(params, state: State, stop_ids, stopped, limit, *, model: Model, sampling: Sampling, top: int = 0):
    """Appends up to `limit` (at most BLOCK) tokens to every row that is neither finished nor `stopped`.

    params: the model's, or what `prepare` made of them. stopped: bool [batch]. Returns (State, Block of BLOCK
    columns). `state` is donated: its cache is written in place, and the old one cannot be read again. top: see
    `prefill`.
    """
    rows = stopped.shape[0]
    state = state._replace(left=jnp.where(stopped, 0, state.left))
    tokens, logprobs = jnp.zeros((rows, BLOCK), jnp.int32), jnp.zeros((rows, BLOCK), jnp.float32)
    nothing = (tokens, logprobs, jnp.zeros(rows, jnp.int32), no_likeliest(rows, BLOCK, top))

    def going(carry):
        i, state, _ = carry
        return (i < limit) & jnp.any(state.left > 0)

    def step(carry):
        i, state, (tokens, logprobs, counts, best) = carry
        logits, cache = hoist.call(partial(advance, model), params, _next(state), state.cache)
        counts += state.left > 0
        state, new = _draw(logits, state._replace(cache=pin(cache)), stop_ids, sampling)
        best = jax.tree.map(lambda old, x: old.at[:, i].set(x[:, 0]), best,
                            likeliest(logits[:, None], top, state.controls))  # fmt: skip
        return i + 1, state, (tokens.at[:, i].set(state.token), logprobs.at[:, i].set(new), counts, best)

    _, state, (tokens, logprobs, counts, best) = jax.lax.while_loop(going, step, (0, state, nothing))
    return state, replicate(Block(tokens, logprobs, counts, state.left, best))


def likeliest(logits, top: int, controls=None):
    """(ids, logprobs) of the `top` likeliest tokens, the likeliest first, from logits [..., vocab]; None for 0.

    controls: of rows, of which some may want them; where none does, nothing is computed, and all are 0.
    """
    if not top:
        return None
    top = min(top, logits.shape[-1])

    def find():
        scores, ids = jax.lax.top_k(logits, top)
        return ids.astype(jnp.int32), scores - jax.nn.logsumexp(logits, axis=-1, keepdims=True)

    if controls is None:
        return find()
    nothing = jnp.zeros((*logits.shape[:-1], top))
    return jax.lax.cond(jnp.any(controls.top), find, lambda: (nothing.astype(jnp.int32), nothing.astype(logits.dtype)))


def no_likeliest(rows: int, width: int, top: int):
    """What `likeliest` gives, before anything is there."""
    shape = (rows, width, top)
    return (jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32)) if top else None


def repeat_rows(cache, copies: int):
    """A cache with every row `copies` times, the copies of a row together."""
    return caches.repeat(cache, copies)


@partial(jax.jit, static_argnames="more")
def grow(cache: KVCache, more: int) -> KVCache:
    """A copy of a cache with `more` empty places at its end."""
    return pin(caches.grow(cache, more))


def _draw(logits, state: State, stop_ids, sampling: Sampling):
    """Draws every row's next token from logits [batch, vocab]. Returns (State, logprobs [batch])."""
    alive, position = state.left > 0, state.position + 1
    if state.controls is not None:
        drawn = choose_each(logits, state.controls, state.seen, state.counts, state.row_ids, position)
        token = jnp.where(alive, drawn, 0)
    elif state.temperatures is not None:
        token = jnp.where(alive, _choose_each(logits, state, position, sampling), 0)
    else:
        keys = row_keys(state.key, state.row_ids, position) if sampling.temperature > 0 else None
        token = jnp.where(alive, choose(process(logits, state.seen, sampling, state.counts), keys, sampling), 0)
    chosen = jnp.take_along_axis(logits, token[:, None], axis=-1)[:, 0]
    left = jnp.where(alive & ~jnp.isin(token, stop_ids), state.left - 1, 0)
    seen = None if state.seen is None else state.seen.at[jnp.arange(token.size), token].set(True)
    counts = None if state.counts is None else state.counts.at[jnp.arange(token.size), token].add(alive)
    state = state._replace(token=token, position=position, left=left, seen=seen, counts=counts)
    return state, chosen - jax.nn.logsumexp(logits, axis=-1)


def _choose_each(logits, state: State, position, sampling: Sampling):
    """Every row's next token at its own temperature. Nothing is drawn where all rows are greedy."""
    greedy = replace(sampling, temperature=0.0)
    # Penalties first: what they take from a logit is meant before it is divided by the temperature.
    logits = process(logits, state.seen, greedy, state.counts)
    best = choose(logits, None, greedy)
    filters = replace(sampling, temperature=1.0, repetition_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0)

    def draw():
        warm = state.temperatures > 0
        scores = logits / jnp.where(warm, state.temperatures, 1)[:, None]
        keys = row_keys(state.key, state.row_ids, position)
        return jnp.where(warm, choose(process(scores, None, filters), keys, filters), best)

    return jax.lax.cond(jnp.any(state.temperatures > 0), draw, lambda: best)


def _on_batch_mesh() -> bool:
    return set(BATCH_AXES) <= set(jax.sharding.get_abstract_mesh().axis_names)


def pin(cache):
    """Splits a cache's rows as a batch's; its heads lie as the projections leave them."""
    if isinstance(cache, Unfilled):
        return Unfilled(pin(cache.cache))
    if not isinstance(cache, KVCache) or not _on_batch_mesh():
        return cache

    def one(x):
        spec = P(BATCH_AXES, None, P.UNCONSTRAINED, *(None,) * (x.ndim - 3))
        return jax.lax.with_sharding_constraint(x, spec)

    segment_ids = jax.lax.with_sharding_constraint(cache.segment_ids, P(BATCH_AXES))
    length = jax.lax.with_sharding_constraint(cache.length, P())
    return cache._replace(layers=jax.tree.map(one, cache.layers), segment_ids=segment_ids, length=length)


def replicate(block):
    """Every process of a run reads whole blocks."""
    return jax.lax.with_sharding_constraint(block, P()) if _on_batch_mesh() else block
