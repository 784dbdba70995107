"""What filters do faster is what they would do the plain way: the plain way stands here."""

import re
import unicodedata
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.curate.filters import (
    boilerplate,
    encoding,
    language,
    pii_patterns,
    refusal,
    repetition,
    units,
)
from jitune.data.record import Provenance, Record, changed
from jitune.evals.metrics import refusal as phrases

SPACED = re.compile(r"[^\W_]\S*")
few = settings(max_examples=150, deadline=None)
TEXTS = st.text(st.sampled_from("abz AZ09_-.,'\"\n\t\r\x0b\x1c!é猫のกا"), max_size=60)


@few
@given(TEXTS)
def test_words_and_pieces(text):
    if not units.UNSPACED.search(text):
        assert units.pieces(text) == SPACED.findall(text) and units.words(text) == len(SPACED.findall(text))
    assert units.has_digit(text) == (re.search(r"\d", text) is not None)


@few
@given(st.text(st.sampled_from("aB `*_'’“‑\n\t\r\u00a0éأـ\u200b"), max_size=40))
def test_a_normal_form(text):
    slow = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", text).translate(phrases.SAME).lower())
    assert phrases.normalize(text) == re.sub(r"[^\S\n]+", " ", slow).strip()


@pytest.mark.parametrize("code", refusal.SIGNS)
def test_literals_stand_in_all_that_a_sign_matches(code):
    @settings(max_examples=60, deadline=None)
    @given(st.from_regex(refusal.SIGNS[code]))
    def check(text):
        assert any(literal in text for literal in refusal._LITERALS[code])
        if text.isascii():
            assert any(literal in text for literal in refusal._ASCII_LITERALS[code])

    check()


@pytest.mark.parametrize("kind", boilerplate.ASCII_SIGNS)
def test_signs_stand_in_all_boilerplate_in_ascii(kind):
    texts = [st.from_regex(branch, fullmatch=True, alphabet=st.characters(max_codepoint=126))
             for phrase in boilerplate.KINDS[kind].values() for branch in branches(phrase) if can_be_ascii(branch)]
    assert len(texts) > 5

    @settings(max_examples=200, deadline=None)
    @given(st.one_of(texts))
    def check(text):
        assert any(sign in text for sign in boilerplate.ASCII_SIGNS[kind])

    check()


def branches(pattern: str) -> list[str]:
    """The alternatives at the top of a pattern."""
    found, depth, start = [], 0, 0
    for at, character in enumerate(pattern):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "|" and not depth:
            found.append(pattern[start:at])
            start = at + 1
    return [*found, pattern[start:]]


def can_be_ascii(branch: str) -> bool:
    """Whether a branch can match a text in ASCII: what is not in groups is, and so is one of each group's choices."""
    return re.sub(r"\([^()]*\)|\[[^\]]*\]", "", branch).isascii() and all(
        any(map(str.isascii, group.split("|"))) for group in re.findall(r"\((?:\?:)?([^()]*)\)(?!\?)", branch))


def plain_n_grams(pieces, slack):
    """Gopher's ratios without bounds: (reason, share) of the first that is too high."""
    scale, total = units.pieces_a_word(pieces), sum(map(len, pieces))
    for n, most in repetition.TOP.items():
        top, times = Counter(zip(*(pieces[i:] for i in range(n * scale)), strict=False)).most_common(1)[0]
        share = times * sum(map(len, top)) / total
        if times > 2 and share > most * slack:
            return f"top_{n}_gram", min(share, 1.0)
    for n, most in repetition.REPEATED.items():
        seen, covered = set(), set()
        for at in range(len(pieces) - n * scale + 1):
            gram = tuple(pieces[at:at + n * scale])
            covered |= set(range(at, at + n * scale)) if gram in seen else set()
            seen.add(gram)
        share = sum(len(pieces[i]) for i in covered) / total
        if share > most * slack:
            return f"repeated_{n}_grams", share
    return None


@few
@given(st.lists(st.sampled_from(["the cat sat on the mat and", "one", "two of", "three", "a long passage that comes "
                                 "again and again", "four five six seven", "of"]), min_size=12, max_size=30),
       st.sampled_from([0.3, 1.0, 2.0]), st.randoms(use_true_random=False))
def test_n_grams(parts, slack, random):
    pieces = " ".join(parts).split() + [f"w{i}" for i in range(random.randrange(10, 120))]
    pieces += pieces[random.randrange(len(pieces)):] if random.random() < 0.5 else []
    found, wanted = repetition.n_grams(pieces, slack), plain_n_grams(pieces, slack)
    assert (found and found.detail.split(": ")[0]) == (wanted and wanted[0])
    assert found is None or f": {wanted[1]:.2f} of" in found.detail


@few
@given(st.text(st.sampled_from("ab?&;<p>/ \n\t\x07\x1b\"="), max_size=40), st.booleans())
def test_a_plain_text_has_no_damage(text, with_code):
    text = text + " code" * with_code
    if encoding._plain(text):
        distinct = "".join(set(text))
        assert not any(check(text, distinct) for check in encoding.CHECKS.values())


@few
@given(st.text(st.sampled_from("0123456789.:-+()/ ABDEab@\u0663"), max_size=60))
def test_personal_data(text):
    slow = []
    for name, kind in pii_patterns.KINDS.items():
        for match in kind.pattern.finditer(text):
            start, end = match.span("number") if name == "phone" and match["number"] else match.span()
            if kind.holds(match) and not any(start < other.end and other.start < end for other in slow):
                slow.append(pii_patterns.Match(name, start, end))
    assert pii_patterns.find(text, pii_patterns.KINDS) == sorted(slow, key=lambda match: match.start)


@few
@given(st.lists(st.sampled_from(["word ", "7", "f() ", "\"in quotes\" ", "$x$ ", "<b>", "https://a.org/b ", "  \n", "é",
                                 "`code` ", "“so” ", "long" * 12]), max_size=120))
def test_what_is_looked_at(pieces):
    text = "".join(pieces)
    slow = language.ASIDE.sub(" ", units.prose(text[:8 * 50]))
    assert language.looked_at(text, 50) == " ".join(slow.split())[:50]


def test_english_by_its_small_words():
    assert language.is_english("The cat and the dog have been there.")
    assert language.is_english("This is what it is for us")
    for other in ("Je ne sais pas, on the road", "Der Hund was in the Garten", "La casa es grande y bonita", "the and",
                  "Caf\u00e9s are where they have been"):
        assert not language.is_english(other)


def test_ascii_is_told_apart_among_languages_in_latin_letters():
    pytest.importorskip("lingua")
    for candidates in (("de", "fr", "nl", "ru", "zh", "id", "fi"), ("ru", "en"), ("ru", "zh")):
        whole, latin = (language._detector(candidates, False, ascii) for ascii in (False, True))
        for text in ("Das ist ein kleines Haus am See", "il ne faut pas le dire", "de kat zit op de mat", "x = f 1",
                     "saya suka makan nasi goreng", "kissa istuu matolla", "print hello world"):
            assert whole.detect_language_of(text) == latin.detect_language_of(text)


def test_changed_is_replace():
    record = Record("1", text=(("hi", 1.0),), meta={"a": 1}, provenance=Provenance("a.jsonl:1"))
    assert changed(record, meta={"b": 2}, id="2") == replace(record, meta={"b": 2}, id="2")
    assert record.meta == {"a": 1} and changed(record) is not record


def test_small_words_settle_it_only_where_english_is_wanted():
    pytest.importorskip("lingua")
    text = "This is what you have and where they are from. " * 4
    asked = []

    def find(text, **given):
        asked.append(given.get("english", False))
        return "en", 1.0

    for languages, mismatch, wanted in (((), False, True), (("en", "de"), False, True), (("de",), False, False),
                                        (("en",), True, False)):
        asked.clear()
        language.judge(Record("1", text=((text, 1.0),)), languages=languages, min_confidence=0.7, mismatch=mismatch,
                       find=find)
        assert asked[0] is wanted and (languages != ("de",) or asked[-1] is False)
    short = {"candidates": ("en", "de"), "high_accuracy": False, "max_characters": 120, "min_words": 4}
    assert language.detect(text, english=True, **short) == ("en", 1.0)
    assert language.detect(text, english=True, **(short | {"candidates": ("fr", "de")}))[0] != "en"
