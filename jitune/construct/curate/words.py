"""Words for comparing texts in any script: a text in, its tokens, where they stand, and hashes of its n-grams out.

    tokens("Don't PANIC, Zoë!")       # ["don", "t", "panic", "zoë"]
    tokens("iPhone 15的价格")          # ["iphone", "15", "的", "价", "格"]
    tokens("กินข้าว")                  # ["กิ", "น", "ข้", "า", "ว"]

Text is put into NFKC and case-folded, so that full-width letters, ligatures and decomposed accents compare equal. In
scripts that put spaces between words a token is a run of letters, marks, digits and underscores. Chinese, Japanese,
Thai, Lao, Khmer, Burmese and the other scripts that write words without a space between them give one token for a
character with the marks on it: a word n-gram there is a character n-gram. On English text the tokens are those of the
pattern `\\w+` in lower case, by which n-gram decontamination is published; `tokens(text, mode="plain")` is just that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np

MODES = ("script", "plain")
# Scripts without spaces, and how many of their characters say as much as one word of a script with them: MGSM's 250
# problems have 1.5 times as many tokens in Chinese as in English, 2.2 in Japanese (mostly kana) and 3.3 in Thai.
SPACELESS = {"Han": 1.5, "Bopomofo": 1.5, "Yi": 1.5, "Hiragana": 2.5, "Katakana": 2.5}
SPACELESS |= dict.fromkeys(("Thai", "Lao", "Khmer", "Myanmar", "Tai_Tham", "Tai_Le", "New_Tai_Lue", "Tai_Viet",
                            "Javanese", "Balinese"), 3.25)  # fmt: skip
PLAIN = re.compile(r"\w+")
ASCII = re.compile(r"\w+", re.ASCII)
MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so that multiplying by it modulo 2^64 loses nothing


def normalize(text: str) -> str:
    """NFKC, then case folding: "ＡＢＣ" and "abc" become one, "Straße" and "STRASSE" too."""
    return text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def fold_spaces(text: str) -> str:
    """Every run of white space becomes one space; none is left at the ends."""
    return " ".join(text.split())


def tokens(text: str, *, mode: str = "script") -> list[str]:
    """The tokens of a text, in order; see the module's docstring.

    mode: "script", or "plain" for `\\w+` of the text in lower case whatever its script, as Tulu 3 has it (Lambert et
      al. 2024): there a Chinese clause is one token, and a Thai word breaks at its vowel signs.
    """
    if mode == "plain":
        return PLAIN.findall(text.lower())
    if text.isascii():
        return ASCII.findall(text.casefold())
    return _pattern().findall(normalize(text))


def located(text: str, *, mode: str = "script") -> list[tuple[int, int]]:
    """Where each of `tokens(text, mode=mode)` stands in the text itself: pairs (start, end) of offsets."""
    pattern = PLAIN if mode == "plain" else _pattern()
    changed, owner = _aligned(text, str.lower if mode == "plain" else normalize)
    return [(owner[m.start()][0], owner[m.end() - 1][1]) for m in pattern.finditer(changed)]


def _aligned(text: str, change) -> tuple[str, list[tuple[int, int]]]:
    """The changed text and, for each of its characters, the span of the original that it came from.

    By grapheme clusters, beyond which NFKC composes nothing in running text. Where a cluster's change depends on its
    neighbours all the same (the Greek final sigma), spans go by position, and are right to a character or two.
    """
    import regex

    pieces, owner = [], []
    for match in regex.finditer(r"\X", text):
        pieces.append(change(match[0]))
        owner += [match.span()] * len(pieces[-1])
    whole = change(text)
    if "".join(pieces) != whole and len(owner) != len(whole):
        last = len(text) - 1
        owner = [(min(i, last), min(i, last) + 1) for i in range(len(whole))]
    return whole, owner


@cache
def _pattern():
    """One character of a spaceless script with its marks, or a run of the other letters, marks, digits and `_`."""
    import regex

    # The sign that prolongs vowels in Japanese belongs to two scripts, so that neither has it.
    scripts = "".join(rf"\p{{{name}}}" for name in SPACELESS)
    characters = rf"[[{scripts}ー]&&\p{{L}}]"
    return regex.compile(rf"(?V1){characters}\p{{M}}*|[\p{{L}}\p{{M}}\p{{N}}_--{characters}]+")


def per_word(found: Sequence[str]) -> float:
    """Tokens for one word: 1 in scripts with spaces, about 1.5 in Chinese, 2.2 in Japanese, 3.3 in Thai; 1 for none.

    A passage of 8 words is one of 8 tokens in English and of 12 in Chinese. What is common by chance in 8 characters
    of Thai, which are two or three words, says nothing about where a text comes from.
    """
    return len(found) / sum(1 / _characters_per_word(token[0]) for token in found) if found else 1.0


@lru_cache(maxsize=1 << 16)
def _characters_per_word(character: str) -> float:
    import regex

    if character.isascii():
        return 1.0
    if character == "ー":
        return SPACELESS["Katakana"]
    return next((many for name, many in SPACELESS.items() if regex.match(rf"(?=\p{{L}})\p{{{name}}}", character)), 1.0)


def _hash(token: str) -> int:
    import xxhash

    return xxhash.xxh64_intdigest(token.encode())


_hash_of_word = lru_cache(maxsize=1 << 18)(_hash)


def hash_tokens(found: Sequence[str]) -> np.ndarray:
    """XXH64 of every token, uint64 [tokens]; the same in every process."""
    # Words come again and again; what is longer than a word, as an image in base64, would only fill the memory.
    usual = max(map(len, found), default=0) <= 64
    return np.fromiter(map(_hash_of_word if usual else _hash, found), np.uint64, len(found))


def hash_characters(text: str) -> np.ndarray:
    """A number for every character, uint64 [characters]."""
    return mix(np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.uint64))


def hash_grams(values: np.ndarray, length: int) -> np.ndarray:
    """A hash of every `length` values in a row: uint64 [n] -> uint64 [n - length + 1], empty where n < length.

    The hash is a polynomial in the values modulo 2^64, mixed at the end. Windows of double length are put together
    from two, so that 24 characters take six passes over the text and no loop over its windows.
    """
    if len(values) < length:
        return np.zeros(0, np.uint64)
    done, size = None, 0
    power, width = values, 1
    while True:
        if length & width:
            done = power if done is None else _joined(done, size, power, width)
            size += width
        if size == length:
            return mix(done)
        power, width = _joined(power, width, power, width), 2 * width


def _joined(left: np.ndarray, left_size: int, right: np.ndarray, right_size: int) -> np.ndarray:
    """Hashes of windows of `left_size + right_size` from those of the two sizes."""
    count = min(len(left), len(right) - left_size)
    shift = np.uint64(pow(MULTIPLIER, right_size, 1 << 64))
    return left[:count] * shift + right[left_size : left_size + count]


def mix(values: np.ndarray) -> np.ndarray:
    """The finalizer of MurmurHash3 for 64 bits: a bijection after which every bit depends on all."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))
