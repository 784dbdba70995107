"""A text in, the same for a terminal or a page out: what nobody would see, or what a terminal would obey, written out.

    visible("a\\0b\\u202ec")      # "a\\\\u0000b\\\\u202ec"
"""

from __future__ import annotations

import re

# Control characters but tab and newline; surrogates, which no file can hold; what turns or hides parts of a line.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200b\u202a-\u202e\u2060-\u2069\ufeff\ufffe\uffff"
                    "\U000e0000-\U000e007f]")


def visible(text: str) -> str:
    """The text with such characters as codes; a carriage return before a newline is dropped."""
    return UNSEEN.sub(lambda m: f"\\u{ord(m[0]):04x}", text.replace("\r\n", "\n"))
