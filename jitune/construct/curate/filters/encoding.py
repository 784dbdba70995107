"""Encoding damage: texts that were decoded wrongly, or carry what no writer typed.

    judge("CafÃ© crÃ¨me")       # Reject("mojibake", '"Ã©", "Ã¨"')
    judge("Where is \\ufffd?")   # Reject("replacement_character", "1 of U+FFFD")
    judge("раypal")             # Reject("mixed_scripts", ...): р and а are Cyrillic
    judge("Café à Hà Nội")      # Keep

Every check is by its name, and looks at all texts of a record, wanted or not: damage has no preference. The checks
cost little where they do not apply: what a text is made of is known from its distinct characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

from jitune.construct.curate.filters import mojibake, parts, units
from jitune.construct.curate.stage import Filter, Keep, Reject, Verdict
from jitune.data.record import Record, all_texts

# Joiners, marks of direction and the like, that show nothing. A few are part of words and emoji in many scripts.
INVISIBLE = "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f"
FLOOD = re.compile(f"[{INVISIBLE}]{{5,}}|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0000-\U000e007f]+")
FLOODS = re.compile(f"[{INVISIBLE}\U000e0000-\U000e007f]")
# The same less joiners and variation selectors, which words of many scripts and emoji have by the dozen.
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f]")
# Letters and digits of fewer distinct characters than this tell nothing of a share.
ENOUGH = 30
QUESTION_WORD = re.compile(r"(?<!\S)\?{2,}(?!\S)")
QUESTION_RUN = re.compile(r"\?{8,}")
ENTITY = re.compile(r"&(?:nbsp|amp|quot|apos|lt|gt|ndash|mdash|[lr]squo|[lr]dquo|hellip|rsaquo|laquo|raquo|eacute|"
                    r"egrave|"
                    r"uuml|ouml|auml|szlig|copy|#\d{2,7}|#x[0-9a-f]{2,6});", re.IGNORECASE)
TAG = re.compile(r"</?(?:p|div|span|font|h[1-6]|strong|em|a|img|table|tr|td|th|tbody|ul|ol|li|script|style|center)"
                 r"(?:\s[^<>]{0,300})?/?>", re.IGNORECASE)
# Where a text or its prompt is about markup or code, markup is no damage.
ABOUT_CODE = re.compile(r"html|xml|css|svg|jsx|php|javascript|\bjs\b|vue|react|angular|markdown|markup|\btags\b|\bweb|"
                        r"code|script|entit|</|網頁|网页|代码|代碼|標籤|标签|ウェブ|タグ|コード|코드|태그|код|тег|"
                        r"وسم|كود|código|etiqueta|"
                        r"balise|कोड|टैग|แท็ก|โค้ด|mã nguồn|thẻ", re.IGNORECASE)
BEGINS = re.compile(r"\s*<")
DOCUMENT = re.compile(r"<!DOCTYPE|<html|<head|<body|<script|<\?(?:xml|php)|=\"[^\"<>]{0,200}\">", re.IGNORECASE)


class Found(NamedTuple):
    """What a check found, for people to read."""

    reason: str
    detail: str


@lru_cache(maxsize=1 << 16)
def _bad(character: str) -> str | None:
    """The reason for which a character should not be in a text."""
    point = ord(character)
    if point == 0xFFFD:
        return "replacement_character"
    if point == 0xFEFF:
        return "byte_order_mark"
    if 0xFDD0 <= point <= 0xFDEF or point & 0xFFFE == 0xFFFE or 0x40000 <= point < 0xE0000:
        return "unassigned"  # for good: no later version of Unicode gives these to a script
    category = unicodedata.category(character)
    if category == "Cc" and character not in "\t\n\v\f\r\x85":
        return "control_character"
    return {"Co": "private_use"}.get(category)


_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]").search  # those of ASCII
NAMED = ("replacement_character", "byte_order_mark", "unassigned", "control_character", "private_use")


def _characters(text: str, distinct: str, reason: str) -> Found | None:
    bad = [c for c in distinct if _bad(c) == reason]
    return Found(reason, ", ".join(f"{text.count(c)} of U+{ord(c):04X}" for c in sorted(bad)[:5])) if bad else None


def _mojibake(text: str, distinct: str) -> Found | None:
    found = [] if mojibake.LEADS.isdisjoint(distinct) else mojibake.find(text)
    return Found("mojibake", ", ".join(f'"{piece}"' for piece in found[:5])) if found else None


def _invisible(text: str, distinct: str) -> Found | None:
    if text.isascii():
        return None
    flood = FLOOD.search(text) if FLOODS.search(distinct) else None
    # A flag of a region is a black flag and up to six tags.
    count = len(_INVISIBLE.findall(text)) if _INVISIBLE.search(distinct) else 0
    visible = sum(c.isalnum() for c in text) if count else 0
    if flood or (count > ENOUGH and count > visible / 2):
        return Found("invisible_characters", f"{len(flood[0]) if flood else count} in {'a row' if flood else 'all'}")
    return None


def _question_marks(text: str, distinct: str) -> Found | None:
    """What is left of letters that an encoding has no place for."""
    if "??" not in text:
        return None
    marks = QUESTION_WORD.findall(text)
    letters = sum(c.isalnum() for c in text[:20000])
    # "?????? ????" is a lost sentence, "What?????" and "1, 2, ????" are people's.
    if sum(map(len, marks)) > letters / 4 and len(marks) > 2 or (QUESTION_RUN.search(text) and letters < 8):
        return Found("question_marks", parts.shown(text))
    return None


def _html(text: str, distinct: str) -> Found | None:
    if not ("&" in distinct and ";" in distinct or "<" in distinct and ">" in distinct) or BEGINS.match(text):
        return None
    plain = units.prose(text)
    found = ENTITY.search(plain) or (None if DOCUMENT.search(plain) else TAG.search(plain))
    if not found:
        return None
    return Found("html", parts.shown(found[0]))


LATIN, CYRILLIC, GREEK = "A-Za-z\u00c0-\u024f", "\u0400-\u052f", "\u0370-\u03ff"
# Letters that look like one of the other script's.
LIKE_LATIN = frozenset("асеорхуіјѕһԁԛԝАВЕКМНОРСТХУІЈЅԚԜ")
LIKE_CYRILLIC = frozenset("aceopxyijshdABEKMHOPCTXYIJS")
GREEK_LIKE_LATIN = frozenset("οΑΒΕΖΗΙΚΜΝΟΡΤΥΧ")
LATIN_LIKE_GREEK = frozenset("oABEZHIKMNOPTYX")
_LETTERS = re.compile(f"[{LATIN}{CYRILLIC}{GREEK}]{{4,}}")
_OF = {"latin": re.compile(f"[{LATIN}]"), "cyrillic": re.compile(f"[{CYRILLIC}]"), "greek": re.compile(f"[{GREEK}]")}


def _mixed(text: str, distinct: str) -> Found | None:
    """Words of one script with look-alike letters of another in them.

    Two scripts in a row are none: "iPhoneа", "DVDшный", "μm"; nor are words in Latin and Japanese ("Tシャツ").
    """
    there = {name for name, one in _OF.items() if one.search(distinct)} if not text.isascii() else set()
    if "latin" not in there or len(there) < 2:
        return None
    for word in _LETTERS.findall(text):
        if not word.isascii() and _disguised(word):
            return Found("mixed_scripts", " ".join([f'"{word[:40]}"', *(f"U+{ord(c):04X}" for c in word[:12])]))
    return None


def _disguised(word: str) -> bool:
    latin = _OF["latin"].findall(word)
    for name, as_latin, as_other in (("cyrillic", LIKE_LATIN, LIKE_CYRILLIC),
                                     ("greek", GREEK_LIKE_LATIN, LATIN_LIKE_GREEK)):
        other = _OF[name].findall(word)
        if not latin or not other or len(latin) + len(other) < len(word):
            continue
        if len(latin) > len(other):
            # A Russian ending on a foreign name: "Facebookе".
            ending = len(other) < 4 and word.endswith("".join(other))
            return set(other) <= as_latin and not ending
        return set(latin) <= as_other and len(other) > len(latin) and not (name == "greek" and len(word) < 6)
    return False


CHECKS: dict[str, Callable[[str, str], Found | None]] = {
    "mojibake": _mojibake,
    **{name: partial(_characters, reason=name) for name in NAMED},
    "invisible_characters": _invisible, "question_marks": _question_marks, "html": _html, "mixed_scripts": _mixed,
}


def _plain(text: str) -> bool:
    """Whether a text is in ASCII and has nothing that a check looks for, as most English ones."""
    return text.isascii() and (text.replace("\n", "").isprintable() or _CONTROL(text) is None) and "??" not in text \
        and not ("&" in text and ";" in text or "<" in text and ">" in text)


def judge(record: Record, *, checks: tuple[str, ...], max_size: int) -> Verdict:
    """Rejects under the name of the first check that finds something."""
    for text in all_texts(record):
        text = text[:max_size]
        if _plain(text):
            continue
        distinct = "".join(set(text))
        there = {_bad(character) for character in distinct}
        for name in checks:
            if name in NAMED and name not in there:
                continue
            found = CHECKS[name](text, distinct)
            if found and not (name == "html" and _about_code(record)):
                return Reject(*found)
    return Keep(record)


def _about_code(record: Record) -> bool:
    return any(ABOUT_CODE.search(prompt[:4000]) for prompt in parts.of(record).prompts)


def build(*, checks: str = ",".join(CHECKS), max_size: int = 1_000_000) -> Filter:
    """The filter.

    Args:
      checks: names out of CHECKS, divided by commas.
      max_size: characters of each text that are looked at.

    Raises:
      UserError: a check that does not exist.
    """
    chosen = parts.names(checks, CHECKS, "encoding: checks")
    return Filter("encoding", partial(judge, checks=chosen, max_size=int(parts.number(max_size, "encoding: max_size"))))
