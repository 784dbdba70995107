"""Kappa and alpha: worked examples of the papers, the krippendorff package, scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.evals.agreement import alpha, cohen, distances, fleiss, kappa, krippendorff, percent, reason

# Fleiss 1971, table 1: 30 patients, 6 psychiatrists each, 5 diagnoses.
FLEISS = """00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031 00501 30012 51000
02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006"""
PATIENTS = np.array([[int(c) for c in row] for row in FLEISS.split()])
KRIPPENDORFF = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")  # 2011, example C
UNITS = [[None if v == "." else int(v) for v in unit] for unit in zip(*KRIPPENDORFF, strict=True)]


def test_kappa():
    # 20 + 15 of 50 agree, by chance 0.5 x 0.6 + 0.5 x 0.4 = 0.5: (0.7 - 0.5) / 0.5.
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert kappa(first, second) == pytest.approx(0.4)
    assert kappa(first, first) == 1
    assert kappa(["a", "a"], ["a", "a"]) is None and kappa([], []) is None
    with pytest.raises(ValueError, match="1 labels and 2"):
        kappa(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="weights 'cubic'"):
        kappa([1, 2], [1, 2], weights="cubic")


def test_weighted_kappa_by_hand():
    # Pairs 1-1, 2-3, 3-2, 3-3 of 4: |v - w| sums to 2; by chance (1, 1, 2) x (1, 1, 2) / 4 = (1 + 2x2 + 1 + 2 + 2x2
    # + 2) / 4 = 14 / 4: 1 - 2 / 3.5. Squared: 2 and (1 + 4x2 + 1 + 2 + 4x2 + 2) / 4 = 22 / 4.
    first, second = [1, 2, 3, 3], [1, 3, 2, 3]
    assert kappa(first, second, weights="linear") == pytest.approx(1 - 2 / 3.5)
    assert kappa(first, second, weights="quadratic") == pytest.approx(1 - 2 / 5.5)
    words = dict(zip((1, 2, 3), ("poor", "fair", "good"), strict=True))
    named = kappa([words[v] for v in first], [words[v] for v in second], weights="linear", order=list(words.values()))
    assert named == pytest.approx(1 - 2 / 3.5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=40),
       st.sampled_from([None, "linear", "quadratic"]))
def test_kappa_is_that_of_scikit_learn(pairs, weights):
    metrics = pytest.importorskip("sklearn.metrics")
    first, second = zip(*pairs, strict=True)
    found = kappa(first, second, weights=weights or "", order=range(5))
    if len({*first, *second}) < 2:
        assert found is None
    else:
        wanted = metrics.cohen_kappa_score(first, second, weights=weights, labels=range(5))
        assert found == pytest.approx(wanted, abs=1e-12)


def test_fleiss_of_the_published_examples():
    assert PATIENTS.sum(0).tolist() == [26, 26, 30, 55, 43] and set(PATIENTS.sum(1)) == {6}
    assert fleiss(PATIENTS) == pytest.approx(0.430, abs=5e-4)
    assert fleiss([[3, 0], [0, 2]]) == 1
    assert fleiss([[2, 0], [3, 0]]) is None and fleiss([[1, 0], [0, 1]]) is None
    assert fleiss(np.zeros((0, 3))) is None


def test_fleiss_of_different_numbers_of_raters_by_hand():
    # Three items: aa, aab, b. Observed (1 + 1/3) / 2; shares of a (1 + 2/3 + 0) / 3 = 5/9; chance 25/81 + 16/81.
    chance = 41 / 81
    assert fleiss([[2, 0], [2, 1], [0, 1]]) == pytest.approx((2 / 3 - chance) / (1 - chance))
    assert percent([[2, 0], [2, 1], [0, 1]]) == pytest.approx((1 + 1) / (1 + 3))
    assert percent([[1, 0]]) is None


def test_krippendorff_of_the_published_examples():
    # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability": examples A and C, and C as other levels.
    two = list(zip("0100000010", "1110010000", strict=True))
    assert krippendorff(two) == pytest.approx(0.095, abs=5e-4)
    assert krippendorff(UNITS) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff(UNITS, level="ordinal") == pytest.approx(0.815, abs=5e-4)
    assert krippendorff(UNITS, level="interval") == pytest.approx(0.849, abs=5e-4)
    assert krippendorff([["a", "a"], ["a", None]]) is None
    assert krippendorff([["a", "a"], ["b", None]]) is None
    assert krippendorff([]) is None and krippendorff([], level="interval") is None
    with pytest.raises(ValueError, match="level 'ratio'"):
        alpha([[1, 1]], "ratio")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=3, max_size=3), min_size=2, max_size=25),
       st.sampled_from(["nominal", "ordinal", "interval"]), st.sampled_from([1.0, -7.5, 1000.0]))
def test_alpha_is_that_of_the_krippendorff_package(units, level, step):
    package = pytest.importorskip("krippendorff")
    units = [[None if v is None else v * step + 3 for v in unit] for unit in units]
    twice = [kept for unit in units if len(kept := [v for v in unit if v is not None]) > 1]
    found = krippendorff(units, level=level)
    if len({v for unit in twice for v in unit}) < 2:
        assert found is None
    else:
        data = np.array([[np.nan if v is None else v for v in unit] for unit in units]).T
        assert found == pytest.approx(package.alpha(data, level_of_measurement=level), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=2, max_size=12), st.data())
def test_weights_are_as_good_as_drawing_the_items(counts, data):
    """Slow twin: the figure of the items that a resample holds, one by one."""
    places = data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=12))
    weights = np.bincount(places, minlength=len(counts))[None]
    drawn = np.array(counts)[places]
    for figure in (percent, fleiss, *(lambda c, w=None, k=k: alpha(c, k, values=[1, 2, 5], weights=w)
                                      for k in ("nominal", "ordinal", "interval"))):
        many, one = figure(counts, weights), figure(drawn)
        assert (np.isnan(many[0]) and one is None) or many[0] == pytest.approx(one, abs=1e-9)


def test_many_tables_at_once():
    tables = np.array([[[20, 5], [10, 15]], [[3, 0], [0, 0]]])
    found = cohen(tables, distances([0, 1]))
    assert found[0] == pytest.approx(0.4) and np.isnan(found[1])


def test_reasons():
    assert reason([[1, 0], [0, 1]]) == reason(np.zeros((0, 2))) == "no item was labelled twice"
    assert reason([[2, 0], [0, 1]]).startswith("all labels are the same")
    assert reason([[2, 0], [0, 2]]) == ""
