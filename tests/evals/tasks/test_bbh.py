"""BIG-Bench Hard: kinds of answers, and what is read from worked ones."""

import json

import pytest

from jitune.evals import rows
from jitune.evals.task import Generated
from jitune.evals.tasks import bbh


def test_kinds_of_the_real_files(shared):
    kinds = {}
    for document in bbh.load(rows.find(shared / "data", bbh.TASK.files)):
        kinds.setdefault(document.tags["subset"], (document.row["kind"], document.row["labels"]))
    assert kinds == {
        "boolean_expressions": ("label", ["False", "True"]), "causal_judgement": ("label", ["No", "Yes"]),
        "date_understanding": ("letter", []), "navigate": ("label", ["No", "Yes"]), "object_counting": ("number", []),
        "sports_understanding": ("label", ["no", "yes"]), "web_of_lies": ("label", ["No", "Yes"]),
        "word_sorting": ("words", []),
    }


DATES = {"kind": "letter", "labels": [], "input": "When?\nOptions:\n(A) 1/2\n(B) 3/4\n(C) 5/6"}


@pytest.mark.parametrize(("row", "text", "answer"), [
    (DATES, "It is 3/4. So the answer is (B).", "(B)"), (DATES, "Answer: C", "(C)"), (DATES, "(A) or (B)", None),
    (DATES, "Answer: D", None),
    ({"kind": "label", "labels": ["No", "Yes"], "input": ""}, "Yes, no, hm.\n**Answer:** No.", "No"),
    ({"kind": "number", "labels": [], "input": ""}, "3 and 4 make 7.\nAnswer: 7 fruits", "7"),
    ({"kind": "words", "labels": [], "input": ""}, "Sorted:\nant, bee,  cow", "ant bee cow"),
    ({"kind": "words", "labels": [], "input": ""}, "Answer: ant bee cow\nDone", "ant bee cow"),
    ({"kind": "text", "labels": [], "input": ""}, "So\nAnswer: ] ) }", "] ) }"),
])
def test_read_answer(row, text, answer):
    assert bbh.read_answer(text, row) == answer


def test_an_answer_cut_off_counts_only_where_it_is_marked(tmp_path):
    (tmp_path / "navigate.json").write_text(json.dumps(
        {"canary": "c", "examples": [{"input": "Back?", "target": "No"}, {"input": "Home?", "target": "Yes"}]}))
    document = bbh.load([str(tmp_path / "navigate.json")])[0]
    for text, reason, value in (("No", "stop", 1.0), ("No, wait", "length", None), ("Answer: no\nAnd", "length", 1.0)):
        assert bbh.score(document, (Generated(text, reason, 1),), ()).scores["exact_match"] == value


def test_the_subset_of_a_dataset():
    assert bbh._subset("lukaemon/bbh:navigate[test]") == "navigate" == bbh._subset("a/bbh/navigate.json")
