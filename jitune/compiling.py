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
from jitune.models import backends
from jitune.objectives import build
from jitune.step import make_train_step
from jitune.types import Model, TrainState, UserError


def model_options(config) -> dict:
    """How a run computes with a model: fields of `ModelConfig` to replace."""
    chosen = {"dtype": config.model.dtype, "param_dtype": "float32", "scan_layers": config.model.scan_layers,
              "remat": config.model.remat, "attention": config.model.attention}  # fmt: skip
    return chosen | ({"router_coef": config.model.router_coef} if config.model.router_coef >= 0 else {})


def check_batch(config, mesh) -> None:
    """Raises UserError where the rows of a microbatch, or the tokens of a row, do not divide by the mesh, and for an
    attention that no sequence can be split for."""
    shards, parts = sharding.batch_shards(mesh), mesh.shape["context"]
    if config.batch_size // config.microbatches % shards:
        times = f" in {config.microbatches} microbatches" if config.microbatches > 1 else ""
        axes = " x ".join(("data", "fsdp", *(["expert"] if mesh.shape["expert"] > 1 else [])))
        raise UserError(f"config.batch_size={config.batch_size}{times} does not divide by the mesh: {axes} = {shards}")
    if config.seq_len % parts:
        raise UserError(f"config.seq_len={config.seq_len} does not divide by the mesh: context = {parts}")
    if parts > 1 and (reason := backends.refused_split(config.model.attention)):
        raise UserError(reason)


def check_attention(model_config, platform: str = "") -> None:
    """Raises UserError where config.model.attention could compute nothing of this model.

    platform: "gpu" or "tpu" of another machine; by default what is here.
    """
    reason = backends.refused(model_config.attention, platform=platform or jax.default_backend(),
                              dtype=model_config.dtype, head_dim=model_config.head_dim,
                              softcap=model_config.attn_softcap, here=not platform)  # fmt: skip
    if reason:
        raise UserError(reason)


def abstract_state(tuning: states.Tuning, mesh, optimizer):
    """(frozen, state) as shapes with their shardings on the mesh; nothing is allocated."""
    frozen, trainable = states.abstract_weights(tuning, mesh)
    everywhere = NamedSharding(mesh, PartitionSpec())
    opt_state = states.abstract_opt_state(optimizer, trainable, mesh)
    return frozen, TrainState(jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere), trainable, opt_state)


def abstract_batch(config, mesh, extras=None) -> dict:
    """One batch as shapes [batch_size, seq_len, ...] with their sharding.

    extras: arrays, or shapes, with an entry for each token of the data.
    """
    home, shape = sharding.batch_sharding(mesh), (config.batch_size, config.seq_len)
    kinds = dict.fromkeys(("tokens", "targets", "segment_ids", "positions"), ((), "int32"))
    kinds["loss_weights"] = (), "float32"
    if build.compares(config):
        kinds["sides"] = (), "int32"
    kinds |= {name: (x.shape[1:], x.dtype) for name, x in (extras or {}).items()}
    return {name: jax.ShapeDtypeStruct((*shape, *more), jnp.dtype(dtype), sharding=home)
            for name, (more, dtype) in kinds.items()}  # fmt: skip


def trace_step(config, model: Model, optimizer, state, frozen, mesh, key, *, windows, objective=None, others=(),
               extras=None):  # fmt: skip
    """Traces `step(state, frozen, batch, key) -> (state, metrics)` for the mesh; the state's buffers are reused.

    model: over (frozen, trainable). state, frozen: arrays, or shapes with shardings. windows: of the layers; others: of
    those of models beside. objective: by default what the config asks for by itself. extras: as `abstract_batch` takes
    them.
    """
    homes = jax.tree.map(lambda x: x.sharding, state)
    objective = objective or build.make_objective(config)
    step = make_train_step(model, objective, optimizer, config.microbatches, shardings=homes.trainable,
                           windows=windows, others=others)
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(homes, None))
    return jitted.trace(state, frozen, abstract_batch(config, mesh, extras), key)
