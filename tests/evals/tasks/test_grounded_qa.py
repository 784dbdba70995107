"""Answers from a text: values by hand, abstaining in three languages, texts that do not hold the answer."""

import json

import pytest

from jitune.evals.task import Generated
from jitune.evals.tasks import grounded_qa
from jitune.evals.tasks.grounded_qa import TASK, abstains, first_line, holds, score
from jitune.types import UserError


def article(title, context, question, answer, number):
    qas = [{"id": number, "question": question, "answers": [{"text": answer, "answer_start": 0}]}]
    return {"title": title, "paragraphs": [{"context": context, "qas": qas}]}


PANTHERS = article("Super_Bowl_50", "The Panthers gave up 308 points.", "How many points?", "308 points", "q1")
WARSAW = article("Warsaw", "Warsaw lies on the Vistula.", "Where does Warsaw lie?", "the Vistula", "q2")


def write(path, *articles):
    path.write_text(json.dumps({"data": list(articles), "version": "1.1"}))
    return [str(path)]


@pytest.fixture
def documents(tmp_path):
    return TASK.load(write(tmp_path / "xquad.en.json", PANTHERS, WARSAW))


def scores(document, text):
    return score(document, (Generated(text, "stop", 3),), ()).scores


def test_every_question_is_asked_of_two_texts(documents):
    assert [d.id for d in documents] == [f"en/{q}/{k}" for q in ("q1", "q2") for k in ("answerable", "unanswerable")]
    assert documents[0].row["context"] == documents[3].row["context"] == PANTHERS["paragraphs"][0]["context"]
    assert documents[0].cluster == documents[1].cluster == "Super_Bowl_50/0"
    assert documents[0].target == "308 points" and documents[1].target == "unanswerable"
    assert "Question: How many points?" in documents[1].requests[0].prompt[0][1]


def test_values_by_hand(documents):
    found = scores(documents[0], "Answer: The 308\nbecause")  # one word of one and of two, articles aside
    assert found["f1"] == found["answerable_f1"] == pytest.approx(2 / 3) and found["exact"] == 0.0
    assert found["grounded"] == 1.0 and found["abstained_wrong"] == 0.0 and "abstained_right" not in found
    assert scores(documents[0], "308 goals")["grounded"] == 1 / 2
    assert scores(documents[0], "308 points.")["exact"] == 1.0


def test_abstaining_is_right_where_the_text_has_no_answer(documents):
    assert scores(documents[1], "Unanswerable.") == {"f1": 1.0, "exact": 1.0, "abstained_right": 1.0}
    assert scores(documents[1], "308 points") == {"f1": 0.0, "exact": 0.0, "abstained_right": 0.0, "grounded": 0.0}
    assert scores(documents[0], "The text does not mention the 308 points.") == {
        "f1": 0.0, "exact": 0.0, "answerable_f1": 0.0, "answerable_exact": 0.0, "abstained_wrong": 1.0}


def test_nothing_said_is_unscored(documents):
    outcome = score(documents[0], (Generated(" \n...", "stop", 3),), ())
    assert set(outcome.scores.values()) == {None} and outcome.failure == "extraction"
    assert set(scores(documents[1], "")) == {"f1", "exact", "abstained_right"}


def test_a_reference_may_be_the_words_of_an_abstention(tmp_path):
    none = article("X", "Frauen: keine Angaben.", "Wie viele?", "keine Angaben", "q1")
    first = TASK.load(write(tmp_path / "xquad.de.json", none, WARSAW))[0]
    assert scores(first, "Keine Angaben.")["exact"] == 1.0 and scores(first, "Keine Antwort.")["abstained_wrong"] == 1.0


@pytest.mark.parametrize("language, text", [
    ("en", "It's not specified in the passage"), ("en", "I don’t know."), ("en", "This cannot be determined."),
    ("de", "Das steht nicht im Text."), ("de", "Weiß ich nicht"), ("de", "Der Text enthält die Antwort nicht."),
    ("de", "Im Text nicht vorhanden"), ("de", "unanswerable"), ("zh", "文中没有提到这一点"), ("zh", "无法回答。"),
    ("zh", "無法確定"),
])
def test_abstentions(language, text):
    assert abstains(text, language)


@pytest.mark.parametrize("language, text", [
    ("en", "308"), ("en", "Not Kawann Short but Allen"), ("de", "nicht die Panthers"), ("zh", "四次"),
    ("en", "无法回答"), ("en", "Tomb of the Unknown Soldier"),
])
def test_answers_are_no_abstentions(language, text):
    assert not abstains(text, language)


def test_the_first_line_is_read():
    assert first_line("\n**Answer:** 308\nBecause") == first_line("Answer: 308") == "308"
    assert first_line("Antwort:\n-5") == "-5"
    assert first_line("答案：四次。") == "四次。" and first_line("...\n\n") == ""


def test_other_texts_do_not_hold_the_answer(tmp_path):
    echo = article("Echo", "It was 308 points, too.", "What?", "too", "q3")
    documents = TASK.load(write(tmp_path / "xquad.en.json", PANTHERS, echo, WARSAW))
    assert documents[1].row["context"] == WARSAW["paragraphs"][0]["context"]
    with pytest.raises(UserError, match="question q1 in 'en': the files hold no text of another article"):
        TASK.load(write(tmp_path / "xquad.en.json", PANTHERS, echo))
    assert holds("in 1308 AD", "308") and holds("a the-Vistula", "The Vistula") and not holds("Vistula", "the Vistula")


@pytest.mark.parametrize("row, message", [
    ({"title": "X"}, r"xquad\.en\.json:1: has no field 'paragraphs'"),
    ({"paragraphs": [{"context": "c", "qas": [{"id": 1, "question": "q"}]}]}, "1: paragraph 1: has no field 'answers'"),
    ({"paragraphs": [{"context": "c", "qas": []}]}, "paragraph 1: qas is empty"),
])
def test_broken_files_are_refused(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        TASK.load(write(tmp_path / "xquad.en.json", row))


def test_the_real_files(shared):
    documents = TASK.load([str(shared / f"data/eval_multilingual/xquad.{w}.json") for w in ("en", "de", "zh")])
    assert len(documents) == 2 * 3 * 1190 and len({d.cluster for d in documents}) == 240
    golds = {d.id: d.row["answers"] for d in documents if d.row["answers"]}
    for d in documents:
        gold = golds[f"{d.id.rpartition('/')[0]}/answerable"]
        assert all(a in d.row["context"] for a in gold) if d.row["answers"] else not any(
            holds(d.row["context"], a) for a in gold)
        perfect = scores(d, d.target)
        assert perfect["f1"] == perfect["exact"] == 1.0
    used = {d.row["context"] for d in documents if not d.row["answers"]}
    assert len(used) > 600  # of 720 texts: the other texts are spread over all articles
    assert grounded_qa.TASK.files == ("xquad.??.json",)
