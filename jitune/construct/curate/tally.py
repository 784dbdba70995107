"""What a run counts while it goes: a tree of plain numbers, written with every commit and read back after a kill.

    tally = Tally(["ids", "length"], {})
    tally.read(0, facts(record)); tally.reject("length", "too_short", record_id="8f", at=0)
    tally.tree["stages"]["length"]["reasons"]           # {"too_short": 1}
    Tally(["ids", "length"], tally.tree)                # goes on from there

Of every reason a few records are remembered by where they stand in rejected.jsonl: those whose ids have the lowest
hashes, which do not depend on the order of the input.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from jitune.construct.curate.sift import language_of
from jitune.construct.curate.stage import Reject
from jitune.data.record import Record, answer, prompt

EXAMPLES = 12  # records remembered of a reason
REASONS = 100  # reasons of a stage, and values of a field, that are counted apart
OTHERS = "(others)"
COUNTED = ("license", "method", "model", "language")  # fields whose values are counted, before and after


class Facts(NamedTuple):
    """What the counts need of a record. Lengths are in characters, which every script has."""

    prompt: int
    answer: int
    license: str
    method: str
    model: str
    language: str


def facts(record: Record) -> Facts:
    """What is counted of a record; an answer that is raw text counts as an answer."""
    p = record.provenance
    return Facts(len(prompt(record)), len(answer(record)), p.license, p.method, p.model, language_of(record))


def octave(length: int) -> int:
    """The bin of a length: 0 for 0, 1 for 1, 2 for 2 to 3, 3 for 4 to 7, ..."""
    return length.bit_length()


def octave_name(bin: int) -> str:
    """3 -> "4 to 7"."""
    return str(bin) if bin < 2 else f"{2 ** (bin - 1):,} to {2**bin - 1:,}"


class Tally:
    """Counts. `tree` is what JSON holds of them."""

    def __init__(self, stages: Sequence[str], tree: Mapping[str, Any]):
        self.tree: dict[str, Any] = {
            "read": 0, "malformed": 0, "left_out": 0, "kept": 0, "seconds": 0.0, "cpu": 0.0, "stages": {}, "inputs": {},
            "before": _sides(), "after": _sides(), "examples": {}, "told": {}, "unread": {}, "notes": {}, **tree,
        }  # fmt: skip
        for name in stages:
            self.tree["stages"].setdefault(name, {"reasons": {}, "changed": 0, "cpu": 0.0})

    def read(self, input: int, found: Facts) -> None:
        """One more record of an input."""
        self._came(input, "")
        _count_facts(self.tree["before"], found)

    def unread(self, input: int, *, fault: bool) -> None:
        """One more row of an input that is malformed (`fault`), or that its reader leaves out on purpose."""
        self._came(input, "malformed" if fault else "left_out")

    def _came(self, input: int, what: str) -> None:
        for counts in (self.tree, self.tree["inputs"].setdefault(str(input), of_input())):
            counts["read"] += 1
            counts["malformed"] += what == "malformed"
            counts["left_out"] += what == "left_out"

    def language(self, found: str) -> None:
        """The language of a record, as it is known when the record leaves the first pass."""
        _count(self.tree["before"]["language"], found)

    def keep(self, input: int, found: Facts) -> None:
        """One more record of the output."""
        self.tree["inputs"][str(input)]["kept"] += 1
        _count(self.tree["inputs"][str(input)]["licenses"], found.license)
        self.made(found)

    def made(self, found: Facts) -> None:
        """One more record of the output, whatever input it is made of."""
        self.tree["kept"] += 1
        _count_facts(self.tree["after"], found)
        _count(self.tree["after"]["language"], found.language)

    def changed(self, stage: str) -> None:
        """A stage wrote something onto a record."""
        self.tree["stages"][stage]["changed"] += 1

    def spent(self, stage: str, seconds: float) -> None:
        """CPU seconds of a stage."""
        self.tree["stages"][stage]["cpu"] += seconds

    def reject(self, stage: str, reject: Reject, id: str, at: int) -> None:
        """One more record of rejected.jsonl, where its line begins at byte `at`."""
        known = self.tree["stages"].get(stage)
        _count(known["reasons"] if known else self.tree["unread"], reject.reason)
        reasons = self.tree["examples"].setdefault(stage, {})
        if reject.reason not in reasons and len(reasons) >= REASONS:
            return
        held = reasons.setdefault(reject.reason, [])
        mark = [blake2b(id.encode(errors="backslashreplace"), digest_size=8).hexdigest(), at]
        if len(held) < EXAMPLES or mark < held[-1]:
            bisect.insort(held, mark)
            del held[EXAMPLES:]


def of_input() -> dict[str, Any]:
    """What is counted of an input, before anything is read."""
    return {"read": 0, "malformed": 0, "left_out": 0, "kept": 0, "licenses": {}}


def _sides() -> dict[str, Any]:
    return {"prompt": {}, "answer": {}, **{name: {} for name in COUNTED}}


def _count_facts(side: dict, found: Facts) -> None:
    for name in ("prompt", "answer"):
        bin = str(octave(getattr(found, name)))
        side[name][bin] = side[name].get(bin, 0) + 1
    for name in ("license", "method", "model"):
        _count(side[name], getattr(found, name))


def _count(counts: dict[str, int], name: str) -> None:
    name = name if name in counts or len(counts) < REASONS else OTHERS
    counts[name] = counts.get(name, 0) + 1
