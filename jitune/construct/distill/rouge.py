"""How much a new instruction repeats of those there are: the highest ROUGE-L F1 against a pool that grows.

    pool = Pool(0.7)
    pool.add("Write a poem about the sea.")
    pool.over("Write a poem about the sky.")       # Alike(0.833, 0): 5 of 6 tokens in common, in order
    pool.over("Add two numbers.")                  # None: nothing is over 0.7

ROUGE-L (Lin 2004) is the F1 of precision and recall of the longest common subsequence of tokens. Two ways to cut:

| mode | tokens |
|---|---|
| unicode | words in any script, characters where a script has no spaces (`curate.words`) |
| english | runs of [a-z0-9] in lower case, as rouge-score without its stemmer: other scripts have none, and score 0 |

The subsequence is rapidfuzz's, over one character a token; the score is computed in rouge-score's own order of
operations, so that its verdicts at a threshold are the same bit for bit. Texts whose lengths rule out a higher score
are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jitune.construct.curate import words
from jitune.types import UserError

MODES = ("unicode", "english")
LATIN = re.compile(r"[a-z0-9]+")
FIRST, SURROGATES, LAST = 0x100, 0xD800, 0x10FFFF
ROUNDING = 1e-9  # far more than what is lost in two products and a quotient


class Alike(NamedTuple):
    """The text of the pool that is most like a new one: its F1, and its number; of equals the first."""

    score: float
    number: int


def tokens(text: str, mode: str = "unicode") -> list[str]:
    """The tokens of a text; see the module's docstring."""
    return LATIN.findall(text.lower()) if mode == "english" else words.tokens(text)


def f1(common: int, one: int, other: int) -> float:
    """Of a common subsequence of so many tokens in texts of so many: as rouge-score computes it, or 0.0."""
    if not common:
        return 0.0
    precision, recall = common / one, common / other
    return 2 * precision * recall / (precision + recall)


def load():
    """rapidfuzz's `cdist` and the length of common subsequences. Raises UserError where it is not installed."""
    try:
        from rapidfuzz.distance import LCSseq
        from rapidfuzz.process import cdist
    except ImportError as error:
        raise UserError(f"ROUGE-L needs rapidfuzz: pip install 'jitune[data]' ({error})") from error
    return cdist, LCSseq.similarity


class Pool:
    """Texts, and which of them is most like a new one.

    threshold: what a score must be over to count. mode: one of `MODES`.
    """

    def __init__(self, threshold: float = 0.7, mode: str = "unicode", texts: Iterable[str] = ()):
        if mode not in MODES:
            raise UserError(f"ROUGE-L: mode={mode!r} is not one of {', '.join(MODES)}")
        if not 0 <= threshold <= 1:
            raise UserError(f"ROUGE-L: a threshold of {threshold!r} is not in [0, 1]")
        self.threshold, self.mode, self.size = threshold, mode, 0
        self.ids: dict[str, str] = {}
        self.by_length: dict[int, tuple[list[str], list[int]]] = {}  # length -> coded texts, their numbers
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """One more text; those without a token are counted and never alike."""
        self._put(self._coded(tokens(text, self.mode)))

    def over(self, text: str) -> Alike | None:
        """The text of the pool that is most like this one, where its score is over the threshold."""
        return self._over(self._coded(tokens(text, self.mode)))

    def admit(self, text: str) -> Alike | None:
        """`over`, and `add` where that gives None."""
        coded = self._coded(tokens(text, self.mode))
        found = self._over(coded)
        if found is None:
            self._put(coded)
        return found

    def _put(self, coded: str) -> None:
        texts, numbers = self.by_length.setdefault(len(coded), ([], []))
        texts.append(coded)
        numbers.append(self.size)
        self.size += 1

    def _coded(self, found: list[str]) -> str:
        """One character a token, which rapidfuzz compares fastest."""
        for token in found:
            if token not in self.ids:
                code = FIRST + len(self.ids)
                code += 0x800 if code >= SURROGATES else 0
                if code > LAST:
                    raise UserError("ROUGE-L: the pool has more than a million different words")
                self.ids[token] = chr(code)
        return "".join([self.ids[token] for token in found])

    def _over(self, coded: str) -> Alike | None:
        cdist, similarity = load()
        size, best = len(coded), None
        if not size:
            return None
        for length, (texts, numbers) in self.by_length.items():
            # All of the shorter text may be common at most; a length of no text can reach the threshold.
            if not length or f1(min(size, length), size, length) <= self.threshold:
                continue
            least = self._least(size, length)
            common = cdist([coded], texts, scorer=similarity, score_cutoff=least, dtype=np.int32)[0]
            at = int(common.argmax())
            score = f1(int(common[at]), size, length)
            if score > self.threshold and (best is None or (score, -numbers[at]) > (best.score, -best.number)):
                best = Alike(score, numbers[at])
        return best

    def _least(self, size: int, length: int) -> int:
        """Fewer tokens in common cannot be over the threshold: F1 is 2 common / (size + length), but for rounding."""
        return max(1, int(self.threshold * (size + length) / 2 - ROUNDING))
