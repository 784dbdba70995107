"""Entries of results.json: values by hand; what is unscored is counted and in no mean."""

import json
import math

import numpy as np
import pytest

from jitune.evals import stats
from jitune.evals.aggregate import SLICE_REPLICATES, summarize
from jitune.evals.task import Document, Metric, Outcome
from jitune.types import UserError
from tests.evals.made_runs import ACCURACY, RATING, REFUSED, YES, make_documents, make_task, outcomes


def test_an_entry_by_hand():
    documents = make_documents(5, language=lambda i: "en" if i < 3 else "sw")
    entry = summarize(make_task(), documents, outcomes([1, 0, 1, None, 1]))
    assert (entry["n"], entry["unscored"], entry["extraction_failures"]) == (5, 1, 1)
    assert (entry["headline"], entry["axis"], entry["domain"]) == ("accuracy", "utility", "general")
    assert entry["languages"] == ["en", "sw"] and entry["failures"] == {"extraction": 1}
    found = entry["metrics"]["accuracy"]
    assert (found["value"], found["n"], found["unscored"], found["clusters"]) == (0.75, 4, 1, 4)
    assert (found["low"], found["high"]) == stats.wilson(3, 4) and found["method"] == "wilson"
    assert found["strict"] == pytest.approx(3 / 5), "the failed extraction counts as worst"
    assert (found["unit"], found["better"], found["chance"]) == ("share", "higher", 0.25)
    english, swahili = entry["slices"]["language"]["en"], entry["slices"]["language"]["sw"]
    assert (english["n"], english["accuracy"]["value"]) == (3, pytest.approx(2 / 3))
    assert (swahili["n"], swahili["accuracy"]["n"], swahili["accuracy"]["unscored"]) == (2, 1, 1)
    assert entry["slices"]["domain"]["general"]["accuracy"]["value"] == 0.75
    json.dumps(entry, allow_nan=False)


def test_a_failure_that_is_no_extraction_is_in_neither_reading():
    found = [Outcome({"accuracy": 1}), Outcome({"accuracy": None}, failure="judge")]
    entry = summarize(make_task(), make_documents(2), found)
    assert entry["metrics"]["accuracy"]["value"] == 1 and entry["metrics"]["accuracy"]["strict"] is None
    assert (entry["failures"], entry["extraction_failures"], entry["unscored"]) == ({"judge": 1}, 0, 1)


def test_strict_counts_the_worst_of_the_metric():
    metric = Metric("refused", "", better="lower", worst=1.0)
    entry = summarize(make_task(metrics=(metric,)), make_documents(4), outcomes([0, 0, None, None], "refused"))
    assert (entry["metrics"]["refused"]["value"], entry["metrics"]["refused"]["strict"]) == (0, 0.5)
    without = summarize(make_task(metrics=(REFUSED,)), make_documents(2), outcomes([0, None], "refused"))
    assert without["metrics"]["refused"]["strict"] is None


def test_nothing_scored_is_no_number():
    entry = summarize(make_task(), make_documents(3), outcomes([None] * 3))
    found = entry["metrics"]["accuracy"]
    assert [found[k] for k in ("value", "se", "low", "high", "n", "unscored", "method")] == [None] * 4 + [0, 3, "none"]
    assert found["strict"] == 0
    empty = summarize(make_task(metrics=(ACCURACY, YES)), [], [])
    assert (empty["n"], empty["metrics"]["yes"]["value"], empty["slices"]) == (0, None, {})


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, "1", [1]])
def test_scores_that_are_no_numbers_are_refused(score):
    with pytest.raises(UserError, match="colours: document d1: the score accuracy is .*finite number or None") as error:
        summarize(make_task(), make_documents(2), outcomes([1, score]))
    assert "\n" not in str(error.value)


def test_metrics_without_their_assessor_are_left_out():
    task, documents = make_task(metrics=(RATING, ACCURACY)), make_documents(2)
    found = [Outcome({"accuracy": 1, "rating": 7}), Outcome({"accuracy": 0, "rating": 8})]
    entry = summarize(task, documents, found)
    assert (entry["headline"], entry["left_out"], list(entry["metrics"])) == ("accuracy", ["rating"], ["accuracy"])
    entry = summarize(task, documents, found, available={"judge"})
    assert (entry["headline"], entry["left_out"], entry["metrics"]["rating"]["value"]) == ("rating", [], 7.5)
    none = summarize(make_task(metrics=(RATING,)), documents, found)
    assert (none["headline"], none["metrics"], none["unscored"]) == (None, {}, 0)


def test_a_metric_that_does_not_apply_is_not_unscored():
    found = [Outcome({"accuracy": 1}), Outcome({"refused": 1}), Outcome({"refused": None}), Outcome({"refused": 0})]
    entry = summarize(make_task(metrics=(REFUSED, ACCURACY)), make_documents(4, kind=lambda i: "ab"[i > 0]), found)
    refused = entry["metrics"]["refused"]
    assert (refused["value"], refused["n"], refused["unscored"]) == (0.5, 2, 1)
    assert entry["unscored"] == 1
    assert list(entry["slices"]["kind"]["a"]) == ["n", "accuracy"]


def test_clusters_widen_the_interval():
    documents = make_documents(40, cluster=lambda i: f"text {i // 4}")
    scores = [float(i // 4 % 2) for i in range(40)]
    found = summarize(make_task(), documents, outcomes(scores))["metrics"]["accuracy"]
    assert (found["method"], found["clusters"]) == ("clustered", 10)
    # Every cluster's residuals sum to 4 x +-0.5.
    assert found["se"] == pytest.approx(math.sqrt(10 * 4) / 40)
    assert found["high"] - found["low"] == pytest.approx(2 * stats.t_of(9) * found["se"])
    assert "10 clusters" in found["note"]


def test_intervals_of_shares_stay_within_0_and_1():
    share, plain = Metric("f1", "", unit="share"), Metric("f1", "", unit="")
    scores = [0.9, 1.0, 1.0, 0.95]
    mean = stats.mean_interval(scores)
    assert mean.high > 1
    found = summarize(make_task(metrics=(share,)), make_documents(4), outcomes(scores, "f1"))["metrics"]["f1"]
    assert (found["low"], found["high"]) == (pytest.approx(mean.low), 1)
    found = summarize(make_task(metrics=(plain,)), make_documents(4), outcomes(scores, "f1"))["metrics"]["f1"]
    assert found["high"] == pytest.approx(mean.high)
    signed = summarize(make_task(metrics=(share,)), make_documents(4), outcomes([-0.5, 0.2, -0.1, 0.1], "f1"))
    assert signed["metrics"]["f1"]["low"] < 0, "a bias from -1 to 1"


def test_corpus_metrics_are_bootstrapped_over_clusters():
    documents = make_documents(60, cluster=lambda i: f"text {i // 2}")
    found = [Outcome({}, answer="yes" if i % 3 else "no") for i in range(60)]
    task = make_task(metrics=(YES,))
    first = summarize(task, documents, found)
    metric = first["metrics"]["yes"]
    assert (metric["method"], metric["value"], metric["clusters"], metric["n"]) == ("bootstrap", 2 / 3, 30, 60)
    assert len(metric["replicates"]) == stats.REPLICATES and metric["corpus"]
    assert metric["low"] < 2 / 3 < metric["high"]
    values = np.array([float(bool(i % 3)) for i in range(60)])
    twin = stats.standard_error(values, [d.cluster for d in documents])
    assert metric["se"] == pytest.approx(twin, rel=0.1)
    order = list(np.random.default_rng(0).permutation(60))
    again = summarize(task, [documents[i] for i in order], [found[i] for i in order])
    assert again == first, "the order of loading does not matter"
    assert len(first["slices"]["domain"]["general"]["yes"]["replicates"]) == SLICE_REPLICATES


def test_corpus_metrics_count_what_failed():
    found = [Outcome({}, answer="yes"), Outcome({}, failure="extraction"), Outcome({"yes": None}, answer="no")]
    metric = summarize(make_task(metrics=(YES,)), make_documents(3), found)["metrics"]["yes"]
    assert (metric["n"], metric["unscored"], metric["value"]) == (1, 2, 0.5)
    nothing = summarize(make_task(metrics=(YES,)), make_documents(2), [Outcome({})] * 2)["metrics"]["yes"]
    assert (nothing["value"], nothing["low"], nothing["method"]) == (None, None, "none")
    one = summarize(make_task(metrics=(YES,)), make_documents(1), [Outcome({}, answer="yes")])["metrics"]["yes"]
    assert (one["value"], one["se"], one["method"]) == (1.0, None, "none")


def test_slices_are_tags_of_2_to_50_values():
    documents = make_documents(60, name=str, kind=lambda i: "ab"[i % 2], same=lambda i: "x",
                               fifty=lambda i: str(i % 50), rare=lambda i: "r" if i == 3 else "",
                               domain=lambda i: "law" if i < 10 else "")
    entry = summarize(make_task(), documents, outcomes([1] * 60))
    assert list(entry["slices"]) == ["domain", "fifty", "kind"]
    assert {v: s["n"] for v, s in entry["slices"]["domain"].items()} == {"general": 50, "law": 10}


def test_the_digest_of_documents_knows_the_rows_but_no_order():
    documents = make_documents(4)
    one = summarize(make_task(), documents, outcomes([1, 0, 1, 0]))["documents"]
    assert one == summarize(make_task(), documents[::-1], outcomes([1] * 4))["documents"]
    other = [*documents[:3], Document("d3", {"question": "another"}, (), target="red")]
    assert one != summarize(make_task(), other, outcomes([1] * 4))["documents"]
