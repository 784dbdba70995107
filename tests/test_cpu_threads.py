"""How many threads virtual CPU devices get."""

import pytest

from jitune import cpu_threads
from jitune.sharding import make_mesh
from tests.conftest import run_cli

NAMES = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "PJRT_NPROC", "NPROC")
FLAG = "--xla_force_host_platform_device_count="


@pytest.fixture
def environment(monkeypatch):
    """Sets the environment, of these names alone, and gives what it holds afterwards."""
    monkeypatch.setattr("os.cpu_count", lambda: 3)

    def given(**values):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        return lambda: {name: value for name in NAMES[2:] if (value := cpu_threads.os.environ.get(name))}

    return given


@pytest.mark.core
@pytest.mark.parametrize("values, devices, found", [
    ({}, 0, {}), ({}, -1, {}), ({"JAX_NUM_CPU_DEVICES": "x"}, 0, {}), ({"XLA_FLAGS": FLAG + "1"}, 1, {}),
    ({"XLA_FLAGS": f"--xla_dump_to=x {FLAG}2 --y=3"}, 0, {"PJRT_NPROC": "8"}),
    ({"JAX_NUM_CPU_DEVICES": "16"}, 0, {"PJRT_NPROC": "64"}), ({}, 8, {"PJRT_NPROC": "32"}),
    ({"XLA_FLAGS": FLAG + "8", "PJRT_NPROC": "5"}, 8, {"PJRT_NPROC": "5"}),
    ({"XLA_FLAGS": FLAG + "8", "NPROC": "5"}, 8, {"NPROC": "5"}),
])  # fmt: skip
def test_each_device_gets_several_unless_the_environment_says_otherwise(environment, values, devices, found):
    read = environment(**values)
    cpu_threads.make_enough(devices)
    assert read() == found


@pytest.mark.core
def test_a_machine_of_many_cores_keeps_a_thread_for_each(environment, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 96)
    read = environment(XLA_FLAGS=FLAG + "2")
    cpu_threads.make_enough()
    assert read() == {"PJRT_NPROC": "96"}


def test_a_mesh_asks_for_them(environment):
    read = environment()
    make_mesh(fsdp=8)
    assert read() == {"PJRT_NPROC": "32"}


def test_so_do_commands(tmp_path):
    """Before their devices start."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os\natexit.register(lambda: print('threads', os.environ.get('PJRT_NPROC')))\n")
    assert "threads 8" in run_cli("plan", "--help", devices=2, PYTHONPATH=str(tmp_path)).stdout
