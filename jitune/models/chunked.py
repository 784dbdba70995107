"""Attention whose memory grows with the sequence and not with its square, in plain JAX, on any device.

    attend_chunked(q, k, v, segments=segments, window=None)      # the same as attend_plain over its mask

Scores are made for one chunk of queries and one of keys at a time, by a softmax that is carried on from chunk to
chunk, and are made again in the backward pass (Rabe and Staats, arXiv 2112.05682; Dao et al., arXiv 2205.14135). Chunks
that no query of a batch sees are left out: those above the diagonal, of other documents, outside of the window.

Letters in einsums: b batch, k kv heads, n queries of a chunk times query heads a kv head, s keys, d head_dim.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jitune.models.masks import LOWEST, allowed, capped
from jitune.types import EVERYONE

# Queries, and keys, of a chunk: the fastest of 128, 256 and 512 on a CPU, from 1,024 to 8,192 tokens.
CHUNK = 256


class Rules(NamedTuple):
    """Static numbers: of a chunk's queries and keys, what scores are multiplied by, their cap (0: none).

    front: the index of the first query among the keys. pairs: ((chunk of queries, chunk of keys), ...) that are gone
    through, in order.
    """

    size: int
    scale: float
    softcap: float
    front: int
    pairs: tuple[tuple[int, int], ...]


class Seen(NamedTuple):
    """What decides which keys a query sees, filled up to whole chunks; see `masks.allowed`."""

    segments: Any
    kv_segments: Any
    window: Any
    positions: Any
    kv_tree: Any


def attend_chunked(
    q, k, v, *, segments, window, kv_segments=None, positions=None, kv_tree=None, scale=None, softcap=0.0,
    size: int = CHUNK,
) -> jax.Array:  # fmt: skip
    """Causal attention inside segments, chunk by chunk; see `attention.attend` for the arguments.

    The queries are the last of the keys' tokens, behind those of a prefix. window may be traced. kv_tree: see
    `masks.allowed`. size: of chunks.
    """
    t, s = q.shape[1], k.shape[1]
    size = min(size, -(-t // 16) * 16)
    rows, columns = -(-t // size) * size - t, -(-s // size) * size - s
    seen = Seen(
        _fill(segments, rows), _fill(segments if kv_segments is None else kv_segments, columns),
        jnp.asarray(0 if window is None else window),
        None if positions is None else _fill(positions, rows),
        None if kv_tree is None else tuple(_fill(x, columns) for x in kv_tree),
    )  # fmt: skip
    pairs = tuple((i, j) for i in range((t + rows) // size) for j in range((s + columns) // size)
                  if j * size < s - t + (i + 1) * size)  # fmt: skip
    rules = Rules(size, float(scale or q.shape[-1] ** -0.5), float(softcap), s - t, pairs)
    return _attend(rules, _fill(q, rows), _fill(k, columns), _fill(v, columns), seen)[:, :t]


def _fill(x, count: int) -> jax.Array:
    """Zeros behind axis 1: tokens of padding, which no other token sees."""
    return jnp.pad(x, [(0, count if axis == 1 else 0) for axis in range(x.ndim)])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(rules: Rules, q, k, v, seen: Seen) -> jax.Array:
    return _run(rules, q, k, v, seen)[0]


def _forward(rules: Rules, q, k, v, seen: Seen):
    """(the result, what the backward pass needs): nothing of it has both sequences."""
    out, sums = _run(rules, q, k, v, seen)
    return out, (q, k, v, seen, out, sums)


# To jax one operation: a policy around a layer that keeps products would keep all scores if it saw them.
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(rules: Rules, q, k, v, seen: Seen):
    """(the result, log of the sum of exp(scores) of each query)."""
    q, k, v, seen = jax.lax.optimization_barrier((q, k, v, seen))  # or jax would make all masks of the scan beforehand
    queries, keys, values = _queries(q, k, rules.size), _keys(k, rules.size), _keys(v, rules.size)
    read = _reader(seen, rules, q.shape[2] // k.shape[2])

    def add(i, j, highest, total, out):
        scores = read(queries[i], keys[j], i, j)
        new = jnp.maximum(highest, scores.max(-1))
        shares, less = jnp.exp(scores - new[..., None]), jnp.exp(highest - new)
        out = out * less[..., None] + _dot("bkns,bksd->bknd", shares.astype(v.dtype), values[j])
        return new, total * less + shares.sum(-1), out

    def step(carry, given):
        i, j, live = given
        new = jax.lax.cond(live, add, lambda i, j, *old: old, i, j, *(x[i] for x in carry))
        return tuple(x.at[i].set(y) for x, y in zip(carry, new, strict=True)), None

    zeros = jnp.zeros(queries.shape, jnp.float32)
    start = jnp.full(zeros.shape[:-1], LOWEST), zeros[..., 0], zeros
    (highest, total, out), _ = jax.lax.scan(step, start, _steps(seen, rules))
    return _back((out / total[..., None]).astype(q.dtype), q.shape), highest + jnp.log(total)


def _no_gradient(*_):
    raise NotImplementedError("attention in chunks has no second derivative")


_run.defvjp(_no_gradient, _no_gradient)


def _backward(rules: Rules, kept, cotangent):
    q, k, v, seen, out, sums = jax.lax.optimization_barrier(kept)
    queries, keys, values = _queries(q, k, rules.size), _keys(k, rules.size), _keys(v, rules.size)
    given = _queries(cotangent.astype(q.dtype), k, rules.size)
    read = _reader(seen, rules, q.shape[2] // k.shape[2])
    at = jnp.sum(_queries(out, k, rules.size).astype(jnp.float32) * given.astype(jnp.float32), axis=-1)

    def add(i, j, to_row, to_key, to_value):
        row, key, g = queries[i], keys[j], given[i]
        scores = read(row, key, i, j)
        shares = jnp.exp(scores - sums[i][..., None])
        towards = shares * (_dot("bknd,bksd->bkns", g, values[j]) - at[i][..., None])
        if rules.softcap:
            towards *= 1 - jnp.square(jnp.where(scores > LOWEST, scores, 0) / rules.softcap)
        towards = (towards * rules.scale).astype(q.dtype)
        return (to_row + _dot("bkns,bksd->bknd", towards, key), to_key + _dot("bkns,bknd->bksd", towards, row),
                to_value + _dot("bkns,bknd->bksd", shares.astype(v.dtype), g))  # fmt: skip

    def step(carry, numbers):
        i, j, live = numbers
        places = i, j, j
        old = (x[place] for x, place in zip(carry, places, strict=True))
        new = jax.lax.cond(live, add, lambda i, j, *old: old, i, j, *old)
        return tuple(x.at[place].set(y) for x, place, y in zip(carry, places, new, strict=True)), None

    start = tuple(jnp.zeros(x.shape, jnp.float32) for x in (queries, keys, values))
    (to_rows, to_keys, to_values), _ = jax.lax.scan(step, start, _steps(seen, rules))
    return _back(to_rows.astype(q.dtype), q.shape), _side(to_keys, k), _side(to_values, v), None


_attend.defvjp(_forward, _backward)


def _steps(seen: Seen, rules: Rules):
    """(chunk of queries, chunk of keys, whether there is anything to see), [pairs] each."""
    i, j = np.asarray(rules.pairs, np.int32).T
    return jnp.asarray(i), jnp.asarray(j), _live(seen, rules)[i, j]


def _live(seen: Seen, rules: Rules) -> jax.Array:
    """[chunks of queries, chunks of keys] bool: whether any query of the batch may see any key there."""
    size = rules.size
    ends = seen.kv_segments if seen.kv_tree is None else seen.kv_tree[0]
    lowest, highest = (_parts(x, size) for x in (seen.kv_segments, jnp.maximum(ends, seen.kv_segments)))
    queries = _parts(seen.segments, size)
    low, high = lowest.min(-1)[:, None], highest.max(-1)[:, None]
    live = (low <= queries.max(-1)[:, :, None]) & (queries.min(-1)[:, :, None] <= high)
    live = (live | (lowest == EVERYONE).any(-1)[:, None]).any(0)
    first = rules.front + jnp.arange(live.shape[0])[:, None] * size
    keys = jnp.arange(live.shape[1])[None, :] * size
    live &= keys <= first + size - 1
    if seen.positions is None:
        live &= (seen.window == 0) | (first - (keys + size - 1) < seen.window)
    return live


def _parts(x, size: int) -> jax.Array:
    """[batch, n] -> [batch, chunks, size]."""
    return x.reshape(len(x), -1, size)


def _reader(seen: Seen, rules: Rules, groups: int):
    """The function from a chunk of queries and one of keys, with their numbers, to scores: LOWEST where unseen."""

    def read(row, key, i, j):
        def cut(x, number):
            return None if x is None else jax.lax.dynamic_slice_in_dim(x, number * rules.size, rules.size, axis=1)

        tree = None if seen.kv_tree is None else tuple(cut(x, j) for x in seen.kv_tree)
        mask = allowed(cut(seen.segments, i), cut(seen.kv_segments, j), rules.front + i * rules.size, seen.window,
                       cut(seen.positions, i), tree, first=j * rules.size)  # fmt: skip
        scores = capped(_dot("bknd,bksd->bkns", row, key) * rules.scale, rules.softcap)
        return jnp.where(jnp.tile(mask, (1, groups, 1))[:, None], scores, LOWEST)

    return read


def _dot(letters: str, a, b) -> jax.Array:
    # The backward pass is traced where no context says any more that float32 products are exact.
    exact = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return jnp.einsum(letters, a, b, preferred_element_type=jnp.float32, precision=exact)


def _queries(q, k, size: int) -> jax.Array:
    """[batch, t, heads, d] -> [chunks, batch, kv_heads, groups * size, d]."""
    b, t, heads, d = q.shape
    q = q.reshape(b, t // size, size, k.shape[2], heads // k.shape[2], d).transpose(1, 0, 3, 4, 2, 5)
    return q.reshape(t // size, b, k.shape[2], -1, d)


def _back(x, shape) -> jax.Array:
    """The inverse of `_queries`."""
    b, t, heads, d = shape
    count, _, kv_heads, _, _ = x.shape
    x = x.reshape(count, b, kv_heads, heads // kv_heads, t // count, d).transpose(1, 0, 4, 2, 3, 5)
    return x.reshape(shape)


def _keys(k, size: int) -> jax.Array:
    """[batch, s, kv_heads, d] -> [chunks, batch, kv_heads, size, d]."""
    b, s, kv_heads, d = k.shape
    return k.reshape(b, s // size, size, kv_heads, d).transpose(1, 0, 3, 2, 4)


def _side(x, like) -> jax.Array:
    """The inverse of `_keys`, in the dtype of `like`."""
    return x.transpose(1, 0, 3, 2, 4).reshape(like.shape).astype(like.dtype)
