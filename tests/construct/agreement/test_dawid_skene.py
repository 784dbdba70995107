"""EM of Dawid and Skene: the paper's own data, a slow twin, and people made up with known errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from jitune.construct.agreement import dawid_skene
from jitune.construct.agreement.dawid_skene import estimate

# Table 1 of Dawid and Skene 1979: 45 patients; the first observer three times, four others once.
PATIENTS = """1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 4444444 2223343 1111111
2223212 1211111 1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 2212222 1111111 1111111 2322222 1111111
1111111 1121121 1111111 3333233 1111111 2222222 2223232 4334343 2212232 2323233 3333432 1111111 1111111 1212111 2322222
1211111 2222222"""
OBSERVER = (0, 0, 0, 1, 2, 3, 4)


def observed():
    rows = [(i, OBSERVER[place], int(label) - 1) for i, patient in enumerate(PATIENTS.split())
            for place, label in enumerate(patient)]
    return [np.array(column) for column in zip(*rows, strict=True)]


def test_the_anaesthetists():
    """Tables 2 and 4 of the paper: the shares of the four classes, and certain classes for most patients."""
    item, who, code = observed()
    assert len(item) == 45 * 7
    found = estimate(item, who, code, items=45, annotators=5, labels=4, smoothing=0)
    assert found.converged and found.prior == pytest.approx([0.40, 0.42, 0.11, 0.07], abs=0.005)
    assert found.confusion[0, 0] == pytest.approx([0.89, 0.11, 0, 0], abs=0.005)
    assert found.posterior[0].argmax() == 0 and found.posterior[10].argmax() == 3 and found.posterior[1].argmax() == 3
    assert (found.posterior.max(1) > 0.9).sum() > 40


def by_loops(item, who, code, items, people, labels, smoothing, steps):
    """The paper's equations 2.3 to 2.5, with products of probabilities."""
    posterior = np.zeros((items, labels))
    for i, c in zip(item, code, strict=True):
        posterior[i, c] += 1
    posterior /= posterior.sum(1, keepdims=True)
    for _ in range(steps):
        prior = (posterior.sum(0) + smoothing) / (posterior.sum() + smoothing * labels)
        confusion = np.full((people, labels, labels), float(smoothing))
        for i, a, c in zip(item, who, code, strict=True):
            confusion[a, :, c] += posterior[i]
        confusion /= confusion.sum(2, keepdims=True)
        posterior = np.tile(prior, (items, 1))
        for i, a, c in zip(item, who, code, strict=True):
            posterior[i] *= confusion[a, :, c]
        posterior /= posterior.sum(1, keepdims=True)
    return posterior, prior, confusion


def test_the_same_as_by_loops():
    item, who, code = observed()
    found = estimate(item, who, code, items=45, annotators=5, labels=4, smoothing=0.5, steps=7, tolerance=0)
    slow = by_loops(item, who, code, 45, 5, 4, 0.5, 7)
    for fast, wanted in zip((found.posterior, found.prior, found.confusion), slow, strict=True):
        np.testing.assert_allclose(fast, wanted, atol=1e-12)


def test_items_that_are_alike_are_one_kind_and_cost_once(monkeypatch):
    """200,000 items of five kinds: each step goes over five of them."""
    item, who, code = observed()
    keep = item < 5
    once = [np.array(x)[keep] for x in (item, who, code)]
    many = [np.concatenate([x + (5 * n if i == 0 else 0) for n in range(40_000)]) for i, x in enumerate(once)]
    seen = []
    monkeypatch.setattr(dawid_skene, "logsumexp", lambda x, **how: (seen.append(len(x)), logsumexp(x, **how))[1])
    found = estimate(*many, items=200_000, annotators=5, labels=4, smoothing=0, steps=20)
    alone = estimate(*once, items=5, annotators=5, labels=4, smoothing=0, steps=20)
    assert max(seen) <= 5
    np.testing.assert_allclose(found.posterior, np.tile(alone.posterior, (40_000, 1)), atol=1e-12)
    assert found.objective == pytest.approx([40_000 * x for x in alone.objective])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=40),
       st.sampled_from([0.0, 0.01, 1.0]))
def test_em_never_gets_worse_and_stays_a_distribution(rows, smoothing):
    item, who, code = zip(*rows, strict=True)
    found = estimate(item, who, code, items=6, annotators=4, labels=3, smoothing=smoothing, steps=60)
    assert all(b >= a - 1e-9 for a, b in zip(found.objective, found.objective[1:], strict=False))
    for shares in (found.posterior, found.confusion, found.prior):
        assert np.isfinite(shares).all() and shares.sum(-1) == pytest.approx(1)


def test_people_of_known_errors_are_found_out():
    rng = np.random.default_rng(3)
    truth, right = rng.integers(0, 2, 400), np.array([0.95, 0.9, 0.85, 0.3, 0.55])
    rows = [(i, a, t if rng.random() < right[a] else 1 - t) for i, t in enumerate(truth) for a in range(5)]
    item, who, code = zip(*rows, strict=True)
    found = estimate(item, who, code, items=400, annotators=5, labels=2)
    assert found.accuracy() == pytest.approx(right, abs=0.06)
    votes = np.bincount(np.array(item) * 2 + np.array(code), minlength=800).reshape(400, 2)
    by_model, by_votes = ((x.argmax(1) == truth).mean() for x in (found.posterior, votes))
    assert by_model > by_votes + 0.03 and by_model > 0.95


def test_many_labels_of_one_item_do_not_underflow():
    item, who, code = np.zeros(3000, int), np.arange(3000) % 3, np.arange(3000) % 2
    found = estimate(item, who, code, items=1, annotators=3, labels=2)
    assert np.isfinite(found.posterior).all() and np.isfinite(found.objective).all()
