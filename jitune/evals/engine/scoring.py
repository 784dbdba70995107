"""Windows to log-likelihoods: packed batches through the device, one of them ahead of what is read.

    setup = prepare(model, params, limit=2048)
    for done in score_windows(setup, windows, name=str, counts=counts): ...     # [(index, (logprob, greedy)), ...]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np

from jitune import sharding
from jitune.evals.engine import plan
from jitune.evals.engine.score import knows_ends, score
from jitune.generation.batches import power_of_two, round_up
from jitune.generation.decode_loop import turning
from jitune.types import Model, Params, UserError

WIDTHS = (512, 2048)  # of rows, before the one of the whole context
# Tokens of a batch, and queries whose logits exist at once: what a CPU works well on, and what an accelerator does.
SMALL, LARGE = (2048, 256), (16384, 1024)


class Setup(NamedTuple):
    """How a model is asked. widths: of rows, ascending. tokens: of a batch. queries: whose logits exist at once.

    shards: parts of a batch on the mesh. trees: whether documents may share tokens.
    """

    model: Model
    params: Params
    mesh: Any
    widths: tuple[int, ...]
    tokens: int
    queries: int
    shards: int
    trees: bool

    def rows_of(self, width: int) -> int:
        """Rows of a batch of this width."""
        return round_up(max(self.tokens // width, 1), self.shards)


def prepare(model: Model, params: Params, *, limit: int, tokens: int = 0, queries: int = 0) -> Setup:
    """The setup of a model whose windows have at most `limit` inputs. tokens, queries: 0: by the kind of device.

    Documents share tokens where the model knows of it, and none of them can be so long that it turns its tokens another
    way than a shorter one does (longrope).
    """
    mesh = sharding.mesh_of(params)
    widths = (*(w for w in WIDTHS if 2 * w <= limit), round_up(limit, 128))
    turn = turning(model) if model.init_cache else 0
    trees = not turn or limit < turn
    usual = SMALL if jax.default_backend() == "cpu" else LARGE
    return Setup(model, params, mesh, widths, tokens or usual[0], queries or usual[1],
                 sharding.batch_shards(mesh) if mesh else 1, trees and knows_ends(model, params))  # fmt: skip


def score_windows(setup: Setup, windows: Sequence[plan.Window], *, name: Callable[[int], str],
                  counts: dict[str, int]) -> Iterator[list[tuple[int, tuple[float, bool]]]]:  # fmt: skip
    """Yields (index, (log-likelihood, greedy)) of the windows that a batch finishes.

    name: of a window, for errors. counts: `input_tokens`, `score_slots` and `scored_tokens` grow.
    Raises UserError, naming the window, for a log-likelihood that is not finite.
    """
    units, places = plan.share(windows, setup.widths, trees=setup.trees)
    members: dict[int, list[int]] = {}
    for i, place in enumerate(places):
        members.setdefault(place.unit, []).append(i)
    waiting = None
    for rows in plan.batches(units, setup.widths, setup.rows_of):
        running = _start(setup, rows)
        counts["input_tokens"] += int((rows.batch["segment_ids"] > 0).sum())
        counts["score_slots"] += rows.batch["tokens"].size
        if waiting:
            yield list(_read(*waiting, places, members, name, counts))
        waiting = rows, running
    if waiting:
        yield list(_read(*waiting, places, members, name, counts))


def _start(setup: Setup, rows: plan.Rows):
    """Sends a batch to the devices."""
    # It divides the widths, which are multiples of 128.
    chunk = min(max(power_of_two(setup.queries // len(rows.at) + 1) // 2, 1), 128)
    batch, at, targets = sharding.put_whole((rows.batch, rows.at, rows.targets), setup.mesh)
    with jax.set_mesh(setup.mesh) if setup.mesh else nullcontext():
        chunks = np.int32(-(-rows.queries // chunk))
        return score(setup.params, batch, at, targets, chunks, model=setup.model, chunk=chunk)


def _read(rows: plan.Rows, running, places, members, name, counts):
    """Results of the windows that lie in a batch."""
    logprobs, greedy = (np.asarray(x).reshape(len(rows.at), -1) for x in jax.device_get(running))
    for unit, row, first in rows.parts:
        for i in members[unit]:
            at = first * plan.TARGETS + places[i].queries
            found = logprobs[row, at].astype(np.float64)
            if not np.isfinite(found).all():
                bad = int(np.flatnonzero(~np.isfinite(found))[0])
                raise UserError(f"{name(i)}: the log-likelihood of token {bad + 1} of {len(found)} is {found[bad]}: "
                                "broken weights, or a dtype that overflows")  # fmt: skip
            counts["scored_tokens"] += len(found)
            yield i, (float(found.sum()), bool(greedy[row, at].all()))
