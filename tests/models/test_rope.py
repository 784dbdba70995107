"""Which rope a layer has, and how long a document is for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune.models import decoder
from jitune.models.config import ModelConfig
from jitune.models.rope import Rope
from jitune.models.rotary import document_lengths, frequencies, rotate, tables
from jitune.types import UserError
from tests.references import CONFIGS

pytestmark = pytest.mark.core
LONGROPE = CONFIGS["phi3_longrope"]


def read(case, **changes):
    return ModelConfig.from_hf({**CONFIGS[case], **changes})


def test_layers_without_a_rope():
    config = read("smollm3")
    assert [config.ropes[i].kind for i in config.rope_of_layer] == ["default", "none"] * 2
    assert config.windows == (0, 9, 0, 9)
    listed = read("smollm3", no_rope_layers=[0, 0, 1, 1, 0])
    assert [listed.ropes[i].kind for i in listed.rope_of_layer] == ["none", "none", "default", "default"]


def test_global_and_local_ropes():
    config = read("gemma3")
    full, local = Rope("linear", 1000.0, 8.0), Rope("default", 100.0)
    assert [config.ropes[i] for i in config.rope_of_layer] == [local, local, full, local]
    raw = {k: v for k, v in CONFIGS["gemma3"].items() if not k.startswith("rope")}
    nested = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000.0},
              "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}  # fmt: skip
    assert ModelConfig.from_hf({**raw, "rope_parameters": nested}).ropes == config.ropes
    plain = ModelConfig.from_hf(raw)
    assert {rope.theta for rope in plain.ropes} == {1e6, 1e4}


@pytest.mark.parametrize("changes, message", [
    ({"rope_scaling": {**LONGROPE["rope_scaling"], "long_factor": [1.0] * 8}}, "long_factor must have 6 .* has 8"),
    ({"rope_scaling": {"type": "longrope", "long_factor": [1.0] * 6}}, "'longrope' needs 'short_factor'"),
    ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope type 'dynamic' is not supported; known are default"),
    ({"partial_rotary_factor": 0.45}, "7 features of a head turn"),
    ({"rope_parameters": {"rope_type": "default", "mrope_section": [2]}, "rope_scaling": None}, "understood: mrope"),
])
def test_what_is_not_understood_is_named(changes, message):
    with pytest.raises(UserError, match=message):
        read("phi3_longrope", **changes)


def test_lengths_of_documents():
    segments = jnp.array([[0, 0, 1, 1, 1, 2, 2, 0]])
    found = document_lengths(jnp.array([[0, 1, 0, 1, 2, 0, 1, 0]]), segments)
    np.testing.assert_array_equal(found, [[2, 2, 3, 3, 3, 2, 2, 1]])
    # Two answers to one prompt are as long as the longer of them; the next document begins anew.
    tree = jnp.array([[1, 1, 2, 3, 3, 4]])
    found = document_lengths(jnp.array([[0, 1, 2, 2, 3, 0]]), tree, ends=jnp.array([[3, 3, 2, 3, 3, 4]]))
    np.testing.assert_array_equal(found, [[4, 4, 4, 4, 4, 1]])


def test_a_part_of_a_head_turns():
    rope = Rope(theta=100.0, partial=0.5)
    cos, sin = tables((rope,), 8, jnp.array([[0, 3]]))
    assert cos.shape == (1, 2, 2)
    np.testing.assert_allclose(frequencies(rope, 8), [1.0, 0.1])
    x = jnp.arange(16.0).reshape(1, 2, 1, 8)
    turned = rotate(x, cos, sin)
    np.testing.assert_array_equal(turned[0, 0], x[0, 0])
    np.testing.assert_array_equal(turned[0, 1, 0, 4:], x[0, 1, 0, 4:])
    # Feature 0 turns with feature 2, by 3 * 1.
    np.testing.assert_allclose(turned[0, 1, 0, 0], 8 * np.cos(3) - 10 * np.sin(3), rtol=1e-6)


def test_a_long_prompt_may_be_read_in_parts():
    """With the document's whole length given, parts turn as the whole does; without it they would not."""
    config = ModelConfig.from_hf({**LONGROPE, "num_hidden_layers": 1})
    model = decoder.build(config)
    params = jax.jit(model.init)(jax.random.key(0))
    tokens = np.random.default_rng(1).integers(0, 160, (2, 20), np.int32)
    run = jax.jit(model.hidden)
    wanted, _ = run(params, {"tokens": tokens})
    whole = jnp.full((2, 10), 20)
    first, cache = run(params, {"tokens": tokens[:, :10], "lengths": whole}, model.init_cache(2, 20))
    second, _ = run(params, {"tokens": tokens[:, 10:], "lengths": whole}, cache)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), wanted, atol=2e-5)
    short, _ = run(params, {"tokens": tokens[:, :10]}, model.init_cache(2, 20))
    assert np.abs(short - wanted[:, :10]).max() > 1e-3
