"""The train step of `jitune train`, full tuning on random tokens: one JSON line of tokens/s, memory, first step.

    python scripts/bench/step.py --workload main --steps 10
    python scripts/bench/step.py --workload main --saving          # the settings that hold the least memory
"""

import argparse

from common import WORKLOADS, emit, peak_rss_mb, time_steps


def parse():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--workload", choices=WORKLOADS, default="main")
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--scan", type=int, default=1)
    p.add_argument("--remat", default="none")
    p.add_argument("--chunk", type=int, default=1024)
    p.add_argument("--keep_pages", type=int, default=1)
    p.add_argument("--clip", type=float, default=1.0)
    p.add_argument("--saving", action="store_true")
    p.add_argument("--tag", default="")
    return p.parse_args()


def main(a):
    if a.keep_pages:
        import ctypes
        for k, v in ((-8, 1), (-4, 0), (-1, -1), (-2, 1 << 28)):
            assert ctypes.CDLL(None).mallopt(k, v) == 1, k
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jitune import config as configs
    from jitune import optimizers
    from jitune.models import decoder
    from jitune.models.config import ModelConfig
    from jitune.objectives.sft import sft
    from jitune.step import make_train_step
    from jitune.transforms.full import full
    from jitune.types import TrainState

    sizes, rows, seq = WORKLOADS[a.workload]
    config = ModelConfig.from_hf({"model_type": "llama", **sizes}).replace(scan_layers=bool(a.scan), remat=a.remat)
    model = full().apply(decoder.build(config))
    params = jax.jit(decoder.build(config).init)(jax.random.key(0))
    frozen, trainable = full().init(jax.random.key(0), params)
    options = configs.defaults().optimizer
    options.clip_norm = a.clip
    options.learning_rate = 1e-4
    optimizer, _ = optimizers.make_optimizer(options, 1000)
    state = TrainState(jnp.zeros((), jnp.int32), trainable, jax.jit(optimizer.init)(trainable))
    tokens = np.random.default_rng(0).integers(3, config.vocab_size, (rows, seq + 1), np.int32)
    batch = {
        "tokens": tokens[:, :-1], "targets": tokens[:, 1:], "loss_weights": np.ones((rows, seq), np.float32),
        "segment_ids": np.ones((rows, seq), np.int32),
        "positions": np.broadcast_to(np.arange(seq, dtype=np.int32), (rows, seq)),
    }
    step = jax.jit(make_train_step(model, sft(chunk=a.chunk), optimizer), donate_argnums=0)
    holder = {"state": state}

    def one():
        holder["state"], metrics = step(holder["state"], frozen, batch, jax.random.key(0))
        holder["loss"] = float(metrics["loss"])

    timed = time_steps(one, a.steps, a.warmup)
    emit(peer="jitune", workload=a.workload, mode="full", tokens_per_s=round(rows * seq / timed["step_s"], 1),
         peak_rss_mb=peak_rss_mb(), loss=round(holder["loss"], 4), tag=a.tag, **timed)


if __name__ == "__main__":
    main(parse())
