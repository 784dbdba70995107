"""Exact duplicates: a record whose normalized text an earlier one had is rejected; 16 bytes a record are remembered.

    sieve = build(of="prompt")                       # in a config: config.exact.of = "prompt"
    seen = sieve.memory()
    seen.admit(sieve.key(first), "a")                # None
    seen.admit(sieve.key(second), "b")               # Reject("duplicate", "same prompt as a")
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Any

from jitune.construct.curate.pieces import PARTS, check_word, text_of
from jitune.construct.curate.stage import Reject, Sieve
from jitune.construct.curate.words import fold_spaces
from jitune.data.record import CANONICAL, Record, content_of


class Digests:
    """Digests of the records that were admitted, and their ids. Makes a `stage.Memory`."""

    def __init__(self, what: str):
        self.what, self.ids = what, {}

    def admit(self, key: bytes, id: str) -> Reject | None:
        if key in self.ids:
            return Reject("duplicate", f"same {self.what} as {self.ids[key]}")
        self.ids[key] = id
        return None

    def restore(self, key: bytes, id: str) -> None:
        self.ids[key] = id


def fold(text: str, *, case: bool, space: bool) -> str:
    """The text in NFC, with case and white space folded where they make no difference."""
    text = text if text.isascii() else unicodedata.normalize("NFC", text)
    text = text.casefold() if case else text
    return fold_spaces(text) if space else text


def build(*, of: str = "conversation", fold_case: bool = True, fold_space: bool = True) -> Sieve:
    """A Sieve of exact duplicates.

    of: what must be the same: the whole `conversation` with its roles, tools, preferences and label; the `prompt`;
      the last `answer`; or `both` of these. A record without such a text passes.
    fold_case, fold_space: capitals, and runs of white space, make no difference.

    Raises:
      UserError: an option that is not known.
    """
    check_word("of", of, PARTS)

    def folded(value: Any) -> Any:
        if isinstance(value, str):
            return fold(value, case=fold_case, space=fold_space)
        if isinstance(value, dict):
            return {key: folded(item) for key, item in value.items()}
        return [folded(item) for item in value] if isinstance(value, (list, tuple)) else value

    def key(record: Record) -> bytes | None:
        if of == "conversation":
            content = folded(content_of(record))
        else:
            content = folded(text_of(record, of))
            if not content:
                return None
        return hashlib.blake2b(CANONICAL(content).encode(), digest_size=16).digest()

    return Sieve("exact", key, lambda: Digests({"both": "prompt and answer"}.get(of, of)))
