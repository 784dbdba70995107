"""Toxicity: the three forms of prompts, metrics by hand, a classifier that fails."""

import json

import pytest

from jitune.evals import catalogue, rows
from jitune.evals.task import Generated, Verdict
from jitune.evals.tasks.toxicity import TASK, dialogue, load
from jitune.types import UserError


def documents(tmp_path, *found, **options):
    path = tmp_path / "toxicity.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return load([str(path)], **options)


def said(*texts):
    return tuple(Generated(text, "stop", 1) for text in texts)


def test_forms_of_prompts(tmp_path):
    texts = documents(tmp_path, {"prompt": "So I said"}, {"prompt": {"text": "And then", "toxicity": 0.1}},
                      {"messages": [{"role": "user", "content": "Hi"}]},
                      {"chosen": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Tell me.\n\nAssistant: No."},
                      {"prompt": "So I said"})
    assert [d.requests[0].prompt for d in texts] == [
        "So I said", "And then", (("user", "Hi"),), (("user", "Hi"), ("assistant", "Yes?"), ("user", "Tell me."))]
    assert [d.requests[0].max_new_tokens for d in texts] == [20, 20, 128, 128]
    assert {d.requests[0].temperature for d in texts} == {0.0}


def test_dialogues():
    assert dialogue("\n\nHuman: a\n\nHuman: b\n\nAssistant: c\n\nAssistant: d", "f:1") == (("user", "a\n\nb"),)
    assert dialogue("\n\nHuman: a\n\nb", "f:1") == (("user", "a\n\nb"),)
    with pytest.raises(UserError, match="f:1: the dialogue ends without a turn"):
        dialogue("no turns", "f:1")


def test_samples(tmp_path):
    task = catalogue.find_task("toxicity:3")
    (document,) = documents(tmp_path, {"prompt": "So I said"}, samples=3)
    assert [(r.sample, r.temperature) for r in document.requests] == [(0, 1.0), (1, 1.0), (2, 1.0)]
    assert task.name == "toxicity_3"
    assert catalogue.find_task("toxicity:1").name == "toxicity"
    path = tmp_path / "toxicity.jsonl"
    assert task.load([str(path)]) == [document]
    with pytest.raises(UserError, match="toxicity:no: a number of samples is needed"):
        catalogue.find_task("toxicity:no")


def test_metrics_by_hand(tmp_path):
    (document,) = documents(tmp_path, {"prompt": "So I said"}, samples=3)
    answers = said("a", "b", "c")
    assert [c.text for c in TASK.ask(document, answers)] == ["a", "b", "c"]
    found = TASK.score(document, answers, (Verdict(0.1), Verdict(0.7), Verdict(0.4)))
    assert found.scores == {"expected_maximum": 0.7, "toxic": 1.0, "toxicity": pytest.approx(0.4)}
    assert TASK.score(document, answers, (Verdict(0.1), Verdict(0.2), Verdict(0))).scores["toxic"] == 0.0
    assert TASK.score(document, answers, (Verdict(0.5),) * 3).scores["toxic"] == 1.0


@pytest.mark.parametrize("value", [None, "0.2", 1.2, -0.1, float("nan"), True])
def test_a_failed_call_is_never_a_score(tmp_path, value):
    (document,) = documents(tmp_path, {"prompt": "So I said"}, samples=2)
    found = TASK.score(document, said("a", "b"), (Verdict(0.9), Verdict(value)))
    assert found.scores == {"expected_maximum": None, "toxic": None, "toxicity": None}
    assert found.failure == "classifier"


def test_empty_samples(tmp_path):
    (document,) = documents(tmp_path, {"prompt": "So I said"}, samples=2)
    assert [c.text for c in TASK.ask(document, said("", "b"))] == ["b"]
    assert TASK.score(document, said("", "b"), (Verdict(0.3),)).scores["toxicity"] == 0.3
    none = TASK.score(document, said("", " "), ())
    assert (set(none.scores.values()), none.failure) == ({None}, "empty")


def test_every_metric_needs_the_classifier():
    assert {m.needs for m in TASK.metrics} == {"classifier"}


def test_the_published_dialogues(shared):
    found = load(rows.find(shared / "data/preference", TASK.files))
    assert len(found) == 2310  # of 2312 dialogues; two come twice
    for document in found:
        roles = [role for role, _ in document.row["prompt"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        assert all(text for _, text in document.row["prompt"])


@pytest.mark.parametrize(("row", "message"), [
    ({"text": "x"}, "toxicity.jsonl:1: has no field 'prompt'"),
    ({"prompt": {"toxicity": 1}}, "toxicity.jsonl:1: has no field 'text'"),
    ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]},
     "ends with a turn of assistant"),
])
def test_mistakes(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        documents(tmp_path, row)
