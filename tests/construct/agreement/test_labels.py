"""Labels in a table: states, scales, repeats, spellings, rankings; nothing is merged in silence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.agreement.labels import LONG, MOST, Label, Sheet, counts, is_ranking, near, text_of
from jitune.types import UserError


def table(*labels, **options):
    """Of (item, annotator, value) each."""
    sheet = Sheet(**options)
    for row, (item, who, value) in enumerate(labels, 1):
        sheet.add(Label(item, who, "q", value, origin=("a.csv", row)))
    return sheet.table("q")


def test_a_table_is_sorted_and_its_labels_too():
    found = table(("y", "bo", "no"), ("x", "ann", "yes"), ("y", "ann", "yes"), ("x", "bo", "no"))
    assert (found.items, found.annotators, found.labels) == (["y", "x"], ["bo", "ann"], ["no", "yes"])
    assert found.item.tolist() == [0, 0, 1, 1] and found.annotator.tolist() == [0, 1, 0, 1]
    assert found.code.tolist() == [0, 1, 0, 1] and found.origins == [("a.csv", 1), ("a.csv", 2)]
    assert counts(found).tolist() == [[1, 1], [1, 1]]


def test_numbers_are_in_their_order_and_scales_in_the_one_given():
    assert table(("x", "a", 10), ("y", "a", 9), ("z", "a", 9.5)).labels == ["9", "9.5", "10"]
    given = table(("x", "a", "b"), ("y", "a", "a"), scales={"": ("b", "c", "a")})
    assert given.labels == ["b", "c", "a"] and given.code.tolist() == [0, 2]


def test_a_label_outside_the_scale_is_an_error_with_its_place():
    with pytest.raises(UserError, match=r"^a.csv:2: the label 'maybe' of bo on 'x' \(q\) is not on the scale: no, ye"):
        table(("x", "ann", "yes"), ("x", "bo", "maybe"), scales={"": ("no", "yes")})
    with pytest.raises(UserError, match=r"a.csv:1: .*; it differs from 'yes' in case, blanks or the writing"):
        table(("x", "ann", " Yes"), scales={"": ("no", "yes")})
    assert table(("x", "ann", "other"), scales={"another": ("no", "yes")}).labels == ["other"]


def test_near_spellings_are_told_and_not_merged():
    found = table(("x", "a", "Yes"), ("x", "b", "yes"), ("y", "a", "yes "), ("y", "b", "no"))
    assert sorted(found.labels) == ["Yes", "no", "yes", "yes "] and counts(found).sum() == 4
    assert [sorted(group) for group in found.near] == [["Yes", "yes", "yes "]]
    assert near(["4", "4.0", "5"]) == [["4", "4.0"]]
    assert near(["caf\u00e9", "cafe\u0301"]) == [["caf\u00e9", "cafe\u0301"]]


def test_states_are_counted_and_only_labels_count():
    sheet = Sheet()
    for who, state in (("a", "labelled"), ("b", "empty"), ("c", "skipped")):
        sheet.add(Label("x", who, "q", "yes" if state == "labelled" else None, state))
    found = sheet.table("q")
    assert found.states == {"labelled": 1, "empty": 1, "skipped": 1} and len(found.code) == 1
    assert found.annotators == ["a", "b", "c"]
    told = Sheet(empty="nothing")
    told.add(Label("x", "a", "q", None, "empty"))
    assert told.table("q").labels == ["nothing"]


def test_a_label_given_again_counts_once_and_another_one_is_an_error():
    again = table(("x", "a", "1"), ("x", "b", "1"), ("x", "a", "1"), ("x", "a", "1"))
    assert again.repeated == 2 and again.conflicting == 0 and counts(again).tolist() == [[2]]
    labels = (("x", "a", "1"), ("y", "a", "1"), ("x", "a", "2"), ("y", "b", "2"))
    with pytest.raises(UserError, match=r"^a.csv:3: a labels 'x' \(q\) '2', and '1' in a.csv:1; --conflicts"):
        table(*labels)
    for how, left in (("first", [[1, 0], [1, 1]]), ("last", [[0, 1], [1, 1]]), ("drop", [[0, 0], [1, 1]])):
        found = table(*labels, conflicts=how)
        assert counts(found).tolist() == left and found.conflicting == 1, how


def test_free_text_is_no_label_and_is_not_kept():
    long = table(("x", "a", "yes"), ("x", "b", "word " * LONG))
    assert long.free and not len(long.code) and long.labels == ["yes"]
    many = table(*((f"i{n}", "a", f"text {n}") for n in range(MOST + 5)))
    assert many.free and len(many.labels) == MOST and many.states["labelled"] == MOST + 5


def test_values_as_labels():
    assert [text_of(v) for v in (4, 4.0, 4.5, True, "4 ", ["b", "a"], {"b": 1, "a": "\u00e9"}, None)] == [
        "4", "4", "4.5", "true", "4 ", "a + b", '{"a": "\u00e9", "b": 1}', ""]
    assert is_ranking([["a"], ["b", "c"]]) and not any(map(is_ranking, (["a", "b"], [], "ab")))


def test_rankings_are_kept_as_ballots_and_not_mixed_with_labels():
    found = table(("x", "a", [["m"], ["n"]]), ("x", "b", [["n", "m"]]), ("x", "a", [["m"], ["n"]]))
    assert found.ballots == [(0, 0, (("m",), ("n",))), (0, 1, (("n", "m"),))]
    assert found.repeated == 1
    with pytest.raises(UserError, match="'n > m', and 'm > n' in a.csv:1"):
        table(("x", "a", [["m"], ["n"]]), ("x", "a", [["n"], ["m"]]))
    with pytest.raises(UserError, match="some answers are rankings, and some are not, such as 'm'"):
        table(("x", "a", [["m"], ["n"]]), ("x", "b", "m"))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.text(max_size=3)), max_size=40))
def test_every_label_is_counted_where_it_belongs(labels):
    """Slow twin: a dict of the last label of everyone."""
    found = Sheet(conflicts="last")
    for item, who, value in labels:
        found.add(Label(str(item), str(who), "q", value))
    if not labels:
        assert found.questions() == []
        return
    kept = {(item, who): value for item, who, value in labels}
    seen = found.table("q")
    told = {(seen.items[i], seen.annotators[a]): seen.labels[c]
            for i, a, c in zip(seen.item, seen.annotator, seen.code, strict=True)}
    assert told == {(str(i), str(a)): v for (i, a), v in kept.items()}
    assert np.array_equal(counts(seen).sum(1), np.bincount(seen.item, minlength=len(seen.items)))
