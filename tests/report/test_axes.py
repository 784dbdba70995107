"""Axes: ticks are round, few, and told apart."""

import pytest

from jitune.report import axes


@pytest.mark.parametrize("low, high, whole, wanted", [
    (0, 12, False, [0, 2, 4, 6, 8, 10, 12]),
    (0.13, 0.52, False, [0.2, 0.3, 0.4, 0.5]),
    (-3e-6, 1.1e-5, False, [0, 5e-6, 1e-5]),
    (1, 3, True, [1, 2, 3]),
    (0, 123456, True, [0, 20000, 40000, 60000, 80000, 100000, 120000]),
])
def test_ticks_are_round(low, high, whole, wanted):
    assert axes.ticks(low, high, whole=whole) == wanted


def test_log_ticks_are_powers_of_ten_where_there_are_enough():
    assert axes.log_ticks(0.05, 200) == pytest.approx([0.1, 1, 10, 100])
    assert axes.log_ticks(0.5, 6) == pytest.approx([0.5, 1, 2, 5])
    assert len(axes.log_ticks(1e-12, 1e12)) <= 6
    assert axes.log_ticks(3.1, 3.2) == [3.1, 3.2]


def test_ticks_are_told_apart():
    assert [text for _, text in axes.labelled(20.8862, 20.8901)] == ["20.887", "20.888", "20.889", "20.89"]
    assert [text for _, text in axes.labelled(0, 2.1e6)] == ["0", "500k", "1M", "1.5M", "2M"]
