"""Attention of a sequence that is split over the mesh's `context` axis: keys go round a ring of devices.

    with jax.set_mesh(make_mesh(context=8)):
        out = attend_ring(q, k, v, segments=segments, kv_segments=segments, window=None)   # what `attend` gives

Every device holds its part of the queries and meets the keys of one device after the other, as these are handed on
(ring attention, arXiv 2310.01889); the softmax is summed up on the way (arXiv 1805.02867, 2205.14135), forward and
backward in blocks. Memory is linear in a device's own part of the sequence: no array has scores of more than a block,
and keys of the whole sequence are nowhere. A block of which no query sees a key is left out, be it for causality,
documents or windows.

Causal queries at the end of a row have more to do than those at its start. So the devices i and n - 1 - i exchange the
second halves of their queries first: of halves 0 .. 2n - 1, device i has 2i and 2n - 1 - 2i, whose keys add up to as
many everywhere.

Letters in einsums: b batch, k kv heads, t query positions of a block (of all heads of a kv head, one after the other),
s key positions, d head_dim.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from jitune.models import backends
from jitune.types import BATCH_AXES, UserError

AXIS = "context"
BLOCK = 512  # queries, and keys, whose scores exist at once
LOWEST = float(jnp.finfo(jnp.float32).min)
LEAST, MOST = (int(n) for n in (jnp.iinfo(jnp.int32).min, jnp.iinfo(jnp.int32).max))


class Queries(NamedTuple):
    """Blocks of queries. q: [blocks, batch, kv_heads, groups * size, head_dim]; the others: [blocks, batch, size].

    segments: of their documents. places: where they stand among the keys of the row; positions: among those of a
    prefix.
    """

    q: Any
    segments: Any
    places: Any
    positions: Any


class Keys(NamedTuple):
    """Blocks of keys. k, v: [blocks, batch, kv_heads, size, head_dim]; the others: [blocks, batch, size].

    first, last: the segments that see a key are first .. last. places: where it stands.
    """

    k: Any
    v: Any
    first: Any
    last: Any
    places: Any


class Sums(NamedTuple):
    """The softmax so far. highest, total: [blocks, batch, kv_heads, groups * size]; out: with head_dim; float32."""

    highest: Any
    total: Any
    out: Any


class Rule(NamedTuple):
    """What scores are made with, besides queries and keys. window: int32, 0: none, traced. softcap: 0: none."""

    window: Any
    scale: float
    softcap: float


def parts(length: int) -> int:
    """Into how many parts a sequence of this length is split on the mesh that is set; 1: it is whole everywhere."""
    count = jax.sharding.get_abstract_mesh().shape.get(AXIS, 1)
    return count if length % count == 0 else 1


def attend_ring(q, k, v, *, segments, kv_segments, window, kind="auto", prefix=None, positions=None, ends=None,
                scale=None, softcap=0.0, start=None, windows=()) -> jax.Array:  # fmt: skip
    """`attention.attend` of a sequence to itself, where `parts` of it lie on several devices; the same arguments.

    Rows are split over the axes of a batch and heads over `tensor`, where these divide them. Raises UserError for
    kinds that are kernels of a library: they see one device's keys only.
    """
    if reason := backends.refused_split(kind):
        raise UserError(reason)
    del kv_segments, start, windows
    b, t, heads, d = q.shape
    mesh = jax.sharding.get_abstract_mesh()
    k, v, prefix = _split_heads(heads, mesh.shape["tensor"], k, v, prefix)
    places = jnp.broadcast_to(jnp.arange(t, dtype=jnp.int32), (b, t)) if ends is None else positions
    positions = places if positions is None else positions
    told = jnp.stack([segments, places, positions, segments if ends is None else ends], axis=-1).astype(jnp.int32)
    window = jnp.asarray(0 if window is None else window, jnp.int32)
    rows = BATCH_AXES if b % math.prod(mesh.shape[a] for a in BATCH_AXES) == 0 else None
    axis = "tensor" if k.shape[2] % mesh.shape["tensor"] == 0 else None
    split, front = P(rows, AXIS, axis, None), P(None, axis, None)
    run = jax.shard_map(
        partial(_attend_part, scale=scale or d**-0.5, softcap=softcap, count=mesh.shape[AXIS]),
        in_specs=(split, split, split, P(rows, AXIS, None), P(), None if prefix is None else (front, front)),
        out_specs=split, check_vma=False,
    )  # fmt: skip
    return run(q, k, v, told, window, prefix)


def _split_heads(heads: int, devices: int, k, v, prefix):
    """Keys and values with their heads repeated as often as it takes to split them over `devices`, where it can be."""
    times = devices // math.gcd(k.shape[2], devices)
    times = 1 if heads % (k.shape[2] * times) else times
    k, v, *front = (x if times == 1 else jnp.repeat(x, times, axis=-2) for x in (k, v, *(prefix or ())))
    return k, v, tuple(front) or None


def _attend_part(q, k, v, told, window, prefix, *, scale, softcap, count: int):
    """One device's part: q [batch, t, heads, head_dim], told [batch, t, (segment, place, position, end)]."""
    mine, asked = (_exchange(x, count) for x in (q, told[..., :3]))
    keys = (k, v, *(told[..., i] for i in (0, 3, 1)))
    return _exchange(_ring(mine, k, v, prefix, asked, keys[2:], window, scale, softcap, count), count)


def _exchange(x, count: int):
    """Swaps the second half of [batch, t, ...] with that of the device opposite: its own inverse."""
    if x.shape[1] % 2 or count == 1:
        return x
    first, second = jnp.split(x, 2, axis=1)
    second = lax.ppermute(second, AXIS, [(i, count - 1 - i) for i in range(count)])
    return jnp.concatenate([first, second], axis=1)


def _hand_on(arrays, count: int):
    """Every device's arrays to the next one."""
    return lax.ppermute(arrays, AXIS, [(i, (i + 1) % count) for i in range(count)])


def _hand_on_keys(keys: Keys, count: int) -> Keys:
    k, v, told = _hand_on((keys.k, keys.v, jnp.stack(keys[2:])), count)
    return Keys(k, v, *told)


@partial(jax.custom_vjp, nondiff_argnums=(7, 8, 9))
def _ring(q, k, v, prefix, asked, told, window, scale, softcap, count):
    """Attention of this device's queries to the keys of all. asked: [batch, t, 3], told: (first, last, places)."""
    return _forward(q, k, v, prefix, asked, told, window, scale, softcap, count)[0]


def _forward(q, k, v, prefix, asked, told, window, scale, softcap, count):
    # What does not depend on the layer would be taken out of the loop over layers: the masks of all blocks at once.
    q, k, v, asked, told, window = lax.optimization_barrier((q, k, v, asked, told, window))
    rule = Rule(window, scale, softcap)
    queries, keys = cut_queries(q, asked, k.shape[2]), cut_keys(k, v, *told)
    shape = queries.q.shape
    sums = Sums(jnp.full(shape[:-1], LOWEST), jnp.zeros(shape[:-1]), jnp.zeros(shape, jnp.float32))
    if prefix is not None:
        sums = add(queries._replace(places=queries.positions), _in_front(prefix, q), sums, rule)

    def turn(carry, _):
        keys, sums = carry
        return (_hand_on_keys(keys, count), add(queries, keys, sums, rule)), None

    (keys, sums), _ = lax.scan(turn, (keys, sums), length=count - 1)
    sums = add(queries, keys, sums, rule)
    total = jnp.where(sums.total > 0, sums.total, 1.0)  # what fills up the last block sees nothing
    out = _join_queries((sums.out / total[..., None]).astype(v.dtype), q.shape)
    return out, (q, k, v, prefix, asked, told, window, out, sums.highest + jnp.log(total))


def _backward(scale, softcap, count, kept, d_out):
    q, k, v, prefix, asked, told, window, out, norm, d_out = lax.optimization_barrier((*kept, d_out))
    rule = Rule(window, scale, softcap)
    queries, keys = cut_queries(q, asked, k.shape[2]), cut_keys(k, v, *told)
    inner = (d_out.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1, keepdims=True)
    d_out, inner = (cut_queries(x, asked, k.shape[2]).q for x in (d_out, inner))
    given = (d_out, norm, inner[..., 0])
    d_q, d_prefix = jnp.zeros(queries.q.shape, jnp.float32), None
    if prefix is not None:
        front = _in_front(prefix, q)
        d_q, found = gradients(queries._replace(places=queries.positions), front, given, d_q, rule)
        d_prefix = tuple(_join_keys(x, len(p)).sum(0).astype(p.dtype) for x, p in zip(found, prefix, strict=True))
    nothing = (jnp.zeros(keys.k.shape, jnp.float32),) * 2

    def turn(carry, _):
        keys, d_q, d_keys = carry
        d_q, found = gradients(queries, keys, given, d_q, rule)
        return (_hand_on_keys(keys, count), d_q, _hand_on(jax.tree.map(jnp.add, d_keys, found), count)), None

    (keys, d_q, d_keys), _ = lax.scan(turn, (keys, d_q, nothing), length=count - 1)
    d_q, found = gradients(queries, keys, given, d_q, rule)
    # The keys have come round but for one place, and this one takes their gradients home.
    d_k, d_v = (_join_keys(x, k.shape[1]) for x in _hand_on(jax.tree.map(jnp.add, d_keys, found), count))
    d_q = _join_queries(d_q, q.shape).astype(q.dtype)
    return d_q, d_k.astype(k.dtype), d_v.astype(v.dtype), d_prefix, None, None, None


_ring.defvjp(_forward, _backward)


# Blocks.


def cut_queries(x, asked, kv_heads: int) -> Queries:
    """[batch, t, heads, d] and [batch, t, (segment, place, position)] in blocks; fillings are of no segment."""
    b, t, heads, d = x.shape
    size, fill = _blocks(t)
    x = jnp.pad(x, ((0, 0), (0, fill), (0, 0), (0, 0)))
    x = x.reshape(b, -1, size, kv_heads, heads // kv_heads, d).transpose(1, 0, 3, 4, 2, 5)
    asked = jnp.pad(asked, ((0, 0), (0, fill), (0, 0)), constant_values=LEAST)
    told = jnp.moveaxis(asked.reshape(b, -1, size, 3), (1, 3), (0, 1))
    return Queries(x.reshape(len(x), b, kv_heads, -1, d), *(told[:, i] for i in range(3)))


def _join_queries(x, shape):
    """The inverse of `cut_queries`, of arrays like q."""
    b, t, heads, d = shape
    count, _, kv_heads, _, _ = x.shape
    x = x.reshape(count, b, kv_heads, heads // kv_heads, -1, d).transpose(1, 0, 4, 2, 3, 5)
    return x.reshape(b, -1, heads, d)[:, :t]


def cut_keys(k, v, first, last, places) -> Keys:
    """[batch, s, kv_heads, d] and [batch, s] in blocks; no segment sees what fills up the last one."""
    b, s, heads, d = k.shape
    size, fill = _blocks(s)
    k, v = (jnp.pad(x, ((0, 0), (0, fill), (0, 0), (0, 0))).reshape(b, -1, size, heads, d) for x in (k, v))
    first, last, places = (
        jnp.pad(x, ((0, 0), (0, fill)), constant_values=value).reshape(b, -1, size).swapaxes(0, 1)
        for x, value in ((first, MOST), (last, LEAST), (places, 0))
    )
    return Keys(*(x.transpose(1, 0, 3, 2, 4) for x in (k, v)), first, last, places)


def _join_keys(x, length: int):
    """The inverse of `cut_keys`, of arrays like k."""
    count, b, heads, size, d = x.shape
    return x.transpose(1, 0, 3, 2, 4).reshape(b, count * size, heads, d)[:, :length]


def _blocks(length: int) -> tuple[int, int]:
    """(positions in a block, positions that fill up the last one)."""
    count = math.ceil(length / BLOCK)
    size = math.ceil(length / count)
    return size, size * count - length


def _in_front(prefix, q) -> Keys:
    """The keys of a prefix for every row: all segments see them, and entry i is position i."""
    k, v = (jnp.broadcast_to(x.astype(q.dtype), (len(q), *x.shape)) for x in prefix)
    told = (jnp.full(k.shape[:2], value, jnp.int32) for value in (LEAST + 1, MOST))
    return cut_keys(k, v, *told, jnp.broadcast_to(jnp.arange(k.shape[1]), k.shape[:2]))


def _seen(segments, places, keys: Keys, rule: Rule) -> jax.Array:
    """Which keys of a block the queries of a block see: [batch, queries, keys]."""
    segments, distance = segments[:, :, None], places[:, :, None] - keys.places[:, None]
    mine = (keys.first[:, None] <= segments) & (segments <= keys.last[:, None])
    return mine & (distance >= 0) & ((distance < rule.window) | (rule.window == 0))


def _score(q, keys: Keys, rule: Rule):
    scores = _product("bktd,bksd->bkts", q, keys.k) * rule.scale
    return rule.softcap * jnp.tanh(scores / rule.softcap) if rule.softcap else scores


def _product(letters: str, x, y):
    """float32; exact where the factors are, in the backward pass too, which is traced outside of what asks for it."""
    exact = lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return jnp.einsum(letters, x, y, precision=exact, preferred_element_type=jnp.float32)


def _heads(mask, like):
    """[batch, size, s] -> [batch, 1, groups * size, s]."""
    return jnp.tile(mask, (1, like.shape[2] // mask.shape[1], 1))[:, None]


def add(queries: Queries, keys: Keys, sums: Sums, rule: Rule) -> Sums:
    """The sums with these keys."""

    def of_block(_, block):
        (q, segments, places, _), sums = block

        def grow(mask, keys, sums):
            mask = _heads(mask, q)
            scores = jnp.where(mask, _score(q, keys, rule), LOWEST)
            highest = jnp.maximum(sums.highest, scores.max(-1))
            shares = jnp.where(mask, jnp.exp(scores - highest[..., None]), 0.0)
            less = jnp.exp(sums.highest - highest)
            new = _product("bkts,bksd->bktd", shares.astype(keys.v.dtype), keys.v)
            return Sums(highest, sums.total * less + shares.sum(-1), sums.out * less[..., None] + new)

        def meet(sums, keys):
            mask = _seen(segments, places, keys, rule)
            return lax.cond(mask.any(), grow, lambda mask, keys, sums: sums, mask, keys, sums), None

        return None, lax.scan(meet, sums, keys)[0]

    return lax.scan(of_block, None, (queries, sums))[1]


def gradients(queries: Queries, keys: Keys, given, d_q, rule: Rule):
    """(d_q with what comes of these keys, (gradients of k and v)), float32.

    given: of the queries, in blocks: the gradient of the output; log-sum-exp of the scores; the product of the output
    with its gradient (arXiv 2205.14135, algorithm 4).
    """

    def of_block(d_q, keys):
        def meet(d_keys, block):
            (q, segments, places, _), (d_out, norm, inner), d_q = block

            def grade(mask, d_keys, d_q):
                mask, scores = _heads(mask, q), _score(q, keys, rule)
                shares = jnp.where(mask, jnp.exp(scores - norm[..., None]), 0.0)
                d_v = _product("bkts,bktd->bksd", shares.astype(q.dtype), d_out)
                d_scores = shares * (_product("bktd,bksd->bkts", d_out, keys.v) - inner[..., None])
                if rule.softcap:
                    d_scores *= 1.0 - jnp.square(scores / rule.softcap)
                d_scores = (d_scores * rule.scale).astype(q.dtype)
                d_k = _product("bkts,bktd->bksd", d_scores, q)
                d_q += _product("bkts,bksd->bktd", d_scores, keys.k)
                return (d_keys[0] + d_k, d_keys[1] + d_v), d_q

            mask = _seen(segments, places, keys, rule)
            return lax.cond(mask.any(), grade, lambda mask, d_keys, d_q: (d_keys, d_q), mask, d_keys, d_q)

        return lax.scan(meet, (jnp.zeros(keys.k.shape, jnp.float32),) * 2, (queries, given, d_q))[::-1]

    return lax.scan(of_block, d_q, keys)
