"""PubMedQA: the published baseline, the split, and what is refused."""

import importlib.util
import json
from pathlib import Path

import pytest

from jitune.evals import rows
from jitune.evals.task import LogLikelihood
from jitune.evals.tasks import pubmedqa
from jitune.types import UserError


def favour(word):
    return tuple(LogLikelihood(-1.0 if c == word else -2.0, False, 1) for c in pubmedqa.CHOICES)


def test_the_majority_has_its_published_figures(shared):
    """Jin et al. 2019, table 5: always "yes" is 55.20 accuracy and 23.71 macro F1 on the test split."""
    documents = pubmedqa.load(rows.find(shared / "data", pubmedqa.TASK.files))
    outcomes = [pubmedqa.score(d, favour("yes"), ()) for d in documents]
    assert 100 * sum(o.scores["accuracy"] for o in outcomes) / 500 == pytest.approx(55.20)
    assert 100 * pubmedqa.macro_f1(documents, outcomes) == pytest.approx(23.71, abs=0.005)


def test_without_the_split_all_questions_are_asked(shared):
    assert len(pubmedqa.load([str(shared / "data/eval_domain/pubmedqa_ori_pqal.json")])) == 1000


def test_ties_have_no_label(shared):
    documents = pubmedqa.load(rows.find(shared / "data", pubmedqa.TASK.files))[:3]
    outcomes = [pubmedqa.score(d, (LogLikelihood(-1.0, False, 1),) * 3, ()) for d in documents]
    assert pubmedqa.macro_f1(documents, outcomes) is None
    right = [pubmedqa.score(d, favour(d.target), ()) for d in documents[:2]]
    expected = len({d.target for d in documents[:2]}) / 3  # labels that do not occur have F1 0
    assert pubmedqa.macro_f1(documents, [*right, outcomes[2]]) == pytest.approx(expected)


def test_the_prompt_is_lm_evaluation_harness_s(shared):
    lm_eval = pytest.importorskip("lm_eval")
    file = Path(lm_eval.__file__).parent / "tasks/pubmedqa/preprocess_pubmedqa.py"
    spec = importlib.util.spec_from_file_location("preprocess_pubmedqa", file)
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    for document in pubmedqa.load(rows.find(shared / "data", pubmedqa.TASK.files)):
        doc = {"QUESTION": document.row["question"], "CONTEXTS": document.row["contexts"]}
        assert document.requests[0].prompt == theirs.doc_to_text(doc)


ENTRY = {"QUESTION": "Does it?", "CONTEXTS": ["It was tried.", "It did."], "final_decision": "yes"}


def test_both_layouts_ask_the_same(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"17": ENTRY}))
    (tmp_path / "b.jsonl").write_text(json.dumps(
        {"pubid": 17, "question": "Does it?", "context": {"contexts": ENTRY["CONTEXTS"]}, "final_decision": "yes"}))
    first, second = (pubmedqa.load([str(tmp_path / name)]) for name in ("a.json", "b.jsonl"))
    assert first == second
    assert first[0].requests[0].prompt == "Abstract: It was tried.\nIt did.\nQuestion: Does it?\nAnswer:"
    assert [r.continuation for r in first[0].requests] == [" yes", " no", " maybe"]


def test_what_is_refused(tmp_path):
    for name, value, message in (
        ("a.json", {"17": {**ENTRY, "final_decision": "perhaps"}}, "a.json:17: final_decision is 'perhaps'"),
        ("a.json", {"17": {"QUESTION": "q", "final_decision": "no"}}, "a.json:17: has no field 'CONTEXTS'"),
        ("t.json", {"17": "yes"}, "the questions are missing"),
    ):
        (tmp_path / name).write_text(json.dumps(value))
        with pytest.raises(UserError, match=message):
            pubmedqa.load([str(tmp_path / name)])
    (tmp_path / "a.json").write_text(json.dumps({"17": ENTRY}))
    for split, message in (({"17": "no"}, "says 'no'; the question is 'yes'"), ({"18": "no"}, "not there")):
        (tmp_path / "t.json").write_text(json.dumps(split))
        with pytest.raises(UserError, match=message):
            pubmedqa.load([str(tmp_path / "a.json"), str(tmp_path / "t.json")])
