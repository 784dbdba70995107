"""The examples for models and methods of one's own run as they are, and show what they say."""

import json
import re
import runpy
import sys

import pytest

from jitune import cli
from jitune.construct.distill import config as configs
from jitune.construct.distill.run import distill
from jitune.data.record_rows import to_line
from jitune.evals.task import Document, Generated
from jitune.generators.replay import Replay
from jitune.types import UserError
from tests.conftest import ROOT


def run(name, capsys, monkeypatch, share=0.7):
    monkeypatch.setattr(sys, "path", [*sys.path])
    runpy.run_path(str(ROOT / "scripts" / "examples" / f"{name}.py"), run_name="__main__")
    out = capsys.readouterr().out
    losses = [float(x) for x in re.findall(r"loss ([\d.]+)", out)]
    assert losses[-1] < share * losses[0], out
    return out


def test_own_linen(capsys, monkeypatch):
    out = run("own_linen", capsys, monkeypatch)
    assert float(re.search(r"after merging: (\S+)", out)[1]) < 1e-3
    assert int(re.search(r"that are right: (\d+)%", out)[1]) > 90


def test_own_nnx(capsys, monkeypatch):
    out = run("own_nnx", capsys, monkeypatch)
    assert "factors beside embedding/embedding, head/kernel, layers/0/kernel, layers/1/kernel" in out
    assert int(re.search(r"that are right, by the module itself: (\d+)%", out)[1]) > 90


def test_new_transform(capsys, monkeypatch):
    # Its decoder is fresh, and the head that stays as it was drawn knows no language.
    out = run("new_transform", capsys, monkeypatch, 0.85)
    assert "layers/attn/q_proj/kernel/d (2, 8)" in out
    assert "the merged model is the decoder again: True" in out


def test_own_task(capsys, monkeypatch, tmp_path):
    folder = ROOT / "scripts" / "examples"
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    names = runpy.run_path(str(folder / "own_task.py"))
    (tmp_path / "capitals.jsonl").write_text(
        '{"country": "Italy", "capital": "Rome", "continent": "Europe"}\n{"country": "Peru", "capital": "Lima"}\n')
    with pytest.raises(UserError, match="capitals.jsonl:2: has no field 'continent'"):
        names["load"]([str(tmp_path / "capitals.jsonl")])
    document = Document("Italy", {}, (), target="Rome")
    for text, value in ((" Rome.\n", 1.0), ("It is Rome", 0.0), ("?!", None)):
        outcome = names["score"](document, (Generated(text, "stop", 3),), ())
        assert outcome.scores == {"accuracy": value} and bool(outcome.failure) == (value is None)
    names["main"]()
    out = capsys.readouterr().out
    assert re.search(r"^  capitals +accuracy .* 6 +\d$", out, re.MULTILINE), out


def test_own_filter(capsys, monkeypatch, tmp_path):
    folder = ROOT / "scripts" / "examples"
    monkeypatch.syspath_prepend(str(folder))
    names = runpy.run_path(str(folder / "own_filter.py"))
    names["main"]()
    assert capsys.readouterr().out.splitlines() == [
        "r1: kept", "r2: exact: duplicate (same prompt and answer as r1)",
        "r3: rated: rated_low (1.50 by 2, at least 3.5)", 'r4: empty: not_available ("N/A")', "r5: kept",
        "r6: rated: not_rated (nobody answered quality)",
        "2 kept, 1 duplicate, 1 rated_low, 1 not_available, 1 not_rated"]
    # The same in a run with files, by the command of the docstring: the stage is found by name, its options too.
    (tmp_path / "rated.jsonl").write_bytes(b"".join(map(to_line, names["records"]())))
    monkeypatch.chdir(tmp_path)
    said = re.search(r"jitune (data curate .*?)\n\n", names["__doc__"], re.DOTALL)[1].replace("\\\n", " ")
    assert cli.main([*said.split(), "--config.rated.missing=keep", "--config.workers=0"]) == 0
    rejected = [json.loads(line) for line in (tmp_path / "curated" / "rejected.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["reason"], row["id"]) for row in rejected] == [
        ("exact", "duplicate", "r2"), ("rated", "rated_low", "r3"), ("empty", "not_available", "r4")]


@pytest.mark.parametrize("path", sorted((ROOT / "scripts" / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_it_says_how_it_is_run(path):
    text = path.read_text()
    assert f"\n    python scripts/examples/{path.name}\n" in text
    assert len(text.splitlines()) < 110


def test_own_method(capsys, monkeypatch, tmp_path):
    folder = ROOT / "scripts" / "examples"
    monkeypatch.syspath_prepend(str(folder))
    names = runpy.run_path(str(folder / "own_method.py"))
    names["main"]()
    assert capsys.readouterr().out.splitlines() == [
        "kept: Most can, few like to.", "kept: A thin layer of water lies on it.",
        "no_shorter: 8 characters, at most 1"]
    # The same with files: the method is found by name, its options too.
    (tmp_path / "data.jsonl").write_text("".join(
        json.dumps({"instruction": asked, "output": said}) + "\n" for asked, said in names["ROWS"]))
    monkeypatch.chdir(tmp_path)
    said = re.search(r"jitune data distill (.*?)\n\n", names["__doc__"], re.DOTALL)[1].replace("\\\n", " ")
    teacher = Replay(names["teacher"])
    out = distill(configs.from_words(None, said.split()), teacher=teacher)
    kept = [json.loads(line) for line in (out / "kept.jsonl").read_text().splitlines()]
    assert [row["messages"][-1]["content"] for row in kept] == ["Most can, few like to."]
    assert kept[0]["provenance"]["method"] == "own_method" and len(kept[0]["provenance"]["parents"]) == 1
    rejected = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert [(row["reason"], row["source"]) for row in rejected] == [("no_shorter", "data.jsonl:2"),
                                                                   ("no_shorter", "data.jsonl:3")]
    distill(configs.from_words(None, said.split()), teacher=teacher)
    assert len(teacher.asked) == 3


def test_own_verifier(capsys, monkeypatch):
    folder = ROOT / "scripts" / "examples"
    monkeypatch.syspath_prepend(str(folder))
    runpy.run_path(str(folder / "own_verifier.py"))["main"]()
    assert capsys.readouterr().out.splitlines() == [
        '{"name": "Ann", "age": 7}: True', '{"name": "Ann"}: False, a key is missing', "Ann is 7.: False, no JSON",
        '{"name": "Ann", "age": 7, "pet": "cat"}: False, more keys: pet',
        "hang: Checked(right=None, detail='no verdict within 1 s')"]
