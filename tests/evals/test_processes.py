"""Two processes on this machine are one evaluation: the numbers of one process, one directory, and a rerun from it."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.conftest import PATIENCE, QUICK, ROOT, THINGS, run_cli


def start(arguments) -> list[subprocess.Popen]:
    """Both processes, two devices each."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{s.getsockname()[1]}"
    return [subprocess.Popen(
        [sys.executable, "-m", "jitune", *map(str, arguments), "--distributed", "--mesh.fsdp=2", "--mesh.tensor=2"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "XLA_FLAGS": f"{PATIENCE} {QUICK} --xla_force_host_platform_device_count=2",
             "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(i)},
    ) for i in range(2)]


def finish(processes) -> list[str]:
    """Waits for both; returns what they printed."""
    try:
        printed = [p.communicate(timeout=300) for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert [p.returncode for p in processes] == [0, 0], printed
    return [out for out, _ in printed]


def test_two_processes(toy_model, tmp_path):
    rows = [{"question": f"The {thing} is", "choices": ["red", "green", "blue"], "answer": 0} for thing in THINGS]
    (tmp_path / "choices.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = [{"prompt": f"Name the colour of the {thing}.", "reference": "red"} for thing in THINGS[:3]]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    tasks = f"multiple_choice:{tmp_path}/choices.jsonl,generation:{tmp_path}/prompts.jsonl@8"
    arguments = ["eval", "--model", toy_model, "--tasks", tasks, "--max_length", 256]
    alone = run_cli(*arguments, "--out", tmp_path / "one")
    assert alone.returncode == 0, alone.stderr
    first, second = finish(start([*arguments, "--out", tmp_path / "two"]))
    assert "33 requests" in first and "report.html" in first and "report.html" not in second
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    for task, entry in one["tasks"].items():
        for name, metric in entry["metrics"].items():
            assert two["tasks"][task]["metrics"][name]["value"] == pytest.approx(metric["value"], rel=1e-5), name
    assert two["engine"]["requests"] == 33
    finish(start([*arguments, "--out", tmp_path / "two"]))
    again = json.loads((tmp_path / "two" / "results.json").read_text())
    assert again["engine"]["requests"] == 0
    assert {t: e["metrics"] for t, e in again["tasks"].items()} == {t: e["metrics"] for t, e in two["tasks"].items()}
