"""From a run's checkpoints to a model in Hugging Face layout: `jitune export --run DIR --to hf --out DIR`."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp

from jitune import checkpoint, rundir, sharding
from jitune import state as states
from jitune.data import chat
from jitune.hub import files, weights
from jitune.hub.tokenizer import load_tokenizer
from jitune.models import decoder
from jitune.types import Pretrained, UserError


def export(directory: str | Path, out: str | Path, *, step: str = "last", dtype: str = "float32") -> Pretrained:
    """Saves the merged model of a checkpoint and returns it.

    step: last, best (lowest eval loss), or a number. dtype: of the saved weights. Raises UserError where the
    run, the checkpoint or a free output directory is missing.
    """
    directory = Path(directory)
    config = rundir.read_config(directory)
    if dtype not in weights.DTYPES:
        raise UserError(f"dtype {dtype!r} is not supported; known are {', '.join(weights.DTYPES)}")
    if not (directory / "checkpoints").is_dir():
        raise UserError(f"{directory}: has no checkpoints yet")
    checkpoints = checkpoint.open_checkpoints(directory / "checkpoints", read_only=True)
    number = choose_step(checkpoints, step, directory)
    mesh = sharding.make_mesh(1, -1, 1)
    tokenizer = load_tokenizer(directory / "base")
    tuning, frozen, trainable = restore(directory, config, tokenizer, checkpoints, number, mesh)
    params = tuning.transform.merge(frozen, trainable)
    params = jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, params)
    model_config = with_stop_ids(tuning.model_config, tokenizer).replace(dtype=dtype, param_dtype=dtype)
    exported = Pretrained(decoder.build(model_config), params, tokenizer, model_config)
    weights.save(out, exported)
    return exported


def restore(directory: Path, config, tokenizer, checkpoints, number: int, mesh):
    """(tuning, frozen, trainable) of a checkpoint of a run.

    Raises UserError where the base model of an adapter is no longer the one that the run began with.
    """
    config.model.dtype = "float32"  # merged in it, whatever the run computed in
    whole = config.transform.name == "full"
    base = directory / "base" if whole else weights.resolve(config.model.path)
    tuning = states.make_tuning(config, weights.read_config(base), tokenizer)
    frozen, trainable = states.abstract_weights(tuning, mesh)
    if jax.tree.leaves(frozen):
        if files.digest(base) != files.read_json(directory / "fingerprint.json")["model"]:
            raise UserError(f"{base}: is not the model that the run in {directory} began with")
        frozen, _ = states.init_weights(tuning, base, mesh, config.seed, stored=True)
    return tuning, frozen, checkpoint.restore_trainable(checkpoints, trainable, number)


def choose_step(checkpoints, step: str, directory: Path) -> int:
    """The number that `last`, `best` or a number stands for. Raises UserError where there is none."""
    steps = sorted(checkpoints.all_steps())
    if not steps:
        raise UserError(f"{directory}: has no whole checkpoint yet")
    best = checkpoint.best_step(checkpoints)
    if step == "best" and best is None:
        raise UserError(f"{directory}: no checkpoint was evaluated, so there is no best one")
    chosen = {"last": steps[-1], "best": best}.get(step, step)
    if str(chosen) not in map(str, steps):
        raise UserError(f"{directory}: has no checkpoint {step!r}; there are {', '.join(map(str, steps))}")
    return int(chosen)


def with_stop_ids(model_config, tokenizer):
    """The config with the stop ids that the chat template teaches in its generation config."""
    stops = chat.stop_token_ids(tokenizer, {"eos_token_id": list(model_config.eos_token_ids)})
    generation = {**model_config.generation_config, "eos_token_id": stops}
    return model_config.replace(generation=json.dumps(generation))
