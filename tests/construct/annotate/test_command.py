"""The command: what it says in one line where it cannot begin."""

import json
import socket

import pytest

from jitune.cli import main
from jitune.construct.annotate.log import Log
from tests.construct.annotate.made import answer, desk_of, rows


@pytest.mark.parametrize(("options", "what"), [
    (["--task", "pair"], "of 6 records none can be annotated: a pair needs two answers"),
    (["--annotators", "ann,bo", "--annotator", "cy"], "'cy' is not one of the annotators: ann, bo"),
    (["--annotators", "ann,ann"], "'ann' is given twice"),
    (["--overlap", "2"], "give --annotators too"),
    (["--annotators", "ann,bo", "--overlap", "3"], "must be 1 to the number of annotators, 2"),
    (["--port", "99999"], "must be 0 to 65535"),
    (["--guidelines", "none.md"], "--guidelines none.md: cannot be read"),
    (["--export", "out.txt"], "records are written as .jsonl"),
    (["--host", "203.0.113.7", "--port", "0"], "cannot be served"),
])
def test_mistakes_are_one_line(tmp_path, capsys, options, what):
    path = rows(tmp_path / "a.jsonl")
    assert main(["data", "annotate", str(path), "--no-browser", *options]) == 2
    error = capsys.readouterr().err
    assert what in error and error.count("\n") == 1


def test_a_port_and_a_log_in_use_are_said(tmp_path, capsys):
    path = rows(tmp_path / "a.jsonl")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["data", "annotate", str(path), "--no-browser", "--port", str(port)]) == 2
    assert f"--port {port}: is in use" in capsys.readouterr().err
    with Log(f"{path}.annotations.jsonl"):
        assert main(["data", "annotate", str(path), "--no-browser", "--port", "0"]) == 2
    assert "another server writes this log" in capsys.readouterr().err


def test_malformed_rows_are_named_and_a_log_is_not_begun(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n{"instruction": "half \\ud83d", "output": "b"}\n')
    assert main(["data", "annotate", str(path), "--no-browser", "--port", "0"]) == 2
    told = capsys.readouterr().err
    assert "a.jsonl:2: " in told and "--bad skip' leaves such rows out" in told and list(tmp_path.iterdir()) == [path]


def test_options_that_a_log_contradicts_are_refused(tmp_path, capsys):
    path = rows(tmp_path / "a.jsonl")
    with desk_of(path, tasks=["rate"], annotators=("ann", "bo")) as desk:
        desk.take(answer(desk, "ann", 0, rating=2))
    header = json.loads(open(f"{path}.annotations.jsonl").readline())["annotations"]
    assert header["assignment"] == [[0, 1]] * 6 and header["annotators"] == ["ann", "bo"]
    assert main(["data", "annotate", str(path), "--no-browser", "--port", "0", "--task", "rate,flag", "--reasons",
                 "wrong,rude", "--scale", "1-3", "--annotators", "ann,cy"]) == 2
    assert ("was begun for something else (its annotators are ann, bo and these are ann, cy; it asks to rate 'rating' "
            "(1=very poor, 2=poor, 3=fair, 4=good, 5=very good), and this is to rate 'rating' (1, 2, 3) and flag "
            "'flags' (wrong, rude)); give another --log") in capsys.readouterr().err
