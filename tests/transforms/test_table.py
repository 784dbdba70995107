"""Every transform over every kind of model computes what the model with the merged weights does, and its gradient.

Merging is the meaning of a transform (`test_meaning.py` holds it against numpy). Products are exact here, and single
operations come in another order in the two, so the arrays agree to a few units of float32's last place.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jitune import sharding, tree
from jitune.transforms import chain, dora, for_function, freeze, full, lora, quantize, select, tokens
from tests.transforms import zoo

EVERY = {"select": zoo.WEIGHTS, "layouts": zoo.LAYOUTS}
OTHERS = r"(bias|scale)$"
ROWS = {
    "lora": lambda: lora(2, 3, rank_pattern={"query|same": 3}, alpha_pattern={"value|up": 5}, **EVERY),
    "rslora": lambda: lora(2, 3, rslora=True, init="gaussian", **EVERY),
    "pissa": lambda: lora(2, 3, init="pissa", **EVERY),
    "olora": lambda: lora(2, 3, init="olora", **EVERY),
    "dora": lambda: dora(2, 3, **EVERY),
    "nf4": lambda: quantize("nf4", select=zoo.WEIGHTS, block=4),
    "int8": lambda: quantize("int8", select=zoo.WEIGHTS, block=4),
    "qlora": lambda: chain(quantize("nf4", select=zoo.WEIGHTS, block=4), lora(2, 3, **EVERY)),
    "qdora": lambda: chain(quantize("int8", select=zoo.WEIGHTS, block=4), dora(2, 3, **EVERY)),
    "select": lambda: select(OTHERS),
    "freeze": lambda: freeze(zoo.WEIGHTS),
    "tokens": lambda: tokens([1, 5, 11], tables=zoo.TABLES),
    "lora_select": lambda: chain(lora(2, 3, **EVERY), select(OTHERS)),
    "qlora_tokens": lambda: chain(quantize("nf4", block=4), lora(2, 3), tokens([1, 5, 11], tables=zoo.TABLES)),
    "full": full,
}
GROUPS = {"modules": zoo.modules, "decoders": zoo.decoders}
TOLERANCE = 1e-5


def start(transform, params):
    """(frozen, trainable) with every trained array moved away from where it starts."""
    frozen, trainable = transform.init(jax.random.key(1), params)
    leaves, treedef = jax.tree.flatten(trainable)
    keys = jax.random.split(jax.random.key(2), len(leaves) or 1)
    moved = [x + 0.3 * jax.random.normal(k, x.shape, x.dtype) for x, k in zip(leaves, keys, strict=False)]
    return frozen, treedef.unflatten(moved)


def graded(function):
    """`(trainable, x) -> (outputs, their gradients)` of a fixed sum of all outputs."""

    def loss(trainable, x):
        out = function(trainable, x)
        terms = [jnp.vdot(jnp.cos(jnp.arange(y.size)).reshape(y.shape), y.astype(jnp.float32))
                 for y in jax.tree.leaves(out)]
        return sum(terms), out

    def call(trainable, x):
        (_, out), (moved, dx) = jax.value_and_grad(loss, (0, 1), has_aux=True)(trainable, x)
        return {"out": out, "trainable": moved, "x": dx}

    return call


def both(transform, function):
    """`(frozen, trainable, x) -> (under the transform, with the merged weights)`, each outputs and gradients."""
    changed = for_function(transform, function)

    def call(frozen, trainable, x):
        under = graded(lambda trainable, x: changed((frozen, trainable), x))(trainable, x)
        merged = graded(lambda trainable, x: function(transform.merge(frozen, trainable), x))(trainable, x)
        return under, merged

    return call


def differences(found, expected) -> dict[str, float]:
    """{path: |found - expected| / |expected|} of the arrays that differ by more than the tolerance."""
    found, expected = (tree.flatten(jax.device_get(x)) for x in (found, expected))
    assert found.keys() == expected.keys()
    far = {p: np.linalg.norm(np.float64(found[p]) - expected[p]) / max(np.linalg.norm(expected[p]), 1e-6)
           for p in expected}
    assert all(np.isfinite(np.linalg.norm(x)) for x in expected.values())
    return {p: float(d) for p, d in far.items() if d > TOLERANCE}


def takes_part(transform, models):
    """The models that have a weight which the transform may change."""
    return models


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("row", ROWS)
def test_a_transform_is_its_merge(row, group):
    params, function = zoo.together(GROUPS[group]())
    transform = ROWS[row]()
    frozen, trainable = jax.jit(lambda params: start(transform, params))(params)
    under, merged = jax.jit(both(transform, function))(frozen, trainable, zoo.x_of())
    assert differences(under, merged) == {}
