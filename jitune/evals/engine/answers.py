"""Answers to many prompts, in batches of few fixed shapes, whatever their lengths, limits, stops and temperatures.

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
from jitune.generation.batches import (
    FIRST_SLOTS,
    Answer,
    Generation,
    Shape,
    blocks,
    follow,
    pad,
    round_up,
    sort_stops,
)
from jitune.generation.decode_loop import BLOCK
from jitune.generation.sampling import GREEDY, Sampling
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
           limit: int) -> Iterator[list[tuple[int, Generation]]]:  # fmt: skip
    """Yields (index of the job, its answer) of one batch after the other.

    rows: of a batch. limit: the model's context, without what is trained in front. Raises UserError, beginning with a
    job's name, for logits that are not finite.
    """
    mesh = sharding.mesh_of(params)
    groups: dict[Any, list[int]] = {}
    stops = [sort_stops(tokenizer, stop_ids, job.stop) for job in jobs]
    for i, job in enumerate(jobs):
        # Special tokens that end an answer are the whole batch's.
        key = shape_of(len(job.prompt), limit), stops[i][0], replace(job.sampling, temperature=0.0, seed=0)
        groups.setdefault(key, []).append(i)
    for members in groups.values():
        # A batch takes as long as its longest answer, so those that may be long stand together.
        members.sort(key=lambda i: (-jobs[i].max_new_tokens, -len(jobs[i].prompt)))
        shape = shape_of(len(jobs[members[0]].prompt), limit)
        while members:
            chosen = choose(jobs, members, rows, shape)
            taken = set(chosen)
            members = [i for i in members if i not in taken]
            answers = _run(model, params, tokenizer, mesh, [jobs[i] for i in chosen], [stops[i] for i in chosen],
                           rows, limit, shape)  # fmt: skip
            yield list(zip(chosen, answers, strict=True))


def choose(jobs, members: list[int], rows: int, shape: Shape) -> list[int]:
    """The first members that fit a cache together: with the longest prompt and the longest answer of all of them."""
    chosen, length, new = [], 0, 0
    for i in members:
        longer, more = max(length, len(jobs[i].prompt)), max(new, jobs[i].max_new_tokens)
        if round_up(longer, shape.chunk) + more <= shape.capacities[-1]:
            chosen, length, new = [*chosen, i], longer, more
        if len(chosen) == rows:
            break
    return chosen


def _run(model, params, tokenizer, mesh, jobs: list[Job], stops, rows: int, limit: int, shape: Shape):
    """Answers of one batch, as Generations."""
    new = max(job.max_new_tokens for job in jobs)
    prompts, most = [list(job.prompt) for job in jobs], [job.max_new_tokens for job in jobs]
    batch = pad(prompts, [seed(job) for job in jobs], rows, most, limit, shape=shape,
                temperatures=[job.temperature for job in jobs])  # fmt: skip
    growing = [Answer(tokenizer, prompt, ids, texts, job.name or "generate")
               for prompt, job, (ids, texts) in zip(prompts, jobs, stops, strict=True)]
    sampling = replace(jobs[0].sampling, temperature=0.0)
    run = blocks(model, params, mesh, batch, new, sampling, stops[0][0], BLOCK, shape=shape)
    for _ in follow(run, growing, rows):
        pass
    return [answer.generation() for answer in growing]
