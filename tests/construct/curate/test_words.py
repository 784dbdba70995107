"""Tokens in any script, where they stand, and hashes of n-grams against loops."""

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.curate import words

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
PIECES = ("Straße", "ﬁne", "ＡＢＣ", "ｶﾞ", "กำลัง", "北京", "e\u0301", "½", "한국", "Σας", "İ", " ", "_x")
MULTILINGUAL = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@pytest.mark.parametrize("text, expected", [
    ("Don't PANIC, Zoë!", ["don", "t", "panic", "zoë"]),
    ("Zoe\u0308", ["zoë"]),
    ("ＡＢＣ １２", ["abc", "12"]),
    ("iPhone 15的价格", ["iphone", "15", "的", "价", "格"]),
    ("ｶﾞｷﾞ スーパー", ["ガ", "ギ", "ス", "ー", "パ", "ー"]),
    ("กินข้าว", ["กิ", "น", "ข้", "า", "ว"]),
    ("ພາສາລາວ", ["ພ", "າ", "ສ", "າ", "ລ", "າ", "ວ"]),
    ("ខ្មែរ ២", ["ខ្", "មែ", "រ", "២"]),
    ("မြန်မာ", ["မြ", "န်", "မာ"]),
    ("తెలుగు భాష", ["తెలుగు", "భాష"]),
    ("আমার নাম", ["আমার", "নাম"]),
    ("한국어 문장", ["한국어", "문장"]),
    ("snake_case — x²", ["snake_case", "x2"]),
    ("", []), ("?! …", []),
])  # fmt: skip
def test_tokens(text, expected):
    assert words.tokens(text) == [unicodedata.normalize("NFKC", token).casefold() for token in expected]


def test_plain_is_the_published_pattern():
    text = "Größe 15的价格 กิน"
    assert words.tokens(text, mode="plain") == re.findall(r"\w+", text.lower())


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="ascii"), max_size=80))
def test_in_english_both_modes_agree(text):
    assert words.tokens(text) == words.tokens(text, mode="plain")


@settings(max_examples=100, deadline=None)
@given(MULTILINGUAL)
def test_places_hold_their_tokens(text):
    for mode in ("script", "plain"):
        change = str.lower if mode == "plain" else words.normalize
        found, places = words.tokens(text, mode=mode), words.located(text, mode=mode)
        assert len(found) == len(places)
        for token, (start, end) in zip(found, places, strict=True):
            # Up to the final sigma, which is another letter within a word.
            assert token.replace("ς", "σ") in change(text[start:end]).replace("ς", "σ")


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_any_text_has_as_many_places_as_tokens(text):
    for mode in ("script", "plain"):
        places = words.located(text, mode=mode)
        assert len(places) == len(words.tokens(text, mode=mode))
        assert all(0 <= start < end <= len(text) for start, end in places)


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_forms_of_a_text_have_the_same_tokens(text):
    assert words.tokens(unicodedata.normalize("NFD", text)) == words.tokens(text)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 13, 24])
def test_hashes_of_grams_are_those_of_a_loop(length):
    values = np.random.default_rng(0).integers(0, 2**64, 40, np.uint64)
    expected = []
    for start in range(len(values) - length + 1):
        total = 0
        for value in values[start : start + length]:
            total = (total * words.MULTIPLIER + int(value)) % 2**64
        expected.append(total)
    assert words.hash_grams(values, length).tolist() == words.mix(np.array(expected, np.uint64)).tolist()


def test_a_text_that_is_too_short_has_no_grams():
    assert words.hash_grams(np.zeros(3, np.uint64), 4).tolist() == []


def test_tokens_for_one_word():
    assert words.per_word(words.tokens("eight words of English are eight tokens long")) == 1
    assert words.per_word(words.tokens("北京是中国的首都")) == pytest.approx(1.5)
    assert words.per_word(words.tokens("กินข้าว")) == pytest.approx(3.25)
    # Two words of one token, and two characters of 1.5 to the word: 4 tokens are 2 + 2 / 1.5 words.
    assert words.per_word(["green", "tea", "绿", "茶"]) == pytest.approx(4 / (2 + 2 / 1.5))
    assert words.per_word([]) == 1


def test_translations_of_mgsm_have_about_as_many_words(shared):
    """By `per_word`; within a quarter of English, though there are 3.3 times as many tokens in Thai."""
    def count(language):
        lines = (shared / f"data/eval_multilingual/mgsm/mgsm_{language}.tsv").read_text().splitlines()
        found = [words.tokens(line) for line in lines]
        return sum(len(own) / words.per_word(own) for own in found)

    english = count("en")
    assert {language: round(count(language) / english) for language in ("zh", "ja", "th", "te", "ru")} == {
        "zh": 1, "ja": 1, "th": 1, "te": 1, "ru": 1}  # fmt: skip
