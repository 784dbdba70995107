"""Supervised fine-tuning: cross-entropy of the trained tokens, and NEFTune's noise on the embeddings."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jitune.objectives.balance import balanced
from jitune.objectives.loss import chunked, score_targets
from jitune.types import Model


def sft(*, chunk: int = 1024, neftune_alpha: float = 0.0):
    """Makes the objective `(model, params, batch, key) -> (loss_sum, weight_sum, metrics)`.

    loss_sum is the sum over tokens of loss_weight * -log p(target), weight_sum the sum of the weights: sums,
    so that microbatches and shards add up exactly. key None means evaluation: no noise, and no dropout, for which
    the model finds a key in its batch. metrics: `accuracy`, the weighted number of targets that are the most likely
    token; of a model with experts besides those of `balance.balanced`.
    """

    def objective(model: Model, params, batch, key):
        if neftune_alpha and key is not None:
            noisy = add_noise(model.embed(params, batch["tokens"]), batch["segment_ids"], neftune_alpha, key)
            batch = {**batch, "embeddings": noisy}
        if key is not None:
            batch = {**batch, "key": jax.random.fold_in(key, 1)}
        hidden, routed = model.hidden(params, batch)

        def loss(hidden, targets, weights):
            logits = model.unembed(params, hidden)
            log_probs, correct = score_targets(logits, targets)
            return -(log_probs * weights).sum(), (correct * weights).sum()

        weights = batch["loss_weights"].astype(jnp.float32)
        loss_sum, correct = chunked(loss, hidden, batch["targets"], weights, chunk=chunk)
        return balanced((loss_sum, weights.sum(), {"accuracy": correct}), routed, training=key is not None)

    return objective


def add_noise(embeddings, segment_ids, alpha: float, key):
    """NEFTune (arXiv 2310.05914): adds uniform noise in +-alpha / sqrt(length * dim).

    embeddings: [batch, seq, dim]; the length is that of the token's own document, so that packing does not
    change the noise; padding gets none.
    """

    def lengths(segments):
        counts = jax.ops.segment_sum(jnp.ones_like(segments), segments, segments.shape[0] + 1)
        return jnp.where(segments > 0, counts[segments], 0)

    length = jax.vmap(lengths)(segment_ids)[..., None]
    size = jnp.where(length > 0, alpha / jnp.sqrt(jnp.maximum(length, 1) * embeddings.shape[-1]), 0.0)
    noise = jax.random.uniform(key, embeddings.shape, jnp.float32, -1.0, 1.0) * size
    return (embeddings.astype(jnp.float32) + noise).astype(embeddings.dtype)
