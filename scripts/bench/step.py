"""The train step of `jitune train` on random tokens. One JSON line: tokens/s, memory, first step.

    python scripts/bench/step.py --workload main --steps 10
    python scripts/bench/step.py --mode lora      # rank 8 on all linear layers; or qlora, dora, prefix (16 tokens)
    python scripts/bench/step.py --workload main --saving      # least memory: everything recomputed, small chunks
"""

import argparse

from common import WORKLOADS, emit, peak_rss_mb, time_steps

MODES = ("full", "lora", "qlora", "dora", "prefix")


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--workload", choices=WORKLOADS, default="main")
    p.add_argument("--mode", choices=MODES, default="full")
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--unrolled", action="store_true", help="layers as a loop in place of a scan")
    p.add_argument("--attention", default="auto")
    p.add_argument("--dtype", default="float32")
    p.add_argument("--remat", default="none")
    p.add_argument("--chunk", type=int, default=1024, help="tokens whose logits exist at once")
    p.add_argument("--give_back", action="store_true", help="let malloc give pages back (config.keep_pages=False)")
    p.add_argument("--saving", action="store_true", help="remat full, chunks of 256 tokens, pages given back")
    p.add_argument("--cache", action="store_true", help="use the persistent compilation cache, as jitune train does")
    p.add_argument("--tag", default="")
    return p.parse_args()


def make_transform(mode: str, model):
    """The transform of a mode."""
    from jitune import transforms as t

    return {
        "full": lambda: t.full(), "lora": lambda: t.lora(8, 16), "dora": lambda: t.dora(8, 16),
        "qlora": lambda: t.chain(t.quantize("nf4"), t.lora(8, 16)), "prefix": lambda: t.prefix(16, model=model),
    }[mode]()  # fmt: skip


def start(a, transform, model):
    """(frozen, trainable): frozen weights in the dtype of the computation, or in codes."""
    import jax

    params = jax.jit(model.init)(jax.random.key(0))
    if a.mode == "full":
        return transform.init(jax.random.key(0), params)
    params = jax.tree.map(lambda x: x.astype(a.dtype), params)
    return jax.jit(transform.init, donate_argnums=1)(jax.random.key(0), params)


def make_step(a, sizes):
    """Returns `step(batch) -> loss`, which waits for its end, and the config of the model."""
    import jax
    import jax.numpy as jnp

    from jitune import compile_cache, optimizers
    from jitune import config as configs
    from jitune.models import decoder
    from jitune.models.config import ModelConfig
    from jitune.objectives.sft import sft
    from jitune.step import make_train_step
    from jitune.types import TrainState

    if a.cache:
        compile_cache.use_cache()
    config = ModelConfig.from_hf({"model_type": "llama", **sizes}).replace(
        scan_layers=not a.unrolled, remat=a.remat, attention=a.attention, dtype=a.dtype, param_dtype="float32"
    )
    model = decoder.build(config)
    transform = make_transform(a.mode, model)
    frozen, trainable = start(a, transform, model)
    optimizer, _ = optimizers.make_optimizer(configs.defaults().optimizer, 1000)
    state = TrainState(jnp.zeros((), jnp.int32), trainable, jax.jit(optimizer.init)(trainable))
    train_step = make_train_step(transform.apply(model), sft(chunk=a.chunk), optimizer)
    compiled, key, held = jax.jit(train_step, donate_argnums=0), jax.random.key(0), [state]
    del state, trainable

    def step(batch):
        held[0], metrics = compiled(held[0], frozen, batch, key)
        return float(metrics["loss"])

    return step, config


def main(a):
    if a.saving:
        a.remat, a.chunk, a.give_back = "full", 256, True
    from jitune.host_memory import keep_pages

    if not a.give_back:
        keep_pages()
    import numpy as np

    sizes, rows, seq = WORKLOADS[a.workload]
    step, config = make_step(a, sizes)
    tokens = np.random.default_rng(0).integers(3, config.vocab_size, (rows, seq + 1), np.int32)
    batch = {
        "tokens": tokens[:, :-1], "targets": tokens[:, 1:], "loss_weights": np.ones((rows, seq), np.float32),
        "segment_ids": np.ones((rows, seq), np.int32),
        "positions": np.broadcast_to(np.arange(seq, dtype=np.int32), (rows, seq)),
    }
    losses = []
    timed = time_steps(lambda: losses.append(step(batch)), a.steps, a.warmup)
    emit(peer="jitune", workload=a.workload, mode=a.mode, tag=a.tag or ("saving" if a.saving else ""),
         tokens_per_s=round(rows * seq / timed["step_s"], 1), peak_rss_mb=peak_rss_mb(), loss=round(losses[-1], 4),
         **timed)


if __name__ == "__main__":
    main(parse())
