"""Label Studio's exports in, records out: JSON (old ones too, with `completions`) and JSON_MIN.

    task = {"id": 3, "data": {"prompt": "2 and 3?", "response": "5"}, "annotations": [{"completed_by": 7,
            "result": [{"from_name": "good", "type": "choices", "value": {"choices": ["yes"]}}]}]}
    [record] = read(task, ("export.json", 1), Counter(), {})
    record.annotations[0]       # Annotation("7", "good", "yes", "labelled")

| control | value |
|---|---|
| choices | the choice; a list of them where there are several |
| rating, number, datetime | a number; text |
| taxonomy | a path from the root, such as "Animal > Cat"; a list of them where there are several |
| textarea | text; a list where there are several |
| labels, hypertextlabels, paragraphlabels | a list of {start, end, text, labels} |
| pairwise | "left" or "right", which are the ids of the candidates |
| ranker | [["b"], ["a"]], the best first; buckets with numbers for names are tiers; others {bucket: ids} |
| chatmessage | messages of the record |

An annotation that was cancelled is dropped, counted and leaves the state "skipped"; one with an empty result, or
without a value for a question that others of its task answered, leaves "empty"; a task without annotations has none.
Drafts and predictions are counted and never labels; they only tell which questions there are, as `questions` does.
Regions of images and the like are counted as unsupported. Annotators are named by their numbers, as in JSON_MIN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jitune.construct.readers.items import Work, as_records, find_item, written_question
from jitune.data.record import Record
from jitune.data.row_parts import Messages, Origin, as_messages, objects
from jitune.types import UserError

OPTIONS = ("questions",)
# The key of a result's value that holds what was said, by type of control.
VALUES = {"choices": "choices", "rating": "rating", "number": "number", "datetime": "datetime", "taxonomy": "taxonomy",
          "textarea": "text", "pairwise": "selected", "ranker": "ranker", "labels": "labels",
          "hypertextlabels": "hypertextlabels", "paragraphlabels": "paragraphlabels"}
SPANS = ("labels", "hypertextlabels", "paragraphlabels")
AREA = ("x", "points", "rle", "sequence", "vertices")  # where in an image or a video something is
AFTER = ("annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")  # of JSON_MIN


def is_task(row: Mapping) -> bool:
    """Whether a row is a task of a JSON export, or an annotation with its task, as synced to a storage."""
    if isinstance(row.get("task"), Mapping) and "result" in row:
        return isinstance(row["task"].get("data"), Mapping)
    return isinstance(row.get("data"), Mapping) and any(key in row for key in ("annotations", "completions",
                                                                               "predictions"))


def read(row: Mapping, origin: Origin, notes: Counter, fields: Mapping[str, str], *,
         questions: str | Sequence[str] = "") -> Iterator[Record]:
    """Records of one task: one, and one more for each annotator who wrote messages.

    Args:
      questions: names of controls, apart by spaces or as a list, whose absence means an empty answer.
    """
    if isinstance(row.get("task"), Mapping):
        row = {**row["task"], "annotations": [{key: value for key, value in row.items() if key != "task"}]}
    given = row.get("annotations") if "annotations" in row else row.get("completions")
    given = objects(given, "'annotations'")
    drafts, predictions = objects(row.get("drafts"), "'drafts'"), objects(row.get("predictions"), "'predictions'")
    notes["drafts"] += len(drafts)
    notes["predictions"] += len(predictions)
    notes["unlabelled"] += not given
    known = dict.fromkeys(_split(questions))
    for one in (*predictions, *drafts, *given):
        known.update(dict.fromkeys(_questions(objects(one.get("result"), "'result'"))))
    works, meta = [], {"meta": row["meta"]} if row.get("meta") else {}
    for number, annotation in enumerate(given, 1):
        skipped = bool(annotation.get("was_cancelled") or annotation.get("skipped"))
        results = objects(annotation.get("result"), "'result'")
        work = _work(str(annotation.get("id", number)), _annotator(annotation), results, skipped,
                     annotation.get("created_at"), annotation.get("lead_time"), Counter() if skipped else notes)
        works += [] if work is None else [work]
    item = find_item(row["data"], fields, notes)
    yield from as_records(_id(row), item, works, written_question(item, fields, list(known)), list(known),
                          meta, origin, notes)


def is_min(row: Mapping) -> bool:
    """Whether a row is one annotation of a JSON_MIN export."""
    return {"annotator", "annotation_id"} <= set(row)


def group_min(row: Mapping, **options: Any) -> str:
    """The task, whose annotations follow each other."""
    return _id(row)


def read_min(rows: Sequence[tuple[Mapping, Origin]], notes: Counter, fields: Mapping[str, str], *,
             questions: str | Sequence[str] = "") -> Iterator[Record]:
    """Records of the annotations of one task; which columns are answers follows from their order, or `questions`."""
    known, works = dict.fromkeys(_split(questions)), []
    if not known:
        known = dict.fromkeys(name for row, _ in rows for name in _columns(row))
    for row, _ in rows:
        results = [result for name in known if row.get(name) is not None for result in _results(name, row[name])]
        work = _work(str(row["annotation_id"]), str(row["annotator"]), results, False, row.get("created_at"),
                     row.get("lead_time"), notes)
        works += [] if work is None else [work]
    (first, origin), asked = rows[0], [name for name in known if any(name in work.values for work in works)]
    asked = list(dict.fromkeys((*_split(questions), *asked)))
    item = find_item({key: value for key, value in first.items() if key not in (*known, *AFTER, "id")}, fields, notes)
    yield from as_records(_id(first), item, works, written_question(item, fields, asked), asked, {},
                          origin, notes)


def _columns(row: Mapping) -> list[str]:
    """The answers of a JSON_MIN row: its writer puts an item's data first, then id, answers, annotator and the rest."""
    keys = list(row)
    if "id" not in row or keys.index("id") > keys.index("annotator"):
        raise UserError("which columns are answers cannot be told from their order; name them with "
                        f"questions='...', of {keys}")
    return keys[keys.index("id") + 1: keys.index("annotator")]


def _results(name: str, value: Any) -> Iterator[dict]:
    """What JSON_MIN makes shorter, as results of the full export again."""
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, Mapping):
            one = {"choices": [one]}
        if "role" in one and "content" in one:
            one = {"chatmessage": one}
        kind = next((kind for kind, key in VALUES.items() if key in one and kind != "textarea"), None)
        kind = kind or ("chatmessage" if "chatmessage" in one else "textarea" if set(one) <= {"text"} else "")
        kind = kind or next((key for key in one if key.endswith("labels")), "unknown")
        yield {"from_name": name, "type": kind, "value": one}


def _work(name: str, annotator: str, results: Sequence[Mapping], skipped: bool, at: Any, seconds: Any,
          notes: Counter) -> Work | None:
    """What one annotation says; None where nothing of what it says can be read."""
    values, chat = {}, []
    for result in results:
        kind, question = result.get("type"), str(result.get("from_name", ""))
        value = result.get("value")
        if kind == "chatmessage" and isinstance(value, Mapping):
            chat.append(value.get("chatmessage"))
        elif not _readable(kind, value):
            notes[f"unsupported_{kind}"] += 1
        else:
            values.setdefault(question, []).append(_value(kind, value, result))
    values = {question: _joined(found) for question, found in values.items()}
    if results and not values and not chat and not skipped:
        return None
    known = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    return Work(name, annotator, values, _chat(chat), skipped, _time(at), float(seconds) if known else None)


def _value(kind: str, value: Mapping, result: Mapping) -> Any:
    """What one result says: a value, a span as {start, end, ...}, or {item, value} where it is of one item of many."""
    said = value.get(VALUES[kind])
    if kind == "taxonomy" and isinstance(said, list):
        said = [" > ".join(map(str, path)) if isinstance(path, list) else path for path in said]
    if kind in ("choices", "textarea", "taxonomy") and isinstance(said, list) and len(said) == 1:
        said = said[0]
    if kind == "ranker" and said:
        said = said if isinstance(said, Mapping) else {"": said}
        said = _ranked({name: ids for name, ids in said.items() if name != "_"} or said)
    if kind in SPANS or "start" in value:
        place = value.get("globalOffsets") or value
        kept = {key: value[key] for key in ("text", "startOffset", "endOffset") if kind != "textarea" and key in value}
        name = "labels" if kind in SPANS else VALUES[kind]
        return {"start": place.get("start"), "end": place.get("end"), **kept, name: said}
    return {"item": result["item_index"], "value": said} if "item_index" in result else said


def _ranked(buckets: Mapping) -> Any:
    """[["b"], ["a", "c"]] of one list in order or of buckets that are numbered from the best; else the buckets."""
    if not all(isinstance(ids, list) for ids in buckets.values()):
        raise UserError(f"a ranker must hold lists of ids, got {buckets!r:.60}")
    if all(str(name).isdecimal() for name in buckets):
        return [list(buckets[name]) for name in sorted(buckets, key=int) if buckets[name]]
    return [[name] for name in next(iter(buckets.values()))] if len(buckets) == 1 else buckets


def _joined(found: list) -> Any:
    """One value as it is; several, and spans, as a list."""
    return found if len(found) > 1 or isinstance(found[0], Mapping) and "start" in found[0] else found[0]


def _chat(messages: list) -> Messages:
    return as_messages([{key: message[key] for key in message if key != "createdAt"} if isinstance(message, Mapping)
                        else message for message in messages], "a chat message") if messages else ()


def _questions(results: Iterable[Mapping]) -> Iterator[str]:
    for result in results:
        if _readable(result.get("type"), result.get("value")):
            yield str(result.get("from_name", ""))


def _readable(kind: Any, value: Any) -> bool:
    """Whether a result says something of text."""
    known = isinstance(kind, str) and isinstance(value, Mapping) and VALUES.get(kind) in value
    return known and not any(key in value for key in AREA)


def _id(row: Mapping) -> str:
    return "" if row.get("id") is None else str(row["id"])


def _annotator(annotation: Mapping) -> str:
    """The number of an annotator, which exports write alone or in an object; else a name."""
    who = annotation.get("completed_by")
    if isinstance(who, Mapping):
        who = next((who[key] for key in ("id", "email", "username") if who.get(key) not in (None, "")), None)
    return str(annotation.get("created_username", "") if who is None else who).strip()


def _time(at: Any) -> str:
    """ISO 8601; old exports count seconds since 1970."""
    if isinstance(at, (int, float)) and not isinstance(at, bool) and abs(at) < 1e11:
        return datetime.fromtimestamp(at, UTC).isoformat()
    return at if isinstance(at, str) else ""


def _split(names: str | Sequence[str]) -> list[str]:
    return names.split() if isinstance(names, str) else list(names)
