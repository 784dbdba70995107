"""Choosing the next token: pure functions over logits [batch, vocab], float32.

    scores = process(logits, seen, Sampling(temperature=0.7, top_p=0.9))
    tokens = choose(scores, row_keys(key, row_ids, positions), Sampling(temperature=0.7, top_p=0.9))

Meaning and order are those of transformers' logits processors: repetition penalty, temperature, top-k, top-p,
min-p; OpenAI's presence and frequency penalties come after the repetition penalty, as in vLLM. A token that is ruled
out gets -inf.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

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
