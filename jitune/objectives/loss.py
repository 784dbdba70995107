"""Token-level cross-entropy without the logits of a whole batch, and plain logits for small inputs."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp

from jitune.types import Batch, Model


def logits(model: Model, params, tokens, *, segment_ids=None, positions=None) -> jax.Array:
    """Logits of a batch of tokens.

    tokens: [batch, seq] int; segment_ids and positions: [batch, seq], by default one document that starts
    at position 0. Returns [batch, seq, vocab], float32. Compiled once for a `Model` object and a shape.
    """
    batch: Batch = {"tokens": jnp.asarray(tokens, jnp.int32)}
    if segment_ids is not None:
        batch["segment_ids"] = jnp.asarray(segment_ids, jnp.int32)
    if positions is not None:
        batch["positions"] = jnp.asarray(positions, jnp.int32)
    return _logits(params, batch, model=model)


@partial(jax.jit, static_argnames="model")
def _logits(params, batch: Batch, *, model: Model) -> jax.Array:
    return model.unembed(params, model.hidden(params, batch)[0])


def token_log_probs(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """log p(target): logits [..., vocab] float32, targets [...] -> [...]."""
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def chunked(function, hidden, targets, weights, *, chunk: int):
    """Sums `function(hidden, targets, weights)` over chunks of the sequence axis.

    hidden: [batch, seq, dim]; targets, weights: [batch, seq]. A chunk has about `chunk` tokens; its
    intermediate values are computed again in the backward pass, so that neither pass holds
    [batch, seq, vocab]. The batch axis stays whole, so that its sharding does.
    """
    rows, seq = targets.shape
    width = max(1, min(seq, chunk // rows))
    count = math.ceil(seq / width)
    pad = count * width - seq

    def cut(x):
        x = jnp.pad(x, ((0, 0), (0, pad)) + ((0, 0),) * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(rows, count, width, *x.shape[2:]), 1, 0)

    if count == 1:
        return function(hidden, targets, weights)
    body = jax.checkpoint(function, prevent_cse=False)
    _, parts = jax.lax.scan(lambda _, part: (None, body(*part)), None, (cut(hidden), cut(targets), cut(weights)))
    return jax.tree.map(lambda x: x.sum(0), parts)
