"""Japanese, for instructions of M-IFEval (Dussolle et al., 2025, arXiv 2502.04688).

    CHECKS["letters:kanji"]("赤い船です。", JAPANESE, kanji_limit=3, relation="未満")      # True: two of them

Its own instructions are of the three scripts, of readings beside kanji, of numbers in kanji, and of how sentences end.
Words are not parted by spaces, so keywords are looked for as texts.
"""

from __future__ import annotations

import re
import unicodedata

from jitune.evals.instructions.language import Language, at_least, count, less_than

KANJI = "\u4e00-\u9faf々〆ヶ"
HIRAGANA = re.compile("[ぁ-ゖ]")
KATAKANA = re.compile("[ァ-ヺｦ-ﾟ]")
QUOTED = re.compile("「[^「」]*」|『[^『』]*』")
STOPS = "。！？!?"
# How nouns in hiragana end: sentences seldom end with a verb's stem. In い only these do; the rest are adjectives.
NOUN_ENDS = tuple(
    "り み び ち ぎ さ こと もの ところ ため とき ひと はず わけ おかげ まま ほう あと まえ なか こころ "
    "思い 想い 願い 違い 戦い 誓い 出会い 匂い 味わい にぎわい 賑わい お祝い".split()
)
# What may stand between a sentence's last word and its stop.
CLOSING = "」』）)》】”\"'* 　"


def fold_kana(text: str) -> str:
    """Katakana as hiragana: か and カ are one letter."""
    return "".join(chr(ord(c) - 96) if "ァ" <= c <= "ヶ" else c for c in text)


def sentences(text: str) -> list[str]:
    """Ended by a line's end or by 。！？, but not inside quotes or brackets."""
    found = []
    for line in text.splitlines():
        start = depth = 0
        for at, c in enumerate(line):
            depth = max(0, depth + (c in "「『（(") - (c in "」』）)"))
            last = at + 1 == len(line) or line[at + 1] not in STOPS
            if c in STOPS and not depth and last:
                found.append(line[start:at + 1].strip())
                start = at + 1
        found.append(line[start:].strip())
    return [s for s in found if s]


def numbered_lists(response: str, language: Language, *, num_items: int) -> bool:
    """Exactly so many lines begin with a number, a full stop and a space."""
    return len(re.findall(r"^\s*\d+\.\s.*$", response, flags=re.MULTILINE)) == num_items


def number_letters(response: str, language: Language, *, num_letters: int, relation: str) -> bool:
    """It has so many characters, of any kind."""
    return count(language, relation, len(response), num_letters)


def furigana(response: str, language: Language) -> bool:
    """Every run of kanji has its reading in hiragana behind it, in wide brackets."""
    return not re.search(f"[{KANJI}]+(?![{KANJI}])(?!（[ぁ-んー]+）)", response)


def kanji(response: str, language: Language, *, kanji_limit: int, relation: str) -> bool:
    """It has so many kanji."""
    return count(language, relation, len(re.findall("[\u4e00-\u9faf]", response)), kanji_limit)


def no_hiragana(response: str, language: Language) -> bool:
    """It has no hiragana."""
    return not HIRAGANA.search(response)


def no_katakana(response: str, language: Language) -> bool:
    """It has no katakana, wide or narrow."""
    return not KATAKANA.search(response)


def _only(response: str, letters: re.Pattern, others: str) -> bool:
    """Whether every letter is one of `letters` or `others`; digits and marks do not matter."""
    own = [c for c in response if unicodedata.category(c).startswith("L") and c not in others]
    return bool(own) and all(map(letters.fullmatch, own))


def hiragana_only(response: str, language: Language) -> bool:
    """All of its letters are hiragana."""
    return _only(response, HIRAGANA, "ーゝゞ")


def katakana_only(response: str, language: Language) -> bool:
    """All of its letters are katakana."""
    return _only(response, KATAKANA, "ーヽヾ")


def kansuuji(response: str, language: Language) -> bool:
    """It has no digit: numbers are in kanji."""
    return not re.search(r"\d", response)


def no_period(response: str, language: Language) -> bool:
    """It has no 。"""
    return "。" not in response


def sentence_unified_end(response: str, language: Language, *, ending: str) -> bool:
    """All sentences outside quotes end with the same word."""
    parts = [part.strip() for part in re.split("[。！？]", QUOTED.sub("", response))]
    return all(part.endswith(ending) for part in parts if part)


def nominal_ending(response: str, language: Language, *, count: int) -> bool:
    """At least so many sentences outside quotes end with a noun before 。！？

    Verbs, adjectives and particles end in hiragana; a noun is what ends in kanji, katakana, a letter or a digit, or is
    one of HIRAGANA_NOUNS.
    """
    ends = [part.rstrip(CLOSING) for part in re.split("[。！？!?]", QUOTED.sub("", response))[:-1]]
    return sum(_is_noun(end) for end in ends if end) >= count


def _is_noun(end: str) -> bool:
    return not HIRAGANA.match(end[-1]) and end[-1].isalnum() or end.endswith(NOUN_ENDS)


CHECKS = {
    "detectable_format:number_numbered_lists": numbered_lists,
    "detectable_format:nominal_ending": nominal_ending,
    "length_constraints:number_letters": number_letters,
    "letters:furigana": furigana,
    "letters:kanji": kanji,
    "letters:no_hiragana": no_hiragana,
    "letters:hiragana_only": hiragana_only,
    "letters:no_katakana": no_katakana,
    "letters:katakana_only": katakana_only,
    "letters:kansuuji": kansuuji,
    "punctuation:no_period": no_period,
    "startend:sentence_unified_end": sentence_unified_end,
}

JAPANESE = Language(
    code="ja",
    name="japanese",
    relations={"未満": less_than, "以上": at_least},
    answers=("はい、そうです。", "いいえ、違います。", "どちらとも言えません。"),
    sentences=sentences,
    spaced=False,
    fold=fold_kana,
    bullets=r"^\s*(?:・[^・]|\*[^*]|-[^-]).*$",
    highlights=(r"《([^\n《》]*)》",),
    section=r"第\d+{marker}",
    title=("『", "』"),
    quotes=(("「", "」"),),
    trim='"「」『』',
    comma="、",
    checks=CHECKS,
)
