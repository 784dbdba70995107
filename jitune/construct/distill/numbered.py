"""Items of a numbered list in a model's text.

    continued(" Name a prime.\\n10. Sort these words.")            # the text went on behind "9."
    listed("Sure!\\n9. Name a prime.\\n\\n10) Sort these words.")    # a chat model begins with its own number
"""

from __future__ import annotations

import re

NEXT = re.compile(r"\n\d+\s?\. ")
NUMBER = re.compile(r"(?:^|\n)[ \t]*(?:\*\*)?\d+\s?[.)](?:\*\*)?\s+")


def continued(text: str) -> list[str]:
    """Items of a text that goes on behind the first number, as the released code of Self-Instruct splits it."""
    return [item for item in map(str.strip, NEXT.split(text)) if item]


def listed(text: str) -> list[str]:
    """Items of a text that begins with a number, whatever it says before; none where there is no number."""
    return [item for item in map(str.strip, NUMBER.split(text)[1:]) if item]
