"""Eight virtual CPU devices and products in full float32 for every test; small models made once."""

import gc
import json
import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Compiled programs are kept between tests, processes and runs of the tests.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

# Eight devices share few cores: on a busy machine one may reach a collective long after another.
PATIENCE = "--xla_cpu_collective_call_terminate_timeout_seconds=600 --xla_cpu_collective_timeout_seconds=600"
# Compiling takes most of the tests' time: half as much without the backend's optimizations, and a quarter where loops
# become LLVM's code directly, which later versions have no flag for. What `run_cli` starts is compiled as for users.
DIRECT = " --xla_cpu_use_fusion_emitters=false" if metadata.version("jaxlib").startswith("0.10.") else ""
QUICK = f"--xla_backend_optimization_level=0{DIRECT}"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {PATIENCE} {QUICK}".strip()

from jitune import cpu_threads

cpu_threads.make_enough(8)  # imports no jax

import jax
import pytest
from filelock import FileLock
from hypothesis import settings

# Examples are drawn alike at every run; `--hypothesis-profile default` draws others.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_default_matmul_precision", "highest")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
COLOURS = ("red", "green", "blue", "yellow", "brown", "white", "black", "grey", "orange", "violet")
THINGS = ("house", "boat", "apple", "river", "mountain", "letter", "window", "garden", "bridge", "lamp")


# Every compiled program maps memory of its own, and Linux allows a process 65,530 maps.
MOST_MAPS = 45_000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    """Forgets compiled programs where they are many; only tests that take a while compile some."""
    began = time.monotonic()
    found = yield
    maps = Path("/proc/self/maps")
    if time.monotonic() - began > 0.3 and maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
    return found


def pytest_sessionfinish():
    """What is left is not searched for garbage again and again: xdist interrupts a worker that takes long to end."""
    gc.freeze()


def once(tmp_path_factory, name: str, make) -> Path:
    """A folder that `make(folder)` fills, once for all workers of a session; the others wait for it."""
    session = tmp_path_factory.getbasetemp()
    session = session.parent if "PYTEST_XDIST_WORKER" in os.environ else session
    with FileLock(session / f"{name}.lock"):
        if not (session / f"{name}.made").exists():
            (session / name).mkdir()
            make(session / name)
            (session / f"{name}.made").touch()
    return session / name


def toy_rows(count: int = 200) -> list[dict]:
    """Alpaca rows with answers of very different lengths."""
    rows = []
    for i in range(count):
        colour, thing = COLOURS[i % 10], THINGS[i // 10 % 10]
        rows.append({
            "instruction": f"Name the colour of the {thing}.",
            "input": f"The {thing} number {i} is {colour}.",
            "output": f"The {thing} is {colour}." + f" It was {colour} before." * (i % 7),
        })
    return rows


@pytest.fixture(scope="session")
def shared():
    """The folder of real data beside the project."""
    if not SHARED.is_dir():
        pytest.skip("the folder shared/ with real data is not beside the project")
    return SHARED


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "toy.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in toy_rows()))
    return path


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory, toy_data) -> Path:
    """A tiny Qwen3 with a tokenizer of 512 tokens, in Hugging Face layout."""
    return make_toy_model(tmp_path_factory.mktemp("model") / "qwen3", "qwen3", toy_data)


def make_toy_model(path: Path, family: str, data: Path) -> Path:
    from jitune.hub import fresh

    fresh.create(path, family=family, preset="tiny", tokenizer_from=str(data), vocab_size=512)
    return path


@pytest.fixture
def toy_config(toy_model, toy_data, tmp_path):
    """A run of twelve steps on one device."""
    from jitune.config import defaults

    config = defaults()
    config.model.path, config.data.train = str(toy_model), str(toy_data)
    config.output_dir = str(tmp_path / "run")
    config.update({"seq_len": 64, "batch_size": 8, "steps": 12, "loggers": "", "loss_chunk": 128})
    config.mesh.update({"data": 1, "fsdp": 8, "tensor": 1})
    config.optimizer.update({"learning_rate": 1e-3, "schedule": "constant"})
    return config


def run_cli(*arguments, devices: int = 1, timeout: float = 300, **environment) -> subprocess.CompletedProcess:
    """Runs the command `jitune` in a process of its own."""
    flags = f"{PATIENCE} --xla_force_host_platform_device_count={devices}"
    return subprocess.run(
        [sys.executable, "-m", "jitune", *map(str, arguments)],
        capture_output=True, text=True, timeout=timeout, cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PJRT_NPROC"}  # the command's own choice
        | {"XLA_FLAGS": flags, **environment},
    )
