"""BLEU, chrF, TER and ROUGE as their packages compute them when called directly."""

import sys

import pytest

from jitune.evals.metrics import overlap
from jitune.types import UserError

PREDICTIONS = ["The dog bit the man.", "It was not unexpected.", "The man bit him first."]
REFERENCES = [["The dog bit the man.", "The dog had bit the man."], ["It was not surprising."],
              ["The man had bitten the dog.", "The man bit the dog first.", "He was bitten."]]
STREAMS = [["The dog bit the man.", "It was not surprising.", "The man had bitten the dog."],
           ["The dog had bit the man.", None, "The man bit the dog first."], [None, None, "He was bitten."]]


def test_sets_as_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    assert overlap.corpus_bleu(PREDICTIONS, REFERENCES) == sacrebleu.corpus_bleu(PREDICTIONS, STREAMS).score
    assert overlap.corpus_chrf(PREDICTIONS, REFERENCES) == sacrebleu.corpus_chrf(PREDICTIONS, STREAMS).score
    assert overlap.corpus_ter(PREDICTIONS, REFERENCES) == sacrebleu.corpus_ter(PREDICTIONS, STREAMS).score
    assert 20 < overlap.corpus_bleu(PREDICTIONS, REFERENCES) < 90


def test_single_texts_as_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    for prediction, references in zip(PREDICTIONS, REFERENCES, strict=True):
        assert overlap.sentence_bleu(prediction, references) == sacrebleu.sentence_bleu(prediction, references).score
        assert overlap.sentence_chrf(prediction, references) == sacrebleu.sentence_chrf(prediction, references).score
        assert overlap.sentence_ter(prediction, references) == sacrebleu.sentence_ter(prediction, references).score
    assert overlap.sentence_ter("the cat", ["the cat sat"]) == pytest.approx(100 / 3)  # one insertion to three words


@pytest.mark.parametrize("language", ["en", "zh", "ja"])
def test_counts_add_up_to_the_sets_bleu(language):
    pytest.importorskip("sacrebleu")
    predictions = PREDICTIONS if language == "en" else ["我们今天去北京。", "他不来。"]
    references = REFERENCES if language == "en" else [["今天我们去北京。"], ["他不会来。", "他不来了。"]]
    counts = [overlap.bleu_counts(p, r, language=language) for p, r in zip(predictions, references, strict=True)]
    expected = overlap.corpus_bleu(predictions, references, language=language)
    assert overlap.bleu_of(counts) == pytest.approx(expected) and expected > 10


def test_chinese_is_cut_by_characters():
    sacrebleu = pytest.importorskip("sacrebleu")
    pair = (["我们今天去北京吃饭。"], [["我们今天去北京。"]])
    assert overlap.corpus_bleu(*pair, language="zh") == sacrebleu.corpus_bleu(*pair, tokenize="zh").score
    assert overlap.corpus_bleu(*pair, language="zh") > 3 * overlap.corpus_bleu(*pair)


def test_rouge_as_rouge_score():
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for prediction, references in zip(PREDICTIONS, REFERENCES, strict=True):
        expected = scorer.score_multi(references, prediction)
        found = overlap.rouge(prediction, references)
        assert found == {name: pytest.approx(expected[name].fmeasure) for name in found}
    assert overlap.rouge("the cat sat", ["the cat slept"])["rougeL"] == pytest.approx(2 / 3)
    mean = overlap.mean_rouge(["the cat sat", "x"], [["the cat slept"], ["x"]])
    assert mean["rougeL"] == pytest.approx((2 / 3 + 1) / 2)


def test_rouge_sees_other_scripts():
    pytest.importorskip("rouge_score")
    assert overlap.rouge("北京很大", ["北京很好"], language="zh")["rouge1"] == pytest.approx(3 / 4)
    assert overlap.rouge("город большой", ["город старый"], language="ru")["rouge1"] == pytest.approx(1 / 2)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    with pytest.raises(UserError, match=r"^this metric needs the package rouge-score; .*pip install 'jitune\[eval\]'"):
        overlap.load("rouge_score")
