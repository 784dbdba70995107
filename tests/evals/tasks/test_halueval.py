"""HaluEval: reading yes and no, accuracy by item and pair, the real files, what must be refused."""

import json
import math

import pytest

from jitune.evals.task import Generate, Generated, LogLikelihood
from jitune.evals.tasks import halueval
from jitune.evals.tasks.halueval import TASK, said, score
from jitune.types import UserError

QA = {"knowledge": "Delhi is big.", "question": "What is big?", "right_answer": "Delhi", "hallucinated_answer": "Rome"}
GENERAL = {"ID": "7", "user_query": "Name a prime.", "chatgpt_response": "8", "hallucination": "yes"}


def write(path, *given):
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return [str(path)]


def outcome(document, text, yes=-1.0, no=-2.0):
    words = tuple(LogLikelihood(x, False, 1) for x in (yes, no))
    return score(document, (Generated(text, "stop", 1), *words), ())


@pytest.mark.parametrize("text, answer", [
    ("Yes", "yes"), ("No.", "no"), ("**NO**, it is supported", "no"), ("Yes and no.", None), ("I know nothing", None),
    ("", None), ("Not at all", None), ("yes, yes", "yes"),
])
def test_yes_and_no(text, answer):
    assert said(text) == answer


def test_items_and_pairs(tmp_path):
    other = {**QA, "question": "What is small?", "right_answer": "Bonn"}
    documents = TASK.load(write(tmp_path / "x.jsonl", QA, other, GENERAL))
    assert [d.target for d in documents] == ["no", "yes", "no", "yes", "yes"]
    assert isinstance(documents[0].requests[0], Generate)
    assert "Knowledge: Delhi is big." in documents[0].requests[0].prompt[0][1]
    assert documents[0].cluster == documents[1].cluster != documents[2].cluster
    found = [outcome(d, t) for d, t in zip(documents, ["No", "Yes", "Yes", "Yes", "Maybe"], strict=True)]
    assert [o.scores["accuracy"] for o in found] == [1.0, 1.0, 0.0, 1.0, None]
    assert found[-1].failure == "extraction" and found[-1].answer is None
    assert halueval.balanced(documents, found) == pytest.approx((1 / 2 + 2 / 2) / 2)
    assert halueval.pairs(documents, found) == 1 / 2
    # In a resample the first pair may stand twice.
    places = [0, 1, 0, 1, 2, 3]
    assert halueval.pairs([documents[p] for p in places], [found[p] for p in places]) == pytest.approx(2 / 3)
    unread = [outcome(documents[0], "Maybe"), *found[1:]]
    assert halueval.pairs(documents, unread) == 0.0  # of one pair that was read


def test_likelihoods(tmp_path):
    documents = TASK.load(write(tmp_path / "x.jsonl", QA))
    right, false = outcome(documents[0], "", -3.0, -2.0), outcome(documents[1], "", -1.0, -1.0)
    assert right.scores["accuracy_ll"] == 1.0 and false.scores["accuracy_ll"] == 0.5
    assert halueval.auc(documents, [right, false]) == 1.0
    with pytest.raises(UserError, match="log-likelihoods of Yes and No are nan"):
        outcome(documents[0], "No", math.nan)


def test_the_same_pair_is_taken_once(tmp_path):
    assert len(TASK.load(write(tmp_path / "x.jsonl", QA, QA, {**QA, "hallucinated_answer": "Oslo"}))) == 4


@pytest.mark.parametrize("row, message", [
    ({**QA, "right_answer": None}, r"x\.jsonl:1: has no field 'right_answer'"),
    ({**GENERAL, "hallucination": "perhaps"}, r"x\.jsonl:1: hallucination is 'perhaps'; yes or no"),
    ({**GENERAL, "user_query": ""}, "user_query is empty"),
])
def test_broken_rows_are_refused(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        TASK.load(write(tmp_path / "x.jsonl", row))


def test_the_real_files(shared):
    folder = shared / "data/eval_faithfulness"
    documents = TASK.load([str(folder / f"halueval_{n}.jsonl") for n in ("qa_one_turn", "qa_multi_turn", "general")])
    # 13 of the 500 questions have the same false answer in both files.
    assert len(documents) == 2 * (1000 - 13) + 4507 and len({d.id for d in documents}) == len(documents)
    assert len({d.cluster for d in documents if d.tags["part"] == "qa"}) == 500
    general = [d for d in documents if d.tags["part"] == "general"]
    assert sum(d.target == "yes" for d in general) == 815
    always = [outcome(d, "No") for d in documents]
    assert halueval.balanced(documents, always) == 0.5 and halueval.pairs(documents, always) == 0.0
    accuracy = sum(outcome(d, "No").scores["accuracy"] for d in general) / len(general)
    assert accuracy == pytest.approx(3692 / 4507)
