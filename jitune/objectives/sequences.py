"""What a model thinks of whole answers: log-probabilities of tokens, and their sums over packed documents.

    values = token_logprobs(model, params, batch, 1024)     # [batch, seq]: log p(target) in every slot
    found = answers(batch, values)                          # one entry a document: its side, its sum, its length

Two rows of a batch, one of them with a pair of two trained tokens each, the other empty:

    segment_ids 1 1 1 2 2 2 0    loss_weights 1 1 0 1 1 0 0    sides 1 1 1 -1 -1 -1 0    logprobs -1 -2 . -3 -4 . .
    side [0 1 -1 0 ...]          logprob [0 -3 -7 0 ...]       length [0 2 2 0 ...]      entry 0 is the padding
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jitune.objectives.loss import cut, join, score_targets
from jitune.types import Array, Model, Routed


class Answers(NamedTuple):
    """One entry for each document of each row, [batch, seq + 1]; entry 0 and those of no document are 0.

    side: as in `types.Batch`. logprob: the sum of loss_weight * log p(target). length: the sum of the loss_weights.
    """

    side: Array
    logprob: Array
    length: Array

    @property
    def mean(self):
        """The log-probability a token."""
        return self.logprob / jnp.where(self.length > 0, self.length, 1.0)


def token_logprobs(model: Model, params, batch, chunk: int = 1024) -> jax.Array:
    """log p(target) of every slot, float32 [batch, seq]: the first of `logprobs_and_routed`."""
    return logprobs_and_routed(model, params, batch, chunk)[0]


def logprobs_and_routed(model: Model, params, batch, chunk: int = 1024) -> tuple[jax.Array, Routed | None]:
    """(log p(target) of every slot, float32 [batch, seq], what routers did, None where the model has no experts).

    Differentiable; slots without a target hold the log-probability of token 0.

    About `chunk` tokens have logits at a time, in the backward pass too, where they are computed anew: no array of
    [batch, seq, vocab] exists. The batch axis stays whole, so that its sharding does.
    """
    hidden, routed = model.hidden(params, batch)
    targets = batch["targets"]
    parts = cut(hidden, chunk), cut(targets, chunk)

    @jax.checkpoint
    def score(hidden, targets):
        return score_targets(model.unembed(params, hidden), targets)[0]

    if len(parts[1]) == 1:
        return score(hidden, targets), routed
    return join(jax.lax.map(lambda part: score(*part), parts), targets.shape[1]), routed


def reference_logprobs(reference: Model | None, params, batch, chunk: int = 1024) -> jax.Array:
    """log p(target) by the reference, [batch, seq], without a gradient: run beside, or what the batch brings."""
    if reference is None:
        return batch["reference_logprobs"].astype(jnp.float32)
    frozen = jax.tree.map(jax.lax.stop_gradient, params)
    plain = {name: value for name, value in batch.items() if name not in ("key", "embeddings")}
    return jax.lax.stop_gradient(token_logprobs(reference, frozen, plain, chunk))


def sum_documents(values, segment_ids) -> jax.Array:
    """Sums over the documents of each row: [batch, seq] -> [batch, seq + 1], by segment id."""
    count = segment_ids.shape[1] + 1
    return jax.vmap(lambda row, ids: jax.ops.segment_sum(row, ids, count))(values, segment_ids)


def answers(batch, logprobs) -> Answers:
    """The documents of a batch, with what `logprobs` [batch, seq] gives their trained tokens."""
    segments, weights = batch["segment_ids"], batch["loss_weights"].astype(jnp.float32)
    begins = (batch["positions"] == 0) & (segments > 0)
    # Where nothing is trained, nothing counts, whatever stands there.
    trained = jnp.where(weights > 0, logprobs * weights, 0.0)
    return Answers(sum_documents(jnp.where(begins, batch["sides"], 0), segments),
                   sum_documents(trained, segments), sum_documents(weights, segments))  # fmt: skip
