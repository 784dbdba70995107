"""A real model asks, learns and is asked again: SPIN with an adapter, two rounds by the command."""

import json
import signal

import pytest

from jitune.cli import main
from jitune.construct.improve import phases
from jitune.construct.improve.config import defaults
from jitune.construct.improve.models import Models, left
from jitune.data.record_rows import from_row
from jitune.generators.open import open_generator
from jitune.hub import files
from tests.construct.improve.made import SUMS, config, write


@pytest.fixture(scope="module")
def spin(toy_model, tmp_path_factory):
    """(folder, what was printed) of two rounds."""
    folder = tmp_path_factory.mktemp("spin")
    write(folder / "prompts.jsonl", SUMS[:6])
    (folder / "spin.py").write_text(f"""
from jitune.construct.improve.config import defaults
def get_config():
    config = defaults()
    config.update({{"method": "spin", "prompts": {str(folder / "prompts.jsonl")!r}}})
    config.output_dir = {str(folder / "out")!r}
    config.model.path = {str(toy_model)!r}
    config.sampling.max_tokens = 8
    config.train.update({{"seq_len": 96, "batch_size": 8, "steps": 2, "loss_chunk": 96}})
    config.train.transform.update({{"name": "lora", "rank": 2}})
    return config
""")
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["improve", "--config", str(folder / "spin.py"), "--config.seed=7"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    return folder / "out"


def test_spin_starts_from_the_last_model_and_trains_on_two_rounds_of_pairs(spin, toy_model):
    states = [json.loads((spin / f"round-{t}" / "state.json").read_text()) for t in (1, 2)]
    assert [s["make"]["made"] for s in states] == [6, 6] and states[1]["pool"]["records"] == 12
    trained = [json.loads((spin / f"round-{t}" / "train" / "config.json").read_text()) for t in (1, 2)]
    assert [t["model"]["path"] for t in trained] == [str(toy_model), str(spin / "round-1" / "merged")]
    assert {(t["objective"]["name"], t["optimizer"]["learning_rate"]) for t in trained} == {("dpo", 5e-7)}
    assert files.digest(spin / "final") == files.digest(spin / "round-2" / "merged")
    assert files.digest(spin / "final") != files.digest(spin / "round-1" / "merged") != files.digest(toy_model)
    pairs = [from_row(json.loads(line), ("", i)) for i, line in enumerate(open(spin / "data.jsonl"), 1)]
    assert [p.provenance.model for p in pairs] == ["qwen3"] * 6 + ["qwen3, round 1"] * 6
    assert all(p.chosen[0]["content"].startswith("It is ") and p.rejected[0]["content"] for p in pairs)
    first = json.loads((spin / "round-1" / "train" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(0.6931, abs=1e-4)  # the reference is the start of the round
    page = (spin / "report.html").read_text()
    assert "nothing here says whether the model got better" in page and "less wanted" in page


def test_models_of_one_shape_share_what_is_compiled(spin, toy_model, tmp_path):
    models = Models(config(toy_model, tmp_path, tmp_path / "out"))
    first = models.load(toy_model)
    assert models.load(toy_model) is first
    second = models.load(spin / "round-1" / "merged")
    assert second.model is first.model and second.params is not first.params
    adapters = [models.load(spin / f"round-{t}" / "train" / "final").model for t in (1, 1)]
    assert adapters[0] is adapters[1] is not first.model
    models.release()
    assert models.pretrained is None


def test_budgets_are_those_of_all_rounds():
    rounds = [{"costs": {"answers": 0.5}, "used": {"answers": 300, "judge": 7}},
              {"costs": {"answers": 0.25}, "used": {"answers": 100}}]
    spent = phases.total(rounds, "answers")
    section = defaults().generator
    assert left(section, spent) == section.to_dict()  # none was given
    section.update({"prices": "1,2", "budget": 2.0, "token_budget": 1000})
    found = left(section, spent)
    assert (found["budget"], found["token_budget"]) == (1.25, 600)
    section.update({"budget": 0.5, "token_budget": 300})
    purse = open_generator(left(section, spent) | {"replay": "", "model": "m@http://localhost/v1"}).purse
    assert not purse.reserve(1, 1) and purse.tokens == 1
