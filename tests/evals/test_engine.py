"""The engine against a twin that scores one text at a time: what is scored, shared, cut, counted and refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune.evals.engine import scoring, tokens
from jitune.evals.engine.engine import open_engine
from jitune.evals.engine.score import grade, knows_ends
from jitune.evals.task import Generate, LogLikelihood, Rolling, Score, chat
from jitune.types import UserError
from tests.evals import twin
from tests.evals.twin import LIMIT

ATOL = 2e-5  # of one token's log-probability


@pytest.fixture(scope="module")
def llama():
    return twin.pretrained()


@pytest.fixture(scope="module")
def engine(llama):
    return open_engine(llama, max_length=LIMIT)


def check(given, pairs, found, limit=LIMIT, width=None):
    for (context, continuation), (logprob, greedy, truncated) in zip(pairs, found, strict=True):
        expected, likeliest = twin.score_one(given, context, continuation, limit, width)
        assert abs(logprob - expected) < ATOL * len(continuation)
        assert greedy == likeliest
        assert truncated == max(0, len(context) + len(continuation) - limit - 1)


@pytest.mark.core
@pytest.mark.parametrize("family, options", [("llama", {}), ("mistral", {}), ("qwen3", {}),
                                             ("qwen3", {"scan_layers": False})])  # fmt: skip
def test_scores_are_those_of_texts_alone(family, options):
    given = twin.pretrained(family, **options)
    pairs = twin.random_pairs(given.config.vocab_size) + twin.greedy_pairs(given, 6, 20)
    engine = open_engine(given, max_length=LIMIT)
    found = engine.score_tokens(pairs)
    check(given, pairs, found)
    assert {greedy for _, greedy, _ in found[-6:]} == {True, False}
    asked = sum(min(len(c) + len(d) - 1, LIMIT) for c, d in pairs)
    assert engine.stats["input_tokens"] < 0.6 * asked, "choices share their contexts"
    assert engine.stats["scored_tokens"] == sum(len(d) for _, d in pairs)


def test_neither_batch_nor_width_nor_order_matters(llama, engine):
    pairs = twin.random_pairs(llama.config.vocab_size, seed=1)
    found = engine.score_tokens(pairs)
    order = np.random.default_rng(0).permutation(len(pairs))
    other = open_engine(llama, max_length=LIMIT)
    for changes in ({"tokens": 512, "queries": 32}, {"widths": (128, 384)}, {"trees": False}):
        other.setup = engine.setup._replace(**changes)
        again = other.score_tokens([pairs[i] for i in order])
        for i, (logprob, greedy, truncated) in zip(order, again, strict=True):
            assert abs(logprob - found[i][0]) < ATOL * len(pairs[i][1])
            assert (greedy, truncated) == found[i][1:]
    (alone,) = engine.score_tokens(pairs[:1])
    assert abs(alone[0] - found[0][0]) < ATOL * len(pairs[0][1])


def test_choices_of_which_some_are_beyond_the_switch_of_longrope():
    """The same context is turned by each choice's own length; below the switch they share it as ever."""
    rope = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0 + i for i in range(8)]}
    given = twin.pretrained.__wrapped__("phi3", rope_scaling=rope, original_max_position_embeddings=16)
    context = [5, 9, 40, 7, 12, 33, 21, 8, 90, 17, 14, 60]
    pairs = [(context, [3, 4]), (context, [3, 5]), (context, [*range(30, 40)])]
    engine = open_engine(given, max_length=32)
    for (_, continuation), (found, _, _) in zip(pairs, engine.score_tokens(pairs), strict=True):
        whole = jnp.asarray([*context, *continuation])
        wanted = twin.forward(given.model, given.params, whole[:-1])[len(context) - 1 :]
        wanted = np.asarray(wanted)[np.arange(len(continuation)), continuation].sum()
        assert abs(found - wanted) < ATOL * len(continuation)
    assert not engine.setup.trees and open_engine(given, max_length=16).setup.trees


def test_a_model_that_knows_nothing_of_shared_tokens(llama, engine):
    def hidden(params, batch, cache=None):
        return llama.model.hidden(params, {k: v for k, v in batch.items() if k != "ends"}, cache)

    model = llama.model._replace(hidden=jax.jit(hidden))
    assert knows_ends(llama.model, llama.params) and not knows_ends(model, llama.params)
    pairs = twin.random_pairs(llama.config.vocab_size, 8)
    plain = open_engine(llama._replace(model=model), max_length=LIMIT)
    np.testing.assert_allclose([x for x, *_ in plain.score_tokens(pairs)],
                               [x for x, *_ in engine.score_tokens(pairs)], atol=2e-4)  # fmt: skip
    assert plain.stats["input_tokens"] > 2 * 8


def test_ties_go_to_the_lowest_id():
    logits = jnp.asarray([[1.0, 3.0, 3.0, -jnp.inf], [2.0, 2.0, 2.0, 2.0]])
    logprobs, greedy = grade(logits, jnp.asarray([[1, 2, 0], [3, 0, 1]]))
    assert greedy.tolist() == [[True, False, False], [False, True, False]]
    top = 3 - np.log(np.exp(1) + 2 * np.exp(3))
    np.testing.assert_allclose(logprobs, [[top, top, top - 2], [-np.log(4)] * 3], rtol=1e-6)
    big = grade(jnp.asarray([[1e4, 0.0]]), jnp.asarray([[0, 1]]))[0]
    assert big.tolist() == [[0.0, -1e4]]


REQUESTS = [
    Score("the quick ", "brown fox"),
    Score("the quick", " brown fox"),
    Score("", "the user asks"),
    Score("<bos>the user", " asks"),
    Score(chat("hello world"), "fine"),
    Score(chat("hello world", "be kind"), "fine, thank you"),
    *(Score("what is two plus two? ", letter) for letter in "ABCD"),
    Score("the lazy dog " * 150, "jumps"),
    Rolling("the quick brown fox jumps over the lazy dog " * 60),
    Rolling("hello"),
    Score("the quick ", "brown fox"),
]


def test_requests(llama, engine):
    finished = []
    before = engine.stats
    found = engine.answer(REQUESTS, on_done=finished.extend)
    assert dict(finished) == dict(enumerate(found)) and len(finished) == len(REQUESTS)
    for request, response in zip(REQUESTS, found, strict=True):
        (pairs,) = tokens.pairs_of(llama.tokenizer, [request], chat_template=None, limit=LIMIT)
        expected = [twin.score_one(llama, *pair) for pair in pairs]
        count = sum(len(continuation) for _, continuation in pairs)
        assert abs(response.logprob - sum(x for x, _ in expected)) < ATOL * count
        assert (response.greedy, response.tokens) == (all(g for _, g in expected), count)
    assert found[0] == found[-1] == found[1]
    assert [r.truncated > 0 for r in found] == [i == 10 for i in range(len(REQUESTS))]
    assert len(tokens.pairs_of(llama.tokenizer, REQUESTS[11:12], chat_template=None, limit=LIMIT)[0]) > 2
    after = engine.stats
    assert after["requests"] - before["requests"] == len(REQUESTS)
    assert after["unique"] - before["unique"] == len(REQUESTS) - 1
    assert after["truncated"] - before["truncated"] == 1
    assert after["seconds"] > before["seconds"]


def test_what_is_not_a_number_is_an_error_that_names_the_request(llama):
    broken = {**llama.params, "norm": {"scale": llama.params["norm"]["scale"].at[3].set(jnp.nan)}}
    engine = open_engine(llama._replace(params=broken), max_length=LIMIT)
    for request, message in (
        (Score("two plus two? ", "four"), r"Score\(\.\.\.'two plus two\? ', 'four'\).*token 1 of \d is nan"),
        (Rolling("the lazy dog"), r"Rolling\('the lazy dog'\).*nan"),
        (Generate(chat("say hello"), max_new_tokens=4), r"Generate\('say hello'\): the model's logits are not finite"),
    ):
        with pytest.raises(UserError, match=message):
            engine.answer([request])


def test_what_cannot_be_scored(llama, engine):
    for request, message in (
        (Score("the quick", ""), r"Score\(\.\.\.'the quick', ''\): the continuation has no token"),
        (Score("the quick", " fox jumps" * 200), "continuation has .* tokens, and a window 256"),
        (Generate("the quick", max_new_tokens=0), "max_new_tokens=0"),
    ):
        with pytest.raises(UserError, match=message):
            engine.answer([Score("a", "b"), request])
    for pairs, message in (
        ([([1], [2]), ([], [2])], "pair 2 of 2: the context has no token"),
        ([([1], [10**6])], "pair 1 of 1: token ids .* vocabulary"),
    ):
        with pytest.raises(UserError, match=message):
            engine.score_tokens(pairs)
    with pytest.raises(UserError, match="needs a tokenizer"):
        open_engine(llama._replace(tokenizer=None))
    with pytest.raises(UserError, match="max_length=4096 is more than the model's context of 2048"):
        open_engine(llama, max_length=4096)
    assert engine.answer([]) == [] and engine.score_tokens([]) == [] == engine.generate_tokens([], max_new_tokens=3)


def test_a_suite_takes_few_programs(llama):
    rng, size = np.random.default_rng(3), llama.config.vocab_size
    engine = open_engine(llama._replace(model=llama.model._replace(init=lambda key: None)))  # a model of its own
    assert engine.setup.widths == (512, 2048)
    for length in (3, 300, 3000):
        context = rng.integers(1, size, length).tolist()
        ((found, *_),) = engine.score_tokens([(context, [1, 2])])
        assert abs(found - twin.score_one(llama, context, [1, 2], 2048)[0]) < 2 * ATOL
    for length, new, temperature in ((3, 5, 0.0), (700, 40, 0.0), (100, 20, 0.7), (1900, 9, 1.3)):
        prompt = rng.integers(1, size, length).tolist()
        engine.generate_tokens([prompt], max_new_tokens=new, stop=("zz",), temperature=temperature)
    assert engine.stats["compiles"] == 6
    assert isinstance(engine.answer([Score("a", "b")])[0], LogLikelihood)
    assert engine.stats["compiles"] == 6


def test_padding_is_small(llama):
    rng, size = np.random.default_rng(4), llama.config.vocab_size
    pairs = []
    for _ in range(150):
        context = rng.integers(1, size, int(np.clip(rng.lognormal(4.5, 0.5), 5, 900))).tolist()
        pairs += [(context, rng.integers(1, size, int(rng.integers(1, 20))).tolist()) for _ in range(4)]
    engine = open_engine(llama, max_length=1024)
    engine.score_tokens(pairs)
    assert engine.stats["padding"] < 0.1
    assert scoring.prepare(llama.model, llama.params, limit=1024).widths == (512, 1024)
