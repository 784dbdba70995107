"""Full disks, missing rights, directories in use and full devices: one line, a code, and a run that resumes."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys

import jax
import pytest

from jitune import cli, failures, rundir
from jitune.commands import train as command
from jitune.train import train
from jitune.types import UserError
from tests.conftest import ROOT


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.core
@pytest.mark.parametrize(("error", "line", "code"), [
    (OSError(errno.ENOSPC, "x", "/a/b"), "no space left on the device (/a/b); what was saved before is whole", 1),
    (OSError(errno.ENOSPC, "x"), "no space left on the device; what", 1),
    (RuntimeError('Error writing "/a/c": No space left on device [OS error 28: ENOSPC]'), "device (/a/c); what", 1),
    (ValueError("I/O error: No space left on device (os error 28)"), "no space left on the device; what", 1),
    (ValueError('OUT_OF_RANGE: Error writing "x" at local file "/a/d/": File too large [os_error_code=\'27\']'),
     "a file would be larger than is allowed here (/a/d/); what", 1),
    (PermissionError(errno.EACCES, "x", "/a/b"), "/a/b: Permission denied", 2),
    (IsADirectoryError(errno.EISDIR, "x", "/a/b"), "/a/b: Is a directory", 2),
    (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 64 bytes. More."),
     "out of memory on the devices (Out of memory allocating 64 bytes); raise config.microbatches", 1),
])
def test_one_line_says_what_happened(error, line, code, monkeypatch, capsys):
    def run(_):
        try:
            raise error
        finally:
            pass

    monkeypatch.setattr(command, "run", run)
    run.__module__ = command.__name__
    assert cli.main(["train"]) == code
    out = capsys.readouterr().err
    assert out.count("\n") == 1 and line in out


@pytest.mark.core
def test_a_bug_keeps_its_traceback(monkeypatch):
    assert failures.explain(KeyError("x")) is None
    assert failures.explain(jax.errors.JaxRuntimeError("INTERNAL: x")) is None
    cause = ValueError("wrapped")
    cause.__cause__ = OSError(errno.EDQUOT, "x", "/a")
    assert failures.explain(cause) == ("the disk quota is used up (/a)", 1)


@pytest.mark.core
def test_a_directory_in_use_is_refused(tmp_path):
    held = rundir.claim(tmp_path / "run", False)
    with pytest.raises(UserError, match=f"in use by process {os.getpid()} on "):
        rundir.lock(tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="in use by process"):
        rundir.check_free(tmp_path / "run", False)
    held.close()
    with pytest.raises(UserError, match="holds another run"):
        rundir.check_free(tmp_path / "run", False)
    rundir.lock(tmp_path / "run").close()


@pytest.mark.core
def test_a_kill_releases_the_lock(tmp_path):
    code = ("import sys, pathlib; from jitune import rundir; held = rundir.claim(pathlib.Path(sys.argv[1]), False)\n"
            "print('held', flush=True); sys.stdin.read()")
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"in use by process {child.pid} on "):
        rundir.lock(tmp_path)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    rundir.lock(tmp_path).close()


@pytest.mark.core
def test_a_file_system_without_locks_has_none(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOSYS, "x")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    rundir.lock(tmp_path).close()


@pytest.mark.parametrize("victim", ["jitune.runlog.JsonLines.write",
                                    "tensorboardX.event_file_writer.EventsWriter.write_event"])
def test_a_full_disk_leaves_a_run_that_resumes(toy_config, monkeypatch, victim):
    toy_config.update_from_flattened_dict(
        {"steps": 4, "checkpoint_every": 2, "sample_every": 3, "sample_tokens": 2, "loggers": "tensorboard"})
    with monkeypatch.context() as patch:
        patch.setattr(victim, full)
        with pytest.raises(OSError) as error:
            train(toy_config)
    assert failures.explain(error.value)[1] == 1
    del error
    directory = train(toy_config, resume=True)
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4] and (directory / "final").is_dir()


def test_a_limit_of_file_size_is_one_line(toy_config, tmp_path):
    """The limit stands for a disk that fills up: checkpoints, written by threads of C++, do not fit."""
    words = [f"--config.{name}={value}" for name, value in {
        "model.path": toy_config.model.path, "data.train": toy_config.data.train, "output_dir": tmp_path / "run",
        "seq_len": 32, "batch_size": 4, "steps": 3, "checkpoint_every": 2}.items()]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    script = "trap '' XFSZ; ulimit -f 100; exec \"$@\""
    out = subprocess.run(["bash", "-c", script, "limited", sys.executable, "-m", "jitune", "train", *words], cwd=ROOT,
                         env=environment, text=True, capture_output=True, timeout=300)
    assert out.returncode == 1 and out.stderr.splitlines()[-1].startswith("jitune: a file would be larger"), out.stderr
    assert "Traceback" not in out.stderr and "Exception" not in out.stderr
    assert not any(name.isdigit() for name in os.listdir(tmp_path / "run" / "checkpoints"))


@pytest.mark.core
def test_a_closed_pipe_and_missing_streams_are_quiet(tmp_path):
    code = "from jitune.cli import main; import sys; sys.exit(main(['--help']))"
    for redirect in ("<&-", ">&-", "2>&-"):
        out = subprocess.run(["bash", "-c", f"'{sys.executable}' -c \"{code}\" {redirect}"], cwd=ROOT,
                             capture_output=True, text=True)
        assert out.returncode == 0 and not out.stderr, out.stderr
