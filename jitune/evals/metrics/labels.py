"""Metrics of predicted labels over a whole set, where classes are of unequal size.

    balanced_accuracy(["a", "a", "a", "b"], ["a", "a", "a", "a"])   # (3/3 + 0/1) / 2 = 0.5
    macro_f1(["a", "a", "a", "b"], ["a", "a", "a", "a"])            # (6/7 + 0) / 2 = 0.429
"""

from __future__ import annotations

from collections.abc import Sequence


def balanced_accuracy(golds: Sequence[str], predictions: Sequence[str]) -> float:
    """The mean over the classes of `golds` of the share that was predicted right (Brodersen et al. 2010)."""
    if not golds:
        raise ValueError("balanced accuracy needs at least one item")
    recalls = []
    for label in sorted(set(golds)):
        hits = [p == label for g, p in zip(golds, predictions, strict=True) if g == label]
        recalls.append(sum(hits) / len(hits))
    return sum(recalls) / len(recalls)


def macro_f1(golds: Sequence[str], predictions: Sequence[str], labels: Sequence[str] = ()) -> float:
    """The mean over the labels of F1 = 2TP/(2TP + FP + FN), in [0, 1].

    labels: those to average over; without them all that occur on either side, as in scikit-learn. A label that occurs
    nowhere has F1 0.
    """
    if not golds:
        raise ValueError("macro F1 needs at least one item")
    pairs, total = list(zip(golds, predictions, strict=True)), 0.0
    labels = labels or sorted({*golds, *predictions})
    for label in labels:
        hits = sum(g == p == label for g, p in pairs)
        named = sum(g == label for g, _ in pairs) + sum(p == label for _, p in pairs)
        total += 2 * hits / named if named else 0.0
    return total / len(labels)
