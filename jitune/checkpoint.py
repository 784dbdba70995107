"""Checkpoints of a training run with Orbax: written in the background, restored onto any mesh.

A checkpoint of step n has three items: `trainable`; `rest` (step, optimizer state, the run's key); `data`,
the state of the data iterator after n batches. Orbax writes beside the final name and renames at the end,
so that a killed run leaves whole checkpoints only.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from jitune.types import TrainState, UserError

# Orbax logs, in each of its threads and with a traceback, what it then raises.
logging.getLogger("absl").setLevel(logging.CRITICAL)


def open_checkpoints(directory: str | Path, *, keep: int = 2, read_only: bool = False) -> ocp.CheckpointManager:
    """Opens a directory of checkpoints; the newest `keep` are kept, and the one of lowest eval_loss."""

    def eval_loss(metrics):
        return metrics["eval_loss"]

    best = policies.BestN(get_metric_fn=eval_loss, reverse=True, n=1, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(max(1, keep)), best]),
        best_fn=eval_loss,  # without it Orbax does not write the metrics
        best_mode="min",
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
        create=not read_only,
    )
    return ocp.CheckpointManager(
        Path(directory).resolve(), options=options, item_names=("trainable", "rest", "data")
    )


def save(checkpoints, state: TrainState, key: jax.Array, data: dict, eval_loss: float | None = None, *,
         base: str = "") -> None:
    """Starts saving; returns once the arrays are copied.

    data: the iterator's state, JSON values. base: the digest of the model that the weights belong to.
    """
    rest = {"step": state.step, "opt_state": state.opt_state, "key": jax.random.key_data(key)}
    checkpoints.save(
        int(state.step),
        args=ocp.args.Composite(
            trainable=ocp.args.StandardSave(state.trainable),
            rest=ocp.args.StandardSave(rest),
            data=ocp.args.JsonSave({"iterator": data, "base": base}),
        ),
        metrics=None if eval_loss is None else {"eval_loss": float(eval_loss)},
    )


def restore(checkpoints, abstract: TrainState, key: jax.ShapeDtypeStruct, step: int):
    """Returns (state, key, data iterator state) of a step.

    abstract: shapes with the shardings to restore to, which may be of another mesh than the one that was
    saved; key: likewise for the key's data. Raises UserError where the stored tree is of another shape.
    """
    rest = {"step": abstract.step, "opt_state": abstract.opt_state, "key": key}
    stored = _restore(checkpoints, step, {
        "trainable": ocp.args.StandardRestore(abstract.trainable),
        "rest": ocp.args.StandardRestore(rest),
        "data": ocp.args.JsonRestore(),
    })
    state = TrainState(stored["rest"]["step"], stored["trainable"], stored["rest"]["opt_state"])
    return state, jax.random.wrap_key_data(stored["rest"]["key"]), stored["data"]["iterator"]


def restore_trainable(checkpoints, abstract: Any, step: int) -> Any:
    """The trained weights of a step alone, laid out as `abstract` says."""
    return _restore(checkpoints, step, {"trainable": ocp.args.StandardRestore(abstract)})["trainable"]


def _restore(checkpoints, step: int, items: dict):
    try:
        return checkpoints.restore(step, args=ocp.args.Composite(**items))
    except (ValueError, KeyError, FileNotFoundError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{checkpoints.directory}/{step}: does not restore into this model: {reason}") from error


def best_step(checkpoints) -> int | None:
    """The step of lowest eval_loss among the stored ones, None where none was evaluated."""
    losses = {s: (checkpoints.metrics(s) or {}).get("eval_loss") for s in checkpoints.all_steps()}
    losses = {s: loss for s, loss in losses.items() if loss is not None}
    return min(losses, key=losses.get) if losses else None
