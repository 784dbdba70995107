"""Words in any script, and text without its code: what filters count in.

    words("The cat sat.")        # 3
    words("猫坐在垫子上。")        # 4: six characters, 1.5 of which make a word
    pieces("猫 sat")             # ["猫", "sat"]
    prose("Run `ls`:\\n```\\nls\\n```\\nDone.")   # "Run  :\\n\\nDone."

Where a script puts spaces between words, a word is what stands between spaces and has a letter or digit. Han, kana,
Thai, Lao, Khmer, Burmese and Tibetan do not (or not between words): there, so many characters count as one word. The
figures make the translations of one text equally long: over MGSM's 250 problems, 1.5 characters of Chinese, 2.3 of
Japanese (of Han and kana together) and 4.5 of Thai stand for one word of the English problem.
"""

from __future__ import annotations

import re

HAN = r"\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003347f"
KANA = r"\u3041-\u3096\u309d-\u30ff\u31f0-\u31ff\uff66-\uff9f"
SOUTH_EAST = r"\u0e01-\u0e3a\u0e40-\u0e4e\u0e80-\u0eff\u0f40-\u0fbc\u1000-\u109f\u1780-\u17d3"
# Characters for a word of each. Japanese text is about one third Han.
PER_WORD = ((HAN, 1.5), (KANA, 3.2), (SOUTH_EAST, 4.5))

UNSPACED = re.compile(f"[{HAN}{KANA}{SOUTH_EAST}]")
_RUNS = tuple((re.compile(f"[{characters}]+"), size) for characters, size in PER_WORD)
_UNSPACED_RUN = re.compile(f"[{HAN}{KANA}{SOUTH_EAST}]+")
_EASTERN = re.compile(f"[{SOUTH_EAST}]")
# From a letter or digit to the next space: marks, hyphens and apostrophes are part of the word.
_SPACED = re.compile(r"[^\W_]\S*")
_ALNUM = re.compile(r"[^\W_]").search
_PIECES = re.compile(f"[{HAN}{KANA}{SOUTH_EAST}]|[^\\W_][^\\s{HAN}{KANA}{SOUTH_EAST}]*")
_DIGIT = re.compile(r"\d").search

FENCE = re.compile(r"^[ \t]*(?P<mark>`{3,}|~{3,})[^\n]*\n(?s:.*?)(?:^[ \t]*(?P=mark)[`~]*[ \t]*$|\Z)", re.MULTILINE)
INLINE = re.compile(r"`[^`\n]{1,300}`")


def words(text: str) -> int:
    """How many words a text has, a fraction counted up; see the module's docstring."""
    if text.isascii():  # what stands between spaces, less what has no letter or digit
        found = text.split()
        odd = [piece for piece in found if not piece.isalnum()]
        return len(found) - len(odd) + len(list(filter(_ALNUM, odd)))
    if not UNSPACED.search(text):
        return len(_SPACED.findall(text))
    count = 0.0
    for run, size in _RUNS:
        count += sum(map(len, run.findall(text))) / size
    return -int(-(count + len(_SPACED.findall(_UNSPACED_RUN.sub(" ", text)))) // 1)


def pieces(text: str) -> list[str]:
    """Words of scripts with spaces, characters of those without, in order."""
    if not text.isascii():
        return _PIECES.findall(text)
    found = [piece if piece[0].isalnum() else _from_letter(piece) for piece in text.split()]
    return list(filter(None, found))


def _from_letter(piece: str) -> str:
    found = _SPACED.search(piece)
    return found[0] if found else ""


def pieces_a_word(found: list[str]) -> int:
    """How many pieces are about a word: 1; 2 where most are Han or kana, 4 where most are of Thai and its like."""
    if "".join(found).isascii():
        return 1
    characters = "".join([piece for piece in found if len(piece) == 1])
    unspaced = len(UNSPACED.findall(characters))
    if unspaced <= len(found) / 2:
        return 1
    return 4 if len(_EASTERN.findall(characters)) > unspaced / 2 else 2


def has_digit(text: str) -> bool:
    """Whether a digit of any script is in the text."""
    if text.isascii():
        return any(map(text.__contains__, "0123456789"))  # much faster than a pattern
    return _DIGIT(text) is not None


def has_any(text: str, signs: tuple[str, ...]) -> bool:
    """Whether one of the signs stands in the text."""
    return any(map(text.__contains__, signs))


def prose(text: str) -> str:
    """The text without fenced blocks and `inline` code; a fence that is never closed reaches to the end."""
    if "`" in text or "~~~" in text:
        text = INLINE.sub(" ", FENCE.sub("", text))
    return text
