"""Tuning of a Llama of 1B on one accelerator, bfloat16, rows of packed documents: a line of JSON a setting.

    PYTHONPATH=. python scripts/bench/gpu.py                     # Llama 3.2 1B, 4 rows of 4,096 tokens
    PYTHONPATH=. python scripts/bench/gpu.py --preset tiny --rows 2 --seq 256 --steps 2      # does it run at all?

Each line has the seconds of a step, tokens/s, MFU against the data sheet's peak and against the measured one, and the
peak of memory. The settings are a staircase from the plainest: each changes one thing of the one before; then full
tuning, LoRA and QLoRA side by side. First, every backend of attention is compared with the plain one on packed
documents, with a sliding window and with soft caps too, and timed; the staircase has a step of training for each.
"""

import argparse
import gc
import statistics
import time
import warnings

from common import emit, time_steps
from step import make_step

STAIRCASE = (
    {"attention": "plain", "remat": "full", "chunk": 1024},
    {"attention": "blocks"},
    {"attention": "chunked"},
    {"attention": "tokamax"},
    {"attention": "pallas"},
    {"attention": "cudnn"},
    {"remat": "dots_no_batch"},
    {"remat": "dots"},
    {"chunk": 4096},
    {"unrolled": True},
    {"remat": "none"},
)
BACKENDS = ("xla", "chunked", "cudnn", "pallas", "splash", "tokamax")
CASES = {"packed": {}, "packed, window": {"window": 300}, "packed, soft cap": {"softcap": 30.0}}
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


def compare(kind: str, case: str, length: int, repeats: int = 5) -> None:
    """Prints how far a backend's result and gradients are from the plain ones in float32, beside the plain bfloat16's.

    Its seconds forward and backward and its temporaries too; what is refused, or done by another backend, is said.
    """
    import jax
    import jax.numpy as jnp

    from jitune.types import UserError

    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (jax.random.normal(key, (2, length, n, 64), jnp.bfloat16) for key, n in zip(keys, (8, 2, 2), strict=True))
    wide = tuple(x.astype(jnp.float32) for x in (q, k, v))
    line = {"check": kind, "case": case, "tokens": length}
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found, compiled = grade(kind, case, q, k, v)
        with jax.default_matmul_precision("highest"):
            exact, _ = grade("plain", case, *wide)
        plain, _ = grade("plain", case, q, k, v)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            jax.block_until_ready(compiled(q, k, v))
            seconds.append(time.perf_counter() - start)
        emit(**line, worst_difference=distance(found, exact), plain_difference=distance(plain, exact),
             ms=round(1e3 * statistics.median(seconds), 2), instead=[str(w.message) for w in said],
             temporary_mib=round(compiled.memory_analysis().temp_size_in_bytes / 2**20, 1))  # fmt: skip
    except UserError as error:
        emit(**line, refused=str(error))
    except Exception as error:  # whatever a kernel raises is a finding too, and the next one is to be tried
        emit(**line, failed=f"{type(error).__name__}: {error}".splitlines()[0][:200])


def grade(kind: str, case: str, q, k, v):
    """((result, gradients) as a flat tuple, the compiled function that gives them) of one backend."""
    import jax
    import jax.numpy as jnp

    from jitune.models.attention import attend

    segments = jnp.broadcast_to(jnp.arange(q.shape[1]) // 400 + 1, q.shape[:2])
    options = {"segments": segments, "kv_segments": segments, "start": None, "window": None, **CASES[case]}

    def loss(q, k, v):
        out = attend(q, k, v, kind=kind, **options)
        return jnp.sum(jnp.sin(out.astype(jnp.float32))), out

    compiled = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True)).lower(q, k, v).compile()
    (_, out), gradients = compiled(q, k, v)
    return (out, *gradients), compiled


def distance(found, exact) -> float:
    """The largest difference of arrays, in parts of the largest element of each."""
    import jax.numpy as jnp

    return max(float(jnp.abs(x.astype(jnp.float32) - y).max() / jnp.abs(y).max())
               for x, y in zip(found, exact, strict=True))  # fmt: skip


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

    for case in CASES:
        for kind in BACKENDS:
            compare(kind, case, a.seq)
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
