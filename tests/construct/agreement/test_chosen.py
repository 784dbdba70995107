"""What is said of one question or of all: where it holds, and what a queue for people must not tell."""

import json

import pytest

from jitune.cli import main
from jitune.construct.agreement.chosen import by_rule
from jitune.construct.agreement.read import telling
from jitune.data.record import Annotation, Record
from jitune.data.record_rows import to_row
from jitune.types import UserError
from tests.construct.agreement.test_study import agreement


def export():
    """Two records that two people rated, gave a tone, and corrected."""
    said = (("rating", 4, 5), ("tone", "kind", "rude"), ("correction", "Better.", "Best."))
    return [to_row(Record(name, messages=({"role": "user", "content": f"Ask {name}"},),
                          meta={"topic": "sums", "gold_label": "5"},
                          annotations=tuple(Annotation(who, question, (first, second)[at]) for question, first, second
                                            in said for at, who in enumerate(("ann", "bo"))))) for name in ("r1", "r2")]


def test_a_rule_for_all_holds_where_it_can_and_says_where_it_cannot(tmp_path, capsys):
    printed, found, page, *_ = agreement(tmp_path, capsys, "--level", "ordinal", "--accept", ">=5", a__jsonl=export())
    assert found["not_applied"] == {"--level ordinal": ["tone", "correction"], "--accept >=5": ["tone", "correction"]}
    rating, tone, _ = found["questions"]
    assert rating["accepted"]["labels"]["value"] == 0.5 and rating["level"] == "ordinal"
    assert tone["accepted"] is None and tone["level"] == "nominal"
    assert "note: --accept >=5 cannot be applied to tone, correction" in printed
    assert "--accept &gt;=5 cannot be applied to tone, correction." in page


def test_a_rule_for_one_question(tmp_path, capsys):
    words = "--accept", "rating=>=5", "--accept", "tone=kind"
    _, found, *_ = agreement(tmp_path, capsys, *words, a__jsonl=export())
    rating, tone, correction = found["questions"]
    assert (rating["accepted"]["rule"], tone["accepted"]["rule"]) == (">=5", "kind")
    assert tone["accepted"]["labels"]["value"] == 0.5 and correction["accepted"] is None and not found["not_applied"]


def test_the_name_of_a_question_ends_before_the_rule():
    rules = by_rule(["<=2", "tone=kind,fair", "How good?=>=4", "x = <3"])
    assert {name: rule.text for name, rule in rules.items()} == {
        "": "<=2", "tone": "kind,fair", "How good?": ">=4", "x": " <3"}
    with pytest.raises(UserError, match="--accept: said twice for 'all questions'"):
        by_rule([">=4", "good"])


def test_questions_can_be_chosen(tmp_path, capsys):
    _, found, _, merged, _ = agreement(tmp_path, capsys, "--questions", "rating,tone", a__jsonl=export())
    assert [q["question"] for q in found["questions"]] == ["rating", "tone"]
    assert {row["question"] for row in merged} == {"rating", "tone"}


@pytest.mark.parametrize(("words", "says"), [
    (["--accept", "tone=>=4"], "'4' is not on an ordered scale"),
    (["--accept", "shape=>=4"], "--accept: no question 'shape'; there are rating, tone, correction"),
    (["--questions", "rating,shape"], "--questions: no question 'shape'; there are rating, tone, correction"),
    (["--question", "tone"], "--question tone: names a column of a table; --questions chooses among those of records"),
    (["--questions", "tone,correction", "--accept", ">=4"], "'4' is not on an ordered scale"),
    (["--questions", "tone", "--level", "interval"], "is no number, as --level interval"),
])
def test_what_holds_nowhere_is_refused(tmp_path, capsys, words, says):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in export()))
    assert main(["data", "agreement", str(tmp_path / "a.jsonl"), *words, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err


CROWD = [{"id": i, "text": f"Text {i}", "agreement": a == b, "final_label": "unsure", "annotation_1": a,
          "annotation_2": b} for i, (a, b) in enumerate(("yn", "ny", "yy", "nn"))]


def test_a_queue_does_not_tell_what_was_said(tmp_path, capsys):
    printed, _, page, _, queue = agreement(tmp_path, capsys, "--label", "annotation_{n}", a__jsonl=CROWD)
    assert [set(row) for row in queue] == [{"id", "text", "disagreement"}] * 2 and "unsure" not in page
    assert "queue.jsonl does not show agreement, final_label" in printed
    words = "--label", "annotation_{n}", "--hide", "agreement"
    *_, queue = agreement(tmp_path, capsys, *words, a__jsonl=CROWD)
    assert [row["final_label"] for row in queue] == ["unsure"] * 2 and "agreement" not in queue[0]
    *_, queue = agreement(tmp_path, capsys, a__jsonl=export())
    assert queue[0]["meta"].keys() == {"topic", "disagreement"}
    assert main(["data", "agreement", str(tmp_path / "a.jsonl"), "--hide", "x", "--label", "correction"]) == 2


@pytest.mark.parametrize("name", ["final_label", "goldLabel", "agreement", "Majority vote", "is_adjudicated", "label"])
def test_columns_that_tell(name):
    assert telling(name)


@pytest.mark.parametrize("name", ["text", "type", "golden_retriever", "labelled_by_nobody", "finally", "prompt"])
def test_columns_that_do_not(name):
    assert not telling(name)
