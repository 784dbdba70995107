"""Attention of new tokens to what a KV cache holds: one form for all backends, one for CPUs.

    views = {w: view(cache, i, start, segments, positions, w) for i, w in enumerate(windows)}
    out, layer = attend_cached(q, k, v, cache, i, start, views[windows[i]])

Letters in einsums: b batch, t query positions, s slots, k kv heads, n queries of a kv head, d head_dim.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jitune.models import cache as caches
from jitune.models.attention import LOWEST
from jitune.types import EVERYONE, KVCache, LayerKV

BLOCKS = (128, 64)  # slots that are read at once on a CPU: the first of these that divides them


class View(NamedTuple):
    """What the queries see of layers with one window. mask: [batch, t, s] bool; used: int32, slots that hold anything.

    The slots are those of the layer after the new tokens, or, where a ring takes several at once, those before with
    the new tokens behind.
    """

    mask: jax.Array
    used: jax.Array


def _beside(cache: KVCache, i: int, t: int) -> bool:
    """Whether the new tokens stand behind the ring: in it they would take the places of what the first of them see."""
    return t > 1 and caches.wraps(cache, i)


def view(cache: KVCache, i: int, start, segments, positions, window: int) -> View:
    """The view of layer i for queries in places start, start + 1, ... of a cache that `extend` gave.

    segments, positions: [batch, t], of the queries; positions count a prefix in front. A query sees the keys of its
    segment and those of everyone at its place or before, the last `window` of them unless it is 0.
    """
    t, slots = segments.shape[1], cache.layers[i].k.shape[1]
    queries = start + jnp.arange(t)
    if _beside(cache, i, t):
        places, used = jnp.concatenate([caches.held(cache, i, start), queries]), jnp.int32(slots + t)
    else:
        places, used = caches.held(cache, i, start + t), jnp.minimum(start + t, slots)
    kv_segments = cache.segment_ids
    if caches.wraps(cache, i):
        kv_segments = jnp.where(places >= 0, jnp.take(kv_segments, jnp.maximum(places, 0), axis=1), 0)
    everyone = (kv_segments == EVERYONE)[:, None, :]
    distance = (queries[:, None] - places)[None]
    near = (distance >= 0) & (places >= 0)
    if window:
        # Other rows' padding lies between a prefix and the queries.
        near &= jnp.where(everyone, positions[:, :, None] - places, distance) < window
    return View(near & ((segments[:, :, None] == kv_segments[:, None, :]) | everyone), used)


def attend_cached(q, k, v, cache: KVCache, i: int, start, seen: View, *, scale=None, softcap=0.0
                  ) -> tuple[jax.Array, LayerKV]:  # fmt: skip
    """Puts new keys and values into layer i; (attention of the queries to what they see of it, the layer).

    q: [batch, t, heads, head_dim]; k, v: [batch, t, kv_heads, head_dim], in places start, start + 1, ...; scale and
    softcap as in `attention.attend`. In a cache of int8 the new tokens, too, are seen as they are kept.
    """
    old = cache.layers[i]
    new = caches.as_kept(old, k, v)
    layer = caches.append(cache, i, new, start)
    keys = layer
    if _beside(cache, i, q.shape[1]):
        keys = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), old, new)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    size = next((n for n in BLOCKS if keys.k.shape[1] % n == 0), None)
    if size and jax.default_backend() == "cpu":
        return attend_used(q, keys, seen, size=size, scale=scale, softcap=softcap), layer
    return attend_all(q, keys, seen.mask, scale=scale, softcap=softcap), layer


def attend_all(q, keys: LayerKV, mask, *, scale: float, softcap: float) -> jax.Array:
    """Attention with all scores at once."""
    b, t, heads, d = q.shape
    k, v = caches.read(keys, q.dtype)
    kv_heads = k.shape[2]
    q = q.reshape(b, t, kv_heads, heads // kv_heads, d)
    scores = jnp.einsum("btkgd,bskd->bkgts", q, k, preferred_element_type=jnp.float32) * scale
    scores = jnp.where(mask[:, None, None], _cap(scores, softcap), LOWEST)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bkgts,bskd->btkgd", weights, v).reshape(b, t, heads, d)


def attend_used(q, keys: LayerKV, seen: View, *, size: int, scale: float, softcap: float) -> jax.Array:
    """Attention to the slots in use, `size` at a time: its time is that of what the cache holds, not of what it could.

    The softmax goes along (arXiv 2112.05682): the largest score so far, and sums relative to it. It has no gradient.
    """
    b, t, heads, d = q.shape
    kv_heads = keys.k.shape[2]
    groups = heads // kv_heads
    q = q.reshape(b, t, kv_heads, groups, d).transpose(0, 2, 3, 1, 4).reshape(b, kv_heads, groups * t, d)

    def block(i, carry):
        highest, total, out = carry
        k, v = caches.read(jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, i * size, size, 1), keys), q.dtype)
        mask = jax.lax.dynamic_slice_in_dim(seen.mask, i * size, size, axis=2)
        scores = _cap(_scores(q, k, t) * scale, softcap)
        scores = jnp.where(jnp.tile(mask, (1, groups, 1))[:, None], scores, LOWEST)
        new = jnp.maximum(highest, scores.max(-1))
        shares, less = jnp.exp(scores - new[..., None]), jnp.exp(highest - new)
        return new, total * less + shares.sum(-1), out * less[..., None] + _mix(shares, v, t)

    start = jnp.zeros(q.shape, jnp.float32)
    carry = jnp.full(q.shape[:3], LOWEST), start[..., 0], start
    _, total, out = jax.lax.fori_loop(0, (seen.used + size - 1) // size, block, carry)
    out = (out / total[..., None]).astype(q.dtype).reshape(b, kv_heads, groups, t, d)
    return out.transpose(0, 3, 1, 2, 4).reshape(b, t, heads, d)


def _cap(scores, softcap: float):
    return softcap * jnp.tanh(scores / softcap) if softcap else scores


# For one query all heads are one product over the cache as it lies, [slots, kv_heads * d], though of its results only
# those of a head's own keys are used: a product for each head reads a copy of the cache, which XLA makes transposed.
def _scores(q, k, t: int) -> jax.Array:
    """[batch, kv_heads, n, d] x [batch, s, kv_heads, d] -> [batch, kv_heads, n, s] float32."""
    if t > 1:
        return jnp.einsum("bknd,bskd->bkns", q, k, preferred_element_type=jnp.float32)
    b, s, kv_heads, d = k.shape
    alone = jnp.where(_own(kv_heads), q[:, :, :, None], 0).reshape(b, -1, kv_heads * d)
    scores = jnp.einsum("bhw,bsw->bhs", alone, k.reshape(b, s, -1), preferred_element_type=jnp.float32)
    return scores.reshape(b, kv_heads, -1, s)


def _mix(shares, v, t: int) -> jax.Array:
    """[batch, kv_heads, n, s] float32 x [batch, s, kv_heads, d] -> [batch, kv_heads, n, d] float32."""
    shares = shares.astype(v.dtype)
    if t > 1:
        return jnp.einsum("bkns,bskd->bknd", shares, v, preferred_element_type=jnp.float32)
    b, s, kv_heads, d = v.shape
    mixed = jnp.einsum("bhs,bsw->bhw", shares.reshape(b, -1, s), v.reshape(b, s, -1),
                       preferred_element_type=jnp.float32)  # fmt: skip
    return jnp.where(_own(kv_heads), mixed.reshape(b, kv_heads, -1, kv_heads, d), 0).sum(3)


def _own(kv_heads: int):
    """Which of the keys' heads a query's is: [1, kv_heads, 1, kv_heads, 1]."""
    return np.eye(kv_heads, dtype=bool)[None, :, None, :, None]
