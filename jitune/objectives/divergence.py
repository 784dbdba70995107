"""How far the distribution of a student is from that of a teacher, at every token: pure functions of logits.

In: logits [..., vocab] float32 of both, or the teacher's k likeliest tokens. Out: [...] nats, 0 where they agree.

    dense("forward", teacher, student)       # teacher 0.5 0.5, student 0.25 0.75: 0.1438

`forward` is KL(teacher || student), `reverse` KL(student || teacher), and `jsd` the generalized Jensen-Shannon
divergence of GKD (arXiv 2306.13649, equation 1)

    beta KL(teacher || mixture) + (1 - beta) KL(student || mixture),  mixture = beta teacher + (1 - beta) student

whose ends are set to what it becomes there once divided by beta, or by 1 - beta: beta 0 is forward, 1 is reverse, as
in TRL. Both logits are divided by the temperature; the result is not multiplied by its square (GKD and TRL do not;
Hinton et al., arXiv 1503.02531, do, so that soft and hard targets keep their shares when it changes: with a temperature
T, a part in a mixed loss has a gradient about T^2 times smaller).

**The k likeliest.** What is known of the teacher then is the log-probabilities of k tokens, and that all others
together have the rest. Both distributions are put into k + 1 classes, the k tokens and everything else, and the
divergence is taken between these: 0 exactly if they agree on every class, never above the dense one (data
processing inequality), and the same at k = vocab. What it leaves out is how the rest is shared among its tokens: there,
the student keeps its own proportions. Without the class of the rest (k renormalised), a student would gain
nothing by giving the k the mass that the teacher gives them. A temperature acts on the k + 1 classes, for the tempered
mass of the rest does not follow from its mass; above 1 the rest then has less than it would have in the dense form.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

KINDS = ("forward", "reverse", "jsd")
# What the rest of a teacher has at least: stored log-probabilities are rounded, and may add up to 1.
LEAST = 2.0**-23


def dense(kind: str, teacher: jax.Array, student: jax.Array, *, beta: float = 0.5, temperature: float = 1.0):
    """The divergence over the whole vocabulary: teacher, student: finite logits [..., vocab] float32 -> [...].

    kind: one of KINDS; beta: of jsd, the teacher's part in the mixture, 0 to 1. The teacher has no gradient.
    """
    if temperature != 1:
        teacher, student = teacher / temperature, student / temperature
    return _dense(_settle(kind, beta), jax.lax.stop_gradient(teacher), student)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _dense(kind, teacher, student):
    return _forward(kind, teacher, student)[0]


def _forward(kind, teacher, student):
    """The value, and what its gradient is made of: sums over the vocabulary."""
    totals = [jax.nn.logsumexp(x, axis=-1, keepdims=True) for x in (teacher, student)]
    log_t, log_s, totals = _anew(teacher, student, totals)
    value = mean = between(kind, log_t, log_s, beta=None)
    if kind not in KINDS:
        log_t, log_s, totals = _anew(teacher, student, totals)
        mean = _kl(log_s, _mix(kind, log_t, log_s))
    return value, (teacher, student, totals, mean)


def _anew(teacher, student, totals):
    """Log-probabilities for one more pass over the vocabulary, and the totals for the next.

    The barrier hides from XLA that another pass has them too. It would keep what they share in an array as large as
    the logits, and writing and reading that takes longer than to compute it again.
    """
    totals = jax.lax.optimization_barrier(totals)
    return teacher - totals[0], student - totals[1], totals


def _backward(kind, saved, cotangent):
    """Of the student's logits, in one pass over them.

    With p_s, p_t the probabilities: forward p_s - p_t; reverse p_s (r - sum p_s r), r = log p_s - log p_t; jsd
    (1 - beta) times the same with r = log p_s - log mixture, for the parts through the mixture cancel.
    """
    teacher, student, totals, mean = saved
    log_t, log_s, _ = _anew(teacher, student, totals)
    if kind == "forward":
        gradient = jnp.exp(log_s) - jnp.exp(log_t)
    elif kind == "reverse":
        gradient = jnp.exp(log_s) * (log_s - log_t - mean[..., None])
    else:
        gradient = (1 - kind) * jnp.exp(log_s) * (log_s - _mix(kind, log_t, log_s) - mean[..., None])
    return None, gradient * cotangent[..., None]


_dense.defvjp(_forward, _backward)


def sparse(kind: str, ids, logprobs, student: jax.Array, *, beta: float = 0.5, temperature: float = 1.0):
    """The divergence over the teacher's k likeliest tokens and the rest, see above.

    ids: [..., k] integers; logprobs: [..., k] floats, of the teacher at temperature 1; student: logits [..., vocab]
    float32. Returns [...].
    """
    teacher, student = classes(ids, logprobs, student)
    if temperature != 1:
        teacher, student = (jax.nn.log_softmax(x / temperature, axis=-1) for x in (teacher, student))
    return between(kind, teacher, student, beta=beta)


def classes(ids, logprobs, student):
    """Log-probabilities of the k tokens and of the rest, by teacher and student: [..., k + 1] each, or k = vocab."""
    ids, logprobs = ids.astype(jnp.int32), jax.lax.stop_gradient(logprobs.astype(jnp.float32))
    chosen = jnp.take_along_axis(student, ids, axis=-1)
    if ids.shape[-1] == student.shape[-1]:
        return logprobs, jax.nn.log_softmax(chosen, axis=-1)
    rest = jnp.log(jnp.maximum(1 - jnp.exp(logprobs).sum(-1, keepdims=True), LEAST))
    # One minus the k would have no digits left where the rest is small, and no gradient that is right.
    others = jnp.put_along_axis(student, ids, -jnp.inf, axis=-1, inplace=False)
    others = jax.nn.logsumexp(others, axis=-1, keepdims=True)
    return jnp.concatenate([logprobs, rest], -1), jax.nn.log_softmax(jnp.concatenate([chosen, others], -1), axis=-1)


def between(kind: str, teacher: jax.Array, student: jax.Array, *, beta: float | None = 0.5) -> jax.Array:
    """The divergence of two distributions given by finite log-probabilities [..., classes] -> [...].

    beta None: kind is settled already.
    """
    kind = kind if beta is None else _settle(kind, beta)
    if kind == "forward":
        return _kl(teacher, student)
    if kind == "reverse":
        return _kl(student, teacher)
    mixture = _mix(kind, teacher, student)
    parts = kind * jnp.exp(teacher) * (teacher - mixture) + (1 - kind) * jnp.exp(student) * (student - mixture)
    return parts.sum(axis=-1)


def _settle(kind: str, beta: float) -> str | float:
    """forward, reverse, or the beta of a mixture that is neither."""
    if kind not in KINDS or not 0 <= beta <= 1:
        raise ValueError(f"no divergence {kind!r} with beta={beta}; known are {', '.join(KINDS)}, beta from 0 to 1")
    return {0: "forward", 1: "reverse"}.get(beta, float(beta)) if kind == "jsd" else kind


def _kl(log_p, log_q):
    return (jnp.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def _mix(beta: float, log_t, log_s):
    """log(beta t + (1 - beta) s). Where both underflow, so does what it is multiplied with."""
    mixture = beta * jnp.exp(log_t) + (1 - beta) * jnp.exp(log_s)
    return jnp.log(jnp.maximum(mixture, jnp.finfo(mixture.dtype).tiny))
