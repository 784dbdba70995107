"""A distillation step on random tokens: what the teacher costs beside the student, and what a store costs.

    python scripts/bench/distill.py                                  # a teacher in the process
    python scripts/bench/distill.py --stored 64                      # against a store's 64 likeliest tokens
    python scripts/bench/distill.py --divergence jsd --workload small --vocab 32000

Steps of all kinds are run in turn, so that the machine's drift meets all of them alike. One JSON line: medians in
seconds of the student's own step (cross-entropy), of the teacher's forward pass (its logits in chunks, and
nothing of them kept), of the step with the teacher, and `ratio`, that of the last to the sum of the first two;
`cpu_ratio` is of CPU seconds, which neighbours on a busy machine stretch less. With --stored: of the step on arrays
in memory, of the same with the batch read from a mapped file, of reading alone, and their ratios.
"""

import argparse
import os
import tempfile
import time
from statistics import median

from common import WORKLOADS, emit, peak_rss_mb


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--workload", choices=WORKLOADS, default="small")
    p.add_argument("--vocab", type=int, default=32000)
    p.add_argument("--teacher_layers", type=int, default=0, help="0: as many as the student has")
    p.add_argument("--divergence", default="forward", help="forward | reverse | jsd")
    p.add_argument("--temperature", type=float, default=1.0)
    p.add_argument("--stored", type=int, default=0, help="tokens at a place of a store, in place of a teacher")
    p.add_argument("--chunk", type=int, default=1024)
    p.add_argument("--steps", type=int, default=7)
    return p.parse_args()


def make_models(a):
    """(student, teacher, rows, tokens of a row): Llamas of the workload's sizes."""
    from jitune.models import decoder
    from jitune.models.config import ModelConfig

    sizes, rows, seq = WORKLOADS[a.workload]
    sizes = {**sizes, "vocab_size": a.vocab}
    deep = {**sizes, "num_hidden_layers": a.teacher_layers or sizes["num_hidden_layers"]}
    student, teacher = (
        decoder.build(ModelConfig.from_hf({"model_type": "llama", **raw}).replace(dtype="float32"))
        for raw in (sizes, deep)
    )
    return student, teacher, rows, seq


def make_batch(a, rows: int, seq: int):
    """Random tokens, all of them trained; with --stored also a teacher's, for each of them."""
    import numpy as np

    rng = np.random.default_rng(0)
    tokens = rng.integers(3, a.vocab, (rows, seq + 1), np.int32)
    batch = {
        "tokens": tokens[:, :-1], "targets": tokens[:, 1:], "loss_weights": np.ones((rows, seq), np.float32),
        "segment_ids": np.ones((rows, seq), np.int32),
        "positions": np.broadcast_to(np.arange(seq, dtype=np.int32), (rows, seq)),
    }
    if a.stored:
        batch["teacher_ids"] = rng.integers(0, a.vocab, (rows, seq, a.stored)).astype(np.uint16)
        logits = -np.sort(rng.exponential(4, (rows, seq, a.stored + 1)).astype(np.float32))
        batch["teacher_logprobs"] = (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[..., :-1]
    return batch


def make_step(model, objective, frozen, params):
    """`step(batch) -> loss`, with AdamW, which waits for its end."""
    import jax
    import jax.numpy as jnp

    from jitune import config as configs
    from jitune import optimizers
    from jitune.step import make_train_step
    from jitune.transforms.full import full
    from jitune.types import TrainState

    optimizer, _ = optimizers.make_optimizer(configs.defaults().optimizer, 1000)
    trainable = jax.tree.map(jnp.copy, params)
    held = [TrainState(jnp.zeros((), jnp.int32), trainable, jax.jit(optimizer.init)(trainable))]
    compiled = jax.jit(make_train_step(full().apply(model), objective, optimizer), donate_argnums=0)
    del trainable

    def step(batch):
        held[0], metrics = compiled(held[0], frozen, batch, jax.random.key(0))
        return float(metrics["loss"])

    return step


def make_forward(teacher, params, chunk: int):
    """The teacher's pass over a batch, its logits in chunks of which one sum is kept."""
    import jax

    from jitune.objectives.loss import chunked

    def total(params, batch):
        def largest(hidden, targets, weights):
            return (teacher.unembed(params, hidden).max(-1) * weights).sum(), None

        return chunked(largest, teacher.hidden(params, batch)[0], batch["targets"], batch["loss_weights"],
                       chunk=chunk)[0]  # fmt: skip

    jitted = jax.jit(total)
    return lambda batch: float(jitted(params, batch))


def take_turns(kinds: dict, steps: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds, and median CPU seconds of this process, of each of `{name: call}`.

    They are called in turn, after one turn that compiles and one that warms.
    """
    found = {name: [] for name in kinds}
    for turn in range(steps + 2):
        for name, call in kinds.items():
            start, before = time.perf_counter(), os.times()
            call()
            after = os.times()
            if turn > 1:
                work = after.user + after.system - before.user - before.system
                found[name].append((time.perf_counter() - start, work))
    return tuple({name: round(median(x[i] for x in took), 4) for name, took in found.items()} for i in (0, 1))


def compare(wall: dict, work: dict, names, others) -> dict[str, float]:
    """The ratio of the sum of some kinds to that of others, in seconds and in CPU seconds."""
    return {name: round(sum(found[x] for x in names) / sum(found[x] for x in others), 3)
            for name, found in (("ratio", wall), ("cpu_ratio", work))}  # fmt: skip


def measure_teacher(a):
    """The step with a teacher, beside the student's own and the teacher's pass."""
    import jax

    from jitune.objectives.distill import distill
    from jitune.objectives.sft import sft
    from jitune.types import Beside

    student, teacher, rows, seq = make_models(a)
    params, other = jax.jit(student.init)(jax.random.key(0)), jax.jit(teacher.init)(jax.random.key(1))
    options = {"divergence": a.divergence, "temperature": a.temperature, "chunk": a.chunk}
    batch = make_batch(a, rows, seq)
    alone = make_step(student, sft(chunk=a.chunk), {}, params)
    both = make_step(student, distill(**options, teacher=teacher), Beside({}, other), params)
    forward = make_forward(teacher, other, a.chunk)
    wall, work = take_turns({"student": lambda: alone(batch), "teacher": lambda: forward(batch),
                             "distill": lambda: both(batch)}, a.steps)  # fmt: skip
    return {**wall, **compare(wall, work, ["distill"], ["student", "teacher"])}


def measure_stored(a):
    """The step against a store: on arrays in memory, and on those that are read from mapped files before it."""
    import jax
    import numpy as np

    from jitune.objectives.distill import distill
    from jitune.objectives.sft import sft

    student, _, rows, seq = make_models(a)
    params, batch = jax.jit(student.init)(jax.random.key(0)), make_batch(a, rows, seq)
    plain = {name: array for name, array in batch.items() if not name.startswith("teacher_")}
    alone = make_step(student, sft(chunk=a.chunk), {}, params)
    step = make_step(student, distill(divergence=a.divergence, temperature=a.temperature, chunk=a.chunk), {}, params)
    with tempfile.TemporaryDirectory() as folder:
        maps = {}
        for name in ("teacher_ids", "teacher_logprobs"):
            batch[name].tofile(os.path.join(folder, name))
            maps[name] = np.memmap(os.path.join(folder, name), batch[name].dtype, "r", shape=batch[name].shape)

        def read():
            return {**plain, **{name: np.array(array) for name, array in maps.items()}}

        wall, work = take_turns({"student": lambda: alone(plain), "in_memory": lambda: step(batch),
                                 "mapped": lambda: step(read()), "reading": read}, a.steps)  # fmt: skip
    return {**wall, **compare(wall, work, ["mapped"], ["in_memory"]),
            "to_student": round(wall["mapped"] / wall["student"], 3)}  # fmt: skip


def main(a):
    from jitune.host_memory import keep_pages

    keep_pages()
    found = measure_stored(a) if a.stored else measure_teacher(a)
    emit(bench="distill", workload=a.workload, vocab=a.vocab, divergence=a.divergence, stored=a.stored, **found,
         peak_rss_mb=peak_rss_mb())


if __name__ == "__main__":
    main(parse())
