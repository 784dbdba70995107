"""Plans of scoring: every query is asked where its window puts it, what is shared is computed once, rows are full."""

import numpy as np
import pytest

from jitune.evals.engine import plan

WIDTHS = (64, 256)


def rows_of(width):
    return 512 // width


def visible(batch, row):
    """Which columns each column of a row sees, by the meaning of segment_ids and ends: bool [width, width]."""
    segments, ends = batch["segment_ids"][row], batch["ends"][row]
    before = np.tri(len(segments), dtype=bool)
    return before & (segments[None] <= segments[:, None]) & (segments[:, None] <= ends[None])


def replay(windows, widths=WIDTHS, *, trees=True):
    """Checks a whole plan; returns (tokens computed, slots).

    Each window must find, at the place of each of its targets, a query of that target at a column that sees exactly
    the window's own inputs up to there, at the positions 0, 1, 2, ...
    """
    units, places = plan.share(windows, widths, trees=trees)
    where, real, slots = {}, 0, 0
    for rows in plan.batches(units, widths, rows_of):
        width = rows.batch["tokens"].shape[1]
        assert width in widths and len(rows.at) == rows_of(width)
        real, slots = real + int((rows.batch["segment_ids"] > 0).sum()), slots + rows.batch["tokens"].size
        for unit, row, first in rows.parts:
            assert unit not in where
            where[unit] = rows, row, first
            assert first + len(units[unit].at) <= rows.queries <= width
    assert len(where) == len(units)
    for w, place in zip(windows, places, strict=True):
        rows, row, first = where[place.unit]
        sees = visible(rows.batch, row)
        for i, flat in enumerate(place.queries):
            query, slot = divmod(int(flat), plan.TARGETS)
            column = rows.at[row, first + query]
            assert rows.targets[row, first + query, slot] == w.targets[i]
            expected = w.inputs[: len(w.inputs) - len(w.targets) + i + 1]
            np.testing.assert_array_equal(rows.batch["tokens"][row][sees[column]], expected)
            np.testing.assert_array_equal(rows.batch["positions"][row][sees[column]], np.arange(len(expected)))
    return real, slots


def make(pairs, limit=256):
    return [plan.window(context, continuation, limit) for context, continuation in pairs]


def test_the_example_of_the_docstring():
    windows = make([([5, 6, 7] * 4, [8, 3]), ([5, 6, 7] * 4, [9, 4]), ([5, 6, 7] * 4, [8])])
    (unit,), places = plan.share(windows, WIDTHS)
    assert unit.tokens.tolist() == [5, 6, 7] * 4 + [8, 9]
    assert unit.segments.tolist() == [1] * 12 + [2, 3]
    assert unit.ends.tolist() == [3] * 12 + [2, 3]
    assert unit.positions.tolist() == [*range(13), 12]
    assert {p.unit for p in places} == {0}
    assert replay(windows)[0] == 14


def test_windows_are_cut_on_the_left_to_one_token_more_than_the_limit():
    window = plan.window([1, 2, 3, 4], [5, 6], 4)
    assert (window.inputs.tolist(), window.targets.tolist(), window.truncated) == ([2, 3, 4, 5], [5, 6], 1)
    window = plan.window([1, 2, 3], [5, 6], 4)
    assert (window.inputs.tolist(), window.targets.tolist(), window.truncated) == ([1, 2, 3, 5], [5, 6], 0)
    window = plan.window([1, 2, 3], [5, 6, 7, 8], 4)
    assert (window.inputs.tolist(), window.targets.tolist(), window.truncated) == ([3, 5, 6, 7], [5, 6, 7, 8], 2)


@pytest.mark.parametrize("trees", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_any_windows_find_their_answers(seed, trees):
    rng = np.random.default_rng(seed)
    header = rng.integers(1, 5, 60).tolist()
    pairs = []
    for _ in range(30):
        context = header[: rng.integers(0, 61)] + rng.integers(1, 4, rng.integers(1, 30)).tolist()
        pairs += [(context, rng.integers(1, 4, rng.integers(1, 12)).tolist()) for _ in range(rng.integers(1, 6))]
    pairs += [(rng.integers(1, 9, 400).tolist(), [1, 2]), ([1], rng.integers(1, 9, 256).tolist())]
    windows = make(pairs)
    real, slots = replay(windows, trees=trees)
    distinct = {w.inputs.tobytes(): len(w.inputs) for w in windows}
    assert real <= sum(distinct.values()) <= sum(len(w.inputs) for w in windows)
    if trees:
        prefixes = {tuple(w.inputs[:n]) for w in windows for n in range(1, len(w.inputs) + 1)}
        assert len(prefixes) <= real < 0.75 * sum(distinct.values())


def test_letters_take_one_segment_and_many_targets_repeat_the_position():
    windows = make([([1, 2, 3], [letter]) for letter in range(10, 36)])
    (unit,), _ = plan.share(windows, WIDTHS)
    assert unit.tokens.tolist() == [1, 2, 3] and unit.at.tolist() == [2] * 7 and unit.size == 7
    assert replay(windows) == (3, 512)


def test_more_queries_than_a_row_has_slots_take_more_rows():
    # One token of context, and more targets than the narrow row can ask for.
    windows = make([([7], [t]) for t in range(1, 1000)])
    assert replay(windows, (256,), trees=True)[0] >= 1


def test_examples_in_front_of_all_questions_are_computed_once_a_row():
    rng = np.random.default_rng(0)
    header = rng.integers(1, 99, 150).tolist()
    windows = make([(header + rng.integers(1, 99, 10).tolist(), [1]) for _ in range(50)])
    real, slots = replay(windows)
    assert real <= 150 * 5 + 50 * 10, "ten questions fit a row of 256 with the examples"
    assert slots == 256 * 6


def test_pack():
    assert plan.pack((5, 2, 1, 2), (8,), 8) == [(8, [0, 1, 2]), (8, [3])]
    assert plan.pack((9, 3, 3, 3), (8, 16), 8) == [(16, [0, 1, 2]), (8, [3])]
    assert plan.pack((3, 3, 3), (8, 16), 2) == [(16, [0, 1, 2])]


@pytest.mark.parametrize("middle, spread", [(20, 0.4), (40, 0.4), (60, 0.4), (120, 0.5), (35, 0.0), (43, 0.1),
                                            (70, 0.1), (85, 0.2)])  # fmt: skip
def test_rows_are_full(middle, spread):
    """Lengths that divide badly by the narrow width go into wide rows."""
    rng = np.random.default_rng(1)
    sizes = np.clip(rng.lognormal(np.log(middle), spread, 600), 2, 256).astype(int).tolist()
    packed = plan.choose(sizes, WIDTHS, rows_of)
    assert sorted(i for _, row in packed for i in row) == list(range(600))
    assert all(sum(sizes[i] for i in row) <= width for width, row in packed)
    assert 1 - sum(sizes) / sum(width for width, _ in packed) < 0.15
