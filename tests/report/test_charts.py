"""Charts: means over stretches, gaps where there is no value."""

import math
import re

import pytest

from jitune.report import axes, charts


def values(figure: str) -> list[tuple[str, str]]:
    """(x, value) of the points that a chart holds, as they are written."""
    return re.findall(r'data-x="([^"]*)" data-value="([^"]*)"', figure)


def pairs(text: str) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in text.split()]


def test_long_lines_are_thinned_to_means():
    points = [(x, float(x)) for x in range(1, 1201)]
    thinned = charts.thin(points)
    assert len(thinned) == 300 and thinned[0] == (2.5, 2.5) and thinned[-1] == (1198.5, 1198.5)
    assert sum(y for _, y in thinned) / 300 == pytest.approx(600.5)
    gap = [(x, None if x <= 4 else 1.0) for x in range(1, 1201)]
    gap[5] = (6, None)
    assert charts.thin(gap)[:2] == [(2.5, None), (6.5, 1.0)]  # a missing value does not count in its mean
    assert charts.thin(points[:300]) == points[:300]


def test_points_lie_where_the_axes_say():
    figure = charts.lines({"a": [(0, 0.0), (5, 5.0), (10, 10.0)]}, title="A", zero=True)
    (first, middle, last) = pairs(re.search(r'points="([^"]*)"', figure)[1])
    assert first == (charts.LEFT, charts.HEIGHT - charts.BOTTOM) and last[0] == axes.WIDTH - charts.RIGHT
    assert middle[0] == pytest.approx((first[0] + last[0]) / 2, abs=0.1)
    assert middle[1] == pytest.approx((first[1] + last[1]) / 2, abs=0.1)
    tick = re.search(r'y="([\d.]+)" text-anchor="end" class="">10<', figure)
    assert float(tick[1]) - 4 == pytest.approx(last[1], abs=0.11)  # the text is 4 below its rule


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_values_that_are_missing_leave_gaps(missing):
    figure = charts.lines({"a": [(1, 1.0), (2, 2.0), (3, missing), (4, 4.0)]}, title="A")
    assert figure.count("<polyline") == 2 and values(figure) == [("1", "1.0"), ("2", "2.0"), ("4", "4.0")]
    logarithmic = charts.lines({"a": [(1, 1.0), (2, 0.0), (3, -1.0), (4, 4.0)]}, title="A", log=True)
    assert values(logarithmic) == [("1", "1.0"), ("4", "4.0")]


@pytest.mark.parametrize("points", [[], [(1, None)], [(1, 3.0)], [(1, 0.0), (2, 0.0)], [(1, -2.0)], [(0, 1e-30)],
                                    [(1, 1e300), (2, -1e300)]])
@pytest.mark.parametrize("log", [False, True])
def test_every_line_can_be_drawn(points, log):
    figure = charts.lines({"a": points}, title="A", log=log)
    drawn = [p for p in points if p[1] is not None and (p[1] > 0 or not log)]
    assert len(values(figure)) == len(drawn) and ("no values" in figure) == (not drawn)
    assert "nan" not in figure and "inf" not in figure


def test_names_are_escaped_and_told_to_readers_who_do_not_see():
    figure = charts.lines({"<a>": [(1, 1.0), (9, 2.5)], "b": []}, title='T "&"', x_label="<step>")
    assert "<a>" not in figure and "<step>" not in figure and "&lt;a&gt;" in figure
    label = re.search(r'aria-label="([^"]*)"', figure)[1]
    assert "from 1 at &lt;step&gt; 1 to 2.5 at &lt;step&gt; 9; b has no values" in label


def test_bars_hold_values_and_whiskers():
    figure = charts.bars(["accuracy", "refusals"], {"before": [0.031, None], "after": [0.94, -0.2]}, title="T",
                         errors={"after": [0.02, None]}, percent=True)
    assert re.findall(r'<rect [^>]*data-value="([^"]*)"', figure) == ["0.031", "0.94", "-0.2"]
    assert figure.count("whisker") == 1 and "94.0% \N{PLUS-MINUS SIGN} 2.0%" in figure and "no value" in figure
    widths = [float(w) for w in re.findall(r'<rect x="[^"]*" y="[^"]*" width="([^"]*)" height="14"', figure)]
    assert widths[1] / widths[0] == pytest.approx(0.94 / 0.031, rel=0.02)
    assert "no values" in charts.bars(["a"], {"x": [None]}, title="T") and charts.bars([], {}, title="T")
    with pytest.raises(ValueError, match="each series must have 2 values"):
        charts.bars(["a", "b"], {"x": [1]}, title="T")
