"""`jitune data convert`: any data to records; what cannot be used is listed, and a kill loses nothing."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from jitune import cli
from jitune.construct import convert as module
from jitune.construct.convert import convert
from jitune.construct.ledger import Ledger
from jitune.construct.record_files import read
from jitune.data.pipeline import load_examples
from jitune.data.record import answer, prompt
from jitune.types import UserError
from tests.conftest import ROOT

GOOD = [{"instruction": f"Add {n} and 1.", "input": "", "output": f"{n + 1}"} for n in range(6)]


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name, lines):
    with open(name, "w") as file:
        file.writelines((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    return name


def messy() -> str:
    return write("a.jsonl", [GOOD[0], "{", GOOD[1], '{"instruction": "\\ud83d", "output": "x"}', "[]", GOOD[0],
                             {"instruction": 5, "output": "x"}, {"what": 1}, GOOD[2]])  # fmt: skip


@pytest.mark.parametrize("out", ["out.jsonl", "out.parquet"])
def test_records_and_what_is_none(out, capsys):
    assert cli.main(["data", "convert", messy(), "--out", out, "--bad", "skip", "--license", "MIT",
                     "--method", "annotation"]) == 0
    kept = list(read(out))
    assert [(prompt(r), answer(r)) for r in kept] == [(f"Add {n} and 1.", f"{n + 1}") for n in range(3)]
    assert [r.provenance.source for r in kept] == ["a.jsonl:1", "a.jsonl:3", "a.jsonl:9"]
    assert {(r.provenance.license, r.provenance.method) for r in kept} == {("MIT", "annotation")}
    assert list(load_examples(out))[2].messages == kept[2].messages
    listed = [json.loads(line) for line in open(f"{out}.bad")]
    assert [one["row"] for one in listed] == [2, 4, 5, 6, 7, 8] and {one["file"] for one in listed} == {"a.jsonl"}
    assert [one["reason"] for one in listed][:4] == ["json", "surrogate", "object", "repeat"]
    assert listed[0]["raw"] == "{" and "not valid JSON" in listed[0]["detail"]
    assert listed[3]["detail"] == f"says the same as an earlier record; both are '{kept[0].id}'"
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{out}: 3 records\n{out}.bad: 6 rows left out: ") and "json 1" in printed.out
    assert printed.err.startswith("convert: ")
    assert cli.main(["data", "convert", "a.jsonl", "--out", out, "--bad", "skip", "--license", "MIT",
                     "--method", "annotation"]) == 0
    assert f"{out}: 3 records from an earlier run" in capsys.readouterr().out
    assert sorted(os.listdir()) == [f".{out}.ledger", "a.jsonl", out, f"{out}.bad"]


def test_what_repeats_a_record_is_listed_and_another_one_of_its_id_is_an_error():
    done = convert([write("a.jsonl", [GOOD[0], GOOD[1], GOOD[0]])], "a.out.jsonl")
    assert (done.kept, done.rejected) == (2, {"repeat": 1})
    rows = [json.loads(line) for line in open("a.out.jsonl")]
    write("b.jsonl", [rows[0], rows[1] | {"id": rows[0]["id"]}])
    with pytest.raises(UserError, match=rf"b.jsonl:2: the id '{rows[0]['id']}' is that of an earlier record; --bad"):
        convert(["b.jsonl"], "b.out.jsonl")
    assert convert(["b.jsonl"], "b.out.jsonl", bad="skip").rejected == {"duplicate_id": 1}


@pytest.mark.parametrize(("row", "message"), [
    ("{", "a.jsonl:2: not valid JSON: column 2"), ({"what": 1}, "a.jsonl:2: no known format"),
])  # fmt: skip
def test_by_default_the_first_bad_row_is_an_error_and_the_rows_before_it_are_kept(row, message, capsys):
    write("a.jsonl", [GOOD[0], row, GOOD[1]])
    assert cli.main(["data", "convert", "a.jsonl", "--out", "out.jsonl"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"jitune: {message}") and error.endswith("; --bad skip leaves such rows out and lists them")
    assert not os.path.exists("out.jsonl")
    assert len(list(open(".out.jsonl.part"))) == 1
    assert sorted(os.listdir()) == [".out.jsonl.ledger", ".out.jsonl.part", "a.jsonl"]
    assert convert(["a.jsonl"], "out.jsonl", bad="skip").kept == 2


def test_what_is_there_is_not_overwritten(capsys):
    write("a.jsonl", GOOD)
    os.mkdir("d")
    for arguments, message in [
        (("a.jsonl", "--out", "out.csv"), "out.csv: records are written to a file that ends in .jsonl or .parquet"),
        (("a.jsonl", "--out", "a.jsonl"), "a.jsonl: is one of the files that are read; give another name"),
        ((".", "--out", "d/x.jsonl"), "d/x.jsonl: lies in the folder . that is read; give another place"),
        (("a.jsonl",), "data convert: name the files to read, and the file to write with --out"),
        (("b.jsonl", "--out", "x.jsonl"), "b.jsonl: no such file"),
    ]:
        assert cli.main(["data", "convert", *arguments]) == 2
        assert f"jitune: {message}" in capsys.readouterr().err
    write("out.jsonl", ["mine"])
    with pytest.raises(UserError, match="out.jsonl: is there already; give another name, move it away, or begin anew"):
        convert(["a.jsonl"], "out.jsonl")
    assert open("out.jsonl").read() == "mine\n"
    assert convert(["a.jsonl"], "out.jsonl", restart=True).kept == 6
    with pytest.raises(UserError, match=r"already and was made with other options \(license '' there, 'MIT' here"):
        convert(["a.jsonl"], "out.jsonl", license="MIT")
    write("b.jsonl", GOOD[:2])
    with pytest.raises(UserError, match="is there already and was made of other input; give another name"):
        convert(["b.jsonl"], "out.jsonl")
    with pytest.raises(UserError, match="was made of other input, and with method '' there, 'annotation' here; give"):
        convert(["b.jsonl"], "out.jsonl", method="annotation")
    write("a.jsonl", [*GOOD, "{"])
    with pytest.raises(UserError, match="a.jsonl:7: not valid JSON"):
        convert(["a.jsonl"], "new.jsonl")
    write("a.jsonl", GOOD[:5])
    with pytest.raises(UserError, match="new.jsonl: was begun of other input; give another name, or begin anew"):
        convert(["a.jsonl"], "new.jsonl")
    assert convert(["a.jsonl"], "new.jsonl", restart=True).kept == 5


def test_a_run_that_fails_before_its_first_row_leaves_nothing_that_stands_in_the_way(capsys):
    write("a.jsonl", [{"question": "q", "answer": "a"}])
    assert cli.main(["data", "convert", "a.jsonl", "--out", "new/out.jsonl"]) == 2
    assert "a.jsonl:1: no known format" in capsys.readouterr().err and os.listdir("new") == []
    assert convert(["a.jsonl"], "new/out.jsonl", fields="instruction=question,output=answer").kept == 1
    with open("two.jsonl", "w") as file:
        file.write('{"id": "x", "provenance": {}, "text": "a"}\n{"id": "x", "provenance": {}, "text": "b"}\n')
    with pytest.raises(UserError, match="two.jsonl:2: the id 'x' is that of an earlier record"):
        convert(["two.jsonl"], "out.jsonl")
    with pytest.raises(UserError, match="options='make' is not a list such as name=value"):
        convert(["two.jsonl"], "out.jsonl", options="make")


def test_what_another_process_is_writing_is_left_alone():
    write("a.jsonl", GOOD)
    with Ledger(".", (".out.jsonl.part", "out.jsonl.bad"), {"other": 1}, name=".out.jsonl.ledger"):
        for restart in (False, True):
            with pytest.raises(UserError):
                convert(["a.jsonl"], "out.jsonl", restart=restart)
            assert sorted(os.listdir()) == [".out.jsonl.ledger", ".out.jsonl.part", "a.jsonl", "out.jsonl.bad"]


def test_what_a_reader_leaves_out_on_purpose_is_listed_and_no_error():
    pair = {"instruction": "2+2?", "output_1": "4", "output_2": "5", "label": 1}
    write("a.json", [json.dumps([pair, {**pair, "instruction": "tie?", "output_2": "4"}])])
    done = convert(["a.json"], "out.jsonl")
    (listed,) = [json.loads(line) for line in open("out.jsonl.bad")]
    assert done.kept == 1 and done.rejected == {listed["reason"]: 1} and listed["row"] == 2 and not done.notes


def test_nothing_kept_is_an_error():
    write("a.jsonl", ["{"])
    with pytest.raises(UserError, match="out.jsonl: no row became a record; out.jsonl.bad says why"):
        convert(["a.jsonl"], "out.jsonl", bad="skip")


RUN = """
import sys
from jitune.construct import convert
convert.EVERY = 0.0
convert.convert(["a.jsonl"], sys.argv[1], bad="skip")
"""


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_run_that_was_killed_goes_on_and_writes_the_same_bytes(kind, monkeypatch):
    rows = [{"instruction": f"Say {n}.", "output": "word " * 20} for n in range(4_000)]
    rows[100:100] = ["{"] * 3
    rows[3_500:3_500] = [rows[5], "[]"]
    write("a.jsonl", rows)
    whole = convert(["a.jsonl"], f"whole.{kind}", bad="skip")
    child = subprocess.Popen([sys.executable, "-c", RUN, f"out.{kind}"], env={**os.environ, "PYTHONPATH": str(ROOT)})
    ledger, limit = f".out.{kind}.ledger", time.monotonic() + 60
    while not (os.path.exists(ledger) and open(ledger).read().count("\n") > 3):
        assert child.poll() is None and time.monotonic() < limit
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not os.path.exists(f"out.{kind}")
    done = json.loads([line for line in open(ledger) if line.endswith("\n")][-1])["done"]
    assert 0 < done < 4_005
    with open(f".out.{kind}.part", "ab") as part:
        part.write(b'{"id": "cut o')
    written = []
    monkeypatch.setattr(module.Ledger, "write", lambda self, file, data, write=module.Ledger.write: (
        written.append(file), write(self, file, data)))
    again = convert(["a.jsonl"], f"out.{kind}", bad="skip")
    assert (again.kept, again.rejected) == (whole.kept, whole.rejected) == (4_000, {
        "json": 3, "repeat": 1, "object": 1})
    assert len(written) == 4_005 - done
    for name in (kind, f"{kind}.bad"):
        assert open(f"out.{name}", "rb").read() == open(f"whole.{name}", "rb").read()


@pytest.mark.parametrize("step", ["publish", "unlink"])
def test_a_kill_between_the_last_steps_loses_nothing(step, monkeypatch):
    write("a.jsonl", GOOD)
    with monkeypatch.context() as patched:
        if step == "publish":
            patched.setattr(module, "_publish", lambda *_: 1 / 0)
        else:
            patched.setattr(module.Path, "unlink", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            convert(["a.jsonl"], "out.jsonl")
    assert convert(["a.jsonl"], "out.jsonl").kept == 6
    assert len(list(read("out.jsonl"))) == 6 and sorted(os.listdir()) == [".out.jsonl.ledger", "a.jsonl", "out.jsonl"]


def test_a_full_disk_is_one_line_and_the_run_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(module, "EVERY", 0.0)
    write("a.jsonl", [{"instruction": f"Say {n}.", "output": "x" * 100} for n in range(3_000)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        assert cli.main(["data", "convert", "a.jsonl", "--out", "out.jsonl"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capsys.readouterr().err.splitlines()[-1] == (
        "jitune: a file would be larger than is allowed here; what was written before is whole, and the same command "
        "goes on from there")
    assert json.loads(list(open(".out.jsonl.ledger"))[-1])["done"] > 0
    assert cli.main(["data", "convert", "a.jsonl", "--out", "out.jsonl"]) == 0
    assert [r.provenance.source for r in read("out.jsonl")] == [f"a.jsonl:{n}" for n in range(1, 3_001)]


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys):
    write("a.jsonl", GOOD)
    with monkeypatch.context() as patched:
        def interrupt(record):
            raise KeyboardInterrupt

        patched.setattr(module, "to_line", interrupt)
        assert cli.main(["data", "convert", "a.jsonl", "--out", "out.jsonl"]) == 130
    assert capsys.readouterr().err.endswith("jitune: interrupted; the same command goes on from here\n")
    assert cli.main(["data", "convert", "a.jsonl", "--out", "out.jsonl"]) == 0


def test_two_runs_at_once_are_refused(monkeypatch):
    write("a.jsonl", GOOD)
    caught = []

    def second(places, *_):
        with pytest.raises(UserError, match="in use by another process") as error:
            convert(["a.jsonl"], "out.jsonl")
        caught.append(error)

    monkeypatch.setattr(module, "_publish", second)
    convert(["a.jsonl"], "out.jsonl")
    assert len(caught) == 1


def test_real_preferences(shared):
    done = convert([str(shared / "data" / "preference" / "dpo_en_demo.json")], "out.parquet")
    kept = list(read("out.parquet"))
    assert done.kept + sum(done.rejected.values()) == 300 and done.kept == len(kept)
    assert set(done.rejected) == {"repeat"}
    rows = json.loads((shared / "data" / "preference" / "dpo_en_demo.json").read_text())
    texts = Counter(json.dumps([row["conversations"], row["chosen"], row["rejected"]]) for row in rows)
    assert done.kept == len(texts)  # what is left out are rows that repeat an earlier one
    assert all(record.chosen and record.rejected for record in kept)


def test_the_schema_is_printed(capsys):
    assert cli.main(["data", "convert", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["required"] == ["id", "provenance"] and "messages" in schema["properties"]
