"""Decoding: the same tokens at any batch size, in batches and in a queue; ropes that turn; few programs."""

from contextlib import nullcontext
from functools import partial

import jax
import numpy as np
import pytest

from jitune import hoist, sharding, tree
from jitune.generation import batches, decode_loop, slots
from jitune.generation.batches import Answer, pad, pad_stops, queue_shape
from jitune.generation.generate import generate, stream
from jitune.generation.sampling import GREEDY, Sampling
from jitune.models import decoder
from jitune.models.rope import Rope
from jitune.transforms.chain import chain
from jitune.transforms.lora import lora
from jitune.transforms.quantize import quantize
from jitune.types import UserError
from tests.generation import scripted as toys

LENGTHS, NEW = (3, 40, 70, 5, 9, 20, 33, 1, 2, 64, 11), 24
SIZES = (3, 8)


def tokens_of(answers):
    return [answer.tokens for answer in answers]


@pytest.fixture(scope="module")
def mixed():
    """A full layer, and two whose rings of 64 slots the longest rows below go round."""
    return toys.tiny("qwen3", use_sliding_window=True, sliding_window=9, max_window_layers=1, num_hidden_layers=3)


@pytest.fixture(scope="module")
def prompts():
    return toys.prompts_of(LENGTHS)


@pytest.fixture(scope="module")
def alone(mixed, prompts):
    return generate(*mixed[:2], None, prompts, max_new_tokens=NEW, batch_size=1)


@pytest.mark.parametrize("batch_size", SIZES)
def test_greedy_tokens_at_any_batch_size(mixed, prompts, alone, batch_size):
    answers = generate(*mixed[:2], None, prompts, max_new_tokens=NEW, batch_size=batch_size)
    assert tokens_of(answers) == tokens_of(alone) and len(set(map(tuple, tokens_of(alone)))) > 5


def test_a_queue_gives_each_its_own(mixed, prompts, alone, monkeypatch):
    """With stop ids, answers end at different times, and rows take the next prompt."""
    stops = [alone[1].tokens[5], alone[2].tokens[2], alone[0].tokens[9]]
    expected = generate(*mixed[:2], None, prompts, max_new_tokens=NEW, batch_size=16, stop_ids=stops)
    assert len({len(a.tokens) for a in expected}) >= 3
    puts, insert = [], slots.insert
    monkeypatch.setattr(slots, "insert", lambda *args, **options: puts.append(1) or insert(*args, **options))
    counts = []
    found = generate(*mixed[:2], None, prompts, max_new_tokens=NEW, batch_size=3, stop_ids=stops, top_logprobs=2,
                     on_done=counts.append)  # fmt: skip
    assert tokens_of(found) == tokens_of(expected) and sum(counts) == len(prompts) and len(puts) >= 5
    for one, other in zip(found, expected, strict=True):
        assert one.finish_reason == other.finish_reason
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=5e-5)
        assert [pairs[0][0] for pairs in one.top_logprobs] == one.tokens


def test_int8_is_the_same_at_any_batch_size(mixed, prompts, alone):
    one, three = (generate(*mixed[:2], None, prompts, max_new_tokens=NEW, batch_size=n, kv_cache="int8")
                  for n in (1, 3))  # fmt: skip
    assert tokens_of(one) == tokens_of(three)
    assert sum(a == b for a, b in zip(tokens_of(one), tokens_of(alone), strict=True)) >= 5
    with pytest.raises(UserError, match="kv_cache='int4' is not known"):
        generate(*mixed[:2], None, prompts, max_new_tokens=1, kv_cache="int4")


def test_structured_weights_at_any_batch_size(mixed):
    """Their layers are cut once, in their own form: codes stay codes, and factors stay apart."""
    (model, params, _), prompts = mixed, toys.prompts_of((3, 32, 9))
    transform = chain(quantize("nf4"), lora(4, 8))
    frozen, trainable = jax.jit(transform.init)(jax.random.key(0), params)
    trainable = jax.tree.map(lambda x: x + 0.05 * jax.random.normal(jax.random.key(x.size), x.shape), trainable)
    tuned, pair = transform.apply(model), (frozen, trainable)
    one, three = (generate(tuned, pair, None, prompts, max_new_tokens=40, batch_size=n) for n in (1, 3))
    assert tokens_of(one) == tokens_of(three)
    batch = pad(prompts[:2], [0, 1], 2, 8, 0)
    options = {"model": tuned, "sampling": GREEDY}
    state, _ = decode_loop.prefill(pair, batch, np.uint32(0), pad_stops(()), capacity=128, **options)
    prepared = decode_loop.prepare(pair, model=tuned, rows=2, capacity=128)
    assert isinstance(prepared, hoist.Prepared)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(pair))
    assert sum(x.size * x.dtype.itemsize for x in prepared.pieces) <= size
    copy = jax.tree.map(jax.numpy.copy, state)
    stopped = np.zeros(2, bool)
    _, cut = decode_loop.decode(prepared, state, pad_stops(()), stopped, np.int32(7), **options)
    _, whole = decode_loop.decode(pair, copy, pad_stops(()), stopped, np.int32(7), **options)
    assert cut.tokens.tolist() == whole.tokens.tolist() and cut.counts.tolist() == [7, 7]
    np.testing.assert_allclose(cut.logprobs, whole.logprobs, atol=1e-6)


@pytest.mark.parametrize("on_mesh", [False, True], ids=["alone", "on a mesh of one device"])
def test_experts_stay_in_their_stacks(on_mesh):
    """Neither a copy of them is kept beside the parameters, nor one of a layer's made for a token."""
    with jax.set_mesh(sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])) if on_mesh else nullcontext():
        _experts_stay_in_their_stacks()


def _experts_stay_in_their_stacks():
    model, params, config = toys.tiny("qwen3_moe")
    tuned = lora(2, 4, init="gaussian").apply(model)
    frozen, trainable = jax.jit(lora(2, 4, init="gaussian").init)(jax.random.key(0), params)
    pair = frozen, jax.tree.map(lambda x: x + 0.1, trainable)
    options = {"model": tuned, "sampling": GREEDY}
    state, _ = decode_loop.prefill(
        pair, pad(toys.prompts_of((9, 4)), [0, 1], 2, 8, 0), np.uint32(0), pad_stops(()), capacity=128, **options
    )
    prepared = decode_loop.prepare(pair, model=tuned, rows=2, capacity=128)
    stacks = [x.array for x in prepared.pieces if isinstance(x, hoist.Stacked)]
    experts = [x for path, x in tree.flatten(frozen).items() if "experts" in path and x.size > 1000]
    assert [sum(x is kernel for x in stacks) for kernel in experts] == [config.num_layers] * 3
    copies = [x.shape for x in prepared.pieces if not isinstance(x, hoist.Stacked)]
    assert experts[0].shape[1:] not in copies and experts[0].shape not in copies
    run = partial(decode_loop.advance, tuned)
    token = decode_loop._next(state)
    found, _ = jax.jit(lambda p: hoist.call(run, p, token, state.cache))(prepared)
    wanted, _ = jax.jit(lambda p: run(p, token, state.cache))(pair)
    np.testing.assert_allclose(found, wanted, 1e-5, 1e-5)


def test_what_is_not_moved_is_not_copied():
    weights = {"stack": jax.numpy.arange(6.0).reshape(2, 3), "head": jax.numpy.ones((3, 2))}

    def step(weights, x):
        first, second = (x[0] for x in jax.lax.split(weights["stack"], (1, 1)))
        return jax.numpy.sin(x * first + second) @ weights["head"]

    x = jax.numpy.asarray([1.0, 2, 3])
    prepared = jax.jit(lambda w, x: hoist.move(step, w, x))(weights, x).beside(weights)
    assert sorted(p.shape for p in prepared.pieces) == [(3,), (3,), (3, 2)]
    assert any(piece is weights["head"] for piece in prepared.pieces)
    assert not {"split", "slice"} & {e.primitive.name for e in jax.make_jaxpr(
        lambda p, x: hoist.call(step, p, x))(prepared, x).jaxpr.eqns}  # fmt: skip
    np.testing.assert_array_equal(hoist.call(step, prepared, x), step(weights, x))
    np.testing.assert_array_equal(hoist.call(step, weights, x), step(weights, x))
    # Pieces of one shape are told apart, whatever the order in which a function reads them.
    swapped = lambda weights, x: step(weights, x) - jax.lax.split(weights["stack"], (1, 1))[1][0].sum()  # noqa: E731
    np.testing.assert_array_equal(hoist.call(swapped, prepared, x), swapped(weights, x))
    with pytest.raises(ValueError, match="1 of 1 pieces of the parameters were not prepared"):
        hoist.call(lambda weights, x: weights["head"][:2] @ x[:2], prepared, x)


def test_parameters_are_those_of_the_call_and_nothing_of_it_stays(mixed, prompts, alone, monkeypatch):
    """A training's samples: between two calls a step has donated the parameters and made new ones."""
    def answer(params):
        return generate(mixed[0], params, None, prompts[:1], max_new_tokens=NEW)[0].tokens

    step = jax.jit(lambda params: jax.tree.map(lambda x: 1 - x, params), donate_argnums=0)
    there = jax.tree.map(jax.numpy.copy, mixed[1])
    before = sum(x.nbytes for x in jax.live_arrays())
    assert answer(there) == alone[0].tokens
    there = step(there)
    other = answer(there)
    assert sum(x.nbytes for x in jax.live_arrays()) == before
    monkeypatch.setattr(decode_loop.host_memory, "available", lambda: 0)  # no room for layers cut out of their stacks
    assert answer(there) == other != alone[0].tokens
    assert answer(step(there)) == alone[0].tokens


def test_sizes_of_caches_are_few():
    assert sorted({batches.bucket(n) for n in range(1, 3000)}) == [128, 256, 384, 512, 768, 1024, 1536, 2048, 3072]
    assert all(batches.bucket(n) >= n for n in range(1, 3000))
    assert len({queue_shape(n, m) for n in range(1, 200, 7) for m in range(1, 200, 11)}) <= 10


def test_programs_are_few(mixed):
    """Prompts of any length from 1 to 64, answers of any up to 60: at most two widths and sizes, and none for n."""
    model, params, _ = mixed
    before = decode_loop.prefill._cache_size(), decode_loop.decode._cache_size()
    for length, new in ((1, 5), (17, 60), (32, 33), (31, 2)):
        generate(model, params, None, toys.prompts_of((length,) * 4), max_new_tokens=new, batch_size=4)
    after = decode_loop.prefill._cache_size(), decode_loop.decode._cache_size()
    assert after[0] - before[0] <= 1 and after[1] - before[1] <= 1


# Ropes that go by the length of the whole document.

ORIGINAL = 24


@pytest.fixture(scope="module")
def turning():
    """A model whose documents of more than 24 tokens turn otherwise, from their first token on."""
    _, params, config = toys.tiny("llama")
    half = config.head_dim // 2
    rope = Rope("longrope", 10_000.0, short=(1.0,) * half, long=tuple(1.5 + 0.5 * i for i in range(half)),
                original_max_position=ORIGINAL, attention_factor=1.2)  # fmt: skip
    model = decoder.build(config.replace(ropes=(rope,), rope_of_layer=(0,) * config.num_layers))
    assert decode_loop.turning(model) == ORIGINAL + 1
    return model, params


@pytest.fixture(scope="module")
def turned(turning):
    """Greedy answers, every token by a forward of all before it, without a cache."""
    model, params = turning

    @jax.jit
    def best(tokens, segments):
        batch = {"tokens": tokens, "segment_ids": segments}
        return model.unembed(params, model.hidden(params, batch)[0]).argmax(-1)

    prompts, found = toys.prompts_of((3, 20, 24, 25, 30, 9)), []
    for prompt in prompts:
        text = list(prompt)
        for _ in range(26):
            row = np.zeros((2, 1, 64), np.int32)
            row[0, 0, : len(text)], row[1, 0, : len(text)] = text, 1
            text.append(int(best(*row)[0, len(text) - 1]))
        found.append(text[len(prompt) :])
    return prompts, found


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_rows_that_cross_the_original_length_are_put_in_again(turning, turned, batch_size):
    prompts, expected = turned
    answers = generate(*turning, None, prompts, max_new_tokens=26, batch_size=batch_size)
    assert tokens_of(answers) == expected and all(len(a.logprobs) == 26 for a in answers)


def test_and_so_are_those_of_a_queue_and_a_stream(turning, turned):
    prompts, expected = turned
    answers = generate(*turning, None, prompts, max_new_tokens=26, batch_size=2, stop_ids=(-5,))
    assert tokens_of(answers) == expected
    flow = stream(*turning, None, prompts[1], max_new_tokens=26)
    while True:
        try:
            next(flow)
        except StopIteration as end:
            assert end.value.tokens == expected[1]
            break


def test_parts_of_a_long_prompt_know_its_length(turning, turned):
    """A prompt that goes through the model 16 tokens at a time turns as a long one from its first token on."""
    prompts, expected = turned
    batch = pad([prompts[4]], [0], 1, 1, 0)
    options = {"model": turning[0], "sampling": GREEDY, "capacity": 128}
    _, block = decode_loop.prefill(turning[1], batch, np.uint32(0), pad_stops(()), chunk=16, **options)
    assert block.tokens[0, 0] == expected[4][0]


def test_penalties_and_samples_go_on_where_a_row_is_put_in_again(turning):
    """As in a queue, whose rows turn one by one."""
    sampling = Sampling(temperature=0.9, frequency_penalty=1.5, presence_penalty=0.5, repetition_penalty=1.1, seed=4)
    prompts = toys.prompts_of((20, 3, 22))
    one = generate(*turning, None, prompts, max_new_tokens=30, sampling=sampling, batch_size=3)
    queue = [slots.Waiting(Answer(None, p, frozenset(), ()), i, 30, 0.9) for i, p in enumerate(prompts)]
    for _ in slots.serve(*turning, None, queue, sampling=sampling, stop_ids=(), rows=2, limit=64,
                         shape=queue_shape(22, 30)):  # fmt: skip
        pass
    assert [w.answer.tokens for w in queue] == tokens_of(one)
