"""Small stages of every kind, which workers can build by name."""

import hashlib
import os
import signal
import time
from dataclasses import replace

import numpy as np

from jitune.construct.curate.stage import Choice, Filter, Keep, Reject, Sieve
from jitune.data.record import answer, prompt


def words(*, at_least: int = 2) -> Filter:
    """Answers of too few words. SECONDS_A_RECORD makes it slow, for runs that are stopped on their way."""
    seconds = float(os.environ.get("SECONDS_A_RECORD", 0))

    def judge(record):
        time.sleep(seconds) if seconds else None
        count = len(answer(record).split())
        return Keep(record) if count >= at_least else Reject("too_short", f"{count} words, at least {at_least}")

    return Filter("words", judge)


def redact(*, what: str = "secret", by: str = "[...]") -> Filter:
    """Writes over a word, and rejects an answer that is nothing else."""
    def judge(record):
        if answer(record) == what:
            return Reject("all_secret", spans=((what, "secret"),))
        if what not in answer(record):
            return Keep(record)
        messages = tuple({**m, "content": m["content"].replace(what, by)} for m in record.messages)
        steps = (*record.provenance.steps, "redact")
        return Keep(replace(record, messages=messages, provenance=replace(record.provenance, steps=steps)))

    return Filter("redact", judge)


def tongue() -> Filter:
    """Notes what the last word of the prompt says."""
    def judge(record):
        found = replace(record, meta={**record.meta, "language": prompt(record).split()[-1]})
        return Reject("wrong_language", record=found) if found.meta["language"] == "fr" else Keep(found)

    return Filter("tongue", judge)


class Seen:
    def __init__(self):
        self.ids = {}

    def admit(self, key, id):
        first = self.ids.get(key)
        self.ids.setdefault(key, id)
        return None if first is None else Reject("duplicate", f"same answer as {first}", (first,))

    def restore(self, key, id):
        self.ids[key] = id


def same(*, unless: str = "x") -> Sieve:
    """Answers that came before; one that is `unless` passes unseen."""
    def key(record):
        return None if answer(record) == unless else hashlib.sha256(answer(record).encode()).digest()[:8]

    return Sieve("same", key, Seen)


def longest(*, keep: int = 5, batch_size: int = 4) -> Choice:
    """The longest answers; writes their lengths."""
    def measure(records):
        return np.array([[len(answer(r))] for r in records], np.float32)

    def choose(heads, measured):
        order = np.lexsort((np.arange(len(heads)), -measured[:, 0]))
        ranks = np.argsort(order)
        return [None if rank < keep else Reject("not_long", f"rank {rank + 1}") for rank in ranks]

    def note(record, row):
        return replace(record, scores={**record.scores, "length": float(row[0])})

    def tell(heads, measured, chosen):
        return {"mean": float(measured.mean()) if len(heads) else None}

    return Choice("longest", 1, measure, choose, note, batch_size, tell)


def fails(*, on: str = "boom", how: str = "error") -> Filter:
    """Fails on one answer: with an error, with a verdict that is none, or by killing its process."""
    def judge(record):
        if answer(record) != on:
            return Keep(record)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return 1 / 0 if how == "error" else None

    return Filter("fails", judge)


def breaks(*, where: str = "measure") -> Choice:
    """A choice whose parts fail."""
    def part(name, given):
        return 1 / 0 if where == name else given

    return Choice("breaks", 1, lambda records: part("measure", np.zeros((len(records), 1))),
                  lambda heads, measured: part("choose", ["yes" if where == "verdict" else None] * len(heads)),
                  lambda record, row: part("note", record), tell=lambda *_: part("tell", {}))


def no_number(given):
    return 1 / 0
