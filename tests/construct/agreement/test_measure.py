"""Figures of a question: by hand, as without resampling, and clear where there are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.agreement import measure as module
from jitune.construct.agreement.labels import Label, Sheet, counts
from jitune.construct.agreement.measure import apart, by_pair, figure, kappas, measure, resamples, shared
from jitune.construct.agreement.queue import most_disagreed
from jitune.construct.agreement.reliability import majority, reliability
from jitune.evals import agreement
from jitune.evals.stats import draws, percentile


def table(text, **options):
    """Of "abb" (a label an annotator, . for none) an item."""
    sheet = Sheet(**options)
    for i, row in enumerate(text.split()):
        for who, label in enumerate(row):
            if label != ".":
                sheet.add(Label(f"i{i}", f"p{who}", "q", label))
    return sheet.table("q")


def test_figures_by_hand():
    # Pairs of labels: 3 alike of 3, 1 of 3, 1 of 1, none of the last.
    found = measure(table("aaa aab .bb a.."), replicates=50)
    assert (found["items"], found["twice"], found["labels"]) == (4, 3, 9) and found["raters"] == {1: 1, 2: 1, 3: 2}
    assert found["percent"]["value"] == pytest.approx(5 / 7)
    pairs = {(p["a"], p["b"]): p for p in found["pairs"]}
    assert pairs["p0", "p1"]["n"] == 2 and pairs["p0", "p1"]["reason"].startswith("all labels are the same")
    # p1 and p2: aa, ab, bb. Alike 2/3; by chance (2x1 + 1x2) / 9.
    assert pairs["p1", "p2"]["kappa"]["value"] == pytest.approx((2 / 3 - 4 / 9) / (5 / 9))
    assert pairs["p1", "p2"]["labels"] == ["a", "b"] and pairs["p1", "p2"]["confusion"] == [[1, 1], [0, 1]]
    # p0 says a and a, p2 a and b: alike 1/2, which chance gives too.
    assert pairs["p0", "p2"]["kappa"]["value"] == 0
    assert found["kappa"] == pytest.approx((0.4 + 0) / 2)
    a, b = found["by_label"]
    # Where one says a: 3 x 2 + 2 x 2 others, of whom 6 + 2 say it too.
    assert (a["n"], a["share"]) == (6, pytest.approx(6 / 9)) and a["specific"] == pytest.approx(8 / 10)
    assert (b["n"], b["specific"]) == (3, pytest.approx(2 / 4))
    assert found["apart"] == [] and found["reason"] == ""


def test_ordinal_and_interval_have_weighted_kappas_and_a_nominal_alpha():
    text = "12 22 23 33 13"
    names, ranks, values = (measure(table(text), level=level, replicates=20) for level in agreement.LEVELS)
    assert "nominal" not in names and names["pairs"][0]["linear"]["value"] is None
    assert ranks["nominal"]["value"] == values["nominal"]["value"] == names["alpha"]["value"]
    first, second = zip(*(map(int, pair) for pair in text.split()), strict=True)
    for level, found in (("ordinal", ranks), ("interval", values)):
        assert found["alpha"]["value"] == agreement.krippendorff(list(zip(first, second, strict=True)), level=level)
        for weights in ("linear", "quadratic"):
            wanted = agreement.kappa(first, second, weights=weights, order=[1, 2, 3])
            assert found["pairs"][0][weights]["value"] == pytest.approx(wanted)


def test_interval_weights_are_those_of_the_values():
    sheet = Sheet()
    for i, pair in enumerate(((1, 2), (2, 9), (9, 9), (1, 1))):
        for who, value in enumerate(pair):
            sheet.add(Label(str(i), str(who), "q", value))
    pair = by_pair(sheet.table("q"), shared(sheet.table("q")), level="interval", replicates=0)[0]
    # Sum of |v - w| 1 + 7; by chance (2 of 1, 1 of 2, 1 of 9) x (1, 1, 2): 2x(1 + 8x2) + (1 + 7x2) + (8 + 7), over 4.
    assert pair["linear"]["value"] == pytest.approx(1 - 8 * 4 / (2 * 17 + 15 + 15))


def test_of_many_annotators_the_pairs_with_the_most_items_are_listed(monkeypatch):
    made = table("aaa aab .bb a..")
    whole = measure(made, replicates=0)
    monkeypatch.setattr(module, "LISTED", 1)
    found = measure(made, replicates=0)
    assert [(p["a"], p["b"], p["n"]) for p in found["pairs"]] == [("p1", "p2", 3)]
    assert found["pairs_in_all"] == 3 and found["kappa"] == whole["kappa"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from("ab."), min_size=3, max_size=3).map("".join), min_size=3, max_size=10))
def test_pairs_are_those_of_each_two_annotators(rows):
    """Slow twin: each two annotators' labels picked by hand."""
    if all(label == "." for row in rows for label in row):
        return
    made = table(" ".join(rows))
    every = shared(made)
    found = {(p["a"], p["b"]): p for p in by_pair(made, every, replicates=0)}
    alone = dict(zip([tuple(made.annotators[i] for i in key) for key in every], kappas(every), strict=True))
    assert {names: agreement.number(kappa) for names, kappa in alone.items()} == {
        names: pytest.approx(p["kappa"]["value"]) for names, p in found.items()}
    for a in range(3):
        for b in range(a + 1, 3):
            both = [(row[a], row[b]) for row in rows if "." not in (row[a], row[b])]
            pair = found.get((f"p{a}", f"p{b}")) or found.get((f"p{b}", f"p{a}"))
            assert (pair["n"] if pair else 0) == len(both)
            if both:
                kappa = agreement.kappa(*zip(*both, strict=True))
                assert pair["kappa"]["value"] == (None if kappa is None else pytest.approx(kappa))
                assert pair["percent"]["value"] == pytest.approx(sum(x == y for x, y in both) / len(both))


def test_the_interval_is_that_of_drawing_items():
    """Slow twin: whole items drawn with replacement, one by one."""
    rng = np.random.default_rng(0)
    text = " ".join("".join(rng.choice(list("ab"), 3, p=[0.8, 0.2])) for _ in range(60))
    found = measure(table(text), replicates=2000)["alpha"]
    votes = counts(table(text))
    slow = percentile([agreement.alpha(votes[places]) for places in draws(None, 60, replicates=2000, seed=1)])
    assert found["low"] == pytest.approx(slow[1], abs=0.03) and found["high"] == pytest.approx(slow[2], abs=0.03)
    kinds, weights = resamples(votes, 10, 0)
    assert set(weights.sum(1)) == {60} and len(kinds) <= 4


def test_clusters_are_drawn_whole():
    """Ten times the same item in each cluster tells no more than once: the interval stays as wide."""
    text = "ab aa bb aa bb ba aa bb ab bb aa aa"
    once = measure(table(text), replicates=2000)
    often = table(" ".join(row for row in text.split() for _ in range(10)))
    clusters = np.repeat(np.arange(12), 10)
    drawn, alone = measure(often, clusters=clusters, replicates=2000), measure(often, replicates=2000)
    for pick in (lambda found: found["percent"], lambda found: found["pairs"][0]["kappa"]):
        wide, held, narrow = (pick(found)["high"] - pick(found)["low"] for found in (once, drawn, alone))
        assert held == pytest.approx(wide, rel=0.15) and narrow < 0.6 * wide
    rows = reliability(often, clusters=clusters), reliability(often)
    assert rows[0][0]["others"] == rows[1][0]["others"]
    assert rows[0][0]["high"] - rows[0][0]["low"] > 2 * (rows[1][0]["high"] - rows[1][0]["low"])


def test_where_there_is_nothing_to_compare():
    alone = measure(table("a b"), replicates=10)
    assert alone["reason"] == "no item was labelled twice" and alone["pairs"] == [] and alone["kappa"] is None
    assert all(alone[name] == {"value": None, "low": None, "high": None} for name in ("percent", "fleiss", "alpha"))
    same = measure(table("aa aa"), replicates=10)
    assert same["reason"].startswith("all labels are the same") and same["percent"]["value"] == 1
    assert same["alpha"]["value"] is None and same["fleiss"]["value"] is None
    assert figure(0.5, [np.nan] * 6 + [0.5, 0.6] * 2, 50) == {"value": 0.5, "low": None, "high": None}


def test_an_interval_that_would_look_certain_is_none():
    few, alike = measure(table("aa ab " * 4 + "bb"), replicates=200), measure(table("aa " * 30), replicates=200)
    for what in (few["percent"], few["alpha"], few["pairs"][0]["kappa"], few["by_label"][0]["alpha"]):
        assert what["value"] is not None and what["low"] is None and what["high"] is None  # of 9 items
    assert alike["percent"] == {"value": 1, "low": None, "high": None}
    enough = measure(table("aa ab " * 5), replicates=200)["percent"]
    assert 0 < enough["low"] < enough["value"] < enough["high"] < 1
    ten = measure(table("aa ab " * 10), clusters=[i // 4 for i in range(20)], replicates=200)
    assert ten["drawn"] == 5 and ten["percent"]["low"] is None  # twenty items of five rankings


def test_groups_that_never_overlap():
    assert apart(table("ab.. ba.. ..aa")) == [["p0", "p1"], ["p2", "p3"]]
    assert apart(table("ab. .ab")) == []


def test_annotators_against_the_majority_of_the_others():
    # p2 alone says b twice: of i0 and i1 the others say a. Of i2 the others of p0 and of p1 are tied.
    rows = {r["annotator"]: r for r in reliability(table("aab aab aba bbb"))}
    assert (rows["p2"]["n"], rows["p2"]["shared"], rows["p2"]["decided"]) == (4, 4, 3)
    assert rows["p2"]["others"] == pytest.approx(1 / 3)
    assert rows["p0"]["decided"] == 1 and rows["p0"]["others"] == 1 and rows["p0"]["kappa"] is None
    # p2 says b, b, b where the others say a, a, b; chance alone agrees on a third.
    assert rows["p2"]["kappa"] == 0 and rows["p2"]["given"] == {"a": 1, "b": 3}
    assert rows["p0"]["accuracy"] is None and rows["p0"]["seconds"] is None


def test_ties_have_no_majority():
    decided, label = majority(np.array([[2, 1], [1, 1], [0, 0], [0, 3]]))
    assert decided.tolist() == [True, False, False, True] and label[[0, 3]].tolist() == [0, 1]


def test_the_queue():
    # Pairs that differ: 0, 2/3, 1, 2/3, 1; of equals the entropy decides, then the order.
    found = most_disagreed(table("aaa aab ab. abb abc a.."))
    assert [place for place, *_ in found] == [4, 2, 1, 3]
    assert found[1] == (2, 1.0, 1.0) and found[2][1] == pytest.approx(2 / 3)
    assert found[0][2] == pytest.approx(np.log2(3)) and most_disagreed(table("a b")) == []
    assert [place for place, *_ in most_disagreed(table("12 13 23 15"), level="interval", count=3)] == [3, 1, 0]
