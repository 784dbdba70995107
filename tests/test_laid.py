"""Matrices that are laid for products of one row: which, how, and that they mean the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune import hoist, laid, sharding
from jitune.generation import decode_loop
from tests.generation import scripted as toys

WEIGHTS = {"q": (12, 12), "k": (12, 5), "v": (12, 5), "up": (12, 30), "down": (30, 12), "table": (12, 12)}


def layers():
    """Two layers in stacks, as a model's are."""
    keys = jax.random.split(jax.random.key(0), len(WEIGHTS))
    return {name: jax.random.normal(key, (2, *shape)) for key, (name, shape) in zip(keys, WEIGHTS.items(), strict=True)}


def step(stacks, x):
    for i in range(2):
        w = {name: stack[i] for name, stack in stacks.items()}
        q, k, v = (x @ w[name] for name in "qkv")
        x = x + q * (k * v).sum(-1, keepdims=True)
        x = x + jnp.tanh(x @ w["up"]) @ w["down"] + x @ w["table"] + w["table"].sum(0)
    return x


def prepared(x, dtype="float32"):
    stacks = jax.tree.map(lambda w: w.astype(dtype), layers())
    return stacks, jax.jit(lambda w, x: hoist.move(step, w, x))(stacks, x).beside(stacks)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_matrices_of_one_row_lie_together_or_turned(monkeypatch, large):
    """Those of one row side by side, all that are no wider than long turned; what is also read otherwise, as it is."""
    monkeypatch.setattr(laid, "SMALL", 0 if large else 10**6)
    x = jnp.linspace(-1, 1, 12)[None, None]
    stacks, given = prepared(x)
    shapes = [(12, 22)] if not large else [(12, 12), (5, 12), (5, 12)]  # 22 columns of 12 rows are wider than long
    assert sorted(p.shape for p in given.pieces) == sorted(2 * [*shapes, (12, 30), (12, 30), (12, 12)])
    text = str(jax.make_jaxpr(lambda w, x: hoist.call(step, w, x))(given, x))
    assert "transpose" not in text, "nothing is turned for a product"
    wanted = step(stacks, x)
    np.testing.assert_allclose(jax.jit(lambda w, x: hoist.call(step, w, x))(given, x), wanted, 2e-5, 2e-5)
    # The same pieces do for other numbers of rows.
    rows = jnp.stack([x[0], 2 * x[0], -x[0]])
    np.testing.assert_allclose(hoist.call(step, given, rows), step(stacks, rows), 2e-5, 2e-5)


def test_a_program_that_reads_a_laid_matrix_otherwise_gets_it_cut_out():
    x = jnp.linspace(-1, 1, 12)[None]
    stacks, given = prepared(x)

    def other(stacks, x):
        return step(stacks, x) + stacks["q"][0].sum(0) + stacks["down"][1].max()

    np.testing.assert_allclose(hoist.call(other, given, x), other(stacks, x), 2e-5, 2e-5)


@pytest.mark.parametrize("what", ["two rows", "bfloat16", "a mesh"])
def test_elsewhere_all_lie_as_they_are(what):
    x = jnp.ones((2 if what == "two rows" else 1, 12), "bfloat16" if what == "bfloat16" else "float32")
    if what == "a mesh":
        with jax.set_mesh(sharding.make_mesh(1, 2, 1, devices=jax.devices()[:2])):
            _, given = prepared(x)
    else:
        _, given = prepared(x, x.dtype)
    assert sorted(p.shape for p in given.pieces) == sorted(2 * list(WEIGHTS.values()))


def test_a_model_that_answers_one_prompt_has_its_matrices_laid():
    model, params, config = toys.tiny("qwen3")
    one, several = (decode_loop.prepare(params, model=model, rows=n, capacity=128) for n in (1, 2))
    assert sum(p.shape is not None for p in one.laid) >= 5 * config.num_layers
    assert all(p.shape is None for p in several.laid)
    sizes = [sum(x.size for x in given.pieces) for given in (one, several)]
    assert sizes[0] == sizes[1], "no weight is kept twice"
