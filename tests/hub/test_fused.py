"""Adapters of fused projections: one pair on disk, one for each weight here, and neither way changes the weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.hub.fused import Factors, fuse, split

WIDTHS = [6, 2, 2]


def draw(rank, width, seed, *, scale=1.0, a=None, norm=False):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((5, rank), np.float32) if a is None else a
    magnitude = rng.standard_normal(width, np.float32) if norm else None
    return Factors(a, rng.standard_normal((rank, width), np.float32), scale, magnitude)


def change(f: Factors) -> np.ndarray:
    """What factors add to a weight, in float64."""
    return f.scale * (f.a.astype(np.float64) @ f.b.astype(np.float64))


def same(first: Factors, second: Factors) -> bool:
    norms = (first.magnitude is None) == (second.magnitude is None) and (
        first.magnitude is None or np.array_equal(first.magnitude, second.magnitude))
    equal = np.array_equal(first.a, second.a) and np.array_equal(first.b, second.b)
    return equal and first.scale == second.scale and norms


def test_stacked_a_and_block_diagonal_b():
    q, v = draw(3, 6, 0, scale=2.0), draw(1, 2, 1, scale=2.0)
    pair = fuse([q, None, v], WIDTHS)
    assert pair.a.shape == (5, 4) and pair.b.shape == (4, 10) and pair.scale == 2.0
    np.testing.assert_array_equal(pair.b[:3, :6], q.b)
    np.testing.assert_array_equal(pair.b[3:, 8:], v.b)
    assert not pair.b[:, 6:8].any() and not pair.b[3:, :6].any() and not pair.b[:3, 8:].any()
    back = split(pair, WIDTHS)
    assert same(back[0], q) and back[1] is None and same(back[2], v)


def test_one_a_is_one_rank():
    q = draw(3, 6, 0)
    k, v = draw(3, 2, 1, a=q.a), draw(3, 2, 2, a=q.a)
    pair = fuse([q, k, v], WIDTHS)
    np.testing.assert_array_equal(pair.a, q.a)
    np.testing.assert_array_equal(pair.b, np.concatenate([q.b, k.b, v.b], axis=1))
    assert all(same(x, y) for x, y in zip(split(pair, WIDTHS), (q, k, v), strict=True))


def test_scales_that_differ_go_into_b():
    parts = [draw(2, 6, 0, scale=0.5), draw(2, 2, 1, scale=2.0), draw(3, 2, 2, scale=0.3)]
    pair = fuse(parts, WIDTHS)
    assert pair.scale == 0.5
    np.testing.assert_allclose(change(pair), np.concatenate([change(p) for p in parts], axis=1), 1e-6, 1e-6)


def test_magnitudes_lie_end_to_end_and_idle_parts_keep_their_own_lengths():
    q, v = draw(2, 6, 0, norm=True), draw(2, 2, 1, norm=True)
    pair = fuse([q, None, v], WIDTHS, lambda part: np.full(WIDTHS[part], 7.0, np.float32))
    np.testing.assert_array_equal(pair.magnitude, [*q.magnitude, 7, 7, *v.magnitude])
    back = split(pair, WIDTHS)
    assert same(back[0], q) and same(back[2], v)
    assert back[1].a.shape == (5, 1) and not back[1].b.any() and back[1].magnitude.tolist() == [7, 7]


def test_a_fresh_pair_keeps_its_ranks():
    """B starts at zero; the parts must stay trainable."""
    fresh = Factors(np.ones((5, 3), np.float32), np.zeros((3, 10), np.float32), 1.0)
    assert [f.a.shape for f in split(fresh, WIDTHS)] == [(5, 3)] * 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.25, 1.0, 3.0])), min_size=3, max_size=3),
       st.booleans())  # fmt: skip
def test_no_way_changes_the_weights(parts, shared):
    a = np.random.default_rng(9).standard_normal((5, 3), np.float32)
    made = [draw(rank, width, i, scale=scale, a=a[:, :rank] if shared else None) if rank else None
            for i, ((rank, scale), width) in enumerate(zip(parts, WIDTHS, strict=True))]  # fmt: skip
    if not any(made):
        return
    pair = fuse(made, WIDTHS)
    wanted = np.concatenate([change(f) if f else np.zeros((5, w)) for f, w in zip(made, WIDTHS, strict=True)], axis=1)
    np.testing.assert_allclose(change(pair), wanted, rtol=1e-5, atol=1e-6)
    back = [change(f) if f else np.zeros((5, w)) for f, w in zip(split(pair, WIDTHS), WIDTHS, strict=True)]
    np.testing.assert_allclose(np.concatenate(back, axis=1), wanted, rtol=1e-5, atol=1e-6)


def test_parts_of_one_are_themselves():
    one = draw(2, 6, 0)
    assert fuse([one], [6]) is one
    assert split(one, [6]) == [one]


@pytest.mark.parametrize("factor", [2.0, 1 / 3])
def test_the_first_part_with_factors_gives_the_scale(factor):
    pair = fuse([None, draw(1, 2, 0, scale=factor), draw(1, 2, 1, scale=factor)], WIDTHS)
    assert pair.scale == factor
