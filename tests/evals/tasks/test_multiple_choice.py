"""Multiple choice of a file: rows, ways of asking, and the numbers of lm-evaluation-harness."""

import json
import random

import pytest

from jitune.evals import catalogue
from jitune.evals.task import Generated, LogLikelihood
from jitune.evals.tasks import multiple_choice
from jitune.types import UserError

ROW = {"question": "2 + 2 = ?", "choices": ["three", "four", "äöüß"], "answer": 1}


def load(tmp_path, *found, way="text"):
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return multiple_choice.load([str(tmp_path / "x.jsonl")], way=way)


@pytest.mark.parametrize("row", [
    ROW, {**ROW, "answer": "B"}, {**ROW, "answer": "b"}, {**ROW, "answer": "(B)"}, {**ROW, "answer": "four"},
    {**ROW, "answer": "1"}, {"question": "2 + 2 = ?", "A": "three", "B": "four", "C": "äöüß", "answerKey": "B"},
    {"question": "2 + 2 = ?", "choices": {"text": ROW["choices"], "label": ["1", "2", "3"]}, "answerKey": "2"},
])
def test_all_forms_of_a_row_are_the_same_question(tmp_path, row):
    document, = load(tmp_path, row)
    assert document.row["choices"] == ROW["choices"] and document.target == 1
    assert [r.continuation for r in document.requests] == [" three", " four", " äöüß"]


def test_a_csv_file(tmp_path):
    (tmp_path / "x.csv").write_text("question,A,B,C,answer\nWhat?,x,y,,B\n")
    document, = multiple_choice.load([str(tmp_path / "x.csv")])
    assert document.row["choices"] == ["x", "y"] and document.target == 1


@pytest.mark.parametrize(("change", "message"), [
    ({"answer": 3}, "answer 3 is no index from 0 to 2"), ({"answer": "D"}, "'D' is no index from 0 to 2, letter or"),
    ({"choices": ["B", "A"], "answer": "A"}, "'A' could be two choices"), ({"answer": True}, "answer is True"),
    ({"choices": ["x"]}, "a list of 2 to 26"), ({"choices": ["x", "x"]}, "there twice"),
    ({"choices": {"text": ["x", "y"], "label": ["1"]}}, "2 choices have 1 labels"),
    ({"answer": None}, "has no field 'answer'"), ({"question": ""}, "question is empty"),
])
def test_what_is_refused(tmp_path, change, message):
    with pytest.raises(UserError, match=rf"x.jsonl:2: .*{message}"):
        load(tmp_path, ROW, {**ROW, **change})


def test_letters_and_chat(tmp_path):
    document, = load(tmp_path, {**ROW, "passage": "Sums.", "group": "sums", "language": "de"}, way="letters")
    assert document.requests[1].prompt == "Sums.\n\n2 + 2 = ?\nA. three\nB. four\nC. äöüß\nAnswer:"
    assert [r.continuation for r in document.requests] == [" A", " B", " C"]
    assert (document.cluster, document.tags["language"]) == ("sums", "de")
    likelihoods = tuple(LogLikelihood(v, False, 1) for v in (-2.0, -1.0, -3.0))
    assert multiple_choice.score(document, likelihoods, ()).scores == {"acc": 1.0}
    document, = load(tmp_path, ROW, way="chat")
    for text, reason, value in (("Hm.\nAnswer: B", "stop", 1.0), ("Answer: (C)", "stop", 0.0), ("four?", "stop", None),
                                ("Both A and B fit", "stop", None), ("B fits, because", "length", None)):
        outcome = multiple_choice.score(document, (Generated(text, reason, 1),), ())
        assert outcome.scores == {"acc": value} and bool(outcome.failure) == (value is None)


def test_the_catalogue_makes_it(tmp_path):
    (tmp_path / "mine.jsonl").write_text(json.dumps(ROW))
    task = catalogue.find_task(f"multiple_choice:{tmp_path / 'mine.jsonl'}@chat")
    assert task.name == "multiple_choice:mine.jsonl@chat" and [m.name for m in task.metrics] == ["acc"]
    assert len(task.load(task.hub)[0].requests) == 1
    with pytest.raises(UserError, match="there is no way 'cloze'"):
        multiple_choice.make("mine.jsonl@cloze")
    with pytest.raises(UserError, match="needs a file"):
        catalogue.find_task("multiple_choice")


def test_as_lm_evaluation_harness(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    tasks = pytest.importorskip("lm_eval.api.task")
    draw = random.Random(0)
    found = [{"question": f"Which one, {i}?", "choices": ["äh", "a long choice", "Grüße", "no"][: 2 + i % 3],
              "answer": i % 2} for i in range(30)]
    documents = load(tmp_path, *found)
    theirs = tasks.ConfigurableTask(config={
        "task": "mine", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "x.jsonl")}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "choices", "doc_to_target": "answer",
        "metric_list": [{"metric": m} for m in ("acc", "acc_norm", "acc_bytes")],
    })
    for document, doc in zip(documents, theirs.test_docs(), strict=True):
        asked = theirs.construct_requests(doc, theirs.doc_to_text(doc), metadata=("mine", 0, 1))
        assert [r.args for r in asked] == [(r.prompt, r.continuation) for r in document.requests]
        values = [-draw.random() * len(c) for c in document.row["choices"]]
        expected = theirs.process_results(doc, [(v, False) for v in values])
        outcome = multiple_choice.score(document, tuple(LogLikelihood(v, False, 1) for v in values), ())
        assert outcome.scores == {name: float(expected[name]) for name in outcome.scores}
