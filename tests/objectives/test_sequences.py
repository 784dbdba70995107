"""Log-probabilities of tokens, chunk by chunk, and their sums over documents, against plain twins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune.objectives.sequences import answers, reference_logprobs, sum_documents, token_logprobs
from tests.test_step import ROWS, SEQ, VOCAB, arrays, make_batch, make_model


def plain(model, params, batch):
    logits = model.unembed(params, model.hidden(params, batch)[0])
    return jnp.take_along_axis(jax.nn.log_softmax(logits), batch["targets"][..., None], axis=-1)[..., 0]


@pytest.mark.parametrize("chunk", [56, 1000])  # 7 of 32 tokens a row at a time, and all at once
def test_values_and_gradients_are_those_of_all_logits(chunk):
    model, params = make_model()
    batch, weights = make_batch(), np.random.default_rng(0).standard_normal((ROWS, SEQ))

    def total(params, function, *more):
        values = function(model, params, batch, *more)
        return (values * weights).sum(), values

    take = jax.jit(jax.value_and_grad(total, has_aux=True), static_argnums=(1, 2))
    ((_, ours), grads), ((_, theirs), expected) = take(params, token_logprobs, chunk), take(params, plain)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_logits_of_a_whole_batch_never_exist():
    model, params = make_model()
    batch = make_batch()

    def largest(chunk):
        jaxpr = jax.make_jaxpr(jax.grad(lambda p: token_logprobs(model, p, batch, chunk).sum()))(params)
        return max(np.prod(s) for s in arrays(jaxpr.jaxpr) if s and s[-1] == VOCAB and len(s) > 2)

    assert largest(1000) == ROWS * SEQ * VOCAB
    assert largest(64) == 64 * VOCAB


def test_the_reference_has_no_gradient():
    model, params = make_model()
    batch = {**make_batch(), "key": jax.random.key(0)}
    grads = jax.grad(lambda p: reference_logprobs(model, p, batch, 64).sum())(params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads))
    stored = np.ones((ROWS, SEQ), np.float16)
    found = reference_logprobs(None, params, {**batch, "reference_logprobs": stored})
    assert found.dtype == jnp.float32 and (found == 1).all()


def test_sums_of_documents_by_hand():
    batch = {
        "segment_ids": [1, 1, 1, 2, 2, 2, 0], "positions": [0, 1, 2, 0, 1, 2, 0],
        "loss_weights": [1, 1, 0, 1, 0.5, 0, 0], "sides": [1, 1, 1, -1, -1, -1, 0],
    }  # fmt: skip
    batch = {name: np.array([row, [0] * 7]) for name, row in batch.items()}
    values = jnp.array([[-1.0, -2, jnp.nan, -3, -4, jnp.nan, jnp.nan], [jnp.nan] * 7])
    found = answers(batch, values)
    np.testing.assert_array_equal(found.side, [[0, 1, -1, 0, 0, 0, 0, 0], [0] * 8])
    np.testing.assert_array_equal(found.logprob, [[0, -3, -5, 0, 0, 0, 0, 0], [0] * 8])
    np.testing.assert_array_equal(found.length, [[0, 2, 1.5, 0, 0, 0, 0, 0], [0] * 8])
    np.testing.assert_allclose(found.mean[0, :3], [0, -1.5, -10 / 3])


def test_sums_of_random_documents():
    rng = np.random.default_rng(0)
    segments = np.sort(rng.integers(0, 9, (3, 50)), axis=1)
    values = rng.standard_normal((3, 50)).astype(np.float32)
    found = np.asarray(sum_documents(values, segments))
    assert found.shape == (3, 51)
    for row in range(3):
        for segment in range(51):
            np.testing.assert_allclose(found[row, segment], values[row][segments[row] == segment].sum(), atol=1e-5)
