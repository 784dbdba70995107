"""`jitune serve` as it is started and ended by people and by process managers."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from tests.conftest import ROOT, run_cli


@pytest.fixture
def start(toy_model):
    """Starts the command and waits until it serves: (process, its lines, its URL)."""
    running = []

    def started(*arguments, **environment):
        process = subprocess.Popen(
            # Ctrl-C is ignored, as in a shell's background.
            ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "jitune", "serve", str(toy_model),
             "--port", "0", "--context", "384", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **environment},
        )  # fmt: skip
        running.append(process)
        lines = []
        while not lines or "serving at" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()
        return process, lines, re.search(r"http://\S+/v1", lines[-1])[0]

    yield started
    for process in running:
        process.kill()
        process.communicate()


def test_from_start_to_end(start, toy_model):
    process, lines, url = start("--grace", "60", "--name", "toy", "--mesh.fsdp", "1", "--api_key_env", "MY_KEY",
                                MY_KEY="sk-4711")
    assert max(map(len, lines)) <= 81 and "sk-4711" not in "".join(lines)
    assert lines[0].startswith("model    toy (qwen3, float32)") and "context 384 tokens" in lines[1]
    assert httpx.get(f"{url}/models").status_code == 401
    headers = {"Authorization": "Bearer sk-4711"}
    assert httpx.get(f"{url}/models", headers=headers).json()["data"][0]["id"] == "toy"
    ids = [str(i) for i in (0, 1, 2)]
    body = {"model": "toy", "prompt": "The boat", "max_tokens": 360, "logit_bias": dict.fromkeys(ids, -100)}
    found = []
    running = threading.Thread(target=lambda: found.append(
        httpx.post(f"{url}/completions", json=body, headers=headers, timeout=60)))
    running.start()
    while not httpx.get(url.replace("/v1", "/health")).json()["running"]:
        pass
    process.send_signal(signal.SIGINT)
    running.join()
    assert found[0].status_code == 200 and found[0].json()["usage"]["completion_tokens"] == 360
    assert process.wait(timeout=30) == 0
    assert process.stderr.read() == ""
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/models")


def test_what_cannot_be_served_is_said_in_one_line(toy_model, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_cli("serve", toy_model, "--port", port)
    assert done.returncode == 2 and done.stderr.startswith(f"jitune: --port {port}: is in use")


@pytest.mark.parametrize("arguments, words", [
    (["--rows", "0"], "--rows 0: must be 1 to 1024"), (["--timeout", "nan"], "--timeout nan: must be above 0"),
    (["--api_key_env", "NOT_THERE_4711"], "--api_key_env NOT_THERE_4711: holds no key"),
    (["--api_key_env", "sk-abc"], "the variable's name is needed"),
    (["--api_key_file", "/nowhere/key"], "--api_key_file /nowhere/key: cannot be read"),
    (["--context", "100000", "--port", "0"], "--context 100000: the model's context is"),
    (["--adapter", "a=/nowhere", "--port", "0"], "/nowhere"),
])  # fmt: skip
def test_options_that_cannot_be(arguments, words, toy_model, capsys):
    from jitune import cli

    assert cli.main(["serve", str(toy_model), "--mesh.fsdp", "1", "--mesh.data", "8", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and "sk-abc" not in error
