"""The contract of curation: what a stage is, and what it says of a record.

Three kinds, by what they need to know:

    Filter   one record            judge(record) -> Keep(record) | Reject("too_short", "2 words, at least 5")
    Sieve    what came before it   key(record) -> bytes; memory().admit(key, id) -> None | Reject("duplicate", id)
    Choice   all records           measure(records) -> numbers; choose(heads, numbers) -> None | Reject, one a record

`judge`, `key` and `measure` are pure. What a Sieve remembers and what a Choice measures are kept on disk beside the
output, so that a run that was killed goes on without doing them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from jitune.data.record import Record


class Keep(NamedTuple):
    """The record goes on, as it was or changed (a score or a note added, a text redacted)."""

    record: Record


class Reject(NamedTuple):
    """The record goes no further.

    reason: one word, under which rejections are counted, such as "too_short".
    detail: what was found, for people to read, such as "2 words, at least 5".
    spans: pairs of (text, why) or texts of what was found, for the report, such as contaminated passages.
    record: the record with what the stage has found out of it, such as its language; None to leave it as it came.
    """

    reason: str
    detail: str = ""
    spans: tuple = ()
    record: Record | None = None


Verdict = Keep | Reject


class Filter(NamedTuple):
    """Looks at one record at a time. judge: pure, `Record -> Keep | Reject`."""

    name: str
    judge: Callable[[Record], Verdict]


class Memory(Protocol):
    """What a Sieve has seen, in the order of the stream."""

    def admit(self, key: bytes, id: str) -> Reject | None:
        """Remembers the key of a record and returns None, or says what earlier record it repeats."""

    def restore(self, key: bytes, id: str) -> None:
        """Remembers a key that an earlier run admitted, without asking."""


class Sieve(NamedTuple):
    """Looks at a record and at all that were admitted before it.

    key: pure, `Record -> bytes`, all of one length, or None for a record that the stage lets pass unseen.
    memory: makes an empty Memory.
    """

    name: str
    key: Callable[[Record], bytes | None]
    memory: Callable[[], Memory]


class Head(NamedTuple):
    """What is held in memory of each record while a Choice looks at all of them.

    source: the input that it was read from, as the config names it; in a script the file of its provenance.
    language: as a reader or a stage noted it in the record's meta, or "".
    """

    id: str
    source: str
    language: str = ""


class Choice(NamedTuple):
    """Looks at all records.

    measure: pure, `Sequence[Record] -> float32 array [records, width]`; called on batches of `batch_size`.
    choose: `(heads, measured [all records, width]) -> list`, None to keep a record or a Reject; same order.
    note: `(record, row of measured) -> Record`, to write what was measured onto a record; None to leave it.
    width: columns of what is measured; 0 where nothing is.
    tell: `(heads, measured, chosen) -> dict`, what else there is to say of the choice for funnel.json and the
      report: a flat dict of numbers and texts, or a table as a list of such dicts. None where nothing is.
    """

    name: str
    width: int
    measure: Callable[[Sequence[Record]], Any]
    choose: Callable[[Sequence[Head], Any], list[Reject | None]]
    note: Callable[[Record, Any], Record] | None = None
    batch_size: int = 64
    tell: Callable[[Sequence[Head], Any, Sequence[Reject | None]], dict] | None = None


Stage = Filter | Sieve | Choice
