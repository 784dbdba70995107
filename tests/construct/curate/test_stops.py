"""Whatever stops a run, it says so in a line, leaves nobody behind, and goes on to the same bytes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import BrokenExecutor, Future
from types import SimpleNamespace

import pytest

from jitune.construct.curate import passes, workers
from jitune.construct.curate.passes import KEPT
from jitune.construct.curate.run import curate
from jitune.types import UserError
from tests.conftest import ROOT, run_cli
from tests.construct.curate.made import TOYS, config, counts, outputs, write_inputs

OPTIONS = {"longest__keep": 8, "again__at_least": 4}
KILLED = """
import os, signal, sys
from jitune.construct import ledger
from jitune.construct.curate import passes, run, workers
from tests.construct.curate.made import config
workers.CHUNK, passes.COMMIT_SECONDS = 5, (0.0, 0.0)
left, inside = int(sys.argv[1]), ledger.os.fsync
def fsync(file):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    inside(file)
ledger.os.fsync = fsync
if __name__ == "__main__":
    run.curate(config(sys.argv[3:], sys.argv[2], longest__keep=8, again__at_least=4, mix__weights="0.5,0.5"))
"""


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path):
    """Killed again and again, each time a little further on, between writing a file and saying so."""
    inputs = write_inputs(tmp_path)
    whole = curate(config(inputs, tmp_path / "whole", mix__weights="0.5,0.5", **OPTIONS))
    (tmp_path / "killed.py").write_text(KILLED)
    kills, positions = 0, set()
    for budget in (3, 14, 25, 11, 17, 10**6):
        words = [sys.executable, tmp_path / "killed.py", str(budget), tmp_path / "out", *inputs]
        done = subprocess.run(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                              text=True, timeout=120)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
        last = (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()[-1]
        notes = json.loads(last).get("notes", {})
        positions.add((notes.get("pass"), notes.get("phase")))
    assert done.returncode == 0 and kills >= 4
    assert len(positions) >= 3, positions  # of several passes
    assert outputs(tmp_path / "out") == outputs(whole) and counts(tmp_path / "out") == counts(whole)


def test_a_run_whose_last_words_were_cut_off_goes_on(tmp_path, monkeypatch):
    """Everything after the last commit is lost in every file, and written again."""
    monkeypatch.setattr(passes, "COMMIT_SECONDS", (0.0, 0.0))
    monkeypatch.setattr("jitune.construct.curate.workers.CHUNK", 5)
    inputs = write_inputs(tmp_path)
    whole = curate(config(inputs, tmp_path / "whole", **OPTIONS))
    calls, inside = 0, passes.State.commit

    def commit(state, done):
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            state.ledger.flush()
            raise KeyboardInterrupt
        inside(state, done)

    monkeypatch.setattr(passes.State, "commit", commit)
    for _ in range(100):
        try:
            folder = curate(config(inputs, tmp_path / "out", **OPTIONS))
            break
        except KeyboardInterrupt:
            pass
    assert calls > 10 and outputs(folder) == outputs(whole) and counts(folder) == counts(whole)


def test_a_worker_that_dies_is_one_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"instruction": "Q", "output": "boom"}) + "\n")
    with pytest.raises(UserError, match="a worker process died"):
        curate(config([path], tmp_path / "out", f"{TOYS}:fails", workers=1, fails__how="kill"))


def test_a_worker_that_dies_in_the_middle_of_a_result_is_found_out(monkeypatch):
    """Its executor would wait for the rest of the result for ever."""
    monkeypatch.setattr(workers, "PATIENCE", 0.01)
    pool = workers.Pool([], [], 0)
    alive, dead = (SimpleNamespace(exitcode=code) for code in (None, -9))
    pool.executor = SimpleNamespace(_processes={1: alive, 2: dead})
    with pytest.raises(BrokenExecutor, match="in the middle of a result"):
        pool._result(deque([([], Future())]))
    pool.executor, late = SimpleNamespace(_processes={1: alive}), Future()
    threading.Timer(0.1, late.set_result, ("found",)).start()
    assert pool._result(deque([([], late)])) == ([], "found"), "who is alive is waited for"


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    """A limit of file size stands for a disk that fills up."""
    inputs = write_inputs(tmp_path, 2000)
    words = [f"--config.input={inputs[0]},{inputs[1]}", f"--config.output_dir={tmp_path / 'out'}",
             f"--config.stages={TOYS}:words", "--config.workers=0"]
    script = "trap '' XFSZ; ulimit -f 100; exec \"$@\""
    out = subprocess.run(["bash", "-c", script, "limited", sys.executable, "-m", "jitune", "data", "curate", *words],
                         cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert out.returncode == 1 and "Traceback" not in out.stderr, out.stderr
    assert "a file would be larger than is allowed here" in out.stderr.splitlines()[-1]
    assert "the same command goes on from there" in out.stderr.splitlines()[-1]
    again = run_cli("data", "curate", *words)
    assert again.returncode == 0, again.stderr
    whole = curate(config(inputs, tmp_path / "whole", f"{TOYS}:words"))
    assert len(outputs(whole)[0]) > 102_400 and outputs(tmp_path / "out") == outputs(whole)


# Ctrl-C is heard: whoever runs the tests in the background ignores it, which programs inherit.
LISTENS = """import signal
from jitune.cli import run
signal.signal(signal.SIGINT, signal.default_int_handler)
run()
"""


def begin(inputs, out, **given) -> subprocess.Popen:
    """A run with two workers in a group of its own, which has written something."""
    words = [f"--config.input={','.join(map(str, inputs))}", f"--config.output_dir={out}",
             f"--config.stages={TOYS}:words", "--config.workers=2"]
    child = subprocess.Popen([sys.executable, "-c", LISTENS, "data", "curate", *words], cwd=ROOT, text=True,
                             start_new_session=True, env={**os.environ, "SECONDS_A_RECORD": "0.001"}, **given)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not ((out / KEPT).exists() and (out / KEPT).stat().st_size):
        time.sleep(0.02)
    return child


def ends(group: int) -> bool:
    """Whether all processes of a group end soon."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    return False


def test_ctrl_c_is_one_line_and_leaves_no_workers(tmp_path):
    child = begin(write_inputs(tmp_path, 30_000), tmp_path / "out", stderr=subprocess.PIPE)
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130 and said.splitlines()[-1].startswith("jitune: interrupted; the same command"), said
    assert "Traceback" not in said and ends(child.pid)


def test_a_run_that_is_told_to_end_says_so_and_goes_on(tmp_path):
    """A scheduler tells the whole group, workers too."""
    inputs = write_inputs(tmp_path, 30_000)
    child = begin(inputs, tmp_path / "out", stderr=subprocess.PIPE)
    os.killpg(child.pid, signal.SIGTERM)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 143 and said.splitlines()[-1].startswith("jitune: stopped; the same command"), said
    assert "Traceback" not in said and ends(child.pid)
    whole = curate(config(inputs, tmp_path / "whole", f"{TOYS}:words"))
    assert outputs(curate(config(inputs, tmp_path / "out", f"{TOYS}:words"))) == outputs(whole)


SCRIPT = """
from jitune.construct.curate.config import from_words
from jitune.construct.curate.run import curate
from jitune.construct.curate.stage import Filter, Keep
def mine():
    return Filter("mine", Keep)
print("once")
for stages in ("{toys}:words", "{toys}:words,__main__:mine"):
    print(curate(from_words(None, ["--config.input={input}", "--config.output_dir={out}" + str(len(stages)),
                                   "--config.workers=2", "--config.stages=" + stages])))
"""


@pytest.mark.parametrize("typed", [False, True])
def test_a_script_needs_no_guard(tmp_path, typed):
    """As a file or typed in, with stages of its own."""
    (a, _), path = write_inputs(tmp_path), tmp_path / "script.py"
    text = SCRIPT.format(toys=TOYS, input=a, out=tmp_path / "out")
    path.write_text(text)
    done = subprocess.run([sys.executable, "-" if typed else path], input=text, text=True, capture_output=True,
                          timeout=120, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert done.stdout.splitlines()[0] == "once" and len(done.stdout.splitlines()) == 3
    first, second = map(outputs, sorted(tmp_path.glob("out*")))
    assert first == second and len(first[0]) > 100


def test_no_worker_outlives_a_killed_run(tmp_path):
    child = begin(write_inputs(tmp_path, 30_000), tmp_path / "out", stderr=subprocess.DEVNULL)
    child.kill()
    child.wait()
    assert ends(child.pid)


def test_no_jax_in_workers(tmp_path):
    code = ("import sys; from jitune.construct.curate import workers, table\n"
            f"workers._start([table.Spec('words', '{TOYS}:words', {{}})])\n"
            "assert 'jax' not in sys.modules and 'datasets' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
