"""What is kept of scores, against figures worked out by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.curate.scores.pick import Rule, check_rule, pick
from jitune.types import UserError

NAN = math.nan


def reasons(values, **options):
    return [found and found.reason for found in pick(values, check_rule(Rule(**options), "ifd"), "ifd")]


def test_a_range_and_then_the_best():
    values = [0.9, 1.2, 0.4, NAN, 1.0, 0.9]
    assert reasons(values, max=1.0) == [None, "ifd_above", None, "no_score", None, None]
    assert reasons(values, max=1.0, top=2) == [None, "ifd_above", "ifd_not_top", "no_score", None, "ifd_not_top"]
    assert reasons(values, min=0.5, best="low", top=1) == [
        None, "ifd_not_top", "ifd_below", "no_score", "ifd_not_top", "ifd_not_top"]  # fmt: skip
    assert reasons(values, missing="keep", top=1) == ["ifd_not_top", None, "ifd_not_top", None, *["ifd_not_top"] * 2]


def test_shares_are_of_those_left_or_of_all():
    values = [float(i) for i in range(10)]
    assert reasons(values, max=3.0, fraction=0.5).count(None) == 2
    assert reasons(values, max=3.0, fraction=0.3, of="all").count(None) == 3
    assert reasons(values, max=3.0, fraction=0.5, of="all").count(None) == 4, "no more than there are"
    assert reasons([float(i) for i in range(100)], fraction=0.29).count(None) == 29
    assert reasons(values, fraction=0.01).count(None) == 1
    assert reasons([], fraction=0.5) == [] and reasons([NAN], fraction=0.5) == ["no_score"]


def test_details_say_what_was_found():
    found = pick([1.25, 0.5, 0.75, NAN], Rule(max=1.0, top=1), "ifd", ["", "", "", "no answer"])
    assert [f and f.detail for f in found] == ["ifd 1.25, at most 1", "ifd 0.5, place 2 of 2, 1 are kept", None,
                                               "ifd: no answer"]  # fmt: skip


@pytest.mark.parametrize("options, message", [
    ({"min": 2, "max": 1}, "min=2 is more than max=1"), ({"top": -1}, "top=-1"), ({"top": True}, "top=True"),
    ({"fraction": 1.5}, "fraction=1.5"), ({"top": 3, "fraction": 0.5}, "give one of them"),
    ({"of": "half"}, "of='half'"), ({"max": NAN}, "max=nan is not a number"), ({"best": "x"}, "best='x'"),
    ({"missing": "x"}, "missing='x'"),
])  # fmt: skip
def test_rules_that_cannot_be(options, message):
    with pytest.raises(UserError, match=f"ifd: .*{message}"):
        check_rule(Rule(**options), "ifd")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5) | st.just(NAN), max_size=20), st.integers(0, 6), st.sampled_from(["high", "low"]))
def test_what_is_kept_is_never_worse(values, top, best):
    found = pick(values, Rule(min=-3, max=3, top=top, best=best), "x")
    kept = [v for v, f in zip(values, found, strict=True) if f is None]
    lost = [v for v, f in zip(values, found, strict=True) if f is not None and f.reason == "x_not_top"]
    inside = [v for v in values if -3 <= v <= 3]
    assert len(kept) == min(top or len(inside), len(inside)) and sorted(kept + lost) == sorted(inside)
    assert not lost or (min(kept) >= max(lost) if best == "high" else max(kept) <= min(lost))
