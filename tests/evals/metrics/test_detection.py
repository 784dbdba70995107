"""Telling two kinds apart: values by hand, scipy's U test, exhaustive search for the threshold."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from jitune.evals.metrics import detection


def test_auc():
    assert detection.auc([True, True, False], [0.9, 0.4, 0.4]) == 0.75
    assert detection.auc([True, False], [1, 0]) == 1.0
    assert detection.auc([True, False], [0, 1]) == 0.0
    assert detection.auc([True, True], [0, 1]) is None
    draw = np.random.default_rng(0)
    truth, scores = draw.random(200) < 0.3, draw.integers(0, 9, 200)
    other = mannwhitneyu(scores[truth], scores[~truth]).statistic / (truth.sum() * (~truth).sum())
    assert detection.auc(truth, scores) == pytest.approx(other)


def test_balanced_accuracy():
    assert detection.balanced_accuracy([True, True, False], [True, False, False]) == 0.75
    assert detection.balanced_accuracy([True] * 9 + [False], [True] * 10) == 0.5
    assert detection.balanced_accuracy([False], [False]) is None


def test_the_best_threshold_is_the_best_of_all():
    draw = np.random.default_rng(1)
    for _ in range(20):
        truth, scores = draw.random(30) < 0.4, draw.integers(0, 6, 30)
        if truth.any():
            found = detection.balanced_accuracy(truth, scores >= detection.best_threshold(truth, scores))
            assert found == pytest.approx(max(detection.balanced_accuracy(truth, scores >= t) for t in range(7)))
    assert detection.best_threshold([True], [1.0]) is None
