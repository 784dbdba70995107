"""Model FLOPs against the products that the gradient of a dense model is traced to, and pairs against masks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune import flops
from jitune.models import decoder
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES
from jitune.objectives.loss import score_targets

pytestmark = pytest.mark.core
BATCH, SEQ = 2, 12


def tiny(family: str) -> ModelConfig:
    return ModelConfig.from_hf({"model_type": family, **FAMILIES[family].presets["tiny"], "vocab_size": 96})


def count_dots(jaxpr, times: int = 1) -> int:
    """FLOPs of every dot_general in a jaxpr, those of a scan's body times its length."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += times * 2 * math.prod(out) * math.prod(left[i] for i in contracted)
        inside = times * equation.params["length"] if equation.primitive.name == "scan" else times
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                total += count_dots(inner, inside) if hasattr(inner, "eqns") else 0
    return total


@pytest.mark.parametrize("family, scan", [("qwen3", True), ("llama", False), ("mistral", True), ("gpt2", True)])
def test_the_gradient_of_a_dense_model_has_these_products(family, scan):
    """Dense attention computes every one of the seq^2 pairs; with those for pairs, the counts are equal."""
    config = tiny(family).replace(scan_layers=scan)
    model = decoder.build(config)
    params = jax.eval_shape(model.init, jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((BATCH, SEQ), jnp.int32)

    def loss(params, tokens):
        logits = model.unembed(params, model.hidden(params, {"tokens": tokens})[0])
        return -score_targets(logits, tokens)[0].mean()

    traced = jax.make_jaxpr(jax.grad(loss))(params, tokens)
    every_pair = config.num_layers * BATCH * SEQ**2
    assert count_dots(traced.jaxpr) == flops.train_flops(config, BATCH * SEQ, every_pair)


@pytest.mark.parametrize("window", [0, 1, 3, 5, 100])
def test_pairs_are_those_of_the_mask(window):
    lengths = [1, 4, 5, 9]
    segments = np.repeat(np.arange(len(lengths)), lengths)
    distance = np.arange(len(segments))[:, None] - np.arange(len(segments))
    allowed = (distance >= 0) & (segments[:, None] == segments) & (distance < (window or 10**6))
    assert flops.count_pairs(lengths, window) == allowed.sum()


def test_every_layer_counts_with_its_own_window():
    config = tiny("qwen3").replace(num_layers=3, windows=(0, 2, 2))
    assert flops.count_all_pairs(config, iter([3, 2])) == 9 + 8 + 8


def test_the_worked_example():
    qwen = ModelConfig.from_hf({
        "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151936, "tie_word_embeddings": True,
    })
    assert flops.matmul_params(qwen) == 493_961_216
    assert flops.train_flops(qwen, 1000, flops.count_all_pairs(qwen, [1000])) == pytest.approx(3.093e12, rel=1e-4)
