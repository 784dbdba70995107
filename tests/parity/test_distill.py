"""Divergences and their gradients against TRL's GKD and torch's kl_div."""

import pytest

torch = pytest.importorskip("torch", reason="the reference implementations need torch")
gkd = pytest.importorskip("trl.experimental.gkd.gkd_trainer", reason="the reference for GKD is TRL")

import jax
import numpy as np

from jitune.objectives.divergence import dense, sparse
from tests.references import GRADIENT, relative

torch.set_num_threads(1)
LOSS = 1e-6  # relative


def draw(seed=0, shape=(2, 7, 331)):
    """Logits of a teacher and a student, and labels of which a third is not trained."""
    rng = np.random.default_rng(seed)
    teacher, student = (rng.normal(0, 2.5, shape).astype(np.float32) for _ in range(2))
    return teacher, student, np.where(rng.random(shape[:2]) < 1 / 3, -100, 1)


@pytest.mark.parametrize("kind, beta, theirs", [
    ("forward", 0.5, 0.0), ("reverse", 0.5, 1.0), ("jsd", 0.0, 0.0), ("jsd", 1.0, 1.0), ("jsd", 0.5, 0.5),
    ("jsd", 0.1, 0.1), ("jsd", 0.9, 0.9),
])  # fmt: skip
@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
def test_generalized_jsd_of_trl(kind, beta, theirs, temperature):
    teacher, student, labels = draw()
    leaf = torch.tensor(student, requires_grad=True)
    wanted = gkd.GKDTrainer.generalized_jsd_loss(leaf, torch.tensor(teacher), torch.tensor(labels), beta=theirs,
                                                 temperature=temperature)  # fmt: skip
    wanted.backward()
    weights = (labels != -100).astype(np.float32)

    def loss(student):
        return (dense(kind, teacher, student, beta=beta, temperature=temperature) * weights).sum() / weights.sum()

    value, gradient = jax.value_and_grad(loss)(student)
    assert float(value) == pytest.approx(wanted.item(), rel=LOSS)
    assert relative(np.asarray(gradient), leaf.grad.numpy()) < GRADIENT


@pytest.mark.parametrize("kind", ["forward", "reverse"])
def test_likeliest_tokens_of_torch(kind):
    """kl_div over the k likeliest tokens and the rest, which torch has as a sum over what is left."""
    teacher, student, _ = draw(1)
    k = 20
    leaf = torch.tensor(student, requires_grad=True)
    ours, theirs = leaf.log_softmax(-1), torch.tensor(teacher).log_softmax(-1)
    values, ids = theirs.topk(k)
    others = torch.ones_like(theirs, dtype=torch.bool).scatter(-1, ids, False)

    def classes(logs):
        rest = logs.masked_fill(~others, -torch.inf).logsumexp(-1, keepdim=True)
        return torch.cat([logs.gather(-1, ids), rest], -1)

    pair = (classes(ours), classes(theirs))
    wanted = torch.nn.functional.kl_div(*(pair if kind == "forward" else pair[::-1]), reduction="sum", log_target=True)
    wanted = wanted / ids[..., 0].numel()
    wanted.backward()
    value, gradient = jax.value_and_grad(lambda s: sparse(kind, ids.numpy(), values.numpy(), s).mean())(student)
    assert float(value) == pytest.approx(wanted.item(), rel=LOSS)
    assert relative(np.asarray(gradient), leaf.grad.numpy()) < GRADIENT
