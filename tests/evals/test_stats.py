"""Error bars: values by hand, scipy's, published ones, slow twins, and coverage by simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as theirs

from jitune.evals import stats


@pytest.mark.parametrize("k, n", [(5, 10), (0, 20), (50, 50), (1, 3), (123, 4567)])
def test_wilson_is_that_of_scipy(k, n):
    expected = theirs.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert stats.wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_quantiles_are_those_of_scipy():
    assert stats.z_of() == pytest.approx(1.959964, abs=1e-6)
    assert stats.t_of(4) == pytest.approx(2.776445, abs=1e-6)
    assert stats.two_sided(2.5, 7) == pytest.approx(2 * theirs.t.sf(2.5, 7), abs=1e-14)


def test_items_without_a_label_stand_alone():
    assert stats.group(["b", "a", "", "b", ""], 5).tolist() == [0, 1, 2, 0, 3]
    assert stats.group(None, 3).tolist() == [0, 1, 2]
    assert stats.group([], 0).tolist() == []


def test_standard_errors_by_hand():
    # sd of 1, 2, 3, 4 is sqrt(5/3).
    assert stats.standard_error([1, 2, 3, 4]) == pytest.approx(math.sqrt(5 / 3 / 4))
    # mean 0.5; residual sums: a +1, b 0, c -1; sqrt(2) / 6.
    scores, clusters = [1, 1, 1, 0, 0, 0], ["a", "a", "b", "b", "c", "c"]
    assert stats.standard_error(scores, clusters) == pytest.approx(math.sqrt(2) / 6)
    assert stats.standard_error([3.0]) is None
    assert stats.standard_error([]) is None
    assert stats.standard_error([0, 1, 1], ["a"] * 3) is None, "residuals of one cluster sum to 0, which is no error"
    assert stats.standard_error([0.1] * 3) == 0


def test_clustered_error_is_the_sum_over_all_pairs_of_a_cluster():
    # Miller's other form: (1/n^2) x sum over clusters of all products of two residuals.
    rng = np.random.default_rng(0)
    scores, clusters = rng.random(40), [f"c{i}" for i in rng.integers(9, size=40)]
    r = scores - scores.mean()
    twin = sum(r[i] * r[j] for i, j in itertools.product(range(40), repeat=2) if clusters[i] == clusters[j])
    assert stats.standard_error(scores, clusters) == pytest.approx(math.sqrt(twin) / 40, rel=1e-12)


def test_copies_of_every_item_in_its_cluster_add_nothing():
    scores = [0.0, 1.0, 0.25, 0.5]
    tripled = stats.standard_error(np.repeat(scores, 3), np.repeat(list("abcd"), 3).tolist())
    assert tripled == pytest.approx(np.std(scores) / math.sqrt(4))


def test_mean_interval_chooses_its_method():
    alone = stats.mean_interval([1, 0, 1, 1])
    assert (alone.method, alone.n, alone.clusters) == ("wilson", 4, 4)
    assert (alone.low, alone.high) == stats.wilson(3, 4)
    plain = stats.mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    expected = theirs.t.interval(0.95, 4, loc=3, scale=math.sqrt(2.5 / 5))
    assert plain.method == "normal" and (plain.low, plain.high) == pytest.approx(expected)
    grouped = stats.mean_interval([1, 1, 1, 0, 0, 0], ["a", "a", "b", "b", "c", "c"], bounds=(0, 1))
    assert (grouped.method, grouped.clusters, grouped.low) == ("clustered", 3, 0), "cut to the bounds"
    assert "3 clusters" in grouped.note


def test_degenerate_means():
    assert stats.mean_interval([]) == stats.Interval(None, None, None, None, 0, 0, "none")
    one = stats.mean_interval([0.3])
    assert (one.value, one.se, one.low, one.high) == (0.3, None, None, None)
    single = stats.mean_interval([0, 1, 1], ["a"] * 3)
    assert single.low is None and "one cluster" in single.note
    # 40 right answers in 20 clusters: not 1.0 without doubt, but as sure as 20 right answers.
    alike = stats.mean_interval([1] * 40, [f"c{i // 2}" for i in range(40)])
    assert (alike.method, alike.se) == ("wilson", 0)
    assert (alike.low, alike.high) == stats.wilson(20, 20)


@pytest.mark.parametrize("better, worse", [(0, 0), (1, 9), (5, 5), (0, 6), (60, 100), (900, 1100)])
def test_mcnemar_is_a_binomial_test(better, worse):
    expected = theirs.binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert stats.mcnemar(better, worse) == pytest.approx(expected, rel=1e-9)


def test_paired_differences():
    rng = np.random.default_rng(1)
    before, after = rng.random(30), rng.random(30)
    found, expected = stats.paired(before, after), theirs.ttest_rel(after, before)
    assert found.method == "t" and found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.mde == pytest.approx((1.959964 + 0.841621) * np.std(after - before, ddof=1) / math.sqrt(30), rel=1e-6)
    swapped = stats.paired(after, before)
    assert (swapped.delta, swapped.p) == pytest.approx((-found.delta, found.p))
    shares = stats.paired([1, 1, 0, 0, 1], [1, 0, 1, 1, 1])
    assert (shares.method, shares.delta, shares.p) == ("mcnemar", pytest.approx(0.2), 1.0)
    grouped = stats.paired([1, 1, 0, 0], [1, 0, 1, 1], ["a", "a", "b", "b"])
    # differences 0, -1, 1, 1, mean 1/4; residual sums -1.5 and 1.5.
    assert (grouped.method, grouped.se) == ("t", pytest.approx(math.sqrt(4.5) / 4))


def test_identical_runs_do_not_differ():
    for scores, clusters in (([0, 1, 1], None), ([0.2, 0.4], None), ([0.5], None), ([0, 1], ["a", "a"]),
                             ([0.1] * 7, ["a"] * 3 + ["b"] * 4)):
        found = stats.paired(scores, scores, clusters)
        assert (found.delta, found.p) == (0, 1)
    assert stats.paired([], []).p is None


def test_no_difference_in_ten_documents_is_no_proof_that_there_is_none():
    found = stats.paired([0, 1] * 5, [0, 1] * 5)
    assert (found.delta, found.p) == (0, 1)
    assert (found.low, found.high) == pytest.approx((-0.27754, 0.27754), abs=1e-5)  # Wilson's 0 of 10
    assert found.se == pytest.approx(found.high / 1.959964, rel=1e-6) and found.mde > found.high
    many = stats.paired([0, 1] * 500, [0, 1] * 500)
    assert many.high == pytest.approx(1.959964**2 / (1000 + 1.959964**2), rel=1e-6)
    wide = stats.paired([2.0, 12.0] * 5, [2.0, 12.0] * 5)
    assert wide.high == pytest.approx(10 * found.high)
    assert stats.paired([0.5], [0.5]).low is None and stats.paired([7, 7, 7], [7, 7, 7]).low is None


def test_scores_that_are_all_alike_have_no_error_unless_they_are_shares():
    found = stats.mean_interval([7.0] * 9)
    assert (found.value, found.se, found.low, found.high) == (7, None, None, None)
    assert "all scores are alike" in found.note
    assert stats.mean_interval([1.0] * 9).low == pytest.approx(stats.wilson(9, 9)[0])


def test_differences_that_are_all_alike_are_not_beyond_doubt():
    # Ten documents, all from 0.1 to 0.4: the signs of ten are alike once in 512 by chance.
    found = stats.paired([0.1] * 10, [0.4] * 10)
    assert found.p == pytest.approx(2 / 2**10)
    assert found.high == pytest.approx(0.3) and found.low == pytest.approx(0.3 * stats.wilson(10, 10)[0])
    worse = stats.paired([1] * 4, [0] * 4, ["a", "a", "b", "b"])
    assert (worse.delta, worse.low, worse.p) == (-1, -1, 0.5) and -1 < worse.high < 0
    assert stats.paired([0.1], [0.4]).p is None
    with pytest.raises(ValueError, match="3 scores before and 2 after"):
        stats.paired([1, 2, 3], [1, 2])


def test_holm():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([None, 0.5, 0.9, None]) == [None, 1.0, 1.0, None]
    assert stats.holm([]) == []


def test_detectable():
    # (1.96 + 0.84)^2 x (1/9) / 0.03^2 = 969 questions find 3 points at a variance of 1/9.
    assert stats.detectable(math.sqrt(1 / 9 / 969)) == pytest.approx(0.03, abs=1e-5)


def test_bootstrap_of_means_is_the_plain_one():
    rng = np.random.default_rng(2)
    values, clusters = rng.random(25), [f"c{i}" if i else "" for i in rng.integers(6, size=25)]
    slow = stats.bootstrap(lambda places: values[places].mean(), clusters, 25, replicates=50, seed=3)
    quick = stats.bootstrap_means(values, clusters, replicates=50, seed=3)
    assert quick == pytest.approx(slow)
    both = stats.bootstrap_means(np.stack([values, -values], 1), clusters, replicates=50, seed=3)
    assert both[:, 1] == pytest.approx(-quick)


def test_resamples_take_whole_clusters():
    clusters = ["a", "b", "a", "", "b", "b"]
    for places in stats.draws(clusters, 6, replicates=30):
        counts = np.bincount(places, minlength=6)
        assert counts[0] == counts[2] and counts[1] == counts[4] == counts[5]
        assert counts[0] + counts[1] + counts[3] == 3
    assert list(stats.draws([], 0)) == []


def test_bootstrap_error_is_the_clustered_error():
    rng = np.random.default_rng(4)
    codes = np.repeat(np.arange(60), 5)
    values = rng.normal(size=60)[codes] + rng.normal(size=300)
    clusters = [f"c{c}" for c in codes]
    se, low, high = stats.percentile(stats.bootstrap_means(values, clusters, replicates=4000).tolist())
    assert se == pytest.approx(stats.standard_error(values, clusters), rel=0.04)
    assert low < values.mean() < high


def test_percentile_and_p_of_replicates():
    assert stats.percentile([0.0] * 10) == (0, 0, 0) and stats.bootstrap_p([0.0] * 10) == 1
    assert stats.percentile([1.0, None, None]) is None and stats.bootstrap_p([None]) is None
    se, low, high = stats.percentile([None, *range(1, 101)])
    assert (low, high) == pytest.approx((3.475, 97.525)) and se == pytest.approx(np.std(range(100), ddof=1))
    assert stats.bootstrap_p([*range(1, 100)]) == pytest.approx(2 / 100)
    assert stats.bootstrap(lambda places: math.nan, None, 4, replicates=2) == [None, None]


def simulate(rng, clusters=40, size=6):
    """Right answers whose chance is drawn anew for each cluster around 0.6, and their clusters."""
    chance = rng.beta(3, 2, size=clusters)
    return rng.random((clusters, size)) < chance[:, None], np.repeat(np.arange(clusters), size)


def test_clustered_intervals_cover_and_naive_ones_do_not():
    rng, hits, naive = np.random.default_rng(5), 0, 0
    for _ in range(600):
        scores, codes = simulate(rng)
        found = stats.mean_interval(scores.ravel().astype(float), [f"c{c}" for c in codes])
        hits += found.low <= 0.6 <= found.high
        low, high = stats.wilson(scores.sum(), scores.size)
        naive += low <= 0.6 <= high
    assert 0.93 < hits / 600 < 0.975
    assert naive / 600 < 0.88


def test_paired_p_values_are_rarely_small_where_nothing_changed():
    rng, small = np.random.default_rng(6), 0
    for _ in range(600):
        chance = np.repeat(rng.beta(3, 2, size=30), 4)
        before, after = (rng.random((2, 120)) < chance).astype(float)
        small += stats.paired(before, after, [f"c{i // 4}" for i in range(120)]).p < 0.05
    assert 0.02 < small / 600 < 0.08
