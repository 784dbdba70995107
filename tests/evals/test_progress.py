"""Progress of an evaluation where no terminal shows a bar."""

import pytest

from jitune.evals import progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_lines_with_the_time_left(clock, capsys):
    with progress.Bars(shown=True) as bars, bars.bar("scoring", 100) as advance:
        for seconds in (1, 40, 41, 80):
            clock[0] = seconds
            advance(20)
        clock[0] = 100
        advance(20)
    assert capsys.readouterr().err.splitlines() == [
        "scoring: 40 of 100, 1m00s left", "scoring: 80 of 100, 20s left", "scoring: 100 in 1m40s"]


def test_nothing_is_said_of_nothing_or_where_it_is_not_shown(capsys):
    with progress.Bars(shown=True) as bars, bars.bar("judge", 0) as advance:
        advance(0)
    with progress.Bars(shown=False) as bars, bars.bar("judge", 2) as advance:
        advance(2)
    assert capsys.readouterr().err == ""


def test_bytes_are_shown_as_sizes(clock, capsys):
    with progress.Bars(shown=True) as bars, bars.bar("convert", 3_400_000_000, size=True) as advance:
        clock[0] = 50
        advance(1_700_000_000)
        clock[0] = 100
        advance(1_700_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "convert: 1.7 GB of 3.4 GB, 50s left", "convert: 3.4 GB in 1m40s"]


def test_nothing_is_done_for_long_and_the_end_comes_early(clock, capsys):
    with progress.Bars(shown=True) as bars, bars.bar("scoring", 100) as advance:
        clock[0] = 40
        advance(0)
        advance(60)
    assert capsys.readouterr().err.splitlines() == ["scoring: 0 of 100", "scoring: 60 of 100 in 40s"]
