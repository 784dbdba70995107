"""Sampling against a NumPy reference: which tokens stay, how often they are drawn, and from which keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune.generation.sampling import Sampling, choose, choose_each, penalize, process, row_keys, stack
from jitune.types import UserError

BATCH, VOCAB = 5, 97


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def reference(logits, seen, s: Sampling, counts=None):
    """A loop over rows and tokens, float64."""
    out = np.array(logits, np.float64)
    for n, (row, marked) in enumerate(zip(out, seen, strict=True)):
        for i in np.flatnonzero(marked):
            row[i] = row[i] * s.repetition_penalty if row[i] < 0 else row[i] / s.repetition_penalty
        for i in np.flatnonzero(counts[n]) if counts is not None else ():
            row[i] -= s.presence_penalty + s.frequency_penalty * counts[n, i]
        row /= s.temperature
        if s.top_k:
            row[row < np.sort(row)[::-1][: s.top_k][-1]] = -np.inf
        if s.top_p < 1:
            order, total = np.argsort(row, kind="stable"), 0.0
            probs = softmax(row)
            for i in order[:-1]:
                total += probs[i]
                if total <= 1 - s.top_p:
                    row[i] = -np.inf
        if s.min_p:
            row[softmax(row) < s.min_p * softmax(row).max()] = -np.inf
    return out


@pytest.fixture(scope="module")
def logits():
    return np.random.default_rng(0).normal(0, 3, (BATCH, VOCAB)).astype(np.float32)


@pytest.fixture(scope="module")
def seen():
    return np.random.default_rng(1).random((BATCH, VOCAB)) < 0.3


@pytest.mark.parametrize("settings", [
    {},
    {"temperature": 0.3},
    {"temperature": 2.5},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 1000},
    {"top_p": 1e-6},
    {"top_p": 0.5},
    {"top_p": 0.95, "temperature": 3.0},
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.6},
    {"repetition_penalty": 1.3, "temperature": 1.5, "top_k": 40, "top_p": 0.9, "min_p": 0.02},
], ids=str)  # fmt: skip
def test_process_against_the_reference(settings, logits, seen):
    sampling = Sampling(**{"temperature": 1.0, **settings})
    ours = np.asarray(process(jnp.asarray(logits), jnp.asarray(seen), sampling))
    theirs = reference(logits, seen, sampling)
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs))
    kept = np.isfinite(theirs)
    np.testing.assert_allclose(ours[kept], theirs[kept], rtol=1e-5, atol=1e-5)
    assert kept.any(-1).all()


@pytest.mark.parametrize("settings", [
    {"presence_penalty": 1.5}, {"frequency_penalty": 0.5}, {"presence_penalty": -1.0, "frequency_penalty": 0.25},
    {"presence_penalty": 2.0, "repetition_penalty": 1.3, "temperature": 0.7, "top_k": 9},
], ids=str)
def test_penalties_of_generated_tokens_are_the_references(logits, seen, settings):
    sampling = Sampling(**{"temperature": 1.0, **settings})
    counts = np.random.default_rng(2).integers(0, 4, logits.shape)
    found = np.asarray(process(jnp.asarray(logits), jnp.asarray(seen), sampling, jnp.asarray(counts)))
    expected = reference(logits, seen, sampling, counts)
    assert (np.isfinite(found) == np.isfinite(expected)).all()
    np.testing.assert_allclose(found[np.isfinite(found)], expected[np.isfinite(expected)], rtol=1e-5, atol=1e-5)


def test_equal_logits_stay_together_in_top_k_and_apart_in_top_p():
    tied = jnp.asarray([[0.0, 2.0, 2.0, 1.0]])
    assert np.isfinite(process(tied, None, Sampling(temperature=1.0, top_k=1))).tolist() == [[0, 1, 1, 0]]
    assert np.isfinite(process(tied, None, Sampling(temperature=1.0, top_p=0.3))).tolist() == [[0, 0, 1, 0]]
    halves = process(jnp.zeros((1, 2)), None, Sampling(temperature=1.0, top_p=0.5))
    assert np.isfinite(halves).tolist() == [[0, 1]], "one half is enough for top_p=0.5"


def test_greedy_takes_the_lowest_id_of_equals_and_keeps_the_penalty():
    scores = jnp.asarray([[1.0, 5.0, 5.0, 4.0]])
    greedy = Sampling(top_k=2, top_p=0.1, min_p=0.5)
    assert choose(process(scores, None, greedy), None, greedy).tolist() == [1]
    punished = Sampling(repetition_penalty=2.0)
    seen = jnp.asarray([[False, True, True, False]])
    assert choose(process(scores, seen, punished), None, punished).tolist() == [3]
    assert penalize(jnp.asarray([[2.0, -2.0]]), jnp.asarray([[True, True]]), 2.0).tolist() == [[1.0, -4.0]]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature):
    draws, logits = 20_000, np.random.default_rng(3).normal(0, 1.5, 11).astype(np.float32)
    sampling = Sampling(temperature=temperature)
    scores = process(jnp.tile(logits, (draws, 1)), None, sampling)
    keys = row_keys(jax.random.key(0), jnp.arange(draws), jnp.full(draws, 7))
    counts = np.bincount(np.asarray(choose(scores, keys, sampling)), minlength=11)
    expected = draws * softmax(logits.astype(np.float64) / temperature)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 29.6, "the 0.1 % tail of chi-square with 10 degrees of freedom"


def test_keys_depend_on_row_and_position_only():
    key, rows = jax.random.key(5), jnp.asarray([4, 9, 2])
    together = jax.random.key_data(row_keys(key, rows, jnp.asarray([1, 1, 8])))
    alone = jax.random.key_data(row_keys(key, rows[1:2], jnp.asarray([1])))
    np.testing.assert_array_equal(together[1], alone[0])
    assert len({tuple(k) for k in np.asarray(together).tolist()}) == 3
    moved = jax.random.key_data(row_keys(key, rows[1:2], jnp.asarray([2])))
    assert moved.tolist() != alone.tolist()


@pytest.mark.parametrize("name, value", [
    ("temperature", -0.1), ("temperature", float("nan")), ("temperature", float("inf")), ("temperature", "1"),
    ("top_k", -1), ("top_k", 1.5), ("top_p", 0.0), ("top_p", 1.01), ("min_p", -0.1), ("min_p", 2),
    ("repetition_penalty", 0.0), ("repetition_penalty", -1), ("seed", -1), ("seed", 2**32), ("seed", 0.5),
])  # fmt: skip
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(UserError, match=f"sampling: {name}="):
        Sampling(**{name: value})


EACH = [
    {}, {"temperature": 0.7}, {"temperature": 1.3, "top_k": 5}, {"temperature": 1.0, "top_p": 0.6},
    {"temperature": 0.9, "min_p": 0.1}, {"temperature": 1.5, "top_k": 40, "top_p": 0.9, "min_p": 0.02},
    {"repetition_penalty": 1.4}, {"temperature": 1.1, "presence_penalty": 1.5, "frequency_penalty": -0.5},
    {"temperature": 2.0, "top_k": 1000}, {"temperature": 0.8, "repetition_penalty": 0.7, "top_p": 0.3},
]  # fmt: skip


def test_rows_with_controls_of_their_own_draw_what_each_draws_alone():
    rng, each = np.random.default_rng(8), jax.jit(choose_each)
    rows = [Sampling(**settings, seed=i % 4) for i, settings in enumerate(EACH)]
    ids, controls = jnp.arange(len(rows)) * 3, stack([(row, {}) for row in rows])
    for position in range(40):
        logits = jnp.asarray(rng.normal(0, 2, (len(rows), VOCAB)).astype(np.float32))
        seen, counts = jnp.asarray(rng.random(logits.shape) < 0.3), jnp.asarray(rng.integers(0, 3, logits.shape))
        places = jnp.full(len(rows), position)
        found = each(logits, controls, seen, counts, ids, places)
        for i, row in enumerate(rows):
            keys = row_keys(jax.random.key(row.seed), ids[i : i + 1], places[:1])
            scores = process(logits[i : i + 1], seen[i : i + 1], row, counts[i : i + 1])
            assert found[i] == choose(scores, keys, row)[0], (position, row)


def test_a_bias_is_of_its_row_and_token():
    logits = jnp.zeros((3, VOCAB)).at[:, 4].set(1.0)
    controls = stack([(Sampling(), {}), (Sampling(), {4: -100.0, 9: 0.5}), (Sampling(temperature=1.0), {7: 100.0})])
    nothing = jnp.zeros(logits.shape)
    assert choose_each(logits, controls, nothing > 0, nothing, jnp.arange(3), jnp.arange(3)).tolist() == [4, 9, 7]
