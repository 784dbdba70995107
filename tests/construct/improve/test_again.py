"""What a run that went wrong leaves behind does not stand in the way of the next one, nor is anything silent."""

import json

import pytest

from jitune.construct.improve.evaluate import gain
from jitune.construct.improve.run import improve
from jitune.data.record import changed
from jitune.generators.call import Lost
from jitune.types import UserError
from tests.construct.improve.made import Told, config, solve
from tests.construct.improve.test_judges import one
from tests.construct.improve.test_stops import tune


def test_a_round_that_curation_emptied_goes_on_when_what_was_lost_comes(toy_model, tmp_path, monkeypatch):
    monkeypatch.setattr("jitune.train.train", tune)
    options = config(toy_model, tmp_path, tmp_path / "out", method="rest_em", rounds=1, curate__stages="length",
                     curate__length__min_answer_words=3, curate__workers=0)  # fmt: skip
    bad = iter(["#### 5", *[Lost("failed", "503")] * 31])

    def answer_one(call, made):
        return next(bad) if call.temperature else solve(call, made)

    with pytest.raises(UserError, match=r"\(31 failed, 1 length: "):
        improve(options, models=Told(options, answer_one))
    out = improve(options, models=Told(options))
    assert (out / "round-1" / "kept.jsonl").stat().st_size


def test_anchors_are_those_of_a_first_round_that_scored_something(toy_model, tmp_path, monkeypatch):
    monkeypatch.setattr("jitune.train.train", tune)
    options = config(toy_model, tmp_path, tmp_path / "out", method="self_rewarding", heldout="", verifier__name="",
                     rounds=1, judging__anchors=6)  # fmt: skip

    def no_judge(call, made):
        return Lost("failed", "503") if "Score:" in call.prompt[-1][1] else one(call, made)

    with pytest.raises(UserError, match="nothing was kept"):
        improve(options, models=Told(options, no_judge))
    out = improve(options, models=Told(options, one))
    assert json.loads((out / "summary.json").read_text())["rounds"][1]["judge_drift"]["n"] == 6


def told(problem, answers):
    """Twice an answer, as a reader of `Record` would write it down: the problem with other messages."""
    return [changed(problem, messages=(problem.messages[0], {"role": "assistant", "content": text}))
            for text in answers[:2]]


def test_records_of_ones_own_are_told_apart_by_what_they_say(toy_model, tmp_path, monkeypatch):
    monkeypatch.setattr("jitune.train.train", tune)
    options = config(toy_model, tmp_path, tmp_path / "out", method=f"{__name__}:told", heldout="", verifier__name="",
                     sampling__samples=2, per_round=2)  # fmt: skip
    out = improve(options, models=Told(options, lambda call, made: f"{made} {call.seed}"))
    rows = [json.loads(line) for line in (out / "data.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and {r["provenance"]["method"] for r in rows} == {"self_improvement"}


def test_the_gain_is_problem_by_problem_where_ids_are_alike():
    """Of two files, say, whose rows are numbered."""
    before, after = ({"answers": [{"id": "1", "right": right} for right in side]}
                     for side in ((True, False, None, False), (True, True, True, None)))  # fmt: skip
    found = gain(before, after)
    assert found["n"] == 2 and found["delta"] == 0.5
