"""Open instructions: what is read, what is asked, and that a judge's failure is no grade."""

import json

import pytest

from jitune.evals.rows import find
from jitune.evals.task import Generated, Verdict
from jitune.evals.tasks.open_ended import TASK, load
from jitune.types import UserError


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_rows_of_every_kind(tmp_path):
    questions = write(tmp_path / "mt_bench_question.jsonl",
                      {"question_id": 111, "category": "math", "turns": ["2+2?", "+1?"], "reference": ["a hint", ""]},
                      {"question_id": 81, "category": "writing", "turns": ["Write.", "More."]})
    references = write(tmp_path / "mt_bench_reference_gpt4.jsonl",
                       {"question_id": 111, "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["4", "5"]}]})
    own = write(tmp_path / "open_ended_mine.jsonl", {"prompt": "Say hi.", "reference": "hi", "category": "chat"},
                {"instruction": "Add.", "input": "1 2", "output": "3", "generator": "x"})
    docs = load([questions, references, own])
    assert [d.id for d in docs] == ["mt_bench_question-111", "mt_bench_question-81", "open_ended_mine-1",
                                    "open_ended_mine-2"]
    assert [d.row for d in docs] == [
        {"question": "2+2?", "reference": "4"}, {"question": "Write.", "reference": ""},
        {"question": "Say hi.", "reference": "hi"}, {"question": "Add.\n\n1 2", "reference": ""}]
    assert docs[0].tags == {"set": "mt_bench_question", "category": "math"} and docs[0].target == "4"
    assert docs[3].tags == {"set": "open_ended_mine"} and docs[3].requests[0].prompt == (("user", "Add.\n\n1 2"),)
    # What another model answered is no part of the item.
    bare = load([write(tmp_path / "open_ended_bare.jsonl", {"instruction": "Add.", "input": "1 2"})])
    assert docs[3].hash == bare[0].hash


def test_bad_rows_say_where(tmp_path):
    for rows, says in (([{"x": 1}], "o.jsonl:1: has no field 'prompt'"), ([{"prompt": " "}], "o.jsonl:1: the instr"),
                       ([{"turns": [3]}], "o.jsonl:1: the instruction is 3"),
                       ([{"id": 1, "prompt": "a"}, {"id": 1, "prompt": "b"}], "o.jsonl:2: the id o-1 is taken"),
                       ([{"question_id": 1, "choices": []}], "o.jsonl:1: choices must be")):
        with pytest.raises(UserError, match=says):
            load([write(tmp_path / "o.jsonl", *rows)])


def test_the_answer_is_shown_with_its_reference_and_the_grade_read():
    doc = load_one()
    asked, = TASK.ask(doc, (Generated("It is 4.", "stop", 5),))
    body = asked.messages[1][1]
    assert "2+2?" in body and "It is 4." in body and "\n4\n" in body
    outcome = TASK.score(doc, (Generated("It is 4.", "stop", 5),), (Verdict("Right. [[9]]"),))
    assert outcome.scores == {"grade": 9, "length": 8, "cut_off": 0} and outcome.failure == ""
    assert outcome.details["question"] == "2+2?" and outcome.answer == "It is 4."


@pytest.mark.parametrize("verdict", [Verdict(None, "endpoint: HTTP 500"), Verdict("Good."), Verdict("[[12]]")])
def test_a_judge_that_fails_gives_no_grade(verdict):
    outcome = TASK.score(load_one(), (Generated("x", "length", 5),), (verdict,))
    assert outcome.scores == {"grade": None, "length": 1, "cut_off": 1} and outcome.failure == "judge"


def test_without_a_judge_nothing_fails():
    outcome = TASK.score(load_one(), (Generated("x", "stop", 5),), ())
    assert outcome.scores["grade"] is None and outcome.failure == "" and outcome.scores["length"] == 1


def load_one():
    from jitune.evals.task import Document, Generate, chat

    return Document("1", {"question": "2+2?", "reference": "4"}, (Generate(chat("2+2?")),), target="4")


def test_the_published_sets(shared):
    docs = load(find(shared / "data", TASK.files))
    sets = [d.tags["set"] for d in docs]
    assert {s: sets.count(s) for s in set(sets)} == {
        "mt_bench_question": 80, "vicuna_bench_question": 80, "wizardlm_testset": 218,
        "alpaca_eval_example_outputs": 805}
    assert len({d.id for d in docs}) == 1183
    with_reference = [d for d in docs if d.target]
    assert len(with_reference) == 30 and {d.tags["category"] for d in with_reference} == {"math", "reasoning", "coding"}
    # AlpacaEval holds Vicuna's questions: they are one item each, asked twice.
    clusters = [d.cluster for d in docs if d.cluster]
    questions = [d.row["question"] for d in docs]
    assert len(clusters) == len([q for q in questions if questions.count(q) > 1]) > 100
