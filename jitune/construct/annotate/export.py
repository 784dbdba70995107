"""What comes out of annotating: records, from a log and the file that it is about, nothing else.

    counts = Counter()
    for record in results(read_records(["data.jsonl"]), log, counts): ...

Items that somebody answered come out in the order of the file, each with the annotations of all annotators:

| question | what becomes of it |
|---|---|
| write, correct | a record of its own for every different text: the text is its last answer, the item its parent |
| pair | the preferred answer is `chosen`, the other one `rejected`, where all who answered agree |
| rank | the candidates have ranks, where all who ranked them agree |
| rate, flag | annotations |

Where people differ nothing is decided here: the annotations hold what each said, for `jitune data agreement`. An item
that texts were written for comes out as those texts alone, so that nothing worse than them is trained on, and what was
said of it besides, such as ratings, says nothing of the new texts: with it the item goes to the originals, which are
another file. A correction that changes nothing is a word for the item as it is, which then stays.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from jitune.construct.annotate.desk import Plan, from_header
from jitune.construct.annotate.items import once
from jitune.construct.annotate.log import Marks, load, read_entry
from jitune.construct.annotate.questions import answers_of, applies
from jitune.construct.annotate.questions import original as text_of
from jitune.construct.annotate.shown import asked
from jitune.data.record import Annotation, Candidate, Record, content_of, named
from jitune.types import UserError

METHOD = "annotation"


class Said(NamedTuple):
    """A log that is open for reading."""

    plan: Plan
    marks: Marks
    digest: str
    file: Any

    def of(self, item: str) -> list[dict]:
        """The latest answer of each annotator to an item, by name."""
        found = sorted((name, marks[item][-1]) for name, marks in self.marks.answers.items() if marks.get(item))
        return [read_entry(self.file, mark.start, mark.size) for _, mark in found]


def open_log(path: str | os.PathLike) -> Said:
    """A log to export; somebody may be writing it meanwhile, and what comes later is not seen."""
    header, marks = load(path)
    return Said(from_header(header), marks, header["digest"], open(path, "rb"))  # closed with the process


def items(records: Iterable[Record], said: Said) -> Iterator[tuple[Record, list[dict]]]:
    """(record, answers to it) of every item that somebody answered, in the order of the file.

    Raises:
      UserError: at the end, where the file is not the one that the log is about.
    """
    total, there = hashlib.sha256(), 0
    for record, content in once(records, Counter()):
        if all(applies(question, record) for question in said.plan.questions):
            continue
        total.update(f"{record.id} {content}\n".encode())
        answers = said.of(record.id)
        if answers:
            there += 1
            yield record, answers
    if total.hexdigest()[:24] != said.digest:
        raise UserError("the file is not the one that was annotated: its records, or their order, are others; "
                        f"{there:,} of its items stand in the log")


def results(records: Iterable[Record], said: Said, counts: Counter,
            original: Callable[[Record], None] = lambda record: None) -> Iterator[Record]:
    """The records that come out.

    Args:
      counts: how many items, answers, texts, unchanged items, preferences, rankings, and differences of people.
      original: takes each item that others came out in the place of, with what was said of it.
    """
    for record, answers in items(records, said):
        counts["item"] += 1
        counts["answer"] += len(answers)
        yield from _results(record, answers, said, counts, original)


def _results(record: Record, answers: Sequence[dict], said: Said, counts: Counter,
             original: Callable[[Record], None]) -> Iterator[Record]:
    questions = asked(record, said.plan.questions)
    found = [(q, annotation) for entry in answers for q in questions if (annotation := _annotation(q.name, entry))]
    texts: dict[tuple[str, str], list[Annotation]] = {}
    kept = list(record.annotations)
    unchanged = 0
    for question, annotation in found:
        if question.kind not in ("write", "correct") or annotation.state != "labelled":
            kept.append(annotation)
        elif question.kind == "correct" and annotation.value == text_of(record):
            kept.append(annotation)
            unchanged += 1
        else:
            texts.setdefault((question.kind, annotation.value), []).append(annotation)
    judged = record
    for question in questions:
        values = [a.value for q, a in found if q is question and a.state == "labelled"]
        if question.kind in ("pair", "rank") and values:
            agreed = all(value == values[0] for value in values)
            counts["difference" if not agreed else "preference" if question.kind == "pair" else "ranking"] += 1
            judged = _preferred(judged, question.kind, values[0]) if agreed else judged
    people = [a.annotator for _, a in found if a.state == "labelled"] if judged is not record else []
    whole = _finished(judged, record, people, kept)
    if not texts or unchanged or judged is not record:
        counts["unchanged"] += bool(unchanged)
        yield whole
    elif kept:
        original(whole)
    for (kind, text), by in texts.items():
        counts["text"] += 1
        yield _finished(_written(record, kind, text), record, [a.annotator for a in by], by)


def _annotation(question: str, entry: dict) -> Annotation:
    state, value = "skipped", None
    if entry["state"] != "skipped":
        given = entry["answers"].get(question) or {"state": "empty"}
        state, value = given["state"], given.get("value")
    return Annotation(entry["annotator"], question, value, state, entry.get("at", ""), entry.get("seconds"))


def _finished(record: Record, item: Record, people: Sequence[str], annotations: Sequence[Annotation]) -> Record:
    """The record with what was said of it; one whose content is new is named anew and has the item for a parent."""
    who = tuple(dict.fromkeys((*item.provenance.annotators, *people)))
    if content_of(record) == content_of(item):
        return replace(item, annotations=tuple(annotations))
    known = replace(item.provenance, method=METHOD, parents=(item.id,), annotators=who)
    return named(replace(record, id="", annotations=tuple(annotations), provenance=known))


def _preferred(record: Record, kind: str, value: Any) -> Record:
    """The record with a preference or a ranking in it; a tie leaves it as it is."""
    names = list(answers_of(record))
    if kind == "rank":
        rank = {name: i for i, tier in enumerate(value) for name in tier}
        given = record.candidates or (Candidate(record.chosen, id="chosen"), Candidate(record.rejected, id="rejected"))
        ranked = tuple(replace(c, rank=rank[name]) for name, c in zip(names, given, strict=True))
        return replace(record, candidates=ranked, chosen=(), rejected=())
    if value == "tie":
        return record
    pair = [c.messages for c in record.candidates] or [record.chosen, record.rejected]
    best = names.index(value)
    return replace(record, chosen=pair[best], rejected=pair[1 - best], candidates=())


def _written(record: Record, kind: str, text: str) -> Record:
    """The record with a text as its last answer, and nothing of what was said of other answers."""
    bare = replace(record, chosen=(), rejected=(), candidates=(), label=None, scores={})
    if kind == "correct":
        bare = replace(bare, meta={**record.meta, "original": text_of(record)})
    if record.text:
        return replace(bare, text=((record.text[0][0], 0.0), (text, 1.0)) if kind == "write" or len(record.text) > 1
                       else ((text, 1.0),))
    messages, weights = record.messages, record.message_weights
    at_end = bool(messages) and messages[-1]["role"] == "assistant"
    if at_end:
        messages, weights = messages[:-1], weights and weights[:-1]
    last = {**record.messages[-1], "content": text} if kind == "correct" else {"role": "assistant", "content": text}
    if kind == "correct" and record.message_weights:
        weights = record.message_weights
    elif weights is not None:
        weights = (*weights, None)
    return replace(bare, messages=(*messages, last), message_weights=weights)
