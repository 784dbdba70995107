"""Label Studio's exports: three states, every control, old and short forms, and the real samples."""

from collections import Counter

import pytest

from jitune.construct.readers import label_studio
from jitune.construct.reading import read_records
from jitune.data.record import Record
from jitune.types import UserError

FOLDER = "data/annotation/label_studio"


def result(name, kind, /, **value):
    return {"id": "x", "from_name": name, "to_name": "t", "type": kind, "value": value}


def annotation(who, *results, **more):
    return {"id": who * 10, "completed_by": who, "result": list(results), "was_cancelled": False, "lead_time": 2.5,
            "created_at": "2024-05-15T12:09:16Z", **more}


def task(*annotations, data=None, **more):
    return {"id": 3, "data": data or {"prompt": "2 and 3?", "response": "5", "topic": "sums"},
            "annotations": list(annotations), "drafts": [], "predictions": [], **more}


def read(row, fields=None, **options):
    notes = Counter()
    return list(label_studio.read(row, ("e.json", 2), notes, fields or {}, **options)), {k: v for k, v in notes.items()
                                                                                        if v}


def states(record):
    return [(a.annotator, a.question, a.value, a.state) for a in record.annotations]


YES, FOUR = result("good", "choices", choices=["yes"]), result("stars", "rating", rating=4)


def test_three_states_and_what_is_no_label():
    drafted = [{"result": [result("late", "number", number=1)]}]
    row = task(annotation(1, YES, FOUR), annotation(2, YES), annotation(3), annotation(4, YES, was_cancelled=True),
               drafts=drafted, predictions=[{"result": [result("guess", "choices", choices=["no"])]}])
    [record], notes = read(row)
    assert states(record) == [
        ("1", "guess", None, "empty"), ("1", "late", None, "empty"), ("1", "good", "yes", "labelled"),
        ("1", "stars", 4, "labelled"),
        ("2", "guess", None, "empty"), ("2", "late", None, "empty"), ("2", "good", "yes", "labelled"),
        ("2", "stars", None, "empty"),
        *[("3", name, None, "empty") for name in ("guess", "late", "good", "stars")],
        *[("4", name, None, "skipped") for name in ("guess", "late", "good", "stars")]]
    assert notes == {"drafts": 1, "predictions": 1, "cancelled": 1, "empty": 9}
    assert record.provenance.annotators == ("1", "2", "3")  # the fourth gave up
    assert (record.annotations[2].at, record.annotations[2].seconds) == ("2024-05-15T12:09:16Z", 2.5)


def test_unlabelled_is_not_empty():
    [record], notes = read(task())
    assert record.annotations == () and notes == {"unlabelled": 1}
    [record], notes = read(task(annotation(1)))
    assert states(record) == [("1", "", None, "empty")] and notes == {"empty": 1}
    [record], notes = read(task(annotation(1)), questions="good stars")
    assert states(record) == [("1", "good", None, "empty"), ("1", "stars", None, "empty")]


@pytest.mark.parametrize("made, value", [
    (result("q", "choices", choices=["yes"]), "yes"),
    (result("q", "choices", choices=["yes", "no"]), ["yes", "no"]),
    (result("q", "rating", rating=4), 4),
    (result("q", "number", number=2.5), 2.5),
    (result("q", "datetime", datetime="2024-01-02"), "2024-01-02"),
    (result("q", "taxonomy", taxonomy=[["Animal", "Cat"], ["Plant"]]), ["Animal > Cat", "Plant"]),
    (result("q", "taxonomy", taxonomy=[["Animal", "Cat"]]), "Animal > Cat"),
    (result("q", "textarea", text=["better"]), "better"),
    (result("q", "textarea", text=["a", "b"]), ["a", "b"]),
    (result("q", "labels", start=2, end=5, text="and", labels=["word"]),
     [{"start": 2, "end": 5, "text": "and", "labels": ["word"]}]),
    (result("q", "hypertextlabels", start="/p[1]", end="/p[1]", text="and", globalOffsets={"start": 7, "end": 10},
            hypertextlabels=["word"]), [{"start": 7, "end": 10, "text": "and", "labels": ["word"]}]),
    (result("q", "choices", start=2, end=5, text="and", choices=["rude"]),
     [{"start": 2, "end": 5, "text": "and", "choices": "rude"}]),
    (result("q", "pairwise", selected="left"), "left"),
    (result("q", "ranker", ranker={"q": ["b", "a"]}), [["b"], ["a"]]),
    (result("q", "ranker", ranker={"2": ["a", "c"], "1": ["b"]}), [["b"], ["a", "c"]]),
    (result("q", "ranker", ranker={"1": ["b", "a"]}), [["b", "a"]]),
    (result("q", "ranker", ranker={"1": ["b"], "2": [], "3": ["a"]}), [["b"], ["a"]]),
    (result("q", "ranker", ranker={"_": ["c"], "good": ["b"], "bad": ["a"]}), {"good": ["b"], "bad": ["a"]}),
    ({**result("q", "rating", rating=4), "item_index": 1}, {"item": 1, "value": 4}),
])
def test_controls(made, value):
    [record], _ = read(task(annotation(1, made)))
    assert states(record) == [("1", "q", value, "labelled")]


def test_several_spans_are_one_answer():
    spans = [result("q", "labels", start=n, end=n + 1, text="x", labels=["a"]) for n in (0, 4)]
    [record], _ = read(task(annotation(1, *spans)))
    [only] = record.annotations
    assert [span["start"] for span in only.value] == [0, 4]


@pytest.mark.parametrize("made", [result("q", "textarea", text=[""]), result("q", "textarea", text=[]),
                                  result("q", "choices", choices=[]), result("q", "rating", rating=None)])
def test_an_answer_without_content_is_empty(made):
    [record], notes = read(task(annotation(1, made)))
    assert states(record) == [("1", "q", None, "empty")] and notes == {"empty": 1}


def test_regions_of_images_are_counted_and_leave_no_state():
    box = result("box", "rectanglelabels", x=1, y=2, width=3, height=4, rectanglelabels=["Car"])
    [record], notes = read(task(annotation(1, box)))
    assert record.annotations == () and notes == {"unsupported_rectanglelabels": 1}
    old = result("r", "ranker", items=["a", "b"], weights=[1, 0.5], selected=[True, False])
    assert read(task(annotation(1, old)))[1] == {"unsupported_ranker": 1}
    [record], notes = read(task(annotation(1, box, {"type": "relation", "from_id": "a", "to_id": "b"}, YES)))
    assert states(record) == [("1", "good", "yes", "labelled")]
    assert notes == {"unsupported_rectanglelabels": 1, "unsupported_relation": 1}


@pytest.mark.parametrize("who, name", [(7, "7"), ({"id": 7, "email": "a@b.c"}, "7"), ({"email": "a@b.c"}, "a@b.c"),
                                       (None, ""), ("7", "7")])
def test_annotators(who, name):
    [record], _ = read(task({**annotation(1, YES), "completed_by": who}))
    assert record.annotations[0].annotator == name


def test_annotations_of_a_storage():
    [record], _ = read({**annotation(1, YES), "task": {"id": 3, "data": {"prompt": "2 and 3?"}}})
    assert record.id == "3" and states(record) == [("1", "good", "yes", "labelled")]
    assert label_studio.is_task({"result": [], "task": {"data": {}}}) and not label_studio.is_task({"data": {}})


def test_old_completions():
    row = {"id": 1, "data": {"text": "Hi"}, "completions": [
        {"id": 1001, "created_at": 0, "lead_time": 3, "result": [YES]},
        {"id": 1002, "created_at": 5, "skipped": True, "result": []}]}
    [record], notes = read(row)
    assert states(record) == [("", "good", "yes", "labelled"), ("", "good", None, "skipped")]
    assert record.annotations[0].at == "1970-01-01T00:00:00+00:00" and notes == {"cancelled": 1}
    assert record.messages == () and record.meta == {"text": "Hi"}


def test_data_becomes_messages():
    [record], _ = read(task())
    assert [m["content"] for m in record.messages] == ["2 and 3?", "5"] and record.meta == {"topic": "sums"}
    assert (record.id, record.provenance.source) == ("3", "e.json:2")
    chat = {"dialogue": [{"author": "User", "text": "Hi"}, {"author": "assistant", "text": "Hello"}]}
    [record], _ = read(task(data=chat))
    assert record.messages == ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"})
    [record], notes = read(task(data={"dialogue": [{"author": "Ann", "text": "Hi"}]}))
    assert record.messages == () and notes == {"unlabelled": 1, "unread_conversations": 1}
    assert record.meta == {"dialogue": [{"author": "Ann", "text": "Hi"}]}
    [record], _ = read(task(data={"q": "Hi", "a": "Hello"}), {"prompt": "q", "response": "a"})
    assert [m["content"] for m in record.messages] == ["Hi", "Hello"] and record.meta == {}


def test_fields_that_are_not_there():
    with pytest.raises(UserError, match="fields: no field 'q'; the item has \\['prompt'"):
        read(task(), {"prompt": "q"})
    with pytest.raises(UserError, match="fields: unknown name 'question'; known are messages"):
        read(task(), {"question": "prompt"})


def test_two_answers_and_lists_are_candidates():
    data = {"prompt": "2 and 3?", "text1": "5", "text2": "6"}
    [record], _ = read(task(annotation(1, result("pw", "pairwise", selected="right")), data=data))
    assert [(c.id, c.messages[0]["content"]) for c in record.candidates] == [("left", "5"), ("right", "6")]
    data = {"prompt": "2 and 3?", "items": [{"id": "a", "title": "t", "body": "5"}, {"id": "b", "body": "6"}]}
    [record], _ = read(task(annotation(1, result("r", "ranker", ranker={"r": ["b", "a"]})), data=data))
    assert [(c.id, c.messages[0]["content"]) for c in record.candidates] == [("a", "5"), ("b", "6")]
    assert record.annotations[0].value == [["b"], ["a"]]


def test_written_answers_make_a_record_each():
    def written(text):
        return result("answer", "textarea", text=[text])

    row = task(annotation(1, written("5"), FOUR), annotation(2, written("five")), annotation(3, was_cancelled=True),
               data={"prompt": "2 and 3?"})
    records, notes = read(row)
    assert [r.id for r in records] == ["3", "3:10", "3:20"]
    assert states(records[0]) == [("3", "answer", None, "skipped"), ("3", "stars", None, "skipped")]
    assert [[m["content"] for m in r.messages] for r in records[1:]] == [["2 and 3?", "5"], ["2 and 3?", "five"]]
    assert states(records[1]) == [("1", "stars", 4, "labelled")] and records[1].provenance.annotators == ("1",)
    assert notes == {"cancelled": 1, "empty": 1}  # the second gave no stars
    [record, *_], _ = read(row | {"data": {"q": "?"}}, {"prompt": "q", "response": "stars2"})
    assert len(record.annotations) == 6  # no such question: what they wrote stays an annotation


def test_chats():
    said = [result("chat", "chatmessage", chatmessage={"role": role, "content": text, "createdAt": 1})
            for role, text in (("user", "Hi"), ("assistant", "Hello"))]
    records, _ = read(task(annotation(1, *said, FOUR), annotation(2, *said[:1]), data={"input_chat": []}))
    assert [(r.id, len(r.messages), len(r.annotations)) for r in records] == [("3:10", 2, 1), ("3:20", 1, 1)]
    [record], notes = read(task(annotation(1, *said, was_cancelled=True), data={"input_chat": []}))
    assert record.messages == () and states(record) == [("1", "", None, "skipped")] and notes == {"cancelled": 1}
    before = {"input_chat": [{"role": "system", "content": "Be kind."}]}
    [record], _ = read(task(annotation(1, *said), data=before))
    assert [m["role"] for m in record.messages] == ["system", "user", "assistant"]


def test_broken_tasks():
    with pytest.raises(UserError, match="'annotations' must be a list of objects, got \\[12\\]"):
        read({**task(), "annotations": [12]})
    with pytest.raises(UserError, match="unknown role \"narrator\""):
        read(task(annotation(1, result("chat", "chatmessage", chatmessage={"role": "narrator", "content": "x"}))))


def test_json_min():
    shared = {"prompt": "2 and 3?", "response": "5", "id": 3}
    end = {"annotation_id": 10, "created_at": "2024", "updated_at": "2024", "lead_time": 2}
    rows = [({**shared, "good": "yes", "stars": [{"rating": 4}], "annotator": 1, **end}, ("m.json", 1)),
            ({**shared, "good": {"choices": ["yes", "no"]}, "annotator": 2, **end}, ("m.json", 2)),
            ({**shared, "box": [{"x": 1, "rectanglelabels": ["Car"]}], "annotator": 3, **end}, ("m.json", 3))]
    notes = Counter()
    [record] = label_studio.read_min(rows, notes, {})
    assert states(record) == [("1", "good", "yes", "labelled"), ("1", "stars", 4, "labelled"),
                              ("2", "good", ["yes", "no"], "labelled"), ("2", "stars", None, "empty")]
    assert [m["content"] for m in record.messages] == ["2 and 3?", "5"] and record.meta == {}
    assert notes["unsupported_rectanglelabels"] == 1
    mixed = dict(sorted(rows[0][0].items()))
    with pytest.raises(UserError, match="name them with questions="):
        list(label_studio.read_min([(mixed, ("m.json", 1))], Counter(), {}))
    [again] = label_studio.read_min([(mixed, ("m.json", 1))], Counter(), {}, questions="good stars")
    assert states(again) == states(record)[:2]


def test_real_samples(shared):
    def of(name):
        reading = read_records([str(shared / FOLDER / name)])
        return list(reading), reading.notes

    records, notes = of("csv_test.json")
    assert [r.annotations for r in records] == [(), ()]
    assert notes == {"predictions": 2, "unsupported_rectanglelabels": 3}
    [record], _ = of("csv_test2.json")
    assert states(record) == [("1", "uri_selection", 'Yes " "" \n \t \t а б в \n', "labelled")]
    [record], _ = of("csv_test_history.json")
    assert states(record) == [("14", "sentiment", "Positive", "labelled")]
    [record], _ = of("json_min_chat_data.json")
    assert [m["role"] for m in record.messages] == ["user", "assistant"] * 2
    assert record.messages[0]["content"] == "hi" and record.provenance.annotators == ("22798",)
    [record], notes = of("json_min_data.json")
    assert record.meta == {"image": "/data/upload/29/example.png"} and notes == {"unsupported_polygonlabels": 1}
    whole = list(read_records([str(shared / FOLDER)]))
    assert len(whole) == 6 and all(isinstance(record, Record) for record in whole)


def test_a_task_without_an_id_is_named_by_its_content():
    row = task(annotation(1, YES))
    [one], [two] = (read({**row, "id": None})[0] for _ in range(2))
    assert one.id == two.id and len(one.id) == 24
