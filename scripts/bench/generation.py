"""Generation for data: a queue of prompts whose answers differ in length, beside a batch that is always full.

    python scripts/bench/generation.py --workload small --prompts 96 --rows 8 --rounds 3

One JSON line. queue: tokens/s of answers of log-normal lengths, each row taking the next prompt when it is free. full:
tokens/s of one batch whose answers are all equally long, prompts' forward included: the batched decode's rate. static:
the same queue in batches that wait for their longest answer; static_sorted: where it is known which are long. ratio:
queue to full, of medians; they take turns; cpu_ratio: of tokens a CPU second, which neighbours on a busy machine
stretch less. idle: the share of rows' steps, while prompts waited, that made no token.
"""

import argparse
import os
import statistics
import time

from common import WORKLOADS, emit


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--workload", choices=WORKLOADS, default="small")
    p.add_argument("--prompts", type=int, default=96)
    p.add_argument("--rows", type=int, default=8)
    p.add_argument("--length", type=int, default=64, help="tokens of a prompt, in the median")
    p.add_argument("--new", type=int, default=64, help="tokens of an answer, in the median")
    p.add_argument("--rounds", type=int, default=3)
    return p.parse_args()


def watch(slots):
    """Counts tokens and steps of rows in blocks that are cut short because prompts wait; gives their share."""
    decode, counts = slots.Device.decode, [0, 0]

    def counted(self, stopped, extent, limit):
        block = decode(self, stopped, extent, limit)
        if limit <= slots.OFTEN:
            counts[0] += int(block.counts.sum())
            counts[1] += limit * self.rows
        return block

    slots.Device.decode = counted
    return lambda: 1 - counts[0] / max(counts[1], 1)


def main():
    a = parse()
    import jax
    import numpy as np

    from jitune.evals.engine.answers import Job, answer
    from jitune.generation import slots
    from jitune.models import decoder
    from jitune.models.config import ModelConfig

    shapes, _, _ = WORKLOADS[a.workload]
    config = ModelConfig.from_hf({"model_type": "llama", "max_position_embeddings": 2048, **shapes})
    model = decoder.build(config)
    params = jax.jit(model.init)(jax.random.key(0))
    rng, limit = np.random.default_rng(0), 1024

    def draw(median, count):
        return np.clip(rng.lognormal(np.log(median), 0.7, count), 4, 400).astype(int).tolist()

    jobs = [Job(tuple(rng.integers(3, config.vocab_size, n).tolist()), new)
            for n, new in zip(draw(a.length, a.prompts), draw(a.new, a.prompts), strict=True)]
    mean_length = round(statistics.mean(len(job.prompt) for job in jobs))
    mean_new = round(statistics.mean(job.max_new_tokens for job in jobs))
    same = [Job(tuple(rng.integers(3, config.vocab_size, mean_length).tolist()), mean_new)
            for _ in range(-(-a.prompts // a.rows) * a.rows)]

    def rate(parts):
        began, before, count = time.perf_counter(), os.times(), 0
        for part in parts:
            for done in answer(model, params, None, part, stop_ids=(), rows=a.rows, limit=limit):
                count += sum(len(g.tokens) for _, g in done)
        after = os.times()
        cpu = after.user + after.system - before.user - before.system
        return count / (time.perf_counter() - began), count / cpu

    def cut(jobs):
        order = sorted(jobs, key=lambda job: -job.max_new_tokens)
        return [order[i : i + a.rows] for i in range(0, len(order), a.rows)]

    unsorted = [jobs[i : i + a.rows] for i in range(0, len(jobs), a.rows)]
    ways = {"queue": [jobs], "full": cut(same), "static": unsorted, "static_sorted": cut(jobs)}
    found, idle = {name: [] for name in ways}, watch(slots)
    for turn in range(a.rounds + 1):
        for name, parts in ways.items():
            value = rate(parts)
            if turn:  # the first compiles
                found[name].append(value)
    medians = {name: round(statistics.median(x for x, _ in values), 1) for name, values in found.items()}
    work = {name: statistics.median(x for _, x in values) for name, values in found.items()}
    emit(workload=a.workload, prompts=a.prompts, rows=a.rows, mean_length=mean_length, mean_new=mean_new, **medians,
         ratio=round(medians["queue"] / medians["full"], 3), n=a.rounds, idle=round(idle(), 4),
         cpu_ratio=round(work["queue"] / work["full"], 3))


if __name__ == "__main__":
    main()
