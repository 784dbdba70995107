"""The weights and the state of a run, laid out on its mesh: fresh, or restored from a checkpoint.

    tuning = make_tuning(config, base_config, tokenizer)
    frozen, trainable = init_weights(tuning, base, mesh, config.seed, stored=False)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jitune import checkpoint, flops, limits, sharding, tree
from jitune.hub import resize, weights
from jitune.models import decoder
from jitune.transforms.build import keeper, make_transform
from jitune.types import Model, TrainState, Transform


class Tuning(NamedTuple):
    """What is trained, of which model.

    base_config: of the checkpoint; model_config: of the model, which may have tokens more. plain: the model over its
    parameters; model: over (frozen, trainable). keep: `(path, loaded array) -> the weight as it is kept`.
    """

    transform: Transform
    keep: Callable
    plain: Model
    model: Model
    base_config: Any
    model_config: Any


def make_tuning(config, base_config, tokenizer=None) -> Tuning:
    """Builds the model and its transform as the config says.

    base_config: of the checkpoint, with what `compiling.model_options` asks for. tokenizer: with the added tokens; None
    where shapes alone are asked for. Raises UserError as `make_transform` does.
    """
    added = config.data.add_tokens.split(",") if config.data.add_tokens else []
    if tokenizer is None:
        size = base_config.vocab_size + len(added)
        ids = range(base_config.vocab_size, size)
    else:
        size, ids = len(tokenizer), tokenizer.convert_tokens_to_ids(added)
    model_config = base_config
    if added and size > base_config.vocab_size:
        model_config = resize.resize_config(base_config, size)
    limited = limits.lift(base_config, config.model.allow_longer_context)
    if config.transform.name == "prompt":
        limited, model_config = limits.under_prompt(limited), limits.under_prompt(model_config)
    plain = decoder.build(model_config)
    transform = make_transform(config.transform, model=plain, model_config=model_config, tokenizer=tokenizer,
                               new_tokens=ids)  # fmt: skip
    limits.check_length(config.seq_len, limited, f"config.seq_len={config.seq_len}")
    if config.transform.name in ("prefix", "prompt"):
        front = config.transform.num_tokens
        limits.check_length(front + config.seq_len, limited, f"config.transform.num_tokens={front} before "
                            f"config.seq_len={config.seq_len} tokens")  # fmt: skip
    keep = keeper(config.transform, config.model.dtype)

    def keep_grown(path, array):
        return keep(path, resize.grow(path, array, model_config.vocab_size))

    return Tuning(transform, keep_grown, plain, transform.apply(plain), base_config, model_config)


def lay(shapes, homes):
    """Shapes with their shardings."""
    return jax.tree.map(lambda x, home: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=home), shapes, homes)


def abstract_weights(tuning: Tuning, mesh):
    """(frozen, trainable) as shapes with their shardings on the mesh."""
    loaded = tree.flatten(weights.abstract_params(tuning.base_config))
    kept = {path: jax.eval_shape(lambda x, path=path: tuning.keep(path, x), leaf) for path, leaf in loaded.items()}
    shapes = jax.eval_shape(tuning.transform.init, jax.random.key(0), tree.unflatten(kept))
    return tuple(lay(part, sharding.shardings(part, mesh)) for part in shapes)


def abstract_opt_state(optimizer, trainable, mesh):
    """The optimizer's state over `trainable` (shapes with shardings), as shapes with their shardings."""
    shapes = jax.eval_shape(optimizer.init, trainable)
    homes = jax.tree.map(lambda x: x.sharding, trainable)
    return lay(shapes, sharding.state_shardings(shapes, trainable, homes, mesh))


def init_weights(tuning: Tuning, base: Path, mesh, seed: int, *, stored: bool):
    """Loads the base model and splits it into (frozen, trainable), laid out on the mesh.

    Where a checkpoint holds the trainable part (stored) and nothing is frozen, nothing is loaded: shapes
    come back.
    """
    abstract = abstract_weights(tuning, mesh)
    if stored and not jax.tree.leaves(abstract[0]):
        return abstract
    params = weights.load_params(base, tuning.base_config, mesh, keep=tuning.keep)
    key = jax.random.fold_in(jax.random.key(seed), 0x7AF)
    if not jax.tree.leaves(abstract[0]):
        return tuning.transform.init(key, params)
    homes = jax.tree.map(lambda x: x.sharding, abstract)
    # The base goes through as it is: what is given away comes back.
    return jax.jit(tuning.transform.init, out_shardings=homes, donate_argnums=1)(key, params)


def init_state(tuning: Tuning, mesh, trainable, optimizer, checkpoints, seed: int):
    """Returns (state, key, data iterator state or None).

    Restored from the newest checkpoint if there is one, onto this mesh; else a fresh state over `trainable`.
    """
    _, laid = abstract_weights(tuning, mesh)
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


def count(tuning: Tuning, trainable) -> dict[str, int]:
    """How many parameters the model has with what was added to it, and how many of them are trained."""
    own, _, added = _sort(tuning, trainable)
    return {"parameters": tree.count_params(own) + tree.count_params(added),
            "trained_parameters": tree.count_params(trainable)}  # fmt: skip


def _sort(tuning: Tuning, trainable):
    """(the model's parameters, those of them that are trained, what is trained besides), by path."""
    own = tree.flatten(weights.abstract_params(tuning.model_config))
    moving = {re.sub(r"^\d+/", "", p): x for p, x in tree.flatten(trainable).items()}
    return own, {p: x for p, x in moving.items() if p in own}, {p: x for p, x in moving.items() if p not in own}


def work(tuning: Tuning, trainable, options) -> dict[str, int]:
    """What `flops.train_flops` needs to know of what is trained; options: config.transform."""
    _, inside, added = _sort(tuning, trainable)
    head = r"(^|/)(embed/embedding|.*kernel)$" if tuning.model_config.tied else r"kernel$"

    def count_active(leaves, pattern):
        return flops.active(tuning.model_config, {p: x.size for p, x in leaves.items() if re.search(pattern, p)})

    return {"trained": count_active(inside, head), "added": count_active(added, r"lora_[ab]$"),
            "prefix": options.num_tokens if options.name in ("prefix", "prompt") else 0}  # fmt: skip
