"""What a model is asked about its own answers, and how its replies are read."""

import json

import pytest

from jitune.construct.improve import constitution, prompts
from jitune.construct.improve.constitution import PRINCIPLES, Principle
from jitune.construct.improve.select import Sample
from jitune.data.record import Record
from jitune.types import UserError

ASKED = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is {2+3}?"})
RECORD = Record("r", (*ASKED, {"role": "assistant", "content": "It is 5."}))


def test_the_hint_is_in_the_prompt_and_the_old_answer_is_not():
    system, user = prompts.hint(RECORD, "5")
    assert system == ("system", "Be brief.") and user[0] == "user"
    assert user[1].startswith("What is {2+3}?") and "the right answer is 5." in user[1] and "It is" not in user[1]
    worked = Record("w", (ASKED[1], {"role": "assistant", "content": "2+3=5\n#### 5"}))
    assert "the right answer is 5." in prompts.hint(worked)[0][1] and "2+3=5" not in prompts.hint(worked)[0][1]
    assert "the right answer is 6." in prompts.hint(Record("m", ASKED, meta={"answer": 6}))[1][1]
    with pytest.raises(UserError, match="record n: has no right answer"):
        prompts.hint(Record("n", ASKED))
    with pytest.raises(UserError, match="record e: has no question"):
        prompts.hint(Record("e"), "5")


def test_the_judge_sees_the_request_and_the_reply_as_they_are():
    [(role, text)] = prompts.judge(RECORD, " {reply} and {most} ")
    assert role == "user" and "user: What is {2+3}?" in text and "\n{reply} and {most}\n" in text
    assert text.endswith("Score: <points>") and "from 0 to 5" in text and text.count("point:") == 5


@pytest.mark.parametrize("text, points", [
    ("Fine.\nScore: 4", 4.0), ("score 3.5", 3.5), ("**Score:** 2/5", 2.0), ("Score: <1>", 1.0),
    ("Score: 2\nScore: 0", 0.0), ("Score：5", 5.0),
    ("Score: 6", None), ("Score: -1", None), ("Score: 4/10", None), ("Good.", None), ("", None),
    ("Score: high", None), ("4", None), ("underscore: 3", None),
])  # fmt: skip
def test_points_are_read_or_none(text, points):
    assert prompts.read_points(text) == points


def test_points_are_averaged_over_the_replies_that_give_some():
    assert prompts.mean_points(["Score: 4", "Score: 5", "?"]) == (4.5, "2 of 3 replies gave points")
    assert prompts.mean_points(["?"]) == (None, "0 of 1 replies gave points")
    assert prompts.mean_points([]) == (None, "0 of 0 replies gave points")


def test_critique_and_revision_ask_by_one_principle():
    principle = Principle("tone", "Name what is rude.", "Write it politely.")
    [(_, asked)] = constitution.critique(RECORD, "Go {away}.", principle)
    assert "What is {2+3}?" in asked and "Go {away}." in asked and "Name what is rude." in asked
    [(_, asked)] = constitution.revision(RECORD, "Go {away}.", "It is {answer} rude.", principle)
    assert "It is {answer} rude." in asked and "Write it politely." in asked and "Name what is rude." not in asked


@pytest.mark.parametrize("text, said", [
    ("It is rude.", "It is rude."), ("Critique: It is rude.", "It is rude."), ("**Critique:** rude", "rude"),
    ("No problem.", None), ("**No problems**", None), (" ", None),
    ("No problem but one: it lies.", "No problem but one: it lies."),
])  # fmt: skip
def test_critiques_are_read(text, said):
    assert constitution.read_critique(text) == said


@pytest.mark.parametrize("text, said", [
    ("Revision: It is 5.", "It is 5."), ("Here you are.\n**Revision:** It\nis 5.", "It\nis 5."),
    ("It is 5.", "It is 5."), ("Revision:", None), ("", None), ("<answer>\nIt is 5.\n</answer>", "It is 5."),
])  # fmt: skip
def test_revisions_are_read(text, said):
    assert constitution.read_revision(text) == said


def test_a_revision_is_kept_with_the_problem_or_counted():
    sample = Sample(RECORD, "It's 5, dummy.")
    chosen = constitution.revised(sample, "Revision: It is 5, dear.", principles=PRINCIPLES[:2])
    [kept] = chosen.kept
    assert kept.messages == (*ASKED, {"role": "assistant", "content": "It is 5, dear."})
    assert kept.provenance.steps == ("constitutional", "revised:harm", "revised:honesty")
    assert kept.provenance.parents == ("r",) and kept.provenance.method == "self_improvement"
    for reply, finish, reason in (("It's  5, dummy.", "stop", "unchanged"), ("Revision:", "stop", "empty"),
                                  ("It is", "length", "cut_by_length")):  # fmt: skip
        chosen = constitution.revised(sample, reply, finish_reason=finish)
        assert chosen.counts == {"kept": 0, reason: 1} and chosen.rejected[0].text == reply


def test_principles_are_drawn_by_seed_and_read_from_a_file(tmp_path):
    drawn = constitution.draw(PRINCIPLES, 3, seed="0:r")
    assert drawn == constitution.draw(PRINCIPLES, 3, seed="0:r") and len(set(drawn)) == 3
    assert len({tuple(constitution.draw(PRINCIPLES, 3, seed=i)) for i in range(9)}) > 1
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([PRINCIPLES[0]._asdict(), "Be kind."]))
    first, second = constitution.read_principles(path)
    assert first == PRINCIPLES[0] and "Be kind." in second.critique and "Be kind." in second.revision
    path.write_text('"Be kind."\n"Be brief."\n')
    assert [p.name for p in constitution.read_principles(path)] == ["1", "2"]


@pytest.mark.parametrize("text, why", [
    ("[]", "has no principles"), ("", "has no principles"), ("[1]", ":1: 1 is no principle"), ("{", "neither"),
    ('[{"name": "a", "critique": "b"}]', "name, critique, revision"),
    (json.dumps([PRINCIPLES[0]._asdict()] * 2), "two principles are named 'harm'"),
])  # fmt: skip
def test_bad_principles_are_told(tmp_path, text, why):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(UserError, match="mine.json") as error:
        constitution.read_principles(path)
    assert why in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        constitution.read_principles(tmp_path / "none.json")
