"""GSM8K and MGSM: published figures from published solutions; answers cut off; prompts in the right language."""

import json

import pytest

from jitune.evals import rows
from jitune.evals.task import Generated
from jitune.evals.tasks import gsm8k, mgsm
from jitune.types import UserError

# Cobbe et al.'s models: share of problems solved, as marked by the authors.
PUBLISHED = {"6b_finetuning": 286, "6b_verification": 515, "175b_finetuning": 458, "175b_verification": 742}


def test_marked_solutions_are_marked_the_same(shared):
    """21.7, 39.0, 34.7 and 56.3 %, and in each row what the authors marked."""
    documents = gsm8k.load([str(shared / "data/eval_utility/gsm8k_test.jsonl")])
    known = {d.row["question"]: d for d in documents}
    file = shared / "data/self_improvement/gsm8k_example_model_solutions.jsonl"
    solved, differ = dict.fromkeys(PUBLISHED, 0), []
    for row, _ in rows.read([str(file)]):
        for model in PUBLISHED:
            outcome = gsm8k.score(known[row["question"]], (Generated(row[model]["solution"], "stop", 1),), ())
            solved[model] += outcome.scores["accuracy"] == 1.0
            if (outcome.scores["accuracy"] == 1.0) != row[model]["is_correct"]:
                differ.append((model, row["question"]))
    assert solved == PUBLISHED and differ == []
    assert [round(100 * n / 1319, 1) for n in solved.values()] == [21.7, 39.0, 34.7, 56.3]


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"question": "How many?", "answer": "9 + 9 = <<9+9=18>>18\n#### 18"}))
    return gsm8k.load([str(path)])[0]


def test_a_solution_that_was_cut_off_has_no_answer(document):
    for text, reason, value in (("9 + 9 is 18", "stop", 1.0), ("9 + 9 is 18", "length", None),
                                ("#### 18\nAnother one: 4", "length", 1.0), ("#### 17", "stop", 0.0)):
        assert gsm8k.score(document, (Generated(text, reason, 1),), ()).scores["accuracy"] == value


def test_an_answer_without_a_number_is_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"question": "q", "answer": "eighteen"}))
    with pytest.raises(UserError, match="x.jsonl:1: answer has no number"):
        gsm8k.load([str(tmp_path / "x.jsonl")])


def test_mgsm_asks_and_reads_in_the_language(shared):
    documents = {d.id: d for d in mgsm.load(rows.find(shared / "data", mgsm.TASK.files))}
    english, german = documents["en-0"], documents["de-0"]
    assert english.cluster == german.cluster == "0" and english.target == german.target == "18"
    assert "Schritt für Schritt" in german.requests[0].prompt[0][1]
    large = next(d for d in documents.values() if d.target == "276000" and d.tags["language"] == "de")
    for text, value in (("Antwort: 276.000 Dollar", 1.0), ("Antwort: 276,000", 1.0), ("Antwort: 276", 0.0)):
        assert gsm8k.score(large, (Generated(text, "stop", 1),), ()).scores["accuracy"] == value
    bengali = next(d for d in documents.values() if d.target == "276000" and d.tags["language"] == "bn")
    assert gsm8k.score(bengali, (Generated("উত্তর: ২,৭৬,০০০", "stop", 1),), ()).scores["accuracy"] == 1.0


def test_each_language_marks_answers_as_it_asks_for_them():
    for language, prompt in mgsm.PROMPTS.items():
        word = prompt.rpartition('"')[0].rpartition('"')[2] if '"' in prompt else prompt[prompt.index("答"):]
        marker = next(c for c in ("“", "「", "") if c == "" or c in prompt)
        word = prompt.partition(marker)[2] if marker else word
        text = f"3\n{word.partition(':')[0]}: 18\n4"
        assert gsm8k.read_answer(Generated(text, "length", 1), language=language) == 18, (language, text)


def test_mgsm_names_what_is_wrong(tmp_path):
    wrong = (("mgsm_xx.tsv", "q\t1", "must be mgsm_LANGUAGE.tsv"), ("mgsm_de.tsv", "q 1", "de.tsv:1"),
             ("mgsm_de.tsv", "q\t1\nq\tx", "de.tsv:2: is 'q\\\\tx'"), ("mgsm_de.tsv", "\n", "is empty"))
    for name, text, message in wrong:
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=message):
            mgsm.load([str(tmp_path / name)])
