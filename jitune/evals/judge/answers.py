"""Answers of two models to the same questions, brought together.

    a, b = read_answers("tuned.jsonl"), read_answers("base.jsonl")
    pairs, left = match(a, b)        # [Pair(id, question, reference, a's text, b's text), ...], how many had no partner

A file is JSON lines of {"prompt", "instruction" or "messages", "text" or "output"}, with "id", "input" and "reference"
where there are some, or the samples of a generation task that `jitune eval` wrote; of its folder the task's are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jitune.evals import results
from jitune.evals.rows import read
from jitune.types import UserError

QUESTIONS = ("prompt", "instruction", "question")
TEXTS = ("text", "output", "answer", "response", "completion")


class Answer(NamedTuple):
    """document: the hash of what was asked, where a task's samples say it."""

    id: str
    question: str
    text: str
    reference: str = ""
    document: str = ""
    cluster: str = ""
    where: str = ""


class Pair(NamedTuple):
    """Two answers to one question."""

    id: str
    question: str
    reference: str
    a: str
    b: str
    cluster: str = ""


def read_answers(path: str | Path, *, task: str = "open_ended") -> list[Answer]:
    """The answers of a file, or of the task in a folder of `jitune eval`.

    Raises:
      UserError: for a row without a question or an answer, and two answers to one question.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        sample = results.sample_file(path, task)
        if not sample.is_file():
            there = ", ".join(sorted(p.stem for p in sample.parent.glob("*.jsonl"))) or "no samples"
            judged = "; that task needs a judge, jitune eval --judge" if task == "open_ended" else ""
            raise UserError(f"{path}: has no samples of {task!r}; there are {there}; give a file, or --task{judged}")
        path = sample
    answers = [_from_samples(row, where) if "responses" in row else _from_row(row, where)
               for row, where in read([str(path)])]
    if not answers:
        raise UserError(f"{path}: is empty")
    seen: dict[str, str] = {}
    for answer in answers:
        first = seen.setdefault(answer.id or answer.question, answer.where)
        if first != answer.where:
            raise UserError(f"{answer.where}: answers {answer.id or answer.question!r:.60} again, after {first}")
    return answers


def match(a: Sequence[Answer], b: Sequence[Answer]) -> tuple[list[Pair], dict[str, int]]:
    """Pairs in the order of a, and how many of each side have no partner: {"only_a", "only_b"}.

    By id where every answer has one, otherwise by question.

    Raises:
      UserError: where nothing is in common, or one id stands for two questions.
    """
    by_id = all(x.id for x in (*a, *b))
    others = {x.id if by_id else x.question: x for x in b}
    pairs = []
    for x in a:
        y = others.pop(x.id if by_id else x.question, None)
        if y is None:
            continue
        same = x.document == y.document if x.document and y.document else x.question == y.question
        if not same:
            raise UserError(f"{x.where}: {x.id} is another question than in {y.where}: {x.question!r:.60} and "
                            f"{y.question!r:.60}")
        pairs.append(Pair(x.id or x.question, x.question, x.reference or y.reference, x.text, y.text, x.cluster))
    if not pairs:
        what = "id" if by_id else "question"
        raise UserError(f"{a[0].where} and {b[0].where}: have no {what} in common")
    return pairs, {"only_a": len(a) - len(pairs), "only_b": len(b) - len(pairs)}


def _from_row(row: dict, where: str) -> Answer:
    if isinstance(row.get("messages"), list):  # what `jitune generate` answered: the question is the user's last word
        turns = [m.get("content") for m in row["messages"] if isinstance(m, dict) and m.get("role") == "user"]
        row = {"prompt": turns[-1] if turns else None, **row}
    question, text = (_first(row, names, where) for names in (QUESTIONS, TEXTS))
    if row.get("input"):
        question += f"\n\n{row['input']}"
    reference = row.get("reference")
    name = "" if row.get("id") is None else str(row["id"])
    return Answer(name, question, text, reference if isinstance(reference, str) else "", where=where)


def _from_samples(row: dict, where: str) -> Answer:
    """The details say the question as it was put, the prompt how the model saw it, with its chat template."""
    response = row["responses"][0] if isinstance(row["responses"], list) and row["responses"] else {}
    if not isinstance(response, dict) or not isinstance(response.get("text"), str):
        raise UserError(f"{where}: the task generates no text, so there are no answers to compare")
    details = row.get("details") or {}
    question = details.get("question") or _first(row, ("prompt",), where)
    return Answer(str(row["id"]), question, response["text"], details.get("reference") or "",
                  str(row.get("document", "")), str(row.get("cluster", "")), where)


def _first(row: dict, names: Sequence[str], where: str) -> str:
    for name in names:
        if isinstance(row.get(name), str):
            return row[name]
    raise UserError(f"{where}: has none of {', '.join(names)} as text; it has {', '.join(map(str, row))}")
