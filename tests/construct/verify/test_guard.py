"""Verifiers of one's own that raise, hang, die or return rubbish; and those of jitune by name."""

import os
import time
from pathlib import Path

import pytest

from jitune.construct.verify import table
from jitune.construct.verify.guard import Apart, check_all
from jitune.construct.verify.table import open_verifier
from jitune.construct.verify.verifier import Checked
from jitune.data.record import Record
from jitune.types import UserError

RECORD = Record("r", ({"role": "user", "content": "?"},), meta={"answer": "7"})
OWN = '''
import os, sys, time
from jitune.construct.verify.verifier import Checked

def verify(record, text, *, extra=""):
    print("what a verifier prints disturbs nothing")
    return {
        "right": lambda: Checked(text == "right", record.meta["answer"] + extra), "bool": lambda: False,
        "none": lambda: Checked(None, "who knows"), "raise": lambda: 1 + "a", "exit": lambda: sys.exit(3),
        "hang": lambda: time.sleep(600), "die": lambda: os._exit(7), "abort": os.abort, "rubbish": lambda: "yes",
        "untold": lambda: None, "odd": lambda: Checked("yes"), "pid": lambda: Checked(None, str(os.getpid())),
        "child": lambda: leave_child(), "long": lambda: Checked(True, "x" * 10**6),
    }[text]()

def leave_child():
    import subprocess
    child = subprocess.Popen(["sleep", "600"])
    open(os.environ["CHILD"], "w").write(str(child.pid))
    time.sleep(600)

class Odd(Exception):
    def __str__(self):
        raise ValueError

def odd(record, text):
    raise Odd
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_verifier.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_verifier:verify"


def test_own_verifiers_cannot_stop_a_run(own):
    texts = "right bool none raise exit rubbish untold odd hang die abort right long".split()
    with open_verifier(own, time_limit=3, workers=2, extra="!") as verify:
        done = []
        said = dict(zip(texts, verify.check_all([(RECORD, t) for t in texts], on_done=done.append), strict=True))
    assert done == list(range(1, 14))
    assert said["right"] == Checked(True, "7!") and said["bool"] == Checked(False)
    assert said["none"] == Checked(None, "who knows")
    assert said["raise"].right is None and said["raise"].detail.startswith("TypeError: unsupported operand")
    assert said["exit"] == Checked(None, "SystemExit: 3")
    assert said["hang"] == Checked(None, "no verdict within 3 s")
    assert said["die"] == Checked(None, "the verifier's process ended with status 7")
    assert said["abort"] == Checked(None, "the verifier's process was ended by SIGABRT")
    for text in ("rubbish", "untold", "odd"):
        assert said[text].right is None and said[text].detail.startswith("TypeError: the verifier returned")
    assert len(said["long"].detail) == 300


def test_processes_are_kept_and_ended(own):
    with open_verifier(own, workers=1) as verify:
        pids = {verify(RECORD, "pid").detail for _ in range(3)}
        assert len(pids) == 1 and os.path.exists(f"/proc/{pids.copy().pop()}")
    assert not os.path.exists(f"/proc/{pids.pop()}")


def test_what_a_verifier_started_ends_with_it(own, tmp_path, monkeypatch):
    monkeypatch.setenv("CHILD", str(tmp_path / "child"))
    with open_verifier(own, time_limit=1, workers=1) as verify:
        assert verify(RECORD, "child").detail == "no verdict within 1 s"
    child = Path("/proc", (tmp_path / "child").read_text(), "stat")
    for _ in range(50):
        if not child.exists() or child.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    raise AssertionError("the child is still there")


def test_an_error_that_cannot_be_shown_and_a_record_that_is_no_json(own):
    with open_verifier("own_verifier:odd") as verify:
        assert verify(RECORD, "x") == Checked(None, "Odd: an error that cannot be shown")
        assert verify(Record("r", meta={"a": {1, 2}}), "x").right is None


@pytest.mark.parametrize("name, options, why", [
    ("maths", {}, "the nearest is math; known are math, code"), ("math", {"langage": "de"}, "no option 'langage'"),
    ("no_such_module:verify", {}, "No module named"), ("own_verifier:nothing", {}, "no attribute 'nothing'"),
    ("own_verifier:OTHER", {}, "no attribute"), ("math", {"time_limit": 0}, "above 0"),
    ("__main__:verify", {}, "another __main__"), ("own_verifier:verify", {"extra": {1}}, "no JSON"),
])  # fmt: skip
def test_what_cannot_be_opened_is_told(own, name, options, why):
    with pytest.raises(UserError) as error:
        open_verifier(name, **options)
    assert why in str(error.value) and "\n" not in str(error.value)


def test_a_module_that_ends_the_process_is_told(tmp_path, monkeypatch):
    (tmp_path / "ends_process.py").write_text("import os\nos._exit(4)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="cannot be loaded: its process ended with status 4"):
        open_verifier("ends_process:verify")


def test_plain_functions_are_guarded_too():
    def fails(record, text):
        raise KeyError(text)

    assert check_all(fails, [(RECORD, "a")]) == [Checked(None, "KeyError: 'a'")]
    said = check_all(lambda record, text: text == "7", [(RECORD, "7"), (RECORD, "8")])
    assert said == [Checked(True), Checked(False)]


def test_defaults_are_a_section_of_a_config():
    found = table.defaults()
    assert found["time_limit"] == 10.0 and found["workers"] == 2
    assert found["math"] == {"language": "en", "tolerance": 0.0} and found["code"]["seconds"] == 10.0
    assert set(found) == {"time_limit", "workers", *table.VERIFIERS}
    with open_verifier("math", **found["math"]) as verify:
        assert verify.check_all([(RECORD, "7"), (RECORD, "?")]) == [Checked(True), Checked(None, "no number")]


def test_parsers_by_name(own, monkeypatch):
    assert table.open_parser("math", language="de")("1.234") == "1234"
    assert table.open_parser("math", tolerance=0.1)("7") == "7"  # an option of the verifier alone
    assert table.open_parser("builtins:ascii")("é") == "'\\xe9'"
    assert table.open_parser("json:loads")("7") == "7" and table.open_parser("json:loads")("seven") is None
    with pytest.raises(UserError, match="operator:eq: cannot read answers to be counted, which takes a text alone"):
        table.open_parser("operator:eq")
    with pytest.raises(UserError, match="'code' reads no answers"):
        table.open_parser("code")


def test_a_killed_process_is_replaced(own):
    verify = Apart(own, {}, seconds=5, workers=1)
    os.kill(int(verify(RECORD, "pid").detail), 9)
    time.sleep(0.1)
    assert verify(RECORD, "right") == Checked(None, "the verifier's process was ended by SIGKILL")
    assert verify(RECORD, "right") == Checked(True, "7")
    verify.close()
