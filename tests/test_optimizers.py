"""Schedules by their values; every optimizer moves what it should and decays what it may."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune.config import defaults
from jitune.optimizers import decay_mask, make_optimizer, make_schedule
from jitune.types import UserError

pytestmark = pytest.mark.core


def options(**changes):
    config = defaults().optimizer
    config.update({"learning_rate": 1.0, **changes})
    return config


@pytest.mark.parametrize(
    ("changes", "values"),
    [
        ({"schedule": "constant", "warmup_steps": 4}, {0: 0, 2: 0.5, 4: 1, 99: 1}),
        ({"schedule": "constant", "warmup_ratio": 0.0}, {0: 1, 99: 1}),
        ({"schedule": "linear", "warmup_steps": 10}, {5: 0.5, 10: 1, 55: 0.5, 100: 0}),
        ({"schedule": "linear", "warmup_ratio": 0.1, "final_ratio": 0.5}, {10: 1, 55: 0.75, 100: 0.5}),
        ({"schedule": "cosine", "warmup_steps": 20}, {20: 1, 60: 0.5, 40: 0.5 + 0.5 * np.cos(np.pi / 4), 100: 0}),
        ({"schedule": "cosine", "warmup_steps": 20, "final_ratio": 0.1}, {60: 0.55, 100: 0.1}),
        ({"schedule": "wsd", "warmup_steps": 10, "decay_ratio": 0.2}, {5: 0.5, 10: 1, 80: 1, 90: 0.5, 100: 0}),
    ],
)
def test_schedules(changes, values):
    schedule = make_schedule(options(**changes), 100)
    for step, value in values.items():
        assert float(schedule(step)) == pytest.approx(value, abs=1e-6), step


def params():
    return {
        "embed": {"embedding": jnp.ones((8, 4))},
        "layers": {"q_proj": {"kernel": jnp.ones((2, 4, 4)), "bias": jnp.ones((2, 4))}},
        "norm": {"scale": jnp.ones(4)},
    }


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion", "muon"])
def test_optimizers_descend_and_decay(name):
    def distance(p):
        return sum(jnp.sum(jnp.square(x - 3.0)) for x in jax.tree.leaves(p))

    optimizer, _ = make_optimizer(options(name=name, learning_rate=0.1, schedule="constant", warmup_ratio=0.0), 50)
    here = params()
    state = optimizer.init(here)

    def descend(_, carry):
        here, state = carry
        updates, state = optimizer.update(jax.grad(distance)(here), state, here)
        return jax.tree.map(jnp.add, here, updates), state

    here, _ = jax.lax.fori_loop(0, 50, descend, (here, state))
    assert float(distance(here)) < 0.5 * float(distance(params()))
    # Without a gradient only weight decay moves a weight, and biases and norms not at all.
    decaying, _ = make_optimizer(
        options(name=name, learning_rate=0.1, weight_decay=0.5, schedule="constant", warmup_ratio=0.0), 50)
    zeros = jax.tree.map(jnp.zeros_like, params())
    updates, _ = jax.jit(decaying.update)(zeros, decaying.init(params()), params())
    assert float(jnp.abs(updates["layers"]["q_proj"]["kernel"]).max()) > 0
    assert float(jnp.abs(updates["layers"]["q_proj"]["bias"]).max()) == 0
    assert float(jnp.abs(updates["norm"]["scale"]).max()) == 0


def test_decay_mask():
    mask = decay_mask(params())
    assert mask == {
        "embed": {"embedding": True},
        "layers": {"q_proj": {"kernel": True, "bias": False}},
        "norm": {"scale": False},
    }


def test_muon_turns_each_layer_by_itself():
    """In float64: programs of one layer and of two may round differently, which the iterations of Muon magnify."""
    with jax.enable_x64(True):
        optimizer, _ = make_optimizer(options(name="muon", schedule="constant", warmup_ratio=0.0, clip_norm=0.0), 10)
        kernel = jax.random.normal(jax.random.key(0), (2, 4, 4), jnp.float64)
        one = {"layers": {"q_proj": {"kernel": kernel}}}
        both, _ = jax.jit(optimizer.update)(one, optimizer.init(one), one)
        for i in range(2):
            alone = {"layers": {"q_proj": {"kernel": kernel[i : i + 1]}}}
            update, _ = jax.jit(optimizer.update)(alone, optimizer.init(alone), alone)
            np.testing.assert_allclose(update["layers"]["q_proj"]["kernel"][0], both["layers"]["q_proj"]["kernel"][i],
                                       rtol=1e-5)


def test_clipping_bounds_the_gradient():
    optimizer, _ = make_optimizer(options(schedule="constant", warmup_ratio=0.0, clip_norm=1.0), 10)
    huge = jax.tree.map(lambda x: 1e6 * x, params())
    _, state = optimizer.update(huge, optimizer.init(params()), params())
    moments = [x for x in jax.tree.leaves(state) if getattr(x, "ndim", 0)]
    assert max(float(jnp.abs(x).max()) for x in moments) < 0.2


@pytest.mark.parametrize("changes", [{"name": "sgd"}, {"schedule": "step"}])
def test_unknown_names(changes):
    with pytest.raises(UserError, match="is not known"):
        make_optimizer(options(**changes), 10)
