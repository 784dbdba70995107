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
from jitune.models import decoder
from jitune.models.config import ModelConfig, Rope
from jitune.models.families import FAMILIES
from jitune.transforms.chain import chain
from jitune.transforms.lora import lora
from jitune.transforms.prefix import prefix
from jitune.transforms.quantize import quantize
from jitune.types import Model, Pretrained, UserError
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


def test_samples_depend_on_seed_and_row_alone(llama, drafts, prompts):
    def draw(prompts, **options):
        options = {"sampling": Sampling(temperature=0.9, top_p=0.9, seed=3), "max_new_tokens": 12, **options}
        answers, _ = generate_speculative(llama, drafts["related"], prompts, **options)
        return [[a.tokens for a in several] for several in answers]

    first = draw(prompts[:4], n=3)
    assert draw([prompts[0], prompts[3]], n=3, row_ids=[0, 3]) == [first[0], first[3]]
    assert len({tuple(tokens) for several in first for tokens in several}) == 12


def test_sliding_windows(prompts):
    # A ring has as many slots beyond its window as the most proposals need that are taken back.
    target = pretrained(toys.tiny("mistral", sliding_window=32))
    draft = target._replace(params=noisy(target.params, 0.05))
    expected = generate(*target[:2], None, prompts, max_new_tokens=NEW)
    answers, told = generate_speculative(target, draft, prompts, max_new_tokens=NEW, draft_tokens=31)
    check(answers, expected)
    assert 2 < told.tokens_per_forward < 20


def test_behind_prefixes(prompts):
    made = toys.tiny("mistral", sliding_window=6)
    target, draft = in_front(made, 3), in_front(made, 5)
    expected = generate(*target[:2], None, prompts, max_new_tokens=12)
    answers, told = generate_speculative(target, draft, prompts, max_new_tokens=12, draft_tokens=3)
    check(answers, expected)
    assert 0.1 < told.acceptance < 1


def in_front(made, count: int) -> Pretrained:
    """A model with a prefix of `count` places."""
    model, params, config = made
    transform = prefix(count, model=model)
    return Pretrained(transform.apply(model), transform.init(jax.random.key(2), params), None, config)


def test_rows_that_cross_a_ropes_original_length(prompts):
    _, params, config = toys.tiny()
    half = config.head_dim // 2
    rope = Rope("longrope", 10_000.0, short=(1.0,) * half, long=tuple(1.5 + 0.5 * i for i in range(half)),
                original_max_position=36, attention_factor=1.2)  # fmt: skip
    config = config.replace(ropes=(rope,), rope_of_layer=(0,) * config.num_layers)
    target = Pretrained(decoder.build(config), params, None, config)
    draft = target._replace(params=noisy(params, 0.05))
    expected = generate(*target[:2], None, prompts, max_new_tokens=12)
    answers, told = generate_speculative(target, draft, prompts, max_new_tokens=12, draft_tokens=3)
    check(answers, expected)
    assert told.acceptance > 0.3


def test_slots_that_run_out_are_used_again(llama, drafts, prompts, monkeypatch):
    from jitune.generation import speculative_loop

    packed, pack = [], speculative_loop.pack
    monkeypatch.setattr(speculative_loop, "pack", lambda *a, **o: packed.append(1) or pack(*a, **o))
    options = {"max_new_tokens": 300}
    expected = generate(*llama[:2], None, prompts, **options)
    answers, _ = generate_speculative(llama, drafts["related"], prompts, draft_tokens=3, **options)
    check(answers, expected)
    assert packed


def test_what_ends_an_answer(llama, drafts, prompts, greedy):
    stops = sorted({answer.tokens[at] for answer, at in zip(greedy, (0, 1, 3, 7, 12, 20), strict=False)})
    for options in ({"stop_ids": stops}, {"max_positions": 73}, {"stop_ids": stops[:2], "max_positions": 80}):
        options |= {"max_new_tokens": NEW}
        expected = generate(*llama[:2], None, prompts, **options)
        for draft in ("same", "related"):
            check(generate_speculative(llama, drafts[draft], prompts, draft_tokens=3, **options)[0], expected)
    for most in (1, 2, 5):
        answers, told = generate_speculative(llama, drafts["same"], prompts, max_new_tokens=most, draft_tokens=3)
        assert [a.tokens for (a,) in answers] == [a.tokens[:most] for a in greedy]
        assert told.tokens == 8 * (most - 1)


def test_penalties(llama, drafts, prompts):
    sampling = Sampling(repetition_penalty=1.7, presence_penalty=0.5, frequency_penalty=0.3)
    options = {"max_new_tokens": NEW, "sampling": sampling, "top_logprobs": 2}
    expected = generate(*llama[:2], None, prompts, **options)
    answers, told = generate_speculative(llama, drafts["related"], prompts, **options)
    check(answers, expected)
    for (answer,), other in zip(answers, expected, strict=True):
        for pairs, others in zip(answer.top_logprobs, other.top_logprobs, strict=True):
            np.testing.assert_allclose([x for _, x in pairs], [x for _, x in others], atol=ATOL)
            assert {i for i, _ in pairs} == {i for i, _ in others}
    assert told.acceptance > 0.3


def test_on_a_mesh(llama, drafts, prompts, greedy):
    mesh = sharding.make_mesh(2, 2, 2)
    placed = [p._replace(params=jax.device_put(p.params, sharding.shardings(p.params, mesh)))
              for p in (llama, drafts["related"])]  # fmt: skip
    answers, _ = generate_speculative(*placed, prompts, max_new_tokens=NEW, draft_tokens=3)
    check(answers, greedy)
    with pytest.raises(UserError, match="must lie on the same mesh"):
        generate_speculative(placed[0], llama, prompts, max_new_tokens=NEW)


def test_with_an_adapter_on_a_target_of_four_bits(prompts):
    """Several tokens at once read the same pieces of structured weights that one token does."""
    base = pretrained(toys.tiny(num_hidden_layers=1))
    transform = chain(quantize("nf4"), lora(4, 8))
    frozen, trainable = jax.jit(transform.init)(jax.random.key(0), base.params)
    trainable = noisy(jax.tree.map(lambda x: x + 0.02, trainable), 0.5)
    target = base._replace(model=transform.apply(base.model), params=(frozen, trainable))
    options = {"max_new_tokens": 12, "batch_size": 4}
    expected = generate(*target[:2], None, prompts[:4], **options)
    answers, told = generate_speculative(target, base, prompts[:4], draft_tokens=3, **options)
    check(answers, expected)
    assert 0 < told.acceptance < 1


# The distribution of samples.

VOCAB, STEPS = 6, 4
PROMPT = [1, 4, 2]


def markov(table) -> Pretrained:
    """A model that looks at the last token only: params are its logits, [VOCAB, VOCAB]."""
    start = toys.scripted(1, VOCAB).init_cache
    model = Model(None, None, lambda params, batch, cache=None: (jax.nn.one_hot(batch["tokens"], VOCAB), cache),
                  lambda params, hidden: hidden @ params, start)  # fmt: skip
    config = ModelConfig.from_hf({**FAMILIES["llama"].presets["tiny"], "vocab_size": VOCAB, "model_type": "llama"})
    return Pretrained(model, table, None, config)


@pytest.fixture(scope="module")
def tables():
    first, second = jax.random.normal(jax.random.key(0), (2, VOCAB, VOCAB))
    return markov(1.5 * first), markov(first + second)


def exact(given: Pretrained, sampling: Sampling) -> np.ndarray:
    """The probability of every answer of STEPS tokens, [VOCAB] * STEPS."""
    answers = np.asarray(list(itertools.product(range(VOCAB), repeat=STEPS)))
    tokens = jnp.asarray(np.concatenate([np.tile(PROMPT, (len(answers), 1)), answers], axis=1))
    model, params = given[:2]
    logits = jax.jit(lambda t: model.unembed(params, model.hidden(params, {"tokens": t})[0]))(tokens)
    total = np.ones(len(answers))
    for i in range(STEPS):
        at = len(PROMPT) - 1 + i
        marks = np.asarray(tokens)[:, : at + 1, None] == np.arange(VOCAB)
        scores = process(logits[:, at], jnp.asarray(marks.any(1)), sampling, marks[:, len(PROMPT) :].sum(1))
        total *= np.asarray(jax.nn.softmax(scores))[range(len(answers)), answers[:, i]]
    return total.reshape([VOCAB] * STEPS)


def p_value(counts: np.ndarray, shares: np.ndarray) -> float:
    """Of a chi-square test; outcomes that are expected less than five times count as one."""
    expected = shares / shares.sum() * counts.sum()
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    kept = expected > 0
    assert observed[~kept].sum() == 0
    return stats.chisquare(observed[kept], expected[kept]).pvalue


def check_distribution(pair, sampling: Sampling, draws: int, batch_size: int):
    answers, told = generate_speculative(*pair, [PROMPT], n=draws, max_new_tokens=STEPS, draft_tokens=2,
                                         sampling=sampling, batch_size=batch_size)  # fmt: skip
    assert 0.1 < told.acceptance < 0.95, "both what is accepted and what is drawn in its place is tested"
    counts = np.zeros([VOCAB] * STEPS)
    np.add.at(counts, tuple(np.asarray([a.tokens for a in answers[0]]).T), 1)
    target, draft = (exact(given, sampling) for given in pair)
    assert counts[target < 1e-7].sum() == 0, "tokens that a filter rules out"
    assert p_value(counts, target) > 1e-3
    for axes in itertools.combinations(range(STEPS), 2):
        assert p_value(counts.sum(axes), target.sum(axes)) > 1e-3
    assert p_value(counts[draft > 0], draft[draft > 0]) < 1e-6, "the test tells the two models apart"


@pytest.mark.parametrize("settings", [
    {"temperature": 0.7}, {"temperature": 1.2, "top_k": 5, "top_p": 0.8, "min_p": 0.1},
    {"temperature": 0.8, "repetition_penalty": 1.3, "frequency_penalty": 0.4},
], ids=str)  # fmt: skip
def test_samples_have_the_targets_distribution(tables, settings):
    check_distribution(tables, Sampling(seed=11, **settings), 16384, 16384)


def test_samples_of_a_decoder_have_its_distribution():
    target = pretrained(toys.tiny(vocab_size=VOCAB))
    draft = target._replace(params=noisy(target.params, 1.0))
    check_distribution((target, draft), Sampling(seed=11, temperature=1.5, top_p=0.9), 768, 128)


def test_a_broken_draft_changes_nothing(tables):
    target, draft = tables
    draft = draft._replace(params=draft.params * jnp.nan)
    sampling = Sampling(temperature=0.7, seed=1)
    answers, told = generate_speculative(target, draft, [PROMPT], n=4096, max_new_tokens=2, sampling=sampling,
                                         batch_size=4096)  # fmt: skip
    counts = np.zeros([VOCAB] * 2)
    np.add.at(counts, tuple(np.asarray([a.tokens for a in answers[0]]).T), 1)
    assert told.accepted == 0 and p_value(counts, exact(target, sampling).sum((2, 3))) > 1e-3
    expected = generate(*target[:2], None, [PROMPT], max_new_tokens=8)
    assert generate_speculative(target, draft, [PROMPT], max_new_tokens=8)[0][0][0].tokens == expected[0].tokens


# Texts, and what is refused.


def test_texts_and_streams():
    tokenizer = toy.make_tokenizer()
    text = "hello world, the fox\njumps over the lazy dog"
    ids, end = tokenizer.encode(text), tokenizer.eos_token_id
    config = toys.tiny(vocab_size=len(tokenizer))[2].replace(max_positions=0)
    model = toys.scripted(3, len(tokenizer))
    target = Pretrained(model, jnp.asarray([*ids, end]), tokenizer, config)
    draft = target._replace(params=jnp.asarray([*ids[:6], 5, *ids[7:], end]))
    for stop in ("rld, t", "ox\nju", "lazy", "absent"):
        options = {"max_new_tokens": 64, "stop_strings": [stop], "stop_ids": [end]}
        ((answer,),), told = generate_speculative(target, draft, [[1, 2, 3]], draft_tokens=3, **options)
        (expected,) = generate(*target[:3], [[1, 2, 3]], **options)
        assert answer == expected and answer.text == text.partition(stop)[0] and told.tokens_per_forward > 2
        told = []
        shown = list(stream_speculative(target, draft, [1, 2, 3], draft_tokens=3, tell=told.append, **options))
        assert "".join(shown) == answer.text and len(shown) > 1
        assert sum(told, Speculation()).acceptance > 0.6


def test_errors(llama, drafts):
    for options, message in (
        ({"draft_tokens": 0}, "draft_tokens=0 is not allowed; it is from 1 to 31"),
        ({"draft_tokens": 99}, "draft_tokens=99"),
        ({"n": 0}, "n=0 must be at least 1"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"top_logprobs": -1}, "top_logprobs=-1"),
        ({"prompts": [[1], []]}, "prompt 2 of 2: the prompt is empty"),
    ):
        given = {"prompts": [[1, 2]], "max_new_tokens": 3, **options}
        with pytest.raises(UserError, match=message):
            generate_speculative(llama, drafts["random"], **given)
    narrow = drafts["random"]._replace(config=drafts["random"].config.replace(max_positions=40))
    with pytest.raises(UserError, match="context of 40 tokens is too small .* of 42; lower max_new_tokens to 38"):
        generate_speculative(llama, narrow, [[1, 2]], max_new_tokens=40)
    options = {"max_new_tokens": 38, "draft_tokens": 3}
    assert generate_speculative(llama, narrow, [[1, 2]] * 8, **options)[1].tokens == 8 * 37
    assert generate_speculative(llama, narrow, [], max_new_tokens=8) == ([], Speculation())


def test_both_need_one_vocabulary(llama):
    other = pretrained(toys.tiny(vocab_size=300))
    with pytest.raises(UserError, match="draft small for big: both need the same vocabulary; the target has 331"):
        check_draft(llama, other, names=("big", "small"))
    tokenizers = toy.make_tokenizer(), toy.make_tokenizer()
    tokenizers[1].add_tokens(["<extra>"])
    pair = [llama._replace(tokenizer=t, config=llama.config.replace(vocab_size=len(t))) for t in tokenizers]
    with pytest.raises(UserError, match="draft small for big: draft and target need the same vocabulary; .*<extra>"):
        check_draft(*pair, names=("big", "small"))
    check_draft(pair[0], pair[0])
