"""Records: one piece of instruction data and where it comes from.

    record = from_example(to_example({"instruction": "Add 2 and 3.", "output": "5"}, ("a.json", 7)), license="MIT")
    record.id                       # "8f…", 24 hex digits of the content's SHA-256
    record.provenance.source        # "a.json:7"
    prompt(record), answer(record)  # ("Add 2 and 3.", "5")

A record is a conversation (`messages`) or raw `text`, as an `Example` is, with what people and models said about it:
a preferred and a rejected answer, several ranked answers, a good/bad label, scores, annotations. All texts are valid
Unicode: what holds half of a surrogate pair is refused where it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jitune.types import Example

CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
STATES = ("labelled", "empty", "skipped")  # an empty answer is an answer; a skipped item has none


@dataclass(frozen=True)
class Provenance:
    """Where a record comes from; what is not known is empty.

    Attributes:
      source: `file:row`, or the name of a dataset and its row.
      method: annotation, distillation, self_improvement, or another word for how it was made.
      parents: ids of the records that it was made of.
      annotators: names of the people who wrote or judged it.
      model, model_digest: who generated it, and the digest of its weights.
      prompt_hash: of what the model was asked.
      sampling: such as {"temperature": 0.7, "top_p": 0.5, "max_tokens": 1024}.
      seed: of the sampling.
      license: as SPDX names it, or the source's words.
      steps: what changed the record since it was read, in order, such as ("redact_pii",).
    """

    source: str = ""
    method: str = ""
    parents: tuple[str, ...] = ()
    annotators: tuple[str, ...] = ()
    model: str = ""
    model_digest: str = ""
    prompt_hash: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    license: str = ""
    steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Annotation:
    """What one annotator said of a record.

    Attributes:
      annotator: a name.
      question: which of the questions on the item, such as "rating" or "correction".
      value: the label, number, text or list; None unless the state is labelled.
      state: one of `STATES`.
      at: when, in ISO 8601, or "".
      seconds: how long it took, or None.
    """

    annotator: str
    question: str
    value: Any = None
    state: str = "labelled"
    at: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Candidate:
    """One of several answers to a record's messages.

    Attributes:
      messages: the answer, as messages that go on after the record's.
      rank: 0 for the best, equal ranks for ties, None where it was not ranked.
      score: a number, higher is better, or None.
      id: the answer's own name, or "".
    """

    messages: tuple[dict, ...]
    rank: int | None = None
    score: float | None = None
    id: str = ""


@dataclass(frozen=True)
class Record:
    """One piece of instruction data.

    Attributes:
      id: unique in a file.
      messages, tools, message_weights, text: as in `types.Example`; text is one piece of weight 1, or a prompt of
        weight 0 and a completion of weight 1.
      chosen, rejected: two answers that go on after `messages`, of which people prefer the first; or both empty.
      candidates: any number of answers that go on after `messages`.
      label: the last answer is wanted (True), unwanted (False), or not judged (None).
      scores: by name, such as {"ifd": 0.83}.
      annotations: by annotator and question.
      meta: whatever else the source says; values as JSON has them.
      provenance: where all of this comes from.
    """

    id: str
    messages: tuple[dict, ...] = ()
    tools: tuple[dict, ...] = ()
    message_weights: tuple[float | None, ...] | None = None
    text: tuple[tuple[str, float], ...] = ()
    chosen: tuple[dict, ...] = ()
    rejected: tuple[dict, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    label: bool | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    annotations: tuple[Annotation, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    provenance: Provenance = Provenance()


def changed(value: Any, **fields: Any) -> Any:
    """A record, or a part of one, with other values in some fields: `dataclasses.replace`, in a fifth of its time."""
    new = object.__new__(type(value))
    new.__dict__.update(value.__dict__)
    new.__dict__.update(fields)
    return new


def content_of(record: Record) -> list:
    """What makes two records the same: the texts, not who said what about them."""
    answers = [[c.messages, c.rank, c.score] for c in record.candidates]
    return [record.messages, record.tools, record.message_weights, record.text, record.chosen, record.rejected,
            answers, record.label, dict(record.meta) if not (record.messages or record.text) else {}]


def digest(content: Any) -> str:
    """24 hex digits of the SHA-256 of a JSON value, in canonical form."""
    return hashlib.sha256(CANONICAL(content).encode()).hexdigest()[:24]


def named(record: Record) -> Record:
    """The record with the digest of its content as its id, where it has none."""
    return record if record.id else changed(record, id=digest(content_of(record)))


def from_example(example: Example, *, meta: Mapping[str, Any] | None = None, **provenance: Any) -> Record:
    """A record of a conversation or text; its source is the example's origin."""
    file, row = example.origin
    given = {"source": f"{file}:{row}" if file else "", **provenance}
    return named(Record("", example.messages, example.tools, example.message_weights, example.text,
                        meta={} if meta is None else meta, provenance=Provenance(**given)))


def origin_of(record: Record) -> tuple[str, int]:
    """Where a record comes from, as `(file, row)`; the row is 0 where its source names none."""
    file, _, row = record.provenance.source.rpartition(":")
    return (file, int(row)) if row.isdecimal() else (record.provenance.source, 0)


def to_example(record: Record) -> Example:
    """What training sees of a record: its conversation or text, without preferences and labels."""
    return Example(record.messages, record.tools, record.message_weights, record.text, origin_of(record))


def turns(record: Record) -> Iterator[tuple[str, str]]:
    """(role, text) of every message with text, then of the preferred answer; a raw prompt counts as the user's."""
    for piece, weight in record.text:
        yield ("assistant" if weight or len(record.text) == 1 else "user"), piece
    for message in (*record.messages, *record.chosen):
        if message.get("content"):
            yield message["role"], message["content"]


def all_texts(record: Record) -> Iterator[str]:
    """Every text of a record that a model could learn from, reasoning and rejected answers too."""
    yield from (piece for piece, _ in record.text)
    answers = (record.chosen, record.rejected, *(c.messages for c in record.candidates))
    for messages in (record.messages, *answers):
        for message in messages:
            yield from (message[key] for key in ("content", "reasoning_content") if message.get(key))


def answer(record: Record) -> str:
    """The text of the last answer, or "" where there is none: the chosen one, else the last of the assistant."""
    return next((text for role, text in reversed(list(turns(record))) if role == "assistant"), "")


def own_answer(record: Record) -> str:
    """The text of the answer behind a record's question; "" where the last turn is another's: what an assistant said
    earlier answers something else."""
    if record.chosen or len(record.text) > 1:
        return answer(record)
    last = record.messages[-1] if record.messages else {}
    return (last.get("content") or "") if last.get("role") == "assistant" else ""


def prompt(record: Record) -> str:
    """What the user and the system say, before the last answer, joined by blank lines."""
    return "\n\n".join(text for role, text in turns(record) if role in ("user", "system"))
