"""Whole evaluations on a tiny model: what is written, what a rerun asks for, what does not change the numbers."""

import json
import random

import jax
import numpy as np
import pytest

from jitune import sharding
from jitune.evals import choose
from jitune.evals.comparison.compare import compare
from jitune.evals.engine.engine import open_engine
from jitune.evals.pages.evaluation import write_page
from jitune.evals.run import evaluate
from jitune.hub import weights
from jitune.types import UserError
from tests.conftest import COLOURS, THINGS

pytestmark = pytest.mark.core
MODEL = {"digest": "d1", "path": "toy", "family": "qwen3", "parameters": 1}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Questions of both kinds, the last ones much longer than the context."""
    folder, rng = tmp_path_factory.mktemp("tasks"), random.Random(2)
    choices = [{"question": f"The {rng.choice(THINGS)} number {i} is", "choices": rng.sample(COLOURS, 3),
                "answer": i % 3} for i in range(14)]
    choices.append({"question": "red house " * 300, "choices": ["red", "blue"], "answer": 0})
    prompts = [{"prompt": f"Name the colour of the {thing}.", "reference": "red"} for thing in THINGS]
    for name, rows in (("choices", choices), ("prompts", prompts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def pretrained(toy_model):
    return weights.load(toy_model, dtype="float32")


def chosen(files):
    return choose.choose(tasks=[f"multiple_choice:{files}/choices.jsonl", f"generation:{files}/prompts.jsonl"])[0]


def run(pretrained, files, out, *, engine=None, **options):
    engine = engine or open_engine(pretrained, batch_size=4, max_length=256)
    return evaluate(engine, chosen(files), out, model=MODEL, progress=False, **options)


@pytest.fixture(scope="module")
def made(pretrained, files, tmp_path_factory):
    """(directory, results) of one evaluation."""
    out = tmp_path_factory.mktemp("made") / "eval"
    return out, run(pretrained, files, out)


def numbers(results: dict) -> dict:
    """Every metric's value of every task."""
    return {(task, name): metric["value"] for task, entry in results["tasks"].items()
            for name, metric in entry["metrics"].items()}


def samples(out) -> dict:
    """{file: lines} of a directory."""
    return {p.name: [json.loads(line) for line in p.read_text().splitlines()] for p in (out / "samples").iterdir()}


class Silent:
    """An engine that must not be asked."""

    def __init__(self, engine):
        self.render, self.limit, self.stats = engine.render, engine.limit, engine.stats

    def answer(self, requests, on_done=None):
        assert not requests
        return []


class Killed(Silent):
    """An engine that dies after its first batch."""

    def __init__(self, engine):
        super().__init__(engine)
        self.engine = engine

    def answer(self, requests, on_done=None):
        def done(batch):
            on_done(batch)
            raise KeyboardInterrupt

        return self.engine.answer(requests, on_done=done)


def test_what_is_written_is_what_is_returned(made):
    out, results = made
    assert json.loads((out / "results.json").read_text()) == results
    for name, entry in results["tasks"].items():
        lines = next(lines for file, lines in samples(out).items() if file.startswith(name.split(":")[0]))
        assert len(lines) == entry["n"] and len({line["id"] for line in lines}) == entry["n"]
        for metric, estimate in entry["metrics"].items():
            scores = [line["scores"][metric] for line in lines if line["scores"].get(metric) is not None]
            if not estimate["corpus"]:
                assert estimate["value"] == pytest.approx(np.mean(scores)) and estimate["n"] == len(scores)


def test_prompts_longer_than_the_context_are_counted(made):
    out, results = made
    assert [entry["truncated"] for entry in results["tasks"].values()] == [1, 0]
    lines = next(lines for file, lines in samples(out).items() if file.startswith("multiple"))
    assert sum(r["truncated"] > 0 for line in lines for r in line["responses"]) == 2
    assert results["engine"]["truncated"] == 2


def test_a_rerun_asks_the_model_for_nothing(made, pretrained, files):
    out, results = made
    engine = Silent(open_engine(pretrained, max_length=256))
    assert numbers(run(pretrained, files, out, engine=engine)) == numbers(results)


def test_a_killed_run_goes_on(made, pretrained, files, tmp_path):
    engine = open_engine(pretrained, batch_size=4, max_length=256)
    with pytest.raises(KeyboardInterrupt):
        run(pretrained, files, tmp_path, engine=Killed(engine))
    assert not (tmp_path / "results.json").exists()
    kept = len((tmp_path / "responses.jsonl").read_text().splitlines()) - 1
    assert kept > 0
    again = open_engine(pretrained, batch_size=4, max_length=256)
    assert numbers(run(pretrained, files, tmp_path, engine=again)) == pytest.approx(numbers(made[1]))
    asked = 2 * 14 + 14 + 2 + 10  # the continuations of three and two choices, and the prompts
    assert again.stats["requests"] == asked - kept


def test_a_directory_of_another_model_is_refused(made, pretrained, files):
    with pytest.raises(UserError, match="was written for something else .digest 'd1' there, 'd2' here"):
        evaluate(open_engine(pretrained, max_length=256), chosen(files), made[0], model={**MODEL, "digest": "d2"},
                 progress=False)


def test_identical_runs_do_not_differ(made, pretrained, files, tmp_path):
    run(pretrained, files, tmp_path)
    found = compare(made[0], tmp_path)
    for task in found["tasks"].values():
        for metric in task["metrics"].values():
            assert metric["delta"] == 0 and metric["p"] == 1, metric
        assert task["flips"]["better"] == task["flips"]["worse"] == 0


def test_other_prompts_are_not_compared(made, pretrained, files, tmp_path):
    run(pretrained, files, tmp_path, engine=open_engine(pretrained, max_length=256, chat_template="none"))
    with pytest.raises(UserError, match="generation.*prompt"):
        compare(made[0], tmp_path)


@pytest.mark.parametrize("mesh", [(2, 2, 2), (1, 8, 1)], ids=str)
@pytest.mark.parametrize("batch_size", [2, 16])
def test_batch_size_and_mesh_change_nothing(made, toy_model, files, mesh, batch_size):
    on_mesh = weights.load(toy_model, dtype="float32", mesh=sharding.make_mesh(*mesh))
    found = run(on_mesh, files, None, engine=open_engine(on_mesh, batch_size=batch_size, max_length=256))
    assert numbers(found) == pytest.approx(numbers(made[1]), rel=1e-5)


def test_a_model_that_is_not_a_number_is_an_error(pretrained, files):
    broken = pretrained._replace(params=jax.tree.map(lambda x: x * np.nan, pretrained.params))
    with pytest.raises(UserError, match="Score.*is nan: broken weights"):
        run(broken, files, None)


def test_the_page_is_made_of_the_directory(made):
    html = write_page(made[0]).read_text()
    assert "multiple_choice" in html and "generation" in html
