"""Argilla's exports, of both versions and in both shapes, say the same of the same answers."""

import json
from collections import Counter

import pytest

from jitune.construct.readers import argilla
from jitune.construct.reading import READERS
from jitune.types import UserError

FIELDS = {"prompt": "2 and 3?", "response": "5"}
NESTED = {
    "id": "a", "status": "completed", "_server_id": "s", "fields": FIELDS, "metadata": {"topic": "sums"},
    "vectors": {"v": [0.5]}, "suggestions": {"good": {"value": "no", "score": 0.9, "agent": "m"}},
    "responses": {
        "good": [{"value": "yes", "user_id": "u1", "status": "submitted"},
                 {"value": "no", "user_id": "u2", "status": "draft"},
                 {"value": None, "user_id": "u3", "status": "discarded"}],
        "stars": [{"value": 4, "user_id": "u1", "status": "submitted"},
                  {"value": 2, "user_id": "u4", "status": "submitted"}],
    }}
SERVER = {
    "id": "a", "fields": FIELDS, "metadata": {"topic": "sums"},
    "suggestions": [{"question_name": "good", "value": "no"}],
    "responses": [{"user_id": "u1", "status": "submitted", "values": {"good": {"value": "yes"}, "stars": {"value": 4}}},
                  {"user_id": "u2", "status": "draft", "values": {"good": {"value": "no"}}},
                  {"user_id": "u3", "status": "discarded", "values": None},
                  {"user_id": "u4", "status": "submitted", "values": {"stars": {"value": 2}}}]}
FLAT = {
    "id": "a", "status": "completed", "_server_id": "s", **FIELDS, "metadata": {"topic": "sums"},
    "good.responses": ["yes", "no", None], "good.responses.users": ["u1", "u2", "u3"],
    "good.responses.status": ["submitted", "draft", "discarded"], "good.suggestion": "no", "good.suggestion.score": 0.9,
    "good.suggestion.agent": None, "stars.responses": [4, 2], "stars.responses.users": ["u1", "u4"],
    "stars.responses.status": ["submitted", "submitted"]}
HUB = {
    "external_id": "a", **FIELDS, "metadata": json.dumps({"topic": "sums"}), "good": NESTED["responses"]["good"],
    "good-suggestion": "no", "good-suggestion-metadata": {"agent": None, "score": None, "type": None},
    "stars": NESTED["responses"]["stars"], "stars-suggestion": None, "stars-suggestion-metadata": {}}
LISTS = {**HUB, "good": {"user_id": ["u1", "u2", "u3"], "value": ["yes", "no", None],
                         "status": ["submitted", "draft", "discarded"]}}


def read(row, fields=None, **options):
    name = next(name for name, reader in READERS.items() if reader.detects(row))
    assert name.startswith("argilla")
    notes = Counter()
    return list(READERS[name].read(row, ("r.json", 1), notes, fields or {}, **options)), {k: v for k, v in notes.items()
                                                                                         if v}


@pytest.mark.parametrize("row", [NESTED, SERVER, FLAT, HUB, LISTS], ids=["nested", "server", "flat", "hub", "lists"])
def test_every_shape_says_the_same(row):
    [record], notes = read(row)
    assert {(a.annotator, a.question, a.value, a.state) for a in record.annotations} == {
        ("u1", "good", "yes", "labelled"), ("u1", "stars", 4, "labelled"),
        ("u3", "good", None, "skipped"), ("u3", "stars", None, "skipped"),
        ("u4", "good", None, "empty"), ("u4", "stars", 2, "labelled")}
    assert len(record.annotations) == 6
    assert notes == {"suggestions": 1, "drafts": 1, "cancelled": 1, "empty": 1}
    assert record.id == "a" and record.meta == {"metadata": {"topic": "sums"}}
    assert [m["content"] for m in record.messages] == ["2 and 3?", "5"]
    assert record.provenance.annotators == ("u1", "u4")


def test_values_of_every_question():
    values = {"label": "a", "labels": ["a", "b"], "rating": 3, "text": "better", "span": [{"start": 0, "end": 1,
              "label": "x"}], "ranking": ["b", "a"]}
    [record], _ = read({"fields": {"text": "x"}, "responses": {
        name: [{"value": value, "user_id": "u", "status": "submitted"}] for name, value in values.items()}})
    assert {a.question: a.value for a in record.annotations} == values
    assert record.messages == () and record.meta == {"text": "x"}


@pytest.mark.parametrize("ranks, value", [
    ([2, 1, 3], [["r2"], ["r1"], ["r3"]]), ([1, 1, 2], [["r1", "r2"], ["r3"]]), (None, [["r3"], ["r2"], ["r1"]])])
def test_rankings_order_the_fields_that_they_name(ranks, value):
    given = [{"value": f"r{n}", "rank": rank} for n, rank in enumerate(ranks, 1)] if ranks else ["r3", "r2", "r1"]
    row = {"fields": {"prompt": "?", "r1": "A", "r2": "B", "r3": "C"}, "responses": {
        "order": [{"value": given, "user_id": "u", "status": "submitted"}]}}
    [record], _ = read(row)
    assert record.annotations[0].value == value
    assert [(c.id, c.messages[0]["content"]) for c in record.candidates] == [("r1", "A"), ("r2", "B"), ("r3", "C")]
    assert record.messages == ({"role": "user", "content": "?"},) and record.meta == {}


def test_written_answers():
    row = {"id": "a", "fields": {"prompt": "2 and 3?"}, "responses": {
        "response": [{"value": "5", "user_id": "u1", "status": "submitted"},
                     {"value": "five", "user_id": "u2", "status": "submitted"}]}}
    records, _ = read(row)
    assert [(r.id, r.messages[-1]["content"], r.provenance.annotators) for r in records] == [
        ("a:u1", "5", ("u1",)), ("a:u2", "five", ("u2",))]


def test_chat_fields():
    row = {"fields": {"chat": [{"role": "user", "content": "Hi"}]}, "responses": {}}
    [record], notes = read(row)
    assert record.messages == ({"role": "user", "content": "Hi"},) and notes == {"unlabelled": 1}


def test_answers_without_user_or_status_count_one_by_one():
    row = {"fields": {"text": "x"}, "responses": {"good": [{"value": "yes"}, {"value": "no"}]}}
    [record], _ = read(row)
    assert [(a.annotator, a.value) for a in record.annotations] == [("", "yes"), ("", "no")]


@pytest.mark.parametrize("status, annotation, states, notes", [
    ("Validated", "spam", [("spam", "labelled")], {}),
    (None, "spam", [("spam", "labelled")], {}),
    ("Discarded", "spam", [(None, "skipped")], {"cancelled": 1}),
    ("Discarded", None, [(None, "skipped")], {"cancelled": 1}),
    ("Edited", "spam", [], {"drafts": 1}),
    ("Default", None, [], {"unlabelled": 1}),
    ("Validated", ["a", "b"], [(["a", "b"], "labelled")], {}),
    ("Validated", [], [(None, "empty")], {"empty": 1}),
])
def test_argilla_1(status, annotation, states, notes):
    row = {"id": "a", "text": "Buy!", "inputs": {"subject": "Buy!"}, "annotation": annotation, "status": status,
           "annotation_agent": "ann", "prediction": [["ham", 0.9]], "metadata": {"k": 1}, "event_timestamp": None}
    [record], found = read(row)
    assert [(a.value, a.state) for a in record.annotations] == states
    assert found == {"predictions": 1, **notes}
    assert record.meta == {"subject": "Buy!", "metadata": {"k": 1}}
    assert all(a.annotator == "ann" and a.question == "annotation" for a in record.annotations)


def test_argilla_1_text_to_text():
    row = {"text": "2 and 3?", "annotation": "5", "annotation_agent": "ann", "status": "Validated"}
    [record], _ = read(row, {"prompt": "text", "response": "annotation"})
    assert [m["content"] for m in record.messages] == ["2 and 3?", "5"]


@pytest.mark.parametrize("row, message", [
    ({**NESTED, "responses": {"good": [{"value": 1, "status": "lost"}]}}, "status='lost': is none of submitted"),
    ({**NESTED, "responses": "none"}, "'responses' must be an object of questions or a list"),
    ({**NESTED, "responses": {"good": [3]}}, "the responses to 'good' must be a list of objects"),
    ({**FLAT, "good.responses.users": ["u1"]}, "'good.responses', its users and its status differ in length: 3, 1, 3"),
])
def test_broken_rows(row, message):
    with pytest.raises(UserError, match=message):
        read(row)


def test_questions_that_are_named_are_empty_where_nobody_answers():
    [record], _ = read(NESTED, questions="flag")
    assert ("u1", "flag", "empty") in {(a.annotator, a.question, a.state) for a in record.annotations}


def test_rankings_of_other_names_are_named():
    row = {"fields": {"text": "x"}, "responses": {"order": [{"value": ["b", "a"], "user_id": "u"}]}}
    assert read(row)[0][0].annotations[0].value == ["b", "a"]  # as well a set of labels
    assert read(row, rankings="order")[0][0].annotations[0].value == [["b"], ["a"]]
    assert argilla.OPTIONS == ("questions", "rankings")
