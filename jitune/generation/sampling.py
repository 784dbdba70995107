"""Choosing the next token: pure functions over logits [batch, vocab], float32.

    scores = process(logits, seen, Sampling(temperature=0.7, top_p=0.9))
    tokens = choose(scores, row_keys(key, row_ids, positions), Sampling(temperature=0.7, top_p=0.9))

    controls = stack([(Sampling(temperature=0.7, seed=3), {}), (GREEDY, {5: -100})])  # two rows
    tokens = choose_each(logits, controls, seen, counts, row_ids, positions)

Meaning and order are those of transformers' logits processors: repetition penalty, temperature, top-k, top-p,
min-p; OpenAI's presence and frequency penalties come after the repetition penalty, as in vLLM. A token that is ruled
out gets -inf.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jitune.types import UserError


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; the defaults are greedy decoding.

    Attributes:
      temperature: divides the logits; 0 takes the most likely token (the lowest id of equals), and then only
        penalties count of the others.
      top_k: keep the k highest logits and those equal to the last of them; 0: keep all.
      top_p: keep the smallest set of tokens whose probability exceeds top_p (arXiv 1904.09751); 1: keep all.
      min_p: keep tokens of at least min_p times the highest probability (arXiv 2407.01082); 0: keep all.
      repetition_penalty: divides positive logits of tokens already in the prompt or the answer and multiplies
        negative ones (arXiv 1909.05858); 1: none.
      presence_penalty: is taken from the logits of tokens that are in the answer already, as OpenAI defines it.
      frequency_penalty: is taken from a token's logit as often as the token is in the answer.
      seed: of the random numbers, below 2**32.

    Raises:
      UserError: a value out of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    def __post_init__(self):
        for name, allowed, ok in (
            ("temperature", "0 (greedy) or a positive number", lambda v: 0 <= v < math.inf),
            ("top_k", "0 (off) or a positive integer", lambda v: v >= 0 and v == int(v)),
            ("top_p", "above 0 and at most 1 (off)", lambda v: 0 < v <= 1),
            ("min_p", "from 0 (off) to 1", lambda v: 0 <= v <= 1),
            ("repetition_penalty", "a positive number, 1 is off", lambda v: 0 < v < math.inf),
            ("presence_penalty", "a number, 0 is off", math.isfinite),
            ("frequency_penalty", "a number, 0 is off", math.isfinite),
            ("seed", "an integer from 0 to 2**32 - 1", lambda v: 0 <= v < 2**32 and v == int(v)),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not ok(value):
                raise UserError(f"sampling: {name}={value!r} is not allowed; it is {allowed}")


GREEDY = Sampling()
BIASES = 300  # tokens that a row's logit_bias may name, as many as OpenAI takes


class Controls(NamedTuple):
    """A `Sampling` for each row, as arrays [batch], with what is added to the logits of single tokens.

    bias_ids: int32 [batch, BIASES], filled up with an id beyond the vocabulary; biases: float32, as many.
    """

    temperature: Any
    top_k: Any
    top_p: Any
    min_p: Any
    repetition_penalty: Any
    presence_penalty: Any
    frequency_penalty: Any
    seed: Any
    bias_ids: Any
    biases: Any


def stack(rows: Sequence[tuple[Sampling, Mapping[int, float]]]) -> Controls:
    """Controls on the host from a Sampling and a {token id: bias} for each row."""
    ids, biases = np.full((len(rows), BIASES), np.iinfo(np.int32).max, np.int32), np.zeros((len(rows), BIASES), "f4")
    for i, (_, bias) in enumerate(rows):
        ids[i, : len(bias)], biases[i, : len(bias)] = list(bias.keys()), list(bias.values())
    kinds = {"top_k": np.int32, "seed": np.uint32}
    columns = {name: np.asarray([getattr(sampling, name) for sampling, _ in rows], kinds.get(name, np.float32))
               for name in Controls._fields if name not in ("bias_ids", "biases")}  # fmt: skip
    return Controls(**columns, bias_ids=ids, biases=biases)


def process(logits: jax.Array, seen: jax.Array | None, sampling: Sampling, counts: jax.Array | None = None
            ) -> jax.Array:
    """The scores that tokens are drawn from, [batch, vocab].

    seen: bool [batch, vocab], the tokens of the prompt and of the answer so far; it is looked at only with a
    repetition penalty. counts: int [batch, vocab], how often a token is in the answer so far; only with a presence or
    frequency penalty. Example, top_p=0.7 over probabilities (0.5, 0.3, 0.2): the first two stay.
    """
    scores = logits
    if sampling.repetition_penalty != 1:
        scores = penalize(scores, seen, sampling.repetition_penalty)
    if counts_tokens(sampling):
        scores = discourage(scores, counts, sampling.presence_penalty, sampling.frequency_penalty)
    if sampling.temperature == 0:
        return scores
    scores = scores / sampling.temperature
    if 0 < sampling.top_k < scores.shape[-1]:
        scores = keep_top_k(scores, int(sampling.top_k))
    if sampling.top_p < 1:
        scores = keep_top_p(scores, sampling.top_p)
    if sampling.min_p > 0:
        scores = keep_min_p(scores, sampling.min_p)
    return scores


def penalize(scores: jax.Array, seen: jax.Array, penalty: float) -> jax.Array:
    """Makes seen tokens less likely (penalty > 1): 2.0 -> 1.0 and -2.0 -> -4.0 with penalty 2."""
    return jnp.where(seen, jnp.where(scores < 0, scores * penalty, scores / penalty), scores)


def counts_tokens(sampling: Sampling) -> bool:
    """Whether the tokens of the answer are counted."""
    return sampling.presence_penalty != 0 or sampling.frequency_penalty != 0


def discourage(scores: jax.Array, counts: jax.Array, presence: float, frequency: float) -> jax.Array:
    """scores - presence [count > 0] - frequency * count: a token that was generated twice loses 0.5 + 2 * 0.25 with
    presence 0.5 and frequency 0.25 (OpenAI's API reference, "frequency and presence penalties")."""
    return scores - presence * (counts > 0) - frequency * counts


def keep_top_k(scores: jax.Array, k: int) -> jax.Array:
    """Rules out all scores below the k-th highest; those equal to it stay."""
    return jnp.where(scores < jax.lax.top_k(scores, k)[0][:, -1:], -jnp.inf, scores)


def keep_top_p(scores: jax.Array, p: float) -> jax.Array:
    """Rules out the least likely tokens whose probabilities add up to at most 1 - p; the likeliest stays."""
    order = jnp.argsort(scores, axis=-1, stable=True)
    cumulative = jnp.cumsum(jax.nn.softmax(jnp.take_along_axis(scores, order, -1), axis=-1), axis=-1)
    kept = (cumulative > 1 - p).at[:, -1].set(True)
    rows = jnp.arange(scores.shape[0])[:, None]
    kept = jnp.zeros_like(kept).at[rows, order].set(kept, unique_indices=True)
    return jnp.where(kept, scores, -jnp.inf)


def keep_min_p(scores: jax.Array, p: float) -> jax.Array:
    """Rules out tokens less likely than p times the most likely one."""
    probs = jax.nn.softmax(scores, axis=-1)
    return jnp.where(probs < p * probs.max(axis=-1, keepdims=True), -jnp.inf, scores)


def row_keys(key: jax.Array, row_ids: jax.Array, positions: jax.Array) -> jax.Array:
    """One key a row, [batch], from its id and the position of the token to draw.

    So a row draws the same tokens in whichever batch, and at whichever place in it, it is computed.
    """
    return jax.vmap(lambda row, at: jax.random.fold_in(jax.random.fold_in(key, row), at))(row_ids, positions)


def choose(scores: jax.Array, keys: jax.Array | None, sampling: Sampling) -> jax.Array:
    """Draws a token a row from processed scores, int32 [batch]; temperature 0 uses no keys ([batch])."""
    if sampling.temperature == 0:
        return jnp.argmax(scores, axis=-1).astype(jnp.int32)
    return jax.vmap(jax.random.categorical)(keys, scores).astype(jnp.int32)


def choose_each(logits: jax.Array, controls: Controls, seen: jax.Array, counts: jax.Array, row_ids: jax.Array,
                positions: jax.Array) -> jax.Array:  # fmt: skip
    """Draws a token a row, int32 [batch], each by its own controls, as `process` and `choose` do for all.

    seen, counts: as in `process`. What no row asks for is not computed.
    """
    asked = (controls.repetition_penalty != 1) | (controls.presence_penalty != 0) | (controls.frequency_penalty != 0)

    def punish():
        scores = penalize(logits, seen, controls.repetition_penalty[:, None])
        return discourage(scores, counts, controls.presence_penalty[:, None], controls.frequency_penalty[:, None])

    scores = jax.lax.cond(jnp.any(asked), punish, lambda: logits)
    rows = jnp.arange(logits.shape[0])[:, None]
    scores = jax.lax.cond(jnp.any(controls.biases != 0),
                          lambda: scores.at[rows, controls.bias_ids].add(controls.biases, mode="drop"),
                          lambda: scores)  # fmt: skip
    best, warm = jnp.argmax(scores, axis=-1).astype(jnp.int32), controls.temperature > 0

    def draw():
        keys = jax.vmap(lambda seed, row, at: jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), row), at))(
            controls.seed, row_ids, positions)
        heated = scores / jnp.where(warm, controls.temperature, 1)[:, None]
        drawn = jax.vmap(jax.random.categorical)(keys, _filter_each(heated, controls)).astype(jnp.int32)
        return jnp.where(warm, drawn, best)

    return jax.lax.cond(jnp.any(warm), draw, lambda: best)


def _filter_each(scores: jax.Array, controls: Controls) -> jax.Array:
    """top-k, top-p and min-p of each row, in this order; one sort serves the first two."""
    vocab, rows = scores.shape[-1], jnp.arange(scores.shape[0])[:, None]
    few, nucleus = (controls.top_k > 0) & (controls.top_k < vocab), controls.top_p < 1

    def by_order():
        order = jnp.argsort(scores, axis=-1, stable=True)
        ordered = jnp.take_along_axis(scores, order, -1)
        least = jnp.take_along_axis(ordered, jnp.where(few, vocab - controls.top_k, 0)[:, None], -1)
        ordered = jnp.where(ordered < least, -jnp.inf, ordered)
        cumulative = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1)
        kept = ((cumulative > 1 - controls.top_p[:, None]) | ~nucleus[:, None]).at[:, -1].set(True)
        kept &= ordered > -jnp.inf
        kept = jnp.zeros_like(kept).at[rows, order].set(kept, unique_indices=True)
        return jnp.where(kept, scores, -jnp.inf)

    scores = jax.lax.cond(jnp.any(few | nucleus), by_order, lambda: scores)
    probs = jax.nn.softmax(scores, axis=-1)
    rare = probs < controls.min_p[:, None] * probs.max(axis=-1, keepdims=True)
    return jnp.where(rare & (controls.min_p > 0)[:, None], -jnp.inf, scores)
