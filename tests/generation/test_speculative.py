"""Speculative decoding: answers are the target's own, whatever the draft proposes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jitune import sharding
from jitune.generation.generate import generate
from jitune.generation.sampling import Sampling, process
from jitune.generation.speculative import Speculation, check_draft, generate_speculative, stream_speculative
from jitune.types import Pretrained, UserError
from tests.data import toy
from tests.generation import scripted as toys

LENGTHS = (1, 2, 7, 31, 70, 33, 50, 5)
NEW = 40
ATOL = 2e-5


def noisy(params, size: float, seed: int = 5):
    """Parameters of a related model: each leaf with noise of `size` times its own spread."""
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(treedef, [x + size * jnp.std(x) * jax.random.normal(k, x.shape)
                                        for x, k in zip(leaves, keys, strict=True)])  # fmt: skip


def pretrained(made, tokenizer=None, size: float = 0.0) -> Pretrained:
    model, params, config = made
    return Pretrained(model, noisy(params, size) if size else params, tokenizer, config)


@pytest.fixture(scope="module")
def llama():
    return pretrained(toys.tiny())


@pytest.fixture(scope="module")
def drafts(llama):
    other = pretrained(toys.tiny("qwen3", num_hidden_layers=1))
    return {"same": llama, "related": llama._replace(params=noisy(llama.params, 0.05)), "random": other}


@pytest.fixture(scope="module")
def prompts():
    return toys.prompts_of(LENGTHS)


@pytest.fixture(scope="module")
def greedy(llama, prompts):
    return generate(*llama[:2], None, prompts, max_new_tokens=NEW)


def check(answers, expected):
    flat = [answer for several in answers for answer in several]
    assert [a.tokens for a in flat] == [a.tokens for a in expected]
    assert [a.finish_reason for a in flat] == [a.finish_reason for a in expected]
    for answer, whole in zip(flat, expected, strict=True):
        np.testing.assert_allclose(answer.logprobs, whole.logprobs, atol=ATOL)


@pytest.mark.parametrize("draft", ["same", "related", "random"])
def test_greedy_is_the_targets_own(llama, drafts, prompts, greedy, draft):
    answers, told = generate_speculative(llama, drafts[draft], prompts, max_new_tokens=NEW, draft_tokens=3)
    check(answers, greedy)
    assert told.tokens == len(prompts) * (NEW - 1) and told.drafted == 3 * told.rounds
    if draft == "same":
        assert told.acceptance == 1 and told.rounds == len(prompts) * -(-(NEW - 1) // 4)
    else:
        assert (0.3 < told.acceptance < 0.98) if draft == "related" else told.acceptance < 0.1
        assert 1 <= told.tokens_per_forward < 3.9
