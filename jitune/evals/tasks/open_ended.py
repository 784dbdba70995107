"""Open instructions, graded by a judge from 1 to 10.

    {"question_id": 111, "category": "math", "turns": ["The vertices of a triangle are ...", "..."], "reference": ...}
    -> Document("mt_bench_question-111", tags={"set": "mt_bench_question", "category": "math"})

Read are MT-Bench's questions (their first turns) with its reference answers, Vicuna's, WizardLM's, AlpacaEval's, and
rows {"prompt" or "instruction", "reference", "category"} of your own. Grades follow MT-Bench's single-answer protocol
(Zheng et al. 2023, arXiv 2306.05685): with a reference where there is one for mathematics, reasoning and code. Without
a judge what is left is how long answers are and how many were cut off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jitune.evals.judge import prompts
from jitune.evals.rows import need, read
from jitune.evals.task import Ask, Document, Generate, Metric, Outcome, Response, Task, Verdict, chat, digest
from jitune.types import UserError

MAX_NEW_TOKENS = 1024
NAMES = ("prompt", "instruction", "Instruction", "question")


def load(specs: Sequence[str]) -> list[Document]:
    """Documents of the files. Rows with `choices` and no `turns` are references, joined by `question_id`.

    Raises:
      UserError: for a row without an instruction, and one id twice.
    """
    rows = list(read(specs))
    references = {row["question_id"]: _reference_answer(row, where) for row, where in rows if _is_reference(row)}
    documents, seen = [], {}
    for row, where in rows:
        if not _is_reference(row):
            document = _document(row, where, references)
            if document.id in seen:
                raise UserError(f"{where}: the id {document.id} is taken by {seen[document.id]}")
            seen[document.id] = where
            documents.append(document)
    if not documents:
        raise UserError(f"{', '.join(map(str, specs))}: no instructions in it")
    # AlpacaEval's set holds Vicuna's questions: the same question twice is not two independent items.
    counts = Counter(document.row["question"] for document in documents)
    return [replace(d, cluster=digest(d.row["question"])) if counts[d.row["question"]] > 1 else d for d in documents]


def _is_reference(row: dict) -> bool:
    return "choices" in row and "question_id" in row and "turns" not in row


def _reference_answer(row: dict, where: str) -> str:
    try:
        return row["choices"][0]["turns"][0]
    except (KeyError, IndexError, TypeError):
        raise UserError(f"{where}: choices must be a list of {{\"turns\": [text, ...]}}") from None


def _document(row: dict, where: str, references: dict[Any, str]) -> Document:
    file, _, number = where.rpartition(":")
    name = Path(file).name.split(".")[0]
    label = next((row[k] for k in ("question_id", "idx", "id") if row.get(k) is not None), number)
    reference = row.get("reference") or ""
    if "turns" in row:
        turns = need(row, "turns", where, list)
        question = turns[0]
        # MT-Bench judges only with GPT-4's answers; the notes in `reference` are hints for people.
        reference = references.get(row.get("question_id"), "") if name.startswith("mt_bench") else ""
    else:
        field = next((n for n in NAMES if n in row), NAMES[0])
        question = need(row, field, where)
        question += f"\n\n{row['input']}" if row.get("input") else ""
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"{where}: the instruction is {question!r:.40}; a text is needed")
    category = str(row.get("category") or row.get("Skill") or row.get("dataset") or "")
    # What else a row holds, another model's answer above all, is no part of the item.
    item = {"question": question, "reference": reference if isinstance(reference, str) else ""}
    tags = {"set": name} | ({"category": category} if category else {})
    return Document(f"{name}-{label}", item, (Generate(chat(question), MAX_NEW_TOKENS),), tags,
                    target=item["reference"] or None)


def ask(document: Document, responses: tuple[Response, ...]) -> tuple[Ask, ...]:
    """One question: a grade of the answer."""
    return (prompts.single(document.row["question"], responses[0].text, reference=document.row["reference"]),)


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple[Verdict, ...]) -> Outcome:
    """The grade, the answer's length in characters, and whether it was cut off."""
    answer = responses[0]
    scores = {"length": float(len(answer.text)), "cut_off": float(answer.finish_reason == "length")}
    details, failure, grade = dict(document.row), "", None
    if verdicts:
        said = verdicts[0].value
        grade = prompts.read_single(said) if said is not None else None
        failure = "" if grade is not None else "judge"
        details["judge"] = said if said is not None else verdicts[0].failure
    return Outcome({"grade": None if grade is None else float(grade), **scores}, answer.text, failure, details)


TASK = Task(
    "open_ended", axis="utility", title="Open instructions, graded by a judge", load=load, score=score, ask=ask,
    metrics=(
        Metric("grade", "the judge's grade from 1 to 10", unit="", needs="judge"),
        Metric("length", "characters of the answer", unit="", needs="judge"),
        Metric("cut_off", f"answers that did not end within {MAX_NEW_TOKENS} tokens", better="lower", needs="judge"),
    ),
    files=("mt_bench_question*.jsonl", "mt_bench_reference*.jsonl", "vicuna_bench_question*.jsonl",
           "wizardlm_testset*.jsonl", "alpaca_eval*.json", "open_ended*.jsonl"),
    source="Zheng et al. 2023, arXiv 2306.05685 (single-answer grading)",
)
