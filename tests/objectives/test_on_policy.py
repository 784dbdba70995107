"""On-policy batches: the coin, prompts out of packed rows, answers into rows, and GKD's two limits."""

import jax
import numpy as np
import pytest

from jitune.objectives.distill import distill
from jitune.objectives.on_policy import batch_of, coin, place, prompts_of
from jitune.transforms.full import full
from jitune.types import Beside
from tests.objectives.test_distill import make_teacher
from tests.test_step import make_batch, make_model

pytestmark = pytest.mark.core


def packed():
    """5 6 7 and 8 9 in a row, of which 7 and 9 are trained; then 4 3 2 1, of which nothing is, and an empty row."""
    return {
        "tokens": np.array([[5, 6, 7, 8, 9, 0, 0, 0], [4, 3, 2, 1, 0, 0, 0, 0], [0] * 8], np.int32),
        "loss_weights": np.array([[0, 1, 0, 1, 0, 0, 0, 0], [0] * 8, [0] * 8], np.float32),
        "segment_ids": np.array([[1, 1, 1, 2, 2, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0], [0] * 8], np.int32),
    }


def test_the_coin_follows_from_seed_and_step():
    assert not any(coin(seed, step, 0.0) for seed in (0, 1) for step in range(200))
    assert all(coin(seed, step, 1.0) for seed in (0, 1) for step in range(200))
    drawn = [coin(3, step, 0.3) for step in range(2000)]
    assert drawn == [coin(3, step, 0.3) for step in range(2000)] != [coin(4, step, 0.3) for step in range(2000)]
    assert abs(np.mean(drawn) - 0.3) < 0.03
    assert all(coin(3, step, 0.6) for step, on in enumerate(drawn) if on)


def test_prompts_are_what_comes_before_the_first_trained_token():
    assert prompts_of(packed()) == [[5, 6], [8]]
    assert prompts_of(packed(), max_new_tokens=7) == [[6], [8]]
    assert prompts_of(packed(), max_new_tokens=2, limit=3) == [[6], [8]]
    assert prompts_of(packed(), max_new_tokens=2, limit=4) == [[5, 6], [8]]


def test_answers_are_trained_and_nothing_else():
    new = batch_of([[5, 6], [8]], [[7, 2], [9, 2]], {"tokens": np.zeros((1, 8))})
    assert new["tokens"].tolist() == [[5, 6, 7, 2, 8, 9, 2, 0]]
    assert new["targets"].tolist() == [[6, 7, 2, 0, 9, 2, 0, 0]]
    assert new["loss_weights"].tolist() == [[0, 1, 1, 0, 1, 1, 0, 0]]
    assert new["segment_ids"].tolist() == [[1, 1, 1, 1, 2, 2, 2, 0]]
    assert new["positions"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 0]]
    assert new["tokens"].dtype == np.int32 and new["loss_weights"].dtype == np.float32


def test_there_are_rows_of_their_own_where_there_are_enough():
    assert place([[5, 6], [8]], [[7], [9]], 2, 8).rows in ([0, 1], [1, 0])


def test_what_does_not_fit_is_cut_or_dropped_and_counted():
    prompts, answers = [[1], [2], [3, 3], [4]], [[9] * 7, [9] * 5, [9, 9], []]
    placed = place(prompts, answers, 1, 12)
    # The longest takes 8 of the 12 slots, the next keeps 3 of its 5 tokens, the others find none; one has no answer.
    assert placed.rows == [0, 0, -1, -1] and placed.lengths[:2] == [8, 4]
    assert (placed.dropped, placed.cut) == (2, 1)
    new = batch_of(prompts, answers, {"tokens": np.zeros((1, 12))})
    assert new["loss_weights"].sum() == 7 + 3
    assert place([[1] * 9], [[2]], 1, 8).dropped == 1  # a prompt as long as the row


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_never_overfull(seed):
    rng = np.random.default_rng(seed)
    prompts = [[1] * n for n in rng.integers(1, 9, 20)]
    answers = [[2] * n for n in rng.integers(0, 14, 20)]
    placed = place(prompts, answers, 6, 24)
    used = np.bincount([r for r in placed.rows if r >= 0], [n for r, n in zip(placed.rows, placed.lengths, strict=True)
                                                           if r >= 0], 6)  # fmt: skip
    assert used.max() <= 24 and placed.dropped == placed.rows.count(-1)
    new = batch_of(prompts, answers, {"tokens": np.zeros((6, 24))}, placed)
    assert (new["segment_ids"] > 0).sum() == used.sum()
    assert len(prompts_of(new)) == 20 - placed.dropped


def test_the_limits_of_lambda():
    """At 0 a step is supervised distillation on the data; at 1 the data's answers do not matter, only its prompts."""
    (model, params), (teacher, other) = make_model(), make_teacher()
    loss = jax.jit(lambda batch: distill(teacher=teacher, chunk=64)(
        full().apply(model), (Beside({}, other), params), batch, None)[:2])  # fmt: skip

    def step(batch, share):
        if not coin(0, 5, share):
            return loss(batch)
        prompts = prompts_of(batch, max_new_tokens=4)
        answers = [[sum(prompt) % 100, 7, 9] for prompt in prompts]  # a student that looks at its prompt alone
        return loss(batch_of(prompts, answers, batch))

    batch = make_batch()
    trained = np.zeros_like(batch["tokens"], bool)
    trained[:, 1:] = np.maximum.accumulate(batch["loss_weights"] > 0, axis=1)[:, :-1]
    trained &= (batch["segment_ids"] > 0) & (batch["positions"] > 0)
    other_answers = {**batch, "tokens": np.where(trained, (batch["tokens"] + 1) % 112, batch["tokens"])}
    np.testing.assert_array_equal(step(batch, 0.0), loss(batch))
    assert step(other_answers, 0.0)[0] != step(batch, 0.0)[0]
    starts = prompts_of(batch, max_new_tokens=4)
    assert starts == prompts_of(other_answers, max_new_tokens=4)
    np.testing.assert_array_equal(step(batch, 1.0), step(other_answers, 1.0))
    assert step(batch, 1.0)[1] == 3 * len(starts)
