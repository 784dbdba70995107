"""GSM8K: school maths, worked out step by step (Cobbe et al. 2021). In: `question` and `answer` ("... #### 18").

The answer is the number behind "####", or behind a marker such as "the answer is", else the last one of the text. A
text that was cut off before a marked number has no answer: its last number is any number.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from jitune.evals import rows
from jitune.evals.metrics import numbers
from jitune.evals.task import Document, Generate, Generated, Metric, Outcome, Response, Task, chat
from jitune.types import UserError

PROMPT = 'Solve this problem step by step. End with a last line "#### n", n being the answer as a number.\n\n{}'
METRICS = (Metric("accuracy", "problems whose final number is right", worst=0.0),)


def load(specs: Sequence[str]) -> list[Document]:
    """One document a problem."""
    documents = []
    for row, where in rows.read(specs):
        question = rows.need(row, "question", where)
        gold = numbers.marked_number(rows.need(row, "answer", where), markers=("####", r"^A:|\nA:"))
        if gold is None:
            raise UserError(f"{where}: answer has no number behind '####': {row['answer'][-40:]!r}")
        documents.append(Document(
            id=str(len(documents)), row={"question": question}, target=numbers.show_number(gold),
            requests=(Generate(chat(PROMPT.format(question)), max_new_tokens=512),), tags={"domain": "math"},
        ))
    return documents


def read_answer(response: Generated, *, language: str = "en") -> Fraction | None:
    """The final number of a worked solution; None where there is none, or it was cut off before a marked one."""
    marked = numbers.marked_number(response.text, language=language)
    if marked is None and response.finish_reason != "length":
        return numbers.last_number(response.text, language=language)
    return marked


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple) -> Outcome:
    """1 where the number is the target's."""
    found = read_answer(responses[0], language=document.tags.get("language", "en"))
    if found is None:
        return Outcome({"accuracy": None}, failure="extraction")
    right = found == numbers.last_number(document.target)
    return Outcome({"accuracy": float(right)}, answer=numbers.show_number(found))


TASK = Task(
    "gsm8k", axis="utility", title="GSM8K, school maths", load=load, score=score, metrics=METRICS, domain="math",
    files=("gsm8k_test.jsonl",), hub=("openai/gsm8k:main[test]",), source="Cobbe et al. 2021, arXiv:2110.14168",
)
