"""Mixtures: proportions by hand, draws that do not depend on order, sources that are too small."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.curate import mix
from jitune.construct.curate.stage import Head
from jitune.types import UserError


def heads(**sizes):
    return [Head(f"{name}{i}", name) for name, size in sizes.items() for i in range(size)]


def taken(stage, records) -> list[str]:
    return [h.id for h, reject in zip(records, stage.choose(records, None), strict=True) if reject is None]


def test_shares_by_hand():
    assert mix.shares([900, 100]) == [0.9, 0.1]
    assert mix.shares([900, 100], temperature=2.0) == [0.75, 0.25]  # 30 to 10
    assert mix.shares([900, 100], weights=[1, 3]) == [0.25, 0.75]
    assert mix.shares([0, 0]) == [0, 0]


@pytest.mark.parametrize(("sizes", "shares", "total", "counts"), [
    ([900, 100], [0.5, 0.5], 300, [150, 150]),
    ([900, 100], [0.5, 0.5], 0, [100, 100]),
    ([900, 100], [0.75, 0.25], 0, [300, 100]),
    ([900, 100], [1.0, 0.0], 0, [900, 0]),
    ([9, 9, 9], [1 / 3, 1 / 3, 1 / 3], 10, [4, 3, 3]),  # largest remainders, the first of equals
    ([10, 10], [0.7, 0.3], 9, [6, 3]),  # 6.3 and 2.7
    ([900, 100], [0.5, 0.5], 1000, [500, 500]),  # 400 more than there are
])
def test_targets_by_hand(sizes, shares, total, counts):
    assert mix.targets(sizes, shares, total=total) == counts


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=5), st.integers(1, 3000), st.floats(0.5, 10))
def test_targets_sum_to_the_total(sizes, total, temperature):
    if sum(sizes):
        assert sum(mix.targets(sizes, mix.shares(sizes, temperature=temperature), total=total)) == total


def test_a_draw_does_not_depend_on_order_and_a_smaller_one_is_part_of_it():
    records = heads(a=50, b=20)
    stage = mix.build(weights="0.5,0.5", total=20, seed=3)
    drawn = taken(stage, records)
    assert len(drawn) == 20 and sum(id.startswith("a") for id in drawn) == 10
    assert sorted(taken(stage, records[::-1])) == sorted(drawn)
    assert set(taken(mix.build(weights="0.5,0.5", total=10, seed=3), records)) < set(drawn)
    assert set(taken(mix.build(weights="0.5,0.5", total=20, seed=4), records)) != set(drawn)


def test_a_source_that_is_too_small_is_not_repeated_and_said():
    records, stage = heads(a=50, b=5), mix.build(weights="0.5,0.5", total=40)
    chosen = stage.choose(records, None)
    assert [r.detail for r in chosen if r][0] == "20 of 50 were drawn from a"
    assert sum(r is None for r in chosen) == 25
    assert stage.tell(records, None, chosen)["sources"] == [
        {"source": "a", "records": 50, "wanted": 20, "taken": 20, "too small by": 0},
        {"source": "b", "records": 5, "wanted": 20, "taken": 5, "too small by": 15}]


def test_without_options_everything_is_kept_and_caps_cap():
    records = heads(a=50, b=5)
    assert len(taken(mix.build(), records)) == 55
    assert len(taken(mix.build(caps="10"), records)) == 15
    assert len(taken(mix.build(caps="0,2"), records)) == 52
    assert len(taken(mix.build(weights="1,1", total=8, caps="2,0", inputs=("b", "a")), records)) == 6


@pytest.mark.parametrize(("options", "message"), [
    ({"weights": "a,b"}, "weights='a,b' must be numbers of 0 or more"),
    ({"weights": "0,0"}, "are all 0"),
    ({"caps": "-1"}, "caps='-1' must be numbers"),
    ({"temperature": 0.0}, "must be above 0"),
    ({"weights": "1,2,3"}, "weights are 3, and the sources 2: a, b"),
    ({"inputs": ("a", "c")}, "records come from 'b', which is none of the inputs a, c"),
])
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        mix.build(**options).choose(heads(a=2, b=2), None)
