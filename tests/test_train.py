"""Whole runs: what they write, how they resume, what stops them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import jitune
from jitune import checkpoint, tree
from jitune import config as configs
from jitune.export import export
from jitune.hub import files
from jitune.stopping import NonFiniteError, check_finite
from jitune.train import train
from jitune.types import TrainState, UserError
from tests.conftest import ROOT, make_toy_model, once, toy_rows


def rows_of(directory) -> list[dict]:
    return [json.loads(line) for line in (Path(directory) / "metrics.jsonl").read_text().splitlines()]


def losses_of(directory) -> list[float]:
    return [row["loss"] for row in rows_of(directory)]


def weights_of(directory) -> dict[str, np.ndarray]:
    return load_file(Path(directory) / "final" / files.SINGLE)


def copy_config(config, **changes):
    config = configs.from_json(configs.to_json(config))
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.core
def test_a_run_learns_and_writes_what_it_promises(toy_config):
    toy_config.update_from_flattened_dict({
        "data.eval": toy_config.data.train, "steps": 30, "eval_every": 10, "checkpoint_every": 10, "keep": 1,
        "sample_every": 15, "samples": 2, "sample_tokens": 8, "optimizer.learning_rate": 5e-3,
        "loggers": "tensorboard",
    })
    directory = train(toy_config)
    rows = rows_of(directory)
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert rows[0]["loss"] > 6 and rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert {"tokens_per_second", "grad_norm", "learning_rate", "supervised_share", "accuracy", "pairs", "mfu",
            "memory_bytes"} <= rows[0].keys()
    assert json.loads((directory / "startup.json").read_text())["step"] == 1
    assert json.loads((directory / "data.json").read_text())["train"]["documents"] == 200
    evaluated = {row["step"]: row["eval_loss"] for row in rows if "eval_loss" in row}
    assert list(evaluated) == [10, 20, 30] and evaluated[30] < evaluated[10]
    samples = [json.loads(line) for line in (directory / "samples.jsonl").read_text().splitlines()]
    assert [s["step"] for s in samples] == [15, 15, 30, 30]
    assert samples[0]["messages"][0]["content"].startswith("Name the colour of the house.")
    assert any((directory / "tensorboard").iterdir())
    assert json.loads((directory / "config.json").read_text())["steps"] == 30
    assert sorted(p.name for p in (directory / "checkpoints").iterdir()) == ["30"]
    tuned, base = (jitune.load(p, dtype="float32") for p in (directory / "final", toy_config.model.path))
    assert tuned.config.generation_config["eos_token_id"] == [tuned.tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert tuned.tokenizer.chat_template == base.tokenizer.chat_template
    moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), tuned.params, base.params)
    assert min(jax.tree.leaves(moved)) > 0
    export(directory, directory / "again")
    first, second = weights_of(directory), load_file(directory / "again" / files.SINGLE)
    assert first.keys() == second.keys() and all(np.array_equal(first[n], second[n]) for n in first)
    with pytest.raises(UserError, match="no checkpoint '7'; there are 30"):
        export(directory, directory / "never", step="7")


@pytest.mark.core
def test_resumed_is_bit_identical_also_with_metrics(toy_config, tmp_path):
    whole = train(toy_config)
    parts = copy_config(toy_config, output_dir=str(tmp_path / "parts"), steps=5)
    train(parts)
    (tmp_path / "parts" / "metrics.jsonl").open("a").write('{"step": 6, "loss": 99.0}\n{"step": 7, "lo')
    parts.steps = 12
    resumed = train(parts, resume=True)
    assert losses_of(resumed) == losses_of(whole)
    first, second = weights_of(whole), weights_of(resumed)
    assert all(np.array_equal(first[n], second[n]) for n in first)
    train(parts, resume=True)  # of a finished run: nothing is left to do
    assert losses_of(resumed) == losses_of(whole)


def test_resume_on_another_mesh(toy_config, tmp_path):
    whole = train(toy_config)
    parts = copy_config(toy_config, output_dir=str(tmp_path / "parts"), steps=5)
    train(parts)
    changes = {"steps": 12, "mesh.fsdp": 2, "mesh.context": 2, "mesh.tensor": 2}
    resumed = train(copy_config(parts, **changes), resume=True)
    assert losses_of(resumed)[:5] == losses_of(whole)[:5]
    np.testing.assert_allclose(losses_of(resumed), losses_of(whole), rtol=1e-5)


def test_scanned_unrolled_and_microbatches_give_the_same_losses(toy_config, tmp_path):
    whole = train(copy_config(toy_config, **{"mesh.fsdp": 2, "mesh.tensor": 4}))
    changes = {"output_dir": str(tmp_path / "other"), "model.scan_layers": False, "model.remat": "dots",
               "microbatches": 2, "mesh.data": 2, "mesh.fsdp": 2, "mesh.tensor": 2}
    np.testing.assert_allclose(losses_of(train(copy_config(toy_config, **changes))), losses_of(whole), rtol=1e-5)


@pytest.mark.parametrize("name", ["adafactor", "lion", "muon"])
def test_other_optimizers_resume_too(name, toy_config, tmp_path):
    changes = {"optimizer.name": name, "steps": 6, "mesh.fsdp": 4, "mesh.tensor": 2}
    whole = train(copy_config(toy_config, **changes))
    changes |= {"output_dir": str(tmp_path / "parts"), "steps": 3}
    parts = copy_config(toy_config, **changes)
    train(parts)
    parts.steps = 6
    assert losses_of(train(parts, resume=True)) == losses_of(whole)


def test_best_checkpoint_and_early_stopping(toy_config, tmp_path):
    # A rate that is far too high: the first evaluation stays the best one.
    evaluation = tmp_path / "eval.jsonl"
    evaluation.write_text("".join(json.dumps(row) + "\n" for row in toy_rows(20)))
    toy_config.update_from_flattened_dict({
        "data.eval": str(evaluation), "eval_every": 2, "patience": 2, "export": "best", "steps": 40, "keep": 1,
        "optimizer.learning_rate": 3.0, "optimizer.warmup_steps": 2, "optimizer.clip_norm": 0.0,
    })
    directory = train(toy_config)
    evaluated = {row["step"]: row["eval_loss"] for row in rows_of(directory) if "eval_loss" in row}
    best = min(evaluated, key=evaluated.get)
    assert max(evaluated) == best + 4 < 40
    kept = sorted(int(p.name) for p in (directory / "checkpoints").iterdir())
    assert kept == [best, best + 4]
    before = (directory / "metrics.jsonl").read_text()
    train(toy_config, resume=True)  # stopped early stays stopped
    assert (directory / "metrics.jsonl").read_text() == before
    export(directory, tmp_path / "best", step="best")
    first, second = weights_of(directory), load_file(tmp_path / "best" / files.SINGLE)
    assert all(np.array_equal(first[n], second[n]) for n in first)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(toy_config):
    toy_config.update_from_flattened_dict({
        "optimizer.learning_rate": 1e38, "optimizer.schedule": "linear", "optimizer.warmup_steps": 1,
        "optimizer.clip_norm": 0.0, "checkpoint_every": 1, "keep": 5,
    })
    with pytest.raises(NonFiniteError, match=r"step \d+: loss .* the last good checkpoint is step \d+"):
        train(toy_config)
    rows = rows_of(toy_config.output_dir)
    assert None in (rows[-1]["loss"], rows[-1]["grad_norm"], rows[-1]["param_norm"])
    kept = sorted(int(p.name) for p in Path(toy_config.output_dir, "checkpoints").iterdir())
    assert kept and max(kept) < rows[-1]["step"]
    assert not Path(toy_config.output_dir, "final").exists()
    (good,) = export(toy_config.output_dir, Path(toy_config.output_dir, "good"))
    assert all(np.isfinite(x).all() for x in load_file(good / files.SINGLE).values())


def test_the_checkpoint_that_gave_a_loss_that_is_not_finite_goes(tmp_path):
    """Weights may be finite and still give no loss: a run resumed from them would only stop again."""
    checkpoints = checkpoint.open_checkpoints(tmp_path, keep=5)
    state = TrainState(np.int32(0), {"w": np.ones(2, np.float32)}, {})
    for step in (2, 4, 5):
        checkpoint.save(checkpoints, state._replace(step=np.int32(step)), jax.random.key(0), {})
    row = {"step": 6, "loss": float("nan"), "grad_norm": 1.0, "param_norm": 1.0}
    check_finite(checkpoints, {**row, "loss": 1.0})
    with pytest.raises(NonFiniteError, match="step 6: loss nan, .* the last good checkpoint is step 4"):
        check_finite(checkpoints, row)
    with pytest.raises(NonFiniteError, match="step 6: .* the last good checkpoint is step 4"):
        check_finite(checkpoints, {**row, "loss": 1.0, "param_norm": float("inf")})
    assert list(checkpoints.all_steps()) == [2, 4]
    checkpoints.close()


def test_bfloat16_trains_float32_weights(toy_config):
    toy_config.update_from_flattened_dict({"model.dtype": "bfloat16", "steps": 30, "optimizer.learning_rate": 5e-3})
    directory = train(toy_config)
    losses = losses_of(directory)
    assert losses[-1] < 0.6 * losses[0]
    assert {str(x.dtype) for x in weights_of(directory).values()} == {"float32"}
    export(directory, directory / "half", dtype="bfloat16")
    half = jitune.load(directory / "half", dtype="float32")
    assert tree.count_params(half.params) == sum(x.size for x in weights_of(directory).values())


def start(config, path: Path, *more) -> subprocess.Popen:
    """Starts `jitune train` on one device in a process of its own."""
    path.write_text(f"def get_config():\n    from jitune.config import from_json\n"
                    f"    return from_json({configs.to_json(config)!r})\n")
    return subprocess.Popen(
        [sys.executable, "-m", "jitune", "train", "--config", str(path), *more], cwd=ROOT,
        stderr=subprocess.PIPE, text=True,
    )


def wait_for_step(process, directory: Path, step: int, timeout: float = 240):
    end = time.time() + timeout
    while time.time() < end and process.poll() is None:
        path = directory / "metrics.jsonl"
        if path.exists() and path.read_text().count("\n") >= step:
            return
        time.sleep(0.005)
    raise AssertionError(f"the run did not come to step {step}: {process.poll()}")


@pytest.fixture(scope="module")
def killable(tmp_path_factory):
    """The config of a run of 60 steps with frequent checkpoints, and its undisturbed metrics and weights."""

    def make(folder):
        (folder / "toy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toy_rows()))
        make_toy_model(folder / "model", "qwen3", folder / "toy.jsonl")
        process = start(killable_config(folder), folder / "whole.py")
        assert process.wait(300) == 0, process.stderr.read()

    return killable_config(once(tmp_path_factory, "killable", make))


def killable_config(folder: Path):
    config = configs.defaults()
    config.update_from_flattened_dict({
        "model.path": str(folder / "model"), "data.train": str(folder / "toy.jsonl"), "seq_len": 64, "batch_size": 4,
        "steps": 60, "checkpoint_every": 4, "loggers": "", "optimizer.learning_rate": 1e-3, "neftune_alpha": 5.0,
        "output_dir": str(folder / "whole"),
    })
    return config


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_a_random_point_and_resumed(seed, killable, tmp_path):
    """SIGKILL, twice; then to the end. NEFTune's noise, data order and optimizer are as if nothing happened."""
    config = copy_config(killable, output_dir=str(tmp_path / "run"))
    rng = np.random.default_rng(seed)
    steps = sorted(rng.integers(1, 55, 2).tolist())
    for step in steps:
        process = start(config, tmp_path / "config.py", "--resume")
        wait_for_step(process, tmp_path / "run", step)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    process = start(config, tmp_path / "config.py", "--resume")
    assert process.wait(300) == 0, process.stderr.read()
    assert losses_of(tmp_path / "run") == losses_of(killable.output_dir)
    first, second = weights_of(killable.output_dir), weights_of(tmp_path / "run")
    assert all(np.array_equal(first[n], second[n]) for n in first)
    assert not list((tmp_path / "run").glob("**/*.partial"))


def test_sigterm_saves_and_resumes(killable, tmp_path):
    config = copy_config(killable, output_dir=str(tmp_path / "run"), checkpoint_every=0)
    process = start(config, tmp_path / "config.py")
    wait_for_step(process, tmp_path / "run", 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert "--resume continues" in process.stderr.read()
    assert os.listdir(tmp_path / "run" / "checkpoints")
    process = start(config, tmp_path / "config.py", "--resume")
    assert process.wait(300) == 0
    assert losses_of(tmp_path / "run") == losses_of(killable.output_dir)


def test_resume_refuses_other_inputs(toy_config, tmp_path, toy_data):
    toy_config.steps = 2
    train(toy_config)
    other = make_toy_model(tmp_path / "other", "llama", toy_data)
    short = tmp_path / "short.jsonl"
    short.write_text("".join(toy_data.read_text().splitlines(keepends=True)[:50]))
    template = tmp_path / "template.jinja"
    template.write_text(
        (Path(toy_config.model.path) / "chat_template.jinja").read_text().replace("assistant", "helper"))
    for changes, message in (
        ({"model.path": str(other)}, "--resume: the model is not the one"),
        ({"data.chat_template": str(template)}, "--resume: the tokenizer is not the one"),
        ({"data.train": str(short)}, "--resume: the data is not the one"),
        ({"batch_size": 16}, "--resume: config.batch_size is 16, the run in .* has 8"),
        ({"optimizer.name": "lion"}, "--resume: config.optimizer.name is 'lion'"),
        ({"seq_len": 32}, "--resume: config.seq_len"),
    ):
        with pytest.raises(UserError, match=message):
            train(copy_config(toy_config, **changes), resume=True)
    with pytest.raises(UserError, match="holds another run"):
        train(toy_config)


def test_resume_without_a_run_starts_one(toy_config):
    toy_config.steps = 1
    assert len(rows_of(train(toy_config, resume=True))) == 1


def test_epochs_take_each_document_once(toy_config, toy_data):
    toy_config.update_from_flattened_dict({"steps": 0, "epochs": 2.0})
    rows = rows_of(train(toy_config))
    one = copy_config(toy_config, **{"epochs": 1.0, "output_dir": toy_config.output_dir + "1"})
    once = rows_of(train(one))
    assert sum(r["tokens"] for r in rows) == 2 * sum(r["tokens"] for r in once)
    assert sum(r["supervised"] for r in rows) == 2 * sum(r["supervised"] for r in once)
