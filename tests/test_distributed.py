"""Two processes on this machine are one run: the losses of one process, and one checkpoint."""

import json
import os
import socket
import subprocess
import sys

import numpy as np

from jitune import config as configs
from jitune.hub import files
from jitune.train import train
from tests.conftest import PATIENCE, ROOT


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def losses(directory):
    return [json.loads(line)["loss"] for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_two_processes(toy_config, tmp_path):
    toy_config.update_from_flattened_dict({
        "steps": 6, "checkpoint_every": 3, "data.eval": toy_config.data.train, "eval_every": 3,
        "mesh.data": 1, "mesh.fsdp": 4, "mesh.tensor": 2,
    })
    whole = train(toy_config)
    toy_config.output_dir = str(tmp_path / "two")
    script = tmp_path / "config.py"
    script.write_text(f"def get_config():\n    from jitune.config import from_json\n"
                      f"    return from_json({configs.to_json(toy_config)!r})\n")

    def start(steps, *more):
        port = free_port()
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "jitune", "train", "--config", str(script), "--distributed",
                 f"--config.steps={steps}", *more],
                cwd=ROOT, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "XLA_FLAGS": f"{PATIENCE} --xla_force_host_platform_device_count=4",
                     "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2",
                     "JAX_PROCESS_ID": str(i)},
            )
            for i in range(2)
        ]
        try:
            errors = [p.communicate(timeout=300)[1] for p in processes]
        finally:
            for p in processes:
                p.kill()
        assert [p.returncode for p in processes] == [0, 0], errors
        assert "step 1/" not in errors[1]

    start(3)
    start(6, "--resume")
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(whole), rtol=1e-5)
    first, second = (files.find_tensors(d / "final") for d in (whole, tmp_path / "two"))
    assert first.keys() == second.keys()
