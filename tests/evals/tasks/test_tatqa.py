"""TAT-QA: amounts with scales, several spans, numbers in texts."""

import pytest

from jitune.evals.tasks import tatqa


@pytest.mark.parametrize(("text", "values", "scale"), [
    ("Sums.\nAnswer: $1,496.5 million", ["$1,496.5 million"], "million"),
    ("**Answer:** 73,260; 57,768 thousand.", ["73,260", "57,768 thousand"], "thousand"),
    ("Answer:\n- fixed-price type\n- cost-plus type", ["fixed-price type", "cost-plus type"], ""),
    ("It fell.\n-12.14%", ["-12.14%"], "percent"), ("2019", ["2019"], ""), ("", [], ""),
])
def test_read_answer(text, values, scale):
    assert tatqa.read_answer(text) == (values, scale)


@pytest.mark.parametrize(("text", "number", "scale"), [
    ("$1,496.5", 1496.5, ""), ("(12.6)", -12.6, ""), ("-12.6", -12.6, ""), ("$(3)", None, ""),
    ("( 1.2 ) %", -1.2, "percent"),
    ("5 Billion", 5, "billion"), ("3.1 percentage points", 3.1, "percent"), ("-$5 thousand", -5, "thousand"),
    (".5%", 0.5, "percent"), ("2019 and 2018", None, ""), ("about 5", None, ""), ("", None, ""),
])
def test_amount(text, number, scale):
    assert tatqa.amount(text) == (number, scale)


@pytest.mark.parametrize(("text", "golds", "scale", "exact", "f1"), [
    ("$1,496.5 million", ["$1,496.5"], "million", 1, 1),
    ("1,496,500 thousand", ["$1,496.5"], "million", 1, 1),
    ("1,496.5", ["$1,496.5"], "million", 0, 0),  # the scale is missing
    ("-22.22%", ["-22.22"], "percent", 1, 1),
    ("-0.2222", ["-22.22"], "percent", 1, 1),  # the same as a bare number
    ("-22.22", ["-22.22"], "percent", 0, 0),
    ("22.22%", ["-22.22"], "percent", 0, 0),
    ("57,768; 73,260 thousand", ["73,260", "57,768"], "thousand", 1, 1),  # in any order
    ("73,260 thousand", ["73,260", "57,768"], "thousand", 0, 2 / 3),
    ("the cost-plus type", ["fixed-price type", "cost-plus type"], "", 0, 2 * 3 / 8),  # "type" is there once: sets
    ("In 2019", ["2019"], "", 0, 2 / 3),
    ("It was $1,496.5 in all", ["$1,496.5"], "", 0, 2 / 6),
    ("sales of phones in 2018", ["sales of phones in 2019"], "", 0, 4 / 5),
])
def test_compare(text, golds, scale, exact, f1):
    assert tatqa.compare(*tatqa.read_answer(text), golds, scale) == (exact, pytest.approx(f1))
