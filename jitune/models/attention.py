"""Causal attention inside documents: the plain form, the one in blocks of queries, cuDNN's, and a cache's on a CPU.

`attend(q, k, v, ...)` chooses among them by name. Letters in einsums: b batch, t query positions, s key positions,
k kv heads, g query heads for each kv head, d head_dim.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jitune.types import EVERYONE, UserError

# Queries in a block: fewer save more of the products above the diagonal, and take longer to compile.
BLOCK, MOST_BLOCKS = 128, 8
KEYS = 128  # keys of a cache that are read at once
LOWEST = jnp.finfo(jnp.float32).min


def attend(
    q, k, v, *, segments, kv_segments, start, window, kind="auto", prefix=None, positions=None, ends=None,
    scale=None, softcap=0.0,
) -> jax.Array:  # fmt: skip
    """Causal attention inside segments.

    q: [batch, t, heads, head_dim]; k, v: [batch, s, kv_heads, head_dim]; segments [batch, t] and
    kv_segments [batch, s]; query i stands at key index start + i, start None: queries and keys are of the same
    tokens. A query sees the keys of its own
    segment at its index or before, the last `window` of them (itself included) unless window is None
    or 0. Scores and softmax are float32. Returns [batch, t, heads, head_dim].

    prefix: (k, v), [n, kv_heads, head_dim] each, which stand in front of every row's keys where start is None, for
    all segments. positions: [batch, t], the queries' in their documents, those of the prefix counted; they are
    needed with it, with kv_segments that may be EVERYONE, and with ends.

    ends: [batch, t], the last segment that sees a token, where start is None; None: each token's own alone.

    scale: of the scores, head_dim ** -0.5 by default. softcap: a score s becomes softcap * tanh(s / softcap) before the
    mask (Gemma 2); 0: it stays.

    kind, which holds where start is None (it is plain elsewhere): plain; blocks, of queries, each over the keys up
    to its end; auto (blocks); cudnn. All of them honour segments. Raises UserError for cudnn without a GPU or in
    float32.
    """
    front = 0
    if prefix is not None:
        front = prefix[0].shape[0]
        k, v = (_prepend(a, b) for a, b in zip(prefix, (k, v), strict=True))
        kv_segments = jnp.pad(kv_segments, ((0, 0), (front, 0)), constant_values=EVERYONE)
    kv_tree = None if ends is None else _tree(ends, positions, front)
    if start is None and kind != "plain" and kind != "cudnn" and q.shape[1] > BLOCK:
        more = {"kv_segments": kv_segments, "positions": positions, "kv_tree": kv_tree} if front or kv_tree else {}
        return attend_blocks(q, k, v, segments=segments, window=window, scale=scale, softcap=softcap, **more)
    mask = allowed(segments, kv_segments, front if start is None else start, window, positions, kv_tree)
    if start is None and kind == "cudnn":
        return _attend_cudnn(q, k, v, mask, scale, softcap)
    return attend_plain(q, k, v, mask, scale=scale, softcap=softcap)


def _prepend(first, rest) -> jax.Array:
    """[n, kv_heads, head_dim] in front of [batch, s, kv_heads, head_dim], in the dtype of the latter."""
    # Repeated before it is cast, so that its gradient is summed over the batch in float32.
    rows = jnp.broadcast_to(first.astype(jnp.promote_types(first.dtype, jnp.float32)), (len(rest), *first.shape))
    return jnp.concatenate([rows.astype(rest.dtype), rest], axis=1)


def _tree(ends, positions, front: int):
    """(ends, positions) of the keys, [batch, front + t] each: those in front are not the tree's."""
    places = jnp.broadcast_to(jnp.arange(front), (len(positions), front))
    return jnp.pad(ends, ((0, 0), (front, 0)), constant_values=EVERYONE), jnp.concatenate([places, positions], axis=1)


def allowed(segments, kv_segments, start, window, positions=None, kv_tree=None) -> jax.Array:
    """Which keys a query sees, [batch, t, s] bool; see `attend`. Without positions no key is for EVERYONE.

    kv_tree: (ends, positions) of the keys where segments share tokens; else None.
    """
    distance = (start + jnp.arange(segments.shape[1]))[:, None] - jnp.arange(kv_segments.shape[1])[None, :]
    near = distance >= 0
    if positions is not None:
        everyone = (kv_segments == EVERYONE)[:, None, :]
        # Other documents, or padding, lie between a prefix and most of the queries.
        distance = jnp.where(everyone, positions[:, :, None] - jnp.arange(kv_segments.shape[1]), distance)
    if kv_tree is not None:
        # Between a token and those that it continues, others lie in the row.
        distance = positions[:, :, None] - kv_tree[1][:, None, :]
    if window is not None:
        near &= (distance < window) | (jnp.asarray(window) == 0)
    same = segments[:, :, None] == kv_segments[:, None, :]
    if kv_tree is not None:
        same = (kv_segments[:, None, :] <= segments[:, :, None]) & (segments[:, :, None] <= kv_tree[0][:, None, :])
    return near & (same if positions is None else same | everyone)


def capped(scores, softcap: float) -> jax.Array:
    """softcap * tanh(scores / softcap), which is near scores where they are small; 0: scores (Gemma 2, 2408.00118)."""
    return softcap * jnp.tanh(scores / softcap) if softcap else scores


def attend_plain(q, k, v, mask, *, scale: float | None = None, softcap: float = 0.0) -> jax.Array:
    """Attention with all scores at once: the form that the others are compared with. mask: [batch, t, s].

    scale, softcap: see `attend`.
    """
    b, t, heads, d = q.shape
    kv_heads = k.shape[2]
    q = q.reshape(b, t, kv_heads, heads // kv_heads, d)
    scores = jnp.einsum("btkgd,bskd->bkgts", q, k, preferred_element_type=jnp.float32)
    scores = jnp.where(mask[:, None, None], capped(scores * (scale or d**-0.5), softcap), LOWEST)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bkgts,bskd->btkgd", weights, v).reshape(b, t, heads, d)


def attend_blocks(
    q, k, v, *, segments, window, kv_segments=None, positions=None, kv_tree=None, size: int | None = None,
    scale=None, softcap=0.0,
) -> jax.Array:  # fmt: skip
    """Attention of a sequence to itself, a block of queries at a time over the keys up to the block's end.

    Leaves out most of the products above the diagonal, and no array has [t, t] elements a head. size: queries
    in a block; the last one is filled up. The shares of a softmax are divided after the product with v.
    kv_segments, with positions: of the keys where these are more than the queries, by those of a prefix in front.
    kv_tree: see `allowed`; it needs positions. scale, softcap: see `attend`.
    """
    b, t, heads, d = q.shape
    front = k.shape[1] - t
    kv_segments = segments if kv_segments is None else kv_segments
    kv_heads = k.shape[2]
    groups = heads // kv_heads
    size = size or max(BLOCK, math.ceil(t / MOST_BLOCKS))
    count = math.ceil(t / size)
    q = jnp.pad(q, ((0, 0), (0, count * size - t), (0, 0), (0, 0)))
    q = q.reshape(b, count, size, kv_heads, groups, d).transpose(1, 0, 3, 4, 2, 5)
    q = q.reshape(count, b, kv_heads, groups * size, d)
    k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
    queries = jnp.pad(segments, ((0, 0), (0, count * size - t)))
    if positions is not None:
        positions = jnp.pad(positions, ((0, 0), (0, count * size - t)))
    blocks = []
    for i in range(count):
        first, end = i * size, front + min(t, (i + 1) * size)
        places = None if positions is None else positions[:, first : first + size]
        tree = None if kv_tree is None else tuple(x[:, :end] for x in kv_tree)
        mask = allowed(queries[:, first : first + size], kv_segments[:, :end], front + first, window, places, tree)
        mask = jnp.tile(mask, (1, groups, 1))[:, None]
        scores = jnp.einsum("bktd,bksd->bkts", q[i], k[:, :, :end], preferred_element_type=jnp.float32)
        scores = jnp.where(mask, capped(scores * (scale or d**-0.5), softcap), LOWEST)
        shares = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
        out = jnp.einsum("bkts,bksd->bktd", shares.astype(v.dtype), v[:, :, :end], preferred_element_type=jnp.float32)
        blocks.append((out / shares.sum(axis=-1, keepdims=True)).astype(v.dtype))
    out = jnp.stack(blocks).reshape(count, b, kv_heads, groups, size, d).transpose(1, 0, 4, 2, 3, 5)
    return out.reshape(b, count * size, heads, d)[:, :t]


def attend_cache(q, keys, values, layer, mask, used, *, scale: float | None = None, softcap: float = 0.0) -> jax.Array:
    """Attention to the first `used` slots of a cache, rounded up to blocks: the form for CPUs.

    q: [batch, t, heads, head_dim]; keys, values: [layers, batch, s, kv_heads, head_dim], s a multiple of KEYS; mask:
    [batch, t, s]; used: a scalar. Its time is that of what the cache holds, not of what it could. It has no gradient.
    scale, softcap: see `attend`.
    """
    b, t, heads, d = q.shape
    kv_heads = keys.shape[3]
    groups = heads // kv_heads
    q = q.reshape(b, t, kv_heads, groups, d).transpose(0, 2, 3, 1, 4).reshape(b, kv_heads, groups * t, d)

    def block(i, carry):
        highest, total, out = carry
        at, size = (layer, 0, i * KEYS, 0, 0), (1, b, KEYS, kv_heads, d)
        k, v = (jax.lax.dynamic_slice(x, at, size)[0] for x in (keys, values))
        seen = jax.lax.dynamic_slice_in_dim(mask, i * KEYS, KEYS, axis=2)
        scores = capped(_scores(q, k, t) * (scale or d**-0.5), softcap)
        scores = jnp.where(jnp.tile(seen, (1, groups, 1))[:, None], scores, LOWEST)
        new = jnp.maximum(highest, scores.max(-1))
        shares, less = jnp.exp(scores - new[..., None]), jnp.exp(highest - new)
        return new, total * less + shares.sum(-1), out * less[..., None] + _mix(shares, v, t)

    start = jnp.zeros(q.shape, jnp.float32)
    carry = jnp.full(q.shape[:3], LOWEST), start[..., 0], start
    _, total, out = jax.lax.fori_loop(0, (used + KEYS - 1) // KEYS, block, carry)
    out = (out / total[..., None]).astype(values.dtype).reshape(b, kv_heads, groups, t, d)
    return out.transpose(0, 3, 1, 2, 4).reshape(b, t, heads, d)


# For one query, sums over the cache as it lies: before a product of matrices XLA copies it, transposed.
def _scores(q, k, t: int) -> jax.Array:
    """[batch, kv_heads, n, d] x [batch, s, kv_heads, d] -> [batch, kv_heads, n, s] float32."""
    if t == 1:
        return jnp.moveaxis((q[:, None].astype(jnp.float32) * k[:, :, :, None]).sum(-1), 1, 3)
    return jnp.einsum("bknd,bskd->bkns", q, k, preferred_element_type=jnp.float32)


def _mix(shares, v, t: int) -> jax.Array:
    """[batch, kv_heads, n, s] float32 x [batch, s, kv_heads, d] -> [batch, kv_heads, n, d] float32."""
    if t == 1:
        return (jnp.moveaxis(shares, 3, 1)[..., None] * v[:, :, :, None]).sum(1)
    return jnp.einsum("bkns,bskd->bknd", shares.astype(v.dtype), v, preferred_element_type=jnp.float32)


def _attend_cudnn(q, k, v, mask, scale, softcap) -> jax.Array:
    """cuDNN's attention; documents go in as a mask, since jax's public call has no segment ids."""
    if q.dtype == jnp.float32 or jax.default_backend() != "gpu":
        raise UserError(
            "config.model.attention=cudnn needs an NVIDIA GPU and config.model.dtype=bfloat16; "
            f"here are {jax.default_backend()} and {q.dtype}. auto works everywhere"
        )
    if softcap:
        raise UserError("config.model.attention=cudnn has no soft caps, which this model has; auto has them")
    if k.shape[1] % 2 > q.shape[1] % 2:
        # Behind a prefix of odd length. Its backward pass takes even lengths only.
        k, v = (jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (k, v))
        mask = jnp.pad(mask, ((0, 0), (0, 0), (0, 1)))
    return jax.nn.dot_product_attention(q, k, v, mask=mask[:, None], scale=scale, implementation="cudnn")
