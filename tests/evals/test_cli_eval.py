"""`jitune eval` as users get it wrong: one line that says what, where and what is allowed, before a model is read."""

import json

import pytest

from jitune import cli
from jitune.evals import screen
from jitune.hub import weights

GOOD = {"question": "2 + 2 =", "choices": ["4", "5"], "answer": 0}


@pytest.fixture
def complain(tmp_path, monkeypatch, capsys):
    """`(*arguments, **files) -> what is said` of an evaluation that must not get as far as the model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "load", lambda *_, **__: pytest.fail("the model was read first"))

    def run(*arguments, **files):
        for name, rows in files.items():
            text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / f"{name}.jsonl").write_text(text)
        out = () if "--out" in arguments else ("--out", "out")
        assert cli.main(["eval", "--model", str(tmp_path), *out, *arguments]) == 2
        assert not (tmp_path / "out").exists()
        said = capsys.readouterr().err
        assert said.startswith("jitune: ") and said.count("\n") == 1
        return said.removeprefix("jitune: ").rstrip("\n")

    return run


@pytest.mark.parametrize("rows, said", [
    ("", "mine.jsonl: is empty"),
    ('{"question": "a"\n', "mine.jsonl:1: not valid JSON"),
    ([GOOD, {"question": "b", "choices": ["1", "2"]}], "mine.jsonl:2: has no field 'answer'; it has question, choices"),
    ([GOOD, {**GOOD, "choices": ["4"]}], "mine.jsonl:2: choices are ['4']"),
    ([{**GOOD, "id": 1}, {**GOOD, "id": 1}], "multiple_choice:mine.jsonl: 2 documents have the id '1'"),
    ([GOOD, {**GOOD, "question": "cut \ud83d"}], "mine.jsonl:2: holds half of a surrogate pair, '\\ud83d'"),
])
def test_a_broken_file_is_found_before_the_model_is_read(complain, rows, said):
    assert complain("--tasks", "multiple_choice:mine.jsonl", mine=rows).startswith(said)


def test_languages_that_no_document_has(complain):
    rows = [{**GOOD, "question": f"{i}?", "language": language} for i, language in enumerate(("de", "ar", ""))]
    task = ("--tasks", "multiple_choice:mine.jsonl")
    assert complain(*task, "--languages", "de, en", mine=rows) == (
        "--languages en: no document has this language; there are ar, de")
    assert complain(*task, "--languages", "en", mine=rows[:2]) == (
        "multiple_choice:mine.jsonl: has no document in en, but in ar, de")
    assert complain(*task, "--languages", "en", mine=rows[2:]) == (
        "--languages en: no document has this language; there are none")


def test_places_that_are_not_what_they_should_be(complain, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    task = ("--tasks", "multiple_choice:mine.jsonl")
    assert complain(*task, "--out", "file", mine=[GOOD]) == "--out file: is a file; a folder is needed"
    assert complain(*task, "--out", "file/deep").startswith("--out file/deep: ")
    assert complain(*task, "--adapter", "empty") == "--adapter empty: is no adapter: it has no adapter_config.json"
    assert complain(*task, "--adapter", "emty").startswith("emty: no such checkpoint directory; near it: empty")


def test_tasks_that_are_not_there(complain):
    said = complain("--suite", "utility")
    assert said.startswith("there is nothing to evaluate: ifeval: no ") and "and 8 more tasks of the suite" in said
    assert complain("--tasks", "lm_eval:") == "--tasks lm_eval: names no task of the harness, as in lm_eval:hellaswag"
    assert complain("--tasks", "gsm8k:x") == "--tasks gsm8k:x: gsm8k takes nothing after a colon"


def test_prompts_that_were_cut_are_told():
    task = {"axis": "utility", "headline": "acc", "metrics": {}, "n": 9, "unscored": 0}
    results = {"tasks": {"a": {**task, "truncated": 2}, "b": {**task, "truncated": 0}}, "skipped": {}, "seconds": 1,
               "engine": {"unique": 1, "compiles": 1}}
    assert "cut on the left to fit the context: a 2 of 9" in screen.table(results)
