"""Intervals: points and whiskers lie where the axis says, values that are missing are said, long names are cut."""

import math
import re

import pytest

from jitune.report.axes import WIDTH
from jitune.report.intervals import WIDE, Point, cut, intervals, width


def ticks(figure: str) -> dict[str, float]:
    """Where the ticks stand."""
    return {text: float(x) for x, text in re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle" class="">'
                                                     r"([^<]+)<", figure)}


def test_points_and_whiskers_lie_where_the_axis_says():
    figure = intervals(["a", "b"], {"": [Point(0.5, 0.2, 1.0), Point(0.0)]}, title="T", span=(0, 1), percent=True)
    at = ticks(figure)
    (x,) = re.findall(r'cx="([\d.]+)"[^>]*data-value="0.5"', figure)
    assert float(x) == pytest.approx((at["0%"] + at["100%"]) / 2, abs=0.1)
    start, end = re.search(r'd="M([\d.]+) [\d.]+H([\d.]+)M.*data-low="0.2" data-high="1.0"', figure).groups()
    assert float(start) == pytest.approx(at["20%"], abs=0.1) and float(end) == pytest.approx(at["100%"], abs=0.1)
    assert figure.count("data-low") == 1 and "50.0%, 20.0% to 100.0%" in figure and max(at.values()) < WIDTH


def test_an_axis_holds_marks_reference_and_all_ends():
    figure = intervals(["a", "b"], {"": [Point(3.0, 2.0, 4.0), Point(5.0, 4.5, 7.0)]}, title="T", reference=0,
                       marks=[9.0, None], mark="others", span=(1, 2))
    places = [float(x) for x in re.findall(r'(?:c?x1?="|d="M)([\d.]+)', figure)]
    assert all(0 <= x <= WIDTH for x in places)
    assert figure.count('class="mark"') == 2 and ">others<" in figure  # in its row, and in the legend
    assert figure.count('class="axis"') == 1 and "a: 3, 2 to 4, others 9" in figure


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_what_has_no_value_is_said(missing):
    figure = intervals(["a", "b"], {"": [Point(1.0, missing, 2.0), Point(missing)]}, title="T")
    assert figure.count("no value") == 2 and "data-low" not in figure and "nan" not in figure and "inf" not in figure
    assert "no values" in intervals(["a"], {"": [Point(missing)]}, title="T")
    assert "no values" in intervals([], {}, title="T")


def test_series_differ_in_shape_and_take_a_row_each():
    groups = ["a", "b"]
    one = intervals(groups, {"x": [Point(1.0), None], "y": [None, Point(2.0)]}, title="T", show=lambda v: f"{v:+.1f}")
    assert one.count("data-value") == 2 and one.count("<circle") == 2 and ">+1.0<" in one  # a circle in the legend too
    both = intervals(groups, {"x": [Point(1.0), Point(3.0)], "y": [Point(1.5), Point(2.0)]}, title="T")
    height = [int(re.search(r'<svg viewBox="0 0 360 (\d+)"', f)[1]) for f in (one, both) for f in [f.split("</ul>")[1]]]
    assert height[1] > height[0] and "<li>" in both
    with pytest.raises(ValueError, match="each series must have 2 values"):
        intervals(groups, {"x": [Point(1.0)]}, title="T")


def test_a_ring_is_hollow_and_names_are_escaped():
    figure = intervals(["<a>"], {"": [Point(1.0, hollow=True)]}, title="<t>", label="<l>")
    assert 'fill="var(--bg)"' in figure and not re.search("<(a|t|l)>", figure)


def test_long_names_are_cut_to_the_chart():
    assert cut("x" * WIDE) == "x" * WIDE and cut("x" * 1000) == "x" * (WIDE - 1) + "…"
    assert width("年月") == 4 and width("年" * 100) <= WIDE and cut("年" * 100).endswith("…")
