"""LegalBench: both layouts, examples in front, kinds of answers, balanced accuracy over tasks."""

import pytest

from jitune.evals import rows
from jitune.evals.task import Generated
from jitune.evals.tasks import legalbench
from jitune.types import UserError


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return legalbench.load([str(folder / name) for name in files])


def value(document, text):
    return legalbench.score(document, (Generated(text, "stop", 1),), ()).scores["score"]


def test_examples_stand_in_front_and_nothing_leaks(tmp_path):
    documents = write(tmp_path, {
        "hearsay/train.tsv": "label\ttext\tslice\nYes\tHe said so.\tSAID\n",
        "hearsay/test.tsv": "label\ttext\tslice\nNo\tIt rained.\tWEATHER\nYes\tShe wrote it.\tWROTE\n",
    })
    assert [d.id for d in documents] == ["hearsay-0", "hearsay-1"]
    prompt = documents[0].requests[0].prompt[0][1]
    assert prompt == ("Is this evidence hearsay? Answer with one of: No, Yes.\n\nText: He said so.\nAnswer: Yes\n\n"
                      "Text: It rained.\nAnswer:")


def test_without_a_test_split_the_examples_are_asked(tmp_path):
    documents = write(tmp_path, {
        "ucc_v_common_law.tsv": "index\tcontract\tanswer\n0\tA bike is sold.\tUCC\n1\tA roof is mended.\tCommon Law\n"})
    assert documents[0].requests[0].prompt[0][1].count("Answer:") == 1
    assert [value(documents[1], t) for t in ("common law", "The answer is UCC.", "hm")] == [1.0, 0.0, None]


def test_no_column_of_the_real_files_gives_the_answer_away(shared):
    documents = legalbench.load(rows.find(shared / "data", legalbench.TASK.files))
    names = {line.partition(":")[0].lower() for d in documents for line in d.row["text"].split("\n")[:1]}
    assert names <= set(legalbench.SHOWN)
    kinds = {d.tags["subset"]: d.row["kind"] for d in documents}
    assert {s for s, k in kinds.items() if k != "label"} == {
        "definition_extraction", "rule_qa", "ssla_company_defendants", "sara_numeric"}
    assert len({d.cluster for d in documents if d.tags["subset"] == "CUAD_Non-Compete"}) == 281  # of 444 rows


def test_amounts_are_right_within_a_tenth(tmp_path):
    document, none = write(tmp_path, {"sara_numeric.tsv": "question\tanswer\nHow much?\t$10000\nAnd now?\t$0\n"})
    texts = ("$10,999", "The tax is 9,000.", "11001", "8999", "much")
    assert [value(document, t) for t in texts] == [1.0, 1.0, 0.0, 0.0, None]
    assert [value(none, t) for t in ("$0", "$1")] == [1.0, 0.0]


def test_letters_and_open_answers(tmp_path):
    letter, _ = write(tmp_path, {"insurance_policy_interpretation.tsv": "policy\tclaim\tanswer\np\tc\tA\np\tc\tB\n"})
    assert [value(letter, t) for t in ("A", "(A) a claim", "The answer is B", "A or B")] == [1.0, 1.0, 0.0, None]
    term, *_ = write(tmp_path, {"definition_extraction.tsv": "text\tanswer\nt\thawkers and peddlers\nu\tland\n"})
    assert value(term, "Peddlers.") == pytest.approx(2 / 4) and value(term, "hawkers and peddlers") == 1.0


def test_balanced_accuracy_is_the_mean_of_tasks(tmp_path):
    documents = write(tmp_path, {
        "overruling.tsv": "text\tanswer\na\tYes\nb\tYes\nc\tYes\nd\tNo\n", "proa.tsv": "text\tanswer\na\tYes\nb\tNo\n",
        "rule_qa.tsv": "text\tanswer\na\tIt is so.\n",
    })
    texts = ["Yes", "Yes", "No", "Yes", "Yes", "who knows", "It is so."]  # the sixth is unscored
    outcomes = [legalbench.score(d, (Generated(t, "stop", 1),), ()) for d, t in zip(documents, texts, strict=True)]
    # overruling: (2/3 + 0/1) / 2; proa: 1/1 of the one class that is left; rule_qa is not of labels
    assert legalbench.balanced_accuracy(documents, outcomes) == pytest.approx((1 / 3 + 1) / 2)
    assert legalbench.balanced_accuracy(documents[-1:], outcomes[-1:]) is None


def test_what_is_refused(tmp_path):
    for files, message in (
        ({"x.tsv": "slice\tanswer\na\tYes\n"}, "x.tsv:1: has none of the fields statute"),
        ({"x.tsv": "text\nYes\n"}, "x.tsv:1: has no field 'answer'"),
        ({"a/x.tsv": "text\tanswer\na\tYes\n", "b/x.tsv": "text\tanswer\na\tYes\n"}, "the task x is also in"),
    ):
        with pytest.raises(UserError, match=message):
            write(tmp_path, files)
