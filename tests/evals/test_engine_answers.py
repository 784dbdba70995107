"""Answers in fixed shapes: those of `generate`, whatever else is asked beside them."""

from dataclasses import replace

import numpy as np
import pytest

from jitune.evals.engine import answers
from jitune.evals.engine.engine import open_engine
from jitune.evals.task import Generate, chat
from jitune.generation.decode_loop import BLOCK
from jitune.generation.generate import generate
from jitune.generation.prompts import encode_prompt
from jitune.generation.sampling import Sampling
from tests.evals import twin
from tests.evals.twin import LIMIT

LENGTHS = (1, 2, 130, 31, 200, 127, 128, 129, 50, 5)


@pytest.fixture(scope="module")
def llama():
    return twin.pretrained()


@pytest.fixture(scope="module")
def engine(llama):
    return open_engine(llama, batch_size=4, max_length=LIMIT)


@pytest.fixture(scope="module")
def prompts(llama):
    rng = np.random.default_rng(1)
    return [rng.integers(1, llama.config.vocab_size, n).tolist() for n in LENGTHS]


def as_generate(llama, engine, prompts, new, **options):
    """The same answers by `generate`: (text, finish_reason, tokens) of each."""
    found = generate(llama.model, llama.params, llama.tokenizer, prompts, max_new_tokens=new, stop_ids=engine.stop_ids,
                     **options)  # fmt: skip
    return [(g.text, g.finish_reason, len(g.tokens)) for g in found]


def as_tuples(found):
    return [(g.text, g.finish_reason, g.tokens) for g in found]


def test_greedy_answers_are_those_of_generate(llama, engine, prompts):
    found = engine.generate_tokens(prompts, max_new_tokens=40)
    assert as_tuples(found) == as_generate(llama, engine, prompts, 40)
    assert len({g.text for g in found}) == len(prompts) and not any(g.truncated for g in found)
    assert engine.stats["generated_tokens"] == sum(g.tokens for g in found)


def test_a_cache_that_grows(llama):
    engine = open_engine(llama, batch_size=4)
    prompts = [[5, 6, 7], [9] * 300, [3] * 200]
    found = engine.generate_tokens(prompts, max_new_tokens=[200, 3, 90])
    assert as_tuples(found[:1]) == as_generate(llama, engine, prompts[:1], 200)
    assert as_tuples(found[1:2]) == as_generate(llama, engine, prompts[1:2], 3)
    assert as_tuples(found[2:]) == as_generate(llama, engine, prompts[2:], 90)
    assert found[0].tokens > 512 - 384


def test_limits_and_stops_of_each_prompt(llama, engine, prompts):
    whole = engine.generate_tokens(prompts, max_new_tokens=40)
    new = [1 + 4 * i for i in range(len(prompts))]
    stop = [(g.text[7:9], "absent") if i % 2 else () for i, g in enumerate(whole)]
    stop[4] = ("<|im_start|>",)  # a special token: no text holds it
    finished = []
    found = engine.generate_tokens(prompts, max_new_tokens=new, stop=stop, on_done=finished.extend)
    for i in range(len(prompts)):
        expected = as_generate(llama, engine, [prompts[i]], new[i], stop_strings=stop[i])
        assert as_tuples([found[i]]) == expected
    assert dict(finished) == dict(enumerate(found)) and len(finished) == len(found)
    assert {g.finish_reason for g in found} == {"stop", "length"}


def test_samples_depend_on_prompt_and_number_alone(llama, engine, prompts):
    asked = [Generate("the quick", 12, (), 0.8, i) for i in range(5)] + [Generate("hello", 12, (), 0.8, 1)]
    found = engine.answer(asked)
    assert len({g.text for g in found}) == 6
    many = [Generate(f"word {i}", 3 * i + 1, (), 0.5 * (i % 3), 0) for i in range(9)]
    assert engine.answer([*many, *asked[::-1]])[len(many) :] == found[::-1]
    alone = open_engine(llama, batch_size=1, max_length=LIMIT)
    assert alone.answer(asked[2:3]) == found[2:3]
    ids = encode_prompt(llama.tokenizer, {"prompt": "the quick"})
    assert engine.generate_tokens([ids] * 5, max_new_tokens=12, temperature=0.8) == found[:5], "numbered as they come"
    options = {"sampling": Sampling(temperature=0.8), "row_ids": [answers.seed(answers.Job(tuple(ids), 12, sample=3))]}
    assert as_tuples(found[3:4]) == as_generate(llama, engine, [ids], 12, **options)


def test_equal_prompts_are_answered_once_where_nothing_is_drawn(engine):
    before = engine.stats["prompt_tokens"]
    asked = [Generate("the user asks", 5), Generate("the user asks", 5, (), 0.0, 1), Generate("the user asks", 5)]
    found = engine.answer(asked)
    assert found[0] == found[1] == found[2]
    ids = encode_prompt(engine.pretrained.tokenizer, {"prompt": "the user asks"})
    assert engine.stats["prompt_tokens"] - before == len(ids)


def test_a_long_prompt_is_cut_on_the_left(llama, engine):
    rng = np.random.default_rng(2)
    prompt = rng.integers(1, llama.config.vocab_size, 400).tolist()
    found = engine.generate_tokens([prompt, prompt[:50]], max_new_tokens=30)
    assert [g.truncated for g in found] == [400 - (LIMIT - 30), 0]
    assert as_tuples(found) == as_generate(llama, engine, [prompt[-(LIMIT - 30) :], prompt[:50]], 30)
    before = engine.stats["shortened"]
    (found,) = engine.generate_tokens([prompt], max_new_tokens=LIMIT)
    assert (found.truncated, found.tokens) == (400 - LIMIT // 2, LIMIT // 2) or found.finish_reason == "stop"
    assert engine.stats["shortened"] == before + 1


def test_each_prompt_may_have_penalties_of_its_own(llama, engine, prompts):
    ways = [Sampling(presence_penalty=2.0, frequency_penalty=1.0), Sampling(), Sampling(top_k=3)]
    asked = [(prompts[i % 10], ways[i % 3 if i < 6 else 0], (0.7, 0.0)[i % 2]) for i in range(12)]
    found = engine.generate_tokens([p for p, *_ in asked], max_new_tokens=12, temperature=[t for *_, t in asked],
                                   sampling=[s for _, s, _ in asked], samples=[0] * 12)
    for (prompt, sampling, heat), answer in zip(asked, found, strict=True):
        seed = answers.seed(answers.Job(tuple(prompt), 12))
        expected = as_generate(llama, engine, [prompt], 12, sampling=replace(sampling, temperature=heat),
                               row_ids=[seed])
        assert as_tuples([answer]) == expected


def test_filters_hold_besides_the_temperature(llama, engine, prompts):
    given = {"top_k": 3, "repetition_penalty": 1.3}
    found = engine.generate_tokens(prompts[:4], max_new_tokens=9, temperature=[0.7, 0.0, 0.7, 0.0],
                                   sampling=Sampling(**given))  # fmt: skip
    for i, heat in enumerate((0.7, 0.0, 0.7, 0.0)):
        seed = answers.seed(answers.Job(tuple(prompts[i]), 9))
        expected = as_generate(llama, engine, [prompts[i]], 9, sampling=Sampling(temperature=heat, **given),
                               row_ids=[seed])  # fmt: skip
        assert as_tuples([found[i]]) == expected


def test_conversations(llama, engine):
    (found,) = engine.answer([Generate(chat("hello", "be kind"), 8)])
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    assert as_tuples([found]) == as_generate(llama, engine, [encode_prompt(llama.tokenizer, {"messages": messages})], 8)
    assert engine.render(chat("hello")) == "<bos><|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


def test_a_cache_holds_any_prompt_with_its_answer():
    for limit in (100, 1000, 2048, 8192):
        for length, new in ((limit - 1, 1), (1, limit - 1), (limit // 2, limit // 2), (3, 5)):
            shape = answers.shape_of(length, limit)
            used = -(-length // shape.chunk) * shape.chunk
            assert used < shape.capacities[0] and length + new + BLOCK <= shape.capacities[-1]
            assert shape.width >= length and shape.width % shape.chunk == 0
