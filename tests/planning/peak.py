"""Measures what a train step takes of this process's memory, and prints it beside the plan, in bytes.

A line for each remat policy that is given: what is planned, what is measured.

    python -m tests.planning.peak REMAT ...

The step is compiled first, over shapes. What the process holds then is the base; arrays are made, one step warms up
threads and scratch buffers, the kernel's high-water mark is set back, and a second step is run. Measured is
that mark less the base. malloc is told (MALLOC_ variables) to give back what is freed, or old memory would be
used again unseen.
"""

import gc
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jitune import compiling, optimizers, sharding
from jitune import config as configs
from jitune import state as states
from jitune.hub import fresh
from jitune.models import decoder
from jitune.models.config import ModelConfig
from jitune.planning.study import read_memory
from jitune.types import TrainState

SIZES = {
    "model_type": "llama", "vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "rope_theta": 1e4,
}


def read_status(name: str) -> int:
    """Bytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


def measure(remat: str) -> tuple[int, int]:
    """(planned, measured) bytes of a step of a small model with this remat policy."""
    config = configs.defaults()
    config.model.remat = remat
    config.update({"batch_size": 4, "seq_len": 256, "loss_chunk": 256})
    model_config = ModelConfig.from_hf(SIZES).replace(**compiling.model_options(config))
    mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
    with jax.set_mesh(mesh), decoder.precision("float32"):
        tuning = states.make_tuning(config, model_config)
        optimizer, _ = optimizers.make_optimizer(config.optimizer, 100)
        frozen, shapes = compiling.abstract_state(tuning, mesh, optimizer)
        model, key = tuning.model, jax.random.key(0)
        traced = compiling.trace_step(
            config, model, optimizer, shapes, frozen, mesh, key, windows=model_config.windows
        )
        step = traced.lower().compile()
        gc.collect()
        base = read_status("VmRSS")
        params = fresh.init_params(model_config, 0)
        state = TrainState(jnp.zeros((), jnp.int32), params, jax.jit(optimizer.init)(params))
        state = jax.device_put(state, jax.tree.map(lambda x: x.sharding, shapes))
        del params
        ones = {k: np.ones(x.shape, x.dtype) for k, x in compiling.abstract_batch(config, mesh).items()}
        batch = sharding.put_batch(ones, mesh, config.batch_size)
        state, _ = jax.block_until_ready(step(state, frozen, batch, key))
        Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back
        state, _ = jax.block_until_ready(step(state, frozen, batch, key))
    return read_memory(step, shapes, frozen).peak, read_status("VmHWM") - base


if __name__ == "__main__":
    for policy in sys.argv[1:]:
        print(*measure(policy))
