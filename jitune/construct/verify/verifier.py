"""The contract of verifiers: a record with what is known of the right answer, and a model's answer; a verdict out.

    verify(record, "... so it is 7.")     # Checked(True), Checked(False, "7, not 8"), Checked(None, "no number")

A verifier is a pure function of plain data, found by a name in `table.VERIFIERS` or as `module:function`. What it
cannot judge is None and counted apart: never wrong, never right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jitune.data.record import Record


class Checked(NamedTuple):
    """right: True, False, or None where it could not be told. detail: for people to read."""

    right: bool | None
    detail: str = ""


# The record holds the problem (its prompt) and the reference: its last answer, or record.meta["answer"].
Verifier = Callable[[Record, str], Checked]
