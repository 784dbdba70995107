"""The balance of experts in an objective's sums: weighted as its microbatch, and left out of evaluation."""

import jax.numpy as jnp
import pytest

from jitune.objectives.balance import balanced
from jitune.step import means
from jitune.types import Routed


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
