"""Instructions that a model wrote: what is not worth a task, by the published filters of Self-Instruct and Alpaca.

    refused("Draw a cat on a mat.", policy="english", blacklist=BLACKLIST)     # ("blacklisted", "draw")
    refused("写一首关于大海的诗，四行。", policy="english", blacklist=BLACKLIST)   # ("not_ascii", "写")
    refused("写一首关于大海的诗，四行。", policy="unicode", blacklist=BLACKLIST)   # None

`english` is what the released code does, to the letter. `unicode` asks the same of any script: words are counted as
`filters.units` counts them where there are no spaces, punctuation is Unicode's (but for the marks that begin a Spanish
question), and no script is refused.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable
from functools import cache

from jitune.construct.curate.filters import units
from jitune.construct.distill.rouge import Pool
from jitune.types import UserError

POLICIES = ("unicode", "english")
# What a language model cannot see or do (Self-Instruct), and what Alpaca added.
BLACKLIST = ("image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw",
             "plot", "go to")  # fmt: skip
ALPACA = (*BLACKLIST, "video", "audio", "music", "flowchart", "diagram")
PROGRAM = "Write a program"
SHORTEST, LONGEST = 4, 150  # words
OPENING = "¿¡"  # punctuation that a sentence may begin with


class Gate:
    """Which instructions are taken: those that pass the filters and are like none before them, which they join.

    threshold: of ROUGE-L. texts: instructions that are there already, such as seeds.
    """

    def __init__(self, policy: str, blacklist: Iterable[str], threshold: float, texts: Iterable[str], *, option: str):
        if policy not in POLICIES:
            raise UserError(f"{option}.policy={policy!r} is not one of {', '.join(POLICIES)}")
        self.policy, self.blacklist, self.texts = policy, tuple(blacklist), list(texts)
        self.pool = Pool(threshold, policy, self.texts)

    def refuses(self, text: str) -> tuple[str, str] | None:
        """(reason, detail), or None: the instruction is taken and remembered."""
        found = refused(text, policy=self.policy, blacklist=self.blacklist)
        alike = None if found else self.pool.admit(text)
        if alike:
            return "too_similar", f"ROUGE-L {alike.score:.2f} with {self.texts[alike.number]!r:.200}"
        if not found:
            self.texts.append(text)
        return found


def tidy(text: str, *, policy: str) -> str:
    """An instruction on one line that begins with a capital; `english` makes all else lower case, as published."""
    text = " ".join(text.split())
    return text.capitalize() if policy == "english" else text[:1].upper() + text[1:]


def refused(text: str, *, policy: str, blacklist: tuple[str, ...]) -> tuple[str, str] | None:
    """(reason, detail) for which an instruction is not taken, in the published order; None where it is."""
    count = len(text.split()) if policy == "english" else units.words(text)
    if not text:
        return "empty", ""
    if count < SHORTEST:
        return "too_short", f"{count} words, at least {SHORTEST}"
    if count > LONGEST:
        return "too_long", f"{count} words, at most {LONGEST}"
    word = _pattern(blacklist).search(text) if blacklist else None
    if word:
        return "blacklisted", word[0].lower()
    if text.startswith(PROGRAM):
        return "write_a_program", PROGRAM
    first = text[0]
    if policy == "english":
        return ("punctuation", first) if first in string.punctuation else None if first.isascii() else (
            "not_ascii", first)
    return ("punctuation", first) if unicodedata.category(first)[0] in "PS" and first not in OPENING else None


@cache
def _pattern(words: tuple[str, ...]) -> re.Pattern:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE)
