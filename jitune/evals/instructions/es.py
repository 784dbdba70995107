"""Spanish, for instructions of M-IFEval (Dussolle et al., 2025, arXiv 2502.04688).

    CHECKS["punctuation:question_marks"]("¿Vienes?", SPANISH)       # True

Its own instructions are of opening marks, of ñ and ü, and of words with an acute accent.
"""

from __future__ import annotations

import re

from jitune.evals.instructions.language import Language, at_least, at_most, count, spellings


def question_marks(response: str, language: Language) -> bool:
    """A question that is not blank stands between both of its marks."""
    return any(text.strip(" \n\t¿") for text in re.findall(r"¿([^?]*)\?", response))


def exclamation_marks(response: str, language: Language) -> bool:
    """An exclamation that is not blank stands between both of its marks."""
    return any(text.strip(" \n\t¡") for text in re.findall(r"¡([^!]*)!", response))


def _words_with(response: str, characters: str) -> int:
    return sum(bool(set(characters) & set(word.lower())) for word in spellings(response))


def enie(response: str, language: Language, *, let_frequency: int) -> bool:
    """Exactly so many words have an ñ."""
    return _words_with(response, "ñ") == let_frequency


def dieresis(response: str, language: Language, *, let_frequency: int) -> bool:
    """Exactly so many words have a ü."""
    return _words_with(response, "ü") == let_frequency


def tildes(response: str, language: Language, *, num_words: int, relation: str) -> bool:
    """So many words have a vowel with an acute accent."""
    return count(language, relation, _words_with(response, "áéíóú"), num_words)


CHECKS = {
    "punctuation:question_marks": question_marks,
    "punctuation:exclamation_marks": exclamation_marks,
    "special_character:enie": enie,
    "special_character:dieresis": dieresis,
    "special_character:tildes": tildes,
}

SPANISH = Language(
    code="es",
    name="spanish",
    relations={"al menos": at_least, "como máximo": at_most},
    answers=("Sí.", "No.", "Quizás."),
    abbreviations=frozenset(
        "sr sra srta dr dra dña prof ud uds etc pág págs núm art cap vol av avda p.ej aprox ee.uu "
        "a.m p.m a.c d.c".split()
    ),
    words=spellings,
    bullets=r"^\s*\*[^*].*$",
    checks=CHECKS,
)
