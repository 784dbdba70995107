"""Several answers to each prompt: a prompt goes through the model once, and its cache is repeated.

    answers = generate_several(model, params, tokenizer, prompts, n=4, max_new_tokens=64,
                               sampling=Sampling(temperature=0.8))
    answers[0][3].text       # the fourth answer to the first prompt

Sample 0 of a prompt is what `generate` draws; each sample is seeded by its number and its prompt's alone, so that it
depends neither on n, nor on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jitune import sharding
from jitune.generation.batches import Answer, Generation, blocks, follow, pad, power_of_two, sort_stops
from jitune.generation.decode_loop import BLOCK, Prompts, slots_in_front, turning
from jitune.generation.generate import check_options
from jitune.generation.prompts import check_prompt
from jitune.generation.sampling import GREEDY, Sampling
from jitune.models.cache import check_kind
from jitune.types import Model, Params, UserError

# Steps of the golden ratio lie as far apart on a circle as they can: 1,000 samples of 500,000 rows never meet.
STEP, CIRCLE = 0x4F1BBCDD, 2**31


def sample_id(row_id: int, sample: int) -> int:
    """What seeds a sample of a row: (5, 0) -> 5."""
    return (row_id + sample * STEP) % CIRCLE


def generate_several(
    model: Model,
    params: Params,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    n: int,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    stop_ids: Sequence[int] = (),
    stop_strings: Sequence[str] = (),
    batch_size: int = 8,
    max_positions: int = 0,
    row_ids: Sequence[int] | None = None,
    top_logprobs: int = 0,
    kv_cache: str = "",
    on_done: Callable[[int], None] | None = None,
) -> list[list[Generation]]:
    """n answers to every prompt, in their order. See `generate`; batch_size counts answers.

    Raises:
      UserError: as `generate` does, and for n below 1.
    """
    check_options(tokenizer, max_new_tokens, stop_strings, top_logprobs)
    check_kind(kv_cache, "generate: kv_cache")
    mesh, taken = sharding.mesh_of(params), slots_in_front(model)

    def start(batch: Prompts, stop_ids):
        return blocks(model, params, mesh, batch, max_new_tokens, sampling, stop_ids, BLOCK, top_logprobs, kv_cache)

    return answer_batches(
        start, tokenizer, prompts, n=n, max_new_tokens=max_new_tokens, stop_ids=stop_ids, stop_strings=stop_strings,
        batch_size=batch_size, shards=sharding.batch_shards(mesh) if mesh else 1,
        max_positions=max_positions, taken=taken, row_ids=row_ids, copied=not turning(model), on_done=on_done,
    )  # fmt: skip


def answer_batches(
    start: Callable, tokenizer, prompts, *, n: int, max_new_tokens: int, stop_ids, stop_strings, batch_size: int,
    shards: int, max_positions: int, taken: int, row_ids, copied: bool, on_done,
) -> list[list[Generation]]:  # fmt: skip
    """n answers to every prompt by batches that `start(Prompts, stop_ids)` runs, as `batches.blocks` does.

    shards: of a batch's rows. taken: positions of the context that something trained has. copied: whether a prompt's
    cache may be repeated, which rows that go through the model anew (`decode_loop.turning`) cannot share.
    """
    if n < 1:
        raise UserError(f"generate: n={n} must be at least 1")
    for i, prompt in enumerate(prompts):
        check_prompt(prompt, f"prompt {i + 1} of {len(prompts)}", max_positions=max_positions, taken=taken)
    stop_ids, stop_strings = sort_stops(tokenizer, stop_ids, stop_strings)
    row_ids = range(len(prompts)) if row_ids is None else row_ids
    found: dict[tuple[int, int], Generation] = {}
    for places, rows, copies in _split(prompts, n, batch_size, shards, copied):
        chosen = places[::copies]
        batch = pad([prompts[i] for i, _ in chosen], [0] * len(chosen), rows, max_new_tokens,
                    max_positions and max_positions - taken)  # fmt: skip
        answers = [Answer(tokenizer, prompts[i], stop_ids, stop_strings) for i, _ in places]
        left, ids = np.repeat(batch.left, copies), np.zeros(rows * copies, np.int32)
        for row, (i, sample) in enumerate(places):
            ids[row] = sample_id(row_ids[i], sample)
            if sample >= n:  # fills up the batch
                left[row], answers[row].done = 0, True
        for _ in follow(start(batch._replace(left=left, row_ids=ids), stop_ids), answers, rows * copies):
            pass
        done = {place: a.generation() for place, a in zip(places, answers, strict=True) if place[1] < n}
        found.update(done)
        if on_done:
            on_done(len(done))
    return [[found[i, sample] for sample in range(n)] for i in range(len(prompts))]


def _split(prompts, n: int, batch_size: int, shards: int, copied: bool
           ) -> Iterator[tuple[list[tuple[int, int]], int, int]]:  # fmt: skip
    """Batches of (prompt, sample), those of a prompt together; the prompts that a batch has room for; copies of each.

    Prompts of like lengths stand together. Samples beyond n only fill up the last copies of a prompt.
    """
    copies = min(n, max(1, batch_size // shards)) if copied else 1
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    groups = [(i, first) for i in order for first in range(0, n, copies)]
    rows = min(max(1, batch_size // (shards * copies)) * shards, power_of_two(len(groups)))
    rows = -(-rows // shards) * shards
    for at in range(0, len(groups), rows):
        chosen = groups[at : at + rows]
        yield [(i, first + c) for i, first in chosen for c in range(copies)], rows, copies
