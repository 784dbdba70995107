"""Near-duplicates by embedding, against a loop over all pairs."""

import sys
from pathlib import Path

import numpy as np
import pytest

from jitune.construct.curate import near
from jitune.construct.curate.stage import Head
from jitune.data.record import Record
from jitune.types import UserError


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("embedders", None)


def record(text, id):
    return Record(id, ({"role": "user", "content": text},))


def run(choice, *texts):
    records = [record(text, str(i)) for i, text in enumerate(texts)]
    measured = np.concatenate([choice.measure(records[:1]), choice.measure(records[1:])])
    return choice.choose([Head(r.id, "") for r in records], measured)


def slow(vectors, order, at_least):
    kept = []
    for i in order:
        if not any(vectors[i] @ vectors[j] >= at_least for j in kept):
            kept.append(i)
    return set(kept)


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_greedy_is_the_loop(block):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(150, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = rng.permutation(150)
    found = near.greedy(vectors, order, at_least=0.9, block=block)
    assert set(np.flatnonzero(found.kept)) == slow(vectors, order, 0.9)
    assert 10 < found.kept.sum() < 140
    place = np.argsort(order)
    for i in np.flatnonzero(~found.kept):
        j = found.index[i]
        before = [k for k in np.flatnonzero(found.kept) if place[k] < place[i]]
        assert j in before and np.isclose(found.cosine[i], max(vectors[before] @ vectors[i]), atol=1e-6)


def test_a_budget_ends_the_search():
    vectors = np.eye(5, dtype=np.float32)
    for block in (1, 2, 10):
        found = near.greedy(vectors, np.array([4, 3, 2, 1, 0]), at_least=0.5, budget=2, block=block)
        assert found.kept.tolist() == [False, False, False, True, True]
    assert not near.greedy(vectors, np.arange(5), at_least=0.5, budget=0).kept.any()


def test_the_first_of_similar_records_stays():
    choice = near.build(embedder="embedders:words", threshold=0.8)
    assert choice.width == 1024
    verdicts = run(choice, "green tea and cake", "a red house", "Green tea, and cake!", "green tea and a cake", "")
    assert [v and (v.reason, v.detail) for v in verdicts] == [
        None, None, ("similar", "1.00 like 0"), ("similar", "0.89 like 0"), None]  # 4 / sqrt(4 * 5) = 0.894


def test_equal_texts_are_duplicates_at_threshold_one_and_empty_ones_are_not():
    verdicts = run(near.build(embedder="embedders:words", threshold=1.0), "x y z", "x y z", "", "")
    assert [v is None for v in verdicts] == [True, False, True, True]


def test_centered_vectors_by_hand():
    """Two at right angles are opposite without their mean; rows of zeros, and the mean itself, stay."""
    found = near.centered(np.array([[1, 0], [0, 1], [0, 0]], np.float32))
    np.testing.assert_allclose(found, [[0.5**0.5, -(0.5**0.5)], [-(0.5**0.5), 0.5**0.5], [0, 0]], atol=1e-6)
    same = np.array([[0.6, 0.8], [0.6, 0.8]], np.float32)
    np.testing.assert_array_equal(near.centered(same), same)


TEXTS = ("Name three primary colours.", "Wie hoch ist der Eiffelturm?", "写一首关于春天的诗。",
         "def add(a, b): return a + b", "What is 12 times 7?", "Name three primary colours.",
         "La capitale de la France est Paris.", "Translate 'good night' into Spanish.",
         "写一首关于春天的诗。", "A recipe for lentil soup, please.")  # fmt: skip


def test_centering_tells_unlike_texts_apart(toy_model):
    """States of a model lie close together. With the mean off, equal texts are found and the others stay."""
    options = {"model": str(toy_model), "of": "prompt", "threshold": 0.9, "max_length": 64}
    for pool in ("mean", "last"):
        verdicts = run(near.build(**options, pool=pool, center=True), *TEXTS)
        assert [i for i, verdict in enumerate(verdicts) if verdict] == [5, 8], pool
    vectors = near.build(**options).measure([record(text, str(i)) for i, text in enumerate(TEXTS)])
    unlike = np.triu(vectors @ vectors.T, 1)[np.triu(np.ones((10, 10), bool), 1)]
    rest = near.centered(vectors)
    assert np.median(np.triu(rest @ rest.T, 1)[np.triu(np.ones((10, 10), bool), 1)]) < np.median(unlike) - 0.1


def test_options_of_the_model_are_reached(toy_model):
    for options, message in (({"pool": "max"}, "pool='max' is not one of"), ({"max_length": 0}, "max_length=0"),
                             ({"mesh": (1, 1)}, "must be three sizes"), ({"dtype": "int7"}, "int7")):
        with pytest.raises(UserError, match=message):
            near.build(model=str(toy_model), **options)


@pytest.mark.parametrize("options, message", [
    ({}, "give embedder = 'module:function' or model"),
    ({"embedder": "embedders:words", "model": "m"}, "one of the two"),
    ({"embedder": "embedders:none"}, "embedder: no function 'embedders:none'"),
    ({"embedder": "embedders"}, "embedder: no function 'embedders'"),
    ({"embedder": "embedders:broken"}, "the embedding of record - is not finite"),
    ({"embedder": "embedders:flat"}, r"the embedder gave \[1\] for 1 texts; \[1, any\] is needed"),
    ({"embedder": "embedders:words", "threshold": 2}, "threshold = 2: a number from -1 to 1"),
])  # fmt: skip
def test_what_cannot_be_used(options, message):
    with pytest.raises(UserError, match=message):
        near.build(**options)


def test_another_width_than_was_said():
    choice = near.build(embedder="embedders:words", width=8)
    with pytest.raises(UserError, match=r"\[1, 1024\] for 1 texts; \[1, 8\] is needed"):
        choice.measure([record("x", "a")])
