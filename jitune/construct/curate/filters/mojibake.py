"""Mojibake: UTF-8 that was read as Latin-1, Windows-1252, Mac Roman or GBK.

    find("Itâ€™s cafÃ©")                # ["â€™", "Ã©"]
    find("NÃO, «CRÉÉ», jusqu'à…»")      # []: people write these

A character of two bytes in UTF-8 becomes one of `Ã Â Ð Ñ Ø ...` and a symbol, one of three bytes `à ... ï` and two
symbols, one of four `ð` and three. Single pairs can also be written by people where an accented capital meets a
closing quote, so those count only where letters go on around them, or where several stand in a row.
"""

from __future__ import annotations

import re

# What the bytes 80..BF become: C1 controls and symbols in Latin-1, more symbols in Windows-1252.
SYMBOL = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
# Those that never close a word of people's, so that one pair is enough.
ODD = "\u0080-\u009f¡¢£¤¥¦§¨©ª¬\u00ad®¯±²³´µ¶¸¹º¼½¾¿€ƒ†‡ˆ‰Š‹ŒŽ•˜™šœžŸ"
LOWER = "a-zß-öø-ÿ"
PATTERNS = (
    rf"â[€\u0080][{SYMBOL}]",                                # quotes, dashes, ellipsis
    rf"ð[Ÿ\u009f][{SYMBOL}]{{2}}",                            # emoji
    r"ï»¿|ï¿½|锟斤拷|烫烫烫|屯屯屯",                          # a byte order mark, U+FFFD, and both in GBK
    rf"(?:[à-ï][{SYMBOL}]{{2}}){{2,}}",                       # Chinese, Japanese, Korean, Thai, Hindi, ...
    rf"(?:[Ã-ß][{SYMBOL}]){{3,}}",                            # Cyrillic, Greek, Hebrew, Arabic
    rf"(?<![A-ZÀ-Þ])[ÂÃ][{ODD}]",                             # é is Ã©, £ is Â£
    rf"(?<=[{LOWER}])[ÂÃ][{SYMBOL}](?=[{LOWER}])",
    rf"(?<=[{LOWER}])Ã[«»°·](?=[\s,.;:!?)]|$)",               # a word that ends in ë, û, ð
    r"‚Äô|‚Äú|‚Äù|‚Äì|‚Äî",                                 # Mac Roman
)
_FIND = re.compile("|".join(f"(?:{pattern})" for pattern in PATTERNS))
LEADS = frozenset("ÂÃÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðÄÅÆÇÈÉÊËÌÍÎÏ锟烫屯‚")


def find(text: str, limit: int = 20) -> list[str]:
    """The first pieces of a text that were decoded wrongly, at most `limit`; [] for a sound text."""
    if LEADS.isdisjoint(text):
        return []
    found = []
    for match in _FIND.finditer(text):
        found.append(match[0][:12])
        if len(found) == limit:
            break
    return found
