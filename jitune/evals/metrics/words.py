"""Exact match and word overlap of short answers, in any language.

    normalize("The Eiffel Tower!")                          # "eiffel tower"
    exact_match("Eiffel tower", ["The Eiffel Tower."])      # 1.0
    token_f1("the green house", ["a house"])                # 2 * (1/2) * 1 / (1/2 + 1) = 0.667

Normalizing is SQuAD's (Rajpurkar et al. 2016): lower case, no punctuation, no articles, single spaces. As in MLQA
(Lewis et al. 2020), punctuation is Unicode's, articles are the language's own, and Chinese and Japanese are compared
by characters, runs of other scripts within them by words.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

ARTICLES = {
    "en": "a an the",
    "de": "ein eine einen einem eines einer der die das den dem des",
    "es": "un una unos unas el la los las",
    "fr": "un une des le la les l",
    "it": "un uno una il lo la i gli le l",
    "pt": "um uma uns umas o a os as",
    "nl": "de het een",
    "vi": "của là cái chiếc những",
}
# Languages whose articles may hang on to the next word: l'homme, un'idea.
ELIDING = ("fr", "it")
BY_CHARACTERS = ("zh", "ja")
CHARACTER = r"[\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003134f]"


def normalize(text: str, language: str = "en") -> str:
    """Lower case without punctuation and the language's articles, single spaces; see the module's docstring.

    An article that is all that there is goes as well: "The" becomes "".
    """
    text = text.lower()
    if language in ELIDING:
        text = re.sub(r"['’]", " ", text)
    kept = (c for c in text if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    words = "".join(kept).split()
    articles = ARTICLES.get(language, "").split()
    return " ".join(w for w in words if w not in articles)


def tokens(text: str, language: str = "en") -> list[str]:
    """What F1 counts: the words of the normalized text; in Chinese and Japanese its characters.

    Example: tokens("北京2008年", "zh") -> ["北", "京", "2008", "年"].
    """
    text = normalize(text, language)
    return re.sub(f"({CHARACTER})", r" \1 ", text).split() if language in BY_CHARACTERS else text.split()


def exact_match(prediction: str, references: Sequence[str], language: str = "en") -> float:
    """1.0 where the normalized prediction is one of the normalized references, else 0.0.

    By the language's tokens, so that spaces between characters do not matter in Chinese and Japanese.
    """
    found = tokens(prediction, language)
    return float(any(found == tokens(r, language) for r in references))


def token_f1(prediction: str, references: Sequence[str], language: str = "en") -> float:
    """The best F1 of the bags of tokens over the references, in [0, 1].

    Where either side has no tokens it is 1 if neither has, else 0 (SQuAD 2.0).
    """
    found = tokens(prediction, language)
    return best(lambda reference: bag_f1(found, tokens(reference, language)), references)


def bag_f1(prediction: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of two bags: 2PR/(P + R), P and R being the shares of either that are in the other."""
    if not prediction or not reference:
        return float(not prediction and not reference)
    shared = (Counter(prediction) & Counter(reference)).total()
    return 2 * shared / (len(prediction) + len(reference))


def best(score: Callable[[str], float], references: Sequence[str]) -> float:
    """The highest score over the references, of which there must be one."""
    if not references:
        raise ValueError("an answer is compared with at least one reference; there are none")
    return max(map(score, references))
