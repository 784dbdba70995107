"""Who gets which item: balance, overlap of every two, and what cannot be."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.annotate.assignment import assign
from jitune.types import UserError


@given(st.data(), st.integers(2, 9), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_everybody_has_as_much_and_every_two_overlap(data, annotators, seed):
    overlap = data.draw(st.integers(2, annotators))
    items = data.draw(st.integers(annotators * (annotators - 1), 150))
    found = assign(items, annotators, overlap, seed=seed)
    assert found == assign(items, annotators, overlap, seed=seed)
    assert len(found) == items and all(len(set(who)) == overlap and tuple(sorted(who)) == who for who in found)
    load = [sum(a in who for who in found) for a in range(annotators)]
    assert max(load) - min(load) <= 1 and sum(load) == items * overlap
    assert all(any({a, b} <= set(who) for who in found) for a, b in combinations(range(annotators), 2))


@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_without_overlap_items_are_dealt_out_evenly(items, annotators, seed):
    found = assign(items, annotators, 1, seed=seed)
    load = [found.count((a,)) for a in range(annotators)]
    assert sum(load) == items and max(load) - min(load) <= 1


def test_shared_items_are_spread_evenly_over_pairs():
    found = assign(600, 4, 2)
    assert {pair: found.count(pair) for pair in combinations(range(4), 2)} == dict.fromkeys(
        combinations(range(4), 2), 100)


def test_another_seed_is_another_assignment():
    assert assign(50, 3, 2, seed=0) != assign(50, 3, 2, seed=1)


@pytest.mark.parametrize(("items", "annotators", "overlap", "what"), [
    (10, 3, 4, "must be 1 to the number of annotators, 3"),
    (10, 3, 0, "must be 1 to the number of annotators, 3"),
    (2, 3, 2, "1 pair of the 3 annotators would share no item"),
])
def test_what_cannot_be_is_said(items, annotators, overlap, what):
    with pytest.raises(UserError, match=what):
        assign(items, annotators, overlap)
