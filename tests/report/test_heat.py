"""Heat: squares as dark as their values, names where they fit, nothing that is not drawn left unsaid."""

import re

import pytest

from jitune.report.axes import WIDTH
from jitune.report.heat import DARK, MOST, heat


def darkness(figure: str) -> list[tuple[float, float]]:
    """(value, how dark) of each square."""
    return [(float(v), float(d)) for d, v in re.findall(r'fill-opacity="([\d.]+)"[^>]*data-value="([^"]+)"', figure)]


def test_squares_are_as_dark_as_their_values():
    figure = heat(["no", "yes"], [[20, 5], [0, None]], title="T", rows="ann", columns="bo")
    assert darkness(figure) == [(20, DARK), (5, pytest.approx(DARK / 4, abs=1e-3)), (0, 0)]
    assert "no, yes: 5" in figure and "ann \u2193 by bo \u2192" in figure and ">20<" in figure
    shares = heat(["a", "b"], [[1, 3], [8, 8]], title="T", by_row=True)
    assert [d for _, d in darkness(shares)] == pytest.approx([DARK / 4, DARK * 3 / 4, DARK / 2, DARK / 2], abs=1e-3)
    assert darkness(heat(["a", "b"], [[-0.5, 2], [0.5, None]], title="T", top=1.0)) == [
        (-0.5, 0), (2, DARK), (0.5, pytest.approx(DARK / 2, abs=1e-3))]


def test_everything_lies_inside_and_long_names_have_numbers():
    names = [f"a rather long name of a label {i}" for i in range(6)]
    figure = heat(names, [[1] * 6 for _ in names], title="T")
    assert all(0 <= float(x) <= WIDTH for x in re.findall(r' x="([\d.]+)"', figure))
    assert ">3<" in figure and ">3. a rather long" in figure and "label 5, " in figure
    short = heat(["x", "y"], [[1, 2], [3, 4]], title="T")
    assert "1. " not in short and short.count(">x<") == 2


def test_what_is_too_much_is_said():
    names = [str(i) for i in range(MOST + 2)]
    figure = heat(names, [[1.0] * len(names) for _ in names], title="T")
    assert "T; 2 more are not drawn" in figure and len(darkness(figure)) == MOST**2
    with pytest.raises(ValueError, match="2 rows and columns"):
        heat(["a", "b"], [[1, 2]], title="T")


def test_names_are_escaped():
    assert "<b>" not in heat(["<b>", "&"], [[1, 2], [3, 4]], title="<b>", rows="<b>", columns="<b>")
