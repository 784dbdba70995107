"""Steps on what the student itself writes (GKD, arXiv 2306.13649): its answers in the place of the data's.

    batch, numbers = renew(batch, model, (frozen, trainable), tokenizer, config, step=7, stop_ids=ids)

A step is one of them, or not, by its seed and number alone, and so are the answers: a resumed run repeats them. The
prompts are those of the step's own batch, which every process has whole; all of them generate the same. The loop waits
for the devices here, as an answer is needed before its step.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

from jitune import sharding
from jitune.evals.engine.answers import Job, answer
from jitune.generation.batches import round_up
from jitune.generation.decode_loop import slots_in_front
from jitune.generation.sampling import Sampling
from jitune.objectives import on_policy
from jitune.types import Model

ROWS = 8  # prompts answered at once, at least; with bigger batches as many as they have rows


def renew(batch, model: Model, params, tokenizer: Any, config, *, step: int, stop_ids: Sequence[int],
          context: int = 0) -> tuple[dict, dict[str, float]]:  # fmt: skip
    """(the batch of a step, numbers about it): with the model's answers where the step is one of them, else as it is.

    batch: whole, arrays of the host. params: (frozen, trainable) as they are now. context: the model's. Numbers:
    on_policy (1 or 0), generated_per_second (tokens), and answers_dropped and answers_cut, for which the rows had no
    room.
    """
    if not on_policy.coin(config.seed, step, config.objective.on_policy):
        return batch, {"on_policy": 0.0}
    began = time.perf_counter()
    limit = min(config.seq_len, context - slots_in_front(model)) if context else config.seq_len
    prompts = on_policy.prompts_of(batch, max_new_tokens=config.objective.max_new_tokens, limit=limit)
    answers = write(prompts, model, params, tokenizer, config, step=step, stop_ids=stop_ids, limit=limit)
    placed = on_policy.place(prompts, answers, *batch["tokens"].shape)
    seconds = time.perf_counter() - began
    return on_policy.batch_of(prompts, answers, batch, placed), {
        "on_policy": 1.0, "generated_per_second": sum(map(len, answers)) / seconds,
        "answers_dropped": float(placed.dropped), "answers_cut": float(placed.cut),
    }  # fmt: skip


def write(prompts, model: Model, params, tokenizer: Any, config, *, step: int, stop_ids: Sequence[int],
          limit: int) -> list[list[int]]:  # fmt: skip
    """The model's answers to prompts at a step, as token ids with their end; sampled anew for each step and prompt.

    limit: the most tokens of a prompt with its answer; every prompt has less.
    """
    o, mesh = config.objective, sharding.mesh_of(params)
    rows = round_up(max(ROWS, config.batch_size), sharding.batch_shards(mesh) if mesh else 1)
    seed = int.from_bytes(hashlib.sha256(f"answers/{config.seed}/{step}".encode()).digest()[:4], "little")
    jobs = [Job(tuple(prompt), o.max_new_tokens, temperature=o.sampling_temperature, sample=i,
                sampling=Sampling(seed=seed)) for i, prompt in enumerate(prompts)]  # fmt: skip
    found: dict[int, list[int]] = {}
    for done in answer(model, params, tokenizer, jobs, stop_ids=stop_ids, rows=rows, limit=limit):
        found.update({i: generation.tokens for i, generation in done})
    return [found[i] for i in range(len(jobs))]
