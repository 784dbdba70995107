"""Attention in blocks of queries is plain attention; what cannot be exact is refused."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune.models import attention, decoder
from jitune.models.attention import allowed, attend, attend_blocks, attend_plain
from jitune.models.cached_attention import View, attend_used
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES
from jitune.types import LayerKV, UserError

pytestmark = pytest.mark.core


@cache
def inputs(length=40, heads=4, kv_heads=2, dim=8, dtype="float32"):
    keys = jax.random.split(jax.random.key(0), 3)
    sizes = (heads, kv_heads, kv_heads)
    q, k, v = (jax.random.normal(key, (2, length, n, dim), dtype) for key, n in zip(keys, sizes, strict=True))
    # Three documents and padding in the first row, one document in the second.
    segments = np.ones((2, length), np.int32)
    segments[0, 7:19], segments[0, 19:33], segments[0, 33:] = 2, 3, 0
    return q, k, v, jnp.asarray(segments)


@partial(jax.jit, static_argnames=("front", "window"))
def attend_alone(q, k, v, *, front=0, window=None):
    """A document [1, tokens, ...] behind the first `front` of its keys, and nothing else in its row."""
    ones = jnp.ones((1, k.shape[1]), jnp.int32)
    return attend_plain(q, k, v, allowed(ones[:, front:], ones, front, window))


def behind(prefix, k, v, where):
    """[1, ...] keys and values of the tokens `where` of the first row, the prefix in front; numpy compiles nothing."""
    return [np.concatenate([p, np.asarray(x)[where]])[None] for p, x in zip(prefix, (k, v), strict=True)]


@pytest.mark.parametrize("size", [7, 16, 40, 64])
@pytest.mark.parametrize("window", [None, 0, 5])
def test_blocks_are_plain_attention(size, window):
    q, k, v, segments = inputs()

    def plain(q, k, v):
        return attend_plain(q, k, v, allowed(segments, segments, 0, window))

    def blocks(q, k, v):
        return attend_blocks(q, k, v, segments=segments, window=window, size=size)

    def graded(function):
        def score(q, k, v):
            out = function(q, k, v)
            return jnp.sum(jnp.sin(out)), out

        (total, out), gradients = jax.jit(jax.value_and_grad(score, argnums=(0, 1, 2), has_aux=True))(q, k, v)
        return out, [total, *gradients]

    (out, found), (expected_out, expected) = graded(blocks), graded(plain)
    np.testing.assert_allclose(out, expected_out, atol=1e-6, rtol=1e-5)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6, rtol=1e-5)


def test_a_traced_window_is_that_window():
    q, k, v, segments = inputs()
    found = jax.jit(lambda w: attend_blocks(q, k, v, segments=segments, window=w, size=16))(5)
    np.testing.assert_allclose(found, attend_plain(q, k, v, allowed(segments, segments, 0, 5)), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "blocks", "cache"])
def test_scores_are_scaled_and_capped_by_hand(kind):
    """Two keys of one feature: scores 3 and -1 by scale 2 are 6 and -2, capped at 4 tanh(1.5) and 4 tanh(-0.5)."""
    q, k, v = jnp.full((1, 256, 1, 1), 1.0), jnp.tile(jnp.asarray([3.0, -1.0]), 128), jnp.tile(jnp.eye(2)[:, 0], 128)
    k, v = k.reshape(1, 256, 1, 1), v.reshape(1, 256, 1, 1)
    segments = jnp.repeat(jnp.arange(128), 2)[None]
    if kind == "cache":
        seen = View(allowed(segments, segments, 0, None), 256)
        found = attend_used(q, LayerKV(k, v), seen, size=128, scale=2.0, softcap=4.0)
    else:
        options = {"segments": segments, "kv_segments": segments, "start": None, "window": None, "kind": kind}
        found = attend(q, k, v, scale=2.0, softcap=4.0, **options)
    first, second = np.exp(4 * np.tanh(1.5)), np.exp(4 * np.tanh(-0.5))
    np.testing.assert_allclose(found[0, 1::2, 0, 0], first / (first + second), rtol=1e-5)



@pytest.mark.parametrize("kind", ["auto", "blocks", "plain"])
def test_a_long_row_does_not_leak_between_documents(kind):
    q, k, v, _ = inputs(length=300)
    segments = jnp.asarray(np.repeat([[1, 2]], 2, 0).repeat(150, 1))

    @jax.jit
    def run(q, k, v, segments):
        return attend(q, k, v, segments=segments, kv_segments=segments, start=None, window=None, kind=kind)

    whole = run(q, k, v, segments)
    second = run(*(np.asarray(x)[:, 150:] for x in (q, k, v)), np.asarray(segments)[:, :150])
    np.testing.assert_allclose(whole[:, 150:], second, atol=1e-6, rtol=1e-5)


def test_blocks_leave_out_products_above_the_diagonal():
    q, k, v, segments = inputs(length=512)
    ones = jnp.ones_like(segments)

    def flops(kind):
        def call(q, k, v):
            return attend(q, k, v, segments=ones, kv_segments=ones, start=None, window=None, kind=kind)

        return jax.jit(call).lower(q, k, v).compile().cost_analysis()["flops"]

    assert flops("blocks") < 0.7 * flops("plain")  # four blocks: (1 + 2 + 3 + 4) / 16 of the products


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cudnn_is_refused_where_it_cannot_run(dtype):
    if jax.default_backend() == "gpu" and dtype == "bfloat16":
        pytest.skip("this machine has what cuDNN needs")
    q, k, v, segments = inputs(dtype=dtype)
    with pytest.raises(UserError, match="attention=cudnn needs an NVIDIA GPU"):
        attend(q, k, v, segments=segments, kv_segments=segments, start=None, window=None, kind="cudnn")


@pytest.mark.parametrize("remat", ["none", "full"])
@pytest.mark.parametrize("scan_layers", [True, False])
def test_the_layers_of_a_model_run_the_kind_that_its_config_names(scan_layers, remat):
    raw = {"model_type": "llama", **FAMILIES["llama"].presets["tiny"], "vocab_size": 96}
    config = ModelConfig.from_hf(raw).replace(scan_layers=scan_layers, remat=remat)
    ids = jax.ShapeDtypeStruct((1, 512), jnp.int32)

    def products(kind):
        model = decoder.build(config.replace(attention=kind))
        params = jax.eval_shape(model.init, jax.random.key(0))
        traced = jax.make_jaxpr(jax.grad(lambda p, ids: model.hidden(p, {"tokens": ids})[0].sum()))(params, ids)
        return str(traced).count("dot_general")

    assert products("auto") == products("blocks") > products("plain")
    with pytest.raises(UserError, match="attention=cudnn"):
        products("cudnn")


@cache
def prefixed(length=40, front=3, dtype="float32"):
    """q, k, v, segments, a prefix and positions behind it, for the documents of `inputs`."""
    q, k, v, segments = inputs(length, dtype=dtype)
    prefix = tuple(jax.random.normal(jax.random.key(i), (front, *k.shape[2:]), "float32") for i in (7, 8))
    return q, k, v, segments, prefix, front + decoder.restart_positions(segments)


@pytest.mark.parametrize("window", [None, 0, 5, 20])
def test_a_prefix_stands_in_front_of_every_document(window):
    q, k, v, segments, prefix, positions = prefixed()
    options = {"segments": segments, "kv_segments": segments, "start": None, "window": window, "positions": positions}
    found = np.asarray(jax.jit(lambda *a: attend(*a, kind="plain", prefix=prefix, **options))(q, k, v))
    for row, first, end in ((0, 0, 7), (0, 7, 19), (0, 19, 33), (1, 0, 40)):
        document = np.asarray(q)[row : row + 1, first:end]
        alone = attend_alone(document, *behind(prefix, k, v, (row, slice(first, end))), front=3, window=window)
        np.testing.assert_allclose(found[row, first:end], alone[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [7, 40, 64])
@pytest.mark.parametrize("window", [None, 5])
def test_blocks_behind_a_prefix(size, window, monkeypatch):
    q, k, v, segments, prefix, positions = prefixed()
    options = {"segments": segments, "kv_segments": segments, "start": None, "window": window, "positions": positions}
    monkeypatch.setattr(attention, "BLOCK", 1)
    monkeypatch.setattr(attention, "attend_blocks", partial(attend_blocks, size=size))

    def graded(kind):
        def score(q, k, v, prefix):
            return jnp.sum(jnp.sin(attend(q, k, v, prefix=prefix, kind=kind, **options)))

        return jax.jit(jax.value_and_grad(score, argnums=(0, 1, 2, 3)))(q, k, v, prefix)

    for found, expected in zip(jax.tree.leaves(graded("blocks")), jax.tree.leaves(graded("plain")), strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-6, rtol=1e-5)


# Columns of what each document of a tree consists of; the first 20 are of all three, the next 5 of the last two.
PATHS = ((*range(20), 20, 21, 22), (*range(20), *range(23, 28), 28, 29), (*range(20), *range(23, 28), *range(30, 40)))


@pytest.mark.parametrize("front", [0, 3])
@pytest.mark.parametrize("window", [None, 0, 9])
@pytest.mark.parametrize("kind, size", [("plain", 0), ("blocks", 7), ("blocks", 64)])
def test_documents_that_begin_alike_share_their_tokens(kind, size, window, front, monkeypatch):
    q, k, v, _, prefix, _ = prefixed(front=front or 1)
    segments, ends, positions = np.zeros((3, 2, 40), np.int32)
    for number, path in reversed(list(enumerate(PATHS, 1))):
        segments[:, path], positions[:, path] = number, np.arange(len(path))
    for number, path in enumerate(PATHS, 1):
        ends[:, path] = number
    monkeypatch.setattr(attention, "BLOCK", 1)
    monkeypatch.setattr(attention, "attend_blocks", partial(attend_blocks, size=size))
    segments, ends, positions = map(jnp.asarray, (segments, ends, positions + front))
    options = {"segments": segments, "kv_segments": segments, "ends": ends, "positions": positions, "start": None}
    options |= {"window": window, "kind": kind, "prefix": prefix if front else None}
    found = np.asarray(jax.jit(lambda *a: attend(*a, **options))(q, k, v))
    prefix = [np.asarray(p)[:front] for p in prefix]
    for path in map(np.asarray, PATHS):
        keys = behind(prefix, k, v, (0, path))
        alone = attend_alone(np.asarray(q)[:1, path], *keys, front=front, window=window)
        np.testing.assert_allclose(found[0, path], alone[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("front", [3, 4])
def test_cudnn_is_given_an_even_number_of_keys(front, monkeypatch):
    """Its backward pass takes no other; what is added is masked."""
    q, k, v, segments, prefix, positions = prefixed(front=front, dtype="bfloat16")
    xla, given = jax.nn.dot_product_attention, []

    def stand_in(q, k, v, *, mask, scale, implementation):
        given.append((k.shape[1], implementation))
        return xla(q, k, v, mask=mask, scale=scale, implementation="xla")

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)
    options = {"segments": segments, "kv_segments": segments, "start": None, "window": 9, "prefix": prefix}
    found, expected = (attend(q, k, v, kind=kind, positions=positions, **options) for kind in ("cudnn", "plain"))
    real = np.asarray(segments > 0)
    np.testing.assert_allclose(found[real].astype("float32"), expected[real].astype("float32"), atol=0.03)
    assert given == [(44, "cudnn")]
