"""What a run says of itself: its start, MFU, memory, traces; and the line at the bottom of the terminal."""

import io
import json
import re
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

import jitune
from jitune import compile_cache, flops, meter, profiling, runlog
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES
from jitune.types import UserError
from tests.conftest import run_cli

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\x9b]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ROW = {"step": 1200, "loss": 1.23456, "tokens_per_second": 12_345.6, "supervised_share": 0.312, "mfu": 0.451,
       "memory_bytes": 71 * 2**30}


def mesh_of(kind: str, platform: str, count: int):
    devices = np.array([SimpleNamespace(device_kind=kind, platform=platform)] * count)
    return SimpleNamespace(devices=devices, size=count)


# The start of a run.


@pytest.mark.core
def test_laps_split_the_time_since_the_beginning():
    startup = meter.Startup(10.0)
    for name, now in (("import", 12.0), ("data", 12.5), ("compile", 18.7), ("data", 19.0), ("step", 19.8)):
        startup.lap(name, now)
    assert startup.line() == "first step after 9.8 s: import 2.0, data 0.8, compile 6.2, step 0.8"
    startup.from_cache = True
    assert "compile 6.2 (from the cache), step 0.8" in startup.line()
    assert sum(startup.seconds.values()) == pytest.approx(9.8)


@pytest.mark.core
def test_the_process_began_before_its_imports(monkeypatch):
    assert time.perf_counter() - 86_400 < meter.process_start() <= jitune.IMPORTED
    monkeypatch.setattr(meter, "Path", lambda _: SimpleNamespace(read_text=lambda encoding: "1 (a) b) S"))
    assert meter.process_start() == jitune.IMPORTED  # where the file is not as on Linux


# Peak, MFU, memory.


@pytest.mark.core
@pytest.mark.parametrize("kind, dtype, wanted, line", [
    ("NVIDIA H100 80GB HBM3", "bfloat16", 8 * 989.5e12,
     "MFU is against 7,916.0 TFLOP/s in bfloat16: 8 x NVIDIA H100 80GB HBM3, data sheet"),
    ("Tesla T4", "bfloat16", None, "MFU is left out: the peak of Tesla T4 in bfloat16 is not known"),
    ("Some GPU", "float32", None, "MFU is left out: the peak of Some GPU in float32 is not known"),
])
def test_the_peak_is_that_of_all_devices(kind, dtype, wanted, line):
    mesh = mesh_of(kind, "gpu", 8)
    peak = meter.find_peak(mesh, dtype)
    assert peak == (meter.Peak(wanted, "data sheet") if wanted else meter.Peak(None, None))
    assert meter.explain(peak, mesh, dtype) == line


@pytest.mark.core
def test_the_devices_of_a_cpu_share_one_measured_peak():
    one, eight = (meter.find_peak(mesh_of("cpu", "cpu", n), "float32") for n in (1, 8))
    assert one == eight and one.source == "measured" and one.flops > 1e9
    assert re.fullmatch(r"MFU is against [\d,]+ GFLOP/s in float32, measured on this machine",
                        meter.explain(one, mesh_of("cpu", "cpu", 1), "float32"))


@pytest.mark.core
def test_mfu_is_model_flops_over_time_and_peak():
    config = ModelConfig.from_hf({"model_type": "qwen3", **FAMILIES["qwen3"].presets["tiny"], "vocab_size": 96})
    firsts = []
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: {"peak_bytes_in_use": 5, "bytes_in_use": 3})
    measure = meter.make_measure(config, meter.Peak(1e9, "data sheet"), device, lambda *a: firsts.append(a))
    numbers = {"tokens": 100.0, "pairs": 700.0}
    found = measure(4, numbers, 0.5, 33.0)
    measure(5, numbers, 0.5, 34.0)
    assert firsts == [(4, 33.0)]
    assert found == {"mfu": flops.train_flops(config, 100, 700) / 0.5 / 1e9, "memory_bytes": 5}
    silent = SimpleNamespace(platform="gpu", memory_stats=lambda: None)
    assert meter.make_measure(config, meter.Peak(None, None), silent, lambda *a: None)(1, numbers, 0.5, 1.0) == {}


@pytest.mark.core
def test_memory_of_a_cpu_is_what_the_process_holds():
    before = meter.read_memory(jax.local_devices()[0])
    block = np.ones(2**28, np.uint8)
    after = meter.read_memory(jax.local_devices()[0])
    assert before > 2**25 and after - before > 0.9 * block.nbytes
    assert meter.memory_kind(jax.local_devices()[0]) == "resident"


# The line at the bottom.


def line_at(width: int, row=ROW, *, left: float | None = 3723.0, **options) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, **options)
    console.print(runlog.status_line(1200, 20000, runlog.fields(row, left, "peak"), console), end="")
    return console.file.getvalue()


@pytest.mark.core
def test_the_line_never_wraps_and_loses_what_matters_least_first():
    wanted = ["1200/20000", "loss 1.2346", "12,346 tok/s", "1h02m left", "MFU 45%", "peak 71.0G", "trained 31%"]
    shown = []
    for width in range(1, 130):
        line = line_at(width, no_color=True, color_system=None)
        assert "\n" not in line and "\x1b" not in line and cell_len(line) <= width
        found = [part for part in wanted if part in line]
        assert found == wanted[: len(found)]
        shown.append(len(found))
        assert width < 11 or line.startswith("1200/20000")
    assert shown == sorted(shown) and shown[80 - 1] == shown[-1] == 7
    assert shown[40 - 1] == 3 and shown[20 - 1] == 1
    assert "━" in line_at(100, no_color=True) and "─" in line_at(100, no_color=True)


@pytest.mark.core
def test_numbers_stay_short():
    assert [runlog.short(n) for n in (5, 99_999, 123_456, 999_600)] == ["5", "99,999", "123k", "1.00M"]
    assert [runlog.duration(s) for s in (0.4, 59, 60, 754, 3723, 200_000)] == [
        "0s", "59s", "1m00s", "12m34s", "1h02m", "2d07h"]
    without = {k: v for k, v in ROW.items() if k not in ("mfu", "memory_bytes")}
    assert runlog.fields(without, None, "resident") == ["loss 1.2346", "12,346 tok/s", "trained 31%"]
    small = runlog.fields({**ROW, "mfu": 0.0321}, 5.0, "resident")
    assert small[2:5] == ["5s left", "MFU 3.2%", "RSS 71.0G"]


@pytest.mark.core
def test_a_terminal_gets_a_bar_and_a_dumb_one_lines(monkeypatch):
    def drawn(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        progress = runlog.Progress(active=True)
        progress.console = Console(file=io.StringIO(), force_terminal=True, width=60, highlight=False)
        progress.start(100, 0)
        for step in (1, 2, 50):
            progress.update({**ROW, "step": step})
        progress.say("a word [in] between")
        progress.close()
        return progress.console.file.getvalue()

    bar = drawn(TERM="xterm-256color")
    assert "50/100" in bar and "a word [in] between" in bar and "step 50" not in bar and COLOUR.search(bar)
    for piece in re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", bar)):
        assert cell_len(piece) <= 60
    assert not COLOUR.search(drawn(NO_COLOR="1"))
    dumb = drawn(TERM="dumb")
    assert dumb.splitlines()[1].startswith("step 50/100  loss 1.2346  12,346 tok/s") and not CONTROL.search(dumb)


# Traces.


@pytest.mark.core
def test_the_steps_of_a_profile():
    assert [profiling.parse_steps(t) for t in ("", "3", "10-12", "7-7")] == [None, 3, (10, 12), (7, 7)]
    for text in ("0", "x", "12-10", "0-3", "3-", "-3", "1.5"):
        with pytest.raises(UserError, match=f"--profile {text}: give steps as FIRST-LAST"):
            profiling.parse_steps(text)
    profile = profiling.Profile("out", 3, start=10)
    assert (profile.first, profile.last) == (13, 15)


# The cache of compiled programs.


class FakeJax(SimpleNamespace):
    """Stands for jax: a cache can be turned on once in a process only."""

    def __init__(self, *, folder=None, processes=1, backend="cpu"):
        self.changes = {}
        config = SimpleNamespace(jax_compilation_cache_dir=folder, update=self.changes.__setitem__)
        super().__init__(config=config, process_count=lambda: processes, default_backend=lambda: backend)


@pytest.mark.core
def test_where_compiled_programs_are_kept(monkeypatch, tmp_path):
    def used(fake, **environment):
        for name in ("JITUNE_CACHE", "XDG_CACHE_HOME", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(compile_cache, "jax", fake)
        return compile_cache.use_cache(), fake.changes

    gpu = {"backend": "gpu"}
    for environment, folder in (
        ({}, tmp_path / "home/.cache/jitune/xla/gpu"),
        ({"XDG_CACHE_HOME": tmp_path / "xdg"}, tmp_path / "xdg/jitune/xla/gpu"),
        ({"JITUNE_CACHE": tmp_path / "mine"}, tmp_path / "mine/xla/gpu"),
    ):
        said, changes = used(FakeJax(**gpu), **environment)
        assert said == "" and changes["jax_compilation_cache_dir"] == str(folder) and folder.is_dir()
    said, changes = used(FakeJax())
    assert re.search(r"/xla/cpu(-[0-9a-f]{8})?$", changes["jax_compilation_cache_dir"])
    for fake, environment in (
        (FakeJax(folder="theirs"), {}), (FakeJax(processes=2), {}), (FakeJax(), {"JITUNE_CACHE": "off"}),
    ):
        assert used(fake, **environment) == ("", {})
    (tmp_path / "file").write_text("")
    said, changes = used(FakeJax(), JITUNE_CACHE=tmp_path / "file")
    assert said.startswith("compiled programs are not kept for the next run: ") and changes == {}


# All of it, as a user sees it.


@pytest.fixture(scope="module")
def starts(toy_model, toy_data, tmp_path_factory):
    """Two runs of the same command with output to a pipe: (directory, standard error, seconds) of each."""
    folder = tmp_path_factory.mktemp("starts")
    found = []
    for name in ("first", "second"):
        words = {"model.path": toy_model, "data.train": toy_data, "data.eval": toy_data, "eval_batches": 1,
                 "seq_len": 64, "batch_size": 4, "steps": 6, "loggers": "", "output_dir": folder / name}
        began = time.time()
        done = run_cli(
            "train", "--profile", "3-4", *(f"--config.{k}={v}" for k, v in words.items()),
            JITUNE_CACHE=str(folder / "cache"), JAX_COMPILATION_CACHE_DIR="", FORCE_COLOR="1", COLUMNS="40",
        )
        assert done.returncode == 0, done.stderr
        found.append((folder / name, done.stderr, time.time() - began))
    return found


def test_a_pipe_gets_plain_lines(starts):
    for _, said, _ in starts:
        assert not CONTROL.search(said)
        steps = [line for line in said.splitlines() if line.startswith("step ") and "loss" in line and "tok/s" in line]
        assert len(steps) == 6
        assert re.fullmatch(r"step 6/6  loss \d\.\d{4}  [\d,]+ tok/s  \d+s left  MFU [\d.]+%  RSS [\d.]+G  "
                            r"trained \d+%", steps[-1])


def test_the_second_start_reads_the_compiled_step(starts):
    for (directory, said, seconds), cached in zip(starts, (False, True), strict=True):
        start = json.loads((directory / "startup.json").read_text())
        assert start["step_from_cache"] is cached
        assert ("(from the cache)" in said) is cached
        assert list(start["seconds"]) == ["import", "devices", "data", "weights", "compile", "step"]
        assert sum(start["seconds"].values()) == pytest.approx(start["total_seconds"], abs=0.01)
        assert start["seconds"]["import"] > 0.3 and start["total_seconds"] < seconds
        assert start["step"] == 1 and start["platform"] == "cpu" and start["peak_source"] == "measured"
        assert said.count("first step after ") == 1
    first, second = ([json.loads(line)["loss"] for line in (d / "metrics.jsonl").read_text().splitlines()]
                     for d, _, _ in starts)
    assert first == second


def test_rows_hold_what_was_measured(starts):
    directory = starts[0][0]
    peak = json.loads((directory / "startup.json").read_text())["peak_flops"]
    config = ModelConfig.from_hf(json.loads((directory / "base/config.json").read_text()))
    for line in (directory / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        work = flops.train_flops(config, row["tokens"], row["pairs"])
        assert row["mfu"] == pytest.approx(work / row["step_seconds"] / peak)
        assert row["memory_bytes"] > 2**27


def test_data_are_described(starts):
    found = json.loads((starts[0][0] / "data.json").read_text())
    train = found["train"]
    assert found["eval"] == train
    assert train["examples"] == train["documents"] == sum(train["lengths"]["counts"]) == 200
    assert train["fill"] == train["tokens"] / (train["rows"] * 64) > 0.5
    assert 0 < train["supervised_share"] == train["supervised_tokens"] / train["tokens"] < 1
    assert train["sources"][0]["tokens"] == train["tokens"]


def test_a_trace_holds_its_steps_and_no_other(starts):
    directory, said, _ = starts[0]
    (path,) = (directory / "profile").glob("plugins/profile/*/*.xplane.pb")
    events = [
        event for plane in jax.profiler.ProfileData.from_file(str(path)).planes
        for line in plane.lines for event in line.events
    ]
    steps = [dict(event.stats)["step_num"] for event in events if event.name == "train_step"]
    assert sorted(steps) == [3, 4]
    assert f"step 4: traced to {directory / 'profile'}" in said
