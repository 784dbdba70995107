"""Which language a text is in: py3langid, which is deterministic and needs no network.

    detect("Où est la gare, s'il vous plaît ?")     # "fr"
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from jitune.types import UserError

# Those of langdetect, which IFEval was published with: fewer languages, fewer mistakes on short texts.
LANGUAGES = frozenset(
    "af ar bg bn ca cs cy da de el en es et fa fi fr gu he hi hr hu id it ja kn ko lt lv mk ml mr ne nl no pa pl pt ro "
    "ru sk sl so sq sv sw ta te th tl tr uk ur vi zh".split()
)


@functools.cache
def _ranker() -> Callable[[str], list[tuple[str, float]]]:
    try:
        import py3langid
    except ImportError as error:
        raise UserError(f"instructions about languages need py3langid: pip install 'jitune[eval]' ({error})") from error
    return py3langid.rank


def detect(text: str) -> str:
    """The likeliest of LANGUAGES, an ISO 639-1 code. Capitals say nothing of a language, and mislead: they are lowered.

    A text without letters is in none: "".

    Raises:
      UserError: py3langid is not installed.
    """
    if not any(map(str.isalpha, text)):
        return ""
    return next(code for code, _ in _ranker()(text.lower()) if code in LANGUAGES)
