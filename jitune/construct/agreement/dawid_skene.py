"""Labels that several people gave, weighed by how reliable each is: the model of Dawid and Skene (1979) by EM.

    found = estimate([0, 0, 0, 1, 1], [0, 1, 2, 0, 2], [1, 1, 0, 0, 0], items=2, annotators=3, labels=2)
    found.posterior        # [items, labels], how probable each label is the true one
    found.confusion        # [annotators, true label, given label]

"Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", Applied Statistics 28: equations 2.3
to 2.5, begun from the shares of each item's labels. An annotator may label an item several times.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

SMOOTHING = 0.01  # labels that every cell of a confusion matrix, and every true label, is given beforehand
TOLERANCE = 1e-7
STEPS = 2000


class Estimate(NamedTuple):
    """What EM found.

    posterior: [items, labels]; of an item without labels it is the prior.
    prior: [labels], the share of each true label.
    confusion: [annotators, labels, labels], how often an annotator says the second of items that are the first.
    objective: after each step, the log likelihood of the labels, and of the smoothing; it never falls.
    converged: the posterior moved by less than `tolerance` in the last step.
    """

    posterior: np.ndarray
    prior: np.ndarray
    confusion: np.ndarray
    objective: list[float]
    converged: bool

    def accuracy(self) -> np.ndarray:
        """[annotators] how often an annotator is right, over items as the prior has them."""
        return np.einsum("t,att->a", self.prior, self.confusion)


def estimate(item: Any, annotator: Any, code: Any, *, items: int, annotators: int, labels: int,
             smoothing: float = SMOOTHING, tolerance: float = TOLERANCE, steps: int = STEPS) -> Estimate:
    """Runs EM to its end.

    Args:
      item, annotator, code: [n] places of the item, of who labelled it, and of the label.
      items, annotators, labels: how many there are of each.
      smoothing: added to every count; 0 is the maximum likelihood of the paper.
      tolerance: EM ends where no posterior moves by more.
      steps: EM ends after so many in any case.
    """
    item, annotator, code = (np.asarray(x, dtype=np.int64) for x in (item, annotator, code))
    place, weight, item, said = _kinds(item, annotator * labels + code, items)
    kinds, annotator, code = len(weight), *np.divmod(said, labels)
    posterior = np.bincount(item * labels + code, minlength=kinds * labels).reshape(kinds, labels).astype(np.float64)
    weight = np.where(posterior.sum(1) > 0, weight, 0)  # items without labels say nothing
    posterior /= np.maximum(posterior.sum(1, keepdims=True), 1)
    objective, converged = [], False
    for _ in range(steps):
        prior, confusion = _maximize(posterior, weight, item, said, annotators, smoothing)
        with np.errstate(divide="ignore"):
            log_prior, log_confusion = np.log(prior), np.log(confusion)
        joint = np.tile(log_prior, (kinds, 1))
        np.add.at(joint, item, log_confusion[annotator, :, code])
        evidence = logsumexp(joint, axis=1, keepdims=True)
        penalty = smoothing * (log_confusion.sum() + log_prior.sum()) if smoothing else 0.0
        objective.append(float(weight @ evidence[:, 0] + penalty))
        before, posterior = posterior, np.exp(joint - evidence)
        converged = bool(np.abs(posterior - before)[weight > 0].max(initial=0.0) < tolerance)
        if converged:
            break
    return Estimate(posterior[place], prior, confusion, objective, converged)


def _kinds(item: np.ndarray, said: np.ndarray, items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Items of which the same people say the same count as one kind, since EM moves them alike.

    Args:
      item, said: [n] places of the item, and of who said what.

    Returns:
      ([items] the kind of each, [kinds] items of each, and for each kind once: [m] its place, [m] who said what).
    """
    order = np.lexsort((said, item))
    item, said = item[order], said[order]
    ends, known = np.searchsorted(item, np.arange(items + 1)), {}
    place = np.array([known.setdefault(said[start:end].tobytes(), len(known))
                      for start, end in zip(ends, ends[1:], strict=False)], dtype=np.int64)
    once = [np.frombuffer(kind, dtype=np.int64) for kind in known]
    return (place, np.bincount(place, minlength=len(known)), np.repeat(np.arange(len(once)), list(map(len, once))),
            np.concatenate(once) if once else said)


def _maximize(posterior: np.ndarray, weight: np.ndarray, item: np.ndarray, said: np.ndarray, annotators: int,
              smoothing: float) -> tuple[np.ndarray, np.ndarray]:
    """(prior, confusion) that fit the posterior best."""
    labels = posterior.shape[1]
    counted = posterior * weight[:, None]
    prior = counted.sum(0) + smoothing
    confusion = np.stack([np.bincount(said, counted[item, true], minlength=annotators * labels)
                          for true in range(labels)]).reshape(labels, annotators, labels).transpose(1, 0, 2) + smoothing
    rows = confusion.sum(2, keepdims=True)
    confusion = np.where(rows > 0, confusion / np.where(rows > 0, rows, 1), 1 / labels)
    return prior / prior.sum(), confusion
