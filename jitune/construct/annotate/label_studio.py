"""Annotations as Label Studio imports them, and the labelling interface that shows them there.

    task(1, record, answers, plan)["annotations"][0]
    # {"id": 1, "created_username": "ann", "was_cancelled": False, "result": [{"type": "rating", ...}], ...}

A skipped item is an annotation that was cancelled, one that was left empty has no results. Annotators stand under
`created_username`: Label Studio gives the annotations to who imports them, since it refuses people it does not know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from jitune.construct.annotate.questions import Question, answers_of, said
from jitune.construct.annotate.shown import asked, everything
from jitune.data.record import Record

PLACES = ("left", "right")  # of a pair


def tasks(items: Iterable[tuple[Record, list[dict]]], questions: Sequence[Question]) -> Iterator[dict[str, Any]]:
    """A task for each item that somebody answered."""
    for number, (record, answers) in enumerate(items, 1):
        yield task(number, record, answers, questions)


def task(number: int, record: Record, answers: Sequence[dict], questions: Sequence[Question]) -> dict[str, Any]:
    """One task with its annotations.

    Args:
      answers: entries of the log, one an annotator.
    """
    found = [_annotation(record, entry, asked(record, questions)) for entry in answers]
    return {
        "id": number,
        "data": _data(record, questions),
        "annotations": found,
        "predictions": [],
        "meta": {"record": record.id, "source": record.provenance.source},
        "total_annotations": sum(not a["was_cancelled"] for a in found),
        "cancelled_annotations": sum(a["was_cancelled"] for a in found),
    }


def _data(record: Record, questions: Sequence[Question]) -> dict[str, Any]:
    messages = [{"role": "user" if m["role"] == "text" else m["role"], "content": said([m])}
                for m in everything(record)]
    data: dict[str, Any] = {"messages": messages}
    compared, kinds = answers_of(record), {q.kind for q in asked(record, questions)}
    if "pair" in kinds:
        data |= dict(zip(PLACES, compared.values(), strict=True))
    if "rank" in kinds:
        data["items"] = [{"id": name, "title": name, "body": text} for name, text in compared.items()]
    return data


def _annotation(record: Record, entry: dict, questions: Sequence[Question]) -> dict[str, Any]:
    skipped = entry["state"] == "skipped"
    number = int(hashlib.sha256(entry["event"].encode()).hexdigest()[:8], 16)
    results = [] if skipped else [
        result for q in questions if (result := _result(q, entry["answers"].get(q.name) or {}, record, entry))]
    return {"id": number, "created_username": entry["annotator"], "was_cancelled": skipped, "ground_truth": False,
            "result": results, "created_at": entry.get("at", ""), "updated_at": entry.get("at", ""),
            "lead_time": entry.get("seconds"), "unique_id": entry["event"]}


def _result(question: Question, answer: dict, record: Record, entry: dict) -> dict[str, Any] | None:
    if answer.get("state") != "labelled":
        return None
    kind, value = _value(question, answer["value"], list(answers_of(record)))
    name = hashlib.sha256(f"{entry['event']}/{question.name}".encode()).hexdigest()[:10]
    to = f"{question.name} items" if kind == "ranker" else "messages"
    return {"id": name, "from_name": question.name, "to_name": to, "type": kind, "origin": "manual",
            "value": value}


def _value(question: Question, value: Any, names: list[str]) -> tuple[str, dict[str, Any]]:
    """(type, value) of a control."""
    if question.kind in ("write", "correct"):
        return "textarea", {"text": [value]}
    if question.kind == "rank":
        return "ranker", {"ranker": {str(i): list(tier) for i, tier in enumerate(value, 1)}}
    if question.kind == "pair":
        return "choices", {"choices": ["tie" if value == "tie" else PLACES[names.index(value)]]}
    if question.kind == "rate" and isinstance(value, (int, float)):
        return "number", {"number": value}
    return "choices", {"choices": [str(v) for v in (value if isinstance(value, list) else [value])]}


def interface(questions: Sequence[Question]) -> str:
    """The labelling interface (XML) whose controls the annotations fill."""
    controls = "\n".join(f"  <Header value={quoteattr(q.ask)}/>\n{_control(q)}" for q in questions)
    pair = any(q.kind == "pair" for q in questions)
    sides = '\n  <Text name="left" value="$left"/>\n  <Text name="right" value="$right"/>' if pair else ""
    return ('<View>\n  <Paragraphs name="messages" value="$messages" nameKey="role" textKey="content" '
            f'layout="dialogue"/>{sides}\n{controls}\n</View>\n')


def _control(q: Question) -> str:
    to = f'name={quoteattr(q.name)} toName="messages"'
    if q.kind in ("write", "correct"):
        return f'  <TextArea {to} rows="6" maxSubmissions="1" editable="true"/>'
    if q.kind == "rank":
        buckets = "".join(f'\n    <Bucket name="{i}" title="{i}"/>' for i in range(1, 10))
        return (f'  <List name={quoteattr(q.name + " items")} value="$items"/>\n'
                f'  <Ranker name={quoteattr(q.name)} toName={quoteattr(q.name + " items")}>{buckets}\n  </Ranker>')
    if q.kind == "rate" and all(isinstance(value, (int, float)) for value, _ in q.points):
        values = [value for value, _ in q.points]
        return f'  <Number {to} min="{min(values)}" max="{max(values)}" step="any"/>'
    points = (*PLACES, "tie") if q.kind == "pair" else [value for value, _ in q.points]
    choices = "".join(f"\n    <Choice value={quoteattr(str(value))}/>" for value in points)
    choice = "multiple" if q.kind == "flag" else "single"
    return f'  <Choices {to} choice="{choice}">{choices}\n  </Choices>'
