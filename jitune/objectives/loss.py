"""Token-level cross-entropy without the logits of a whole batch, and plain logits for small inputs."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jitune.models import context_attention
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


def score_targets(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(log p(target), whether no token is likelier): logits [..., vocab] float32, targets [...] -> [...] each."""
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    highest = jax.lax.stop_gradient(logits.max(axis=-1))
    total = jnp.exp(logits - highest[..., None]).sum(axis=-1)
    return chosen - highest - jnp.log(total), chosen >= highest


def cut(x, chunk: int):
    """[rows, seq, ...] -> [chunks, rows, width, ...]: chunks of about `chunk` tokens, the last filled up with zeros.

    Where the mesh splits the sequence, a chunk has tokens of every part, so that all devices work on it and no hidden
    state moves: of tokens 0 .. 7 on two devices, the first of two chunks is 0 1 4 5.
    """
    (rows, seq, *more), parts = x.shape, context_attention.parts(x.shape[1])
    width = max(1, min(seq // parts, chunk // rows // parts))
    x = x.reshape(rows, parts, seq // parts, *more)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, -(seq // parts) % width)) + ((0, 0),) * len(more))
    x = jnp.moveaxis(x.reshape(rows, parts, -1, width, *more), 2, 0)
    return x.reshape(-1, rows, parts * width, *more)


def join(chunks, seq: int):
    """The inverse of `cut`: [chunks, rows, width, ...] -> [rows, seq, ...]."""
    (count, rows, width, *more), parts = chunks.shape, context_attention.parts(seq)
    x = jnp.moveaxis(chunks.reshape(count, rows, parts, width // parts, *more), 0, 2)
    return x.reshape(rows, parts, -1, *more)[:, :, : seq // parts].reshape(rows, seq, *more)


def chunked(function, hidden, targets, weights, *, chunk: int):
    """Sums `function(hidden, targets, weights) -> (loss, more)` over chunks of the sequence axis.

    hidden: [batch, seq, dim]; weights: [batch, seq]; targets: an array or a tree of arrays [batch, seq, ...] of
    any dtype, such as the hidden states of a teacher, which have no gradient; loss: a scalar, the only output that
    has one. A chunk has about `chunk` tokens. Its gradient is taken together with its loss, while its logits
    are there: neither pass holds [batch, seq, vocab], and no product is taken twice (the fused loss of Liger
    Kernel, arXiv 2410.10989). The batch axis stays whole, so that its sharding does.
    """
    targets = jax.lax.stop_gradient(targets)
    parts = jax.tree.map(partial(cut, chunk=chunk), (hidden, weights, targets))
    if len(parts[1]) == 1:
        return function(hidden, targets, weights)
    # The head, which the function closes over, becomes an argument, for its gradient is a sum over the chunks.
    pure, closed = jax.closure_convert(
        lambda hidden, weights, targets: function(hidden, targets, weights), *jax.tree.map(lambda part: part[0], parts)
    )
    return _sum_chunks(pure, parts, closed)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_chunks(function, parts, closed):
    """parts: (hidden, weights, targets), each [chunks, ...]; closed: the arrays that the function takes besides."""
    return _scan_sum(lambda part: (function(*part, *closed), None), parts)[0]


def _scan_sum(function, parts):
    """Scans `function(part) -> (x, y)` over the leading axis of parts; returns (the sum of x, all y)."""
    shapes, _ = jax.eval_shape(function, jax.tree.map(lambda part: part[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(sums, part):
        x, y = function(part)
        return jax.tree.map(jnp.add, sums, x), y

    return jax.lax.scan(add, zeros, parts)


def _forward(function, parts, closed):
    """The sums, and for the backward pass the gradients of the summed loss; none of what is frozen."""
    moving = [c.perturbed for c in closed]
    parts, closed = jax.tree.map(lambda x: x.value, (parts, closed))
    free = [c for c, moves in zip(closed, moving, strict=True) if moves]

    def grade(part):
        def loss(hidden, weights, *free):
            left = iter(free)
            whole = [next(left) if moves else c for c, moves in zip(closed, moving, strict=True)]
            return function(hidden, weights, part[2], *whole)

        taken = jax.value_and_grad(loss, argnums=tuple(range(2 + len(free))), has_aux=True)
        value, (hidden, weights, *gradients) = taken(part[0], part[1], *free)
        return (value, gradients), (hidden, weights)

    (value, gradients), (hidden, weights) = _scan_sum(grade, parts)
    left = iter(gradients)
    return value, (hidden, weights, [next(left) if moves else None for moves in moving])


def _backward(function, gradients, cotangents):
    del function
    hidden, weights, closed = jax.tree.map(lambda x: (x * cotangents[0]).astype(x.dtype), gradients)
    return (hidden, weights, None), closed


_sum_chunks.defvjp(_forward, _backward, symbolic_zeros=True)
