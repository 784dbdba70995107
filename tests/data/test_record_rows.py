"""Records in files: what is written is what is read, training sees the same, and what does not fit is refused."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jitune.data.formats import to_example as read_example
from jitune.data.pipeline import load_examples
from jitune.data.record import STATES, Annotation, Candidate, Provenance, Record, from_example, named, to_example
from jitune.data.record_rows import from_row, is_record, to_line, to_parquet_row, to_row
from jitune.data.record_schema import arrow_schema, json_schema
from jitune.data.sources import read_rows
from jitune.types import UserError

# Everything but halves of surrogate pairs; the pieces that break careless readers come up often.
TRAPS = st.sampled_from(["", "\0", "\u2028", "\u2029", "\x85", "\r\n", "\ufeff", "😀", "e\u0301", "ع\u200fב", "\\ud83d",
                         "null", "5", "\U0010ffff", '"', "{}"])  # fmt: skip
LETTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.one_of(TRAPS, st.text(LETTERS, max_size=8), st.tuples(TRAPS, TRAPS).map("".join))
NAME = TEXT.filter(bool)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
INTEGER = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(st.none() | st.booleans() | INTEGER | NUMBER | TEXT,
                    lambda one: st.lists(one, max_size=2) | st.dictionaries(TEXT, one, max_size=2), max_leaves=4)
OBJECT = st.dictionaries(TEXT, JSON, max_size=2)
TOOL = st.builds(lambda name, more: {"type": "function", "function": {"name": name, "parameters": more}}, TEXT, OBJECT)
CALL = st.builds(lambda name, arguments, id: {"type": "function", "function": {"name": name, "arguments": arguments}}
                 | ({"id": id} if id else {}), TEXT, OBJECT, TEXT)  # fmt: skip


def said(role: str):
    return st.builds(lambda text: {"role": role, "content": text}, TEXT)


ANSWER = st.one_of(said("assistant"), st.builds(
    lambda text, why, calls: {"role": "assistant", "content": text} | ({"reasoning_content": why} if why else {})
    | ({"tool_calls": calls} if calls else {}), TEXT, TEXT, st.lists(CALL, max_size=2)))  # fmt: skip
TOOL_SAID = st.builds(lambda text, name, id: {"role": "tool", "content": text, "name": name, "tool_call_id": id},
                      TEXT, TEXT, TEXT)  # fmt: skip
MESSAGES = st.lists(st.one_of(said("system"), said("user"), ANSWER, TOOL_SAID), min_size=1, max_size=3).map(tuple)
WEIGHT = st.none() | st.floats(0, 100)
PROVENANCE = st.builds(Provenance, TEXT, TEXT, st.lists(TEXT, max_size=2).map(tuple),
                       st.lists(TEXT, max_size=2).map(tuple), TEXT, TEXT, TEXT, OBJECT, st.none() | INTEGER, TEXT,
                       st.lists(TEXT, max_size=2).map(tuple))  # fmt: skip
ANNOTATION = st.one_of(
    st.builds(Annotation, TEXT, TEXT, JSON, at=TEXT, seconds=st.none() | NUMBER),
    st.builds(Annotation, TEXT, TEXT, state=st.sampled_from(STATES[1:])))
CANDIDATE = st.builds(Candidate, MESSAGES, st.none() | INTEGER, st.none() | NUMBER, TEXT)


@st.composite
def records(draw):
    kind = draw(st.sampled_from(["messages", "text", "completion", "preference", "candidates", "item"]))
    fields = {
        "id": draw(NAME), "meta": draw(OBJECT), "scores": draw(st.dictionaries(TEXT, NUMBER, max_size=2)),
        "annotations": tuple(draw(st.lists(ANNOTATION, max_size=2))), "provenance": draw(PROVENANCE),
        "label": draw(st.sampled_from([None, True, False])),
    }  # fmt: skip
    if kind == "text":
        return Record(text=((draw(TEXT), 1.0),), **fields)
    if kind == "completion":
        return Record(text=((draw(TEXT), 0.0), (draw(TEXT), 1.0)), **fields)
    fields["tools"] = tuple(draw(st.lists(TOOL, max_size=2)))
    if kind == "item":
        return Record(**fields)
    messages = draw(MESSAGES if kind == "messages" else MESSAGES | st.just(()))
    weights = [draw(WEIGHT) for _ in messages]
    fields |= {"messages": messages, "message_weights": tuple(weights) if set(weights) - {None} else None}
    if kind == "preference":
        fields |= {"chosen": draw(MESSAGES), "rejected": draw(MESSAGES)}
    if kind != "messages":
        fields["candidates"] = tuple(draw(st.lists(CANDIDATE, min_size=kind == "candidates", max_size=2)))
    return Record(**fields)


def write_parquet(path, found):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist([to_parquet_row(record) for record in found], schema=arrow_schema())
    pyarrow.parquet.write_table(table, path)
    return str(path)


def write_jsonl(path, found):
    path.write_bytes(b"".join(map(to_line, found)))
    return str(path)


def read_back(spec):
    return [from_row(row, origin) for row, origin in read_rows(spec)]


SETTINGS = settings(max_examples=60, deadline=None,
                    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip


@SETTINGS
@given(st.lists(records(), min_size=1, max_size=3))
def test_what_is_written_is_what_is_read(tmp_path, made):
    assert read_back(write_jsonl(tmp_path / "a.jsonl", made)) == made
    assert read_back(write_parquet(tmp_path / "a.parquet", made)) == made
    assert all(is_record(row) for row, _ in read_rows(str(tmp_path / "a.parquet")))


@SETTINGS
@given(records())
def test_every_row_fits_the_written_schema(record):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(json_schema()).validate(json.loads(to_line(record)))


EXAMPLES = [
    {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo", "loss_weight": 0.5}]},
    {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "function_call", "value": '{"name": "add", '
     '"arguments": {"a": null, "b": [2.0, 2]}}'}, {"from": "observation", "value": "4"}, {"from": "gpt", "value": "4"}],
     "system": "Add.", "tools": '[{"name": "add", "parameters": {"a": null}}]'},
    {"instruction": "Say\u2028hi", "input": "", "output": "hi\0"},
    {"prompt": "a", "completion": "b"}, {"text": "all"},
    {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]},
    {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": [
        {"type": "thinking", "value": "hm"}, {"type": "text", "value": "y"}]}]},
]  # fmt: skip


def test_training_reads_records_as_what_they_were_made_of(tmp_path):
    made = [read_example(row, ("a.json", n)) for n, row in enumerate(EXAMPLES, 1)]
    found = [from_example(example) for example in made]
    assert [to_example(record) for record in found] == made
    for spec in (write_jsonl(tmp_path / "a.jsonl", found), write_parquet(tmp_path / "a.parquet", found)):
        trained = list(load_examples(spec))
        assert [example.origin for example in trained] == [(spec, n) for n in range(1, len(made) + 1)]
        for example, first in zip(trained, made, strict=True):
            assert (example.messages, example.tools, example.message_weights, example.text) == (
                first.messages, first.tools, first.message_weights, first.text)


@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
@pytest.mark.parametrize("record", [
    Record("1", ({"role": "user", "content": "q"},), chosen=({"role": "assistant", "content": "a"},),
           rejected=({"role": "assistant", "content": "b"},)),
    Record("1", ({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}), label=False),
    Record("1", text=(("q", 0.0), ("a", 1.0)), label=True), Record("1", text=(("q", 1.0),), label=False),
    Record("1", ({"role": "user", "content": "q"},), candidates=(Candidate(({"role": "assistant", "content": "a"},)),)),
])  # fmt: skip
def test_training_refuses_what_it_would_ignore(tmp_path, record, write):
    name = write.__name__.removeprefix("write_")
    with pytest.raises(UserError, match=re.escape(f"a.{name}:1: the row is a preference")):
        list(load_examples(write(tmp_path / f"a.{name}", [record])))


GOOD = {"id": "1", "messages": [{"role": "user", "content": "q"}], "provenance": {}}
PAIR = {"id": "1", "prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "a"}],
        "rejected": [{"role": "assistant", "content": "b"}], "provenance": {}}  # fmt: skip


@pytest.mark.parametrize(("row", "message"), [
    (GOOD | {"choosen": []}, "unknown key 'choosen'; a record has id, messages, tools,"),
    ({"messages": [], "provenance": {}}, "'id' is missing; the row has keys ['messages', 'provenance']"),
    ({"id": "1", "text": "x"}, "'provenance' is missing"),
    (GOOD | {"id": 5}, "'id' must be text, got 5"),
    (GOOD | {"id": ""}, "'id' is empty"),
    (GOOD | {"messages": [{"role": "alien", "content": ""}]}, "'messages' item 1: unknown role \"alien\""),
    (GOOD | {"messages": ""}, "'messages' must be a list, got ''"),
    (GOOD | {"text": "x"}, "the content is one of 'messages', 'text'"),
    (GOOD | {"chosen": PAIR["chosen"]}, "'chosen' and 'rejected' go together"),
    (GOOD | {"chosen": PAIR["chosen"], "rejected": PAIR["rejected"]}, "the content is one of"),
    (PAIR | {"chosen": [{"role": "assistant", "content": "a", "weight": 2}]}, "'chosen': a loss_weight has no place"),
    ({"id": "1", "prompt": PAIR["prompt"], "provenance": {}}, "'prompt' is not text and has no answers"),
    ({"id": "1", "prompt": 5, "provenance": {}}, "'prompt' is not text and has no answers"),
    ({"id": "1", "prompt": "q", "provenance": {}}, "'prompt' is text and has no 'completion'"),
    ({"id": "1", "text": "q", "completion": "a", "provenance": {}}, "'completion' goes with a 'prompt' that is text"),
    ({"id": "1", "text": "q", "tools": [{"name": "f"}], "provenance": {}}, "'tools' have no place beside raw text"),
    (GOOD | {"label": 1}, "'label' must be true or false, got 1"),
    (GOOD | {"scores": {"x": "high"}}, "'scores': x must be a finite number, got 'high'"),
    (GOOD | {"scores": {"x": 10**400}}, "'scores': x must be a finite number"),
    (GOOD | {"scores": {"x": float("nan")}}, "'scores' holds nan, which is no number of JSON"),
    (GOOD | {"scores": [{"name": "x", "value": 1.0}] * 2}, "'scores' has a name twice"),
    (GOOD | {"meta": {"when": GOOD.keys()}}, "'meta' holds a value of type dict_keys"),
    (GOOD | {"meta": "{"}, "'meta': not valid JSON"),
    (GOOD | {"annotations": [{"annotator": "a"}]}, "'annotations' item 1: 'question' is missing"),
    (GOOD | {"annotations": [{"annotator": "a", "question": "q", "state": "lost"}]}, "'annotations' item 1: the state "
     "is one of labelled, empty, skipped, not 'lost'"),
    (GOOD | {"annotations": [{"annotator": "a", "question": "q", "state": "skipped", "value": 1}]},
     "'annotations' item 1: has a value, but its state is skipped"),
    (GOOD | {"annotations": {}}, "'annotations' must be a list, got {}"),
    (GOOD | {"provenance": {"licence": "MIT"}}, "'provenance': unknown key 'licence'; known are source, method,"),
    (GOOD | {"provenance": {"parents": "x"}}, "'provenance': 'parents' must be a list of texts, got 'x'"),
    (GOOD | {"provenance": {"seed": 2**63}}, "'provenance': 'seed' must be an integer"),
    (GOOD | {"provenance": {"seed": True}}, "'provenance': 'seed' must be an integer"),
    ({"id": "1", "prompt": [], "candidates": [{"rank": 0.5}], "provenance": {}}, "'candidates' item 1: 'rank' must be"),
    (GOOD | {"meta": {"a": ["x\ud83d"]}}, "'meta' holds half of a surrogate pair at character 2"),
    (GOOD | {"meta": {"\ude00": 1}}, "a key holds half of a surrogate pair at character 1"),
    (GOOD | {"messages": [{"role": "user", "content": "\udc80"}]}, "'messages' holds half of a surrogate pair"),
])  # fmt: skip
def test_a_row_that_does_not_fit_is_refused_with_file_and_row(row, message):
    with pytest.raises(UserError) as caught:
        from_row(row, ("a.jsonl", 7))
    assert str(caught.value).startswith(f"a.jsonl:7: {message}")


def test_a_record_that_no_file_can_hold_is_refused():
    for meta in ({"x": float("inf")}, {"x": "\ud83d"}, {"x": {1, 2}}):
        record = Record("1", meta=meta, provenance=Provenance("b.csv:3"))
        for write in (to_line, to_parquet_row):
            with pytest.raises(UserError, match="^b.csv:3: (holds half|cannot be written as JSON)"):
                write(record)
    for record in (Record("1", chosen=({"role": "assistant", "content": ""},)), Record("1", text=(("a", 0.5),)),
                   Record("1", ({"role": "user", "content": ""},), message_weights=(None, 1.0))):
        with pytest.raises(UserError, match="^record 1: "):
            to_row(record)


@pytest.mark.parametrize("name", ["sft/glaive_toolcall_en_demo.json", "sft/reason_tool_use_demo_50.jsonl",
                                  "sft/alpaca_zh_demo.json"])  # fmt: skip
def test_real_conversations(shared, tmp_path, name):
    spec = str(shared / "data" / name)
    made = [named(from_example(example)) for example in load_examples(spec)][:200]
    assert read_back(write_jsonl(tmp_path / "a.jsonl", made)) == made
    assert read_back(write_parquet(tmp_path / "a.parquet", made)) == made
