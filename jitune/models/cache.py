"""The KV cache: made empty, written to, read, grown and moved. `types.KVCache` says where what lies.

    cache = empty(rows, 128, windows=(512, 0), kv_heads=1, head_dim=256, dtype="bfloat16")
    cache, start = extend(cache, segments)            # t more places, and what segments they are of
    layer = append(cache, i, k, v, start)             # a layer's keys and values of them
    cache = grow(cache, 128)                          # 128 more places
    cache = move(cache, 7, source=cache)              # what was in place p is in p + 7

A layer with a window keeps a ring of a few more than its last places, however long the cache is: with a ring of 4 and
nothing in front, places 4, 5, 6 and 3 are in slots 0, 1, 2 and 3 when 7 are in use. Moving is turning the ring.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jitune.types import EVERYONE, KVCache, LayerKV, UserError

# Slots of a ring beyond its window: as many places may be taken back (by lowering `length`) and be written again.
SLACK = 32
RING = 64  # a ring's slots are a multiple of it
KINDS = ("", "int8")  # what keys and values are kept in: the model's dtype, or codes with a scale a head and token

jax.tree_util.register_dataclass(
    KVCache, data_fields=("layers", "segment_ids", "length"), meta_fields=("rings", "front", "turn")
)


def ring_of(window: int | None) -> int:
    """How many of its last places a layer with this window keeps: 512 -> 576; 0 (all of them) for no window."""
    return -(-(window + SLACK) // RING) * RING if window else 0


def check_kind(kind: str, where: str) -> None:
    """Raises UserError for a kind of cache that there is not."""
    if kind not in KINDS:
        raise UserError(f"{where}={kind!r} is not known; it is empty (the model's dtype) or {KINDS[1]}")


def empty(rows: int, capacity: int, *, windows: Sequence[int], kv_heads: int, head_dim: int, dtype,
          kind: str = "", turn: int = 0) -> KVCache:  # fmt: skip
    """A cache of nothing. windows: of each layer, 0 for none; kind: see KINDS; turn: see `KVCache`."""
    rings = tuple(ring_of(w) for w in windows)
    layers = []
    for ring in rings:
        shape = (rows, _slots(ring, 0, capacity), kv_heads, head_dim)
        if kind == "int8":
            codes, scales = jnp.zeros(shape, jnp.int8), jnp.zeros(shape[:-1], jnp.float32)
            layers.append(LayerKV(codes, codes, scales, scales))
        else:
            layers.append(LayerKV(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)))
    return KVCache(tuple(layers), jnp.zeros((rows, capacity), jnp.int32), jnp.zeros((), jnp.int32), rings, turn=turn)


def from_stacked(k, v, segment_ids, length, *, windows: Sequence[int] = ()) -> KVCache:
    """A cache of keys and values [layers, batch, places, kv_heads, head_dim], all of which are kept."""
    rings = tuple(0 for _ in (windows or k))
    return KVCache(tuple(map(LayerKV, k, v)), segment_ids, length, rings)


def _slots(ring: int, front: int, capacity: int) -> int:
    return min(front + ring, capacity) if ring else capacity


def wraps(cache: KVCache, i: int) -> bool:
    """Whether layer i has fewer slots than the cache has places."""
    return cache.layers[i].k.shape[1] < cache.segment_ids.shape[1]


def held(cache: KVCache, i: int, length) -> jax.Array:
    """The place whose token each slot of layer i has when `length` are in use: int32 [slots], -1 for none.

    A ring of 4 behind 2 in front, 8 in use: [0, 1, 6, 7, 4, 5].
    """
    slots = jnp.arange(cache.layers[i].k.shape[1])
    if not wraps(cache, i):
        return slots
    ring, front = cache.rings[i], cache.front
    newest = slots + ring * ((length - 1 - slots) // ring)
    return jnp.where(slots < front, slots, jnp.where(newest < front, -1, newest))


def slot_of(cache: KVCache, i: int, place):
    """The slot of layer i that the token of a place lies in."""
    if not wraps(cache, i):
        return place
    ring, front = cache.rings[i], cache.front
    return jnp.where(place < front, place, front + (place - front) % ring)


def extend(cache: KVCache, segments) -> tuple[KVCache, jax.Array]:
    """(the cache with these [batch, t] segments in its next places, the first of these places)."""
    start = cache.length
    ids = jax.lax.dynamic_update_slice(cache.segment_ids, segments.astype(jnp.int32), (0, start))
    return cache._replace(segment_ids=ids, length=start + segments.shape[1]), start


def encode(k, v) -> LayerKV:
    """Keys and values [..., kv_heads, head_dim] as int8, a scale a head and token, symmetric: the largest is 127."""

    def one(x):
        x = x.astype(jnp.float32)
        scale = jnp.abs(x).max(-1) / 127
        codes = jnp.round(x / jnp.where(scale > 0, scale, 1)[..., None])
        return codes.astype(jnp.int8), scale

    (k, k_scale), (v, v_scale) = one(k), one(v)
    return LayerKV(k, v, k_scale, v_scale)


def read(layer: LayerKV, dtype) -> tuple[jax.Array, jax.Array]:
    """(k, v) of a layer as numbers: [batch, slots, kv_heads, head_dim] each."""
    if layer.k_scale is None:
        return layer.k.astype(dtype), layer.v.astype(dtype)
    pairs = ((layer.k, layer.k_scale), (layer.v, layer.v_scale))
    k, v = ((codes * scale[..., None]).astype(dtype) for codes, scale in pairs)
    return k, v


def as_kept(layer: LayerKV, k, v) -> LayerKV:
    """Keys and values in the form in which a layer keeps its own."""
    return encode(k, v) if layer.k_scale is not None else LayerKV(k.astype(layer.k.dtype), v.astype(layer.v.dtype))


def append(cache: KVCache, i: int, new: LayerKV, start) -> LayerKV:
    """Layer i with t new tokens (see `as_kept`) in the places from `start` on; a ring keeps the last of them."""
    t = new.k.shape[1]
    layer = cache.layers[i]
    if t == 1 or not wraps(cache, i):
        at = slot_of(cache, i, start)

        def put(slots, x):
            return jax.lax.dynamic_update_slice(slots, x, (0, at) + (0,) * (x.ndim - 2))
    else:
        places = held(cache, i, start + t)
        fresh, index = places >= start, jnp.clip(places - start, 0, t - 1)

        def put(slots, x):
            return jnp.where(_along(fresh, x.ndim), jnp.take(x, index, axis=1), slots)

    return jax.tree.map(put, layer, new)


def fill(cache: KVCache, k, v) -> KVCache:
    """A new cache with a prefix in front, in every row: k, v [layers, n, kv_heads, head_dim].

    The cache has the places of the prefix among its own; what layers with a window keep of it is beside their rings.
    """
    count, rows, capacity = k.shape[1], *cache.segment_ids.shape
    layers = []
    for layer, ring, one_k, one_v in zip(cache.layers, cache.rings, k, v, strict=True):
        new = as_kept(layer, *(jnp.broadcast_to(x[None], (rows, *x.shape)) for x in (one_k, one_v)))
        more = _slots(ring, count, capacity) - layer.k.shape[1]
        layers.append(jax.tree.map(
            lambda slots, x, more=more: jax.lax.dynamic_update_slice(_longer(slots, more), x, (0,) * x.ndim), layer, new
        ))  # fmt: skip
    segments = cache.segment_ids.at[:, :count].set(EVERYONE)
    return cache._replace(layers=tuple(layers), segment_ids=segments, length=cache.length + count, front=count)


def _longer(x, more: int):
    return jnp.pad(x, ((0, 0), (0, more)) + ((0, 0),) * (x.ndim - 2)) if more else x


def grow(cache: KVCache, more: int) -> KVCache:
    """A copy with `more` empty places at its end; rings that are whole stay as they are."""
    capacity = cache.segment_ids.shape[1] + more
    layers = []
    for layer, ring in zip(cache.layers, cache.rings, strict=True):
        extra = _slots(ring, cache.front, capacity) - layer.k.shape[1]
        layers.append(jax.tree.map(lambda x, extra=extra: _longer(x, extra), layer))
    return cache._replace(layers=tuple(layers), segment_ids=_longer(cache.segment_ids, more))


def move(cache: KVCache, shift, *, source: KVCache) -> KVCache:
    """A cache of the shape of `cache` that holds in place p what `source` does in p - shift; those in front stay.

    What falls out at either end is lost. length: that of the source, and the shift.
    """
    front, length = cache.front, source.length + shift
    places = jnp.arange(cache.segment_ids.shape[1])
    origin, inside = places - shift, places < front
    whole = inside | ((origin >= front) & (origin < source.length))
    last = source.segment_ids.shape[1] - 1
    index = jnp.where(inside, places, jnp.clip(origin, 0, last))
    segments = jnp.where(whole, jnp.take(source.segment_ids, index, axis=1), 0)
    layers = []
    for i, layer in enumerate(source.layers):
        mine = held(cache, i, length)
        from_place = jnp.where(mine < front, jnp.maximum(mine, 0), jnp.clip(mine - shift, 0, last))
        index = slot_of(source, i, from_place)
        layers.append(jax.tree.map(lambda x, index=index: jnp.take(x, index, axis=1), layer))
    return cache._replace(layers=tuple(layers), segment_ids=segments, length=length)


def put_rows(cache: KVCache, new: KVCache, put) -> KVCache:
    """A cache with some rows of another of the same shape; put: `(old, new) -> array`, along the first axis."""
    layers = jax.tree.map(put, cache.layers, new.layers)
    return cache._replace(layers=layers, segment_ids=put(cache.segment_ids, new.segment_ids))


def repeat(cache: KVCache, copies: int) -> KVCache:
    """A cache with every row `copies` times, the copies of a row together."""
    layers, ids = jax.tree.map(lambda x: jnp.repeat(x, copies, axis=0), (cache.layers, cache.segment_ids))
    return cache._replace(layers=layers, segment_ids=ids)


def bytes_of(cache: KVCache) -> int:
    """Bytes of the keys and values with their scales; arrays or shapes of them."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(cache.layers))


def _along(mask, ndim: int):
    """[slots] as a mask of [batch, slots, ...]."""
    return mask.reshape((1, -1) + (1,) * (ndim - 2))
