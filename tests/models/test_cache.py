"""The KV cache: where rings keep what, caches of 8 bits, and that a cached forward is the plain one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune.models import cache as caches
from jitune.models import decoder
from jitune.models.attention import allowed, attend_plain
from jitune.models.cached_attention import View, attend_used
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES
from jitune.transforms.prefix import prefix
from jitune.types import EVERYONE, LayerKV
from tests.generation import scripted as toys

ATOL = 5e-5  # of hidden states, float32
LENGTH, PAD = 150, 9  # longer than the rings of the windows below, 64 slots


def test_a_ring_by_hand():
    """A ring of 64 behind 2 in front, 100 places in use."""
    cache = caches.empty(1, 128, windows=(20, 0), kv_heads=1, head_dim=2, dtype="float32")
    assert cache.rings == (64, 0) and caches.wraps(cache, 0) and not caches.wraps(cache, 1)
    cache = caches.fill(cache, *np.ones((2, 2, 2, 1, 2), np.float32))
    assert [layer.k.shape[1] for layer in cache.layers] == [66, 128] and cache.front == 2 and cache.length == 2
    held = caches.held(cache, 0, 100)
    assert held[:6].tolist() == [0, 1, 66, 67, 68, 69] and held[33:38].tolist() == [97, 98, 99, 36, 37]
    assert sorted(held[2:].tolist()) == list(range(36, 100))
    assert [int(caches.slot_of(cache, 0, p)) for p in (1, 2, 65, 66, 99, 36)] == [1, 2, 65, 2, 35, 36]
    assert caches.held(cache, 0, 5).tolist() == [0, 1, 2, 3, 4] + [-1] * 61
    assert caches.held(cache, 1, 100)[-1] == 127
    grown = caches.grow(cache, 128)
    assert [layer.k.shape[1] for layer in grown.layers] == [66, 256] and grown.segment_ids.shape == (1, 256)


@pytest.mark.parametrize("shift", [-7, 0, 13, 70])
def test_moving_turns_the_ring(shift):
    """Slots say which place they hold: after a move, that place less the shift."""
    cache = caches.empty(1, 256, windows=(20, 0), kv_heads=1, head_dim=1, dtype="float32")
    cache = caches.fill(cache, *np.zeros((2, 2, 3, 1, 1), np.float32))
    length = 120
    layers = tuple(
        layer._replace(k=caches.held(cache, i, length).astype(jnp.float32)[None, :, None, None])
        for i, layer in enumerate(cache.layers)
    )
    ids = jnp.where(jnp.arange(256) < length, 1, 0)[None].at[:, :3].set(EVERYONE)
    cache = cache._replace(layers=layers, segment_ids=ids, length=jnp.int32(length))
    moved = caches.move(cache, shift, source=cache)
    assert moved.length == length + shift and (moved.segment_ids[0, :3] == EVERYONE).all()
    assert np.flatnonzero(moved.segment_ids[0] == 1).tolist() == list(range(max(3 + shift, 3), length + shift))
    for i in range(2):
        places = np.asarray(caches.held(moved, i, moved.length))
        for slot in np.flatnonzero((places >= max(3 + shift, 3)) & (places < length + shift)):
            assert moved.layers[i].k[0, slot, 0, 0] == places[slot] - shift


@pytest.fixture(scope="module")
def mixed():
    """Windowed layers and one that sees all."""
    return toys.tiny("qwen3", use_sliding_window=True, sliding_window=9, max_window_layers=1, num_hidden_layers=3)


@pytest.fixture(scope="module", params=[0, 5])
def plainly(mixed, request):
    """A forward without a cache, of a row that is padded on the left and one that is not; a prefix, or none."""
    model, params, config = mixed
    assert sorted(set(config.windows)) == [0, 9]
    if front := request.param:
        transform = prefix(front, model=model)
        params = transform.init(jax.random.key(3), params)
        model = transform.apply(model)
    tokens = jnp.asarray([toys.prompts_of((LENGTH,))[0], [0] * PAD + toys.prompts_of((LENGTH - PAD,), seed=1)[0]])
    segments = jnp.ones_like(tokens).at[1, :PAD].set(0)
    positions = jnp.maximum(jnp.arange(LENGTH) - jnp.asarray([[0], [PAD]]), 0)
    batch = {"tokens": tokens, "segment_ids": segments, "positions": positions}
    run = jax.jit(lambda params, part, cache=None: model.hidden(params, part, cache))
    return front, model, params, batch, run, run(params, batch)[0]


@pytest.mark.parametrize("parts", [(1, 1), (32, 1, 70)], ids=str)
def test_a_cached_forward_is_the_plain_one(plainly, parts):
    """In parts, some longer than a ring."""
    front, model, params, batch, run, expected = plainly
    sizes = [LENGTH - sum(parts), *parts]
    cache, found, start = model.init_cache(2, 160), [], 0
    for size in sizes:
        hidden, cache = run(params, {k: v[:, start : start + size] for k, v in batch.items()}, cache)
        found.append(hidden)
        start += size
    assert {layer.k.shape[1] for layer in cache.layers} == {64 + front, 160 + front}
    found = jnp.concatenate(found, axis=1)
    real = np.asarray(batch["segment_ids"], bool)[..., None]
    np.testing.assert_allclose(np.where(real, found, 0), np.where(real, expected, 0), atol=ATOL)


def test_codes_are_half_a_step_from_the_numbers():
    x = jax.random.normal(jax.random.key(0), (2, 7, 3, 16)) * jnp.asarray([1e-3, 1, 50])[:, None]
    layer = caches.encode(x, jnp.zeros_like(x))
    assert layer.k.dtype == jnp.int8 and layer.k_scale.shape == (2, 7, 3) and int(jnp.abs(layer.k).max()) == 127
    k, v = caches.read(layer, "float32")
    assert (jnp.abs(k - x) <= layer.k_scale[..., None] * 0.5001).all() and (v == 0).all()


def test_int8_is_near_and_small(mixed):
    """The divergence of its next tokens stays small, and what it takes is near a quarter of float32."""
    model, params, _ = mixed
    tokens = jnp.asarray(toys.prompts_of((LENGTH, LENGTH)))

    @jax.jit
    def logprobs(cache):
        return jax.nn.log_softmax(model.unembed(params, model.hidden(params, {"tokens": tokens}, cache)[0]))

    whole, codes = (model.init_cache(2, 256, kind) for kind in ("", "int8"))
    exact, near = logprobs(whole), logprobs(codes)
    divergence = (jnp.exp(exact) * (exact - near)).sum(-1)
    assert 0 < float(divergence.mean()) < 1e-3 and float(divergence.max()) < 1e-2
    head = whole.layers[0].k.shape[-1]
    assert caches.bytes_of(codes) / caches.bytes_of(whole) == (head + 4) / (4 * head)


def test_what_windows_save_at_8k():
    """Gemma 3 1B's layers: 22 of 26 have a window of 512."""
    windows = tuple(0 if i % 6 == 5 else 512 for i in range(26))
    sizes = {"kv_heads": 1, "head_dim": 256, "dtype": "bfloat16"}
    whole, rings, codes = (
        caches.bytes_of(jax.eval_shape(lambda w=w, kind=kind: caches.empty(1, 8192, windows=w, kind=kind, **sizes)))
        for w, kind in (((0,) * 26, ""), (windows, ""), (windows, "int8"))
    )
    assert whole == 26 * 8192 * 2 * 512 and rings == (22 * 576 + 4 * 8192) * 2 * 512
    assert rings / whole < 0.22 and codes / rings == 260 / 512


def test_a_kind_that_is_not_known():
    from jitune.types import UserError

    with pytest.raises(UserError, match="kv_cache='int4' is not known; it is empty .* or int8"):
        caches.check_kind("int4", "generate: kv_cache")


def test_a_model_says_what_it_keeps():
    raw = {**FAMILIES["mistral"].presets["tiny"], "vocab_size": 64, "model_type": "mistral", "sliding_window": 100}
    cache = jax.eval_shape(lambda: decoder.build(ModelConfig.from_hf(raw)).init_cache(1, 512))
    assert set(cache.rings) == {192} and {layer.k.shape[1] for layer in cache.layers} == {192} and cache.turn == 0


@pytest.mark.parametrize(("used", "queries"), [(1, 1), (128, 1), (129, 1), (300, 1), (128, 128), (300, 40)])
@pytest.mark.parametrize("window", [None, 50])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_queries_of_a_cache_see_what_it_holds(used, queries, window, kv_heads):
    keys = jax.random.split(jax.random.key(0), 3)
    q = jax.random.normal(keys[0], (3, queries, 4, 8))
    k, v = (jax.random.normal(key, (3, 384, kv_heads, 8)) for key in keys[1:])
    # Rows that are padded on the left: not at all, by half of what is there before, so far that all of that is padding.
    before = used - queries
    front = jnp.asarray([0, before // 2, before])[:, None]
    held = ((jnp.arange(384) >= front) & (jnp.arange(384) < used)).astype(jnp.int32)
    mask = allowed(jnp.ones((3, queries), jnp.int32), held, before, window)
    # Slots in blocks behind the used ones are not read.
    k, v = (x.at[:, -(-used // 128) * 128 :].set(jnp.nan) for x in (k, v))
    found = jax.jit(partial(attend_used, size=128, scale=8**-0.5, softcap=0.0))(q, LayerKV(k, v), View(mask, used))
    expected = attend_plain(q, *(x[:, :used] for x in (k, v)), mask[:, :, :used])
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-5)
