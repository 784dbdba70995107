"""The balance of experts in an objective's sums: weighted as its microbatch, and left out of evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune.models import decoder
from jitune.models.config import ModelConfig
from jitune.objectives.balance import balanced
from jitune.objectives.distill import distill
from jitune.objectives.preference import dpo, kto
from jitune.objectives.sft import sft
from jitune.step import means
from jitune.transforms.full import full
from jitune.types import Beside, Routed
from tests.objectives.stub import draw
from tests.references import CONFIGS


def routed(balance):
    return Routed(jnp.float32(balance), jnp.array([[0.25, 0.75], [0.5, 0.5]]), 0.1)


def test_microbatches_weigh_what_they_weigh():
    """Weights 3 and 1, balances 2 and 4: the mean balance is 2.5, and the loss (6 + 2) / 4 + 0.1 * 2.5."""
    parts = [balanced((6.0, 3.0, {"accuracy": 2.0}), routed(2), training=True),
             balanced((2.0, 1.0, {"accuracy": 1.0}), routed(4), training=True)]  # fmt: skip
    loss, weight = (sum(part[i] for part in parts) for i in (0, 1))
    assert float(loss / weight) == pytest.approx(2.25)
    found = means({name: sum(part[2][name] for part in parts) for name in parts[0][2]}, weight)
    assert {name: float(x) for name, x in found.items()} == pytest.approx(
        {"accuracy": 0.75, "router_balance": 2.5, "router_peak": 0.75})  # fmt: skip


def test_evaluation_and_dense_models_keep_their_loss():
    loss, weight, metrics = balanced((6.0, 3.0, {}), routed(2), training=False)
    assert (loss, weight) == (6.0, 3.0) and set(metrics) == {"router_balance", "router_peak"}
    assert balanced((6.0, 3.0, {}), None, training=True) == (6.0, 3.0, {})


CONFIG = ModelConfig.from_hf(CONFIGS["mixtral"] | {"num_hidden_layers": 2, "vocab_size": 64}).replace(router_coef=0.25)


@functools.cache
def experts():
    """(a model with experts, its parameters, two pairs of answers)"""
    model, rng = decoder.build(CONFIG), np.random.default_rng(0)
    batch = draw(rng, [(5, 3), (2, 4)], seq=12)[1]
    batch |= {"tokens": rng.integers(0, 64, (2, 12), np.int32), "targets": rng.integers(0, 64, (2, 12), np.int32)}
    return model, jax.jit(model.init)(jax.random.key(0)), batch


@pytest.mark.parametrize("make", [functools.partial(sft, neftune_alpha=5.0), dpo, kto, distill],
                         ids=["neftune", "dpo", "kto", "distill"])  # fmt: skip
def test_every_objective_counts_it_in_training_alone(make):
    """Of the tuned model, and not of a teacher that has experts too."""
    model, params, batch = experts()
    objective = make(teacher=model) if make is distill else make()

    @jax.jit
    def run(params, other, coef):
        def hidden(params, batch):
            hidden, routed = model.hidden(params, batch)
            assert routed.coef == CONFIG.router_coef
            return hidden, routed._replace(coef=coef)

        tuned, pair = full().apply(model._replace(hidden=hidden)), (Beside({}, other), params)
        return objective(tuned, pair, batch, jax.random.key(0)), objective(tuned, pair, batch, None)

    other = jax.tree.map(lambda x: 2 * x, params)
    (loss, weight, metrics), (plain, _, again) = run(params, other, 0.25)
    (without, _, _), (same, _, _) = run(params, other, 0.0)
    assert float(loss - without) == pytest.approx(float(0.25 * metrics["router_balance"]), rel=1e-3)
    assert float(metrics["router_balance"] / weight) >= CONFIG.experts_per_token - 1e-3
    assert float(plain) == float(same) and again.keys() == metrics.keys()
