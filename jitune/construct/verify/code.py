"""Code that passes the problem's tests, run in the sandbox. In: a record with tests, an answer. Out: a verdict.

    verify = build(seconds=5)
    verify(record, "```python\\ndef double(x):\\n    return 2 * x\\n```")   # Checked(True)
    verify(record, "```python\\ndef double(x):\\n    return x\\n```")       # Checked(False, "AssertionError")

Tests are in `record.meta`: as HumanEval has them, `test` with a function `check`, `entry_point` and perhaps `prompt`,
with which the answer may go on; or as MBPP has them, `test_list` or `tests`, statements, with `test_setup_code`. Code
is the answer's last block that defines the function. It never runs outside of `evals.sandbox`; what goes wrong there
is False, and a sandbox that does not start is None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jitune.construct.verify.verifier import Checked, Verifier
from jitune.data.record import Record
from jitune.evals import sandbox
from jitune.evals.tasks import humaneval
from jitune.types import UserError

NOTHING = "no code in the answer"
BLOCK = re.compile(r"```[^\n]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)


def build(*, seconds: float = 10.0, memory_mb: int = 2048) -> Verifier:
    """The verifier. seconds: of a program. memory_mb: MiB of its address space."""
    if seconds <= 0 or memory_mb < 64:
        raise UserError(f"seconds={seconds}, memory_mb={memory_mb}: seconds are above 0, and Python needs 64 MiB")

    def verify(record: Record, text: str) -> Checked:
        program = write_program(record.meta, text)
        if isinstance(program, Checked):
            return program
        try:
            said = sandbox.run(program, seconds=seconds, memory=memory_mb << 20)
        except OSError as error:
            return Checked(None, f"the sandbox did not start: {error}")
        return Checked(said == sandbox.PASSED, "" if said == sandbox.PASSED else said)

    verify.waits = True  # for processes: several run at a time
    return verify


def write_program(meta: Mapping[str, Any], text: str) -> str | Checked:
    """What the sandbox runs: the answer's code and the tests; or the verdict None where one of them lacks."""
    name = meta.get("entry_point")
    if isinstance(meta.get("test"), str) and isinstance(name, str):
        code = humaneval.read_code(text, name)
        row = {"prompt": meta.get("prompt") or "", "test": meta["test"], "entry_point": name}
        return Checked(None, NOTHING) if code is None else humaneval.program(row, code)
    tests = next((meta[key] for key in ("test_list", "tests", "test") if meta.get(key)), None)
    tests = [tests] if isinstance(tests, str) else tests
    if not isinstance(tests, (list, tuple)) or not all(isinstance(test, str) for test in tests):
        return Checked(None, "the record has no tests: meta has neither test with entry_point, nor tests")
    code = humaneval.read_code(text, name) if isinstance(name, str) else read_block(text)
    if code is None:
        return Checked(None, NOTHING)
    return "\n\n".join([str(meta.get("test_setup_code") or ""), code, *tests]) + "\n"


def read_block(text: str) -> str | None:
    """The last code block that defines something, else the last one; a text without one that begins as code does."""
    blocks = [block for block in BLOCK.findall(text) if block.strip()]
    if blocks:
        return next((b for b in reversed(blocks) if re.search(r"^(?:async\s+)?(?:def|class)\s", b, re.M)), blocks[-1])
    return text if re.match(r"\s*(?:def|class|import|from|async\s+def|@)\s*\w", text) else None
