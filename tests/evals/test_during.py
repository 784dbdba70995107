"""Evaluation while training: what is refused before anything else is done, and what a kill within one leaves."""

import json

import pytest

from jitune import config as configs
from jitune.evals import during
from jitune.stopping import Interrupted
from jitune.train import train
from jitune.types import UserError


@pytest.fixture
def questions(tmp_path):
    rows = [{"question": f"The house number {i} is", "choices": ["red", "blue"], "answer": i % 2} for i in range(4)]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_config(tmp_path, toy_model, toy_data, **options):
    config = configs.defaults()
    config.model.path, config.data.train, config.output_dir = str(toy_model), str(toy_data), str(tmp_path / "run")
    config.seq_len, config.batch_size, config.steps, config.loggers = 64, 8, 4, ""
    for name, value in options.items():
        config.evals[name] = value
    return config


@pytest.mark.parametrize("options, said", [
    ({"every": 2}, "config.evals.every=2 needs config.evals.suite or config.evals.tasks"),
    ({"tasks": "gsm9k"}, "config.evals.tasks gsm9k: there is no such task"),
    ({"tasks": "gsm8k", "data": "/nowhere"}, "config.evals.data /nowhere: is not there"),
    ({"suite": "utilty"}, "config.evals.suite utilty: there is no such suite"),
    ({"suite": "utility", "batch_size": 0}, "config.evals.batch_size=0 must be at least 1"),
    ({"suite": "utility", "limit": -1}, "config.evals.limit=-1 must be at least 0"),
    ({"suite": "utility", "max_length": 1 << 20}, "config.evals.max_length=1048576 is more than the model's context"),
])
def test_what_cannot_work_is_refused_before_the_data_are_read(tmp_path, toy_model, toy_data, options, said):
    config = make_config(tmp_path, toy_model, toy_data, **options)
    config.data.train = "never_read.jsonl"
    with pytest.raises(UserError) as error:
        train(config)
    assert str(error.value).startswith(said) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("at", [2, 4])
def test_a_kill_within_an_evaluation_loses_no_step_and_it_is_made_up_for(
        tmp_path, toy_model, toy_data, questions, monkeypatch, at):
    config = make_config(tmp_path, toy_model, toy_data, tasks=f"multiple_choice:{questions}", every=2)
    config.checkpoint_every = 2
    whole = during.run

    def killed(*arguments, step, **options):
        if step == at:
            raise Interrupted("killed")
        return whole(*arguments, step=step, **options)

    monkeypatch.setattr(during, "run", killed)
    with pytest.raises(Interrupted):
        train(config)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [*range(1, at + 1)], "the step is saved, and so is its row"
    monkeypatch.setattr(during, "run", whole)
    train(config, resume=True)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4] and all("loss" in row for row in rows)
    name = "evals/multiple_choice:mine.jsonl/acc"
    assert [row["step"] for row in rows if name in row] == [2, 4]
    for step in (2, 4):
        results = json.loads((tmp_path / "run" / "evals" / f"step-{step:06d}" / "results.json").read_text())
        assert results["tasks"]["multiple_choice:mine.jsonl"]["metrics"]["acc"]["value"] == rows[step - 1][name]
