"""Causal attention inside documents, by whichever backend is asked for: `attend(q, k, v, ..., kind="auto")`.

| kind | what it is |
|---|---|
| auto | xla, or chunked for long rows: see `backends.form` |
| xla | products by XLA: blocks for rows above BLOCK tokens, else plain |
| plain | all scores at once; the form that the others are compared with |
| blocks | a block of queries at a time over the keys up to its end |
| chunked | chunks of queries and of keys; memory grows with the row, not with its square: see `chunked` |
| cudnn, pallas, splash, tokamax | kernels: see `kernels` |

Letters in einsums: b batch, t query positions, s key positions, k kv heads, g query heads for each kv head, d head_dim.
"""

from __future__ import annotations

import math
import warnings
from functools import partial

import jax
import jax.numpy as jnp

from jitune.models import backends, kernels
from jitune.models.chunked import attend_chunked
from jitune.models.masks import LOWEST, allowed, capped
from jitune.types import EVERYONE, FallsBack, UserError

# Queries in a block: fewer save more of the products above the diagonal, and take longer to compile.
BLOCK, MOST_BLOCKS = 128, 8


def attend(
    q, k, v, *, segments, kv_segments, start, window, kind="auto", prefix=None, positions=None, ends=None,
    scale=None, softcap=0.0, windows=None,
) -> jax.Array:  # fmt: skip
    """Causal attention inside segments: float32 scores and softmax, [batch, t, heads, head_dim] as q.

    q: [batch, t, heads, head_dim]; k, v: [batch, s, kv_heads, head_dim]; segments [batch, t] and kv_segments
    [batch, s]. Query i stands at key index start + i; start None: queries and keys are of the same tokens. It sees the
    keys of its own segment at its index or before, the last `window` of them, itself included; None, 0: all.

    kind, which holds where start is None (it is plain elsewhere): see above. All honour all of these: where a kernel
    has no form of one, the call runs as auto, and a `FallsBack` warns of it. Raises UserError for a kernel that cannot
    run here at all: see `backends.refused`.
    prefix: (k, v), [n, kv_heads, head_dim] each, in front of every row's keys where start is None, for all segments.
    positions: [batch, t], the queries' in their documents, those of the prefix counted; they are needed with it, with
    kv_segments that may be EVERYONE, and with ends.
    ends: [batch, t], the last segment that sees a token, where start is None; None: each token's own alone.
    scale: of the scores, head_dim ** -0.5 by default. softcap: a score s becomes softcap * tanh(s / softcap) before the
    mask (Gemma 2); 0: it stays. windows: all that a traced window can be, which kernels need to know.
    """
    given = {"segments": segments, "kv_segments": kv_segments, "start": start, "prefix": prefix, "positions": positions,
             "ends": ends, "scale": scale or q.shape[-1] ** -0.5, "softcap": softcap}  # fmt: skip
    if start is not None:
        return _compute("plain", q, k, v, window=window, **given)
    if kind in backends.BACKENDS:
        if isinstance(window, jax.Array) and windows and "traced window" in backends.BACKENDS[kind].lacks:
            each = [partial(attend, window=w, kind=kind, **given) for w in windows]
            return jax.lax.switch(jnp.argmax(jnp.asarray(windows) == window), each, q, k, v)
        kind = "auto" if _falls_back(kind, q, window, prefix, ends, softcap) else kind
    return _compute(backends.form(kind, q.shape[1], jax.default_backend()), q, k, v, window=window, **given)


def _compute(
    kind: str, q, k, v, *, segments, kv_segments, start, window, prefix, positions, ends, scale, softcap
) -> jax.Array:
    """`attend` by a kind that can: no auto."""
    front = 0
    if prefix is not None:
        front = prefix[0].shape[0]
        k, v = (_prepend(a, b) for a, b in zip(prefix, (k, v), strict=True))
        kv_segments = jnp.pad(kv_segments, ((0, 0), (front, 0)), constant_values=EVERYONE)
    kv_tree = None if ends is None else _tree(ends, positions, front)
    see = partial(allowed, segments, kv_segments, front if start is None else start, window, positions, kv_tree)
    if kind in backends.BACKENDS:
        return kernels.run(kind, q, k, v, segments, see, window=window, scale=scale, softcap=softcap)
    if kind == "chunked" or (kind in ("xla", "blocks") and q.shape[1] > BLOCK):
        parts = attend_chunked if kind == "chunked" else attend_blocks
        more = {"kv_segments": kv_segments, "positions": positions, "kv_tree": kv_tree} if front or kv_tree else {}
        return parts(q, k, v, segments=segments, window=window, scale=scale, softcap=softcap, **more)
    return attend_plain(q, k, v, see(), scale=scale, softcap=softcap)


def _falls_back(kind: str, q, window, prefix, ends, softcap: float) -> bool:
    """Whether a call runs as auto, of which a warning tells. Raises UserError where the kernel could run none."""
    reason = backends.refused(
        kind, platform=jax.default_backend(), dtype=str(q.dtype), head_dim=q.shape[-1], softcap=softcap)
    if reason:
        raise UserError(reason)
    traced = isinstance(window, jax.Array)
    # A kernel would gather sequences that are split over devices.
    split = jax.sharding.get_abstract_mesh().shape.get("context", 1) > 1
    needs = {"window": not traced and window, "traced window": traced, "prefix": prefix is not None,
             "tree": ends is not None, "split": split}  # fmt: skip
    reason = backends.lacking(kind, {name for name, needed in needs.items() if needed})
    if reason:
        warnings.warn(f"config.model.attention={kind} {reason}: where they are, attention runs as auto", FallsBack,
                      stacklevel=1)  # fmt: skip
    return bool(reason)


def _prepend(first, rest) -> jax.Array:
    """[n, kv_heads, head_dim] in front of [batch, s, kv_heads, head_dim], in the dtype of the latter."""
    # Repeated before it is cast, so that its gradient is summed over the batch in float32.
    rows = jnp.broadcast_to(first.astype(jnp.promote_types(first.dtype, jnp.float32)), (len(rest), *first.shape))
    return jnp.concatenate([rows.astype(rest.dtype), rest], axis=1)


def _tree(ends, positions, front: int):
    """(ends, positions) of the keys, [batch, front + t] each: those in front are not the tree's."""
    places = jnp.broadcast_to(jnp.arange(front), (len(positions), front))
    return jnp.pad(ends, ((0, 0), (front, 0)), constant_values=EVERYONE), jnp.concatenate([places, positions], axis=1)


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


