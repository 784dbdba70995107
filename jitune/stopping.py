"""What ends a run before its last step: numbers that are not finite, a signal, evaluations that get no better."""

from __future__ import annotations

import contextlib
import json
import math
import signal
from pathlib import Path

import jax
from jax.experimental import multihost_utils


class NonFiniteError(RuntimeError):
    """Loss, gradient or weights stopped being finite; the last good checkpoint is kept."""


class Interrupted(RuntimeError):
    """The run was asked to stop (SIGTERM or Ctrl-C); its state was saved."""


def check_finite(checkpoints, row: dict) -> None:
    """Raises NonFiniteError where the loss, the gradient or the new weights of a step are not finite.

    A checkpoint of the step before holds the weights that gave such a loss, so it goes if there is an older one.
    """
    step, names = row["step"], {"loss": "loss", "grad_norm": "gradient norm", "param_norm": "weight norm"}
    if all(math.isfinite(row[name]) for name in names):
        return
    checkpoints.wait_until_finished()
    kept = sorted(checkpoints.all_steps())
    if len(kept) > 1 and kept[-1] == step - 1 and not math.isfinite(row["loss"]):
        checkpoints.delete(kept.pop())
    where = f"the last good checkpoint is step {kept[-1]}" if kept else "there is no checkpoint yet"
    numbers = ", ".join(f"{word} {row[name]}" for name, word in names.items())
    raise NonFiniteError(
        f"step {step}: {numbers}; stopped, {where}. A lower learning rate, clipping "
        "(config.optimizer.clip_norm) or float32 are what to try"
    )


@contextlib.contextmanager
def stop_signals():
    """Yields `stopping(step) -> bool`, whether the run was asked to stop after this step.

    One process is asked by SIGTERM or Ctrl-C; a second signal acts as it always does. Several are asked by a
    SIGTERM to any of them, and jax's preemption service finds the step at which all of them stop.
    """
    if jax.process_count() > 1:
        served = jax.config.jax_enable_preemption_service
        yield multihost_utils.reached_preemption_sync_point if served else lambda step: False
        return
    got: list[int] = []

    def note(number, _):
        got.append(number)
        signal.signal(number, before[number])

    names = (signal.SIGTERM, signal.SIGINT)
    try:
        before = {n: signal.signal(n, note) for n in names}
    except ValueError:  # not in the main thread
        before = {}
    try:
        yield lambda step: bool(got)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def past_evaluations(directory: Path, step: int) -> tuple[float, int]:
    """(the best eval loss so far, evaluations since then) as metrics.jsonl tells, for early stopping."""
    best, stale = math.inf, 0
    path = directory / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        row = json.loads(line)
        if row["step"] <= step and row.get("eval_loss") is not None:
            best, stale = (row["eval_loss"], 0) if row["eval_loss"] < best else (best, stale + 1)
    return best, stale
