"""Balanced accuracy and macro F1 by hand and by scikit-learn."""

import random

import pytest

from jitune.evals.metrics import labels


def test_by_hand():
    golds, predictions = ["a", "a", "a", "b"], ["a", "a", "a", "a"]
    assert labels.balanced_accuracy(golds, predictions) == 0.5
    assert labels.macro_f1(golds, predictions) == pytest.approx(3 / 7)
    assert labels.macro_f1(golds, predictions, labels=("a", "b", "c")) == pytest.approx(2 / 7)
    for metric in (labels.balanced_accuracy, labels.macro_f1):
        with pytest.raises(ValueError, match="at least one item"):
            metric([], [])


def test_as_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    draw = random.Random(0)
    for _ in range(20):
        golds = draw.choices("aaabbc", k=50)
        predictions = draw.choices("abcd", k=50)
        with pytest.warns(UserWarning, match="classes not in y_true"):
            expected = metrics.balanced_accuracy_score(golds, predictions)
        assert labels.balanced_accuracy(golds, predictions) == pytest.approx(expected)
        expected = metrics.f1_score(golds, predictions, average="macro")
        assert labels.macro_f1(golds, predictions) == pytest.approx(expected)
