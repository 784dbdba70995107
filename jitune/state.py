"""The weights and the state of a run, laid out on its mesh: fresh, or restored from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jitune import checkpoint, sharding
from jitune.hub import weights
from jitune.types import TrainState, Transform


def lay(shapes, homes):
    """Shapes with their shardings."""
    return jax.tree.map(lambda x, home: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=home), shapes, homes)


def abstract_weights(transform: Transform, model_config, mesh):
    """(frozen, trainable) as shapes; the trainable ones with their shardings on the mesh."""
    frozen, trainable = jax.eval_shape(transform.init, jax.random.key(0), weights.abstract_params(model_config))
    return frozen, lay(trainable, sharding.shardings(trainable, mesh))


def abstract_opt_state(optimizer, trainable, mesh):
    """The optimizer's state over `trainable` (shapes with shardings), as shapes with their shardings."""
    shapes = jax.eval_shape(optimizer.init, trainable)
    homes = jax.tree.map(lambda x: x.sharding, trainable)
    return lay(shapes, sharding.state_shardings(shapes, trainable, homes, mesh))


def init_weights(transform: Transform, base: Path, model_config, mesh, seed: int, *, stored: bool):
    """Loads the base model and splits it into (frozen, trainable), laid out on the mesh.

    Where a checkpoint holds the trainable part (stored) and nothing is frozen, nothing is loaded: shapes
    come back.
    """
    frozen, trainable = abstract_weights(transform, model_config, mesh)
    if stored and not jax.tree.leaves(frozen):
        return frozen, trainable
    key = jax.random.fold_in(jax.random.key(seed), 0x7AF)
    return transform.init(key, weights.load_params(base, model_config, mesh))


def init_state(transform: Transform, model_config, mesh, trainable, optimizer, checkpoints, seed: int):
    """Returns (state, key, data iterator state or None).

    Restored from the newest checkpoint if there is one, onto this mesh; else a fresh state over `trainable`.
    """
    _, laid = abstract_weights(transform, model_config, mesh)
    abstract_opt = abstract_opt_state(optimizer, laid, mesh)
    everywhere = NamedSharding(mesh, PartitionSpec())
    key, step = jax.random.key(seed), checkpoints.latest_step()
    if step is None:
        opt_homes = jax.tree.map(lambda x: x.sharding, abstract_opt)
        opt_state = jax.jit(optimizer.init, out_shardings=opt_homes)(trainable)
        return TrainState(jax.device_put(jnp.zeros((), jnp.int32), everywhere), trainable, opt_state), key, None
    abstract = TrainState(jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere), laid, abstract_opt)
    key_data = lay(jax.eval_shape(jax.random.key_data, key), everywhere)
    return checkpoint.restore(checkpoints, abstract, key_data, step)
