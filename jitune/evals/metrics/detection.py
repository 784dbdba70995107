"""How well a number or a yes tells two kinds of items apart: AUC-ROC, balanced accuracy, the best threshold.

In: `truth` [n] of booleans, `scores` [n] of numbers (higher: more likely true), or `said` [n] of booleans.

    auc([True, True, False], [0.9, 0.4, 0.4])                  # (1 + 1/2) / 2 = 0.75: a tie is half right
    balanced_accuracy([True, True, False], [True, False, False])    # (1/2 + 1) / 2 = 0.75

None where it is not defined: one of the kinds is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def auc(truth: Sequence[bool], scores: Sequence[float]) -> float | None:
    """The chance that a true item scores above a false one, a tie counting half (Mann-Whitney U / (n1 n0))."""
    from scipy.stats import rankdata

    truth = np.asarray(truth, bool)
    true, false = truth.sum(), (~truth).sum()
    if not true or not false:
        return None
    ranks = rankdata(np.asarray(scores, np.float64))
    return float((ranks[truth].sum() - true * (true + 1) / 2) / (true * false))


def balanced_accuracy(truth: Sequence[bool], said: Sequence[bool]) -> float | None:
    """The mean of the shares found among true and among false items."""
    truth, said = np.asarray(truth, bool), np.asarray(said, bool)
    if truth.all() or not truth.any():
        return None
    return float((said[truth].mean() + (~said[~truth]).mean()) / 2)


def best_threshold(truth: Sequence[bool], scores: Sequence[float]) -> float | None:
    """The t for which `score >= t` has the highest balanced accuracy; the highest of equals.

    To be found on other items than those it is used on.
    """
    truth, scores = np.asarray(truth, bool), np.asarray(scores, np.float64)
    if truth.all() or not truth.any():
        return None
    order = np.argsort(-scores, kind="stable")
    truth, scores = truth[order], scores[order]
    gain = np.cumsum(truth) / truth.sum() - np.cumsum(~truth) / (~truth).sum()
    last = np.append(scores[1:] != scores[:-1], True)  # a threshold takes all items of one score
    return float(scores[last][np.argmax(gain[last])])
