"""Rotary embedding: frequencies of every kind, the tables of cosines and sines, and the turning of heads.

    cos, sin = tables(config.ropes, config.head_dim, positions, lengths)
    q = rotate(q, cos, sin)

RoFormer is arXiv 2104.09864; llama3's three bands are Llama 3.1's; YaRN is arXiv 2309.00071, LongRoPE 2402.13753.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jitune.models.rope import Rope


def frequencies(rope: Rope, head_dim: int, *, long: bool = False) -> jax.Array:
    """Inverse frequencies [rope.width(head_dim) // 2] in float32; zeros for a layer that is not turned.

    long: longrope's, for documents of more than original_max_position tokens.
    """
    width = rope.width(head_dim)
    if rope.kind == "none":
        return jnp.zeros(width // 2, jnp.float32)
    inverse = 1.0 / rope.theta ** (jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    if rope.kind == "linear":
        return inverse / rope.factor
    if rope.kind == "llama3":
        length = rope.original_max_position
        wavelength = 2 * math.pi / inverse
        low, high = rope.low_freq_factor, rope.high_freq_factor
        smooth = (length / wavelength - low) / (high - low)
        middle = (1 - smooth) * inverse / rope.factor + smooth * inverse
        slow = jnp.where(wavelength > length / low, inverse / rope.factor, middle)
        return jnp.where(wavelength < length / high, inverse, slow)
    if rope.kind == "yarn":
        kept = 1 - _ramp(rope, width)
        return inverse / rope.factor * (1 - kept) + inverse * kept
    if rope.kind == "longrope":
        return inverse / jnp.asarray(rope.long if long else rope.short, jnp.float32)
    return inverse


def _ramp(rope: Rope, width: int) -> jax.Array:
    """Yarn: 0 for the features that keep their frequency, 1 for those whose frequency is divided by the factor."""

    def feature(turns: float) -> float:
        """The feature that turns so often within the original context."""
        return width * math.log(rope.original_max_position / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = feature(rope.beta_fast), feature(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    high += 0.001 if low == high else 0
    return jnp.clip((jnp.arange(width // 2, dtype=jnp.float32) - low) / (high - low), 0, 1)


def tables(ropes: tuple[Rope, ...], head_dim: int, positions, lengths=None):
    """(cosines, sines) [batch, t, width // 2] float32, with a leading axis [ropes, ...] where there are several.

    positions: [batch, t]. lengths: [batch, t], of each token's document; for longrope. (None, None) where no layer is
    turned.
    """
    if all(rope.kind == "none" for rope in ropes):
        return None, None
    pairs = [_table(rope, head_dim, positions, lengths) for rope in ropes]
    return pairs[0] if len(pairs) == 1 else tuple(jnp.stack(x) for x in zip(*pairs, strict=True))


def _table(rope: Rope, head_dim: int, positions, lengths):
    inverse = frequencies(rope, head_dim)
    if rope.kind == "longrope":
        beyond = (lengths > rope.original_max_position)[..., None]
        inverse = jnp.where(beyond, frequencies(rope, head_dim, long=True), inverse)
    angles = positions[..., None].astype(jnp.float32) * inverse
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return (cos, sin) if rope.attention_factor == 1 else (cos * rope.attention_factor, sin * rope.attention_factor)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Applies RoPE to x [batch, t, heads, head_dim], half-split: feature i turns with i + width / 2.

    cos, sin: [batch, t, width // 2]; the features of a head beyond the first `width` stay.
    """
    width, rest = 2 * cos.shape[-1], None
    if width < x.shape[-1]:
        x, rest = x[..., :width], x[..., width:]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
    return turned if rest is None else jnp.concatenate([turned, rest], axis=-1)


def document_lengths(positions, segments, first: int = 0, ends=None) -> jax.Array:
    """The length of each token's document by what is here of it, its last position plus one: [batch, t].

    positions [[0, 1, 2, 0, 1]] of segments [[1, 1, 1, 2, 2]] give [[3, 3, 3, 2, 2]]. first: the position of a
    document's first token. ends: where segments share tokens (see `types.Batch`), documents that begin alike count
    as one, as long as the longest of them.
    """
    starts = jnp.concatenate([jnp.ones_like(segments[:, :1]), jnp.diff(segments, axis=1)], axis=1) != 0
    if ends is not None:
        starts &= positions <= first
    number = jnp.cumsum(starts, axis=1) - 1
    count = positions.shape[1]
    longest = jax.vmap(lambda p, n: jax.ops.segment_max(p, n, num_segments=count)[n])(positions, number)
    return longest + 1
