"""Documents to vectors: the mean of the final hidden states of each document's own tokens, or the last of them.

    pooled = embed(setup, [[5, 6, 7], [8]], name=str, counts=counts)      # float32 [2, dim]

Documents are packed into rows as windows of scoring are, so that the shapes are few and little is padding. A document
sees only itself, and its mean is taken over its own tokens: neither padding nor its neighbours are in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from jitune import sharding
from jitune.evals.engine import plan
from jitune.evals.engine.scoring import Setup
from jitune.types import BATCH_AXES, Batch, Model, UserError

LEAST = 16  # slots that a document takes at least, so that a row holds few documents


@partial(jax.jit, static_argnames=("model", "documents", "last"))
def pool(params, batch: Batch, *, model: Model, documents: int, last: bool = False) -> jax.Array:
    """Means of the hidden states of segments 1 .. documents: [rows, documents, dim], float32; 0 where there is none.

    last: the hidden state of each segment's last token instead.
    """
    hidden, _ = model.hidden(params, batch)
    ids, segments = batch["segment_ids"], jnp.arange(1, documents + 1)
    taken = ids != jnp.pad(ids[:, 1:], ((0, 0), (0, 1))) if last else jnp.ones_like(ids, bool)
    mine = (taken[:, None] & (ids[:, None] == segments[:, None])).astype(jnp.float32)  # [rows, documents, seq]
    total = jnp.einsum("rks,rsd->rkd", mine, hidden.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    mean = total / jnp.maximum(mine.sum(axis=-1), 1)[..., None]
    on_mesh = set(BATCH_AXES) <= set(jax.sharding.get_abstract_mesh().axis_names)
    return jax.lax.with_sharding_constraint(mean, P()) if on_mesh else mean  # every process reads all of it


def embed(setup: Setup, documents: Sequence[Sequence[int]], *, name: Callable[[int], str],
          counts: dict[str, int], last: bool = False) -> np.ndarray:  # fmt: skip
    """float32 [documents, dim], in their order; last: see `pool`.

    documents: token ids, at least one and at most the last of `setup.widths` each. name: of a document, for errors.
    counts: `input_tokens` and `score_slots` grow. Raises UserError, naming the document, for what is not finite.
    """
    found: list[Any] = [None] * len(documents)
    waiting = None
    for batch, members in _batches(setup, documents):
        counts["input_tokens"] += int((batch["segment_ids"] > 0).sum())
        counts["score_slots"] += batch["tokens"].size
        most = batch["tokens"].shape[1] // LEAST
        placed = sharding.put_whole(batch, setup.mesh)
        with jax.set_mesh(setup.mesh) if setup.mesh else nullcontext():
            running = pool(setup.params, placed, model=setup.model, documents=most, last=last), members
        if waiting:
            _read(*waiting, found, name)
        waiting = running
    if waiting:
        _read(*waiting, found, name)
    return np.stack(found) if found else np.zeros((0, 0), np.float32)


def _read(running, members: list[list[int]], found: list, name) -> None:
    """Puts the vectors of a batch, which the device may still be at, in their places."""
    vectors = jax.device_get(running)
    for row, inside in enumerate(members):
        for k, i in enumerate(inside):
            found[i] = vectors[row, k]
            if not np.isfinite(found[i]).all():
                raise UserError(f"{name(i)}: its hidden states are not finite: broken weights, or a dtype that "
                                "overflows")  # fmt: skip


def _batches(setup: Setup, documents) -> Iterator[tuple[dict[str, np.ndarray], list[list[int]]]]:
    """Packed rows, and the documents of each row in the order of their segments; the widest rows first."""
    sizes = [max(len(ids), LEAST) for ids in documents]
    packed = plan.choose(sizes, setup.widths, setup.rows_of) if sizes else []
    for width in sorted({w for w, _ in packed}, reverse=True):
        rows = [inside for w, inside in packed if w == width]
        step = setup.rows_of(width)
        for start in range(0, len(rows), step):
            yield _fill(documents, rows[start : start + step], step, width), rows[start : start + step]


def _fill(documents, chosen: list[list[int]], rows: int, width: int) -> dict[str, np.ndarray]:
    """The arrays of a batch; rows that are missing are padding."""
    batch = {key: np.zeros((rows, width), np.int32) for key in ("tokens", "segment_ids", "positions")}
    for row, inside in enumerate(chosen):
        start = 0
        for number, i in enumerate(inside, 1):
            place = slice(start, start + len(documents[i]))
            batch["tokens"][row, place] = documents[i]
            batch["segment_ids"][row, place] = number
            batch["positions"][row, place] = np.arange(len(documents[i]))
            start = place.stop
    return batch
