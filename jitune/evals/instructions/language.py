"""What checks of instructions know of a language: one `Language` each, of data and small functions.

    count(language, "at least", 3, 2)            # True: 3 is at least 2
    split_sentences("Dr. Li came. He ate!", {"dr"})  # ["Dr. Li came.", "He ate!"]

A language of your own is one more `Language`; its ids begin with its code, as in `de:keywords:existence`:

    GERMAN = Language("de", "german", relations={"mindestens": at_least, "weniger als": less_than},
                      answers=("Ja.", "Nein.", "Vielleicht."), abbreviations={"dr", "z.b"})

The task takes it as `ifeval:my_package.german:GERMAN`; docs/instructions.md has more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import ge as at_least
from operator import le as at_most
from operator import lt as less_than

from jitune.types import UserError

__all__ = ["Language", "at_least", "at_most", "count", "less_than", "split_sentences", "spellings"]

# Stops, with what closes after them, before a space.
STOP = re.compile(r"""(?<![.!?…])([.!?…]+)(?:["'”’»)\]}*_][,;:"'”’»)\]}*_]*)?\s+""")
# What may stand in front of a word's first letter.
OPENING = "\"'“‘«([*_#-–—¿¡ \t\n"


def split_sentences(text: str, abbreviations: frozenset[str] | set[str] = frozenset()) -> list[str]:
    """The sentences of a text of a language that ends them with `.`, `!` or `?` and a space.

    A full stop ends none after an abbreviation or an initial; three of them, or one after a number, end none before a
    small letter. Line ends alone end none. The rules are those of Punkt (Kiss and Strunk, 2006) with a given list of
    abbreviations instead of a learned one, so that nothing is downloaded.

    Args:
      text: any text.
      abbreviations: in small letters, without their last stop: "e.g".
    """
    sentences, start = [], 0
    for stop in STOP.finditer(text):
        if _ends(text, stop, abbreviations):
            sentences.append(text[start:stop.end()].strip())
            start = stop.end()
    sentences.append(text[start:].strip())
    return [s for s in sentences if s]


def _ends(text: str, stop: re.Match, abbreviations: frozenset[str] | set[str]) -> bool:
    if set(stop[1]) & {"!", "?"}:
        return True
    word = re.search(r"\S*$", text[max(0, stop.start() - 40):stop.start()])[0].lstrip(OPENING)
    following = text[stop.end():].lstrip(OPENING)[:1]
    if len(stop[1]) > 1 or stop[1] == "…" or word.isdigit():
        return not following.islower()
    # "A. Smith" and "5 p. m. en punto", but "it was an o. We wondered".
    initial = len(word) == 1 and word.isalpha() and word != "I" and (word.isupper() or not following.isupper())
    return not (initial or word.lower() in abbreviations)


def spellings(text: str) -> list[str]:
    """The words as they are spelled: a hyphen joins two parts to one word, an apostrophe parts them."""
    return re.findall(r"\w+(?:-\w+)*", text)


def plain_words(text: str) -> list[str]:
    """Runs of letters, digits and underscores: what IFEval counts as words."""
    return re.findall(r"\w+", text)


@dataclass(frozen=True)
class Language:
    """What the checks ask of a language.

    Attributes:
      code: ISO 639-1; what ids of instructions begin with, and what the language detector answers.
      name: in English and small letters, as in the instruction `change_case:english_capital`.
      relations: the words of arguments such as "at least" -> a function of (count, wanted).
      answers: one of these must be in a constrained response.
      abbreviations: words after which a full stop ends no sentence, as for `split_sentences`.
      sentences: another splitter; None for `split_sentences`.
      words: what `number_words` counts.
      spaced: words are parted by spaces, so a keyword inside a longer word is not that keyword.
      fold: letters that count as the same become the same.
      bullets: a pattern of a line that is a bullet point.
      highlights: patterns of a highlighted section, each with its text as group 1.
      section: a pattern of a section's beginning; `{marker}` stands for the word that marks it.
      title: what opens and closes a title.
      quotes: pairs that may wrap an answer that is to be wrapped in quotation marks.
      trim: characters around an answer that do not hide its last phrase.
      comma: characters that count as one.
      checks: instructions of this language alone, as in `jitune.evals.instructions.checks.CHECKS`.
    """

    code: str
    name: str
    relations: Mapping[str, Callable[[int, int], bool]]
    answers: tuple[str, ...]
    abbreviations: frozenset[str] | set[str] = frozenset()
    sentences: Callable[[str], list[str]] | None = None
    words: Callable[[str], list[str]] = plain_words
    spaced: bool = True
    fold: Callable[[str], str] = str.lower
    bullets: str = r"^\s*\*[^*].*$|^\s*-.*$"
    highlights: tuple[str, ...] = (r"\*([^\n*]*)\*", r"\*\*([^\n*]*)\*\*")
    section: str = r"{marker}\s?\d+"
    title: tuple[str, str] = ("<<", ">>")
    quotes: tuple[tuple[str, str], ...] = (('"', '"'),)
    trim: str = '"'
    comma: str = ","
    checks: Mapping[str, Callable[..., bool]] = field(default_factory=dict)

    def split(self, text: str) -> list[str]:
        """The sentences of a text."""
        return self.sentences(text) if self.sentences else split_sentences(text, self.abbreviations)


def count(language: Language, relation: str, found: int, wanted: int) -> bool:
    """Whether `found` stands to `wanted` in a relation that the language names.

    Raises:
      UserError: naming the relations that there are.
    """
    if relation not in language.relations:
        raise UserError(f"relation {relation!r} is not one of {language.name}'s: {', '.join(language.relations)}")
    return language.relations[relation](found, wanted)
