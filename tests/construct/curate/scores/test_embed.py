"""Vectors of texts: the mean over a text's own tokens, whatever stands beside it, on any mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jitune
from jitune.construct.curate.scores.embed import embed_texts, normalize, open_embedder
from jitune.construct.curate.scores.model import open_scorer
from jitune.evals.engine.engine import open_engine
from jitune.types import UserError
from tests.evals import twin

ATOL = 1e-5
WORDS = "red green blue the house is tall and old river letter window".split()


def texts(count=40, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, int(rng.integers(1, 60)))) for _ in range(count)]


@pytest.fixture(scope="module")
def llama():
    return twin.pretrained()


@pytest.fixture(scope="module")
def engine(llama):
    return open_engine(llama, max_length=twin.LIMIT)


def alone(given, text, limit=twin.LIMIT):
    """A text in a row of its own, without padding."""
    ids = given.tokenizer(text)["input_ids"][:limit]
    hidden, _ = jax.jit(given.model.hidden)(given.params, {"tokens": jnp.asarray([ids])})
    mean = np.asarray(hidden, np.float64)[0].mean(axis=0)
    return mean / np.linalg.norm(mean)


@pytest.mark.core
def test_vectors_are_means_over_a_text_alone(llama, engine):
    some = texts(2) + ["a", "é你好 🙂", ""]
    found = embed_texts(engine, some)
    assert found.dtype == np.float32 and found.shape == (5, llama.config.dim)
    np.testing.assert_allclose(found, [alone(llama, t) for t in some], atol=ATOL)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert found[0] @ found[1] < 0.999, "different texts are told apart"


def test_batches_and_order_change_nothing(engine):
    some = texts(30)
    found = embed_texts(engine, some)
    order = np.random.default_rng(1).permutation(len(some))
    np.testing.assert_allclose(embed_texts(engine, [some[i] for i in order]), found[order], atol=ATOL)
    one_by_one = np.concatenate([embed_texts(engine, some[i : i + 7]) for i in range(0, 30, 7)])
    np.testing.assert_allclose(one_by_one, found, atol=ATOL)
    np.testing.assert_array_equal(embed_texts(engine, [some[0], some[0]])[0], embed_texts(engine, [some[0]])[0])
    assert embed_texts(engine, []).shape == (0, 0)


def test_what_is_cut_is_counted(llama, engine):
    long = " ".join(["house"] * 400)
    before = engine.stats["truncated"]
    found = embed_texts(engine, [long, "short"], max_length=20)
    assert engine.stats["truncated"] == before + 1
    np.testing.assert_allclose(found[0], alone(llama, long, 20), atol=ATOL)


def test_eight_devices_give_the_same(toy_model):
    some = texts(12)
    found = [open_embedder(str(toy_model), mesh=mesh)(some) for mesh in ((1, 8, 1), (2, 2, 2))]
    one = open_engine(jitune.load(toy_model, dtype="float32"))
    for other in found:
        np.testing.assert_allclose(other, embed_texts(one, some), atol=ATOL)
    assert open_scorer(toy_model) is open_scorer(str(toy_model)), "a model is opened once"


def test_few_programs(engine):
    embed_texts(engine, texts(3))
    before = engine.stats["compiles"]
    for seed in range(4):
        embed_texts(engine, texts(5 + 20 * seed, seed))
    assert engine.stats["compiles"] == before, "one width, one program"


def test_weights_that_are_broken_are_an_error(llama):
    broken = llama._replace(params={**llama.params, "norm": {"scale": llama.params["norm"]["scale"] * np.nan}})
    with pytest.raises(UserError, match="text 'the house'.*not finite"):
        embed_texts(open_engine(broken, max_length=twin.LIMIT), ["the house"])


def test_models_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="no directory of a model"):
        open_embedder(str(tmp_path / "absent"))
    with pytest.raises(UserError, match="needs a model"):
        open_embedder("")
    with pytest.raises(UserError, match="pool='max' is not one of mean, last"):
        open_embedder(str(tmp_path), pool="max")


def test_normalize_keeps_zeros():
    np.testing.assert_array_equal(normalize(np.array([[3.0, 4.0], [0, 0]])), np.array([[0.6, 0.8], [0, 0]], np.float32))
