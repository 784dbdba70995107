"""Reading: every kind of row is known by its keys, broken ones are named, and what is read can be written and read."""

import datetime
import json
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jitune.construct import reading
from jitune.construct.reading import READERS, find_reader, read_records
from jitune.data import formats
from jitune.data.formats import FORMATS
from jitune.data.record import Provenance, Record, named, to_example
from jitune.data.record_rows import from_row, to_line, to_row
from jitune.data.streams import Bad
from jitune.types import Example, UserError


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def user(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


KINDS = {
    "jitune": to_row(named(Record("", (user("q"), said("a"))))),
    "label_studio": {"id": 1, "data": {"prompt": "q"}, "annotations": []},
    "label_studio_min": {"prompt": "q", "id": 1, "good": "yes", "annotator": 1, "annotation_id": 2},
    "argilla": {"fields": {"prompt": "q"}, "responses": {}},
    "argilla_flat": {"prompt": "q", "good.responses": ["yes"], "good.responses.users": ["u"]},
    "argilla_old": {"text": "q", "annotation": "a", "status": "Validated"},
    "oasst": {"message_tree_id": "t", "prompt": {"message_id": "t", "role": "prompter", "text": "q", "replies": [
        {"message_id": "u", "role": "assistant", "text": "a", "replies": []}]}},
    "oasst_flat": {"message_id": "t", "parent_id": None, "role": "prompter", "text": "q"},
    "two_outputs": {"input": "q", "output_1": "a", "output_2": "b", "label": 1},
    "pairs": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "kto": {"prompt": "q", "completion": "a", "label": True},
    "ranking": {"prompt": "q", "answers": ["a", "b"], "ranks": [1, 2]},
    "dolly": {"instruction": "q", "context": "c", "response": "a", "category": "open_qa"},
    "self_instruct": {"instruction": "q", "instances": [{"input": "c", "output": "a"}]},
    "training": {"instruction": "q", "input": "c", "output": "a"},
    "prompts": {"prompt": "q", "topic": "sums"},
}


@pytest.mark.parametrize("kind", [*READERS, *FORMATS])
def test_rows_of_another_kind_are_refused_by_their_place(kind, tmp_path):
    rows = [row for row in KINDS.values()] + [{"x": 1}, {"id": [1], "data": 3, "prompt": {"a": 1}, "label": []}]
    path = write(tmp_path / "a.jsonl", *rows)
    found = list(read_records([path], format=kind, bad="give"))
    refused = [one for one in found if isinstance(one, Bad)]
    assert bool(refused) != (kind in ("argilla_flat", "argilla_old"))  # without what users said they are items
    assert {(one.file, one.reason) for one in refused} <= {
        (path, reason) for reason in ("malformed", "same_answers", "no_answer", "no_prompt", "tie")}


@pytest.mark.parametrize("kind", READERS)
def test_each_kind_is_known_by_its_keys(kind, tmp_path):
    row = KINDS[kind]
    assert [name for name, reader in READERS.items() if reader.detects(row)][0] == kind
    path = write(tmp_path / "a.jsonl", row)
    found = list(read_records([path]))
    assert found == list(read_records([path], format=kind))
    assert len(found) == (kind != "oasst_flat")  # a question alone is no thread


def test_a_file_of_many_kinds(tmp_path):
    rows = [row for kind, row in KINDS.items() if kind != "oasst_flat"]
    records = list(read_records([write(tmp_path / "a.jsonl", *rows)]))
    assert len(records) == len(rows)
    assert [r.provenance.source.rpartition(":")[2] for r in records] == [str(n + 1) for n in range(len(rows))]


def test_seeds_of_self_instruct_are_a_record_an_instance(tmp_path):
    seed = {"id": "seed_task_1", "name": "sums", "instruction": "Add.", "is_classification": False,
            "instances": [{"input": "2, 3", "output": "5"}, {"input": "", "output": "?"}]}
    broken = [seed | {"instances": []}, seed | {"instances": [{"input": "2, 3"}]}, seed | {"instances": ["5"]}]
    reading = read_records([write(tmp_path / "s.jsonl", seed, *broken)], bad="give")
    first, second, *bad = reading
    assert first.messages == (user("Add.\n\n2, 3"), said("5")) and second.messages == (user("Add."), said("?"))
    assert first.meta == {"id": "seed_task_1", "name": "sums", "is_classification": False, "input": "2, 3"}
    assert second.meta == {"id": "seed_task_1", "name": "sums", "is_classification": False}
    assert first.id != second.id and first.provenance.source == second.provenance.source
    assert [(one.number, one.reason, one.fault) for one in bad] == [
        (2, "no_instance", False), (3, "malformed", True), (4, "malformed", True)]
    assert bad[1].detail.startswith("'instances', number 0: ")


def test_the_seeds_of_self_instruct(shared):
    for name, count in (("seed_tasks", 175), ("user_oriented", 252)):
        found = list(read_records([str(shared / f"data/seeds/self_instruct_{name}.jsonl")], license="Apache-2.0"))
        assert len(found) == count and all(record.messages[-1]["content"].strip() for record in found)
    assert found[0].meta["motivation_app"] == "Grammarly" and found[0].provenance.method == "annotation"


def test_dolly(tmp_path):
    [record] = read_records([write(tmp_path / "d.jsonl", KINDS["dolly"])], license="CC-BY-SA-3.0")
    assert record.messages == (user("q\n\nc"), said("a")) and record.meta == {"category": "open_qa", "input": "c"}
    assert record.provenance == Provenance(str(tmp_path / "d.jsonl:1"), "annotation", license="CC-BY-SA-3.0")
    [record] = read_records([write(tmp_path / "d.jsonl", {**KINDS["dolly"], "context": ""})], method="by hand")
    assert record.messages == (user("q"), said("a")) and record.provenance.method == "by hand"


def test_prompts(tmp_path):
    path = write(tmp_path / "a.jsonl", {"instruction": "Add.", "input": "2 3", "system": "Count.", "k": 1})
    [record] = read_records([path], format="prompts")
    assert record.messages == ({"role": "system", "content": "Count."}, user("Add.\n\n2 3"))
    assert record.meta == {"k": 1, "input": "2 3"}
    [record] = read_records([write(tmp_path / "a.jsonl", {"prompt": [user("a"), said("b"), user("c")]})])
    assert record.messages == (user("a"), said("b"), user("c"))
    with pytest.raises(UserError, match="'prompt' ends with an answer"):
        list(read_records([write(tmp_path / "a.jsonl", {"prompt": [user("a"), said("b")]})]))
    with pytest.raises(UserError, match="a.jsonl:1: no known format"):  # who knows what the answer column is
        list(read_records([write(tmp_path / "a.jsonl", {"prompt": "a", "model_answer": "b"})]))


def test_a_bad_row_does_not_part_what_belongs_together(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [KINDS["oasst_flat"], {"message_id": "u", "parent_id": "t", "role": "assistant", "text": "a"}]
    path.write_text("\n{broken\n".join(json.dumps(row) for row in rows))
    bad, record = read_records([str(path)], bad="give")
    assert isinstance(bad, Bad) and bad.number == 2 and record.messages == (user("q"), said("a"))


def test_licenses_of_rows(tmp_path):
    path = write(tmp_path / "a.jsonl", {**KINDS["training"], "license": "MIT"}, KINDS["training"])
    assert [r.provenance.license for r in read_records([path])] == ["MIT", ""]
    assert [r.provenance.license for r in read_records([path], license="0BSD")] == ["0BSD", "0BSD"]


def test_own_records_keep_what_they_know(tmp_path):
    record = Record("x", (user("q"), said("a")), provenance=Provenance("far.json:7", "distillation", license="MIT"))
    bare = Record("y", (user("q"), said("b")))
    path = tmp_path / "own.jsonl"
    path.write_bytes(to_line(record) + to_line(bare))
    first, second = read_records([str(path)])
    assert first == record and second.provenance.source == f"{path}:2"


@pytest.mark.parametrize("format, row", [
    ("messages", {"messages": [user("q"), said("a")], "k": 1}),
    ("sharegpt", {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "k": 1}),
    ("alpaca", {"instruction": "q", "output": "a", "k": 1}),
    ("prompt_completion", {"prompt": [user("q")], "completion": [said("a")], "k": 1})])
def test_training_formats(format, row, tmp_path):
    path = write(tmp_path / "a.jsonl", row)
    for name in ("auto", format):
        [record] = read_records([path], format=name)
        assert record.messages == (user("q"), said("a")) and record.meta == {"k": 1}


def test_fields_rename_columns(tmp_path, shared):
    path = write(tmp_path / "a.jsonl", {"q": "2 and 3?", "a": "5"})
    [record] = read_records([path], fields="instruction=q,output=a")
    assert record.messages == (user("2 and 3?"), said("5"))
    with pytest.raises(UserError, match="a.jsonl:1: fields: no column 'b'; the row has keys \\['q', 'a'\\]"):
        list(read_records([path], fields="instruction=q,output=b"))
    davinci = shared / "data/self_improvement/davinci_predictions.jsonl"
    rows = [json.loads(line) for line in davinci.read_text().splitlines()]
    records = list(read_records([str(davinci)], fields="output=response"))
    assert len(records) == 252
    for row, record in zip(rows, records, strict=True):
        question, answer = record.messages
        assert question["content"].startswith(row["instruction"]) and answer["content"] == row["response"]
        assert question["content"].endswith(row["input"]) and record.meta["target"] == row["target"]


def three(row):
    return [Record("", (user(row["x"]), said(str(n)))) for n in range(3)]


def one(row):
    return Example(messages=(user(row["x"]), said("a")))


def test_functions_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "three", three, raising=False)
    monkeypatch.setattr(reading, "one", one, raising=False)
    path = write(tmp_path / "a.jsonl", {"x": "q"})
    assert [r.messages[1]["content"] for r in read_records([path], format="jitune.construct.reading:three")] == list(
        "012")
    [record] = read_records([path], format="jitune.construct.reading:one")
    assert record.provenance.source == f"{path}:1" and record.id
    bad = write(tmp_path / "b.jsonl", {"y": "q"})
    with pytest.raises(UserError, match="b.jsonl:1: format 'jitune.construct.reading:one': KeyError: 'x'"):
        list(read_records([bad], format="jitune.construct.reading:one"))
    with pytest.raises(UserError, match="cannot be imported"):
        read_records([path], format="jitune.construct.reading:none")


def test_unknown_words():
    with pytest.raises(UserError, match="unknown format 'dollie'; known: auto, jitune, label_studio"):
        find_reader("dollie")
    with pytest.raises(UserError, match="option 'thread' is unknown to the format; known are deleted, make"):
        read_records(["a.json"], format="oasst", options="thread=all")
    with pytest.raises(UserError, match="bad='skip': is none of raise, give"):
        read_records(["a.json"], bad="skip")


def test_rows_of_no_kind_name_those_that_are_known(tmp_path):
    path = write(tmp_path / "a.jsonl", {"foo": 1})
    with pytest.raises(UserError, match="a.jsonl:1: no known format: the row has keys 'foo'; rename columns with "
                                        "fields, or name the format: jitune, label_studio, "):
        list(read_records([path]))


def test_bad_rows_are_given_in_their_places(tmp_path):
    path = tmp_path / "a.jsonl"
    good = json.dumps(KINDS["training"])
    path.write_bytes(b"\n".join([good.encode(), b"{broken", b'{"foo": 1}', b'{"instruction": "\\ud83d", "output": "a"}',
                                 b'{"instruction": 3, "output": "a"}', b"[1]", b'{"text": "\xff"}', good.encode()]))
    found = read_records([str(path)], bad="give")
    items = list(found)
    assert [isinstance(item, Bad) for item in items] == [False, True, True, True, True, True, True, False]
    assert [item.number for item in items if isinstance(item, Bad)] == [2, 3, 4, 5, 6, 7]
    assert sum(found.notes.values()) == 6 and found.read == found.total == path.stat().st_size
    assert items[4].detail == "'instruction' must be text, got 3"
    with pytest.raises(UserError, match="a.jsonl:2: not valid JSON"):
        list(read_records([str(path)]))


def test_numbers_that_are_none_become_null(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "q", "output": "a", "score": NaN, "list": [1.5, Infinity]}\n')
    found = read_records([str(path)])
    [record] = found
    assert record.meta == {"list": [1.5, None]} and found.notes == {"not_finite": 2}
    to_line(record)


def test_parquet(tmp_path):
    import pyarrow.parquet

    rows = [{**KINDS["training"], "at": datetime.datetime(2024, 1, 2)}, {**KINDS["training"], "output": "b"}]
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    first, second = read_records([str(path)])
    assert first.meta == {"at": "2024-01-02 00:00:00", "input": "c"} and second.messages[1] == said("b")


def test_every_real_record_is_read_again_as_it_was(shared):
    files = [*sorted((shared / "data/preference").iterdir()), *sorted((shared / "data/sft").iterdir()),
             shared / "data/annotation/label_studio", shared / "data/annotation/oasst_en_100_tree.jsonl"]
    for file in files:
        for count, record in enumerate(read_records([str(file)])):
            assert from_row(json.loads(to_line(record)), ("again", 1)) == record, file
            if count > 300:
                break
    for options in ("make=pairs", "make=candidates"):
        for record in read_records([str(files[-1])], options=options):
            assert from_row(to_row(record), ("again", 1)) == record


RICH = [*KINDS.values(), {
    "id": 3, "data": {"prompt": "q", "text1": "a", "text2": "b", "items": [{"id": "a", "body": "x"}]},
    "annotations": [{"id": 1, "completed_by": {"id": 2}, "lead_time": 2, "created_at": 3, "result": [
        {"from_name": "a", "type": "choices", "value": {"choices": ["x"]}},
        {"from_name": "b", "type": "labels", "value": {"start": 1, "end": 2, "text": "x", "labels": ["y"]}},
        {"from_name": "c", "type": "ranker", "value": {"ranker": {"c": ["b", "a"]}}},
        {"from_name": "d", "type": "taxonomy", "value": {"taxonomy": [["b", "a"]]}},
        {"from_name": "e", "type": "chatmessage", "value": {"chatmessage": {"role": "user", "content": "x"}}}]}],
    "predictions": [{"result": []}], "drafts": [{"result": []}]}, {
    "id": "a", "fields": {"prompt": "q", "r1": "a", "r2": "b"}, "suggestions": {"good": {"value": "no"}}, "responses": {
        "order": [{"value": [{"value": "r1", "rank": 1}, {"value": "r2", "rank": 2}], "user_id": "u"}]}}, {
    "prompt": "q", "metadata": "{}", "good": {"user_id": ["u"], "value": ["yes"], "status": ["submitted"]},
    "good-suggestion": "no"}, {
    "prompt": "q", "answers": [{"answer": "a", "rank": 3}, {"answer": "b", "rank": 1}]}]
ODD = [None, 0, -3.5, True, "", "x", "\n\nHuman: a", [], {}, [1], ["a", "b"], {"a": 1}, [None], [["a"]],
       [{"role": "user", "content": "x"}], 10**30]


def places(value, path=()):
    """The path of everything in a row."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), row=st.sampled_from(RICH), make=st.sampled_from(["threads", "pairs", "candidates"]))
def test_a_row_with_anything_wrong_in_it_is_a_record_or_bad(data, row, make, tmp_path):
    row = json.loads(json.dumps(row))
    for *path, last in data.draw(st.lists(st.sampled_from([p for p in places(row) if p]), min_size=1, max_size=3)):
        try:
            at = row
            for key in path:
                at = at[key]
            at[last] = json.loads(json.dumps(data.draw(st.sampled_from(ODD))))
        except (KeyError, IndexError, TypeError):  # an earlier change took the place away
            pass
    for item in read_records([write(tmp_path / "a.jsonl", row)], bad="give", options={"make": make}):
        if isinstance(item, Bad):
            assert item.reason and item.detail and item.number == 1
        else:
            assert from_row(json.loads(to_line(item)), ("again", 1)) == item


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "a.jsonl"
    row = json.dumps({"instruction": "q" * 5000, "output": "a" * 5000})
    path.write_text(f"{row}\n" * 1000)  # 10 MB
    tracemalloc.start()
    count = sum(1 for _ in read_records([str(path)]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 1000 and peak < 2_000_000


def test_alpacas_input_is_kept_apart(shared):
    """Of every real row the instruction is what stands before it; what training sees is what it was."""
    file = shared / "data" / "sft" / "cherry_alpaca_5_percent.json"
    for row, record in zip(json.loads(file.read_text()), read_records([str(file)]), strict=True):
        (question, answer) = record.messages
        assert record.meta.get("input", "") == (row["input"] if row["input"].strip() else "")
        text = question["content"].removesuffix(record.meta.get("input", "")).removesuffix("\n\n")
        assert (text, answer["content"]) == (row["instruction"].removesuffix("\n\n"), row["output"])
        assert to_example(record) == formats.to_example(row, to_example(record).origin)
