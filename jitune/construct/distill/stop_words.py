"""Whether a text says nothing: only punctuation and words that carry no content; a text in, a verdict out.

    only_stop_words("It is what it is...")      # True
    only_stop_words("The Danube.")              # False
    only_stop_words("。！？—")                   # True: punctuation of any script

Punctuation is what Unicode has in its categories P, S, Z and C. The words are English function words; a file of
others, one a line, adds those of another language.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from pathlib import Path

from jitune.types import UserError

ENGLISH = frozenset(
    "a an the this that these those such same some any each every all both either neither no nor not none "
    "i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers "
    "herself it its itself they them their theirs themselves one ones oneself who whom whose which what "
    "am is are was were be been being do does did doing done have has had having can could may might must shall should "
    "will would ought "
    "and or but if then else because as until while of at by for with about against between into through during before "
    "after above below to from up down in out on off over under again further once upon than so too very just only "
    "here there when where why how now "
    "t s d ll m o re ve don doesn didn isn aren wasn weren hasn haven hadn won wouldn couldn shouldn mustn mightn "
    "needn ain shan".split())


def only_stop_words(text: str, more: Collection[str] = ()) -> bool:
    """Whether every word is a stop word; of a text without a word it is true. more: others, in lower case."""
    letters = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return all(word in ENGLISH or word in more for word in letters.casefold().split())


def read_words(path: str, *, option: str = "config.evol_instruct.stop_words") -> frozenset[str]:
    """The words of a file, one a line; none where no file is named.

    Raises:
      UserError: the file cannot be read.
    """
    if not path:
        return frozenset()
    try:
        return frozenset(Path(path).expanduser().read_text(encoding="utf-8").casefold().split())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option}={path}: is no text in UTF-8 that can be read: {error}") from error
