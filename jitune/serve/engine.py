"""Rows that answer whoever asks: requests come and go while others run, each as if it were alone.

    engine = Engine({"base": pretrained, "poems": with_adapter}, rows=8, limit=2048, queue=64)
    seconds = engine.start()                                   # compiles what requests will need
    engine.submit("poems", [engine.row("poems", ask, tell)])   # Full where too many wait already
    engine.cancel(rows)
    engine.close()

One thread owns the device. Each model has rows and a queue of its own; models that have something to do take turns of a
few tokens, so that none waits for another's end. Adapters of one form share the compiled programs, and all share the
weights of the base. An error within a turn fails the requests of that turn's rows, and the engine goes on.
"""

from __future__ import annotations

import copy
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jitune import sharding
from jitune.evals.engine.answers import shape_of
from jitune.generation.batches import sort_stops
from jitune.generation.decode_loop import slots_in_front
from jitune.generation.prompt_logprobs import prompt_logprobs
from jitune.generation.prompts import default_stop_ids
from jitune.generation.sampling import GREEDY
from jitune.generation.slots import FEWER, LEAST, OFTEN, Device, Rows, Waiting
from jitune.serve.row import Ask, Row
from jitune.types import Pretrained, UserError

PROMPT_TOP = 5  # as many as completions may ask for
TOP = 20  # likeliest tokens that are computed where they are asked for
BROKEN = "the server failed while it answered; what happened is in its log"
ENDED = "the server is shutting down"


class Full(Exception):
    """The queue holds as many as it may. after: seconds until there may be room again."""

    def __init__(self, after: int):
        super().__init__(f"try again in {after} s")
        self.after = after


class Closed(Exception):
    """The engine takes nothing more."""


class Lane:
    """A model with its rows and its queue of entries.

    limit: of a prompt with its answer. tokenizer: the engine's own copy, for one thread at a time may use one.
    """

    def __init__(self, pretrained: Pretrained, *, rows: int, limit: int, kv_cache: str = ""):
        model, params, tokenizer, config = pretrained
        self.model, self.params = model, params
        taken = slots_in_front(model)
        most = config.max_positions - taken if config.max_positions else limit
        self.limit = min(limit or most, most)
        self.stop_ids = sort_stops(tokenizer, default_stop_ids(tokenizer, config), ())[0]
        self.tokenizer, self.queue = copy.deepcopy(tokenizer), deque()
        self.taken, self.puts = [], 0  # on their way from the queue to rows; how often in a row some were
        self.device = Device(model, params, sharding.mesh_of(params), GREEDY, self.stop_ids, rows, self.limit,
                             shape_of(1, self.limit), each=True, top=TOP, kv_cache=kv_cache)  # fmt: skip
        self.rows = Rows(self.device, steady=True)

    @property
    def held(self) -> int:
        """Entries with a row, or on their way to one, that are not done; for any thread."""
        taken = self.taken  # before `live`: an entry is among those first
        return sum(not entry.answer.done for entry in {id(e): e for e in (*taken, *self.rows.live.values())}.values())

    @property
    def busy(self) -> bool:
        return bool(self.queue or self.rows.live)

    def warm_up(self) -> None:
        """Runs every program once, on prompts of one token."""
        sizes = self.device.shape.capacities
        self.device.start(())
        for capacity in sizes:
            self.device.grow(capacity)
            for least in (c for c in sizes if c <= capacity):
                self.device.refill([_waiting(Row(None, Ask((0,), 8, GREEDY), ()))], [0], 1, least=least)
            self.device.decode(np.arange(self.device.rows) > 0, 1, 1)
            self.device.move(1)
        self.device.start(())

    def sweep(self) -> None:
        """Frees the rows of those that nobody waits for any longer."""
        for entry in [e for e in self.rows.live.values() if e.answer.dropped]:
            self.rows.drop(entry)

    def sweep_queue(self) -> None:
        """Takes those out of the queue."""
        if any(entry.answer.dropped for entry in self.queue):
            self.queue = deque(entry for entry in self.queue if not entry.answer.dropped)

    def take(self) -> None:
        """Takes from the queue what is to be put into rows now."""
        room = self.rows.room(len(self.queue))
        # Short answers that come without end would otherwise keep long ones from going on.
        if room and not (self.rows.live and self.puts >= FEWER):
            self.taken = [self.queue.popleft() for _ in range(room)]

    def score(self) -> None:
        """Log-probabilities of the prompts that were taken, where they are asked for; those that have none fail alone.

        A program is compiled for each of few lengths, when the first prompt of it comes.
        """
        found = {}
        for entry in [entry for entry in self.taken if entry.answer.ask.scored]:
            row = entry.answer
            try:
                if row.ask.prompt not in found:
                    (found[row.ask.prompt],) = prompt_logprobs(
                        self.model, self.params, [row.prompt], top=PROMPT_TOP if row.ask.top else 0, batch_size=1)
                row.scores = found[row.ask.prompt]
            except UserError as error:
                self.taken = [other for other in self.taken if other is not entry]
                row.fail(str(error).removeprefix("prompt 1 of 1: "))

    def turn(self, shared: bool) -> int:
        """Puts what was taken into rows, or takes a few steps. Returns how many are done."""
        if self.taken:
            self.score()
            self.puts += 1
            done = self.rows.put(self.taken) if self.taken else ()
        else:
            self.puts = 0
            done = self.rows.step(max(LEAST, min(OFTEN, self.rows.soonest())) if shared else OFTEN)
        self.taken = []
        return len(done)

    def rest(self) -> None:
        """Gives back what a long answer took of the memory, where nothing is to be done."""
        if not self.busy and self.device.capacity > self.device.shape.capacities[0]:
            self.device.start(())

    def fail(self, why: str, *, waiting: bool) -> None:
        """Ends what runs, and what waits too where that is asked for; what the device holds is given up."""
        entries = [*self.rows.live.values(), *self.taken, *(self.queue if waiting else ())]
        self.rows.live, self.taken, self.device.state = {}, [], None
        if waiting:
            self.queue.clear()
        for entry in entries:
            entry.answer.fail(why)


def _waiting(row: Row) -> Waiting:
    ask = row.ask
    return Waiting(row, ask.number, ask.new, controls=(ask.sampling, ask.bias, ask.top))


class Engine:
    """See the module. models: by the names that they are asked by. queue: rows that may wait, of all models.

    rows: of each model, a multiple of its mesh's batch shards. kv_cache: see `models.cache.KINDS`.
    """

    def __init__(self, models: Mapping[str, Pretrained], *, rows: int, limit: int, queue: int, kv_cache: str = "",
                 log: Callable[[str], None] = print):  # fmt: skip
        self.lanes = {name: Lane(model, rows=rows, limit=limit, kv_cache=kv_cache) for name, model in models.items()}
        self.rows, self.queue, self.log = rows, queue, log
        self.done = deque(maxlen=64)  # when rows were done, for what a client is told to wait
        self._changed, self._closing = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> float:
        """Compiles, and begins to answer. Returns the seconds that it took."""
        began = time.perf_counter()
        for lane in self.lanes.values():
            lane.warm_up()
        self._thread.start()
        return time.perf_counter() - began

    def row(self, name: str, ask: Ask, tell: Callable[[Row], None]) -> Row:
        """A row for a model, to be submitted."""
        lane = self.lanes[name]
        return Row(lane.tokenizer, ask, lane.stop_ids, tell)

    def submit(self, name: str, rows: Sequence[Row]) -> None:
        """Queues rows of one request. Raises Full, and then none of them waits, or Closed."""
        with self._changed:
            if self._closing or not self._thread.is_alive():
                raise Closed(ENDED)
            if self.waiting + len(rows) > self.queue + self.free(name):
                raise Full(self._patience(len(rows)))
            self.lanes[name].queue.extend(map(_waiting, rows))
            self._changed.notify()

    def cancel(self, rows: Sequence[Row]) -> None:
        """Frees the rows of a request that nobody waits for any longer, before the next step."""
        with self._changed:
            for row in rows:
                row.dropped = True
            for lane in self.lanes.values():
                lane.sweep_queue()
            self._changed.notify()

    def free(self, name: str) -> int:
        """Rows of a model that nobody has."""
        return self.rows - self.lanes[name].held

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        with self._changed:
            return sum(len(lane.queue) for lane in self.lanes.values())

    @property
    def running(self) -> int:
        """Rows that are answered."""
        return sum(lane.held for lane in self.lanes.values())

    @property
    def alive(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Takes nothing more, and fails what is left as soon as the step that runs is over."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def close(self) -> None:
        """Stops, and waits for the end of the thread."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=60)

    def _patience(self, rows: int) -> int:
        """Seconds until so many may have a place, by how fast rows were done lately; 1 to 60."""
        if len(self.done) < 2:
            return 1
        pace = (time.monotonic() - self.done[0]) / len(self.done)
        return int(min(max(pace * (self.waiting + rows - self.queue), 1), 60))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or any(lane.busy for lane in self.lanes.values()))
                if self._closing:
                    break
                busy = [lane for lane in self.lanes.values() if lane.busy]
                for lane in busy:
                    lane.sweep()
                    lane.take()
            for lane in busy:
                self._turn(lane, len(busy) > 1 or bool(lane.queue))
        for lane in self.lanes.values():
            lane.fail(ENDED, waiting=True)

    def _turn(self, lane: Lane, shared: bool) -> None:
        """A turn of one model. Whatever goes wrong in it is that of its rows alone."""
        try:
            if lane.taken or lane.rows.live:
                self.done.extend([time.monotonic()] * lane.turn(shared))
            lane.rest()
        except Exception:
            self.log(traceback.format_exc())
            lane.fail(BROKEN, waiting=False)
