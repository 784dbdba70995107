"""Wherever a run is killed, the same call goes on from there, ends the same, and pays for no answer twice."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from jitune.construct.improve import run
from jitune.hub import files
from tests.conftest import ROOT
from tests.construct.improve.made import Told, config

SAME = ("made.jsonl", "rejected.jsonl", "kept.jsonl", "pool.jsonl", "eval.json", "checks.json")
# Dies at the n-th answer, file or checkpoint, whichever comes.
KILLED = """
import os, signal, sys
from pathlib import Path
from jitune import checkpoint
from jitune.construct.improve.run import improve
from tests.construct.improve import made
left = int(sys.argv[1])
def counted(inside):
    def outside(*given, **more):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return inside(*given, **more)
    return outside
made.solve = counted(made.solve)
os.replace, checkpoint.save = counted(os.replace), counted(checkpoint.save)
model, folder, out = map(Path, sys.argv[2:])
options = made.config(model, folder, out, train__steps=3, train__checkpoint_every=1, rounds=1)
improve(options, models=made.Told(options, made.solve, folder / f"{out.name}.log"))
"""


class Killed(BaseException):
    """What nothing catches."""


def result(out):
    """What a run leaves that does not tell the time."""
    found = {p.relative_to(out): p.read_bytes() for name in SAME for p in out.glob(f"round-*/{name}")}
    summary = json.loads((out / "summary.json").read_text())
    for one in summary["rounds"]:
        del one["seconds"]
    texts = [(out / name).read_bytes() for name in ("data.jsonl", "card.md")]
    return found, summary, texts, files.digest(out / "final")


def tune(options, *, resume=False):
    """In place of training: a model whose bytes follow from its base and its data."""
    from pathlib import Path

    out = Path(options.output_dir)
    assert resume == (out / "config.json").exists()
    out.mkdir(exist_ok=True)
    (out / "config.json").write_text("{}")
    shutil.rmtree(out / "final", ignore_errors=True)
    shutil.copytree(options.model.path, out / "final")
    data = Path(options.data.train).read_bytes()
    with open(out / "final" / "model.safetensors", "r+b") as file:
        file.seek(-64, os.SEEK_END)
        file.write(files.hashlib.sha256(data).digest() * 2)
    (out / "metrics.jsonl.partial").write_text('{"step": 1, "loss": 2.0, "tokens": 64}\n')
    os.replace(out / "metrics.jsonl.partial", out / "metrics.jsonl")


@pytest.mark.parametrize("budgets", [(3, 5, 8, 50), (2, 13, 21, 34)])
def test_interrupted_anywhere_it_ends_the_same(toy_model, tmp_path, monkeypatch, budgets):
    """Stopped again and again, so many answers and files further on each time, in turn."""
    monkeypatch.setattr("jitune.train.train", tune)
    options = config(toy_model, tmp_path, tmp_path / "whole", method="star", sampling__samples=1,
                     sampling__temperature=0.7, rounds=3, curate__stages="length", curate__workers=0)  # fmt: skip
    whole = run.improve(options, models=Told(options, log=tmp_path / "whole.log"))
    options.output_dir = str(tmp_path / "out")
    left, inside = 0, os.replace

    def event():
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    def replace(*given):
        event()
        inside(*given)

    def answer_one(call, made):
        event()
        from tests.construct.improve.made import solve

        return solve(call, made)

    monkeypatch.setattr(os, "replace", replace)
    for kills in range(200):
        left = budgets[kills % len(budgets)]
        try:
            out = run.improve(options, models=Told(options, answer_one, tmp_path / "out.log"))
            break
        except Killed:
            pass
    assert kills >= 5
    left = 0
    assert result(out) == result(whole)
    paid = [(tmp_path / f"{name}.log").read_text().splitlines() for name in ("out", "whole")]
    assert len(set(paid[0])) == len(paid[0]) and sorted(paid[0]) == sorted(paid[1])


def test_a_killed_process_goes_on_and_ends_with_the_same_model(toy_model, tmp_path):
    """By SIGKILL, within answers and within training."""
    (tmp_path / "killed.py").write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_backend_optimization_level=0"}

    def start(budget, name):
        words = [sys.executable, tmp_path / "killed.py", str(budget), toy_model, tmp_path, tmp_path / name]
        return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)

    done = start(0, "whole")
    assert done.returncode == 0, done.stderr[-2000:]
    steps = []
    for budget in (20, 36, 0):
        done = start(budget, "out")
        assert done.returncode == (-signal.SIGKILL if budget else 0), done.stderr[-2000:]
        steps.append(sorted(p.name for p in (tmp_path / "out").glob("round-1/train/checkpoints/*") if p.name.isdigit()))
    assert result(tmp_path / "out") == result(tmp_path / "whole")
    paid = [(tmp_path / f"{name}.log").read_text().splitlines() for name in ("out", "whole")]
    assert len(set(paid[0])) == len(paid[0]) and sorted(paid[0]) == sorted(paid[1])
    assert steps[0] == [] and steps[1] in (["1"], ["1", "2"]) and steps[2] == ["2", "3"], steps
