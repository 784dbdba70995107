"""Answers to a queue of prompts in a fixed number of rows: a row that is done takes the next prompt at once.

    waiting = [Waiting(Answer(tokenizer, prompt, ids, ()), row_id=7, new=64) for prompt in prompts]
    for done in serve(model, params, mesh, waiting, sampling=GREEDY, stop_ids=ids, rows=8, limit=2048, shape=shape): ...

Rows of a cache end at the same slot (see `types.KVCache`), so a new row is put in with its prompt ending there,
whatever its length; the slots before it are empty. Where the rows that are left need fewer slots than are in use, all
are moved to the front: that is how a cache of the context's length serves a queue of any length. What a row computes
does not depend on the others, nor on where it lies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jitune import sharding
from jitune.generation import decode_loop
from jitune.generation.batches import Answer, Shape, pad, pad_stops
from jitune.generation.decode_loop import BLOCK, State, slots_in_front
from jitune.generation.sampling import Sampling
from jitune.models import cache as caches

FEWER = 4  # prompts go in by groups of so many parts of the rows
OFTEN, LEAST = 8, 4  # tokens of a block while prompts wait: a row that ends within it is idle to its end
WASTE = 128  # slots that may be in use for no row before all are moved


class Waiting(NamedTuple):
    """A prompt of the queue: the answer that grows, what seeds it, its most tokens, and its temperature."""

    answer: Answer
    row_id: int
    new: int
    temperature: float = 0.0


@partial(jax.jit, static_argnames="front", donate_argnames="state")
def align(state: State, target, *, front: int) -> State:
    """Moves what all rows hold so that `target` slots are in use behind the `front` ones; what falls out is lost."""
    cache = state.cache
    moved = caches.move(cache, target + front - cache.length, source=cache)
    return state._replace(cache=decode_loop.pin(moved))


@partial(jax.jit, static_argnames="front", donate_argnames="state")
def insert(state: State, new: State, rows, *, front: int) -> State:
    """Puts rows of a state that has just been filled into those of another, which hold as many slots at least.

    rows: int32, the place of each new row (beyond the last: it is left out); or bool, which of as many rows to take.
    """
    fresh = caches.move(state.cache, state.cache.length - new.cache.length, source=new.cache)

    def put(old, young):
        if rows.dtype == bool:  # rows that lie on several devices stay where they are
            return jnp.where(jnp.expand_dims(rows, range(1, old.ndim)), young, old)
        return old.at[rows].set(young, mode="drop")

    cache = caches.put_rows(state.cache, fresh, put)
    shared = {"cache": None, "key": None}
    rest = jax.tree.map(put, state._replace(**shared), new._replace(**shared))
    return rest._replace(cache=decode_loop.pin(cache), key=state.key)


class _Device:
    """The rows on the device. used: slots in use behind those in front, exact while any row is live."""

    def __init__(self, model, params, mesh, sampling: Sampling, stop_ids: Sequence[int], rows: int, limit: int,
                 shape: Shape):  # fmt: skip
        self.model, self.params, self.mesh = model, params, mesh
        self.sampling, self.rows, self.limit, self.shape = sampling, rows, limit, shape
        self.ids, self.front = pad_stops(stop_ids), slots_in_front(model)
        self.shards = sharding.batch_shards(mesh) if mesh else 1
        self.group = rows if self.shards > 1 else max(1, rows // FEWER)
        self.state, self.prepared, self.used, self.capacity = None, None, 0, 0
        self.options = {"model": model, "sampling": replace(sampling, seed=0)}  # a seed is no reason to compile anew

    def _context(self):
        return jax.set_mesh(self.mesh) if self.mesh else nullcontext()

    def _prefill(self, entries: Sequence[Waiting], places: Sequence[int], rows: int):
        """(State, its Block, slots in use) of a batch of `rows`, each entry at its place."""
        prompts, ids, most, heat = ([filler] * rows for filler in ([0], 0, 0, 0.0))
        for entry, place in zip(entries, places, strict=True):
            prompts[place], ids[place] = entry.answer.prompt, entry.row_id
            most[place], heat[place] = entry.new, entry.temperature
        batch = pad(prompts, ids, rows, most, self.limit, shape=self.shape, temperatures=heat)
        chunk = self.shape.chunk
        first = np.int32((batch.tokens.shape[1] - batch.lengths.max()) // chunk)
        used = batch.tokens.shape[1] - int(first) * chunk
        seed = np.uint32(self.sampling.seed)
        state, block = decode_loop.prefill(
            self.params, sharding.put_whole(batch, self.mesh), seed, self.ids, first, chunk=chunk,
            capacity=self.shape.capacities[0], **self.options,
        )  # fmt: skip
        return state, block, used

    def start(self, entries: Sequence[Waiting]):
        """Fills the first rows with entries; nothing of what was there is kept. Returns their Block, on the host."""
        with self._context():
            self.state, block, self.used = self._prefill(entries, range(len(entries)), self.rows)
            self.capacity = self.shape.capacities[0]
            self.prepared = self.prepared or decode_loop.prepare(self.params, self.state, model=self.model)
            return jax.device_get(block)

    def refill(self, entries: Sequence[Waiting], places: Sequence[int], extent: int):
        """Puts entries into free rows. extent: the most slots of a row that stays. Returns (Block, row of each)."""
        with self._context():
            whole = self.shards > 1
            inside = list(places) if whole else list(range(len(entries)))
            new, block, _ = self._prefill(entries, inside, self.rows if whole else self.group)
            needed = max(extent, *(len(entry.answer.prompt) for entry in entries))
            if self.used < needed or self.used - needed >= WASTE:
                self._move(needed)
            if whole:
                rows = np.isin(np.arange(self.rows), places)
            else:
                rows = np.asarray([*places] + [self.rows] * (self.group - len(places)), np.int32)
            self.state = insert(self.state, new, rows, front=self.front)
            return jax.device_get(block), inside

    def _move(self, target: int) -> None:
        self._grow(target)
        self.state, self.used = align(self.state, np.int32(target), front=self.front), target

    def _grow(self, needed: int) -> None:
        """Makes room for so many slots."""
        if needed > self.capacity:
            bigger = next(c for c in self.shape.capacities if c >= needed)
            grown = decode_loop.grow(self.state.cache, bigger - self.capacity)
            self.state, self.capacity = self.state._replace(cache=grown), bigger

    def decode(self, stopped, extent: int, limit: int):
        """Up to `limit` more tokens in every row that is not stopped. Returns the Block, on the host."""
        with self._context():
            if self.used + limit > self.capacity and (
                self.used - extent >= WASTE or self.used + limit > self.shape.capacities[-1]
            ):
                self._move(extent)
            self._grow(self.used + limit)
            stopped, most = sharding.put_whole(stopped, self.mesh), np.int32(limit)
            self.state, block = decode_loop.decode(self.prepared, self.state, self.ids, stopped, most, **self.options)
            self.used += limit
            return jax.device_get(block)


def serve(model, params, mesh, waiting: Sequence[Waiting], *, sampling: Sampling, stop_ids: Sequence[int], rows: int,
          limit: int, shape: Shape) -> Iterator[list[int]]:  # fmt: skip
    """Answers a queue in its order, growing its answers; yields the indices of those that are done, as they are.

    stop_ids: of all of them. rows: that are computed at once, a multiple of the mesh's batch shards. limit: the most
    slots of a prompt with its answer. shape: of the longest prompt. Raises UserError, beginning with an answer's
    `where`, for logits that are not finite.
    """
    device = _Device(model, params, mesh, sampling, stop_ids, rows, limit, shape)
    queue, live = deque(range(len(waiting))), {}

    def feed(block, places: dict[int, int]) -> list[int]:
        """Hands rows of a block to the answers at these places; gives those that are done."""
        done = []
        for place, row in places.items():
            index = live[place]
            answer = waiting[index].answer
            answer.take(block, row)
            if answer.done:
                done.append(index)
                del live[place]
        return done

    while queue or live:
        free = [row for row in range(rows) if row not in live]
        most = device.group if live else rows
        # On several devices a group costs as much as all rows, and waits until some are free.
        enough = 1 if device.shards == 1 or not live else min(rows // FEWER, len(queue))
        if queue and len(free) >= max(enough, 1):
            taken = [queue.popleft() for _ in range(min(len(queue), len(free), most))]
            entries, places = [waiting[i] for i in taken], free[: len(taken)]
            extent = _extent(waiting, live.values())
            old = bool(live)
            live.update(zip(places, taken, strict=True))
            if old:
                block, inside = device.refill(entries, places, extent)
            else:
                block, inside = device.start(entries), range(len(taken))
            done = feed(block, dict(zip(places, inside, strict=True)))
        else:
            stopped = np.asarray([row not in live for row in range(rows)])
            soonest = min(waiting[i].new - len(waiting[i].answer.tokens) for i in live.values())
            most = max(LEAST, min(OFTEN, soonest)) if queue else BLOCK
            block = device.decode(stopped, _extent(waiting, live.values()), most)
            done = feed(block, {place: place for place in list(live)})
        if done:
            yield done


def _extent(waiting: Sequence[Waiting], indices) -> int:
    """The most slots that a row of these holds."""
    return max((len(a.prompt) + len(a.tokens) for a in (waiting[i].answer for i in indices)), default=0)
