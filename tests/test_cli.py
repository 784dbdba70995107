"""The command: what was given wrong is one line and exit code 2; nothing half-written is left."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jitune.cli import main
from jitune.hub import files
from tests.conftest import ROOT, run_cli

UNSTABLE = "{% for m in messages %}[{{ loop.index }}/{{ messages|length }}]{{ m.content }}<|im_end|>{% endfor %}"
ENDLESS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def alpaca(text="An answer."):
    return json.dumps({"instruction": "Ask.", "input": "", "output": text}) + "\n"


def truncate(path: Path):
    file = path / files.SINGLE
    file.write_bytes(file.read_bytes()[:-100])


# name: (files to write, options, what the line says). {d} is the folder of the files.
BAD_RUNS = {
    "missing file": ({}, {"data.train": "{d}/none.json"}, "none.json: no such file"),
    "broken json": ({"a.json": "[{]"}, {"data.train": "{d}/a.json"}, "a.json"),
    "broken row": ({"a.jsonl": alpaca() + "{oops\n"}, {"data.train": "{d}/a.jsonl"}, "a.jsonl:2"),
    "unknown format": (
        {"a.jsonl": alpaca() + '{"x": 1}\n'}, {"data.train": "{d}/a.jsonl"}, "a.jsonl:2: no known format"),
    "nothing trained": (
        {"a.jsonl": alpaca() + '{"messages": [{"role": "user", "content": "hi"}]}\n'},
        {"data.train": "{d}/a.jsonl"}, "a.jsonl:2"),
    "attention of another device": ({}, {"model.attention": "splash"}, "attention=splash needs a TPU"),
    "empty data": ({"a.jsonl": ""}, {"data.train": "{d}/a.jsonl"}, "a.jsonl"),
    "bad eval data": ({"a.jsonl": "[]"}, {"data.eval": "{d}/a.jsonl"}, "a.jsonl:1"),
    "unstable template": ({"t.jinja": UNSTABLE}, {"data.chat_template": "{d}/t.jinja"}, "not prefix-stable"),
    "endless template": ({"t.jinja": ENDLESS}, {"data.chat_template": "{d}/t.jinja"}, "end of turn"),
    "broken template": ({"t.jinja": "{% for %}"}, {"data.chat_template": "{d}/t.jinja"}, "template"),
    "no template": ({}, {"data.chat_template": "{d}/none.jinja"}, "none.jinja"),
    "batch and mesh": (
        {}, {"batch_size": 6, "mesh.fsdp": 4, "mesh.data": 2}, "does not divide by the mesh: data x fsdp = 8"),
    "mesh and devices": ({}, {"mesh.fsdp": 3}, "does not multiply to the 8 devices"),
    "unknown option": ({}, {"optimizer.lr": 1}, "no option config.optimizer.lr; the nearest are"),
    "wrong type": ({}, {"seq_len": "long"}, "a value of type int is needed"),
    "no model": ({}, {"model.path": "{d}/none"}, "no such checkpoint directory"),
    "weights": ({}, {"data.weights": "0.3,0.7"}, "weights='0.3,0.7' must be 1 positive numbers"),
    "logger": ({}, {"loggers": "paper"}, "'paper' is not known"),
    "output is a file": ({"f": ""}, {"output_dir": "{d}/f"}, "is not a directory"),
    "all too long": ({"a.jsonl": alpaca("word " * 500)}, {"data.train": "{d}/a.jsonl", "data.overlong": "drop"},
                     "leaves nothing to train on"),
}


def train_words(toy_model, toy_data, out, **options):
    given = {"model.path": toy_model, "data.train": toy_data, "output_dir": out, "steps": 2, "seq_len": 64,
             "mesh.fsdp": 8, "loggers": "", **options}
    return ["train", *(f"--config.{name}={value}" for name, value in given.items())]


def refused(words, capsys) -> str:
    """Runs the command, which must print one line and return 2; returns the line."""
    assert main([str(w) for w in words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("jitune: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("name", BAD_RUNS)
def test_bad_runs(name, toy_model, toy_data, tmp_path, capsys):
    texts, options, message = BAD_RUNS[name]
    for file, text in texts.items():
        (tmp_path / file).write_text(text)
    options = {k: str(v).format(d=tmp_path) for k, v in options.items()}
    line = refused(train_words(toy_model, toy_data, options.pop("output_dir", tmp_path / "out"), **options), capsys)
    assert message in line and "Traceback" not in line
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(texts)


def test_bad_model_files(toy_model, toy_data, tmp_path, capsys):
    import shutil

    for damage, message in (
        (truncate, "truncated or corrupt"),
        (lambda p: (p / "tokenizer.json").write_text("{"), "the tokenizer does not load"),
        (lambda p: (p / "tokenizer.json").unlink(), "no tokenizer"),
        (lambda p: (p / "config.json").write_text("{"), "not readable as JSON"),
    ):
        broken = shutil.copytree(toy_model, tmp_path / "model", dirs_exist_ok=True)
        damage(broken)
        assert message in refused(train_words(broken, toy_data, tmp_path / "out"), capsys)
        assert not (tmp_path / "out").exists()
        shutil.rmtree(broken)


def test_other_commands_refuse(toy_model, tmp_path, capsys):
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "x"}\n{"text": "y"}\n')
    out = tmp_path / "out"
    for words, message in (
        (["init", "--family", "opt", "--tokenizer-from", prompts, "--out", out], "known are llama"),
        (["init", "--family", "llama", "--preset", "9b", "--tokenizer-from", prompts, "--out", out], "no preset '9b'"),
        (["init", "--family", "llama", "--tokenizer-from", tmp_path / "no.json", "--out", out], "no such file"),
        (["init", "--family", "llama", "--tokenizer-from", prompts, "--vocab-size", 9, "--out", out], "too small"),
        (["init", "--family", "llama", "--tokenizer-from", prompts, "--out", toy_model], "is not empty"),
        (["generate", "--model", toy_model, "--prompts", prompts, "--out", out], "p.jsonl:2"),
        (["generate", "--model", toy_model, "--prompts", prompts], "--prompts needs --out"),
        (["generate", "--model", toy_model, "--prompt", "x", "--top_p", "7"], "top_p"),
        (["generate", "--model", toy_model, "--prompt", "x", "--stop_ids", "a"], "--stop_ids a"),
        (["generate", "--model", tmp_path / "none", "--prompt", "x"], "no such checkpoint directory"),
        (["export", "--run", tmp_path, "--to", "hf", "--out", out], "holds no run"),
        (["data", "show", tmp_path / "none.json", "--model", toy_model], "no such file"),
        (["data", "show", prompts, "--model", toy_model], "p.jsonl:1"),
        (["train", "--config", tmp_path / "none.py"], "no such config file"),
        (["train"], "config.model.path is not set"),
    ):
        assert message in refused(words, capsys), words
        assert sorted(p.name for p in tmp_path.iterdir()) == ["p.jsonl"]


def test_unknown_arguments_and_commands(capsys):
    for words in (["generate", "--modle", "x"], ["fly"], []):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2


@pytest.mark.core
def test_the_straight_line(toy_data, tmp_path, capsys):
    """init, show, train, generate, export: each command as a user types it."""
    model, run = tmp_path / "model", tmp_path / "run"
    words = ["init", "--family", "llama", "--preset", "tiny", "--tokenizer-from", toy_data, "--vocab-size", "512",
             "--out", model]
    assert main([str(w) for w in words]) == 0
    assert main(["data", "show", str(toy_data), "--model", str(model), "--count", "1"]) == 0
    shown = capsys.readouterr().out
    assert "[[The house is red.<|im_end|>]]" in shown
    assert main(train_words(model, toy_data, run, steps=3)) == 0
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "The house", "id": 7}\n{"messages": [{"role": "user", "content": "Hi"}]}\n')
    words = ["generate", "--model", run / "final", "--prompts", prompts, "--max_new_tokens", "4", "--out",
             tmp_path / "out.jsonl"]
    assert main([str(w) for w in words]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows[0]["id"] == 7 and rows[0]["prompt"] == "The house"
    assert [len(r["tokens"]) == len(r["logprobs"]) for r in rows] == [True, True]
    assert {r["finish_reason"] for r in rows} <= {"stop", "length"}
    capsys.readouterr()
    assert main(["generate", "--model", str(run / "final"), "--prompt", "Hi", "--max_new_tokens", "4"]) == 0
    assert capsys.readouterr().out.endswith("\n")
    assert main(["export", "--run", str(run), "--to", "hf", "--out", str(tmp_path / "hf")]) == 0
    assert (tmp_path / "hf" / files.SINGLE).read_bytes() == (run / "final" / files.SINGLE).read_bytes()


def test_chat_reads_lines(toy_model):
    out = subprocess.run(
        [sys.executable, "-m", "jitune", "generate", "--model", toy_model, "--max_new_tokens", "4"],
        input="Hello\n/exit\n", capture_output=True, text=True, cwd=ROOT, timeout=300,
    )
    assert out.returncode == 0 and out.stdout.endswith("\n"), out.stderr


def fastest(words, count=5) -> float:
    def once():
        start = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True, cwd=ROOT)
        return time.perf_counter() - start

    return min(once() for _ in range(count))


def test_importing_is_quick_and_starts_no_backend():
    code = "import sys, jitune; assert 'jax' not in sys.modules"
    assert fastest(["-c", code]) < 0.5
    assert fastest(["-m", "jitune", "--help"]) < 1.0


def test_importing_everything_starts_no_backend():
    code = (
        "import jitune.train, jitune.export, jitune.cli, jitune.interactive, jitune.hub.fresh\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()\n"
        "import sys; assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_run_in_a_process_prints_no_traceback(toy_data, tmp_path):
    words = ["--family", "qwen2", "--tokenizer-from", toy_data, "--vocab-size", 400]
    out = run_cli("init", *words, "--out", tmp_path / "m")
    assert out.returncode == 0, out.stderr
    out = run_cli("train", "--config.model.path", tmp_path / "m", "--config.data.train", tmp_path / "x.jsonl",
                  "--config.output_dir", tmp_path / "run")
    assert out.returncode == 2 and out.stderr.count("\n") == 1 and "x.jsonl: no such file" in out.stderr
    assert os.listdir(tmp_path) == ["m"]


def test_what_falls_back_is_one_line_however_often_it_does():
    code = ("import warnings; from jitune import cli, types; cli.say_warnings()\n"
            "for text in ('a kernel', 'a kernel', 'another'):\n"
            "    with warnings.catch_warnings(): pass\n"
            "    warnings.warn(text, types.FallsBack)\n")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "jitune: a kernel\njitune: another\n"
