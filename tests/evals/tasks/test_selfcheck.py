"""SelfCheckGPT: the measures by hand, the judge's forms, whether they find what is wrong, the real files."""

import json
import math

import pytest

from jitune.evals.task import Generated, Outcome, Verdict
from jitune.evals.tasks import selfcheck
from jitune.evals.tasks.selfcheck import SAMPLES, TASK, score, unigram
from jitune.types import UserError

ARTICLE = {"title": "Super_Bowl_50", "paragraphs": [{"context": "Text.", "qas": [
    {"id": "q1", "question": "How many points?", "answers": [{"text": "308"}]},
    {"id": "q2", "question": "Who?", "answers": [{"text": "Kuechly"}]}]}]}


@pytest.fixture
def document(tmp_path):
    (tmp_path / "xquad.en.json").write_text(json.dumps({"data": [ARTICLE]}))
    [found] = TASK.load([str(tmp_path / "xquad.en.json")])
    return found


def said(answer, *samples):
    return tuple(Generated(t, "stop", 4) for t in (answer, *samples))


def test_the_document(document):
    greedy, *samples = document.requests
    assert greedy.temperature == 0.0 and {s.temperature for s in samples} == {1.0}
    assert [s.sample for s in samples] == list(range(1, SAMPLES + 1))
    assert greedy.prompt[0][1].startswith("Topic: Super Bowl 50\nQuestion: How many points?")


def test_unigrams_by_hand():
    # a 2, b 1, c 1 of four words.
    assert unigram(["a b"], ["a b", "a c"]) == pytest.approx(((math.log(2) + math.log(4)) / 2, math.log(4)))
    # Two sentences: the mean of their means and of their highest.
    assert unigram(["a.", "b."], ["a. b.", "a c"]) == pytest.approx(((math.log(2) + math.log(4)) / 2,) * 2)


def test_values_by_hand(document):
    scores = score(document, said("It was 308.", "It was 308!", "308 or so", "  "), ()).scores
    assert scores["overlap"] == pytest.approx((1 + 1 / 3) / 2)  # the empty sample is not compared
    assert scores["right"] == 1.0 and "contradiction" not in scores
    # Counts: it 2, was 2, 308 3, or 1, so 1.
    assert scores["unigram_max"] == pytest.approx(math.log(9 / 2))
    assert scores["unigram_mean"] == pytest.approx((2 * math.log(9 / 2) + math.log(9 / 3)) / 3)
    assert score(document, said("It was 1308.", "x"), ()).scores["right"] == 0.0


def test_samples_that_agree_are_more_consistent(document):
    same = score(document, said("It was 308.", *["It was 308."] * 5), ()).scores
    other = score(document, said("It was 308.", "Maybe 12", "I think 40", "One", "Nobody knows", "It is 7"), ()).scores
    assert same["overlap"] == 1.0 > other["overlap"]
    assert same["unigram_mean"] < other["unigram_mean"] and same["unigram_max"] < other["unigram_max"]


def test_the_judge_fills_in_a_form_a_sample(document):
    responses = said("It was 308. They won!", "They lost.", "", "308")
    questions = selfcheck.ask(document, responses)
    assert len(questions) == 2 and "1. It was 308.\n2. They won!" in questions[0].messages[1][1]
    assert "They lost." in questions[0].messages[1][1] and "[[sentence 2: n]]" in questions[0].messages[0][1]
    forms = ("[[sentence 1: 1]] [[sentence 2: 2]]", "[[sentence 1: 0]]\n[[sentence 2: 1]]")
    scores = score(document, responses, tuple(map(Verdict, forms))).scores
    assert scores["contradiction"] == scores["auc_contradiction"] == pytest.approx((0.5 + 1 + 0 + 0.5) / 4)
    broken = score(document, responses, (Verdict(forms[0]), Verdict("[[sentence 1: 0]]")))
    assert broken.scores["contradiction"] is None and broken.failure == "judge" and broken.scores["overlap"] > 0


def test_nothing_to_compare_is_unscored(document):
    for responses in (said("", "a"), said("a", "", "...")):
        outcome = score(document, responses, ())
        assert set(outcome.scores.values()) == {None} and outcome.failure == "extraction"
    assert selfcheck.ask(document, said("...", "a")) == ()


def test_finding_what_is_wrong(document):
    values = ((1.0, 0.1), (1.0, 0.5), (0.0, 0.5), (0.0, 2.0))
    outcomes = [Outcome({"right": r, "auc_unigram_max": v}) for r, v in values]
    outcomes.append(Outcome({"right": None, "auc_unigram_max": None}, failure="extraction"))
    metric = next(m for m in TASK.metrics if m.name == "auc_unigram_max")
    assert metric.corpus([document] * 5, outcomes) == pytest.approx(3.5 / 4)
    assert metric.corpus([document] * 2, outcomes[:2]) is None


def test_a_missing_field_is_refused(tmp_path):
    (tmp_path / "xquad.en.json").write_text(json.dumps({"data": [{"title": "x", "paragraphs": [{"context": "c"}]}]}))
    with pytest.raises(UserError, match=r"xquad\.en\.json:1: paragraph 1: has no field 'qas'"):
        TASK.load([str(tmp_path / "xquad.en.json")])


def test_the_real_files(shared):
    documents = TASK.load([str(shared / f"data/eval_multilingual/xquad.{w}.json") for w in ("en", "de", "zh")])
    assert len(documents) == 720 and len({d.cluster for d in documents}) == 240
    for d in documents:  # a reference said again and again is right in every script
        scores = score(d, said(*[d.target] * (1 + SAMPLES)), ()).scores
        assert scores["right"] == scores["overlap"] == 1.0
