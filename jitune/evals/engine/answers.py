"""Answers to many prompts, in rows of few fixed shapes, whatever their lengths, limits, stops and temperatures.

    jobs = [Job([1, 5, 9], max_new_tokens=64)]
    for done in answer(model, params, tokenizer, jobs, stop_ids=(2,), rows=8, limit=2048): ...

A row's sample is seeded by its prompt and the number of the sample alone. So answers do not depend on what else is
asked, on its order, or on the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from jitune import sharding
from jitune.generation.batches import FIRST_SLOTS, Answer, Generation, Shape, round_up, sort_stops
from jitune.generation.sampling import GREEDY, Sampling
from jitune.generation.slots import Waiting, serve
from jitune.types import Model, Params

CHUNK, CHUNK_ON_CPU = 128, 64  # prompt tokens that go through the model at once; shorter prompts are padded to it
CAPACITIES = (512, 2048)  # slots of caches, before those of the whole context


@dataclass(frozen=True)
class Job:
    """A prompt to answer.

    prompt: token ids, at most the context less max_new_tokens. stop: texts that end the answer. sample: tells several
    samples of one prompt apart. name: of the prompt, for errors. sampling: what holds besides the temperature.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    sample: int = 0
    name: str = field(default="", compare=False)
    sampling: Sampling = GREEDY


def shape_of(length: int, limit: int) -> Shape:
    """The shape of a batch whose longest prompt has `length` tokens."""
    chunk = CHUNK_ON_CPU if jax.default_backend() == "cpu" else CHUNK
    width = round_up(limit, CHUNK)
    most = width + CHUNK
    ladder = (*(c for c in CAPACITIES if 1.5 * c <= most), most)
    needed = min(round_up(length, chunk) + FIRST_SLOTS, most)
    return Shape(width, chunk, tuple(c for c in ladder if c >= needed))


def seed(job: Job) -> int:
    """A number for a prompt and sample, below 2**31."""
    state = hashlib.sha256(np.asarray([job.sample, *job.prompt], "<i4").tobytes())
    return int.from_bytes(state.digest()[:4], "little") & 0x7FFFFFFF


def answer(model: Model, params: Params, tokenizer: Any, jobs: Sequence[Job], *, stop_ids: Sequence[int], rows: int,
           limit: int, kv_cache: str = "") -> Iterator[list[tuple[int, Generation]]]:  # fmt: skip
    """Yields [(index of the job, its answer), ...] as answers are done; a row that is free takes the next job.

    rows: that are computed at once. limit: the model's context, without what is trained in front. kv_cache: see
    `models.cache.KINDS`. Raises UserError,
    beginning with a job's name, for logits that are not finite.
    """
    mesh = sharding.mesh_of(params)
    groups: dict[Any, list[int]] = {}
    stops = [sort_stops(tokenizer, stop_ids, job.stop) for job in jobs]
    for i, job in enumerate(jobs):
        # Special tokens that end an answer are the whole batch's.
        key = shape_of(len(job.prompt), limit), stops[i][0], replace(job.sampling, temperature=0.0, seed=0)
        groups.setdefault(key, []).append(i)
    for members in groups.values():
        # Those that may be long begin first: towards the end no row is left alone with a long one.
        members.sort(key=lambda i: (-jobs[i].max_new_tokens, -len(jobs[i].prompt)))
        shape = shape_of(max(len(jobs[i].prompt) for i in members), limit)
        growing = [_waiting(tokenizer, jobs[i], *stops[i]) for i in members]
        served = serve(model, params, mesh, growing, sampling=replace(jobs[members[0]].sampling, temperature=0.0),
                       stop_ids=stops[members[0]][0], rows=rows, limit=limit, shape=shape,
                       kv_cache=kv_cache)  # fmt: skip
        for done in served:
            yield [(members[k], growing[k].answer.generation()) for k in done]


def _waiting(tokenizer, job: Job, stop_ids, stop_strings) -> Waiting:
    """A job in the queue."""
    answer = Answer(tokenizer, list(job.prompt), stop_ids, stop_strings, job.name or "generate")
    return Waiting(answer, seed(job), job.max_new_tokens, job.temperature)
