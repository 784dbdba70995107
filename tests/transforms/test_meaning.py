"""What merged weights are, against numpy; where training starts; and that merging leaves all else as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune import tree
from jitune.transforms import chain, dora, lora, quantize, select, tokens
from tests.transforms import zoo
from tests.transforms.test_table import EVERY, start

pytestmark = pytest.mark.core
# layout: shape
LAYOUTS = {"io": (6, 8), "lio": (3, 6, 8), "iio": (2, 3, 8), "ioo": (6, 2, 4), "lliio": (2, 2, 3, 2, 8)}


def one(letters):
    """(params of one weight, options for it)."""
    params = {"a": {"kernel": zoo.fill(jax.ShapeDtypeStruct(LAYOUTS[letters], jnp.float32))}}
    return params, {"select": "kernel", "layouts": {"kernel": letters}}


def product(a, b, stack: int):
    """A B in numpy: [stack, in, rank] and [stack, rank, out], both with any number of axes."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    layers = a.shape[:stack]
    flat = a.reshape(-1, int(np.prod(a.shape[stack:-1])), a.shape[-1])
    flat = flat @ b.reshape(flat.shape[0], a.shape[-1], -1)
    return flat.reshape(*layers, *a.shape[stack:-1], *b.shape[stack + 1 :])


@pytest.mark.parametrize(("rslora", "scale"), [(False, 5 / 2), (True, 5 / 2**0.5)])
@pytest.mark.parametrize("letters", LAYOUTS)
def test_lora(letters, rslora, scale):
    params, options = one(letters)
    transform = lora(2, 5, rslora=rslora, **options)
    frozen, trainable = start(transform, params)
    a, b = (trainable["a"]["kernel"][name] for name in ("lora_a", "lora_b"))
    expected = params["a"]["kernel"] + scale * product(a, b, letters.count("l"))
    np.testing.assert_allclose(transform.merge(frozen, trainable)["a"]["kernel"], expected, rtol=1e-5, atol=1e-6)
    assert frozen["base"]["a"]["kernel"] is params["a"]["kernel"]


@pytest.mark.parametrize("letters", LAYOUTS)
def test_dora(letters):
    params, options = one(letters)
    transform = dora(2, 5, **options)
    frozen, trainable = start(transform, params)
    arrays = trainable["a"]["kernel"]
    stack, ins = letters.count("l"), tuple(i for i, c in enumerate(letters) if c == "i")
    w = params["a"]["kernel"] + 5 / 2 * product(arrays["lora_a"], arrays["lora_b"], stack)
    magnitude = np.expand_dims(arrays["magnitude"], [i for i in ins])
    expected = w * magnitude / np.sqrt((w**2).sum(axis=ins, keepdims=True))
    np.testing.assert_allclose(transform.merge(frozen, trainable)["a"]["kernel"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [lora, dora])
@pytest.mark.parametrize("init", ["kaiming", "gaussian", "pissa", "olora"])
def test_training_starts_at_the_base(make, init):
    params = {name: zoo.modules()[name][0] for name in ("attention", "embedded", "scan")}
    transform = make(2, 3, init=init, **EVERY)
    frozen, trainable = jax.jit(lambda p: transform.init(jax.random.key(0), p))(params)
    merged = jax.jit(transform.merge)(frozen, trainable)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), merged, params)


def test_pissa_begins_at_the_largest_singular_values():
    params, options = one("lio")
    _, trainable = lora(2, 3, init="pissa", **options).init(jax.random.key(0), params)
    found = 3 / 2 * product(*trainable["a"]["kernel"].values(), 1)
    for w, best in zip(params["a"]["kernel"], found, strict=True):
        u, s, vt = np.linalg.svd(np.float64(w), full_matrices=False)
        np.testing.assert_allclose(best, u[:, :2] * s[:2] @ vt[:2], rtol=1e-4, atol=1e-5)


def test_patterns_of_rank_and_alpha():
    params = zoo.modules()["attention"][0]
    transform = lora(2, 3, rank_pattern={"query": 4}, alpha_pattern={"value": 7})
    frozen, trainable = transform.init(jax.random.key(0), params)
    assert trainable["query"]["kernel"]["lora_a"].shape == (8, 4)
    assert trainable["out"]["kernel"]["lora_a"].shape == (2, 4, 2)
    scales = {path.split("/")[0]: float(x) for path, x in tree.flatten(frozen["scale"]).items()}
    assert scales == {"query": 3 / 4, "key": 3 / 2, "value": 7 / 2, "out": 3 / 2}


def test_tokens_replace_their_rows_and_columns():
    params = zoo.decoders()["decoder_scan_remat"][0]
    transform = tokens([5, 1])
    frozen, trainable = start(transform, params)
    merged = transform.merge(frozen, trainable)
    rows, columns = trainable["embed"]["embedding"]["rows"], trainable["lm_head"]["kernel"]["rows"]
    np.testing.assert_array_equal(merged["embed"]["embedding"][np.array([5, 1])], rows)
    np.testing.assert_array_equal(merged["lm_head"]["kernel"][:, np.array([5, 1])], columns)
    still = np.array([0, 2, 3, 4, *range(6, 12)])
    np.testing.assert_array_equal(merged["embed"]["embedding"][still], params["embed"]["embedding"][still])
    np.testing.assert_array_equal(merged["lm_head"]["kernel"][:, still], params["lm_head"]["kernel"][:, still])


@pytest.mark.parametrize("transform", [
    lora(2, 3), dora(2, 3), select("scale"), tokens([3]), chain(lora(2, 3), select("scale")),
    chain(quantize("int8"), lora(2, 3), tokens([3])),
], ids=["lora", "dora", "select", "tokens", "lora+select", "qlora+tokens"])  # fmt: skip
def test_merged_parameters_have_the_tree_of_the_models(transform):
    params = zoo.decoders()["decoder_scan_remat"][0]
    frozen, trainable = jax.eval_shape(lambda: transform.init(jax.random.key(0), params))
    merged = jax.eval_shape(transform.merge, frozen, trainable)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), merged) == jax.tree.map(lambda x: (x.shape, x.dtype), params)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(trainable))
