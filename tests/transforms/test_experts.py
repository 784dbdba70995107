"""Adapters of experts: what they mean, and what they cost. The oracle is the merged model."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune import tree
from jitune.models import decoder
from jitune.models.config import ModelConfig
from jitune.planning.count import count_products
from jitune.transforms import chain, dora, lora, prefix, prompt, quantize
from jitune.transforms.weights import LINEAR
from jitune.types import UserError
from tests.references import CONFIGS

CONFIG = ModelConfig.from_hf(CONFIGS["qwen2_moe"] | {"num_hidden_layers": 2, "vocab_size": 64})
BATCH = {"tokens": jnp.asarray(np.random.default_rng(0).integers(0, 64, (2, 9)), jnp.int32)}
RANK = 2


@functools.cache
def model_and_params():
    model = decoder.build(CONFIG)
    params = model.init(jax.random.key(0))
    return model, jax.tree.map(lambda x: x * 5 if x.ndim > 2 else x, params)


@pytest.mark.parametrize("transform", [
    chain(quantize("nf4"), lora(RANK, 3, init="gaussian", rslora=True)), lora(RANK, 3, init="pissa"),
], ids=["qlora", "pissa"])  # fmt: skip
def test_factors_mean_what_they_merge_to(transform):
    model, params = model_and_params()
    frozen, trainable = transform.init(jax.random.key(1), params)
    trainable = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), trainable)
    merged = transform.merge(frozen, trainable)
    wanted, routed = jax.jit(model.hidden)(merged, BATCH)
    found, same = jax.jit(transform.apply(model).hidden)((frozen, trainable), BATCH)
    np.testing.assert_allclose(found, wanted, 1e-4, 5e-5)
    assert float(routed.balance) == pytest.approx(float(same.balance), rel=1e-5) and same.coef == CONFIG.router_coef
    after, before = (p["layers"]["mlp"]["experts"]["up_proj"]["kernel"] for p in (merged, params))
    moved = after - before
    assert all(np.abs(moved[layer, e]).max() > 0.01 for layer in range(2) for e in range(CONFIG.num_experts))


def test_routers_keep_no_factors_by_default():
    _, params = model_and_params()
    _, trainable = jax.eval_shape(lora(RANK, 3).init, jax.random.key(0), params)
    shapes = {path: x.shape for path, x in tree.flatten(trainable).items() if "/mlp/" in path}
    assert not any("router" in path or "shared_gate" in path for path in shapes)
    c = CONFIG
    assert shapes["layers/mlp/experts/down_proj/kernel/lora_a"] == (2, c.num_experts, c.expert_dim, RANK)
    assert shapes["layers/mlp/experts/down_proj/kernel/lora_b"] == (2, c.num_experts, RANK, c.dim)


def test_no_gradient_of_a_frozen_expert():
    """Forward and backward through the weights once each, and three times through the factors of the chosen experts."""
    model, params = model_and_params()
    transform, rows = chain(quantize("int8"), lora(RANK, 3)), 2 * 9

    def forward(model, params):
        return jnp.square(model.unembed(params, model.hidden(params, BATCH)[0])).sum()

    frozen, trainable = jax.eval_shape(transform.init, jax.random.key(0), params)
    changed = transform.apply(model)
    graded = jax.make_jaxpr(jax.value_and_grad(lambda t, f: forward(changed, (f, t))))(trainable, frozen)
    plain = count_products(jax.make_jaxpr(lambda params: forward(model, params))(params))

    def products(leaves, pattern):
        sizes = {p: math.prod(x.shape) for p, x in tree.flatten(leaves).items() if tree.matches(pattern, p)}
        share = CONFIG.experts_per_token / CONFIG.num_experts
        return 2 * rows * sum(int(n * share) if "/experts/" in p else n for p, n in sizes.items())

    everything = products(params, "kernel$")
    attention, factors = plain - everything, products(trainable, "lora_")
    # The routers have a gradient to what they read, as all weights but the first layer's have.
    assert count_products(graded) == plain + everything + 2 * attention + 3 * factors
    assert products(params, LINEAR) < everything


def test_magnitudes_of_experts_are_refused():
    model, params = model_and_params()
    transform = dora(RANK, 3, select="experts/up_proj")
    pair = jax.eval_shape(transform.init, jax.random.key(0), params)
    with pytest.raises(UserError, match=r"experts/up_proj/kernel: .*grouped_product.* magnitudes \(DoRA\)"):
        jax.eval_shape(transform.apply(model).hidden, pair, BATCH)


def test_dropout_of_factors_needs_its_key():
    model, params = model_and_params()
    transform = lora(RANK, 3, dropout=0.5, init="gaussian", select="experts/")
    frozen, trainable = transform.init(jax.random.key(0), params)
    trainable = jax.tree.map(lambda x: x + 0.1, trainable)
    run = jax.jit(lambda batch: transform.apply(model).hidden((frozen, trainable), batch)[0])
    dropped = [run(BATCH | {"key": jax.random.key(k)}) for k in (0, 0, 1)]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert np.abs(dropped[0] - dropped[2]).max() > 1e-3


@pytest.mark.parametrize("make", [prefix, prompt])
def test_documents_behind_a_prefix_are_as_if_alone(make):
    model, params = model_and_params()
    transform = make(3, model=model)
    pair, tokens = jax.jit(transform.init)(jax.random.key(1), params), np.zeros((3, 9), np.int32)
    tokens[0] = BATCH["tokens"][0]
    tokens[1, :5], tokens[2, :4] = tokens[0, :5], tokens[0, 5:]
    segments = np.array([[1] * 5 + [2] * 4, [1] * 5 + [0] * 4, [1] * 4 + [0] * 5], np.int32)
    run = jax.jit(lambda pair, batch: transform.apply(model).hidden(pair, batch))
    found, routed = run(pair, {"tokens": tokens, "segment_ids": segments})
    np.testing.assert_allclose(found[0, :5], found[1, :5], 1e-4, 2e-5)
    np.testing.assert_allclose(found[0, 5:], found[2, :4], 1e-4, 2e-5)
    assert routed.coef == np.float32(CONFIG.router_coef) and routed.load.shape == (2, CONFIG.num_experts)
    plain, _ = jax.jit(model.hidden)(params, {"tokens": tokens, "segment_ids": segments})
    assert np.abs(found[0] - plain[0]).max() > 1e-3
