"""The pool's verdicts are rouge-score's, bit for bit, and hold in scripts without spaces."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from jitune.construct.distill.rouge import Alike, Pool, f1, tokens
from jitune.types import UserError

SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
WORDS = st.lists(st.sampled_from("a b c d e".split()), max_size=14).map(" ".join)


def reference(text: str, others: list[str], threshold: float) -> Alike | None:
    """What rouge-score says of all pairs."""
    scores = [SCORER.score(text, other)["rougeL"].fmeasure for other in others]
    best = max(scores, default=0.0)
    return Alike(best, scores.index(best)) if best > threshold else None


@settings(max_examples=200, deadline=None)
@given(WORDS, st.lists(WORDS, max_size=8), st.sampled_from([0.0, 0.25, 0.5, 0.7, 0.75, 0.8, 0.9]))
def test_a_pool_says_what_rouge_score_says(text, others, threshold):
    assert Pool(threshold, "english", others).over(text) == reference(text, others, threshold)


def test_every_score_is_rouge_scores_number():
    """Of all lengths to 24 tokens, those that lie on a threshold but for rounding too (7 of 10 and 10)."""
    for one in range(1, 25):
        for other in range(1, 25):
            for common in range(min(one, other) + 1):
                texts = [" ".join(["x"] * common + [mark] * (size - common))
                         for mark, size in (("y", one), ("z", other))]
                assert f1(common, one, other) == SCORER.score(*texts)["rougeL"].fmeasure


def test_on_real_instructions(shared):
    """The seeds and Alpaca's, each against all that were admitted before it: the released code's loop."""
    seeds = [json.loads(line)["instruction"]
             for line in open(shared / "data/seeds/self_instruct_seed_tasks.jsonl", encoding="utf-8")]
    rows = [row["instruction"] for name in ("alpaca_en_demo", "code_alpaca_2k")
            for row in json.load(open(shared / f"data/sft/{name}.json", encoding="utf-8"))]
    pool, texts, refused = Pool(0.7, "english", seeds), list(seeds), 0
    cut = [SCORER._tokenizer.tokenize(text) for text in texts]
    for row in random.Random(3).sample(rows, 200):
        mine = SCORER._tokenizer.tokenize(row)
        scores = [rouge_scorer._score_lcs(mine, other).fmeasure for other in cut]
        best = max(scores)
        assert pool.admit(row) == (Alike(best, scores.index(best)) if best > 0.7 else None)
        if best > 0.7:
            refused += 1
        else:
            cut.append(mine)
    assert refused


def test_scripts_without_spaces():
    one, other = "写一首关于大海的诗，押韵，四行。", "写一首关于大山的诗，押韵，四行。"
    assert Pool(0.7, "english", [one]).over(other) is None  # rouge-score sees no token there
    assert Pool(0.7, "unicode", [one]).over(other) == Alike(f1(12, 13, 13), 0)
    assert tokens("Ｗrite Ünïque हिन्दी", "unicode") == ["write", "ünïque", "हिन्दी"]


def test_texts_without_tokens_count_and_are_like_nothing():
    pool = Pool(0.7, "unicode", ["...", "Name a prime number."])
    assert pool.over("?!") is None and pool.over("Name a prime number!") == Alike(1.0, 1)
    pool.add("name a PRIME number")
    assert pool.over("Name a prime number") == Alike(1.0, 1)  # of equals the first


@pytest.mark.parametrize("given", [{"mode": "latin"}, {"threshold": 1.5}])
def test_what_cannot_be(given):
    with pytest.raises(UserError, match="ROUGE-L: "):
        Pool(**given)
