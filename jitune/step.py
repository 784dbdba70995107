"""The train step and the evaluation step: pure functions, jitted by the caller on its mesh."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import optax

from jitune.types import Model, TrainState


def make_train_step(model: Model, objective: Callable, optimizer, microbatches: int = 1, *, shardings=None, windows=(),
                    others=()):  # fmt: skip
    """Makes `step(state, frozen, batch, key) -> (state, metrics)`.

    The gradient is that of sum(loss) / sum(weight) over the whole batch, whatever the number of
    microbatches and however the weights lie in them. `model` takes `(frozen, trainable)`; key is the run's,
    and the step's own is folded in here. shardings: where the gradients lie, by default where XLA puts
    them. windows: of the model's layers, for counting pairs; others: of the layers of models that the objective runs
    besides. Where it does, frozen is a `Beside`. metrics: float32 scalars loss, grad_norm,
    param_norm (of the weights after the update), what `count_tokens` counts, weight_sum, and the objective's
    own as `means` has them.
    """

    def gradients(trainable, frozen, batch, key):
        def loss(trainable):
            total, weight, metrics = objective(model, (frozen, trainable), batch, key)
            return total, (weight, metrics)

        (total, (weight, metrics)), grads = jax.value_and_grad(loss, has_aux=True)(trainable)
        if shardings is not None:
            grads = jax.lax.with_sharding_constraint(grads, shardings)
        return grads, total, weight, metrics

    def step(state: TrainState, frozen, batch, key):
        key = jax.random.fold_in(key, state.step)
        if microbatches == 1:
            sums = gradients(state.trainable, frozen, batch, key)
        else:
            keys = jax.random.split(key, microbatches)
            sums = _accumulate(
                lambda part, key: gradients(state.trainable, frozen, part, key), cut(batch, microbatches), keys
            )
        grads, total, weight, metrics = sums
        scale = 1.0 / jnp.maximum(weight, 1e-9)
        grads = jax.tree.map(lambda g: g * scale.astype(g.dtype), grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
        trainable = optax.apply_updates(state.trainable, updates)
        metrics = {
            "loss": total * scale,
            "grad_norm": optax.tree.norm(grads),
            "param_norm": optax.tree.norm(trainable),
            **count_tokens(batch, windows, others),
            "weight_sum": weight,
            **means(metrics, weight),
        }
        return TrainState(state.step + 1, trainable, opt_state), metrics

    return step


def means(metrics, weight) -> dict:
    """What an objective counted as means: sums divided by weight; a pair is (its sum, its own weight).

    Over a weight of 0 it is nan: nobody knows it.
    """
    pairs = {name: value if isinstance(value, tuple) else (value, weight) for name, value in metrics.items()}
    return {name: total / own for name, (total, own) in pairs.items()}


def _accumulate(function, parts, keys):
    """Sums function(part, key) over the leading axis of parts, one part after the other."""
    first = jax.tree.map(lambda x: x[0], parts)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(function, first, keys[0]))

    def add(sums, part):
        return jax.tree.map(jnp.add, sums, function(*part)), None

    return jax.lax.scan(add, zeros, (parts, keys))[0]


def cut(batch, count: int):
    """[batch, ...] -> [count, batch / count, ...]; part i holds the rows i, i + count, ...

    Every device cuts its own rows, so that nothing moves between devices.
    """
    return jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, count, *x.shape[1:]), 0, 1), batch)


def count_tokens(batch, windows=(), others=()) -> dict[str, jax.Array]:
    """Counts of a batch, as float32: tokens (not padding), supervised (trained targets), pairs.

    pairs: (query, key) pairs that causality, documents and windows allow, summed over the layers, each of which has
    an entry in windows (0: full attention); left out without windows. See `flops.count_pairs`. other_pairs: likewise of
    the layers in others; left out where they are the same.
    """
    counts = {
        "tokens": jnp.sum(batch["segment_ids"] > 0).astype(jnp.float32),
        "supervised": jnp.sum(batch["loss_weights"] > 0).astype(jnp.float32),
    }
    if windows:
        counts["pairs"] = _count_pairs(batch, windows)
    if others and tuple(others) != tuple(windows):
        counts["other_pairs"] = _count_pairs(batch, others)
    return counts


def _count_pairs(batch, windows):
    keys = jnp.where(batch["segment_ids"] > 0, batch["positions"] + 1, 0)
    # Whole numbers within a row as long as they fit: float32 is exact up to 2^24 only.
    exact = jnp.uint32 if keys.shape[1] < 2**16 else jnp.float32
    rows = {w: jnp.sum(jnp.minimum(keys, w or keys.shape[1]), axis=1, dtype=exact) for w in set(windows)}
    return sum(windows.count(w) * rows[w].astype(jnp.float32).sum() for w in sorted(rows))


def make_eval_step(model: Model, objective: Callable):
    """Makes `evaluate(frozen, trainable, batch, sums) -> sums` with loss, weight and the objective's metrics.

    sums: of the batches before, None for the first; they stay on the devices from batch to batch.
    """

    def evaluate(frozen, trainable, batch, sums=None):
        total, weight, metrics = objective(model, (frozen, trainable), batch, None)
        new = {"loss": total, "weight": weight, **metrics}
        return new if sums is None else jax.tree.map(jnp.add, sums, new)

    return evaluate


def sum_batches(step: Callable, batches: Iterable):
    """Folds `step(batch, sums) -> sums` over batches; returns the last sums, None where there is no batch.

    The next batch is prepared and dispatched while the devices are at one, but no more than that: batches
    waiting in a queue take memory on the devices, and XLA's CPU client deadlocks beyond 32 computations in
    flight, where launches that wait for their turn hold the threads that earlier collectives need.
    """
    sums = None
    for batch in batches:
        before, sums = sums, step(batch, sums)
        jax.block_until_ready(before)
    return sums
