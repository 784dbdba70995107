"""Speculative decoding on the device: a draft proposes k tokens, the target checks all of them in one forward.

    pair = join(state, draft_state, prompts)                      # both from `decode_loop.prefill`
    pair, block, told = decode(params, draft_params, pair, stop_ids, stopped, limit, setup=Setup(target, draft, ...))

One round, k=3, of a row whose last token is t: the draft writes a, b, c; the target reads t a b c and gives its own
distribution after each. If a is accepted and b is not, the row gets a and a token b' drawn by the target.

Rows accept different numbers of tokens, but share the slots of their caches (see `types.KVCache`). As many slots stay
in use as the row with most tokens needs; what others have there is empty. `pack` moves the tokens of each row together
again: where slots run out, and after every round for models with sliding windows, which are counted in slots.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jitune import hoist
from jitune.generation import decode_loop
from jitune.generation.decode_loop import (
    BLOCK,
    Block,
    Prompts,
    State,
    likeliest,
    no_likeliest,
    pin,
    replicate,
)
from jitune.generation.sampling import Sampling, choose, process, row_keys
from jitune.models import cache as caches
from jitune.types import Model

DRAFT, ACCEPT, REST = 1, 2, 3  # what a row's random numbers are for


class Setup(NamedTuple):
    """What is compiled for: the models and how tokens are chosen.

    vocab: tokens that the target has logits for. k: proposals of a round, fewer than a ring of a cache has slots to
    spare (`models.cache.SLACK`). windows: whether either model has sliding windows. top: alternatives that are told of
    each token.
    """

    target: Model
    draft: Model
    sampling: Sampling
    vocab: int
    k: int
    windows: bool = False
    top: int = 0

    @property
    def rounds(self) -> int:
        """The most rounds of one call of `decode`."""
        return max(1, BLOCK // (self.k + 1))

    @property
    def width(self) -> int:
        """The most tokens, and slots, that one call of `decode` brings."""
        return self.rounds * (self.k + 1)


class Pair(NamedTuple):
    """Between two rounds.

    state: the target's, whose cache has all tokens of a row but `state.token`. draft: the other cache, with the same
    capacity and the same tokens in the same slots behind its own front, but for the last slot in use, which the next
    round computes again. previous: int32 [batch], the token before `state.token`; held: bool [batch], whether it lies
    in the last slot in use.
    """

    state: State
    draft: Any
    previous: Any
    held: Any


class Told(NamedTuple):
    """Of a block. used: slots in use behind those in front. extent: the most tokens of a row that is not finished.

    rounds, accepted: int32 [batch], of each row the target's forwards and the proposals that it took, those behind a
    stop token included.
    """

    used: Any
    extent: Any
    rounds: Any
    accepted: Any


def join(state: State, draft: State, prompts: Prompts) -> Pair:
    """Both models' states of the same prompts, just filled."""
    last = jnp.repeat(prompts.tokens[:, -1], state.left.shape[0] // prompts.tokens.shape[0])
    return Pair(state, draft.cache, last, jnp.ones(last.shape, bool))


@partial(jax.jit, static_argnames="setup", donate_argnames="pair")
def decode(params, draft_params, pair: Pair, stop_ids, stopped, limit, *, setup: Setup):
    """Up to `limit` rounds, at most `setup.rounds`, for every row that is neither finished nor `stopped`.

    params, draft_params: the models', or what `decode_loop.prepare` made of them. stopped: bool [batch]. Returns
    (Pair, Block of `setup.width` columns, Told). `pair` is donated.
    """
    rows = stopped.shape[0]
    pair = pair._replace(state=pair.state._replace(left=jnp.where(stopped, 0, pair.state.left)))
    zeros = jnp.zeros(rows, jnp.int32)
    shape = (rows, setup.width)
    nothing = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32), no_likeliest(*shape, setup.top)

    def going(carry):
        i, pair, *_ = carry
        return (i < limit) & jnp.any(pair.state.left > 0)

    def step(carry):
        i, pair, out, counts, rounds, accepted = carry
        live = pair.state.left > 0
        drafts, shares, cache = _propose(draft_params, pair, setup)
        pair, new, count, agreed = _verify(params, pair._replace(draft=cache), drafts, shares, stop_ids, setup)
        offsets = jnp.arange(setup.k + 1)
        places = jnp.where(offsets < count[:, None], counts[:, None] + offsets, setup.width)  # beyond: left out
        out = jax.tree.map(lambda old, x: old.at[jnp.arange(rows)[:, None], places].set(x, mode="drop"), out, new)
        return i + 1, pair, out, counts + count, rounds + live, accepted + jnp.where(live, agreed, 0)

    carry = (0, pair, nothing, zeros, zeros, zeros)
    _, pair, (tokens, logprobs, best), counts, rounds, accepted = jax.lax.while_loop(going, step, carry)
    state = pair.state
    used = state.cache.length - state.cache.front
    told = Told(used, jnp.max(jnp.where(state.left > 0, state.position, 0)), rounds, accepted)
    return pair, replicate(Block(tokens, logprobs, counts, state.left, best)), replicate(told)


def _propose(params, pair: Pair, setup: Setup):
    """The draft's next k tokens [batch, k], the probabilities that they were drawn with [k, batch, vocab], its cache.

    Greedy decoding needs no probabilities; they are [k, batch, 0] then.
    """
    state, model, sampling = pair.state, setup.draft, setup.sampling
    key = jax.random.fold_in(state.key, DRAFT)
    last = state.position + state.left  # beyond it a row's tokens are never used, nor may the model's context end

    def draw(logits, seen, counts, offset):
        scores = process(_fit(logits, setup.vocab), seen, sampling, counts)
        if sampling.temperature == 0:
            token, shares = choose(scores, None, sampling), scores[:, :0]
        else:
            token = choose(scores, row_keys(key, state.row_ids, state.position + offset), sampling)
            shares = jax.nn.softmax(scores, axis=-1)
        return token, shares, *_count(seen, counts, token, True)

    # The slot before is computed again: where all proposals were accepted, the draft has not read the last one.
    batch = {
        "tokens": jnp.stack([pair.previous, state.token], axis=1),
        "segment_ids": jnp.stack([pair.held, jnp.ones_like(pair.held)], axis=1).astype(jnp.int32),
        "positions": jnp.stack([jnp.maximum(state.position - 1, 0), state.position], axis=1),
    }
    forward = partial(hoist.call, partial(decode_loop.advance, model), params)
    logits, cache = forward(batch, _behind(pair.draft, state.cache))
    token, shares, seen, counts = draw(logits, state.seen, state.counts, 1)

    def step(carry, offset):
        cache, token, seen, counts = carry
        batch = {
            "tokens": token[:, None],
            "segment_ids": jnp.ones((token.size, 1), jnp.int32),
            "positions": jnp.minimum(state.position + offset, last)[:, None],
        }
        logits, cache = forward(batch, cache)
        token, shares, seen, counts = draw(logits, seen, counts, offset + 1)
        return (pin(cache), token, seen, counts), (token, shares)

    carry = (pin(cache), token, seen, counts)
    (cache, *_), (tokens, more) = jax.lax.scan(step, carry, jnp.arange(1, setup.k))
    return jnp.concatenate([token[None], tokens]).T, jnp.concatenate([shares[None], more]), cache


def _advance_all(model: Model, params, batch, cache):
    """(logits [batch, t, vocab] of all tokens of a batch, the cache with them)."""
    hidden, cache = model.hidden(params, batch, cache)
    return model.unembed(params, hidden), cache


def _verify(params, pair: Pair, drafts, shares, stop_ids, setup: Setup):
    """What the target makes of proposals (arXiv 2211.17192, algorithm 1; 2302.01318, algorithm 2).

    Returns (Pair, (tokens, logprobs, likeliest) of [batch, k + 1], how many of them each row has, how many proposals
    were accepted).
    """
    state, sampling, k = pair.state, setup.sampling, setup.k
    rows = state.left.shape[0]
    offsets = jnp.arange(k + 1)
    tokens = jnp.concatenate([state.token[:, None], drafts], axis=1)
    batch = {
        "tokens": tokens,
        "segment_ids": jnp.ones((rows, k + 1), jnp.int32),
        "positions": jnp.minimum(state.position[:, None] + offsets, (state.position + state.left)[:, None]),
    }
    logits, cache = hoist.call(partial(_advance_all, setup.target), params, batch, state.cache)
    seen, counts = _along(state, drafts)
    flat = [None if x is None else x.reshape(-1, logits.shape[-1]) for x in (logits, seen, counts)]
    scores = process(flat[0], flat[1], sampling, flat[2]).reshape(logits.shape)
    accepted, final = _accept(scores, drafts, shares, state, sampling)
    new = jnp.where(offsets < accepted[:, None], jnp.pad(drafts, ((0, 0), (0, 1))), final[:, None])
    logprobs = jnp.take_along_axis(logits, new[..., None], -1)[..., 0] - jax.nn.logsumexp(logits, axis=-1)
    pair, count = _advance(pair, cache, tokens, new, accepted, stop_ids, setup)
    return pair, (new, logprobs, likeliest(logits, setup.top)), count, accepted


def _accept(scores, drafts, shares, state: State, sampling: Sampling):
    """(how many proposals are accepted, the target's token behind them), both [batch], from scores [batch, k+1, vocab].

    Greedy: as long as a proposal is the likeliest token. Else x is accepted with probability min(1, p(x) / q(x)), and
    behind the first that is not, a token is drawn from max(p - q, 0), normed; behind the last from p.
    """
    rows, k = drafts.shape
    if sampling.temperature == 0:
        best = jnp.argmax(scores, axis=-1).astype(jnp.int32)
        accepted = jnp.cumprod(drafts == best[:, :k], axis=1).sum(axis=1)
        return accepted, best[jnp.arange(rows), accepted]
    accept, rest = (jax.random.fold_in(state.key, use) for use in (ACCEPT, REST))
    places = state.position[:, None] + 1 + jnp.arange(k)
    keys = row_keys(accept, jnp.repeat(state.row_ids, k), places.reshape(-1))
    u = jax.vmap(jax.random.uniform)(keys).reshape(rows, k)
    p, q = jax.nn.softmax(scores, axis=-1), jnp.moveaxis(shares, 0, 1)
    mine, theirs = (jnp.take_along_axis(x[:, :k], drafts[..., None], -1)[..., 0] for x in (p, q))
    accepted = jnp.cumprod(u * theirs < mine, axis=1).sum(axis=1)
    index = jnp.arange(rows)
    p = p[index, accepted]
    q = jnp.where((accepted < k)[:, None], q[index, jnp.minimum(accepted, k - 1)], 0.0)
    left = jnp.maximum(p - q, 0.0)
    # Nothing may be left by rounding where both are the same, and a draft may be broken: p is right then too.
    left = jnp.where(left.sum(axis=-1, keepdims=True) > 0, left, p)
    keys = row_keys(rest, state.row_ids, state.position + 1 + accepted)
    return accepted, jax.vmap(jax.random.categorical)(keys, jnp.log(left)).astype(jnp.int32)


def _advance(pair: Pair, cache, tokens, new, accepted, stop_ids, setup: Setup):
    """The pair behind a round, and how many of its tokens [batch, k + 1] each row takes."""
    state, front = pair.state, cache.front
    offsets, index = jnp.arange(setup.k + 1), jnp.arange(accepted.size)
    ends = jnp.isin(new, stop_ids) & (offsets <= accepted[:, None])
    count = jnp.where(ends.any(axis=1), jnp.argmax(ends, axis=1) + 1, accepted + 1)
    stopped = ends.any(axis=1) & (count <= state.left)
    count = jnp.minimum(count, state.left)
    left = jnp.where(stopped, 0, state.left - count)
    live = left > 0
    seen, counts = _count(state.seen, state.counts, new, offsets < count[:, None])
    # Slots stay in use up to the last that a row needs which goes on.
    advance = jnp.maximum(jnp.max(jnp.where(live, accepted + 1, 0)), 1)
    used = state.cache.length + advance
    slots = jnp.arange(cache.segment_ids.shape[1])
    kept = (slots < front) | (slots <= (state.cache.length + accepted)[:, None])
    cache = cache._replace(segment_ids=jnp.where(kept & (slots < used), cache.segment_ids, 0), length=used)
    state = state._replace(
        cache=pin(cache), token=jnp.where(live, new[index, accepted], 0), position=state.position + count, left=left,
        seen=seen, counts=counts,
    )  # fmt: skip
    pair = Pair(state, pair.draft, tokens[index, accepted], accepted + 1 == advance)
    if setup.windows:
        apart = jnp.any(live & ~pair.held)
        pair = jax.lax.cond(apart, lambda p: _packed(p, used - front), lambda p: p, pair)
    return pair, count


@partial(jax.jit, donate_argnames="pair")
def pack(pair: Pair, target) -> Pair:
    """Moves the tokens of each row together, so that they end where `target` slots are in use behind the front."""
    return _packed(pair, target)


def _packed(pair: Pair, target) -> Pair:
    state = pair.state
    segments = state.cache.segment_ids[:, state.cache.front :]
    most = segments.shape[1]
    order = jnp.argsort(segments != 0, axis=1, stable=True)  # empty slots first, the others in their order
    slots = jnp.arange(most)
    source = jnp.take(order, jnp.clip(slots + most - target, 0, most - 1), axis=1)
    segments = jnp.where(slots < target, jnp.take_along_axis(segments, source, axis=1), 0)

    cache, draft = (_gathered(x, source, segments, target) for x in (state.cache, pair.draft))
    return Pair(state._replace(cache=cache), draft, pair.previous, jnp.ones_like(pair.held))


def _gathered(cache, source, segments, target):
    """A cache with `target` places in use behind its front, in which place p of a row has what source[row, p] had.

    source, segments: [batch, places], of those behind the front.
    """
    front, length = cache.front, jnp.asarray(target + cache.front, jnp.int32)
    inside = jnp.broadcast_to(jnp.arange(front), (source.shape[0], front))
    places, layers = jnp.concatenate([inside, front + source], axis=1), []
    for i, layer in enumerate(cache.layers):
        mine = jnp.maximum(caches.held(cache, i, length), 0)
        slots = caches.slot_of(cache, i, places[:, mine])
        layers.append(jax.tree.map(
            lambda x, at=slots: jnp.take_along_axis(x, at.reshape(at.shape + (1,) * (x.ndim - 2)), axis=1), layer
        ))  # fmt: skip
    ids = jnp.concatenate([cache.segment_ids[:, :front], segments], axis=1)
    return pin(cache._replace(layers=tuple(layers), segment_ids=ids, length=length))


def _behind(draft, cache):
    """The draft's cache, with the places in use that the target's has, but for the last of them."""
    ids = jnp.concatenate([draft.segment_ids[:, : draft.front], cache.segment_ids[:, cache.front :]], axis=1)
    return draft._replace(segment_ids=ids, length=cache.length - cache.front + draft.front - 1)


def _fit(logits, vocab: int):
    """Logits for `vocab` tokens: the draft never proposes others, nor those that it does not know."""
    logits = logits[:, :vocab]
    return jnp.pad(logits, ((0, 0), (0, vocab - logits.shape[1])), constant_values=-jnp.inf)


def _count(seen, counts, tokens, taken):
    """(seen, counts) of a State with tokens [batch] or [batch, n] more, those that are taken."""
    rows = jnp.arange(tokens.shape[0]).reshape(-1, *[1] * (tokens.ndim - 1))
    seen = None if seen is None else seen.at[rows, tokens].max(taken)
    return seen, None if counts is None else counts.at[rows, tokens].add(taken)


def _along(state: State, drafts):
    """(seen, counts), [batch, k + 1, vocab], before each token of a round; None where they are not kept."""

    def before(first):
        steps = jnp.pad(jax.nn.one_hot(drafts, first.shape[1], dtype=jnp.int32), ((0, 0), (1, 0), (0, 0)))
        return first[:, None] + jnp.cumsum(steps, axis=1)

    seen = None if state.seen is None else before(state.seen.astype(jnp.int32)) > 0
    return seen, None if state.counts is None else before(state.counts)
