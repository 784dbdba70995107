"""Which language a text is in: langdetect, which IFEval was published with, with a seed of its own for every text.

    detect("Où est la gare, s'il vous plaît ?")     # "fr"

Its answers are those that the published figures rest on, mistakes included: "etchings" alone is taken for German.
"""

from __future__ import annotations

import functools
from typing import Any

from jitune.types import UserError

# The codes that langdetect answers with, but for its two of Chinese, which are one here.
LANGUAGES = frozenset(
    "af ar bg bn ca cs cy da de el en es et fa fi fr gu he hi hr hu id it ja kn ko lt lv mk ml mr ne nl no pa pl pt ro "
    "ru sk sl so sq sv sw ta te th tl tr uk ur vi zh".split()
)


@functools.cache
def _factory() -> Any:
    """The profiles of the languages, loaded once; the package's own factory and its seed are left alone."""
    try:
        from langdetect import detector_factory
    except ImportError as error:
        raise UserError(f"instructions on languages need langdetect: pip install 'jitune[eval]' ({error})") from error
    factory = detector_factory.DetectorFactory()
    factory.load_profile(detector_factory.PROFILES_DIRECTORY)
    factory.set_seed(0)
    return factory


def detect(text: str) -> str:
    """The likeliest of LANGUAGES, an ISO 639-1 code; "" for a text that tells nothing. The same in every run.

    Raises:
      UserError: langdetect is not installed.
    """
    detector = _factory().create()
    from langdetect import LangDetectException

    detector.append(text)
    try:
        return detector.detect().partition("-")[0]
    except LangDetectException:  # no letters, or only those of an address or of a script that it does not know
        return ""
