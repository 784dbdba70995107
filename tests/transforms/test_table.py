"""Every transform over every kind of model computes what the model with the merged weights does, and its gradient.

Merging is the meaning of a transform (`test_meaning.py` holds it against numpy). Products are exact here, and single
operations come in another order in the two, so the arrays agree to a few units of float32's last place.
"""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jitune import sharding, tree
from jitune.transforms import chain, dora, for_function, freeze, full, lora, quantize, select, tokens
from tests.transforms import zoo

EVERY = {"select": zoo.WEIGHTS, "layouts": zoo.LAYOUTS}
# A key's bias moves no softmax: its gradient is rounding alone.
OTHERS = r"(?<!key/)bias$|scale$"
ROWS = {
    "lora": lambda: lora(2, 3, **EVERY),
    "rslora": lambda: lora(2, 3, rslora=True, init="gaussian", rank_pattern={"Dense": 3},
                           alpha_pattern={"embedding": 5}, **EVERY),
    "pissa": lambda: lora(2, 3, init="pissa", **EVERY),
    "olora": lambda: lora(2, 3, init="olora", **EVERY),
    "dora": lambda: dora(2, 3, **EVERY),
    "nf4": lambda: quantize("nf4", select=zoo.WEIGHTS, block=4),
    "int8": lambda: quantize("int8", select=zoo.WEIGHTS, block=4),
    "qlora": lambda: chain(quantize("nf4", select=zoo.WEIGHTS, block=4), lora(2, 3, **EVERY)),
    # The gradient of a magnitude needs the weight's product with the cotangent that a derivative by hand returns.
    "qdora": lambda: chain(quantize("int8", select=zoo.WEIGHTS, block=4, merge_at=[("add", "custom/.*")]),
                           dora(2, 3, **EVERY)),
    "select": lambda: select(OTHERS),
    "freeze": lambda: freeze(zoo.WEIGHTS),
    "tokens": lambda: tokens([1, 5, 11], tables=zoo.TABLES),
    "lora_select": lambda: chain(lora(2, 3, **EVERY), select(OTHERS)),
    "qlora_tokens": lambda: chain(quantize("nf4", select="kernel$", block=4),
                                  lora(2, 3, select="kernel$", layouts=zoo.LAYOUTS),
                                  tokens([1, 5, 11], tables=zoo.TABLES)),
    "full": full,
}
# Columns: all kinds of models where the leaves differ; elsewhere a few, for a leaf is the same however it was begun.
EVERYWHERE = ("lora", "dora", "qlora")
FEW = ("bias", "embedded", "scan_remat")
COLUMNS = {"tokens": ("embedded", "decoder_scan_remat"), "qlora_tokens": ("bias", "decoder_unrolled"),
           "lora_select": ("attention", "decoder_scan_remat"), "full": ("bias",)}  # fmt: skip
CELLS = [(row, group) for row in ROWS for group in (("modules", "decoders") if row in EVERYWHERE else ("few",))]
TOLERANCE = 1e-5


def columns(row: str, group: str) -> dict:
    """The models of a cell."""
    models = zoo.modules() | zoo.decoders()
    names = {"modules": zoo.modules, "decoders": zoo.decoders}.get(group, lambda: COLUMNS.get(row, FEW))()
    return {name: models[name] for name in names}


def start(transform, params):
    """(frozen, trainable) with every trained array moved away from where it starts."""
    frozen, trainable = transform.init(jax.random.key(1), params)
    shifts = zoo.fill(jax.eval_shape(lambda: trainable), seed=2)
    return frozen, jax.tree.map(jnp.add, trainable, shifts)


def graded(function):
    """`(params, x) -> (outputs, gradients of params and x)` of a fixed sum of all outputs."""

    def loss(params, x):
        out = function(params, x)
        terms = [jnp.vdot(jnp.cos(jnp.arange(y.size)).reshape(y.shape), y.astype(jnp.float32))
                 for y in jax.tree.leaves(out)]
        return sum(terms), out

    def call(params, x):
        (_, out), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)
        return out, *gradients

    return call


@functools.cache
def of_plain(names):
    """The outputs and gradients of plain parameters, compiled."""
    models = zoo.modules() | zoo.decoders()
    return jax.jit(graded(zoo.together({name: models[name] for name in names})[1]))


def differences(found, expected) -> dict[str, float]:
    """{path: |found - expected| / |expected|} of the arrays that differ by more than the tolerance."""
    found, expected = (tree.flatten(jax.device_get(x)) for x in (found, expected))
    assert found.keys() == expected.keys()
    norm = np.linalg.norm
    assert all(np.isfinite(norm(x)) for x in expected.values())
    assert sum(norm(x) > 0 for x in expected.values()) > 0.9 * len(expected)
    far = {p: float(norm(np.float64(found[p]) - x) / max(norm(x), 1e-6)) for p, x in expected.items()}
    return {p: d for p, d in far.items() if d > TOLERANCE}


def check(transform, models, mesh=None):
    """Compares a transform with its merge on these models, one device or a mesh."""
    params, function = zoo.together(models)
    x = zoo.x_of()
    frozen, trainable = jax.jit(lambda params: start(transform, params))(params)
    merged, back = jax.vjp(jax.jit(lambda trainable: transform.merge(frozen, trainable)), trainable)
    out, moved, dx = of_plain(tuple(models))(merged, x)
    expected = {"out": out, "trainable": back(moved)[0], "x": dx}
    changed = for_function(transform, function)

    def under(frozen, trainable, x):
        return graded(lambda trainable, x: changed((frozen, trainable), x))(trainable, x)

    with jax.set_mesh(mesh) if mesh else contextlib.nullcontext():
        if mesh:
            frozen, trainable = spread(frozen, mesh), spread(trainable, mesh)
        out, moved, dx = jax.jit(under)(frozen, trainable, x)
    assert differences({"out": out, "trainable": moved, "x": dx}, expected) == {}


def spread(arrays, mesh):
    """Each array cut along as many of its last axes as divide: weights, codes, factors."""

    def place(x):
        spec = [axis if size % mesh.shape[axis] == 0 else None
                for size, axis in zip(x.shape[::-1], ("tensor", "fsdp"), strict=False)]
        return jax.device_put(x, NamedSharding(mesh, P(*[None] * (x.ndim - len(spec)), *spec[::-1])))

    return jax.tree.map(place, arrays)


@pytest.mark.parametrize(("row", "group"), CELLS)
def test_a_transform_is_its_merge(row, group):
    check(ROWS[row](), columns(row, group))


@pytest.mark.parametrize("row", ["qdora"])
def test_on_eight_devices(row):
    models = zoo.modules() | zoo.decoders()
    names = ("general", "embedded", "decoder_scan_remat")
    check(ROWS[row](), {name: models[name] for name in names}, sharding.make_mesh(2, 2, 2))


def test_a_loop_that_has_no_gradient():
    params, function = zoo.endless()
    for row in ("dora", "nf4"):
        transform = ROWS[row]()
        frozen, trainable = start(transform, params)
        found = for_function(transform, function)((frozen, trainable), zoo.x_of())
        assert differences({"": found}, {"": function(transform.merge(frozen, trainable), zoo.x_of())}) == {}


def test_bfloat16_is_as_near_to_float32_as_the_merged_weights():
    params, exact = zoo.linen(nn.Dense(64))
    params = zoo.fill({"kernel": jax.ShapeDtypeStruct((8, 64), jnp.float32), "bias": params["bias"]})
    rounded = zoo.linen(nn.Dense(64, dtype=jnp.bfloat16))[1]
    transform = lora(2, 3)
    pair = start(transform, params)
    merged = transform.merge(*pair)
    true, by_merge = exact(merged, zoo.x_of()), rounded(merged, zoo.x_of())
    found = for_function(transform, rounded)(pair, zoo.x_of())
    assert found.dtype == by_merge.dtype == jnp.bfloat16
    error, allowed = (float(jnp.linalg.norm(y.astype(jnp.float32) - true)) for y in (found, by_merge))
    assert 0 < error < 1.5 * allowed < 0.02 * float(jnp.linalg.norm(true))
