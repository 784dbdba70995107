"""The train step of a run, traced ahead of the first batch: over its arrays, or over shapes alone.

    frozen, state = abstract_state(tuning, mesh, optimizer)
    traced = trace_step(config, model, optimizer, state, frozen, mesh, key, windows=model_config.windows)
    compiled = traced.lower().compile()

Training, `--dry_run` and `jitune plan` compile the same function by this one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jitune import sharding
from jitune import state as states
from jitune.objectives.sft import sft
from jitune.step import make_train_step
from jitune.types import Model, TrainState, UserError


def make_objective(config):
    """The objective that the config asks for."""
    return sft(chunk=config.loss_chunk, neftune_alpha=config.neftune_alpha)


def model_options(config) -> dict:
    """How a run computes with a model: fields of `ModelConfig` to replace."""
    return {"dtype": config.model.dtype, "param_dtype": "float32", "scan_layers": config.model.scan_layers,
            "remat": config.model.remat, "attention": config.model.attention}


def check_batch(config, mesh) -> None:
    """Raises UserError where the rows of a microbatch do not divide by the mesh."""
    shards = sharding.batch_shards(mesh)
    if config.batch_size // config.microbatches % shards:
        parts = f" in {config.microbatches} microbatches" if config.microbatches > 1 else ""
        raise UserError(f"config.batch_size={config.batch_size}{parts} does not divide by the mesh: "
                        f"data x fsdp = {shards}")


def abstract_state(tuning: states.Tuning, mesh, optimizer):
    """(frozen, state) as shapes with their shardings on the mesh; nothing is allocated."""
    frozen, trainable = states.abstract_weights(tuning, mesh)
    everywhere = NamedSharding(mesh, PartitionSpec())
    opt_state = states.abstract_opt_state(optimizer, trainable, mesh)
    return frozen, TrainState(jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere), trainable, opt_state)


def abstract_batch(config, mesh) -> dict:
    """One batch as shapes [batch_size, seq_len] with their sharding."""
    home, shape = sharding.batch_sharding(mesh), (config.batch_size, config.seq_len)
    return {
        name: jax.ShapeDtypeStruct(shape, jnp.float32 if name == "loss_weights" else jnp.int32, sharding=home)
        for name in ("tokens", "targets", "loss_weights", "segment_ids", "positions")
    }


def trace_step(config, model: Model, optimizer, state, frozen, mesh, key, *, windows):
    """Traces `step(state, frozen, batch, key) -> (state, metrics)` for the mesh; the state's buffers are reused.

    model: over (frozen, trainable). state, frozen: arrays, or shapes with shardings. windows: of the layers.
    """
    homes = jax.tree.map(lambda x: x.sharding, state)
    step = make_train_step(model, make_objective(config), optimizer, config.microbatches, shardings=homes.trainable,
                           windows=windows)
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(homes, None))
    return jitted.trace(state, frozen, abstract_batch(config, mesh), key)
