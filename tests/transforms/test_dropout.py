"""Dropout of what goes into A: by the batch's key, another mask for every layer and weight, none without a key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune.models import decoder
from jitune.transforms import chain, dora, for_function, lora, quantize
from tests.transforms import zoo
from tests.transforms.test_table import start

RATE, ROWS = 0.25, 500


def masks(key, rate=RATE):
    """What two stacked layers of zero weights and factors of identities let through of ones: the masks [2, ROWS, 8]."""
    transform = lora(8, 8, dropout=rate, layouts={"kernel": "lio"})
    frozen, trainable = transform.init(jax.random.key(0), {"kernel": jnp.zeros((2, 8, 8))})
    trainable = jax.tree.map(lambda x: jnp.broadcast_to(jnp.eye(8), x.shape), trainable)
    ones = jnp.ones((ROWS, 8))

    def function(params, batch):
        return jax.lax.scan(lambda _, w: (None, ones @ w), None, params["kernel"])[1]

    return jax.jit(lambda batch: for_function(transform, function)((frozen, trainable), batch))(
        {} if key is None else {"key": jax.random.key(key)})  # fmt: skip


def test_masks():
    first, again, other = masks(0), masks(0), masks(1)
    np.testing.assert_array_equal(first, again)
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / (1 - RATE))}
    same = (1 - RATE) ** 2 + RATE**2
    # Independent masks agree in this share of places; 8 000 of them, so within 0.03 (five deviations).
    assert abs((first == other).mean() - same) < 0.03
    assert abs((first[0] == first[1]).mean() - same) < 0.04
    assert abs(first.mean() - 1) < 0.03
    np.testing.assert_array_equal(masks(None), jnp.ones((2, ROWS, 8)))


def graded(config, key, make=lora, rate=0.3):
    """`trainable -> (factors' gradients, logits)` of a decoder, and where it starts."""
    model = decoder.build(config)
    transform = make(2, 3, dropout=rate)
    changed = transform.apply(model)
    params = zoo.fill(jax.eval_shape(model.init, jax.random.key(0)))
    frozen, trainable = jax.jit(lambda p: start(transform, p))(params)
    batch = {"tokens": zoo.TOKENS} | ({} if key is None else {"key": jax.random.key(key)})

    def loss(trainable):
        logits = changed.unembed((frozen, trainable), changed.hidden((frozen, trainable), batch)[0])
        return jnp.sin(logits).sum(), logits

    return jax.grad(loss, has_aux=True), trainable


def run(*args):
    function, trainable = graded(*args)
    return jax.jit(function)(trainable)


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5 * float(jnp.abs(x).max())), a, b)


def test_the_masks_do_not_depend_on_how_layers_run():
    first = run(zoo.tiny(), 0)
    close(first, run(zoo.tiny(remat="full"), 0))
    close(first, run(zoo.tiny(scan_layers=False), 0))
    with pytest.raises(AssertionError):
        close(first, run(zoo.tiny(), 1))


@pytest.mark.parametrize("make", [lora, dora, lambda *a, **k: chain(quantize("int8"), lora(*a, **k))])
def test_without_a_key_nothing_is_dropped(make):
    with_key, without = (str(jax.make_jaxpr(f)(t)) for f, t in (graded(zoo.tiny(), k, make) for k in (0, None)))
    assert "random_bits" in with_key and "random_" not in without
