"""The win rate that is left when the longer answer is not preferred for its length.

    controlled([1, 0.5, 0, 1], [900, 400, 300, 1200], [500, 400, 450, 600])["value"]

After AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475). What is fitted to the preferences y in [0, 1] (1: a, 0.5: a
tie) by maximum likelihood is

    logit p(a is preferred) = theta + phi tanh(d / sd(d)),    d = len(a) - len(b) in characters,

and the result is sigmoid(theta): the preference at no difference in length. Two things differ from the paper. Its term
for the difficulty of an instruction is left out, since it has to be estimated from many models. And phi has a penalty
of phi^2 / 2, a normal prior of unit variance, which weighs about as much as one comparison; the paper chooses its by
cross-validation. Swapping a and b gives 1 minus the result; where all lengths are equal the result is the mean of y.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, special

from jitune.evals.stats import group, t_of

PENALTY = 1.0


def controlled(y: Sequence[float], a: Sequence[float], b: Sequence[float], clusters: Sequence[str] | None = None
               ) -> dict:
    """{"value", "low", "high", "theta", "phi", "n", "note"}; value None where it cannot be told, and `note` says why.

    Args:
      y: preferences for a, [n]. a, b: lengths of the answers.
      clusters: as in `stats.standard_error`; the interval is theta's sandwich interval, taken through the sigmoid.
    """
    y, d = np.asarray(y, np.float64), np.asarray(a, np.float64) - np.asarray(b, np.float64)
    none = {"value": None, "low": None, "high": None, "theta": None, "phi": None, "n": len(y), "note": ""}
    if not len(y):
        return none | {"note": "nothing was compared"}
    if np.ptp(y) == 0 and y[0] in (0, 1):
        return none | {"value": float(y[0]), "note": "one side won everything: lengths explain nothing"}
    if np.ptp(y) == 0:
        return none | {"value": float(y[0]), "note": "nothing but ties: no error can be told"}
    if np.ptp(d) == 0 and d[0]:
        return none | {"note": f"all answers differ in length by {abs(d[0]):g}: its effect cannot be told apart"}
    x = np.tanh(d / d.std()) if np.ptp(d) else np.zeros_like(d)
    theta, phi = fit(y, x)
    error = _error(y, x, theta, phi, clusters)
    low = high = None
    if error is not None:
        half = t_of(int(group(clusters, len(y)).max())) * error
        low, high = float(special.expit(theta - half)), float(special.expit(theta + half))
    return none | {"value": float(special.expit(theta)), "low": low, "high": high, "theta": theta, "phi": phi}


def fit(y: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """(theta, phi) of the module's model, with x = tanh(d / sd(d)): [n]. y must not be all 0 or all 1."""

    def loss(at):
        z = at[0] + at[1] * x
        residual = special.expit(z) - y
        value = np.sum(np.logaddexp(0, z) - y * z) + PENALTY * at[1] ** 2 / 2
        return value, np.array([residual.sum(), residual @ x + PENALTY * at[1]])

    start = np.array([special.logit(y.mean()), 0.0])
    found = optimize.minimize(loss, start, jac=True, hess=lambda at: _hessian(x, *at), method="trust-exact",
                              options={"gtol": 1e-10 * max(1, len(y))})
    return float(found.x[0]), float(found.x[1])


def _hessian(x: np.ndarray, theta: float, phi: float) -> np.ndarray:
    p = special.expit(theta + phi * x)
    columns = np.stack([np.ones_like(x), x], 1)
    return columns.T @ (columns * (p * (1 - p))[:, None]) + np.diag([0.0, PENALTY])


def _error(y, x, theta: float, phi: float, clusters) -> float | None:
    """The standard error of theta, robust to clusters (Huber's sandwich); None for less than two clusters."""
    codes = group(clusters, len(y))
    count = int(codes.max()) + 1
    if count < 2:
        return None
    residual = y - special.expit(theta + phi * x)
    scores = np.zeros((count, 2))
    np.add.at(scores, codes, residual[:, None] * np.stack([np.ones_like(x), x], 1))
    inverse = np.linalg.inv(_hessian(x, theta, phi))
    return math.sqrt((inverse @ (scores.T @ scores) @ inverse)[0, 0] * count / (count - 1))
