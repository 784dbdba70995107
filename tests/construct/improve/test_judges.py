"""Self-rewarding over rounds: answers that were judged before are judged again, and a judge that drifts stops it."""

import json

import pytest

from jitune.construct.improve.run import improve
from tests.construct.improve.made import SUMS, Told, config, write
from tests.construct.improve.test_stops import tune


def one(call, made):
    """Answers a to d, which are worth 4, 3, 2, 1 points; after a round each judgement is a point lower."""
    words = call.prompt[-1][1]
    if "Score:" not in words:
        return "abcd"[call.seed % 4] * (1 + call.seed % 3)
    worth = 4 - "abcd".index(words.partition("<reply>\n")[2][0])
    return f"Score: {worth - ('round 1' in made)}"


@pytest.mark.parametrize("limit, why", [
    (0.0, "round 2: the judge's mean on anchors moved"), (-1.0, "all 2 rounds are done")])
def test_a_judge_that_drifts_is_seen_and_stops_the_rounds(toy_model, tmp_path, monkeypatch, limit, why):
    monkeypatch.setattr("jitune.train.train", tune)
    options = config(toy_model, tmp_path, tmp_path / "out", method="self_rewarding", heldout="", verifier__name="",
                     limits__judge_drift=limit, rounds=3 if limit == 0 else 2, judging__anchors=6)  # fmt: skip
    log = tmp_path / "log"
    out = improve(options, models=Told(options, one, log))
    found = json.loads((out / "summary.json").read_text())
    assert found["stopped"].startswith(why), found["stopped"]
    drifts = [r["judge_drift"] for r in found["rounds"][1:]]
    assert [d["shift"] for d in drifts] == [0, -1] and [d["n"] for d in drifts] == [6, 6]
    assert "on anchors, shift" in (out / "report.html").read_text()
    first = [json.loads(line) for line in (out / "round-1" / "kept.jsonl").read_text().splitlines()]
    assert len(first) == 8 and all(r["scores"]["chosen_score"] > r["scores"]["rejected_score"] for r in first)
    # Four answers to each of eight prompts, three judgements of each that differs, and of the anchors of round 1.
    judged = [line for line in log.read_text().splitlines() if "Score:" in line]
    assert len(set(judged)) == len(judged)


def test_another_judge_is_asked_where_one_is_named(toy_model, tmp_path, monkeypatch):
    """The judge is a recording; what is not in it is lost, so that nothing has a score."""
    from jitune.generators.cached import Cached
    from jitune.generators.call import Call
    from jitune.types import UserError
    from tests.construct.improve.made import Source

    with_answer = Cached(Source("judge", "x", lambda call, made: "Score: 3", tmp_path / "log"),
                         cache=tmp_path / "judge.jsonl")  # fmt: skip
    with_answer.answer([Call("?")])
    with_answer.close()
    write(tmp_path / "prompts.jsonl", SUMS[:2])
    options = config(toy_model, tmp_path, tmp_path / "out", method="self_rewarding", heldout="", verifier__name="",
                     judge__replay=str(tmp_path / "judge.jsonl"), judge__replay_missing="lost")  # fmt: skip
    with pytest.raises(UserError, match=r"nothing was kept of the answers to 8 prompts \(32 unscored\)"):
        improve(options, models=Told(options, one, tmp_path / "log"))
