"""Distillation by logits: the student's distribution at every trained token is drawn to that of a teacher.

    objective = distill(divergence="forward", temperature=2.0, teacher=teacher.model)
    objective(model, (Beside(frozen, teacher.params), trainable), batch, key)    # -> sums, as in sft.py
    objective = distill(divergence="jsd", teacher=None)        # the batch has teacher_ids and teacher_logprobs

A teacher in the same process runs its layers forward once for the whole batch; its logits are made chunk by chunk
beside the student's, so that of neither [batch, seq, vocab] exists. It may have another width, depth and family, but
must have the same vocabulary (`hub.vocabulary.check_vocabulary`). It has no gradient and sees no noise or dropout.
On-policy distillation (GKD, arXiv 2306.13649) is this objective on batches whose answers the student has written, see
on_policy.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jitune.objectives.balance import balanced
from jitune.objectives.divergence import dense, sparse
from jitune.objectives.loss import chunked, score_targets
from jitune.types import Beside, Model, UserError

STORED = ("teacher_ids", "teacher_logprobs")


def distill(
    *,
    divergence: str = "forward",
    jsd_beta: float = 0.5,
    temperature: float = 1.0,
    sft_weight: float = 0.0,
    chunk: int = 1024,
    teacher: Model | None = None,
    vocab: int | None = None,
):
    """Makes the objective `(model, params, batch, key) -> (loss_sum, weight_sum, metrics)`.

    loss_sum is the sum over tokens of loss_weight * ((1 - sft_weight) * divergence + sft_weight * -log p(target)), in
    nats; weight_sum the sum of the weights. Divergences and the temperature, of both models, are those of
    divergence.py; the cross-entropy has temperature 1.

    Args:
      divergence: forward, reverse or jsd, with `jsd_beta` as the teacher's part in the mixture.
      teacher: takes the parameters `Beside.other`: params are `(Beside(frozen, other), trainable)`, and the model
        gets `(frozen, trainable)`. None: the batch has teacher_ids and teacher_logprobs [batch, seq, k].
      chunk: tokens whose logits exist at once; beside a teacher, which has logits too, half as many.
      vocab: tokens that the tokenizer has, where a model has logits for more: the divergence leaves out the rest.

    metrics: `accuracy` as in sft.py, and where sft_weight is not 0 the two parts, `divergence` and `nll`.
    Raises UserError where the batch has no teacher, or the two models have logits of different lengths.
    """

    size = chunk if teacher is None else max(1, chunk // 2)

    def objective(model: Model, params, batch, key):
        params, other = _take_apart(params, batch, teacher)
        told = {name: batch[name] for name in STORED} if teacher is None else {
            "hidden": teacher.hidden(other, _plain(batch))[0]}  # fmt: skip
        told["targets"] = batch["targets"]
        if key is not None:
            batch = {**batch, "key": jax.random.fold_in(key, 1)}
        hidden, routed = model.hidden(params, batch)

        def loss(hidden, told, weights):
            logits = model.unembed(params, hidden)
            parts = {"divergence": compare(other, told, logits)}
            if sft_weight:
                log_probs, correct = score_targets(logits, told["targets"])
                parts["nll"] = -log_probs
            else:
                correct = _most_likely(logits, told["targets"])
            sums = {name: (part * weights).sum() for name, part in parts.items()}
            total = (1 - sft_weight) * sums["divergence"] + sft_weight * sums.get("nll", 0.0)
            return total, {"accuracy": (correct * weights).sum(), **(sums if sft_weight else {})}

        weights = batch["loss_weights"].astype(jnp.float32)
        loss_sum, metrics = chunked(loss, hidden, told, weights, chunk=size)
        return balanced((loss_sum, weights.sum(), metrics), routed, training=key is not None)

    def compare(other, told, logits):
        options = {"beta": jsd_beta, "temperature": temperature}
        logits = logits[..., :vocab]
        if teacher is None:
            return sparse(divergence, *(told[name] for name in STORED), logits, **options)
        theirs = teacher.unembed(other, told["hidden"])[..., :vocab]
        if theirs.shape != logits.shape:
            raise UserError(f"distill: the teacher has logits of {theirs.shape[-1]} tokens, the student of "
                            f"{logits.shape[-1]}; both need the same vocabulary")
        return dense(divergence, theirs, logits, **options)

    return objective


def _take_apart(params, batch, teacher):
    """(the student's params, the teacher's, without a gradient, or None)."""
    if teacher is None:
        missing = [name for name in STORED if name not in batch]
        if missing:
            raise UserError(f"distill: the batch has no {missing[0]}, and there is no teacher in this process")
        return params, None
    frozen, trainable = params
    if not isinstance(frozen, Beside):
        raise UserError("distill: the teacher's parameters are not there; frozen is Beside(frozen, other)")
    return (frozen.frozen, trainable), jax.lax.stop_gradient(frozen.other)


def _plain(batch):
    """The batch as the teacher sees it: what was done to the student's embeddings is not done to its own."""
    return {name: value for name, value in batch.items() if name not in ("embeddings", "key")}


def _most_likely(logits, targets):
    logits = jax.lax.stop_gradient(logits)
    return jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0] >= logits.max(axis=-1)
