"""What a run writes: lines that survive a kill, and the loggers' own interfaces."""

import json
import sys

import pytest

from jitune import runlog
from jitune.types import UserError


def test_lines_after_the_step_and_broken_ones_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "lo')
    lines = runlog.JsonLines(path, step=2)
    lines.write({"step": 3, "loss": float("inf"), "text": "é"})
    lines.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1}, {"step": 2}, {"step": 3, "loss": None, "text": "é"}]


class Service:
    """Stands for the module of a logging service, and for the run that its `init` returns."""

    def __init__(self):
        self.options, self.rows, self.finished = {}, [], False

    def init(self, **options):
        self.options = options
        return self

    def log(self, row, step):
        self.rows.append((step, row))

    def finish(self):
        self.finished = True


def test_loggers_get_the_step_and_an_id_of_the_run_alone(monkeypatch, tmp_path):
    """Two runs whose directories share a name must not flow together in one W&B or trackio project."""
    services = {"wandb": Service(), "trackio": Service()}
    for name, service in services.items():
        monkeypatch.setitem(sys.modules, name, service)
    names = runlog.parse_loggers("wandb, trackio")
    for log, close in runlog.open_loggers(names, tmp_path / "first", {"run_name": ""}, 0, "0a1b2c3d"):
        log(7, {"loss": 2.0})
        close()
    for service in services.values():
        assert service.rows == [(7, {"loss": 2.0})] and service.finished
        assert service.options["resume"] == "allow"
    assert services["wandb"].options["name"] == "first" and services["wandb"].options["id"] == "0a1b2c3d"
    assert services["trackio"].options["name"] == "first-0a1b2c3d"


def test_a_logger_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="the package wandb is not installed"):
        runlog.parse_loggers("tensorboard,wandb")
