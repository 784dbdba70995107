"""The engine on a mesh, and with adapters applied: log-likelihoods and answers of the same model alone."""

import jax
import jax.numpy as jnp
import pytest

from jitune import sharding
from jitune.evals.engine.engine import open_engine
from jitune.evals.task import Generate, Rolling, Score, chat
from jitune.generation.generate import generate
from jitune.generation.prompts import encode_prompt
from jitune.transforms.chain import chain
from jitune.transforms.dora import dora
from jitune.transforms.lora import lora
from jitune.transforms.prefix import prefix
from jitune.transforms.prompt import prompt
from jitune.transforms.quantize import quantize
from tests.evals import twin
from tests.evals.twin import LIMIT

FRONT = 7
MAKERS = {
    "lora": lambda model: lora(4, 8),
    "dora": lambda model: dora(4, 8),
    "quantized": lambda model: chain(quantize("nf4"), lora(4, 8)),
    "prefix": lambda model: prefix(FRONT, model=model),
    "prompt": lambda model: prompt(FRONT, model=model),
}
TEXTS = ("the quick", "hello world, how are", "what is two plus two? it is")


def tune(name, family="llama"):
    """A model with an adapter that says something else than its base."""
    base = twin.pretrained(family)
    transform = MAKERS[name](base.model)
    frozen, trainable = jax.jit(transform.init)(jax.random.key(5), base.params)
    keys = iter(jax.random.split(jax.random.key(6), 99))
    trainable = jax.tree.map(lambda x: x + 0.2 * jax.random.normal(next(keys), x.shape, x.dtype), trainable)
    return base._replace(model=transform.apply(base.model), params=(frozen, trainable))


def on_mesh(given, shape=(1, 4, 2), context=1):
    mesh = sharding.make_mesh(*shape, context=context)
    return given._replace(params=jax.device_put(given.params, sharding.shardings(given.params, mesh)))


def requests(given):
    return [
        *(Score("what is two plus two? ", letter) for letter in "ABCD"),
        *(Score(chat("hello world"), answer) for answer in ("fine", "thank you", "how are you")),
        Score("the lazy dog " * 150, "jumps"),
        Rolling("the quick brown fox jumps over the lazy dog " * 30),
        *(Generate(text, 12) for text in TEXTS),
        Generate(TEXTS[0], 12, (), 0.9, 1),
    ]


def check_same(given, other):
    """Engines of both say the same."""
    asked = requests(given)
    found, again = (open_engine(g, max_length=LIMIT).answer(asked) for g in (given, other))
    for a, b in zip(found, again, strict=True):
        if hasattr(a, "logprob"):
            assert abs(a.logprob - b.logprob) < 2e-5 * a.tokens
            assert (a.greedy, a.tokens, a.truncated) == (b.greedy, b.tokens, b.truncated)
        else:
            assert a == b
    assert found[7].truncated > 0


def check_twin(given, limit):
    """Scores are those of texts alone, answers those of `generate`."""
    engine = open_engine(given, max_length=LIMIT)
    assert engine.limit == limit and engine.setup.trees
    pairs = twin.random_pairs(given.config.vocab_size, 6, limit)
    for (context, continuation), (logprob, greedy, _) in zip(pairs, engine.score_tokens(pairs), strict=True):
        expected, likeliest = twin.score_one(given, context, continuation, limit, LIMIT)
        assert abs(logprob - expected) < 2e-5 * len(continuation) and greedy == likeliest
    prompts = [encode_prompt(given.tokenizer, {"prompt": text}) for text in TEXTS]
    expected = generate(given.model, given.params, given.tokenizer, prompts, max_new_tokens=12,
                        stop_ids=engine.stop_ids)  # fmt: skip
    assert [g.text for g in engine.generate_tokens(prompts, max_new_tokens=12)] == [g.text for g in expected]


@pytest.mark.parametrize("name", MAKERS)
def test_adapters_are_applied(name):
    given = tune(name)
    check_twin(given, LIMIT - FRONT if name in ("prefix", "prompt") else LIMIT)
    base = open_engine(twin.pretrained(), max_length=LIMIT).answer([Score("a", "b")])[0].logprob
    assert abs(open_engine(given, max_length=LIMIT).answer([Score("a", "b")])[0].logprob - base) > 1e-3


@pytest.mark.parametrize("family", ["mistral", "qwen3"])
def test_a_prefix_with_sliding_windows(family):
    check_twin(tune("prefix", family), LIMIT - FRONT)


@pytest.mark.parametrize("name", [None, "lora", "prefix"])
def test_on_a_mesh(name):
    given = tune(name) if name else twin.pretrained()
    check_same(given, on_mesh(given) if name == "lora" else on_mesh(given, (1, 2, 2), context=2))


def test_on_a_mesh_programs_are_few():
    given = on_mesh(twin.pretrained(), (2, 2, 2))
    given = given._replace(model=given.model._replace(init=lambda key: None))  # a model of its own
    engine = open_engine(given, batch_size=6, max_length=LIMIT)
    assert engine.rows == 8
    for seed in (0, 1):
        engine.answer([*requests(given), Generate(f"again {seed}", 70)])
    assert engine.stats["compiles"] <= 6
    assert jnp.isfinite(engine.stats["seconds"])
