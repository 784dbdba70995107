"""Tuning of a Llama of 1B on one accelerator, bfloat16, rows of packed documents: a line of JSON a setting.

    PYTHONPATH=. python scripts/bench/gpu.py                     # Llama 3.2 1B, 4 rows of 4,096 tokens
    PYTHONPATH=. python scripts/bench/gpu.py --preset tiny --rows 2 --seq 256 --steps 2      # does it run at all?

Each line has the seconds of a step, tokens/s, MFU against the data sheet's peak and against the measured one, and the
peak of memory. The settings are a staircase from the plainest: each changes one thing of the one before; then full
tuning, LoRA and QLoRA side by side. First, cuDNN's attention is compared with the plain one on packed documents.
"""

import argparse
import gc

from common import emit, time_steps
from step import make_step

STAIRCASE = (
    {"attention": "plain", "remat": "full", "chunk": 1024},
    {"attention": "blocks"},
    {"attention": "cudnn"},
    {"remat": "dots_no_batch"},
    {"remat": "dots"},
    {"chunk": 4096},
    {"unrolled": True},
    {"remat": "none"},
)
# The least of memory first, for the peak that a device gives is the highest so far.
MODES = tuple({"attention": "auto", "remat": "full", "chunk": 1024, "mode": mode} for mode in ("qlora", "lora", "full"))


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--preset", default="1b")
    p.add_argument("--rows", type=int, default=4)
    p.add_argument("--seq", type=int, default=4096)
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--documents", type=int, default=8, help="in a row, of equal length")
    return p.parse_args()


def make_batch(a, vocab: int) -> dict:
    import numpy as np

    from jitune.data.packing import shift

    tokens = np.random.default_rng(0).integers(3, vocab, (a.rows, a.seq), np.int32)
    length = -(-a.seq // a.documents)
    places = np.broadcast_to(np.arange(a.seq, dtype=np.int32), tokens.shape)
    return shift(tokens, np.ones(tokens.shape, np.float32), places // length + 1, places % length)


def compare_cudnn(a) -> None:
    """Prints the largest difference of cuDNN's attention and its gradients from the plain ones, or why not."""
    import jax
    import jax.numpy as jnp

    from jitune.models.attention import attend
    from jitune.types import UserError

    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (jax.random.normal(key, (2, 512, n, 64), jnp.bfloat16) for key, n in zip(keys, (8, 2, 2), strict=True))
    segments = jnp.broadcast_to(jnp.arange(512) // 100 + 1, (2, 512))

    def graded(kind):
        def loss(*qkv):
            out = attend(*qkv, segments=segments, kv_segments=segments, start=None, window=None, kind=kind)
            return jnp.sum(jnp.sin(out.astype(jnp.float32))), out

        (_, out), gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(q, k, v)
        return out, *gradients

    try:
        pairs = zip(graded("cudnn"), graded("plain"), strict=True)
        worst = max(float(jnp.abs(x.astype(jnp.float32) - y.astype(jnp.float32)).max()) for x, y in pairs)
        emit(check="cudnn against plain, packed", worst_difference=worst)
    except UserError as error:
        emit(check="cudnn against plain, packed", refused=str(error))


def measure(a, options: dict) -> None:
    """Prints the line of one setting; what does not fit or is refused is a line too."""
    import jax

    from jitune import flops, hardware
    from jitune.models.families import FAMILIES
    from jitune.types import UserError

    sizes = {"vocab_size": 4096, **FAMILIES["llama"].presets[a.preset]}
    chosen = argparse.Namespace(**{"unrolled": False, "dtype": "bfloat16", "cache": False, "mode": "full", **options})
    device = jax.devices()[0]
    try:
        step, config = make_step(chosen, sizes)
        batch = make_batch(a, config.vocab_size)
        timed = time_steps(lambda: step(batch), a.steps, 1)
    except (UserError, jax.errors.JaxRuntimeError) as error:
        emit(**options, failed=str(error).splitlines()[0][:160])
        return
    pairs = float(config.num_layers * (batch["positions"] + 1).sum())
    trained = {} if chosen.mode == "full" else {"trained": 0, "added": count_added(config)}
    work = flops.train_flops(config, a.rows * a.seq, pairs, **trained) / timed["step_s"]
    sheet = hardware.of_device(device)
    memory = (device.memory_stats() or {}).get("peak_bytes_in_use")
    emit(**options, device=device.device_kind, tokens_per_s=round(a.rows * a.seq / timed["step_s"]),
         mfu_sheet=round(work / sheet.peak_flops["bfloat16"], 3) if sheet else None,
         mfu_measured=round(work / hardware.measure_peak("bfloat16", size=8192 if sheet else 1024), 3),
         peak_gib_so_far=round(memory / 2**30, 2) if memory else None, **timed)


def count_added(config) -> int:
    """The parameters of the factors in the modes of `step.py`: rank 8 on all linear layers."""
    wide, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    sizes = 2 * (config.dim + wide) + 2 * (config.dim + kv) + 3 * (config.dim + config.mlp_dim)
    return 8 * config.num_layers * sizes


def main(a) -> None:
    import jax

    compare_cudnn(a)
    for options in MODES:
        measure(a, options)
        jax.clear_caches()
        gc.collect()
    options = {}
    for change in STAIRCASE:
        options = {**options, **change}
        measure(a, options)
        jax.clear_caches()
        gc.collect()


if __name__ == "__main__":
    main(parse())
