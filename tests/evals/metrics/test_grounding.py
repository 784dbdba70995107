"""Groundedness by words: values by hand, a third party's ROUGE-L, every script."""

import random

import pytest

from jitune.evals.metrics import grounding

SOURCE = "Crayola began with chalk, then crayons."


def test_words_of_every_script():
    assert grounding.words("Don't! 24 次擒杀") == ["don", "t", "24", "次", "擒", "杀"]
    assert grounding.words("¿Qué ocurre?") == ["qué", "ocurre"]
    assert grounding.words("Straße ＡＢＣ") == ["strasse", "abc"]  # full width is folded
    assert grounding.words("... —") == []


def test_values_by_hand():
    assert grounding.word_precision("It began with crayons", SOURCE) == 3 / 4
    assert grounding.ngram_coverage("began with crayons", SOURCE) == 1 / 2
    assert grounding.ngram_coverage("crayons", SOURCE, n=2) == 1.0
    assert grounding.kf1("began with crayons", SOURCE) == pytest.approx(2 * 3 / (3 + 6))
    # A word said twice is in the source once: it counts once.
    assert grounding.kf1("chalk chalk", SOURCE) == pytest.approx(2 * 1 / (2 + 6))
    # began ... crayons, in order: 2 of 3 and 6 words ("chalk" comes after "crayons").
    assert grounding.rouge_l("began crayons chalk", SOURCE) == pytest.approx(2 * 2 / (3 + 6))
    assert grounding.word_precision("次擒杀", "24 次") == pytest.approx(1 / 3)


def test_contains():
    assert grounding.contains("Crayola BEGAN with, chalk.", "began with")
    assert not grounding.contains("began 1308", "308") and not grounding.contains("with it, began", "began with")
    assert grounding.contains("共四次。", "四次") and not grounding.contains("anything", "?")


@pytest.mark.parametrize("name", grounding.METRICS)
def test_a_copy_is_grounded_and_no_words_are_unscored(name):
    metric = grounding.METRICS[name]
    assert metric(SOURCE, SOURCE) == 1.0
    assert metric("xyz", SOURCE) == 0.0
    assert metric(" ?! ", SOURCE) is None
    assert metric("chalk", "") == 0.0


def test_rouge_l_is_that_of_rouge_score():
    from rouge_score.rouge_scorer import RougeScorer

    scorer, draw = RougeScorer(["rougeL"]), random.Random(0)
    for _ in range(50):
        a, b = (" ".join(draw.choices("abcdef", k=draw.randint(1, 70))) for _ in range(2))
        assert grounding.rouge_l(a, b) == pytest.approx(scorer.score(b, a)["rougeL"].fmeasure)


def test_sentences():
    found = grounding.sentences('It is 3.5 m. "Really?" Yes!\n\n- A list')
    assert found == ["It is 3.5 m.", '"Really?', "Yes!", "- A list"]
    assert grounding.sentences("黑豹队赢了。他们高兴！") == ["黑豹队赢了。", "他们高兴！"]
    assert grounding.sentences(" ... ") == []
