"""What a plan says against what is: memory against the kernel's own count, FLOPs against two independent ones."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from jitune import config as configs
from jitune import flops, sharding, tree
from jitune.models import decoder
from jitune.models.config import ModelConfig
from jitune.planning import tables
from jitune.planning.collectives import SCATTERED
from jitune.planning.study import study
from tests.conftest import ROOT

SIZES = {
    "model_type": "qwen3", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "rope_theta": 1e4,
}


def small(**options):
    config = configs.defaults()
    config.update({"batch_size": 8, "seq_len": 64, "loss_chunk": 512})
    for name, value in options.items():
        configs.override(config, name.replace("__", "."), str(value))
    return config


def study_small(mesh=(1, 1, 1), **options):
    devices = jax.devices()[: np.prod(mesh)]
    return study(small(**options), ModelConfig.from_hf(SIZES), sharding.make_mesh(*mesh, devices=devices))


@pytest.fixture(scope="module")
def plain():
    return study_small()


def test_memory_against_the_measured_peak():
    """Within 15 % of what the kernel counts of a process that runs the step: see peak.py for how it is measured."""
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    words = [sys.executable, "-m", "tests.planning.peak", "none", "full"]
    out = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=env, timeout=600)
    assert out.returncode == 0, out.stderr
    planned, measured = np.array([line.split() for line in out.stdout.splitlines()], float).T
    assert planned[0] > 1.3 * planned[1]  # remat spares what it should
    np.testing.assert_allclose(planned, measured, rtol=0.15)


@pytest.mark.core
def test_memory_adds_up(plain):
    m, count = plain.memory, tree.count_params(plain.state.trainable)
    assert m.weights == 4 * count and m.opt_state >= 8 * count
    assert m.temporary > 4 * count  # the gradients are among it
    assert m.peak == sum(m)


@pytest.mark.core
def test_flops_against_the_jaxpr(plain):
    """Without recomputation the step's products are the model's, but for the pairs that the mask throws away."""
    c, config = plain.model_config, plain.config
    square = c.num_layers * config.batch_size * config.seq_len**2
    assert plain.products == flops.train_flops(c, config.batch_size * config.seq_len, square)
    # Of the pairs, those below the diagonal and on it, counted in a mask.
    causal = np.tril(np.ones((config.seq_len, config.seq_len))).sum() * c.num_layers * config.batch_size
    extra = 12 * c.num_heads * c.head_dim * (square - causal)
    assert tables.count_model_flops(plain) == pytest.approx(plain.products - extra, rel=1e-9)


def test_flops_against_xla_unrolled(plain):
    """XLA counts every operation, not products only, and loops once: so a step without any loop, within 15 %."""
    options = {"model__scan_layers": False}
    devices = jax.devices()[:1]
    made = study_small(**options)
    assert made.products == plain.products
    from jitune import compiling, optimizers
    from jitune.transforms.build import make_transform

    mesh = sharding.make_mesh(1, 1, 1, devices=devices)
    with jax.set_mesh(mesh), decoder.precision("float32"):
        transform = make_transform(made.config.transform)
        optimizer, _ = optimizers.make_optimizer(made.config.optimizer, 10)
        model = transform.apply(decoder.build(made.model_config))
        traced = compiling.trace_step(made.config, model, optimizer, made.state, made.frozen, mesh, jax.random.key(0),
                                      windows=made.model_config.windows)
        counted = traced.lower().compile().cost_analysis()["flops"]
    assert made.products == pytest.approx(counted, rel=0.15)


def test_remat_computes_the_layers_again(plain):
    made = study_small(model__remat="full")
    c, config = plain.model_config, plain.config
    tokens = config.batch_size * config.seq_len
    layers = flops.matmul_params(c) - c.dim * c.vocab_size
    pairs = c.num_layers * config.batch_size * config.seq_len**2
    again = 2 * layers * tokens + 4 * c.num_heads * c.head_dim * pairs
    # The last product of a layer is not needed again.
    last = 2 * c.mlp_dim * c.dim * c.num_layers * tokens
    assert again - last <= made.products - plain.products <= again
    assert made.memory.peak < plain.memory.peak


def test_packed_documents_have_fewer_pairs(plain):
    rows = plain.config.batch_size
    whole, halves = (tables.count_model_flops(plain, lengths) for lengths in ([64] * rows, [32] * 2 * rows))
    c = plain.model_config
    assert whole - halves == 12 * c.num_heads * c.head_dim * c.num_layers * rows * 32 * 32


def test_shards_on_a_mesh(plain):
    made = study_small(mesh=(1, 8, 1), model__dtype="bfloat16")
    sharded = [x for path, x in tree.flatten(made.state.trainable).items() if not path.endswith("scale")]
    scales = [x for path, x in tree.flatten(made.state.trainable).items() if path.endswith("scale")]
    assert made.memory.weights == 4 * (tree.count_params(sharded) // 8 + tree.count_params(scales))
    assert made.products == plain.products  # over all devices, however many


def test_elsewhere_bfloat16_moves_two_bytes():
    """What stands for a GPU or a TPU gathers a layer's weights in 16 bits, as they would, and not in a CPU's 32."""
    devices = sharding.make_mesh(1, 8, 1)
    made = study(small(model__dtype="bfloat16"), ModelConfig.from_hf(SIZES), devices, elsewhere=True)
    layers = made.model_config.num_layers
    gathered = {c.payload for c in made.collectives if c.kind == "all-gather" and c.count == layers}
    assert {64 * 192 * 2, 64 * 64 * 2, 64 * 32 * 2} <= gathered and max(gathered) == 64 * 192 * 2
    assert any(c.kind in (SCATTERED, "reduce-scatter") for c in made.collectives)
    assert made.model_config.dtype == "bfloat16"
