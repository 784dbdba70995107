"""Several answers to a prompt, alternatives of tokens, log-probabilities of prompts."""

import jax
import numpy as np
import pytest

from jitune import sharding
from jitune.generation.generate import generate, stream
from jitune.generation.prompt_logprobs import prompt_logprobs
from jitune.generation.sampling import Sampling
from jitune.generation.several import CIRCLE, generate_several, sample_id
from jitune.transforms.prefix import prefix
from jitune.types import UserError
from tests.data import toy
from tests.generation import scripted as toys

LENGTHS = (1, 40, 7)
WARM = {"max_new_tokens": 8, "sampling": Sampling(temperature=1.0, seed=5, repetition_penalty=1.2)}
ATOL = 2e-5


@pytest.fixture(scope="module")
def llama():
    return toys.tiny()


@pytest.fixture(scope="module")
def prompts():
    return toys.prompts_of(LENGTHS)


def tokens_of(answers):
    return [[a.tokens for a in several] for several in answers]


@pytest.fixture(scope="module")
def four(llama, prompts):
    return tokens_of(generate_several(*llama[:2], None, prompts, n=4, **WARM))


def test_a_repeated_cache_answers_as_repeated_prompts(llama, prompts, four):
    ids = [sample_id(i, sample) for i in range(3) for sample in range(4)]
    apart = generate(*llama[:2], None, [p for p in prompts for _ in range(4)], row_ids=ids, **WARM)
    assert [t for several in four for t in several] == [a.tokens for a in apart]
    assert [several[0] for several in four] == [a.tokens for a in generate(*llama[:2], None, prompts, **WARM)]
    assert len({tuple(t) for several in four for t in several}) == 12


@pytest.mark.parametrize(("n", "batch_size"), [(4, 3), (3, 1), (7, 16)])
def test_a_sample_depends_on_its_number_alone(llama, prompts, four, n, batch_size):
    counted = []
    options = {**WARM, "batch_size": batch_size, "row_ids": [2, 0], "on_done": counted.append}
    answers = tokens_of(generate_several(*llama[:2], None, [prompts[2], prompts[0]], n=n, **options))
    assert [several[: min(n, 4)] for several in answers] == [four[2][:n], four[0][:n]]
    assert [len(several) for several in answers] == [n, n] and sum(counted) == 2 * n


def test_on_a_mesh(llama, prompts, four):
    mesh = sharding.make_mesh(2, 2, 2)
    placed = jax.device_put(llama[1], sharding.shardings(llama[1], mesh))
    assert tokens_of(generate_several(llama[0], placed, None, prompts, n=4, batch_size=8, **WARM)) == four


def test_behind_a_prefix(llama, prompts):
    model, params, _ = llama
    transform = prefix(3, model=model)
    pair = transform.init(jax.random.key(2), params)
    answers = generate_several(transform.apply(model), pair, None, prompts[:2], n=2, **WARM)
    ids = [sample_id(i, sample) for i in range(2) for sample in range(2)]
    apart = generate(transform.apply(model), pair, None, [prompts[i] for i in (0, 0, 1, 1)], row_ids=ids, **WARM)
    assert [t for several in tokens_of(answers) for t in several] == [a.tokens for a in apart]


def test_sample_ids_do_not_meet():
    ids = {sample_id(row, sample) for row in range(2000) for sample in range(200)}
    assert len(ids) == 400_000 and max(ids) < CIRCLE and sample_id(17, 0) == 17


def test_errors(llama):
    for options, message in (({"n": 0}, "n=0 must be at least 1"), ({"top_logprobs": 101}, "from 0 .none. to 100"),
                             ({"prompts": [[]]}, "prompt 1 of 1: the prompt is empty")):
        with pytest.raises(UserError, match=message):
            generate_several(*llama[:2], None, **{"prompts": [[1]], "n": 2, "max_new_tokens": 2, **options})
    assert generate_several(*llama[:2], None, [], n=2, max_new_tokens=2) == []


# Alternatives, and prompts.


def logits_of(llama, tokens):
    model, params, _ = llama
    padded = np.asarray([tokens + [0] * (96 - len(tokens))])
    logits = jax.jit(lambda t: model.unembed(params, model.hidden(params, {"tokens": t})[0]))(padded)
    return np.asarray(logits, np.float64)[0, : len(tokens)]


def check_top(top, logits):
    shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for pairs, row in zip(top, shares, strict=True):
        ids, values = zip(*pairs, strict=True)
        assert list(ids) == np.argsort(-row)[: len(ids)].tolist()
        np.testing.assert_allclose(values, row[list(ids)], atol=ATOL)


def test_top_logprobs_of_an_answer(llama, prompts):
    sampling = Sampling(temperature=1.5, seed=2, top_k=50)  # alternatives are of the logits before the filters
    answers = generate(*llama[:2], None, prompts, max_new_tokens=8, top_logprobs=5, sampling=sampling)
    for prompt, answer in zip(prompts, answers, strict=True):
        logits = logits_of(llama, prompt + answer.tokens)[len(prompt) - 1 : -1]
        assert len(answer.top_logprobs) == 8 and {len(pairs) for pairs in answer.top_logprobs} == {5}
        check_top(answer.top_logprobs, logits)
    (one,) = generate(*llama[:2], None, prompts[:1], max_new_tokens=2)
    assert one.top_logprobs is None


def test_top_logprobs_are_cut_with_their_tokens():
    tokenizer = toy.make_tokenizer()
    ids = tokenizer.encode("hello world, the fox")
    model, script = toys.scripted(3, len(tokenizer)), np.asarray([*ids, tokenizer.eos_token_id])
    options = {"max_new_tokens": 64, "stop_strings": ["the"], "stop_ids": [tokenizer.eos_token_id]}
    (answer,) = generate(model, script, tokenizer, [[1, 2, 3]], top_logprobs=2, **options)
    assert len(answer.top_logprobs) == len(answer.tokens) < len(ids)
    assert [pairs[0][0] for pairs in answer.top_logprobs] == answer.tokens
    assert "".join(stream(model, script, tokenizer, [1, 2, 3], **options)) == answer.text


def test_logprobs_of_prompts(llama, prompts):
    found = prompt_logprobs(*llama[:2], [*prompts, prompts[1][:30]], top=3, batch_size=2)
    for prompt, one in zip([*prompts, prompts[1][:30]], found, strict=True):
        assert one.logprobs[0] is None and one.top_logprobs[0] is None and len(one.logprobs) == len(prompt)
        logits = logits_of(llama, prompt)[:-1]
        shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        np.testing.assert_allclose(one.logprobs[1:], shares[range(len(prompt) - 1), prompt[1:]], atol=ATOL)
        check_top(one.top_logprobs[1:], logits)
    assert prompt_logprobs(*llama[:2], [prompts[1]], max_positions=40)[0].top_logprobs is None
    with pytest.raises(UserError, match="prompt 1 of 1: its 40 tokens are more than the model's context of 39"):
        prompt_logprobs(*llama[:2], [prompts[1]], max_positions=39)
    with pytest.raises(UserError, match="top=-1"):
        prompt_logprobs(*llama[:2], [prompts[1]], top=-1)
