"""From generated tokens to text: in context, safe to stream, cut at stop strings.

A tokenizer's own `decode` is not enough for a part of a text: SentencePiece tokenizers drop the space that
a part begins with, and a part may end inside a character of several bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Tokens of the prompt that are decoded along; a decoder looks back over one word at most.
CONTEXT = 8
BROKEN = "\ufffd"  # what decoders write for bytes that are no character, or not yet


def decode(tokenizer: Any, tokens: Sequence[int], prompt: Sequence[int] = ()) -> str:
    """The text of `tokens` where they follow `prompt`, without special tokens; "" without a tokenizer.

    With a SentencePiece tokenizer, "▁is" after "▁sky" is " is", while alone it would be "is".
    """
    if tokenizer is None or not tokens:
        return ""

    def plain(ids):
        return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    before = [int(i) for i in prompt[-CONTEXT:]]
    head, whole = plain(before) if before else "", plain([*before, *tokens])
    return whole[len(head) :] if whole.startswith(head) else plain(list(tokens))


def find_stop(
    tokenizer: Any, tokens: Sequence[int], prompt: Sequence[int], stops: Sequence[str], *, start: int = 0
) -> tuple[int, str] | None:
    """Finds where a stop string first appears in the text of `tokens`, which follow `prompt`.

    start: tokens already looked at. Returns None, or (count, text): the shortest prefix of tokens whose text
    holds a stop string, and that text up to it.
    """
    if not stops or not any(s in decode(tokenizer, tokens, prompt) for s in stops):
        return None
    for count in range(start + 1, len(tokens) + 1):
        text = decode(tokenizer, tokens[:count], prompt)
        found = [text.index(s) for s in stops if s in text]
        if found:
            return count, text[: min(found)]
    raise AssertionError("the whole text holds a stop string, so the last prefix does")


def settled(text: str, stops: Sequence[str] = ()) -> str:
    """The part of an unfinished text that more tokens cannot change, nor a stop string cut.

    Example: settled("It is 4\\nUs", ["\\nUser:"]) -> "It is 4".
    """
    text = text.rstrip(BROKEN)
    longest = max((n for s in stops for n in range(1, len(s)) if text.endswith(s[:n])), default=0)
    return text[: len(text) - longest]
