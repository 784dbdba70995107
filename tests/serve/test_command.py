"""`jitune serve` as it is started and ended by people and by process managers."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import jax
import pytest

from jitune import cli
from jitune.hub import peft, weights
from jitune.transforms.lora import lora
from tests.conftest import ROOT, run_cli

KEY = "sk-4711"
HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def adapter(toy_model, tmp_path_factory):
    """A folder in PEFT's layout, which changes answers."""
    base = weights.load(toy_model, dtype="float32")
    transform = lora(2, alpha=8, select="layers/attn/(q|v)_proj/")
    frozen, trainable = transform.init(jax.random.key(0), base.params)
    trainable = jax.tree.map(lambda x: x + 0.3, trainable)
    path = tmp_path_factory.mktemp("adapters") / "poems"
    peft.save(path, base, transform, trainable, frozen=frozen, base=str(toy_model))
    return path


@pytest.fixture
def started(toy_model, adapter):
    """The command, which serves: (process, its lines, its URL)."""
    process = subprocess.Popen(
        # Ctrl-C is ignored, as in a shell's background.
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "jitune", "serve", str(toy_model),
         "--name", "toy", "--adapter", str(adapter), "--port", "0", "--context", "600", "--allow_longer_context",
         "--kv_cache", "int8", "--rows", "3", "--queue", "500", "--mesh.expert", "1", "--mesh.context", "1",
         "--api_key_env", "MY_KEY", "--grace", "3"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "MY_KEY": KEY},
    )  # fmt: skip
    try:
        lines = []
        while not lines or "serving at" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()
        yield process, lines, re.search(r"http://\S+/v1", lines[-1])[0]
    finally:
        process.kill()
        process.communicate()


def ask(url, model="toy", new=580, **more):
    """A reply with all tokens that it may have."""
    body = {"model": model, "prompt": "The boat", "max_tokens": new, "temperature": 0, **more}
    body["logit_bias"] = dict.fromkeys(map(str, range(3)), -100)
    return httpx.post(f"{url}/completions", json=body, headers=HEADERS, timeout=60)


def health(url):
    return httpx.get(url.replace("/v1", "/health")).json()


def until(holds, seconds=60):
    """Waits for what must come to hold."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to hold"


def test_from_start_to_end(started):
    """A model and its adapter answer; at Ctrl-C what can be is answered, and the rest is told that nothing comes."""
    process, lines, url = started
    assert max(map(len, lines)) <= 81 and KEY not in "".join(lines)
    assert lines[0].startswith("model    toy (qwen3, float32)") and lines[1] == "adapter  poems\n"
    assert lines[2] == "rows     3 of each model, 500 may wait; context 600 tokens\n"
    assert httpx.get(f"{url}/models").status_code == 401
    assert [m["id"] for m in httpx.get(f"{url}/models", headers=HEADERS).json()["data"]] == ["toy", "poems"]
    base, poems = (ask(url, name, 12).json() for name in ("toy", "poems"))
    assert base["choices"][0]["text"] != poems["choices"][0]["text"]
    assert base["system_fingerprint"] != poems["system_fingerprint"]
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(ask, url, new=150)
        until(lambda: first.done() or health(url)["running"])  # it may be through before it is seen
        many = [pool.submit(ask, url, n=16, stream=i % 2 == 0) for i in range(9)]
        until(lambda: health(url)["waiting"] >= 120)
        process.send_signal(signal.SIGINT)
        assert first.result().json()["usage"]["completion_tokens"] == 150
        late = [reply.result() for reply in many]
    assert {reply.status_code for reply in late} <= {200, 503} and "shutting_down" in late[-1].text
    assert process.wait(timeout=30) == 0
    assert process.stderr.read() == ""
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/models")


STUB = """
import sys
from types import SimpleNamespace
from jitune.serve.app import Options
from jitune.serve.run import bind, serve

engine = SimpleNamespace(rows=1, queue=1, running=0, waiting=0, alive=True, stop=lambda: None, close=lambda: None)
with bind("127.0.0.1", 0) as listener:
    serve(engine, {}, Options(), listener, grace=float(sys.argv[1]),
          opened=lambda: print(listener.getsockname()[1], flush=True))
"""


@pytest.mark.parametrize("grace, signals, code", [
    (0.2, [signal.SIGTERM], 0), (60, [signal.SIGINT, signal.SIGTERM], 128 + signal.SIGTERM),
])  # fmt: skip
def test_what_never_comes_to_an_end_is_cut(grace, signals, code):
    """After its time, or by a second signal."""
    process = subprocess.Popen([sys.executable, "-c", STUB, str(grace)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, cwd=ROOT)  # fmt: skip
    try:
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
            time.sleep(0.2)
            for number in signals:
                process.send_signal(number)
                time.sleep(0.2)
            assert process.wait(timeout=20) == code
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()


def test_what_cannot_be_served_is_said_in_one_line(toy_model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_cli("serve", toy_model, "--port", port)
    assert done.returncode == 2 and done.stderr.startswith(f"jitune: --port {port}: is in use")
    assert done.stderr.count("\n") == 1


def test_without_the_web_server_the_extra_is_named(toy_model, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["serve", str(toy_model)]) == 2
    error = capsys.readouterr().err
    assert error == "jitune: serve needs the library uvicorn: pip install 'jitune[serve]'\n"


@pytest.mark.parametrize("arguments, words", [
    (["--rows", "0"], "--rows 0: must be 1 to 1024"), (["--timeout", "nan"], "--timeout nan: must be above 0"),
    (["--api_key_env", "NOT_THERE_4711"], "--api_key_env NOT_THERE_4711: holds no key"),
    (["--api_key_env", "sk-abc"], "the variable's name is needed"),
    (["--api_key_file", "/nowhere/key"], "--api_key_file /nowhere/key: cannot be read"),
    (["--host", "0.0.0.0"], "--host 0.0.0.0: other machines may reach it; give a key"),
    (["--kv_cache", "int4"], "--kv_cache='int4' is not known"),
    (["--context", "100000", "--port", "0"], "--context 100000 is more than the model's context of"),
    (["--mesh.tensor", "3", "--port", "0"], "does not multiply to the 8 devices"),
    (["--adapter", "a=/nowhere", "--port", "0"], "/nowhere"),
])  # fmt: skip
def test_options_that_cannot_be(arguments, words, toy_model, capsys):
    assert cli.main(["serve", str(toy_model), "--mesh.fsdp", "1", "--mesh.data", "8", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and "sk-abc" not in error


def test_rows_are_what_the_devices_share_evenly(toy_model):
    from jitune.commands import serve

    a = cli.make_parser().parse_args(["serve", str(toy_model), "--rows", "9", "--allow_longer_context"])
    models, _ = serve.load(a)
    assert serve.whole_rows(a, models) == 16
    assert serve.context(a, models) == serve.CONTEXT and models[toy_model.name].config.max_positions == 0
