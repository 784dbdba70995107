"""HumanEval: Python functions from their docstrings, run against tests (Chen et al. 2021).

In: `prompt` (imports, a signature, a docstring), `test`, `entry_point`. The model writes the function in a code block,
or goes on where the prompt ends. The program that the sandbox runs is the prompt, whose last function is a docstring
and nothing else so far, then the answer, then the tests:

    def double(x):
        '''Twice x.'''
    def double(x):          # the answer
        return 2 * x
    def check(candidate):   # the tests
        assert candidate(2) == 4
    check(double)
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from jitune.evals import rows
from jitune.evals.task import Document, Execute, Generate, Metric, Outcome, Response, Task, Verdict, chat
from jitune.types import UserError

PROMPT = "Complete this Python function. Answer with the whole function in one code block.\n\n```python\n{}\n```"
METRICS = (Metric("pass@1", "functions that pass all tests", worst=0.0, needs="execution"),)
STOPS = ("\nclass ", "\nif __name__", "\nprint(", "\nassert ", "\n#", "\n```")


def load(specs: Sequence[str]) -> list[Document]:
    """One document a function; its target is the canonical solution, where there is one."""
    documents, seen = [], set()
    for row, where in rows.read(specs):
        names = ("task_id", "prompt", "test", "entry_point")
        kept = {name: rows.need(row, name, where) for name in names}
        if kept["task_id"] in seen:
            raise UserError(f"{where}: task_id {kept['task_id']!r} is there twice")
        seen.add(kept["task_id"])
        documents.append(Document(
            id=kept["task_id"], row=kept, target=row.get("canonical_solution"), tags={"domain": "code"},
            requests=(Generate(chat(PROMPT.format(kept["prompt"].strip())), max_new_tokens=512),),
        ))
    return documents


def read_code(text: str, entry_point: str) -> str | None:
    """The code of an answer: the last code block that defines the function, else the last one, else the text.

    A text without a block counts where it defines the function, or begins with an indented line, which goes on where
    the prompt ended; what follows the function is cut off then. None where there is no code.
    """
    defines = re.compile(rf"^[ \t]*(?:async\s+)?def\s+{re.escape(entry_point)}\b", re.MULTILINE)
    blocks = [b for b in re.findall(r"```[^\n]*\n(.*?)(?:\n[ \t]*```|\Z)", text, re.DOTALL) if b.strip()]
    if blocks:
        return next((b for b in reversed(blocks) if defines.search(b)), blocks[-1])
    start = defines.search(text)
    if start:
        front = re.search(r"^(?:from\s|import\s|def\s)", text, re.MULTILINE)
        return _cut_prose(text[min(front.start(), start.start()) if front else start.start():])
    if not re.match(r"(?:[ \t]*\n)*[ \t]+\S", text):
        return None
    ends = [at for at in (text.find(stop) for stop in STOPS) if at > 0]
    return text[:min(ends)] if ends else text


def _cut_prose(code: str) -> str:
    """Code up to the first line at the margin that begins nothing known."""
    kept = []
    for line in code.splitlines():
        if line[:1].strip() and not re.match(r"(?:def|async|class|from|import|@|#|\)|\]|\}|[A-Z_]+\s*=)", line):
            break
        kept.append(line)
    return "\n".join(kept)


def program(row: dict, code: str) -> str:
    """What the sandbox runs: prompt, answer, tests."""
    return f"{row['prompt']}\n{code}\n\n{row['test']}\n\ncheck({row['entry_point']})\n"


def ask(document: Document, responses: tuple[Response, ...]) -> tuple[Execute, ...]:
    """The program of an answer that has code."""
    code = read_code(responses[0].text, document.row["entry_point"])
    return () if code is None else (Execute(program(document.row, code)),)


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple[Verdict, ...]) -> Outcome:
    """1 where the tests passed; `details` say what went wrong."""
    code = read_code(responses[0].text, document.row["entry_point"])
    if code is None:
        return Outcome({"pass@1": None}, failure="extraction")
    if not verdicts or verdicts[0].value is None:
        return Outcome({"pass@1": None}, answer=code, failure="execution")
    return Outcome({"pass@1": float(verdicts[0].value == "passed")}, answer=code, details={"run": verdicts[0].value})


TASK = Task(
    "humaneval", axis="utility", title="HumanEval, functions from docstrings", load=load, ask=ask, score=score,
    metrics=METRICS, files=("HumanEval.jsonl.gz", "HumanEval.jsonl"), hub=("openai/openai_humaneval[test]",),
    domain="code", source="Chen et al. 2021, arXiv:2107.03374",
)
