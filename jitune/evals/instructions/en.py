"""English, for instructions of IFEval (Zhou et al., 2023); their ids bear no code of a language.

    ENGLISH.split("Mr. Ng left. Why?")      # ["Mr. Ng left.", "Why?"]
"""

from __future__ import annotations

from jitune.evals.instructions.detect import detect
from jitune.evals.instructions.language import Language, at_least, less_than


def all_capital(response: str, language: Language) -> bool:
    """It is English, and all letters are capitals. The detector sees the capitals, as it did for published figures."""
    return response.isupper() and detect(response) == language.code


ENGLISH = Language(
    code="en",
    name="english",
    relations={"at least": at_least, "less than": less_than},
    answers=("My answer is yes.", "My answer is no.", "My answer is maybe."),
    abbreviations=frozenset(
        "mr mrs ms dr prof st jr sr gen col capt lt rev hon gov sen rep vs etc inc ltd co corp bros dept est fig vol "
        "approx appt apt ave blvd rd mt ft jan feb mar apr jun jul aug sep sept oct nov dec "
        "e.g i.e u.s u.k u.n d.c a.m p.m ph.d".split()
    ),
    checks={"change_case:english_capital": all_capital},
)
