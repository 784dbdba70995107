"""The rules of `structured.run` one by one, and many at random: each gives what the dense weight gives.

Leaves are made by hand here, with factors that follow no layout: the axes of A and B may be any.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jitune import structured
from jitune.leaves.factored import Factored
from jitune.leaves.parts import Part, axis_groups
from jitune.leaves.quantized import Quantized
from jitune.leaves.rows import Rows
from jitune.sharding import make_mesh
from jitune.structured import run
from jitune.transforms.quantize import NF4, Blocks, encode, quantize
from jitune.types import UserError
from tests.transforms import zoo

pytestmark = pytest.mark.core


def normal(rng, shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def factored(shape, ins, outs=None, stack=(), gain=(), rank=2, seed=0):
    """A Factored leaf of a weight whose axes `ins` are A's, `outs` (the rest) B's, `stack` both's."""
    rng = np.random.default_rng(seed)
    outs = [i for i in range(len(shape)) if i not in (*ins, *stack)] if outs is None else outs

    def part(axes, *own):
        return Part(normal(rng, [shape[i] for i in axes] + [*own]), (*axes, *[None] * len(own)))

    return Factored(part(range(len(shape))), part(sorted((*stack, *ins)), rank), part(sorted((*stack, *outs)), rank),
                    part(stack), part(sorted(gain)) if gain else None, path="w")  # fmt: skip


def rows(shape, axis, ids=(3, 1)):
    rng = np.random.default_rng(1)
    new = normal(rng, [len(ids) if i == axis else n for i, n in enumerate(shape)])
    every = tuple(range(len(shape)))
    return Rows(Part(normal(rng, shape), every), Part(new, every), Part(jnp.array(ids), (axis,)), "w")


def agree(function, leaf, *args, wrap=lambda f: f):
    """The function over a leaf is the one over its dense weight. wrap: jax.jit where that is quicker."""
    found, expected = wrap(lambda leaf: (run(function, leaf, *args), function(leaf.merge(), *args)))(leaf)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * (1 + float(jnp.abs(b).max()))),
                 found, expected)  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_products_in_any_layout(seed):
    """dot_general with random axes contracted and shared, the weight on either side, whichever factor has which."""
    rng = np.random.default_rng(seed)
    ndim = int(rng.integers(2, 5))
    shape = tuple(int(n) for n in rng.permutation([2, 3, 4, 5])[:ndim])
    axes = [int(a) for a in rng.permutation(ndim)]
    contracted, batched = axes[: int(rng.integers(1, ndim))], axes[ndim - 1 :] if rng.random() < 0.4 else []
    contracted = [a for a in contracted if a not in batched]
    # The other factor of the product: these axes in another order, and one or two of its own.
    joint = [*contracted, *batched]
    layout = [int(i) for i in rng.permutation(len(joint) + int(rng.integers(1, 3)))]
    x = normal(rng, [shape[joint[i]] if i < len(joint) else 2 + i for i in layout])
    at = {a: layout.index(i) for i, a in enumerate(joint)}
    mine, its = (contracted, batched), ([at[a] for a in contracted], [at[a] for a in batched])
    first = bool(rng.random() < 0.5)
    numbers = tuple(zip(mine, its, strict=True)) if first else tuple(zip(its, mine, strict=True))

    def function(w, x):
        return lax.dot_general(*((w, x) if first else (x, w)), numbers, precision="highest")

    split = int(rng.integers(1, ndim))
    order = [int(a) for a in rng.permutation(ndim)]
    stack = order[split:][:1] if ndim > 2 and rng.random() < 0.5 else []
    ins, outs = order[:split], [a for a in order[split:] if a not in stack]
    agree(function, factored(shape, ins, outs, stack, seed=seed), x, wrap=jax.jit)
    free = [a for a in range(ndim) if a not in contracted]
    for gain in (free, contracted, batched):
        if gain:
            agree(function, factored(shape, ins, outs, stack, gain, seed=seed), x, wrap=jax.jit)
    axis = int(rng.integers(ndim))
    if axis not in batched:
        agree(function, rows(shape, axis, (1, 0)), x, wrap=jax.jit)
    agree(function, encode("w", normal(rng, shape), Blocks("nf4", 2)), x, wrap=jax.jit)


VIEWS = {
    "transpose": lambda w: w.T,
    "transposed and back": lambda w: w.T.T,
    "split an axis in": lambda w: jnp.tensordot(jnp.ones((2, 3)), w.reshape(2, 3, 8), 2),
    "split an axis out": lambda w: w.reshape(6, 2, 2, 2).transpose(0, 3, 1, 2),
    "ones": lambda w: w[None, :, None].reshape(6, 1, 8).squeeze(1),
    "rows": lambda w: w[1:4],
    "every second": lambda w: w[:, ::2],
    "block": lambda w: w[2:5, 3:7],
    "one row": lambda w: w[2],
    "one column": lambda w: w[:, -1],
    "dynamic": lambda w: lax.dynamic_slice(w, (jnp.int32(2), jnp.int32(9)), (3, 5)),
    "dynamic row": lambda w: lax.dynamic_index_in_dim(w, jnp.int32(4), 0, False),
    "split": lambda w: [p * 1.0 for p in jnp.split(w, 2, axis=0)],
    "split out": lambda w: jnp.split(w, [2, 5], axis=1)[1],
    "cast": lambda w: w.astype(jnp.bfloat16).astype(jnp.float32) * 0 + 1.0 * w,
    "scaled": lambda w: -(2.0 * w) / 4.0,
    "stopped": lambda w: lax.stop_gradient(w),
    "copied": lambda w: jnp.copy(w),
    "barrier": lambda w: lax.optimization_barrier((w, jnp.ones(2)))[0],
    "jit": lambda w: jax.jit(lambda w: w.T)(w),
}


def dots(view):
    """The view, seen through products: a number for each of its elements would make it dense."""

    def function(w):
        return [jnp.tensordot(jnp.cos(jnp.arange(v.shape[0])), v, 1) if v.ndim else v for v in jax.tree.leaves(view(w))]

    return function


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("kind", ["lora", "dora", "nf4"])
def test_what_moves_elements_moves_the_leafs_arrays(name, kind):
    if name == "cast":
        pytest.skip("rounds the base alone")
    leaf = encode("w", normal(np.random.default_rng(0), (6, 8)), Blocks("nf4", 4)) if kind == "nf4" else factored(
        (6, 8), (0,), gain=(1,) if kind == "dora" else ())  # fmt: skip
    agree(dots(VIEWS[name]), leaf)


def test_a_reshape_that_mixes_input_and_output_is_refused():
    leaf = factored((6, 8), (0,))
    with pytest.raises(UserError, match="w: .*'reshape'.*merges axes of its input with axes of its output"):
        run(lambda w: jnp.ones((2, 4)) @ w.reshape(4, 12), leaf)
    agree(lambda w: jnp.ones((2, 12)) @ w.reshape(12, 4), factored((6, 2, 4), (0, 1)))


def test_codes_are_not_cut_inside_a_row_at_a_place_that_is_found_out_later():
    leaf = encode("w", zoo.arrays(w=(6, 8))["w"], Blocks("nf4", 4))
    with pytest.raises(UserError, match="w: .*'dynamic_slice'.*not known beforehand"):
        jax.jit(lambda i: run(lambda w: jnp.ones((2, 6)) @ lax.dynamic_slice_in_dim(w, i, 2, 1), leaf))(3)
    agree(lambda w: jnp.ones((2, 3)) @ lax.dynamic_slice_in_dim(w, 2, 3, 0), leaf)


@pytest.mark.parametrize(("old", "new", "groups"), [
    ((4, 6), (4, 2, 3), {0: ((0,), (0,)), 1: ((1,), (1, 2))}),
    ((4, 2, 3), (4, 6), {0: ((0,), (0,)), 1: ((1, 2), (1,)), 2: ((1, 2), (1,))}),
    ((1, 4), (4,), {0: ((0,), ()), 1: ((1,), (0,))}),
    ((4,), (1, 4, 1), {0: ((0,), (1,))}),
    ((2, 6), (3, 4), {0: ((0, 1), (0, 1)), 1: ((0, 1), (0, 1))}),
    ((2, 1, 3), (2, 3, 1), {0: ((0,), (0,)), 1: ((1,), ()), 2: ((2,), (1,))}),
])  # fmt: skip
def test_axis_groups(old, new, groups):
    assert axis_groups(old, new) == groups


@pytest.mark.parametrize("mode", ["fill", "clip", "wrap", None])
def test_look_ups_along_either_axis(mode):
    index = jnp.array([[0, 3, 1], [-1, 2, -2]]) if mode in ("clip", "wrap") else jnp.array([[0, 3, 1], [5, 2, 2]])
    for axis in (0, 1):
        for leaf in (factored((6, 8), (0,)), factored((6, 8), (0,), gain=(1,)), factored((6, 8), (0,), gain=(0,)),
                     rows((6, 8), axis)):  # fmt: skip
            agree(lambda w, i, axis=axis: jnp.take(w, i, axis=axis, mode=mode), leaf, index)
    agree(lambda w, i: jnp.take(w, i, axis=0, mode=mode), encode("w", zoo.arrays(w=(6, 8))["w"], Blocks("int8", 4)),
          index)  # fmt: skip


def test_look_ups_beyond_the_table_are_seen():
    for leaf in (factored((6, 8), (0,)), rows((6, 8), 0), encode("w", zoo.arrays(w=(6, 8))["w"], Blocks("nf4", 4))):
        found = run(lambda w: jnp.take(w, jnp.array([1, 99]), axis=0), leaf)
        assert jnp.isfinite(found[0]).all() and jnp.isnan(found[1]).all()


def test_indexing_by_one_number_and_by_many():
    leaf = factored((3, 6, 8), (1,), stack=(0,))
    agree(lambda w, i: jnp.ones((2, 6)) @ w[i], leaf, jnp.int32(1))
    agree(lambda w, i: jnp.einsum("bi,bio->bo", jnp.ones((4, 6)), w[i]), leaf, jnp.array([0, 2, 2, 1]))


def test_trees_of_weights_and_arguments():
    weights = {"a": factored((6, 8), (0,)), "b": [jnp.ones(8), rows((8, 5), 1)]}

    def function(w, x, more):
        return {"y": (x @ w["a"] + w["b"][0]) @ w["b"][1], "same": more}

    x = jnp.ones((2, 6))
    found, expected = run(function, weights, x, {"k": 2}), function(structured.merge(weights), x, {"k": 2})
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-5)
    assert found["same"] == {"k": 2}


def test_without_leaves_the_function_is_called_as_it_is():
    marker = object()
    assert run(lambda w: (w, marker), 3.0) == (3.0, marker)


def test_a_weight_that_is_returned_is_the_leaf():
    leaf = factored((6, 8), (0,))
    with pytest.raises(UserError, match="w: "):
        run(lambda w: w, leaf)


def test_sharding_constraints_hold():
    mesh = make_mesh(1, 4, 2)

    def function(w):
        w = lax.with_sharding_constraint(w, P("fsdp", "tensor"))
        return jnp.ones((2, 8)) @ w

    with jax.set_mesh(mesh):
        agree(function, factored((8, 8), (0,)))
        text = jax.jit(lambda leaf: run(function, leaf)).lower(factored((8, 8), (0,))).as_text()
    assert "fsdp" in text


# Quantized numbers.


@pytest.mark.parametrize("shape", [(64, 64), (3, 7), (2, 5, 130), (4, 1)])
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_decoded_numbers_are_near(kind, shape):
    x = normal(np.random.default_rng(0), shape) * jnp.exp(normal(np.random.default_rng(1), (*shape[:-1], 1)))
    form = Blocks(kind)
    found = form.decode(form.encode(x), shape[-1])
    assert found.shape == x.shape and found.dtype == jnp.float32
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -shape[-1] % 64)])
    blocks = jnp.abs(padded).reshape(*shape[:-1], -1, 64).max(axis=-1)
    # Half of the widest gap between two codes; and scales are rounded up, by at most 1/255 of the row's largest.
    gap = float(np.diff(NF4).max()) / 2 if kind == "nf4" else 0.5 / 127
    scale = blocks + blocks.max(axis=-1, keepdims=True) / 255
    allowed = jnp.repeat(scale * gap, 64, axis=-1)[..., : shape[-1]]
    assert (jnp.abs(found - x) <= allowed * 1.0001).all()


def test_errors_of_normal_numbers():
    x = normal(np.random.default_rng(0), (512, 1024))
    errors = {kind: float(jnp.linalg.norm(Blocks(kind).decode(Blocks(kind).encode(x), 1024) - x) / jnp.linalg.norm(x))
              for kind in ("nf4", "int8")}  # fmt: skip
    # NF4 in blocks of 64 leaves 0.094 of a normal's deviation; int8 a step of about 2.5 / 127 deviations, uniform.
    assert 0.08 < errors["nf4"] < 0.1 and 0.004 < errors["int8"] < 0.008, errors


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_zeros_stay_zeros_and_extremes_stay(kind):
    form = Blocks(kind, 4)
    x = jnp.array([[0.0] * 8, [0, 0, 0, 0, 1, -1, 0, 0.0], [1e-30, -1e-30, 0, 0, 0, 0, 0, 0]])
    found = form.decode(form.encode(x), 8)
    assert jnp.isfinite(found).all() and (found[0] == 0).all()
    np.testing.assert_allclose(found[1], x[1], rtol=1e-6)


@pytest.mark.parametrize(("shape", "bits"), [((4096, 14336), 4.6), ((896, 128), 4.6), ((32, 2048, 512), 4.6)])
def test_bits_a_parameter(shape, bits):
    leaf = jax.eval_shape(lambda: encode("w", jnp.zeros(shape, jnp.bfloat16), Blocks("nf4")))
    stored = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(leaf))
    assert 4 < stored * 8 / np.prod(shape) <= bits
    assert (leaf.shape, leaf.dtype) == (shape, jnp.bfloat16)


def test_codes_lie_on_a_mesh_as_the_weight_would():
    mesh = make_mesh(1, 4, 2)
    w = normal(np.random.default_rng(0), (16, 256))
    leaf = encode("w", w, Blocks("nf4"))
    home = NamedSharding(mesh, P("fsdp", "tensor"))
    cut = jax.tree.map(lambda x: jax.device_put(x, home if x.shape[-1] > 1 else NamedSharding(mesh, P("fsdp"))), leaf)
    with jax.set_mesh(mesh):
        found = jax.jit(lambda leaf, x: run(lambda w, x: x @ w, leaf, x))(cut, jnp.ones((8, 16)))
    np.testing.assert_allclose(found, jnp.ones((8, 16)) @ leaf.merge(), rtol=1e-5, atol=1e-5)


def test_a_quantized_leaf_keeps_its_dtype_and_is_a_transform_apart():
    params = {"a": {"kernel": jnp.ones((4, 8), jnp.bfloat16), "bias": jnp.ones(8)}}
    frozen, trainable = quantize("int8", block=4).init(jax.random.key(0), params)
    leaf = frozen["base"]["a"]["kernel"]
    assert isinstance(leaf, Quantized) and trainable == {} and frozen["base"]["a"]["bias"] is params["a"]["bias"]
    assert leaf.merge().dtype == leaf.dtype == jnp.bfloat16
    again, _ = quantize("int8", block=4).init(jax.random.key(0), frozen["base"])
    assert again["base"]["a"]["kernel"] is leaf
