"""Ids stand for one content: a record with the id of an earlier one and another content is rejected.

    memory.admit(key(Record("a", text=(("x", 1.0),))), "a")      # None
    memory.admit(key(Record("a", text=(("y", 1.0),))), "a")      # Reject("duplicate_id", ...)

A record that comes again whole is not an affair of ids; it goes on to the stages that look for duplicates.
"""

from __future__ import annotations

from hashlib import blake2b

from jitune.construct.curate.stage import Reject, Sieve
from jitune.data.record import CANONICAL, Record, content_of

SIZE = 16  # bytes of a digest; of the content half of it


def build() -> Sieve:
    """The stage that every run begins with."""
    return Sieve("ids", key, Memory)


def key(record: Record) -> bytes:
    """16 bytes of the id's digest and 8 of the content's."""
    content = CANONICAL(content_of(record)).encode()
    return blake2b(record.id.encode(), digest_size=SIZE).digest() + blake2b(content, digest_size=SIZE // 2).digest()


class Memory:
    """About 200 bytes a record: the digest of its id -> that of its content."""

    def __init__(self):
        self.contents: dict[bytes, bytes] = {}

    def admit(self, key: bytes, id: str) -> Reject | None:
        """Rejects another content under a known id."""
        known = self.contents.setdefault(key[:SIZE], key[SIZE:])
        if known == key[SIZE:]:
            return None
        return Reject("duplicate_id", "an earlier record of other content has the same id")

    def restore(self, key: bytes, id: str) -> None:
        """Remembers an admitted record."""
        self.contents.setdefault(key[:SIZE], key[SIZE:])
