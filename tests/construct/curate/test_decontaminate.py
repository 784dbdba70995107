"""Decontamination: published figures on real data, planted passages in any script, and what files may look like."""

import csv
import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.curate import grams
from jitune.construct.curate.decontaminate import RULES, build, contamination, read_items, task_items, texts_of
from jitune.construct.curate.grams import Item, build_index, find, merged
from jitune.construct.curate.stage import Keep
from jitune.construct.curate.words import tokens
from jitune.data.record import Record
from jitune.types import UserError

QUESTION = "Natalia sold clips to 48 of her friends in April, and then half as many clips in May. How many in all?"


def record(*said, id="r", **fields):
    return Record(id, tuple({"role": "user", "content": text} for text in said), **fields)


def items(*texts):
    return [Item(f"t:{i}", text) for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def gsm8k(shared):
    def rows(name):
        return [json.loads(line) for line in open(shared / f"data/eval_utility/gsm8k_{name}.jsonl")]

    train = [record(row["question"], id=str(i)) for i, row in enumerate(rows("train"))]
    return read_items([str(shared / "data/eval_utility/gsm8k_test.jsonl")]), train


@pytest.mark.parametrize("mode", ["script", "plain"])
def test_gsm8k_test_against_train(gsm8k, mode):
    """Question against question: 2 of 1,319 items by Tulu 3's rule, 80 share an 8-gram with some question."""
    test, train = gsm8k
    assert len(test) == 1319 and len(train) == 7473
    tulu = contamination(test, train, rule="tulu", tokens=mode)
    assert [(c.item.rpartition(":")[2], c.coverage) for c in tulu] == [("603", 0.76), ("633", 0.625)]
    assert len(contamination(test, train, rule="any8", tokens=mode)) == 80
    # What is reported is in both texts, as it stands there.
    texts = {r.id: texts_of(r, "user")[0] for r in train}
    questions = dict(test)
    for found in tulu:
        assert found.passages
        for passage in found.passages:
            assert passage in texts[found.record]
            assert " ".join(tokens(passage)) in " ".join(tokens(questions[found.item]))


LANGUAGES = ("bn", "de", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("rule", RULES)
def test_a_translation_is_found(shared, language, rule):
    """Every 25th item of MGSM, planted in a prompt in English; at most one other shares as much as an 8-gram."""
    test = read_items([str(shared / f"data/eval_multilingual/mgsm/mgsm_{language}.tsv")])
    assert len(test) == 250
    train = [record(f"Please solve this problem.\n\n{item.text}\n\nGive the number only.", id=item.name)
             for item in test[::25]]  # fmt: skip
    found = contamination(test, train, rule=rule)
    assert [(c.item, c.record) for c in found if c.coverage == 1] == [(item.name,) * 2 for item in test[::25]]
    assert len(found) <= (11 if rule == "any8" else 10)


@pytest.mark.parametrize("language", ("en", *LANGUAGES))
def test_no_script_is_found_by_chance(shared, language):
    """Half of MGSM's problems against the other half: what they share is as rare in every language as in English."""
    test = read_items([str(shared / f"data/eval_multilingual/mgsm/mgsm_{language}.tsv")])
    train = [record(item.text) for item in test[125:]]
    assert len(contamination(test[:125], train, rule="any8")) <= 2
    assert contamination(test[:125], train, rule="tulu") == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=8, max_size=30), st.lists(st.integers(0, 3), max_size=20), st.data())
def test_every_planted_gram_is_found(item, around, data):
    """By a slow twin: all pairs of windows."""
    start = data.draw(st.integers(0, len(item) - 8))
    at = data.draw(st.integers(0, len(around)))
    letters = [f"w{n}" for n in item]
    training = [f"w{n}" for n in [*around[:at], *item[start : start + 8], *around[at:]]]
    found = find(build_index(items(" ".join(letters)), 8), [" ".join(training)])
    assert set(range(start, start + 8)) <= found[0].covered and (0, at, at + 8) in found[0].passages
    windows = {tuple(training[i : i + 8]) for i in range(len(training) - 7)}
    covered = {k for i in range(len(letters) - 7) if tuple(letters[i : i + 8]) in windows for k in range(i, i + 8)}
    assert found[0].covered == covered


def test_equal_hashes_are_no_match(monkeypatch):
    monkeypatch.setattr(grams, "hash_tokens", lambda own: __import__("numpy").zeros(len(own), "uint64"))
    index = build_index(items("a b c d e f g h"), 8)
    assert find(index, ["i j k l m n o p"]) == {}
    assert find(index, ["a b c d e f g h"])[0].covered == set(range(8))


def test_one_record_must_cover_half_by_itself():
    words = [f"w{i}" for i in range(32)]
    halves = [record(" ".join(words[i : i + 16]), id=f"{i}") for i in (0, 16)]
    test = items(" ".join(words))
    assert contamination(test, halves, rule="tulu") == []
    more = record(" ".join(words[:17]), id="more")
    assert [(c.record, c.coverage) for c in contamination(test, [*halves, more])] == [("more", 17 / 32)]
    assert contamination(test, [record(" ".join(words[:8]), " ".join(words[12:20]), id="both")])  == []
    two = record(" ".join(words[:8]), " ".join(words[12:21]), id="both")
    (found,) = contamination(test, [two])
    assert found.passages == (" ".join(words[:8]), " ".join(words[12:21])) and found.coverage == 17 / 32


def test_grams_do_not_go_from_one_turn_to_the_next():
    test = items("a b c d e f g h")
    assert contamination(test, [record("a b c d", "e f g h")], rule="any8") == []
    assert len(contamination(test, [record("a b c d e f g h")], rule="any8")) == 1


def test_whose_turns():
    said = ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": QUESTION})
    for turns, count in (("user", 0), ("all", 1)):
        assert len(contamination(items(QUESTION), [Record("r", said)], turns=turns)) == count
    assert len(contamination(items(QUESTION), [Record("r", text=((f"1. {QUESTION} 72", 1.0),))])) == 1


def test_short_items():
    test = items("What is the capital of France?", "Who are you?", "法国的首都是哪里", "?!")
    whole = contamination(test, [record(item.text) for item in test])
    assert [c.item for c in whole] == ["t:0", "t:1", "t:2"]
    within = contamination(test, [record("Tell me: what is the capital of France? And who are you?"),
                                  record("请问，法国的首都是哪里？谢谢")])
    assert [c.item for c in within] == ["t:0", "t:2"]
    assert contamination(test, [record("What is the capital of Spain?")]) == []


def test_a_rejection_shows_what_it_found(tmp_path):
    file = tmp_path / "test.jsonl"
    file.write_text(json.dumps({"question": QUESTION}) + "\n" + json.dumps({"question": "Another one, not there"}))
    judge = build(against=str(file)).judge
    clean = record("What did Natalia sell in April?")
    assert judge(clean) == Keep(clean)
    reject = judge(record("Ｎatalia sold CLIPS to 48 of her friends in April, and then half as many clips in May."))
    assert reject.reason == "contaminated"
    assert reject.detail == f"82 % of {file}:1 in 8-grams"
    assert reject.spans == (("Ｎatalia sold CLIPS to 48 of her friends in April, and then half as many clips in May",
                             f"{file}:1"),)


def test_files_of_all_kinds(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([{"instruction": "Add.", "input": "2 and 3", "output": "5"}]))
    with open(tmp_path / "b.csv", "w", newline="") as file:
        csv.writer(file).writerows([("Type", "Question", "Best Answer"), ("x", "Is it, then?", "No")])
    (tmp_path / "c_bare.tsv").write_text("A question of many words and no header above it\t18\nThe second\t5\n")
    with gzip.open(tmp_path / "d.jsonl.gz", "wt") as file:
        file.write(json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "x"}]}))
    found = read_items([str(tmp_path / "[abcd]*")])
    assert [(i.name.removeprefix(f"{tmp_path}/"), i.text) for i in found] == [
        ("a.json:1", "Add.\n2 and 3"), ("b.csv:1", "Is it, then?"),
        ("c_bare.tsv:1", "A question of many words and no header above it"), ("c_bare.tsv:2", "The second"),
        ("d.jsonl.gz:1", "Hi")]  # fmt: skip
    assert [i.text for i in read_items([str(tmp_path / "b.csv")], columns="Best Answer,Type")] == ["No\nx"]


def test_items_of_tasks(shared):
    found = task_items(["gsm8k", "mgsm", "truthfulqa_gen"], [str(shared / "data")])
    names = {i.name.partition(":")[0] for i in found}
    assert names == {"gsm8k", "mgsm", "truthfulqa_gen"}
    assert sum(i.name.startswith("mgsm:th-") for i in found) == 250


@pytest.mark.parametrize("options, message", [
    ({}, "give against = evaluation files, or tasks"),
    ({"against": "{}/none.jsonl"}, "none.jsonl: no such file"),
    ({"against": "{}/none*.jsonl"}, "against: .*none.*jsonl: no such file"),
    ({"against": "{}/t.jsonl", "columns": "question"}, "t.jsonl:1: has no column 'question'; it has letter, n"),
    ({"against": "{}/t.jsonl"}, "t.jsonl:1: which column holds the question. give columns, of letter, n"),
    ({"against": "{}/t.jsonl", "columns": "letter", "rule": "tulu3"}, "rule = 'tulu3' is not known; there are tulu"),
    ({"tasks": "gsm8k", "data": "{}"}, "tasks: gsm8k: no .*gsm8k.* in"),
])  # fmt: skip
def test_what_cannot_be_used(tmp_path, options, message):
    (tmp_path / "t.jsonl").write_text('{"letter": "a", "n": 1}\n')
    with pytest.raises(UserError, match=message):
        build(**{key: value.format(tmp_path) for key, value in options.items()})


def test_merged():
    assert merged({(1, 0, 8), (0, 3, 11), (0, 2, 10), (0, 11, 12), (0, 20, 28)}) == [
        (0, 2, 12), (0, 20, 28), (1, 0, 8)]  # fmt: skip
