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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jitune import sharding
from jitune.generation import decode_loop
from jitune.generation.batches import Answer, Shape, pad, pad_stops
from jitune.generation.decode_loop import BLOCK, State, slots_in_front
from jitune.generation.sampling import GREEDY, Sampling, stack
from jitune.models import cache as caches

FEWER = 4  # prompts go in by groups of so many parts of the rows
OFTEN, LEAST = 8, 4  # tokens of a block while prompts wait: a row that ends within it is idle to its end
WASTE = 128  # slots that may be in use for no row before all are moved


class Waiting(NamedTuple):
    """A prompt of the queue: the answer that grows, what seeds it, its most tokens, and its temperature.

    controls: what `sampling.stack` takes of a row, in place of the temperature and of what holds for all; of all
    entries or of none.
    """

    answer: Answer
    row_id: int
    new: int
    temperature: float = 0.0
    controls: Any = None


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


class Device:
    """The rows on the device. used: slots in use behind those in front, exact while any row is live.

    each: whether every row has controls of its own. top: likeliest tokens that blocks tell of.
    """

    def __init__(self, model, params, mesh, sampling: Sampling, stop_ids: Sequence[int], rows: int, limit: int,
                 shape: Shape, *, each: bool = False, top: int = 0, kv_cache: str = ""):  # fmt: skip
        self.model, self.params, self.mesh = model, params, mesh
        self.sampling, self.rows, self.limit, self.shape = sampling, rows, limit, shape
        self.ids, self.front = pad_stops(stop_ids), slots_in_front(model)
        self.shards = sharding.batch_shards(mesh) if mesh else 1
        self.group = rows if self.shards > 1 else max(1, rows // FEWER)
        self.state, self.prepared, self.used, self.capacity, self.each = None, None, 0, 0, each
        self.top, self.kv_cache, self.turn = top, kv_cache, decode_loop.turning(model)
        self.options = {"model": model, "sampling": replace(sampling, seed=0)}  # a seed is no reason to compile anew

    def _context(self):
        return jax.set_mesh(self.mesh) if self.mesh else nullcontext()

    def _prefill(self, entries: Sequence[Waiting], places: Sequence[int], rows: int, least: int = 0):
        """(State, its Block, slots in use) of a batch of `rows`, each entry at its place, and at least so many slots.
        """
        prompts, ids, most, heat = ([filler] * rows for filler in ([0], 0, 0, 0.0))
        for entry, place in zip(entries, places, strict=True):
            prompts[place], ids[place] = entry.answer.so_far(), entry.row_id
            most[place], heat[place] = entry.new - len(entry.answer.tokens), entry.temperature
            if len(prompts[place]) < self.turn:
                most[place] = min(most[place], self.turn - len(prompts[place]))
        given = {"temperatures": heat}
        if self.each:
            asked = dict(zip(places, (entry.controls for entry in entries), strict=True))
            given = {"controls": stack([asked.get(row) or (GREEDY, {}, False) for row in range(rows)])}
        batch = pad(prompts, ids, rows, most, self.limit, shape=self.shape, **given)
        if self.turn:
            gone = dict(zip(places, (len(entry.answer.tokens) for entry in entries), strict=True))
            batch = batch._replace(answered=np.asarray([gone.get(row, 0) for row in range(rows)], np.int32))
        chunk = self.shape.chunk
        first = np.int32((batch.tokens.shape[1] - batch.lengths.max()) // chunk)
        used = batch.tokens.shape[1] - int(first) * chunk
        seed, capacity = np.uint32(self.sampling.seed), self._rung(max(used, least))
        if self.prepared is None:
            self.prepared = decode_loop.prepare(self.params, model=self.model, rows=self.rows, capacity=capacity,
                                                kv_cache=self.kv_cache)  # fmt: skip
        state, block = decode_loop.prefill(
            self.prepared, sharding.put_whole(batch, self.mesh), seed, self.ids, first, chunk=chunk,
            capacity=capacity, top=self.top, kv_cache=self.kv_cache, **self.options,
        )  # fmt: skip
        return state, block, used

    def _rung(self, slots: int) -> int:
        """The smallest capacity that holds so many slots."""
        return next(c for c in self.shape.capacities if c >= slots)

    def start(self, entries: Sequence[Waiting]):
        """Fills the first rows with entries; nothing of what was there is kept. Returns their Block, on the host."""
        with self._context():
            self.state, block, self.used = self._prefill(entries, range(len(entries)), self.rows)
            self.capacity = self._rung(self.used)
            return jax.device_get(block)

    def refill(self, entries: Sequence[Waiting], places: Sequence[int], extent: int, *, least: int = 0):
        """Puts entries into free rows. Returns (Block, row of each).

        extent: the most slots of a row that stays; 0: none does. least: slots of the cache that they are computed in.
        """
        with self._context():
            whole = self.shards > 1
            inside = list(places) if whole else list(range(len(entries)))
            new, block, _ = self._prefill(entries, inside, self.rows if whole else self.group, least)
            needed = max(extent, *(len(entry.answer.so_far()) for entry in entries))
            # Without a live row the device may have stopped before `used`: where it stands is set anew.
            if not extent or self.used < needed or self.used - needed >= WASTE:
                self.move(needed)
            if whole:
                rows = np.isin(np.arange(self.rows), places)
            else:
                rows = np.asarray([*places] + [self.rows] * (self.group - len(places)), np.int32)
            self.state = insert(self.state, new, rows, front=self.front)
            return jax.device_get(block), inside

    def move(self, target: int) -> None:
        self.grow(target)
        self.state, self.used = align(self.state, np.int32(target), front=self.front), target

    def grow(self, needed: int) -> None:
        """Makes room for so many slots."""
        if needed > self.capacity:
            bigger = self._rung(needed)
            grown = decode_loop.grow(self.state.cache, bigger - self.capacity)
            self.state, self.capacity = self.state._replace(cache=grown), bigger

    def decode(self, stopped, extent: int, limit: int):
        """Up to `limit` more tokens in every row that is not stopped. Returns the Block, on the host."""
        with self._context():
            if self.used + limit > self.capacity and (
                self.used - extent >= WASTE or self.used + limit > self.shape.capacities[-1]
            ):
                self.move(extent)
            self.grow(self.used + limit)
            stopped, most = sharding.put_whole(stopped, self.mesh), np.int32(limit)
            self.state, block = decode_loop.decode(self.prepared, self.state, self.ids, stopped, most, top=self.top,
                                                     **self.options)  # fmt: skip
            self.used += limit
            return jax.device_get(block)


class Rows:
    """Rows of a device that answer entries, which come (`put`) and go (`drop`) between any two steps.

    live: {row: its entry}, another dict whenever it changes, for other threads to read. Entries are `Waiting`; those
    that are done are handed back, and their rows are free.
    steady: entries come one by one rather than all at once, and a group of rows is filled even where none is live.
    turned: the rows of those that go through the model anew at the next step, see `decode_loop.turning`.
    """

    def __init__(self, device: Device, *, steady: bool = False):
        self.device, self.live, self.steady, self.turned = device, {}, steady, []

    def room(self, waiting: int) -> int:
        """How many of so many entries are to be put in now; 0: none, and a step is due."""
        device, free = self.device, self.device.rows - len(self.live)
        # On several devices a group costs as much as all rows, and waits until some are free.
        enough = 1 if device.shards == 1 or not self.live else min(device.rows // FEWER, waiting)
        if not waiting or free < max(enough, 1):
            return 0
        return min(waiting, free, device.group if self.live or self.steady else device.rows)

    def put(self, entries: Sequence[Waiting]) -> list[Waiting]:
        """Puts entries, as many as there is `room` for, into free rows, and draws their first tokens."""
        places = [row for row in range(self.device.rows) if row not in self.live][: len(entries)]
        if self.steady and self.device.state is None:
            self.device.start(())
        if self.live or self.steady:
            block, inside = self.device.refill(entries, places, self.extent())
        else:
            block, inside = self.device.start(entries), range(len(entries))
        self.live = self.live | dict(zip(places, entries, strict=True))
        return self._feed(block, dict(zip(places, inside, strict=True)))

    def step(self, limit: int = BLOCK) -> list[Waiting]:
        """Up to `limit` more tokens for each live entry."""
        self.turned = [row for row in self.turned if row in self.live]
        if self.turned:
            places, self.turned = self.turned[: self.device.group], self.turned[self.device.group :]
            entries = [self.live[row] for row in places]
            block, inside = self.device.refill(entries, places, self.extent())
            return self._feed(block, dict(zip(places, inside, strict=True)))
        stopped = np.asarray([row not in self.live for row in range(self.device.rows)])
        block = self.device.decode(stopped, self.extent(), limit)
        return self._feed(block, {place: place for place in self.live})

    def drop(self, entry: Waiting) -> None:
        """Frees an entry's row, if it has one."""
        self.live = {row: other for row, other in self.live.items() if other is not entry}

    def soonest(self) -> int:
        """The fewest tokens that a live entry may still have."""
        return min(entry.new - len(entry.answer.tokens) for entry in self.live.values())

    def extent(self) -> int:
        """The most slots that a live entry holds."""
        return max((len(a.prompt) + len(a.tokens) for a in (e.answer for e in self.live.values())), default=0)

    def _feed(self, block, places: dict[int, int]) -> list[Waiting]:
        """Hands rows of a block to the entries at these places; gives those that are done."""
        done = []
        for place, row in places.items():
            entry = self.live[place]
            if self._turns(entry, block, row):
                self.turned.append(place)
                block = block._replace(left=np.where(np.arange(len(block.left)) == row, 1, block.left))
            entry.answer.take(block, row)
            if entry.answer.done:
                done.append(place)
        left, self.live = self.live, {row: entry for row, entry in self.live.items() if row not in done}
        return [left[place] for place in done]

    def _turns(self, entry: Waiting, block, row: int) -> bool:
        """Whether a row has come, with this block, to where it goes through the model anew."""
        answer, n = entry.answer, block.counts[row]
        whole = len(answer.prompt) + len(answer.tokens) + n
        more = len(answer.tokens) + n < entry.new and whole < self.device.limit
        return bool(n and whole == self.device.turn and more and block.tokens[row, n - 1] not in self.device.ids)


def serve(model, params, mesh, waiting: Sequence[Waiting], *, sampling: Sampling, stop_ids: Sequence[int], rows: int,
          limit: int, shape: Shape, top: int = 0, kv_cache: str = "") -> Iterator[list[int]]:  # fmt: skip
    """Answers a queue in its order, growing its answers; yields the indices of those that are done, as they are.

    stop_ids: of all of them. rows: that are computed at once, a multiple of the mesh's batch shards. limit: the most
    slots of a prompt with its answer. shape: of the longest prompt. top: likeliest tokens that are told of each token.
    kv_cache: see `models.cache.KINDS`. Raises UserError, beginning with an answer's `where`, for logits that are not
    finite.
    """
    there = Rows(Device(model, params, mesh, sampling, stop_ids, rows, limit, shape, top=top, kv_cache=kv_cache))
    queue, places = deque(waiting), {id(entry): i for i, entry in enumerate(waiting)}
    while queue or there.live:
        if count := there.room(len(queue)):
            done = there.put([queue.popleft() for _ in range(count)])
        else:
            done = there.step(max(LEAST, min(OFTEN, there.soonest())) if queue else BLOCK)
        if done:
            yield [places[id(entry)] for entry in done]
