"""A process that gives the verdicts of one verifier: what `guard.Apart` starts. Not for people to run.

In, a line each: {"record": {...}, "text": "..."}. Out: {"right": true, "detail": ""}; the first line says whether the
verifier could be loaded. What the verifier prints goes to stderr. The process ends with its input, and of itself where
a verdict takes too long and nobody is there any more to end it: the kernel's alarm reaches it even in a loop in C.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from jitune.construct.verify.verifier import Checked
from jitune.data.record_rows import from_row

DETAIL = 300  # characters of a detail
GRACE = 5.0  # seconds behind the limit at which the process ends itself


def load(target: str, options: Mapping[str, Any], build: bool) -> Callable[..., Any]:
    """The function of `module:function` with its options; with `build`, what it returns for them."""
    module, _, name = target.partition(":")
    found = getattr(importlib.import_module(module), name)
    if not callable(found):
        raise TypeError(f"{target} is no function")
    return found(**options) if build else partial(found, **options)


def as_checked(said: Any) -> Checked:
    """What a verifier returned as a verdict; a bool is one. Raises TypeError for whatever is none."""
    if isinstance(said, Checked) and (said.right is None or isinstance(said.right, bool)):
        return Checked(said.right, str(said.detail)[:DETAIL])
    if isinstance(said, bool):
        return Checked(said)
    raise TypeError(f"the verifier returned {said!r:.60}, not a Checked with True, False or None")


def judge(verify: Callable[..., Any], record: Any, text: str) -> Checked:
    """The verdict, or None with the error that came instead."""
    try:
        return as_checked(verify(record, text))
    except (Exception, SystemExit) as error:
        return Checked(None, told(error))


def told(error: BaseException) -> str:
    """An error in one line, even one whose text cannot be made."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "an error that cannot be shown"
    return f"{type(error).__name__}: {text}"[:DETAIL]


def main() -> None:
    """argv: target, options as JSON, 1 where the target builds the verifier, seconds of a verdict."""
    target, options, build, seconds = sys.argv[1:5]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def say(message: Mapping[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        verify = load(target, json.loads(options), build == "1")
    except BaseException as error:
        say({"error": told(error)})
        return
    say({"error": ""})
    for line in sys.stdin:
        asked = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, float(seconds) + GRACE)
        checked = judge(lambda record, text: verify(from_row(record), text), asked["record"], asked["text"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(checked._asdict())


if __name__ == "__main__":
    main()
