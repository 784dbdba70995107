"""Answers that must be one of a few texts. In: a record with accepted answers, an answer. Out: a verdict.

    record.meta                                       # {"answers": ["Paris", "City of Paris"]}
    build()(record, "paris.")                         # Checked(True)
    build(pattern=r"Answer: (.*)")(record, "Well.\\nAnswer: the City of Paris")   # Checked(True)
    build(pattern=r"Answer: (.*)")(record, "Paris")   # Checked(None, "nothing matches the pattern")

Accepted are `meta["answers"]`, else `meta["answer"]`, else the record's own answer, to which the pattern applies too
where it matches. Both sides are normalised before they are compared.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from jitune.construct.verify.verifier import Checked, Verifier
from jitune.data.record import Record, own_answer
from jitune.evals.metrics.answers import marked_text
from jitune.evals.metrics.words import ARTICLES
from jitune.types import UserError


def build(*, pattern: str = "", marked: bool = False, casefold: bool = True, nfkc: bool = True,
          punctuation: bool = True, articles: str = "") -> Verifier:  # fmt: skip
    """The verifier.

    Args:
      pattern: a regular expression; the answer is its last match, or the first group of that.
      marked: the answer is what stands behind the last "Answer:" or "answer is".
      casefold: upper and lower case are the same. nfkc: so are forms that Unicode calls compatible, as "ｋ" and "k".
      punctuation: marks are left out, but for those of numbers. articles: so are those of a language, such as "en".
    """
    read = _reader(pattern, marked)
    normal = _normalizer(casefold, nfkc, punctuation, articles)

    def verify(record: Record, text: str) -> Checked:
        accepted = [normal(_or_whole(read, one)) for one in _accepted(record)]
        if not any(accepted):
            return Checked(None, "the record has no answer to compare with")
        found = read(text)
        if found is None:
            return Checked(None, "nothing matches the pattern" if pattern else "the text marks no answer")
        right = normal(found) in accepted
        return Checked(right, "" if right else f"{found.strip()[:60]!r}, not {accepted[0][:60]!r}")

    verify.apart = bool(pattern)
    return verify


def parser(*, pattern: str = "", marked: bool = False, casefold: bool = True, nfkc: bool = True,
           punctuation: bool = True, articles: str = "") -> Callable[[str], str | None]:  # fmt: skip
    """What reads the answer of a text, normalised; None where there is none. Options as of `build`."""
    read, normal = _reader(pattern, marked), _normalizer(casefold, nfkc, punctuation, articles)

    def parse(text: str) -> str | None:
        found = read(text)
        return (normal(found) or None) if found is not None else None

    return parse


def _accepted(record: Record) -> list[str]:
    given = record.meta.get("answers", record.meta.get("answer"))
    given = [own_answer(record)] if given is None else given if isinstance(given, (list, tuple)) else [given]
    return [str(one) for one in given]


def _reader(pattern: str, marked: bool) -> Callable[[str], str | None]:
    if pattern and marked:
        raise UserError("pattern and marked both say where the answer is; give one of them")
    if marked:
        return marked_text
    if not pattern:
        return lambda text: text
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise UserError(f"pattern={pattern!r} is no regular expression: {error}") from error

    def read(text: str) -> str | None:
        last = None
        for last in wanted.finditer(text):  # noqa: B007
            pass
        return None if last is None else (last[1] if wanted.groups else last[0])

    return read


def _or_whole(read: Callable[[str], str | None], text: str) -> str:
    found = read(text)
    return text if found is None else found


def _is_mark(text: str, at: int) -> bool:
    """Punctuation that is no part of a number: "-5" is not "5", and "3.5" not "35"."""
    if not unicodedata.category(text[at]).startswith("P"):
        return False
    before, after = text[at - 1:at].isdigit(), text[at + 1:at + 2].isdigit()
    return not after or not (before or text[at] in "-.")


def _normalizer(casefold: bool, nfkc: bool, punctuation: bool, articles: str) -> Callable[[str], str]:
    if articles and articles not in ARTICLES:
        raise UserError(f"articles={articles!r}: known are those of {', '.join(ARTICLES)}")
    dropped = set(ARTICLES[articles].split()) if articles else set()

    def normal(text: str) -> str:
        text = unicodedata.normalize("NFKC", text) if nfkc else text
        text = text.casefold() if casefold else text
        if punctuation:
            bare = "".join(c for i, c in enumerate(text) if not _is_mark(text, i))
            text = bare if bare.strip() else text  # marks that are all that there is are the answer
        return " ".join(word for word in text.split() if word.lower() not in dropped)

    return normal
