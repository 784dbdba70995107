"""How much of an answer stands in its source, by words alone: no model, any language.

In: an answer and a source, as text. Out: a share in [0, 1], or None where the answer holds no words.

    source = "Crayola began with chalk, then crayons."
    word_precision("It began with crayons", source)      # 3/4: "it" is not in the source
    ngram_coverage("began with crayons", source, n=2)    # 1/2: "began with" is, "with crayons" is not
    kf1("began with crayons", source)                    # 2 * 3 / (3 + 6) = 2/3

Such metrics see copying, not meaning: "did not begin with chalk" is grounded by its words. How far they agree with
human labels is what the task `begin` measures.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

# Scripts that put no space between words: Japanese kana, Han (with extension A and compatibility). Each character
# counts as a word.
UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(f"[{UNSPACED}]|(?:(?![{UNSPACED}_])\\w)+")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+|(?<=[。！？])[」』”’）]*|\n+")


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; a Han or kana character is a word.

    Example: "Don't! 24 次" -> ["don", "t", "24", "次"].
    """
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """The n-grams in order; a text shorter than n has none."""
    return [tuple(tokens[i:i + n]) for i in range(len(tokens) - n + 1)]


def sentences(text: str) -> list[str]:
    """The sentences of a text that hold words: split after . ! ? and a space, after 。！？, and at line ends."""
    return [s.strip() for s in SENTENCE_END.split(text) if words(s)]


def contains(text: str, phrase: str) -> bool:
    """Whether a phrase stands in a text as a run of words; one without words stands in none."""
    needle = words(phrase)
    return bool(needle) and tuple(needle) in set(ngrams(words(text), len(needle)))


def word_precision(answer: str, source: str) -> float | None:
    """The share of the answer's words that occur in the source."""
    return ngram_coverage(answer, source, n=1)


def ngram_coverage(answer: str, source: str, *, n: int = 2) -> float | None:
    """The share of the answer's n-grams that occur in the source; an answer of fewer words is one shorter n-gram."""
    said = words(answer)
    n = min(n, len(said))
    if not n:
        return None
    there = set(ngrams(words(source), n))
    return sum(gram in there for gram in ngrams(said, n)) / (len(said) - n + 1)


def kf1(answer: str, source: str) -> float | None:
    """F1 between the words of the answer and those of the source, each counted as often as in both.

    Knowledge F1 of Shuster et al. 2021, "Retrieval Augmentation Reduces Hallucination in Conversation".
    """
    said, there = Counter(words(answer)), Counter(words(source))
    if not said:
        return None
    return 2 * (said & there).total() / (said.total() + there.total())


def rouge_l(answer: str, source: str) -> float | None:
    """F1 over the longest common subsequence of words (Lin 2004), with words of every script and no stemming."""
    said, there = words(answer), words(source)
    if not said:
        return None
    return 2 * _common_subsequence(said, there) / (len(said) + len(there))


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest one, by bit vectors over `b` (Hyyrö 2004): one big integer a word of `a`."""
    at: dict[str, int] = {}
    for i, word in enumerate(b):
        at[word] = at.get(word, 0) | 1 << i
    full = (1 << len(b)) - 1
    row = full
    for word in a:
        match = row & at.get(word, 0)
        row = ((row + match) | (row - match)) & full
    return len(b) - row.bit_count()


METRICS = {"word_precision": word_precision, "bigram_coverage": ngram_coverage, "kf1": kf1, "rouge_l": rouge_l}
