"""Objectives that learn which of two answers is better, or whether one is wanted: DPO, SimPO, ORPO, KTO.

In: a batch with `sides` (see `types.Batch`), pairs or answers with labels packed in its rows. Out: an objective
`(model, params, batch, key) -> (loss_sum, weight_sum, metrics)`; weight_sum is the number of pairs, for KTO of answers.

    objective = dpo(loss="sigmoid", beta=0.1, reference=adapter_off)
    loss_sum, pairs, metrics = objective(model, (frozen, trainable), batch, key)
    metrics["margin"] / pairs       # how much further the wanted answers rose than the unwanted ones

The reference is a Model over the same params that leaves out what is trained, or None where the batch brings its
log-probabilities. Metrics are sums over pairs, of KTO see there: chosen_logprob and rejected_logprob (of whole
answers), chosen_reward and rejected_reward (beta times what the method compares), margin, accuracy (the wanted answer
has the higher reward) and nll, of the wanted answer a token, where it is a part of the loss. Fallen chosen_logprobs
beside a growing margin say that a model unlearns both answers; nll_weight holds the wanted ones up.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jitune.objectives.balance import balanced
from jitune.objectives.sequences import Answers, answers, logprobs_and_routed, reference_logprobs
from jitune.types import MISMATCHED, Model, UserError

LOSSES = ("sigmoid", "hinge", "ipo", "robust")


def dpo(*, loss: str = "sigmoid", beta: float = 0.1, label_smoothing: float = 0.0, length_normalized: bool = False,
        nll_weight: float = 0.0, reference: Model | None = None, chunk: int = 1024) -> Callable:  # fmt: skip
    """Direct preference optimization; z is the difference of the two log-ratios to the reference.

    Args:
      loss: sigmoid, -log sigmoid(beta z) (arXiv 2305.18290); hinge, max(0, 1 - beta z) (SLiC, 2305.10425); ipo,
        (z - 1 / (2 beta))^2 with log-ratios a token (2310.12036, averaged as its authors do); robust, sigmoid made
        unbiased under labels that are flipped with the probability label_smoothing (2403.00409).
      label_smoothing: for sigmoid, the share of pairs whose labels may be flipped (conservative DPO).
      length_normalized: log-ratios a token in every loss.
      nll_weight: of the wanted answer's cross-entropy a token, in every pair (2404.19733).

    Raises:
      UserError: an option is out of its range.
    """
    _check("loss", loss, loss in LOSSES, ", ".join(LOSSES))
    _check("beta", beta, beta > 0, "above 0")
    _check("nll_weight", nll_weight, nll_weight >= 0, "0 or more")
    _check("label_smoothing", label_smoothing, 0 <= label_smoothing < 0.5, "from 0 up to 0.5")
    if loss in ("hinge", "ipo"):
        _check("label_smoothing", label_smoothing, not label_smoothing, f"0 with loss={loss}")

    def compare(ours: Answers, batch, params):
        theirs = answers(batch, reference_logprobs(reference, params, batch, chunk))
        ratios = ours.mean - theirs.mean if length_normalized or loss == "ipo" else ours.logprob - theirs.logprob
        return beta * ratios

    def grade(margin):
        return dpo_loss(margin, loss=loss, beta=beta, label_smoothing=label_smoothing)

    return _pairwise(compare, grade, nll_weight=nll_weight, chunk=chunk)


def dpo_loss(margin, *, loss: str = "sigmoid", beta: float = 0.1, label_smoothing: float = 0.0):
    """DPO's loss of margins, beta times the difference of the two log-ratios (a token for ipo); any shape."""
    if loss == "hinge":
        return jax.nn.relu(1.0 - margin)
    if loss == "ipo":
        return jnp.square(margin / beta - 1.0 / (2.0 * beta))
    right, flipped = -jax.nn.log_sigmoid(margin), -jax.nn.log_sigmoid(-margin)
    if loss == "robust":
        return ((1.0 - label_smoothing) * right - label_smoothing * flipped) / (1.0 - 2.0 * label_smoothing)
    return (1.0 - label_smoothing) * right + label_smoothing * flipped if label_smoothing else right


def simpo(*, beta: float = 2.0, gamma: float = 0.5, nll_weight: float = 0.0, chunk: int = 1024) -> Callable:
    """SimPO (arXiv 2405.14734, eq. 6): no reference, log-probabilities a token, and a margin of gamma * beta.

    gamma: the margin as a part of beta, the paper's gamma / beta.
    """
    _check("beta", beta, beta > 0, "above 0")
    _check("gamma", gamma, gamma >= 0, "0 or more")
    _check("nll_weight", nll_weight, nll_weight >= 0, "0 or more")

    def compare(ours: Answers, batch, params):
        return beta * ours.mean

    return _pairwise(compare, lambda margin: -jax.nn.log_sigmoid(margin - gamma * beta), nll_weight=nll_weight,
                     chunk=chunk)  # fmt: skip


def orpo(*, beta: float = 0.1, chunk: int = 1024) -> Callable:
    """ORPO (arXiv 2403.07691, eq. 6 and 7): the wanted answer's cross-entropy a token, and beta times the log-sigmoid
    of the log odds ratio of the two answers, whose probabilities are means a token. No reference."""
    _check("beta", beta, beta > 0, "above 0")

    def compare(ours: Answers, batch, params):
        return beta * ours.mean

    def grade(chosen, rejected):
        log_odds = chosen - rejected - (log1mexp(chosen) - log1mexp(rejected))
        return -beta * jax.nn.log_sigmoid(log_odds)

    return _pairwise(compare, None, nll_weight=1.0, chunk=chunk, of_means=grade)


def log1mexp(x):
    """log(1 - exp(x)) for x < 0, exact near 0 and far from it (Maechler 2012)."""
    x = jnp.minimum(x, -1e-7)  # an answer that is certain has odds without bound
    near = x > -0.6931472
    return jnp.where(near, jnp.log(-jnp.expm1(jnp.where(near, x, -0.5))), jnp.log1p(-jnp.exp(jnp.where(near, -1.0, x))))


def _pairwise(compare: Callable, grade: Callable | None, *, nll_weight: float, chunk: int,
              of_means: Callable | None = None) -> Callable:  # fmt: skip
    """The objective of pairs: `compare(answers, batch, params)` gives rewards, `grade(margins)` losses.

    of_means: `(wanted, unwanted) -> losses`, in place of `grade`, of log-probabilities a token.
    """

    def objective(model: Model, params, batch, key):
        logprobs, routed = logprobs_and_routed(model, params, _with_key(batch, key), chunk)
        ours = answers(batch, logprobs)
        # A pair is a wanted document with the unwanted one next to it: entry i is of segments i and i + 1.
        is_pair = (ours.side[:, :-1] == 1) & (ours.side[:, 1:] == -1)
        rewards = compare(ours, batch, params)
        margin = rewards[:, :-1] - rewards[:, 1:]
        if of_means:
            # Where there is no pair, values that every function takes, for gradients pass through `where`.
            means = (jnp.where(is_pair, mean, -1.0) for mean in (ours.mean[:, :-1], ours.mean[:, 1:]))
            losses = of_means(*means)
        else:
            losses = grade(margin)

        def total(values):
            return jnp.where(is_pair, values, 0.0).sum()

        loss_sum, pairs = total(losses), is_pair.astype(jnp.float32).sum()
        metrics = {"chosen_logprob": total(ours.logprob[:, :-1]), "rejected_logprob": total(ours.logprob[:, 1:]),
                   "chosen_reward": total(rewards[:, :-1]), "rejected_reward": total(rewards[:, 1:]),
                   "margin": total(margin), "accuracy": total((margin > 0).astype(jnp.float32))}  # fmt: skip
        if nll_weight:
            nll = total(-ours.mean[:, :-1])
            loss_sum, metrics["nll"] = loss_sum + nll_weight * nll, nll
        return balanced((loss_sum, pairs, metrics), routed, training=key is not None)

    return objective


def kto(*, beta: float = 0.1, wanted_weight: float = 1.0, unwanted_weight: float = 1.0,
        reference: Model | None = None, chunk: int = 1024) -> Callable:  # fmt: skip
    """KTO (arXiv 2402.01306, eq. 8): weight * (1 - sigmoid(beta (r - z))) of wanted answers, and with z - r of unwanted
    ones, where r is the log-ratio of an answer to the reference.

    The reference point z is the mean log-ratio of the mismatched answers, 0 at least and without a gradient, of one
    microbatch over all devices. With none of them it is 0.

    Metrics of one side, chosen_* and rejected_*, are pairs (sum, answers of that side), which `step.means` divides; of
    a batch without them they are nan. wanted: the share of the wanted. margin: how far rewards are on the right side of
    the reference point; accuracy: whether. reference_point: beta z.
    """
    _check("beta", beta, beta > 0, "above 0")
    for name, value in (("wanted_weight", wanted_weight), ("unwanted_weight", unwanted_weight)):
        _check(name, value, value >= 0, "0 or more")

    def objective(model: Model, params, batch, key):
        logprobs, routed = logprobs_and_routed(model, params, _with_key(batch, key), chunk)
        ours = answers(batch, logprobs)
        theirs = answers(batch, reference_logprobs(reference, params, batch, chunk))
        ratios, side = ours.logprob - theirs.logprob, ours.side
        point = jax.lax.stop_gradient(reference_point(ratios, side))
        judged = jnp.where(side == MISMATCHED, 0, side)  # 1, -1 or 0
        margin = judged * beta * (ratios - point)
        weights = jnp.where(judged > 0, wanted_weight, unwanted_weight)
        losses = jnp.where(judged != 0, weights * jax.nn.sigmoid(-margin), 0.0)

        def of_side(values, mask):
            return jnp.where(mask, values, 0.0).sum(), mask.astype(jnp.float32).sum()

        wanted, unwanted = judged > 0, judged < 0
        right, count = (x.astype(jnp.float32).sum() for x in (margin > 0, judged != 0))
        metrics = {"chosen_logprob": of_side(ours.logprob, wanted), "rejected_logprob": of_side(ours.logprob, unwanted),
                   "chosen_reward": of_side(beta * ratios, wanted),
                   "rejected_reward": of_side(beta * ratios, unwanted),
                   "margin": margin.sum(), "accuracy": right, "wanted": wanted.astype(jnp.float32).sum(),
                   "reference_point": beta * point * count}  # fmt: skip
        return balanced((losses.sum(), count, metrics), routed, training=key is not None)

    return objective


def reference_point(ratios, side):
    """The mean log-ratio of the mismatched answers, 0 at least: a scalar of [batch, documents]."""
    mismatched = side == MISMATCHED
    mean = jnp.where(mismatched, ratios, 0.0).sum() / jnp.maximum(mismatched.sum(), 1)
    return jnp.maximum(mean, 0.0)


def _with_key(batch, key):
    return batch if key is None else {**batch, "key": jax.random.fold_in(key, 1)}


def _check(name: str, value, good: bool, allowed: str) -> None:
    if not good:
        raise UserError(f"objective: {name}={value!r} must be {'one of ' * (name == 'loss')}{allowed}")
