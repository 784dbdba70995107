"""Argilla's exports in, records out: records as JSON, flattened columns, and both of Argilla 1.

    row = {"id": "a", "fields": {"prompt": "2 and 3?", "response": "5"}, "responses": {"good": [
           {"value": "yes", "user_id": "u1", "status": "submitted"}, {"value": None, "user_id": "u2",
           "status": "discarded"}]}}
    [record] = read(row, ("records.json", 1), Counter(), {})
    record.annotations      # Annotation("u1", "good", "yes"), Annotation("u2", "good", None, "skipped")

| rows | from |
|---|---|
| fields, responses {question: [{value, user_id, status}]}, suggestions | `to_list()`, `to_json()` of Argilla 2 |
| fields, responses [{user_id, status, values: {question: {value}}}] | its server, feedback records of Argilla 1 |
| question.responses, .responses.users, .responses.status, .suggestion | `to_datasets()`, flattened, of Argilla 2 |
| question: [{user_id, value, status}], question-suggestion, external_id | feedback datasets of Argilla 1 on the hub |
| text or inputs, annotation, annotation_agent, status, prediction | tasks of Argilla 1 |

A submitted response is labelled, a discarded one skipped and counted; drafts are dropped and counted; suggestions and
predictions are counted and never labels. A question that a submitted response leaves out is empty. Rankings become
lists of lists, the best first and ties together; a plain list is one where it orders fields of the record, or where
`rankings` names the question. Vectors are left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jitune.construct.readers.items import Work, as_records, find_item, written_question
from jitune.data.record import Candidate, Record
from jitune.data.row_parts import Origin, is_text, objects, say
from jitune.types import UserError

OPTIONS = ("questions", "rankings")
STATUSES = ("submitted", "discarded", "draft", "pending")
OLD_STATUSES = {"Validated": "submitted", "Discarded": "discarded", "Edited": "draft", "Default": "draft"}
ENDS = (".responses", ".responses.users", ".responses.status", ".suggestion", ".suggestion.score", ".suggestion.agent")
OLD_ENDS = ("-suggestion", "-suggestion-metadata")
NOT_FIELDS = ("id", "external_id", "_server_id", "status", "metadata", "inserted_at", "updated_at")

Said = tuple[str, Any, str, str]  # question, value, user, status


def is_record(row: Mapping) -> bool:
    """Whether a row is a record with its fields and responses apart."""
    return isinstance(row.get("fields"), Mapping) and ("responses" in row or "suggestions" in row)


def read(row: Mapping, origin: Origin, notes: Counter, fields: Mapping[str, str],
         **named: str | Sequence[str]) -> Iterator[Record]:
    """Records of one record of Argilla: one, and one more for each annotator who wrote the answer."""
    responses, suggestions = row.get("responses") or {}, row.get("suggestions") or {}
    if isinstance(responses, Mapping):
        said = [part for question, items in responses.items() for part in _of_question(question, items)]
        asked = list(responses)
    else:
        said, asked = list(_of_users(responses)), []
    if isinstance(suggestions, Mapping):
        suggested = [name for name, value in suggestions.items() if value is not None]
    else:
        suggested = [str(one.get("question_name", one.get("question_id", "")))
                     for one in objects(suggestions, "'suggestions'")]
    meta = row.get("metadata") or {}
    yield from _records(row, row["fields"], said, [*asked, *suggested], len(suggested), meta, origin, notes, fields,
                        **named)


def is_flat(row: Mapping) -> bool:
    """Whether a row has a question's responses in columns, as Argilla 2 or 1 flattens them."""
    return bool(_flat_questions(row) or _old_questions(row))


def read_flat(row: Mapping, origin: Origin, notes: Counter, fields: Mapping[str, str],
              **named: str | Sequence[str]) -> Iterator[Record]:
    """Records of one row of flattened columns; what is neither question nor suggestion counts as a field."""
    new, old = _flat_questions(row), _old_questions(row)
    columns = {name + end for name in new for end in ENDS} | {name + end for name in old for end in ("", *OLD_ENDS)}
    said, suggested = [], 0
    for name in new:
        values = _list(row, f"{name}.responses") or []
        users, states = (_list(row, f"{name}.responses.{what}") or [None] * len(values) for what in ("users", "status"))
        if not len(values) == len(users) == len(states):
            raise UserError(f"'{name}.responses', its users and its status differ in length: "
                            f"{len(values)}, {len(users)}, {len(states)}")
        said += [(name, value, str(user or ""), _status(state))
                 for value, user, state in zip(values, users, states, strict=True)]
        suggested += row.get(f"{name}.suggestion") is not None
    for name in old:
        said += _of_question(name, row.get(name) or [])
        suggested += row.get(f"{name}-suggestion") is not None
    data = {key: value for key, value in row.items()
            if key not in columns and key not in NOT_FIELDS and value is not None}
    meta = row.get("metadata") or {}
    yield from _records(row, data, said, [*new, *old], suggested, _parsed(meta), origin, notes, fields, **named)


def is_old(row: Mapping) -> bool:
    """Whether a row is of a text classification, token classification or text-to-text task of Argilla 1."""
    known = str(row.get("status")) in OLD_STATUSES or "annotation_agent" in row or "prediction_agent" in row
    return "annotation" in row and known and any(key in row for key in ("text", "inputs", "tokens"))


def read_old(row: Mapping, origin: Origin, notes: Counter, fields: Mapping[str, str],
             **named: str | Sequence[str]) -> Iterator[Record]:
    """A record of one row of Argilla 1's tasks; the question's name is `annotation`."""
    inputs = row.get("inputs") if row.get("inputs") is not None else row.get("text")
    data = dict(inputs) if isinstance(inputs, Mapping) else {"text": inputs}
    value, status = row.get("annotation"), row.get("status")
    if status is not None and str(status) not in OLD_STATUSES:
        raise UserError(f"status={status!r}: is none of {', '.join(OLD_STATUSES)}")
    state = "submitted" if status is None else OLD_STATUSES[status]
    said = [] if value is None and state != "discarded" else [
        ("annotation", value, str(row.get("annotation_agent") or ""), state)]
    notes["predictions"] += row.get("prediction") is not None
    yield from _records(row, data, said, ["annotation"], 0, _parsed(row.get("metadata") or {}), origin, notes, fields,
                        **named)


def _records(row: Mapping, data: Mapping, said: Sequence[Said], asked: Sequence[str], suggestions: int, meta: Any,
             origin: Origin, notes: Counter, fields: Mapping[str, str], *, questions: str | Sequence[str] = "",
             rankings: str | Sequence[str] = "") -> list[Record]:
    """Args: questions: names whose absence means an empty answer; rankings: those whose lists are rankings."""
    notes["suggestions"] += suggestions
    notes["unlabelled"] += not said
    questions, rankings = (names.split() if isinstance(names, str) else names for names in (questions, rankings))
    known = list(dict.fromkeys((*questions, *asked, *(name for name, *_ in said if name))))
    said = [(name, _tiers(value, data, sure=name in rankings), *rest) for name, value, *rest in said]
    works, names = [], _ranked_fields(data, said)
    for (user, number, status), values in _by_user(said).items():
        if status in ("draft", "pending"):
            notes["drafts"] += 1
        else:
            works.append(Work(f"{user or 'anonymous'}{f'-{number}' if number else ''}", user,
                              {} if status == "discarded" else values, skipped=status == "discarded"))
    item = find_item({key: value for key, value in data.items() if key not in names}, fields, notes)
    if names:
        item = item._replace(candidates=tuple(Candidate(say("assistant", data[name]), id=name) for name in names))
    id = next((str(row[key]) for key in ("id", "external_id") if row.get(key) not in (None, "")), "")
    return as_records(id, item, works, written_question(item, fields, known), known,
                      {"metadata": meta} if meta else {}, origin, notes)


def _of_question(question: str, items: Any) -> Iterator[Said]:
    """What users said to one question: a list of objects, or an object of lists as `datasets` may have it."""
    what = f"the responses to '{question}'"
    if isinstance(items, Mapping):
        columns = [_list(items, key) or [] for key in items]
        if len({len(column) for column in columns}) > 1:
            raise UserError(f"{what}: its lists differ in length: {', '.join(str(len(c)) for c in columns)}")
        items = [dict(zip(items, values, strict=True)) for values in zip(*columns, strict=True)]
    for item in objects(items or None, what):
        yield question, item.get("value"), str(item.get("user_id") or ""), _status(item.get("status"))


def _of_users(responses: Any) -> Iterator[Said]:
    if not isinstance(responses, list) or not all(isinstance(response, Mapping) for response in responses):
        raise UserError(f"'responses' must be an object of questions or a list of objects, got {responses!r:.60}")
    for response in responses:
        user, status = str(response.get("user_id") or ""), _status(response.get("status"))
        values = response.get("values") or {}
        if not isinstance(values, Mapping):
            raise UserError(f"'values' of a response must be an object of questions, got {values!r:.60}")
        for question, value in (values or {"": None}).items():
            yield question, value.get("value") if isinstance(value, Mapping) else value, user, status


def _by_user(said: Sequence[Said]) -> dict[tuple[str, int, str], dict[str, Any]]:
    """Values by question, of each user's every response: one without a name may have several."""
    found, times = {}, Counter()
    for question, value, user, status in said:
        number = times[question, user]
        times[question, user] += 1
        values = found.setdefault((user, number, status), {})
        if question:
            values[question] = value
    return found


def _status(status: Any) -> str:
    """A response's status; where an export leaves it out, it was submitted."""
    status = "submitted" if status is None else str(getattr(status, "value", status)).lower()
    if status not in STATUSES:
        raise UserError(f"status={status!r}: is none of {', '.join(STATUSES)}")
    return status


def _tiers(value: Any, data: Mapping, *, sure: bool) -> Any:
    """A ranking as lists of what is tied, the best first: [["b"], ["a", "c"]]. Other values as they are."""
    if not isinstance(value, list) or not value:
        return value
    if all(isinstance(item, Mapping) and {"value", "rank"} <= set(item) for item in value):
        if not all(isinstance(item["rank"], int | float | None) and isinstance(item["value"], str) for item in value):
            raise UserError(f"a ranking must hold names with numbers as ranks, got {value!r:.80}")
        tiers: dict[Any, list] = {}
        for item in sorted(value, key=lambda item: (item["rank"] is None, item["rank"] or 0)):
            tiers.setdefault(item["rank"], []).append(item["value"])
        return list(tiers.values())
    orders_fields = len(value) > 1 and all(isinstance(name, str) and is_text(data.get(name)) for name in value)
    return [[name] for name in value] if (sure or orders_fields) and not isinstance(value[0], list) else value


def _ranked_fields(data: Mapping, said: Sequence[Said]) -> list[str]:
    """The fields that a ranking puts in order: they are answers to the rest."""
    for _, value, *_ in said:
        if isinstance(value, list) and value and all(isinstance(tier, list) for tier in value):
            names = [name for tier in value for name in tier]
            if len(names) > 1 and all(isinstance(name, str) and is_text(data.get(name)) for name in names):
                return sorted(names, key=list(data).index)
    return []


def _list(row: Mapping, key: str) -> list | None:
    if not isinstance(row.get(key), list | None):
        raise UserError(f"'{key}' must be a list, got {row[key]!r:.60}")
    return row.get(key)


def _flat_questions(row: Mapping) -> list[str]:
    return [key.removesuffix(".responses") for key in row if key.endswith(".responses")] or [
        key.removesuffix(".suggestion") for key in row if key.endswith(".suggestion")]


def _old_questions(row: Mapping) -> list[str]:
    """Questions of Argilla 1: their columns hold who said what, or stand beside a suggestion."""
    found = []
    for key, value in row.items():
        one = value[0] if isinstance(value, list) and value else value
        if isinstance(one, Mapping) and {"user_id", "value"} <= set(one) or f"{key}-suggestion" in row:
            found.append(key)
    return found


def _parsed(meta: Any) -> Any:
    """Metadata, which Argilla 1 writes as JSON in a text."""
    try:
        return json.loads(meta) if isinstance(meta, str) else meta
    except ValueError:
        return meta
