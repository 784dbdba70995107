"""BIG-Bench Hard: reasoning with short answers (Suzgun et al. 2022). In: `bbh/NAME.json`, rows of `input`, `target`.

What kind of answer a file asks for is read from its targets: letters of options, labels (yes, no, True, ...), whole
numbers, or texts. The model is asked to think and to end with "Answer:"; the answer must be the target exactly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from jitune.evals import rows
from jitune.evals.metrics import answers, numbers
from jitune.evals.task import Document, Generate, Metric, Outcome, Response, Task, chat

PROMPT = '{}\n\nThink step by step, and end with a last line "Answer: {}".'
FORMS = {"letter": "(letter)", "number": "number", "words": "the words in order", "text": "the answer"}
LABELS = 4  # so many different targets at most are labels


def load(specs: Sequence[str]) -> list[Document]:
    """One document an example; the tag `subset` is the file's name."""
    documents = []
    for spec in specs:
        subset = _subset(str(spec))
        found = [(rows.need(row, "input", where), rows.need(row, "target", where)) for row, where in rows.read([spec])]
        kind, labels = _kind([target for _, target in found], subset)
        form = " or ".join(labels) if labels else FORMS[kind]
        for i, (question, target) in enumerate(found):
            documents.append(Document(
                id=f"{subset}-{i}", row={"input": question, "kind": kind, "labels": labels}, target=target,
                requests=(Generate(chat(PROMPT.format(question, form)), max_new_tokens=512),),
                tags={"subset": subset, "domain": "general"},
            ))
    return documents


def _subset(spec: str) -> str:
    """Of "bbh/navigate.json" or of "lukaemon/bbh:navigate[test]": navigate."""
    hub = re.search(r":([\w.-]+)(?:\[|$)", spec)
    return hub[1] if hub and not Path(spec).exists() else Path(spec).name.partition(".")[0]


def _kind(targets: list[str], subset: str) -> tuple[str, list[str]]:
    """The kind of answer of a file, and its labels where it has some."""
    if all(re.fullmatch(r"\([A-Z]\)", t) for t in targets):
        return "letter", []
    if all(re.fullmatch(r"-?\d+", t) for t in targets):
        return "number", []
    if len(set(targets)) <= LABELS and all(re.fullmatch(r"[A-Za-z]+", t) for t in targets):
        return "label", sorted(set(targets))
    return ("words" if subset == "word_sorting" else "text"), []


def read_answer(text: str, row: dict, *, finished: bool = True) -> str | None:
    """The answer of a text as a target has it; None where it gives none.

    finished: False where the text was cut off; then only an answer behind "Answer:" counts.
    """
    marked = answers.marked_text(text)
    if marked is None and not finished:
        return None
    part = marked or text
    if row["kind"] == "letter":
        options = re.findall(r"^\(([A-Z])\)", row["input"], re.MULTILINE) or list("ABCDEFGHIJKLMNOPQR")
        letter = answers.choice_letter(part, options) or answers.choice_letter(text, options)
        return letter and f"({letter})"
    if row["kind"] == "label":
        return answers.label_in(part, row["labels"])
    if row["kind"] == "number":
        found = numbers.answer_number(part)
        return None if found is None else numbers.show_number(found)
    line = marked or next((x for x in reversed(text.splitlines()) if x.strip()), "")
    return " ".join(re.sub(r"[,;]\s*|\s+", " ", line).split()) if row["kind"] == "words" else line.strip() or None


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple) -> Outcome:
    """1 where the answer is the target; the case of words does not matter."""
    found = read_answer(responses[0].text, document.row, finished=responses[0].finish_reason != "length")
    if not found:
        return Outcome({"exact_match": None}, failure="extraction")
    return Outcome({"exact_match": float(found.lower() == document.target.lower())}, answer=found)


TASK = Task(
    "bbh", axis="utility", title="BIG-Bench Hard, reasoning", load=load, score=score,
    metrics=(Metric("exact_match", "answers that are the target", worst=0.0),), files=("bbh/*.json",),
    source="Suzgun et al. 2022, arXiv:2210.09261",
)
