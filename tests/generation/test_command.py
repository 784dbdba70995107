"""jitune generate with a draft, several answers and alternatives of tokens."""

import io
import json

import pytest

from jitune.cli import main
from tests.conftest import make_toy_model

TWO = ["A boat", "The river is"]


@pytest.fixture(scope="module")
def draft(tmp_path_factory, toy_data):
    return make_toy_model(tmp_path_factory.mktemp("draft") / "llama", "llama", toy_data)


@pytest.fixture
def run(toy_model, tmp_path, capfd):
    """Runs the command on a file of two prompts: (exit code, rows of the output, stderr)."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in TWO))

    def call(*words):
        given = ["--prompts", source, "--out", out, "--max_new_tokens", 6, *words]
        code = main(["generate", "--model", *map(str, [toy_model, *given])])
        rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        out.unlink(missing_ok=True)
        return code, rows, capfd.readouterr().err

    return call


def test_a_draft_changes_no_greedy_answer(run, draft, toy_model):
    code, rows, _ = run()
    assert code == 0
    for model, share in ((draft, None), (toy_model, "100% of")):
        code, again, err = run("--draft", model, "--draft_tokens", 3)
        assert code == 0 and [r["tokens"] for r in again] == [r["tokens"] for r in rows]
        assert "draft: " in err and "tokens a forward" in err and (share is None or share in err)


def test_several_answers_and_alternatives(run, draft):
    warm = ["--n", 3, "--temperature", 1, "--seed", 4, "--top-logprobs", 2]
    code, rows, err = run(*warm)
    assert code == 0 and "6/6" in err
    assert [(r["prompt"], r["sample"]) for r in rows] == [(p, i) for p in TWO for i in range(3)]
    for row in rows:
        assert list(row) == ["prompt", "sample", "tokens", "text", "logprobs", "finish_reason", "top_logprobs"]
        assert len(row["top_logprobs"]) == len(row["tokens"]) and {len(x) for x in row["top_logprobs"]} == {2}
        assert row["top_logprobs"][0][0][1] >= row["logprobs"][0]
    code, single, _ = run(*warm[2:])
    assert "sample" not in single[0] and [r["tokens"] for r in single] == [r["tokens"] for r in rows[::3]]
    code, drafted, _ = run(*warm, "--draft", draft)
    assert code == 0 and [list(r) for r in drafted] == [list(r) for r in rows]
    assert run(*warm, "--draft", draft)[1] == drafted
    eight = ["--kv_cache", "int8"]
    plain, drafted = run(*eight)[1], run(*eight, "--draft", draft)[1]
    assert plain and [r["tokens"] for r in drafted] == [r["tokens"] for r in plain]


def test_one_prompt_and_a_chat(toy_model, draft, capfd, monkeypatch):
    words = ["generate", "--model", str(toy_model), "--max_new_tokens", "6", "--raw"]
    assert main([*words, "--prompt", "A boat"]) == 0
    text = capfd.readouterr().out
    assert main([*words, "--prompt", "A boat", "--draft", str(draft)]) == 0
    captured = capfd.readouterr()
    assert captured.out == text and "tokens a forward" in captured.err
    monkeypatch.setattr("sys.stdin", io.StringIO("A boat\n"))
    assert main([*words, "--draft", str(draft)]) == 0
    assert capfd.readouterr().out == text
    assert main([*words, "--prompt", "A boat", "--n", "2", "--temperature", "1"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "--- 1 of 2" and "--- 2 of 2" in lines


def test_what_does_not_go_together(run, toy_model, tmp_path, tmp_path_factory, toy_data, capfd):
    from jitune.hub import fresh

    other = tmp_path_factory.mktemp("other") / "small"
    fresh.create(other, family="llama", preset="tiny", tokenizer_from=str(toy_data), vocab_size=400)
    for words, message in (
        (["--n", 0], "--n 0: at least 1"),
        (["--kv_cache", "int4"], "--kv_cache='int4' is not known"),
        (["--n", 2], "--n 2 needs a --temperature above 0"),
        (["--draft", other], f"draft {other} for {toy_model}: draft and target need the same vocabulary"),
        (["--draft", toy_model, "--draft_tokens", 0], "draft_tokens=0 is not allowed; it is from 1 to 31"),
        (["--top_logprobs", 999], "top_logprobs=999 is not allowed"),
        (["--prompt", "x"], "--prompt does not go with --prompts"),
        (["--system", "x"], "--system does not go with --prompts"),
        (["--raw"], "--raw does not go with --prompts"),
        (["--draft", tmp_path / "gone"], "gone"),
    ):
        code, rows, err = run(*words)
        assert code == 2 and message in err and not rows, (words, err)
    for words, message in ((["--top_logprobs", "2", "--prompt", "x"], "--top_logprobs needs --prompts"),
                           (["--out", str(tmp_path / "o.jsonl")], "--out is for the answers to --prompts"),
                           (["--n", "2", "--temperature", "1"], "--n 2: a chat has one answer")):
        assert main(["generate", "--model", str(toy_model), *words]) == 2
        assert message in capfd.readouterr().err
    (tmp_path / "taken.jsonl").write_text('{"prompt": "x", "sample": 1}\n')
    given = ["--prompts", tmp_path / "taken.jsonl", "--out", tmp_path / "o.jsonl", "--n", 2, "--temperature", 1]
    assert main(["generate", "--model", *map(str, [toy_model, *given])]) == 2
    assert "the row has sample already" in capfd.readouterr().err
