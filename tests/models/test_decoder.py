"""The decoder: however its layers run, it computes the same; documents in a row do not see each other."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jitune
from jitune.models import decoder
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES
from jitune.types import UserError

pytestmark = pytest.mark.core
SLIDING = {"mistral": {"sliding_window": 4}, "qwen2": {"use_sliding_window": True, "sliding_window": 4,
                                                       "max_window_layers": 1},
           "gemma3_text": {"sliding_window": 4}}
# The others have nothing that rows or caches touch which these have not; golden values hold them too.
SOME = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "gpt2")


def make(family="qwen3", seed=0, **changes):
    raw = {"model_type": family, **FAMILIES[family].presets["tiny"], "vocab_size": 96, **changes}
    config = ModelConfig.from_hf(raw)

    @jax.jit  # as one program: compiling each operation alone takes most of a test
    def draw():
        # Fresh norms are all ones and biases all zero, which would hide mistakes in either.
        leaves, treedef = jax.tree.flatten(decoder.build(config).init(jax.random.key(seed)))
        keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
        leaves = [x + 0.2 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
        return jax.tree.unflatten(treedef, leaves)

    return config, draw()


def tokens(rows=2, length=12, seed=3):
    return jax.random.randint(jax.random.key(seed), (rows, length), 0, 96)


def loss_and_grads(config, params, ids):
    model = decoder.build(config)

    def loss(params):
        return jnp.mean(jnp.square(jitune.logits(model, params, ids)))

    return jax.jit(jax.value_and_grad(loss))(params)


@cache
def plain():
    """The values of scanned layers without remat."""
    return loss_and_grads(*make("qwen2", **SLIDING["qwen2"]), tokens())


@pytest.mark.parametrize("remat", [*decoder.REMAT_POLICIES])
@pytest.mark.parametrize("scan_layers", [True, False])
def test_scanned_unrolled_and_remat_agree(scan_layers, remat):
    config, params = make("qwen2", **SLIDING["qwen2"])
    expected, grads = plain()
    found, found_grads = loss_and_grads(config.replace(scan_layers=scan_layers, remat=remat), params, tokens())
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(found_grads), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-6 * float(jnp.abs(a).max()) + 1e-8, rtol=1e-4)


def test_scanned_and_unrolled_share_one_layout():
    config, params = make()
    unrolled = jax.eval_shape(decoder.build(config.replace(scan_layers=False)).init, jax.random.key(0))
    assert jax.tree.structure(unrolled) == jax.tree.structure(params)
    assert jax.tree.map(lambda x: x.shape, unrolled) == jax.tree.map(lambda x: x.shape, params)


def test_unknown_remat_is_refused():
    config, params = make()
    with pytest.raises(UserError, match="remat 'most' is not known; known are none, full"):
        jitune.logits(decoder.build(config.replace(remat="most")), params, tokens())


@pytest.mark.parametrize("family", SOME)
def test_packed_documents_are_as_if_alone(family):
    config, params = make(family, **SLIDING.get(family, {}))
    model = decoder.build(config)
    first, second = tokens(1, 7, seed=1), tokens(1, 5, seed=2)
    row = jnp.concatenate([first, second, jnp.zeros((1, 3), jnp.int32)], axis=1)
    segments = jnp.array([[1] * 7 + [2] * 5 + [0] * 3])
    packed = jitune.logits(model, params, row, segment_ids=segments)
    given = jitune.logits(model, params, row, segment_ids=segments,
                          positions=jnp.array([[*range(7), *range(5), *range(3)]]))
    np.testing.assert_array_equal(packed, given)
    np.testing.assert_allclose(packed[:, :7], jitune.logits(model, params, first), atol=2e-5)
    np.testing.assert_allclose(packed[:, 7:12], jitune.logits(model, params, second), atol=2e-5)
    assert np.isfinite(packed).all()


@pytest.mark.parametrize("family", SOME)
@pytest.mark.parametrize("scan_layers", [True, False])
def test_cache_continues_where_it_stopped(family, scan_layers):
    config, params = make(family, **SLIDING.get(family, {}))
    model = decoder.build(config.replace(scan_layers=scan_layers))
    ids, run = tokens(2, 10), jax.jit(model.hidden)
    expected, _ = run(params, {"tokens": ids})
    cache, found = model.init_cache(2, 12), []
    for part in jnp.split(ids, [6, 7, 8, 9], axis=1):
        hidden, cache = run(params, {"tokens": part}, cache)
        found.append(hidden)
    assert int(cache.length) == 10
    np.testing.assert_allclose(jnp.concatenate(found, axis=1), expected, atol=2e-5)


def test_a_sliding_window_counts_the_query_itself():
    config, params = make("mistral", num_hidden_layers=1, sliding_window=3)
    model = decoder.build(config)
    ids = tokens(1, 8)
    run = jax.jit(lambda ids: jitune.logits(model, params, ids))
    base = run(ids)
    for changed in range(8):
        other = run(ids.at[0, changed].add(1))
        moved = {i for i in range(8) if not np.array_equal(other[0, i], base[0, i])}
        assert moved == {i for i in (changed, changed + 1, changed + 2) if i < 8}


def test_bfloat16_computes_in_bfloat16_and_gives_float32_logits():
    config, params = make()
    model = decoder.build(config.replace(dtype="bfloat16"))
    hidden, _ = jax.jit(model.hidden)(params, {"tokens": tokens()})
    assert hidden.dtype == jnp.bfloat16
    assert model.unembed(params, hidden).dtype == jnp.float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_float32_products_are_exact_whatever_the_default(dtype):
    """Accelerators round the factors of float32 products unless asked not to."""
    config, params = make()
    model = decoder.build(config.replace(dtype=dtype))

    def loss(params):
        return jitune.logits(model, params, tokens()).sum()

    with jax.default_matmul_precision("bfloat16"):
        text = str(jax.make_jaxpr(jax.grad(loss))(params))
    products = text.count("dot_general[")
    exact = text.count("precision=(Precision.HIGHEST, Precision.HIGHEST)")
    assert products > 20 and exact == (products if dtype == "float32" else 0)


def test_logits_are_compiled_once_for_a_model_and_a_shape():
    config, params = make()
    model, traced = decoder.build(config), []
    watched = model._replace(hidden=lambda *args: traced.append(args) or model.hidden(*args))
    first, second = (jitune.logits(watched, params, tokens()) for _ in range(2))
    assert len(traced) == 1
    np.testing.assert_array_equal(first, second)


def test_restart_positions():
    segments = jnp.array([[1, 1, 1, 2, 2, 0], [0, 0, 1, 1, 1, 1]])
    expected = [[0, 1, 2, 0, 1, 0], [0, 1, 0, 1, 2, 3]]
    np.testing.assert_array_equal(decoder.restart_positions(segments), expected)


def test_embeddings_stand_in_for_tokens():
    config, params = make()
    model, ids = decoder.build(config), tokens()
    given = {"tokens": jnp.zeros_like(ids), "embeddings": model.embed(params, ids)}
    run = jax.jit(model.hidden)
    np.testing.assert_array_equal(run(params, given)[0], run(params, {"tokens": ids})[0])


def test_a_token_outside_the_vocabulary_is_not_silent():
    config, params = make()
    assert np.isnan(jitune.logits(decoder.build(config), params, jnp.array([[1, 96]]))).any()


def test_a_position_beyond_the_learned_ones_is_not_silent():
    config, params = make("gpt2", n_positions=4)
    ids, segments = tokens(1, 9), jnp.array([[0] * 6 + [1] * 3])
    run = jax.jit(lambda segments: jitune.logits(decoder.build(config), params, ids, segment_ids=segments))
    assert np.isnan(run(jnp.ones_like(segments))[0, 4:]).all() and np.isfinite(run(segments)).all()
