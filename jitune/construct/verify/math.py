"""Mathematical answers, compared exactly. In: a record with a reference, a worked solution. Out: a verdict.

    verify = build()
    verify(record, "... 3*6 = 18\\n#### 18")          # reference 18: Checked(True)
    verify(record, r"... so it is \\boxed{\\frac{36}{2}}.")              # Checked(True)
    verify(record, "The answer is 17.")              # Checked(False, "17, not 18")
    verify(record, "I do not know.")                 # Checked(None, "no number")

The reference is `record.meta["answer"]`, else the record's own answer. Both sides are read alike: the last \\boxed{},
else what stands behind the last marker ("####", "The answer is", "A:"), else the last number. Numbers of any script,
fractions, mixed numbers, percent, scientific notation, thousands as the `language` groups them, LaTeX, currencies and
units: where both sides have a unit it counts, and 1.5 km is 1500 m; where one has none, the numbers count, and 25 % is
25 or 0.25. Tuples, sets, ranges and lists of numbers are compared as such. What is read as no number, such as 2√3, is
right where both sides are written alike, and else None.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from jitune.construct.verify.math_text import LONGEST, plain, stated
from jitune.construct.verify.math_value import Number, Several, Value, bracketed, equal, first, last, several, whole
from jitune.construct.verify.math_value import show_value as show
from jitune.construct.verify.verifier import Checked, Verifier
from jitune.data.record import Record, own_answer
from jitune.types import UserError


def build(*, language: str = "en", tolerance: float = 0.0) -> Verifier:
    """The verifier.

    Args:
      language: ISO 639-1, by which a single separator is read: 1.234 is 1234 in German.
      tolerance: relative difference up to which numbers are the same; 0 compares exactly.
    """
    if not 0 <= tolerance < 1:
        raise UserError(f"tolerance={tolerance}: it is from 0 (exact) to below 1")

    def verify(record: Record, text: str) -> Checked:
        wanted, written = read_reference(record, language)
        if wanted is None and not written:
            return Checked(None, "the record has no answer to compare with")
        found, said = read(text, language, many=isinstance(wanted, Several))
        if wanted is None or found is None:
            if said is not None and _bare(said) == _bare(written):
                return Checked(True)
            what = f"{said.strip()[:60]!r} cannot be read as a number" if said else "no number"
            return Checked(None, what if wanted is not None else f"the reference {written[:60]!r} is no number")
        right = equal(found, wanted, tolerance=tolerance)
        return Checked(right, "" if right else f"{show(found)}, not {show(wanted)}")

    return verify


def parser(*, language: str = "en") -> Callable[[str], str | None]:
    """What reads the answer of a text, in a form that is the same for the same number; None where there is none.

    Units are left out: "$18" and "18 dollars a day" are one answer.
    """

    def parse(text: str) -> str | None:
        found, said = read(text, language)
        if found is None:
            return _bare(said) or None if said is not None else None
        return str(found.value) if isinstance(found, Number) else show(found)

    return parse


def read_reference(record: Record, language: str = "en") -> tuple[Value | None, str]:
    """The reference's value, or None where it is none that can be read, and its words."""
    given = record.meta.get("answer")
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        return Number(Fraction(str(given))), str(given)
    text = (given if isinstance(given, str) else own_answer(record)).strip()
    found = stated(text)
    if found is None and "\n" not in text:
        found = text, True
    if found is None:
        return last(plain(text[-LONGEST:]), language), text
    words = plain(found[0])
    many = several(words, language)
    value = many if many and many.brackets == "-" else whole(words, language) or many  # 3-5 is no difference here
    return value or (None if found[1] else first(words, language)), found[0]


def read(text: str, language: str = "en", *, many: bool = False) -> tuple[Value | None, str | None]:
    """The value that a solution gives as its answer, or None, and the words in which it states it, or None.

    many: several numbers are looked for.
    """
    found = stated(text)
    if found is None:
        words = plain(text[-LONGEST:])
        alone = whole(words, language) if len(words) < 100 and "\n" not in words.strip() and not many else None
        if alone:
            return alone, None
        return (bracketed(words.strip().rpartition("\n")[2], language) if many else last(words, language)), None
    words = plain(found[0])
    if many:
        return bracketed(words, language), found[0]
    if found[1]:
        return whole(words, language) or several(words, language), found[0]
    value = first(words, language)
    if value is None and not re.search(r"\d", words):  # "The answer is clear."
        return last(plain(text[-LONGEST:]), language), found[0]
    return value, found[0]


def _bare(text: str) -> str:
    return re.sub(r"\s+", "", plain(text)).strip(".$").casefold()
