"""French, for instructions of M-IFEval (Dussolle et al., 2025, arXiv 2502.04688).

    CHECKS["special_character:no_accents"]("Un bateau rouge", FRENCH)       # True

Its own instructions are of accents, of ç and œ, of digits, and of saying `tu`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from jitune.evals.instructions.language import Language, at_least, less_than, plain_words

TU = re.compile(r"\b(?:tu|te|toi|ton|ta|tes)\b|\bt['’](?=\w)", re.IGNORECASE)


def without_accents(text: str) -> str:
    """The text with its letters' accents and cedillas left out."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def ethel_or_cedilla(response: str, language: Language, *, forbidden_char: str) -> bool:
    """The letter is not in it, small or capital."""
    return forbidden_char.lower() not in unicodedata.normalize("NFC", response).lower()


def no_accents(response: str, language: Language) -> bool:
    """No letter has an accent or a cedilla."""
    return without_accents(response) == unicodedata.normalize("NFD", response)


def accents(response: str, language: Language, *, word_to_accentuate: Mapping[str, str]) -> bool:
    """The words are in it with their accents, and none of them without; some of them is enough.

    word_to_accentuate: the word without its accents -> the right one.
    """
    words = plain_words(unicodedata.normalize("NFC", response).lower())
    found = [(word, word_to_accentuate.get(without_accents(word))) for word in words]
    return any(right for _, right in found) and all(word == right for word, right in found if right)


def no_digits(response: str, language: Language) -> bool:
    """It has no digit."""
    return not re.search(r"\d", response)


def informal_address(response: str, language: Language) -> bool:
    """It says `tu`, in one of the word's forms."""
    return TU.search(response) is not None


CHECKS = {
    "special_character:ethel_or_cedilla": ethel_or_cedilla,
    "special_character:no_accents": no_accents,
    "special_character:accents": accents,
    "detectable_content:no_digits": no_digits,
    "detectable_content:informal_address": informal_address,
}

FRENCH = Language(
    code="fr",
    name="french",
    relations={"moins de": less_than, "au moins": at_least},
    answers=("Oui.", "Non.", "Peut-être."),
    abbreviations=frozenset("m mm dr pr st ste me p.ex etc cf env av apr chap vol fig tél j.-c c.-à-d".split()),
    title=("##", "##"),
    quotes=(('"', '"'), ("'", "'"), ("«", "»"), ("“", "”")),
    trim='"«»“” \u00a0\u202f',
    checks=CHECKS,
)
