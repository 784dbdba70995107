"""Diversity: DEITA's rule by hand, facility location against plain greedy and against every subset."""

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from jitune.construct.curate import diversity
from jitune.construct.curate.diversity import build, count_of, facility, facility_in_parts, value
from jitune.construct.curate.stage import Head
from jitune.data.record import Record
from jitune.types import UserError


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("embedders", None)


def unit(rows, dim, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def plain_greedy(vectors, budget):
    alike = np.maximum(vectors @ vectors.T, 0).astype(np.float64)
    covered, chosen = np.zeros(len(vectors)), []
    for _ in range(budget):
        gains = np.maximum(alike - covered[:, None], 0).sum(axis=0)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        covered = np.maximum(covered, alike[:, chosen[-1]])
    return chosen


def run(choice, texts, scores=None):
    records = [Record(str(i), ({"role": "user", "content": text},), scores={"deita": scores[i]} if scores else {})
               for i, text in enumerate(texts)]  # fmt: skip
    measured = choice.measure(records)
    assert measured.shape == (len(texts), choice.width) and measured.dtype == np.float32
    return choice.choose([Head(r.id, "") for r in records], measured)


@pytest.mark.parametrize("block", [16, 50, 1024])
@pytest.mark.parametrize("dim", [3, 20])
def test_facility_is_plain_greedy(block, dim):
    vectors = unit(300, dim)
    assert facility(vectors, 60, block=block) == plain_greedy(vectors, 60)


def test_facility_reaches_its_guarantee():
    """1 - 1/e of the best of all subsets of 3 of 10."""
    for seed in range(20):
        vectors = unit(10, 2, seed)
        best = max(value(vectors, subset) for subset in combinations(range(10), 3))
        assert value(vectors, facility(vectors, 3)) >= (1 - 1 / np.e) * best - 1e-5


def test_facility_takes_one_of_each_group():
    centres = np.eye(4, dtype=np.float32)
    vectors = np.repeat(centres, (10, 7, 5, 2), axis=0)
    assert facility(vectors, 4) == [0, 10, 17, 22]  # the largest first, the first of equals
    assert value(vectors, [0, 10]) == 17 and value(vectors, []) == 0
    assert len(set(facility(vectors, 30))) == 24


def test_parts_share_the_budget():
    vectors = unit(101, 8)
    assert facility_in_parts(vectors, 20) == facility(vectors, 20)
    chosen = facility_in_parts(vectors, 20, part=30, seed=3)
    assert len(set(chosen)) == 20 and chosen == facility_in_parts(vectors, 20, part=30, seed=3)
    assert chosen != facility_in_parts(vectors, 20, part=30, seed=4)
    assert value(vectors, chosen) > 0.9 * value(vectors, facility(vectors, 20))


def test_the_rule_of_deita():
    """By score 2, 0, 3, 1; text 0 is like 2 (cosine 0.89), text 3 is like neither (0.5)."""
    texts = ("green tea and cake", "green tea and a cake", "tea and green cake", "green tea house blue")
    verdicts = run(build(embedder="embedders:words", score="deita", threshold=0.9), texts, (2.0, 0.5, 3.0, 1.0))
    assert [v and (v.reason, v.detail) for v in verdicts] == [("not_diverse", "1.00 like 2"), None, None, None]
    choice = build(embedder="embedders:words", score="deita", threshold=0.85, budget=2)
    verdicts = run(choice, texts, (2.0, 0.5, 3.0, 1.0))
    assert [v and v.reason for v in verdicts] == ["not_diverse", "over_budget", None, None]
    verdicts = run(build(embedder="embedders:words", threshold=0.85), texts)
    assert [v and v.detail for v in verdicts] == [None, "0.89 like 0", "1.00 like 0", None]


def test_a_cosine_at_the_threshold_stays():
    texts = ("a b c d", "a b e f")  # 2 / 4
    assert run(build(embedder="embedders:words", threshold=0.5), texts) == [None, None]


def test_facility_as_a_stage():
    texts = ["red car"] * 5 + ["green tea"] * 3 + ["blue sky"]
    verdicts = run(build(method="facility", embedder="embedders:words", budget=2), texts)
    assert [i for i, v in enumerate(verdicts) if v is None] == [0, 5]
    assert verdicts[1].reason == "not_selected" and verdicts[1].detail == "1.00 like 0"
    assert verdicts[8].detail.startswith("0.00 like")


@pytest.mark.parametrize("budget, expected", [(0, 200), (0.1, 20), (0.999, 200), (1, 1), (50.0, 50), (500, 200)])
def test_budgets(budget, expected):
    assert count_of(budget, 200) == expected


@pytest.mark.parametrize("options, message", [
    ({"method": "dpp"}, "method = 'dpp' is not known; there are cosine, facility"),
    ({"method": "facility"}, "facility needs a budget"),
    ({"budget": 1.5}, "budget = 1.5: a count such as 1000"),
    ({"budget": -1}, "budget = -1: a number from 0"),
])  # fmt: skip
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        build(embedder="embedders:words", **options)


def test_a_record_without_the_score():
    choice = diversity.build(embedder="embedders:words", score="deita")
    with pytest.raises(UserError, match="record 0: has no score 'deita', or no finite one; it has none"):
        run(choice, ["a"])
