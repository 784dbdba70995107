"""Divergences: values by hand, limits, closed gradients against autodiff, and what k likeliest tokens leave out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune.objectives.divergence import KINDS, between, classes, dense, sparse

pytestmark = pytest.mark.core
TEACHER, STUDENT = (0.5, 0.5), (0.25, 0.75)


def logs(p):
    return jnp.log(jnp.array(p, jnp.float32))


def random_logits(seed=0, shape=(3, 40), scale=3.0):
    a, b = jax.random.split(jax.random.key(seed))
    return scale * jax.random.normal(a, shape), scale * jax.random.normal(b, shape)


def likeliest(logits, k):
    values, ids = jax.lax.top_k(jax.nn.log_softmax(logits), k)
    return ids, values


@pytest.mark.parametrize("kind, beta, wanted", [
    ("forward", 0.5, 0.5 * math.log(2) + 0.5 * math.log(2 / 3)),
    ("reverse", 0.5, 0.25 * math.log(0.5) + 0.75 * math.log(1.5)),
    # The mixture is 0.375 0.625 at a half, and 0.3 0.7 with a fifth of the teacher.
    ("jsd", 0.5, 0.25 * (math.log(4 / 3) + math.log(0.8)) + 0.125 * math.log(2 / 3) + 0.375 * math.log(1.2)),
    ("jsd", 0.2, 0.1 * (math.log(5 / 3) + math.log(5 / 7)) + 0.8 * (0.25 * math.log(5 / 6) + 0.75 * math.log(15 / 14))),
])  # fmt: skip
def test_values_by_hand(kind, beta, wanted):
    # Logits are log-probabilities but for a constant, which must not matter.
    found = dense(kind, logs(TEACHER) + 7, logs(STUDENT) - 3, beta=beta)
    np.testing.assert_allclose(found, wanted, rtol=2e-6)


def test_temperature_divides_the_logits_of_both_and_nothing_else():
    found = dense("forward", 2 * logs(TEACHER), 2 * logs(STUDENT), temperature=2.0)
    np.testing.assert_allclose(found, dense("forward", logs(TEACHER), logs(STUDENT)), rtol=1e-6)


@pytest.mark.parametrize("beta, kind", [(0.0, "forward"), (1.0, "reverse")])
def test_the_ends_of_jsd_are_its_limits_divided_by_the_part_that_vanishes(beta, kind):
    teacher, student = random_logits(scale=1.0)
    end = dense("jsd", teacher, student, beta=beta)
    np.testing.assert_array_equal(end, dense(kind, teacher, student))
    near = abs(beta - 1e-3)
    np.testing.assert_allclose(dense("jsd", teacher, student, beta=near) / 1e-3, end, rtol=1e-2)


@pytest.mark.parametrize("kind, beta", [(k, b) for k in KINDS for b in (0.1, 0.5) if k == "jsd" or b == 0.5])
def test_closed_gradients_are_those_of_autodiff(kind, beta):
    teacher, student = random_logits()
    weights = jnp.arange(3.0)

    def plain(student, teacher):
        logs = (jax.nn.log_softmax(x / 1.5) for x in (teacher, student))
        return (between(kind, *logs, beta=beta) * weights).sum()

    def closed(student, teacher):
        return (dense(kind, teacher, student, beta=beta, temperature=1.5) * weights).sum()

    wanted, found = (jax.value_and_grad(f, argnums=(0, 1))(student, teacher) for f in (plain, closed))
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-6)
    np.testing.assert_allclose(found[1][0], wanted[1][0], atol=1e-6)
    assert not found[1][1].any()  # the teacher has none


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_k_of_the_whole_vocabulary_is_the_dense_form(kind, temperature):
    teacher, student = random_logits()

    def few(student):
        return sparse(kind, *likeliest(teacher, 40), student, temperature=temperature).sum()

    def whole(student):
        return dense(kind, teacher, student, temperature=temperature).sum()

    found, wanted = jax.value_and_grad(few)(student), jax.value_and_grad(whole)(student)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-6)


@pytest.mark.parametrize("kind, wanted", [
    # Classes 0.6 0.3 and a rest of 0.1; by the student 0.2 0.4 and 0.4.
    ("forward", 0.6 * math.log(3) + 0.3 * math.log(0.75) + 0.1 * math.log(0.25)),
    ("reverse", 0.2 * math.log(1 / 3) + 0.4 * math.log(4 / 3) + 0.4 * math.log(4)),
])  # fmt: skip
def test_the_rest_is_one_class(kind, wanted):
    teacher, student = (0.6, 0.06, 0.3, 0.04), (0.2, 0.1, 0.4, 0.3)
    ids, values = likeliest(logs(teacher), 2)
    assert ids.tolist() == [0, 2]
    np.testing.assert_allclose(sparse(kind, ids.astype(jnp.uint16), values, logs(student) + 5), wanted, rtol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_tokens_never_say_more(kind):
    teacher, student = random_logits(3)
    found = [sparse(kind, *likeliest(teacher, k), student) for k in (1, 4, 16)] + [dense(kind, teacher, student)]
    for fewer, more in zip(found, found[1:], strict=False):
        assert (fewer <= more * (1 + 1e-5)).all() and (fewer >= 0).all()


def test_a_small_rest_keeps_its_digits_and_its_gradient():
    """A student that leaves 1e-12 to the rest, where the teacher has 0.1, is told to give it more: p_rest - 0.1."""
    student = jnp.array([30.0, 28.0, 1.0, 2.0])
    ids, values = jnp.array([0, 1]), logs((0.5, 0.4))
    left = classes(ids, values, student)[1][2]
    exact = np.logaddexp(1, 2) - np.logaddexp.reduce(np.array([30.0, 28, 1, 2]))
    np.testing.assert_allclose(left, exact, rtol=1e-6)
    gradient = jax.grad(lambda s: sparse("forward", ids, values, s))(student)
    np.testing.assert_allclose(gradient[2:].sum(), -0.1, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_far_apart_and_padding_stay_finite(kind):
    teacher, student = jnp.array([200.0, 0.0, -200.0]), jnp.array([-200.0, 0.0, 200.0])
    value, gradient = jax.value_and_grad(lambda s: dense(kind, teacher, s))(student)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    ids, values = jnp.zeros(2, jnp.int32), jnp.zeros(2)  # as in slots of padding
    value, gradient = jax.value_and_grad(lambda s: 0 * sparse(kind, ids, values, s))(student)
    assert value == 0 and not gradient.any()


def test_half_precision_of_stored_log_probabilities_changes_little():
    """A float16 has 11 bits: the loss of a token moves by less than a thousandth of a nat."""
    teacher, student = random_logits(5, (200, 300))
    ids, values = likeliest(teacher, 32)
    exact, rounded = (sparse("forward", ids, v, student) for v in (values, values.astype(jnp.float16)))
    assert abs(exact - rounded).max() < 2e-2
    assert abs((exact - rounded).mean()) < 1e-3


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="known are forward, reverse, jsd"):
        dense("both", *random_logits())
    with pytest.raises(ValueError, match="beta from 0 to 1"):
        dense("jsd", *random_logits(), beta=1.5)
