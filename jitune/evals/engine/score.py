"""Log-probabilities of targets at queried positions of packed rows, on the device.

    logprobs, greedy = score(params, batch, at, targets, chunks, model=model, chunk=32)

Hidden states are gathered at the queries only, and unembedded a chunk of them at a time: neither [batch, seq, vocab]
nor logits that nobody asked for are computed. How many chunks is a number on the device, so that a shape of rows is
compiled once, whether its queries are few or many.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jitune.types import BATCH_AXES, Batch, Model


@partial(jax.jit, static_argnames=("model", "chunk"))
def score(params, batch: Batch, at, targets, chunks, *, model: Model, chunk: int) -> tuple[jax.Array, jax.Array]:
    """(log p(target), whether the target is the likeliest token), [rows, n, t] each; float32 and bool.

    batch: tokens, segment_ids, positions, [rows, seq]. at: [rows, n], columns of the batch, n a multiple of chunk.
    targets: [rows, n, t], ids that follow there. chunks: int32, how many times `chunk` queries of a row are computed;
    the others are 0 and False. Of equal logits the token with the lowest id is the likeliest. Not a number where logits
    are not.
    """
    hidden, _ = model.hidden(params, batch)

    def step(i, found):
        columns = jax.lax.dynamic_slice_in_dim(at, i * chunk, chunk, axis=1)
        wanted = jax.lax.dynamic_slice_in_dim(targets, i * chunk, chunk, axis=1)
        # Along the row, so that on a mesh each device takes from its own rows.
        logits = model.unembed(params, jnp.take_along_axis(hidden, columns[..., None], axis=1))
        new = grade(logits, wanted)
        return tuple(jax.lax.dynamic_update_slice_in_dim(x, y, i * chunk, axis=1)
                     for x, y in zip(found, new, strict=True))

    nothing = jnp.zeros(targets.shape, jnp.float32), jnp.zeros(targets.shape, bool)
    found = jax.lax.fori_loop(0, chunks, step, nothing)
    on_mesh = set(BATCH_AXES) <= set(jax.sharding.get_abstract_mesh().axis_names)
    return jax.lax.with_sharding_constraint(found, P()) if on_mesh else found  # every process reads all of it


def grade(logits, targets) -> tuple[jax.Array, jax.Array]:
    """logits: [..., vocab] float32; targets: [..., t]. Returns what `score` does, [..., t] each."""
    chosen = jnp.take_along_axis(logits, targets, axis=-1)
    highest = logits.max(axis=-1, keepdims=True)
    total = jnp.log(jnp.exp(logits - highest).sum(axis=-1, keepdims=True))
    ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    first = jnp.where(logits == highest, ids, logits.shape[-1]).min(axis=-1, keepdims=True)
    return chosen - highest - total, targets == first


def knows_ends(model: Model, params) -> bool:
    """Whether a model looks at a batch's `ends`, by which documents share tokens; see `types.Batch`. Only traced."""
    ones = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    batch = {name: ones for name in ("tokens", "segment_ids", "positions")}
    traced = jax.make_jaxpr(lambda ends, params, batch: model.hidden(params, {**batch, "ends": ends})[0])
    jaxpr = traced(ones, params, batch).jaxpr
    return _reads(jaxpr, jaxpr.invars[0])


def _reads(jaxpr, var) -> bool:
    """Whether an equation computes with a variable, rather than hand it on to a function that does not."""
    for equation in jaxpr.eqns:
        inner = equation.params.get("jaxpr")
        inner = getattr(inner, "jaxpr", inner)
        for i, given in enumerate(equation.invars):
            if given is not var:
                continue
            if inner is None or len(inner.invars) != len(equation.invars) or _reads(inner, inner.invars[i]):
                return True
    return False
