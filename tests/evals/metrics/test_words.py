"""Exact match and F1 against values by hand and a second way of computing them."""

import json
import re
import string

import pytest

from jitune.evals.metrics import words


@pytest.mark.parametrize(("text", "language", "normal"), [
    ("The Eiffel Tower!", "en", "eiffel tower"),
    ("An  answer,\n a «word»… The", "en", "answer word"),
    ("Die Katze, die schläft.", "de", "katze schläft"),
    ("L'homme et l’idée", "fr", "homme et idée"),
    ("Un'idea dell'uomo", "it", "idea dell uomo"),
    ("¿Dónde está el gato?", "es", "dónde está gato"),
    ("The die", "de", "the"),  # articles are the language's own
    ("北京。2008年", "zh", "北京2008年"),
    ("a-b  c$", "sw", "ab c"),
])
def test_normalize(text, language, normal):
    assert words.normalize(text, language) == normal


def test_tokens_of_chinese_and_japanese_are_characters():
    assert words.tokens("北京2008年，OK", "zh") == ["北", "京", "2008", "年", "ok"]
    assert words.tokens("カタカナと漢字", "ja") == list("カタカナと漢字")
    assert words.tokens("กรุงเทพ มหานคร", "th") == ["กรุงเทพ", "มหานคร"]


def test_f1_by_hand():
    assert words.token_f1("the green house", ["a house"]) == pytest.approx(2 / 3)
    assert words.token_f1("x x y", ["x z"]) == pytest.approx(2 * 1 / 5)  # bags: one x is shared
    assert words.token_f1("cat", ["dog", "black cat"]) == pytest.approx(2 / 3)  # the best reference
    assert words.token_f1("the", ["a"]) == 1.0 and words.token_f1("the", ["cat"]) == 0.0  # nothing left
    assert words.token_f1("北京市", ["北京"], "zh") == pytest.approx(4 / 5)
    with pytest.raises(ValueError, match="at least one reference"):
        words.token_f1("cat", [])


def test_exact_match_by_hand():
    assert words.exact_match("eiffel TOWER", ["x", "The Eiffel Tower."]) == 1.0
    assert words.exact_match("eiffel towers", ["The Eiffel Tower."]) == 0.0
    assert words.exact_match("北 京", ["北京"], "zh") == 1.0


def squad_f1(prediction: str, reference: str) -> float:
    """The same number by the steps of the SQuAD script: regular expressions and ASCII punctuation."""
    def cut(text):
        kept = "".join(c for c in text.lower() if c not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", kept).split()

    left, right = cut(prediction), cut(reference)
    same, rest = 0, list(right)
    for word in left:
        if word in rest:
            rest.remove(word)
            same += 1
    if not left or not right:
        return float(left == right)
    precision, recall = same / len(left), same / len(right)
    return 2 * precision * recall / (precision + recall) if same else 0.0


def test_agrees_with_squad_on_real_answers(shared):
    data = json.loads((shared / "data/eval_multilingual/xquad.en.json").read_text())["data"]
    pairs = []
    for article in data[:12]:
        for paragraph in article["paragraphs"]:
            sentences = paragraph["context"].split(". ")
            for i, qa in enumerate(paragraph["qas"]):
                pairs.append((sentences[i % len(sentences)], qa["answers"][0]["text"]))
    pairs = [(p, r) for p, r in pairs if (p + r).isascii()]
    assert len(pairs) > 200
    for prediction, reference in pairs:
        assert words.token_f1(prediction, [reference]) == pytest.approx(squad_f1(prediction, reference))
