"""The sandbox: what passes, what is stopped, and that nothing is left behind."""

import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from jitune.evals import sandbox
from jitune.evals.task import Execute


@pytest.mark.parametrize("program", [
    "assert 1 + 1 == 2",
    "import math, re, random, itertools, functools, collections, heapq, hashlib, datetime, dataclasses, typing",
    "open('a.txt', 'w').write('hi')\nassert open('a.txt').read() == 'hi'",
    "import os\nos.makedirs('a/b'); os.rename('a/b', 'a/c'); os.rmdir('a/c')",
    "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int\nassert P(1) == P(1)",
    "assert __name__ == '__main__'",
    "print('x' * 10_000_000)",  # output goes nowhere, and costs nothing
])
def test_passes(program):
    assert sandbox.run(program) == "passed"


@pytest.mark.parametrize(("program", "ending"), [
    ("assert 1 == 2, 'no'", "AssertionError: no"),
    ("def f(:", "SyntaxError"),
    ("import sys\nsys.exit(0)", "SystemExit"),
    ("import os\nos._exit(0)\nassert False", "exited with status 0 before its end"),
    ("import os\nos.write(1, b'passed')\nos._exit(0)", "exited with status 0 before its end"),
    ("x = bytearray(10**10)", "out of memory"),
    ("x = []\nwhile True: x.append(bytearray(10**8))", "out of memory"),
    ("def f(): return f()\nf()", "RecursionError"),
    ("f = open('big', 'wb')\nfor _ in range(100): f.write(b'x' * 10**6)", "OSError"),
    ("import os\nwhile True: os.fork()", "PermissionError: the sandbox refuses os.fork"),
    ("import os\nos.system('ls')", "PermissionError: the sandbox refuses os.system"),
    ("import subprocess\nsubprocess.run(['ls'])", "PermissionError: the sandbox refuses subprocess.Popen"),
    ("import ctypes", "ImportError: the sandbox refuses ctypes"),
    ("import os\nos.kill(os.getppid(), 9)", "PermissionError: the sandbox refuses os.kill"),
    ("import threading as t, time\nfor _ in range(5000): t.Thread(target=time.sleep, args=(9,), daemon=True).start()",
     "RuntimeError: can't start new thread"),
    ("import resource as r\nr.setrlimit(r.RLIMIT_CPU, (9, 9))", "PermissionError: the sandbox refuses resource"),
    ("input()", "EOFError"),
])
def test_says_what_went_wrong(program, ending):
    assert sandbox.run(program, seconds=20).startswith(ending)


@pytest.mark.parametrize("program", [
    "while True: pass",
    "import time\ntime.sleep(60)",
    "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True:\n    try:\n        print('x' * 10**6)\n"
    "    except BaseException: pass",
])
def test_the_clock_ends_it(program):
    start = time.monotonic()
    assert sandbox.run(program, seconds=1) == "timed out after 1 s"
    assert time.monotonic() - start < 10


def test_nothing_outside_is_written(tmp_path):
    (tmp_path / "kept").write_text("kept")
    for line in ("open({!r} + '/new', 'w')", "os.remove({!r} + '/kept')", "shutil.rmtree({!r})",
                 "os.mkdir({!r} + '/d')", "os.rename('program.py', {!r} + '/kept')",
                 "pathlib.Path({!r} + '/new').write_text('x')",
                 "os.symlink({!r}, 'link')", "os.open({!r} + '/kept', os.O_RDWR)", "os.truncate({!r} + '/kept', 0)"):
        ending = sandbox.run(f"import os, shutil, pathlib\n{line.format(str(tmp_path))}")
        assert ending.startswith("PermissionError: the sandbox refuses"), line
    assert [p.name for p in tmp_path.iterdir()] == ["kept"] and (tmp_path / "kept").read_text() == "kept"


def test_there_is_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ending = sandbox.run(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)")
    assert ending.startswith("PermissionError: the sandbox refuses socket")


def test_the_environment_is_bare(monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "x")
    program = "import os\nassert 'SECRET_KEY' not in os.environ\nassert os.listdir() == ['program.py']"
    assert sandbox.run(program) == "passed"


def test_nothing_is_left(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mark = f"mark_{os.getpid()}"
    sandbox.run(f"open('{mark}', 'w')\nimport time\ntime.sleep(60)", seconds=0.5)
    assert not list(tmp_path.iterdir())
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(tmp_path) not in running


def test_limits_hold_without_the_hook(monkeypatch):
    """The kernel's limits are there on their own: time, memory, and under Linux the processes."""
    monkeypatch.setattr(sandbox, "DRIVER", sandbox.DRIVER.replace("sys.addaudithook(watch)", "pass"))
    assert sandbox.run("assert True") == "passed"
    bomb = f"import os, time\nfor n in range({10 * sandbox.PROCESSES}):\n    if not os.fork():\n        " \
           "time.sleep(1)\n        os._exit(0)"
    assert "BlockingIOError" in sandbox.run(bomb, seconds=10)
    if not os.getuid():  # under root it is another user
        assert "PermissionError" in sandbox.run("open('/etc/passwd', 'a')")
        assert "PermissionError" in sandbox.run(f"import os\nos.kill({os.getpid()}, 0)")
    assert Path("/etc/passwd").exists()


def test_verdicts():
    assert sandbox.verdict(Execute("assert True")).value == "passed"
    assert sandbox.verdict(Execute("assert False")).value == "AssertionError"


def test_a_sandbox_that_cannot_start_is_a_failure(monkeypatch):
    monkeypatch.setattr(sandbox.sys, "executable", "/nowhere/python")
    found = sandbox.verdict(Execute("assert True"))
    assert found.value is None and found.failure.startswith("execution: the sandbox did not start")
