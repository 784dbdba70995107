"""Filters and the keys of Sieves in processes of their own: chunks of records in, what the stages said of them out.

    with Pool(specs, workers=2) as pool:
        for items, found in pool.map(chunks(stream)):       # in the order of the stream
            found.judged, found.cpu                         # a Judged for each record, seconds by stage

A worker is started anew (no fork: threads of the parent would be copied in the middle of their work), without the
script that started the run, builds its own stages from names and options, and never imports jax. It sees no memory of a
Sieve: it gives keys, and goes on as if they were new; the parent, which admits them in order, drops what comes after a
repetition.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from jitune.construct.curate import table
from jitune.construct.curate.sift import ask, ask_key
from jitune.construct.curate.stage import Filter, Reject, Sieve
from jitune.construct.curate.table import Spec
from jitune.construct.curate.tally import Facts, facts
from jitune.data.record import Record, all_texts
from jitune.data.record_rows import to_line
from jitune.types import UserError

CHUNK = 128  # records of a chunk at most
CHUNK_CHARACTERS = 1 << 19  # and about this much text
PATIENCE = 10.0  # seconds without a result, after which it is asked whether all workers are alive
AHEAD = 2  # chunks that wait for each worker
STOPS = {signal.SIGINT, signal.SIGTERM}

_stages: list = []  # of a worker, built once when it starts


class Judged(NamedTuple):
    """What the stages of a pass said of one record.

    before, after: what is counted of it as it came, and as it is in the end.
    line: the record as JSON, after the last stage that it passed.
    sieves: (stage, key, the record's line then) of each sieve that it came to; no line where it is as it came.
    changed: the stages that wrote onto it.
    stage, reject: which filter rejected it and why, or None.
    """

    before: Facts
    after: Facts
    line: bytes
    sieves: tuple[tuple[int, bytes | None, bytes | None], ...]
    changed: tuple[int, ...]
    stage: int | None
    reject: Reject | None


class Found(NamedTuple):
    """Of one chunk: a Judged for each record, CPU seconds of each stage, and in all."""

    judged: list[Judged]
    cpu: list[float]
    whole: float


class _Going:
    """A record on its way through the stages."""

    __slots__ = ("record", "before", "line", "sieves", "changed", "stage", "reject")

    def __init__(self, record: Record):
        self.record, self.before, self.line = record, facts(record), None
        self.sieves, self.changed, self.stage, self.reject = [], [], None, None

    def write(self) -> bytes:
        """The record's line as it is now."""
        self.line = self.line or as_line(self.record)
        return self.line

    def judged(self) -> Judged:
        """All that was found."""
        after = facts(self.record) if self.changed else self.before
        return Judged(self.before, after, self.write(), tuple(self.sieves), tuple(self.changed), self.stage,
                      self.reject)


def judge_all(stages: Sequence[tuple[str, Filter | Sieve]], records: Sequence[Record]) -> Found:
    """Runs a chunk through the stages, as far as that goes without memories.

    Stage after stage, not record after record: asking for the CPU time costs microseconds, as much as many a filter.
    """
    began, cpu = time.process_time(), []
    going = [_Going(record) for record in records]
    for at, (name, stage) in enumerate(stages):
        left = [one for one in going if one.stage is None]
        start = time.process_time()
        if isinstance(stage, Filter):
            found = [ask(name, stage.judge, one.record) for one in left]
        else:
            found = [ask_key(stage, one.record) for one in left]
        cpu.append(time.process_time() - start)
        for one, said in zip(left, found, strict=True):
            if isinstance(stage, Sieve):
                one.sieves.append((at, said, one.write() if one.changed else None))
                continue
            if said.record is not None and said.record is not one.record:
                one.record, one.line = said.record, None
                one.changed.append(at)
            if isinstance(said, Reject):
                one.stage, one.reject = at, said._replace(record=None)
    judged = [one.judged() for one in going]
    return Found(judged, cpu, time.process_time() - began)


def as_line(record: Record) -> bytes:
    """A record as JSON, without the end of its line."""
    return to_line(record)[:-1]


def chunks(items: Iterable[tuple[int, Any]]) -> Iterator[list[tuple[int, Any]]]:
    """Items (input, Record or what could not be read) in chunks of bounded size."""
    chunk, size = [], 0
    for item in items:
        chunk.append(item)
        size += sum(map(len, all_texts(item[1]))) if isinstance(item[1], Record) else len(str(item[1].raw))
        if len(chunk) >= CHUNK or size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class Pool:
    """Workers for the stages of one pass; with none, or with stages of the script itself, the work is done here."""

    def __init__(self, specs: Sequence[Spec], stages: Sequence[tuple[str, Filter | Sieve]], workers: int):
        own = any(spec.target.startswith("__main__:") for spec in specs)  # workers have another __main__
        self.stages, self.workers, self.executor = stages, 0 if own else workers, None
        if self.workers:
            import multiprocessing
            from concurrent.futures import ProcessPoolExecutor

            self.executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (list(specs),))

    def map(self, chunks: Iterable[list[tuple[int, Any]]]) -> Iterator[tuple[list[tuple[int, Any]], Found]]:
        """(chunk, what was found of its records), in order. Raises UserError where a stage fails or a worker dies."""
        if self.executor is None:
            for chunk in chunks:
                yield chunk, judge_all(self.stages, _records(chunk))
            return
        from concurrent.futures import BrokenExecutor

        waiting: deque = deque()
        try:
            for chunk in chunks:
                with _starting():
                    waiting.append((chunk, self.executor.submit(_work, _records(chunk))))
                if len(waiting) > AHEAD * self.workers:
                    yield self._result(waiting)
            while waiting:
                yield self._result(waiting)
        except BrokenExecutor as error:
            raise UserError("a worker process died: it was killed, perhaps for its memory, or could not start; fewer "
                            "workers take less memory, and workers=0 starts none") from error

    def _result(self, waiting: deque) -> tuple[list, Found]:
        """The next result. A worker that is gone while nothing comes has died in the middle of one."""
        from concurrent.futures import BrokenExecutor

        chunk, future = waiting.popleft()
        while True:
            processes = list((getattr(self.executor, "_processes", None) or {}).values())
            dead = any(process.exitcode is not None for process in processes)
            try:
                return chunk, future.result(timeout=PATIENCE)
            except TimeoutError:
                if dead:
                    raise BrokenExecutor("a worker died in the middle of a result") from None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind, *_) -> None:
        if self.executor is None:
            return
        # Whatever was asked for is not waited for after a failure.
        processes = list((getattr(self.executor, "_processes", None) or {}).values())
        results = getattr(self.executor, "_result_queue", None)
        manager = getattr(self.executor, "_executor_manager_thread", None)
        self.executor.shutdown(wait=kind is None, cancel_futures=True)
        for process in processes if kind else ():
            process.kill()
        if kind and hasattr(results, "_writer"):
            # A worker that died in the middle of a result leaves its reader waiting for the rest, here as well, until
            # nobody can write it.
            results._writer.close()
        if kind and manager is not None:
            # Else the interpreter's end may wake it by a pipe that it is just closing, which is a traceback.
            manager.join(timeout=5)


@contextmanager
def _starting():
    """Processes that start meanwhile do not run the script again, which need not have a guard of `__main__` then; and
    no signal is answered between their start and its being known, nor reaches them before they are ready: they inherit
    what is blocked."""
    main = sys.modules["__main__"]
    names = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS) if hasattr(signal, "pthread_sigmask") else None
    try:
        main.__spec__ = None
        vars(main).pop("__file__", None)
        yield
    finally:
        vars(main).update(names)
        if masked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def _records(chunk: list[tuple[int, Any]]) -> list[Record]:
    return [item for _, item in chunk if isinstance(item, Record)]


def _start(specs: list[Spec]) -> None:
    """What a worker does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)  # see `_starting`
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _stages.extend((spec.name, table.build(spec)) for spec in specs)


def _end_with_parent() -> None:
    """A parent that was killed leaves no workers behind: they would wait for ever."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(records: list[Record]) -> Found:
    return judge_all(_stages, records)
