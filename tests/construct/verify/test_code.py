"""Code by the problem's tests, in the sandbox: HumanEval's own solutions, and programs that should not run freely."""

import gzip
import json

import pytest

from jitune.construct.verify import code
from jitune.construct.verify.guard import check_all
from jitune.construct.verify.table import open_verifier
from jitune.data.record import Record
from jitune.evals import sandbox
from jitune.types import UserError

DOUBLE = Record("d", ({"role": "user", "content": "Double it."},), meta={
    "entry_point": "double", "test": "def check(candidate):\n    assert candidate(2) == 4\n"})  # fmt: skip
LISTED = Record("l", ({"role": "user", "content": "Double it."},), meta={
    "test_setup_code": "two = 2", "test_list": ["assert double(two) == 4", "assert double(0) == 0"]})  # fmt: skip


def fenced(program: str) -> str:
    return f"Here it is:\n```python\n{program}\n```\nIt works."


def test_right_and_wrong_code():
    with open_verifier("code") as verify:
        right = fenced("def double(x):\n    return 2 * x")
        said = verify.check_all([(DOUBLE, right), (LISTED, right), (DOUBLE, fenced("def double(x):\n    return x")),
                                 (LISTED, fenced("def double(x):\n    return 4")), (DOUBLE, "    return x + x"),
                                 (DOUBLE, fenced("def double(x) return"))])  # fmt: skip
    assert [s.right for s in said] == [True, True, False, False, False, False]
    assert "IndentationError" in said[4].detail  # no prompt that it could go on with
    assert said[2].detail == said[3].detail == "AssertionError" and "SyntaxError" in said[5].detail


def test_the_prompt_may_be_gone_on_with():
    record = Record("p", meta={**DOUBLE.meta, "prompt": 'def double(x):\n    """Twice x."""\n'})
    assert code.build()(record, "    return 2 * x\n") == (True, "")


@pytest.mark.parametrize("record, text, why", [
    (DOUBLE, "I cannot.", "no code in the answer"), (LISTED, "I cannot.", "no code in the answer"),
    (Record("n"), fenced("x = 1"), "the record has no tests"),
    (Record("n", meta={"tests": [1]}), fenced("x = 1"), "the record has no tests"),
])  # fmt: skip
def test_what_cannot_be_run_is_untold(record, text, why):
    said = code.build()(record, text)
    assert said.right is None and why in said.detail


@pytest.mark.parametrize("body, why", [
    ("    while True: pass", "timed out after 1 s"),
    ("    import os\n    os.fork()\n    return 2 * x", "the sandbox refuses os.fork"),
    ("    import socket\n    socket.socket().connect(('127.0.0.1', 9))\n    return 2 * x", "refuses socket"),
    ("    open('/tmp/jitune_written', 'w')\n    return 2 * x", "the sandbox refuses open"),
    ("    import subprocess\n    subprocess.run('true')\n    return 2 * x", "the sandbox refuses subprocess"),
    ("    import os\n    os._exit(0)", "exited with status 0"), ("    raise SystemExit(0)", "SystemExit"),
    ("    return bytearray(1 << 40)", "memory"),
])  # fmt: skip
def test_programs_are_contained(body, why):
    said = code.build(seconds=1 if "while" in body else 30, memory_mb=512)(DOUBLE, fenced(f"def double(x):\n{body}"))
    assert said.right is False and why in said.detail


def test_a_sandbox_that_does_not_start_is_nobodys_fault(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no more processes")

    monkeypatch.setattr(sandbox.subprocess, "Popen", refuse)
    said = code.build()(DOUBLE, fenced("def double(x):\n    return 2 * x"))
    assert said == (None, "the sandbox did not start: no more processes")


def test_bad_options():
    with pytest.raises(UserError, match="verifier code: seconds=0"):
        open_verifier("code", seconds=0)


def test_humaneval_solutions_pass_and_broken_ones_fail(shared):
    with gzip.open(shared / "data" / "eval_utility" / "HumanEval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file][::12]
    records = [Record(row["task_id"], meta=row) for row in rows]
    whole = [fenced(row["prompt"] + row["canonical_solution"]) for row in rows]
    rest = [row["canonical_solution"] for row in rows]
    broken = [fenced(row["prompt"] + "    return None\n") for row in rows]
    with open_verifier("code") as verify:
        said = check_all(verify, [*zip(records, whole), *zip(records, rest), *zip(records, broken)])  # noqa: B905
    assert [s.right for s in said] == [True] * 28 + [False] * 14
