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

from jitune.evals.engine.answers import Job, answer
from jitune.generation.decode_loop import slots_in_front
from jitune.generation.sampling import Sampling
from jitune.types import Model

ROWS = 16  # prompts answered at once, at most; on a mesh a multiple of its batch shards


def renew(batch, model: Model, params, tokenizer: Any, config, *, step: int, stop_ids: Sequence[int],
          rows: int = ROWS, context: int = 0) -> tuple[dict, dict[str, float]]:  # fmt: skip
    """(the batch of a step, numbers about it): with the model's answers where the step is one of them, else as it is.

    batch: whole, arrays of the host. params: (frozen, trainable) as they are now. rows: of a generation batch.
    context: the model's. Numbers: on_policy (1 or 0) and generated_per_second, in tokens.
    """
    from jitune.objectives import on_policy

    o = config.objective
    if not on_policy.coin(config.seed, step, o.on_policy):
        return batch, {"on_policy": 0.0}
    began = time.perf_counter()
    prompts = on_policy.prompts_of(batch, max_new_tokens=o.max_new_tokens)
    limit = config.seq_len
    if context:
        limit = min(limit, context - slots_in_front(model))
    seed = int.from_bytes(hashlib.sha256(f"{config.seed}/{step}".encode()).digest()[:4], "little")
    sampling = Sampling(seed=seed)
    jobs = [Job(tuple(prompt), o.max_new_tokens, temperature=o.sampling_temperature, sample=i, sampling=sampling)
            for i, prompt in enumerate(prompts)]  # fmt: skip
    found: dict[int, list[int]] = {}
    for done in answer(model, params, tokenizer, jobs, stop_ids=stop_ids, rows=rows, limit=limit):
        found.update({i: generation.tokens for i, generation in done})
    answers = [found[i] for i in range(len(jobs))]
    new = on_policy.batch_of(prompts, answers, batch)
    seconds = time.perf_counter() - began
    return new, {"on_policy": 1.0, "generated_per_second": sum(map(len, answers)) / seconds}
