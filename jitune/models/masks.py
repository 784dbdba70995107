"""Which keys a query sees, and what becomes of a score: what all forms of attention share.

    allowed(segments, segments, 0, None)      # [[1, 1, 2]] -> [[[1, 0, 0], [1, 1, 0], [0, 0, 1]]], as bool
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jitune.types import EVERYONE

LOWEST = jnp.finfo(jnp.float32).min


def allowed(segments, kv_segments, start, window, positions=None, kv_tree=None, *, first=0) -> jax.Array:
    """Which keys a query sees, [batch, t, s] bool; see `attend`. Without positions no key is for EVERYONE.

    segments [batch, t] and kv_segments [batch, s] of queries and keys, which are those from the index `first` on.
    kv_tree: (ends, positions) of the keys where segments share tokens; else None.
    """
    places = first + jnp.arange(kv_segments.shape[1])
    distance = (start + jnp.arange(segments.shape[1]))[:, None] - places[None, :]
    near = distance >= 0
    if positions is not None:
        everyone = (kv_segments == EVERYONE)[:, None, :]
        # Other documents, or padding, lie between a prefix and most of the queries.
        distance = jnp.where(everyone, positions[:, :, None] - places, distance)
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
