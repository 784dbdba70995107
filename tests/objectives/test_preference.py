"""Objectives of preference by hand: formulas, metrics, rows without a pair, microbatches, meshes, switched adapters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune import sharding
from jitune.objectives.preference import dpo, dpo_loss, kto, log1mexp, orpo, reference_point, simpo
from jitune.objectives.sequences import token_logprobs
from jitune.step import cut, make_train_step, means
from jitune.transforms.lora import lora
from jitune.types import MISMATCHED, TrainState, UserError
from tests.objectives.stub import MODEL, documents, draw
from tests.test_step import VOCAB, make_model

PAIRS = [(5, 3), (2, 4), (1, 6)]
MAKERS = {
    "sigmoid": dpo, "robust": lambda: dpo(loss="robust", label_smoothing=0.1, nll_weight=0.5),
    "ipo": lambda: dpo(loss="ipo"), "hinge": lambda: dpo(loss="hinge"), "simpo": simpo, "orpo": orpo, "kto": kto,
}  # fmt: skip


def softplus(x):
    return np.logaddexp(0, x)


def sums(values, batch):
    """(wanted - reference, unwanted - reference, means of each, lengths) of each pair, by plain loops."""
    ours, theirs = list(documents(values, batch)), list(documents(batch["reference_logprobs"], batch))
    ratios = [(a.sum() - b.sum(), len(a), a.mean()) for (_, a), (_, b) in zip(ours, theirs, strict=True)]
    return list(zip(ratios[0::2], ratios[1::2], strict=True))


def test_losses_are_their_formulas():
    values, batch = draw(np.random.default_rng(0), PAIRS)
    pairs = sums(values, batch)
    z = np.array([w[0] - u[0] for w, u in pairs])
    means = np.array([w[0] / w[1] - u[0] / u[1] for w, u in pairs])
    plain = np.array([w[2] - u[2] for w, u in pairs])
    nll = -np.array([w[2] for w, _ in pairs])
    odds = np.array([[np.log(np.exp(side[2]) / (1 - np.exp(side[2]))) for side in pair] for pair in pairs])
    expected = {
        dpo(beta=0.3): softplus(-0.3 * z),
        dpo(beta=0.3, label_smoothing=0.2): 0.8 * softplus(-0.3 * z) + 0.2 * softplus(0.3 * z),
        dpo(beta=0.3, loss="robust", label_smoothing=0.2): (0.8 * softplus(-0.3 * z) - 0.2 * softplus(0.3 * z)) / 0.6,
        dpo(beta=0.3, loss="hinge"): np.maximum(0, 1 - 0.3 * z),
        dpo(beta=0.3, loss="ipo"): (means - 1 / 0.6) ** 2,
        dpo(beta=0.3, length_normalized=True): softplus(-0.3 * means),
        dpo(beta=0.3, nll_weight=0.7): softplus(-0.3 * z) + 0.7 * nll,
        simpo(beta=2.0, gamma=0.3): softplus(-(2 * plain - 0.6)),
        orpo(beta=0.3): nll + 0.3 * softplus(-(odds[:, 0] - odds[:, 1])),
    }
    for objective, losses in expected.items():
        loss, weight, metrics = objective(MODEL, values, batch, None)
        np.testing.assert_allclose(loss, losses.sum(), rtol=1e-5)
        assert weight == 3 and ("nll" in metrics) == (objective in (list(expected)[6], list(expected)[8]))


def test_metrics_of_pairs():
    values, batch = draw(np.random.default_rng(1), PAIRS)
    found = dpo(beta=0.3)(MODEL, values, batch, None)[2]
    said, z = list(documents(values, batch)), sums(values, batch)
    expected = {
        "chosen_logprob": sum(v.sum() for side, v in said if side == 1),
        "rejected_logprob": sum(v.sum() for side, v in said if side == -1),
        "chosen_reward": sum(0.3 * w[0] for w, _ in z), "rejected_reward": sum(0.3 * u[0] for _, u in z),
        "margin": sum(0.3 * (w[0] - u[0]) for w, u in z), "accuracy": sum(w[0] > u[0] for w, u in z),
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_kto_by_hand():
    sides = [(1, MISMATCHED), (-1, MISMATCHED), (1, MISMATCHED)]
    values, batch = draw(np.random.default_rng(2), PAIRS, sides=sides)
    values = values * 0.5  # the policy likes everything more than the reference, so that the point is above 0
    ours, theirs = list(documents(values, batch)), list(documents(batch["reference_logprobs"], batch))
    ratios = [(side, a.sum() - b.sum()) for (side, a), (_, b) in zip(ours, theirs, strict=True)]
    point = max(0, np.mean([r for side, r in ratios if side == MISMATCHED]))
    assert point > 0
    judged = [(side, r) for side, r in ratios if side != MISMATCHED]
    losses = [(2.0 if side > 0 else 0.5) / (1 + np.exp(0.3 * side * (r - point))) for side, r in judged]
    loss, weight, metrics = kto(beta=0.3, wanted_weight=2.0, unwanted_weight=0.5)(MODEL, values, batch, None)
    np.testing.assert_allclose(loss, sum(losses), rtol=1e-5)
    assert weight == 3 and metrics["wanted"] == 2
    np.testing.assert_allclose(metrics["reference_point"], 3 * 0.3 * point, rtol=1e-5)
    np.testing.assert_allclose(metrics["margin"], sum(0.3 * side * (r - point) for side, r in judged), rtol=1e-5)
    found = means(metrics, weight)  # of a side, a mean over that side
    np.testing.assert_allclose(found["chosen_reward"], np.mean([0.3 * r for side, r in judged if side > 0]), rtol=1e-5)
    np.testing.assert_allclose(found["rejected_reward"], 0.3 * judged[2][1], rtol=1e-5)
    np.testing.assert_allclose(found["chosen_logprob"], (ours[0][1].sum() + ours[2][1].sum()) / 2, rtol=1e-5)
    np.testing.assert_allclose(found["wanted"], 2 / 3, rtol=1e-6)
    # The mismatched answers only measure.
    grads = jax.grad(lambda v: kto()(MODEL, v, batch, None)[0])(values)
    assert not np.any(np.where(batch["sides"] == MISMATCHED, grads, 0)) and np.any(grads)


def test_the_reference_point_is_never_below_zero():
    side = jnp.array([[0, 1, MISMATCHED, -1, MISMATCHED]])
    assert reference_point(jnp.array([[9.0, 9, 1, 9, 2]]), side) == 1.5
    assert reference_point(jnp.array([[9.0, 9, -3, 9, 2]]), side) == 0
    assert reference_point(jnp.array([[9.0, 9]]), side[:, :2]) == 0


def test_spin_is_dpo_on_its_pairs():
    """-log sigmoid(beta [(log pi(real) - log pi(own)) - (log ref(real) - log ref(own))]), see arXiv 2401.01335."""
    values, batch = draw(np.random.default_rng(3), PAIRS)
    said, before = list(documents(values, batch)), list(documents(batch["reference_logprobs"], batch))
    real, own = ([v.sum() for side, v in said if side == s] for s in (1, -1))
    ref_real, ref_own = ([v.sum() for side, v in before if side == s] for s in (1, -1))
    spin = [-np.log(1 / (1 + np.exp(-0.1 * ((a - b) - (c - d)))))
            for a, b, c, d in zip(real, own, ref_real, ref_own, strict=True)]  # fmt: skip
    np.testing.assert_allclose(dpo(beta=0.1)(MODEL, values, batch, None)[0], sum(spin), rtol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_rows_without_a_pair_count_nothing(name):
    values, batch = draw(np.random.default_rng(0), [])
    (loss, (weight, metrics)), grads = jax.value_and_grad(
        lambda v: (lambda found: (found[0], found[1:]))(MAKERS[name]()(MODEL, v, batch, None)), has_aux=True)(values)
    assert loss == 0 and weight == 0 and not any(jax.tree.leaves(metrics))
    assert np.all(np.asarray(grads) == 0)  # not NaN either


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("size", [1e-9, 1e4])
def test_certain_and_impossible_answers_have_finite_gradients(name, size):
    values, batch = draw(np.random.default_rng(0), PAIRS)
    values = np.full_like(values, -size)
    loss, grads = jax.value_and_grad(lambda v: MAKERS[name]()(MODEL, v, batch, None)[0])(values)
    assert np.isfinite(loss) and np.isfinite(grads).all()


def test_log1mexp():
    x = np.array([-1e-6, -1e-3, -0.5, -0.6931, -0.7, -3, -50, -1e4])
    expected = [np.log(-np.expm1(v)) if v > -1 else np.log1p(-np.exp(v)) for v in x]
    np.testing.assert_allclose(log1mexp(jnp.asarray(x)), expected, rtol=2e-6, atol=1e-30)
    assert np.isfinite(jax.grad(log1mexp)(0.0)) and np.isfinite(jax.grad(log1mexp)(-1e4))


@pytest.mark.parametrize(("make", "given", "message"), [
    (dpo, {"loss": "exo"}, "loss='exo' must be one of sigmoid, hinge, ipo, robust"),
    (dpo, {"beta": 0}, "beta=0 must be above 0"), (simpo, {"gamma": -1}, "gamma=-1 must be 0 or more"),
    (dpo, {"label_smoothing": 0.5}, "label_smoothing=0.5 must be from 0 up to 0.5"),
    (dpo, {"loss": "hinge", "label_smoothing": 0.1}, "must be 0 with loss=hinge"),
    (kto, {"wanted_weight": -1.0}, "wanted_weight=-1.0 must be 0 or more"), (orpo, {"beta": -1}, "beta=-1"),
])  # fmt: skip
def test_options_out_of_range(make, given, message):
    with pytest.raises(UserError, match=message):
        make(**given)


def test_labels_that_are_flipped_cancel_in_the_mean():
    """The robust loss is unbiased: over labels flipped with the probability e it is the clean loss."""
    z = np.linspace(-3, 3, 7)
    right, wrong = (dpo_loss(x, loss="robust", label_smoothing=0.2) for x in (z, -z))
    np.testing.assert_allclose(0.8 * right + 0.2 * wrong, dpo_loss(z), rtol=1e-5)


# With a model.


def model_batch(rows=8, seq=24):
    values, batch = draw(np.random.default_rng(4), [(3, 5)] * rows + [(2, 2)] * (rows // 2), rows=rows, seq=seq)
    rng = np.random.default_rng(5)
    tokens = rng.integers(0, VOCAB, (rows, seq)).astype(np.int32)
    targets = np.where(batch["loss_weights"] > 0, np.roll(tokens, -1, 1), 0).astype(np.int32)
    return {**batch, "tokens": tokens, "targets": targets}


def run_step(objective, batch, microbatches=1, mesh=None):
    """Metrics of one step of LoRA."""
    import optax

    model, params = make_model()
    transform = lora(rank=2, alpha=4.0)
    mesh = mesh or sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        params = jax.device_put(params, sharding.shardings(params, mesh))
        frozen, trainable = transform.init(jax.random.key(0), params)
        # B starts at 0, where the adapter changes nothing.
        trainable = jax.tree.map(lambda x: x + 0.05 * jnp.sin(jnp.arange(x.size).reshape(x.shape)), trainable)
        optimizer = optax.sgd(0.1)
        step = jax.jit(make_train_step(transform.apply(model), objective, optimizer, microbatches))
        state = TrainState(jnp.zeros((), jnp.int32), trainable, optimizer.init(trainable))
        batch = sharding.put_batch(batch, mesh, len(batch["tokens"]))
        metrics = step(state, frozen, batch, jax.random.key(0))[1]
        return {name: float(value) for name, value in metrics.items()}


@pytest.fixture(scope="module")
def adapter_off():
    """The reference: the model over (frozen, trainable) that leaves the adapter out."""
    model, _ = make_model()
    return model._replace(hidden=lambda params, batch, cache=None: model.hidden(params[0]["base"], batch, cache),
                          unembed=lambda params, hidden: model.unembed(params[0]["base"], hidden))


@pytest.fixture(scope="module")
def whole(adapter_off):
    return run_step(dpo(reference=adapter_off, beta=0.5, nll_weight=0.1, chunk=40), model_batch())


def test_the_adapter_switched_off_is_the_stored_reference(whole):
    model, params = make_model()
    batch = model_batch()
    stored = np.asarray(jax.jit(lambda p: token_logprobs(model, p, batch, 64))(params))
    found = run_step(dpo(beta=0.5, nll_weight=0.1, chunk=40), {**batch, "reference_logprobs": stored})
    assert whole["weight_sum"] == 12 and whole["margin"] != 0 and whole["grad_norm"] > 0
    for name, value in whole.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_microbatches_on_a_mesh_give_the_same_step(whole, adapter_off):
    objective = dpo(reference=adapter_off, beta=0.5, nll_weight=0.1, chunk=40)
    found = run_step(objective, model_batch(), 2, sharding.make_mesh(2, 2, 2))
    for name, value in whole.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_microbatches_hold_whole_pairs():
    """`cut` takes rows, and a pair is in one row."""
    batch = model_batch()
    values = np.random.default_rng(0).standard_normal(batch["tokens"].shape).astype(np.float32) - 5
    parts = cut({**batch, "values": values}, 4)
    found = [simpo()(MODEL, part.pop("values"), {**part, "targets": part["targets"] * 0}, None)
             for part in (jax.tree.map(lambda x, i=i: x[i], parts) for i in range(4))]  # fmt: skip
    whole = simpo()(MODEL, values, {**batch, "targets": batch["targets"] * 0}, None)
    np.testing.assert_allclose(sum(part[0] for part in found), whole[0], rtol=1e-6)
    assert sum(part[1] for part in found) == whole[1] == 12
