"""Preferences: every shape, what says nothing, and the real files by counts of their own."""

import gzip
import json
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.reading import READERS, read_records
from jitune.data.preferences import split_dialogue
from jitune.data.record import Record
from jitune.types import UserError

FOLDER = "data/preference"
HH = "hh_rlhf_harmless_base_test.jsonl.gz"


def user(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


def read(row):
    name = next(name for name, reader in READERS.items() if reader.detects(row))
    notes = Counter()
    [found] = READERS[name].read(row, ("p.json", 4), notes, {})
    return found, {k: v for k, v in notes.items() if v}


def parts(record):
    return list(record.messages), list(record.chosen), list(record.rejected)


WANTED = [user("2 and 3?")], [said("5")], [said("6")]
PAIRS = {
    "texts": {"prompt": "2 and 3?", "chosen": "5", "rejected": "6"},
    "lists": {"prompt": [user("2 and 3?")], "chosen": [said("5")], "rejected": [said("6")]},
    "implicit lists": {"chosen": [user("2 and 3?"), said("5")], "rejected": [user("2 and 3?"), said("6")]},
    "text and whole lists": {"prompt": "2 and 3?", "chosen": [user("2 and 3?"), said("5")],
                             "rejected": [user("2 and 3?"), said("6")]},
    "a prompt of other words": {"prompt": "sum?", "chosen": [user("2 and 3?"), said("5")],
                                "rejected": [user("2 and 3?"), said("6")]},
    "sharegpt": {"conversations": [{"from": "human", "value": "2 and 3?"}], "chosen": {"from": "gpt", "value": "5"},
                 "rejected": {"from": "gpt", "value": "6"}},
    "messages": {"messages": [user("2 and 3?")], "chosen": said("5"), "rejected": said("6")},
    "question": {"question": "2 and 3?", "chosen": "5", "rejected": "6"},
    "hh": {"chosen": "\n\nHuman: 2 and 3?\n\nAssistant: 5", "rejected": "\n\nHuman: 2 and 3?\n\nAssistant: 6"},
    "hh with a prompt": {"prompt": "\n\nHuman: 2 and 3?\n\nAssistant:", "chosen": "5", "rejected": "6"},
    "llmbar": {"input": "2 and 3?", "output_1": "6", "output_2": "5", "label": 2},
    "csv": {"input": "2 and 3?", "output_1": "5", "output_2": "6", "label": "1"},
    "arena": {"conversation_a": [user("2 and 3?"), said("5")], "conversation_b": [user("2 and 3?"), said("6")],
              "winner": "model_a", "model_a": "x", "model_b": "y"},
}


@pytest.mark.parametrize("row", PAIRS.values(), ids=PAIRS)
def test_every_shape_of_a_pair(row):
    record, _ = read(row)
    assert parts(record) == WANTED and record.provenance.source == "p.json:4"


def test_what_stands_beside():
    record, _ = read({**PAIRS["texts"], "system": "Count.", "score": 3})
    assert record.messages[0] == {"role": "system", "content": "Count."} and record.meta == {"score": 3}
    record, _ = read({"instruction": "Add.", "input": "2 3", "chosen": "5", "rejected": "6"})
    assert record.messages == (user("Add.\n\n2 3"),)
    record, _ = read(PAIRS["arena"])
    assert record.meta == {"model_a": "x", "model_b": "y"}


def test_implicit_prompt_of_texts():
    record, notes = read({"chosen": "The sky is blue.", "rejected": "The sky is black."})
    assert parts(record) == ([user("The sky is")], [said(" blue.")], [said(" black.")])
    assert notes == {"implicit_prompt": 1}


def test_differing_prefixes_end_the_prompt_early():
    row = {"chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
           "rejected": "\n\nHuman: a\n\nAssistant: x\n\nHuman: c\n\nAssistant: d"}
    record, notes = read(row)
    assert parts(record) == ([user("a")], [said("b"), user("c"), said("d")], [said("x"), user("c"), said("d")])
    assert notes == {"differing_prefixes": 1}


@pytest.mark.parametrize("row, reason, fault", [
    ({"prompt": "q", "chosen": "a", "rejected": "a"}, "same_answers", False),
    ({"chosen": "a", "rejected": "a"}, "same_answers", False),
    ({"input": "q", "output_1": "a", "output_2": "b", "label": 0}, "tie", False),
    ({"input": "q", "answer_a": "a", "answer_b": "b", "winner": "tie (bothbad)"}, "tie", False),
    ({"chosen": "yes", "rejected": "no"}, "no_prompt", True),
    ({"chosen": [user("a"), said("b"), user("c")], "rejected": [user("a"), said("d")]}, "no_answer", True),
])
def test_what_says_nothing(row, reason, fault):
    drop, _ = read(row)
    assert (drop.reason, drop.fault, drop.origin) == (reason, fault, ("p.json", 4))


def test_dropped_ties_are_counted_and_given(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = [PAIRS["texts"], {**PAIRS["texts"], "rejected": "5"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reading = read_records([str(path)])
    assert len(list(reading)) == 1 and reading.notes == {"same_answers": 1}
    reading = read_records([str(path)], bad="give")
    record, bad = reading
    assert (bad.reason, bad.number, json.loads(bad.raw)) == ("same_answers", 2, rows[1])
    assert reading.notes == {"same_answers": 1}


@pytest.mark.parametrize("row, message", [
    ({"input": "q", "output_1": "a", "output_2": "b", "label": 3}, "label=3: is none of 1, 2, model_a, model_b, tie"),
    ({"input": "q", "output_1": "a", "output_2": "b", "label": True}, "label=True: is none of"),
    ({"prompt": "q", "chosen": 3, "rejected": "b"}, "'chosen' must be text, a message or a list of messages, got 3"),
    ({"prompt": "q", "chosen": [{"role": "x", "content": "a"}], "rejected": "b"}, "'chosen'.*unknown role"),
    ({"prompt": "q", "answers": ["a", "b"], "ranks": [1]}, "'ranks' must hold one number for each of the 2"),
    ({"prompt": "q", "answers": [{"answer": "a", "rank": "first"}]}, "'rank' must be a number"),
    ({"prompt": "q", "answers": [{"answer": "a", "rank": 10**400}]}, "'rank' must be a number"),
    ({"messages": [{"role": "system", "content": "s"}, user("q")], "system": "t", "chosen": "a", "rejected": "b"},
     "two system prompts"),
])
def test_broken_rows(row, message):
    with pytest.raises(UserError, match=message):
        read(row)


def test_labels_of_answers():
    for label, wanted in ((True, True), (False, False), ("false", False)):
        record, _ = read({"messages": [user("q"), said("a")], "label": label, "id": 7})
        assert record.label is wanted and len(record.messages) == 2 and record.meta == {"id": 7}
        record, _ = read({"prompt": "q", "completion": "a", "label": label})
        assert record.text == (("q", 0.0), ("a", 1.0)) and record.label is wanted
        record, _ = read({"prompt": [user("q")], "completion": [said("a")], "label": label})
        assert record.messages == (user("q"), said("a")) and record.label is wanted
    assert read({"messages": [user("q"), said("a")], "label": True})[0].id != read(
        {"messages": [user("q"), said("a")], "label": False})[0].id


@pytest.mark.parametrize("row", [
    {"prompt": "q", "answers": [{"answer": "a", "rank": 3}, {"answer": "b", "rank": 1}, {"answer": "c", "rank": 3}]},
    {"prompt": "q", "responses": ["a", "b", "c"], "ranks": [1, 0, 1]},
])
def test_rankings(row):
    record, _ = read(row)
    assert [(c.messages, c.rank) for c in record.candidates] == [((said("a"),), 1), ((said("b"),), 0),
                                                                ((said("c"),), 1)]


def test_scored_answers():
    record, _ = read({"instruction": "q", "completions": [{"response": "a", "overall_score": 4, "model": "m"},
                                                          {"response": "b", "overall_score": 2.5, "model": "n"}]})
    assert [(c.score, c.rank, c.id) for c in record.candidates] == [(4.0, None, "m"), (2.5, None, "n")]


def test_hh(shared):
    reading = read_records([str(shared / FOLDER / HH)])
    records = list(reading)
    assert len(records) == 2312 and reading.notes == {"differing_prefixes": 5, "empty_answers": 4, "out_of_turn": 9}
    rows = [json.loads(line) for line in gzip.open(shared / FOLDER / HH)]
    assert sum(len(r.chosen) == len(r.rejected) == 1 for r in records) == 2307
    for row, record in zip(rows, records, strict=True):  # the texts are those of the file, but for white space
        for key, answer in (("chosen", record.chosen), ("rejected", record.rejected)):
            whole = "".join(f"\n\n{'Human' if m['role'] == 'user' else 'Assistant'}: {m['content']}"
                            for m in (*record.messages, *answer))
            assert re.sub(r"\s+", "", whole) == re.sub(r"\s+", "", row[key])


@pytest.mark.parametrize("file, count", [
    ("dpo_en_demo.json", 300), ("llmbar_natural.json", 100), ("llmbar_adv_neighbor.json", 134),
    ("llmbar_adv_gptinst.json", 92), ("llmbar_adv_gptout.json", 47), ("llmbar_adv_manual.json", 46),
    ("llmbar_processed_mt_bench.json", 200)])
def test_real_pairs(shared, file, count):
    rows, records = json.loads((shared / FOLDER / file).read_text()), list(read_records([str(shared / FOLDER / file)]))
    assert len(records) == count == len(rows)
    for row, record in zip(rows, records, strict=True):
        if "output_1" in row:
            better, worse = (row["output_1"], row["output_2"])[:: 1 if row["label"] == 1 else -1]
            assert record.messages == (user(row["input"]),)
        else:
            better, worse = row["chosen"]["value"], row["rejected"]["value"]
            assert [m["content"] for m in record.messages] == [m["value"] for m in row["conversations"]]
        assert (record.chosen, record.rejected) == ((said(better),), (said(worse),))


def test_real_labels(shared):
    records = list(read_records([str(shared / FOLDER / "kto_en_demo.json")]))
    assert Counter(record.label for record in records) == {True: 150, False: 150}


LINE = st.text(st.characters(exclude_categories=("Cs",)), max_size=20).map(str.strip).filter(
    lambda text: "Human:" not in text and "Assistant:" not in text)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), LINE), min_size=1, max_size=6))
def test_any_dialogue_is_split_as_it_was_joined(turns):
    text = "".join(f"\n\n{'Human' if role == 'user' else 'Assistant'}: {words}" for role, words in turns)
    assert [(m["role"], m["content"]) for m in split_dialogue(text)] == turns


@settings(max_examples=50, deadline=None)
@given(st.lists(LINE, min_size=1, max_size=5), LINE, LINE)
def test_pairs_hold_what_they_were_made_of(prompt, a, b):
    before = [user(text) if n % 2 == 0 else said(text) for n, text in enumerate(prompt)]
    found, _ = read({"chosen": [*before, said(a)], "rejected": [*before, said(b)]})
    if a == b:
        assert found.reason == "same_answers"
    else:
        assert isinstance(found, Record) and parts(found) == (before, [said(a)], [said(b)])
