"""Two processes on this machine are one run: the losses of one process, one checkpoint, one stop."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np

from jitune import config as configs
from jitune.hub import files
from jitune.train import train
from tests.conftest import PATIENCE, QUICK, ROOT


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def losses(directory):
    path = directory / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line)["loss"] for line in lines if line.endswith("\n")]


def start(config, script) -> list[subprocess.Popen]:
    """Starts both processes, two devices each."""
    script.write_text(f"def get_config():\n    from jitune.config import from_json\n"
                      f"    return from_json({configs.to_json(config)!r})\n")
    address = f"127.0.0.1:{free_port()}"
    return [
        subprocess.Popen(
            [sys.executable, "-m", "jitune", "train", "--config", str(script), "--distributed", "--resume"],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "XLA_FLAGS": f"{PATIENCE} {QUICK} --xla_force_host_platform_device_count=2",
                 "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(i)},
        )
        for i in range(2)
    ]


def finish(processes, code: int) -> list[str]:
    """Waits for both to end with this exit code; returns what they wrote to stderr."""
    try:
        errors = [p.communicate(timeout=300)[1] for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert [p.returncode for p in processes] == [code, code], errors
    return errors


def test_two_processes(toy_config, tmp_path):
    """Each holds half of every row's tokens."""
    alone, directory = toy_config.output_dir, tmp_path / "two"
    toy_config.update_from_flattened_dict({
        "steps": 100_000, "data.eval": toy_config.data.train, "eval_batches": 3, "optimizer.warmup_steps": 1,
        "mesh.fsdp": 1, "mesh.context": 2, "mesh.tensor": 2, "output_dir": str(directory),
    })
    processes = start(toy_config, tmp_path / "config.py")
    while not losses(directory) and all(p.poll() is None for p in processes):
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)  # to one of them, and both stop after the same step
    errors = finish(processes, 143)
    stopped = len(losses(directory))
    assert all(f"stopped at step {stopped}, saved; --resume continues" in error for error in errors)
    assert [p.name for p in (directory / "checkpoints").iterdir()] == [str(stopped)]
    toy_config.steps = steps = stopped + 3
    errors = finish(start(toy_config, tmp_path / "config.py"), 0)
    assert f"step {steps}/" in errors[0] and f"step {steps}/" not in errors[1]
    toy_config.update_from_flattened_dict({"output_dir": alone, "mesh.fsdp": 8, "mesh.context": 1,
                                            "mesh.tensor": 1})
    whole = train(toy_config)
    np.testing.assert_allclose(losses(directory), losses(whole), rtol=1e-5)
    first, second = (files.find_tensors(d / "final") for d in (whole, directory))
    assert first.keys() == second.keys()
