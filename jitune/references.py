"""Log-probabilities of the reference, computed once before the first step and read from a file ever after.

    OUT/reference.npy        float32 [tokens of the training data]: log p(what follows) where it is trained, else 0
    OUT/reference_eval.npy   of the evaluation data
    OUT/reference.json       digests of the data and of the model that they were computed with; written last

A file is written beside its name and moved there when it is whole, so that a run that was killed on the way computes
it again from the start. Entry i belongs to what token i predicts, as in `targets` of a batch.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from jitune import feed, sharding
from jitune.data import pipeline
from jitune.data.token_store import documents_digest
from jitune.hub import files
from jitune.objectives.sequences import token_logprobs
from jitune.runlog import write_atomically
from jitune.types import Model, UserError

RECORD = "reference.json"
NAMES = {"train": "reference.npy", "eval": "reference_eval.npy"}
SECONDS = 10.0  # between two lines of progress


def stand(directory: Path, data: dict[str, Any], model: str) -> bool:
    """Whether the file of every set of data is there, of these documents and this model.

    data: {"train": Prepared, "eval": Prepared or None}. model: a digest.
    """
    if not (directory / RECORD).exists() or files.read_json(directory / RECORD) != record(data, model):
        return False
    return all(_is_whole(directory / NAMES[name], prepared) for name, prepared in data.items() if prepared is not None)


def _is_whole(path: Path, prepared) -> bool:
    try:
        return np.load(path, mmap_mode="r").shape == (sum(len(source.tokens) for source in prepared.sources),)
    except (OSError, ValueError):  # lost, or cut off
        return False


def record(data: dict[str, Any], model: str) -> dict[str, Any]:
    """The content of reference.json."""
    return {"model": model, "data": {name: documents_digest(prepared, weights=True)
                                     for name, prepared in data.items() if prepared is not None}}  # fmt: skip


def write(directory: Path, data: dict[str, Any], model: Model, params, config, mesh, *, digest: str,
          say: Callable[[str], None]) -> None:  # fmt: skip
    """Computes and writes the files of all sets of data. All processes call this; the first one writes.

    model, params: the reference. digest: of the model. Raises UserError for numbers that are not finite.
    """
    step = make_step(model, config.loss_chunk, mesh)
    for name, prepared in data.items():
        if prepared is None:
            continue
        began = time.perf_counter()
        found = compute(step, params, prepared, config, mesh, say=say, name=name)
        if jax.process_index() == 0:
            draft = directory / f"{NAMES[name]}.partial"
            with draft.open("wb") as file:
                np.save(file, found)
            os.replace(draft, directory / NAMES[name])
        say(f"reference: {found.size:,} tokens of the {name} data in {time.perf_counter() - began:.1f} s, "
            f"in {directory / NAMES[name]}")
    if jax.process_index() == 0:
        write_atomically(directory / RECORD, json.dumps(record(data, digest), indent=2) + "\n")
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("reference written")


def make_step(model: Model, chunk: int, mesh) -> Callable:
    """Makes `step(params, batch) -> (places, log-probabilities)`, [batch, seq] each, whole on every process."""
    everywhere = NamedSharding(mesh, PartitionSpec())

    @functools.partial(jax.jit, out_shardings=(everywhere, everywhere))
    def step(params, batch):
        found = token_logprobs(model, params, batch, chunk)
        return batch["place"], jnp.where(batch["loss_weights"] != 0, found, 0.0).astype(jnp.float32)

    return step


def compute(step, params, prepared, config, mesh, *, say, name: str) -> np.ndarray:
    """float32 [all tokens of all sources]."""
    count = sum(len(source.tokens) for source in prepared.sources)
    if count >= 2**31 - 1:
        raise UserError(f"config.objective.reference=stored: the {name} data have {count:,} tokens, and at most "
                        f"{2**31 - 2:,} are stored; use an adapter, whose reference is free")
    found, done, last = np.zeros(count, np.float32), 0, time.perf_counter()
    extras = {"place": np.arange(1, count + 1, dtype=np.int32)}
    everything = pipeline.Prepared(prepared.sources, None, prepared.stats)
    before = None
    for batch in feed.eval_batches(config, mesh, everything, extras):
        now = step(params, sharding.put_batch(batch, mesh, config.batch_size))
        if before is not None:  # while the devices are at the next one
            done += _scatter(found, before, name)
        before = now
        if time.perf_counter() > last + SECONDS:
            last = time.perf_counter()
            say(f"reference: {done:,} of {count:,} tokens of the {name} data")
    _scatter(found, before, name)
    return found


def _scatter(found: np.ndarray, step, name: str) -> int:
    places, values = jax.device_get(step)
    inside = places > 0
    if not np.isfinite(values[inside]).all():
        raise UserError(f"reference: log-probabilities of the {name} data are not finite: broken weights, or a dtype "
                        "that overflows")
    found[places[inside] - 1] = values[inside]
    return int(inside.sum())


def read(directory: Path, name: str) -> np.ndarray:
    """The stored array, memory-mapped."""
    return np.load(directory / NAMES[name], mmap_mode="r")
