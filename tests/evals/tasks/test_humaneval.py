"""HumanEval: every canonical solution passes, wrong ones do not, and code is found in all kinds of answers."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from jitune.evals import rows, sandbox
from jitune.evals.task import Generated, Verdict
from jitune.evals.tasks import humaneval

ROW = {"task_id": "t/0", "prompt": 'from math import pi\n\ndef twice(x):\n    """Twice x."""\n', "entry_point": "twice",
       "test": "def check(candidate):\n    assert candidate(2) == 4\n"}
WHOLE = "def twice(x):\n    return 2 * x"


def judge(document, text, reason="stop"):
    responses = (Generated(text, reason, 1),)
    verdicts = tuple(map(sandbox.verdict, humaneval.ask(document, responses)))
    return humaneval.score(document, responses, verdicts)


@pytest.fixture
def document(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps(ROW))
    return humaneval.load([str(tmp_path / "x.jsonl")])[0]


def test_all_canonical_solutions_pass(shared):
    documents = humaneval.load(rows.find(shared / "data", humaneval.TASK.files))
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda d: judge(d, d.target), documents))
    assert [o.scores["pass@1"] for o in outcomes] == [1.0] * 164


def test_whole_functions_pass_and_empty_ones_fail(shared):
    for document in humaneval.load(rows.find(shared / "data", humaneval.TASK.files))[30:40]:
        whole = f"Here it is:\n```python\n{document.row['prompt']}{document.target}\n```\nIt works."
        assert judge(document, whole).scores["pass@1"] == 1.0
        none = f"```python\ndef {document.row['entry_point']}(*args):\n    return None\n```"
        assert judge(document, none).scores["pass@1"] == 0.0


@pytest.mark.parametrize("text", [
    f"```python\n{WHOLE}\n```", f"```\n{WHOLE}\n```\nThis doubles x.", WHOLE, f"Sure!\n\n{WHOLE}\n\nThis doubles x.",
    f"```python\nprint('an example')\n```\n```python\n{WHOLE}\n```\n```bash\nls\n```",
    "    return 2 * x\n", "\n   \n    return 2 * x\n\nprint(twice(3)", "```python\n    return 2 * x\n```",
    f"```python\n{WHOLE}",  # the block was never closed
    f"import math\ndef helper(x):\n    return 2 * x\n\n{WHOLE.replace('2 * x', 'helper(x)')}",
])
def test_code_is_found(document, text):
    assert judge(document, text).scores["pass@1"] == 1.0


@pytest.mark.parametrize("text", ["", "I cannot do that.", "It is twice x."])
def test_no_code_is_no_answer(document, text):
    outcome = judge(document, text)
    assert outcome.scores == {"pass@1": None} and outcome.failure == "extraction"


def test_what_went_wrong_is_kept(document):
    outcome = judge(document, "```python\ndef twice(x):\n    return 3 * x\n```")
    assert outcome.scores == {"pass@1": 0.0} and outcome.details == {"run": "AssertionError"}


def test_without_the_sandbox_nothing_is_scored(document):
    responses = (Generated(WHOLE, "stop", 1),)
    for verdicts in ((), (Verdict(None, "execution: the sandbox did not start"),)):
        outcome = humaneval.score(document, responses, verdicts)
        assert outcome.scores == {"pass@1": None} and outcome.failure == "execution"
