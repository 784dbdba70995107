"""Multiple choice of a file of yours. In: rows of `question`, choices and `answer`, in any file that jitune reads.

    {"question": "2 + 2 = ?", "choices": ["3", "4"], "answer": 1}                    # an index from 0
    {"question": "2 + 2 = ?", "A": "3", "B": "4", "answer": "B"}                     # a letter, or the choice's text

`choices` is a list, or an object of `text` and `label` as in ARC. `passage` (or `context`) stands in front of the
question; `language`, `domain` and `group` (questions that depend on each other) are optional. Three ways of asking:

| `multiple_choice:FILE` | the likelihood of each choice's text behind "Answer:", as lm-evaluation-harness asks ARC |
| `multiple_choice:FILE@letters` | the choices are listed, the likelihood of each letter, as it asks MMLU |
| `multiple_choice:FILE@chat` | the choices are listed to the assistant, and the letter is read from its answer |
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jitune.evals import rows
from jitune.evals.metrics import answers
from jitune.evals.task import Document, Generate, Metric, Outcome, Response, Score, Task, chat
from jitune.types import UserError

WAYS = ("text", "letters", "chat")
CHAT = "{}\n\nThink about it, and end with a last line \"Answer: \" and the letter of your choice."
METRICS = {
    "text": (Metric("acc", "questions whose right choice is the likeliest text"),
             Metric("acc_norm", "the same, by log-likelihood per character"),
             Metric("acc_bytes", "the same, by log-likelihood per byte of UTF-8")),
    "letters": (Metric("acc", "questions whose right choice's letter is the likeliest"),),
    "chat": (Metric("acc", "questions answered with the right letter", worst=0.0),),
}


def make(argument: str) -> Task:
    """The task of a file, or of a dataset on the hub: FILE, FILE@letters or FILE@chat."""
    spec, at, way = argument.rpartition("@")
    spec, way = (spec, way) if at and not Path(argument).exists() else (argument, "text")
    if way not in WAYS:
        raise UserError(f"multiple_choice:{argument}: there is no way {way!r}; there are {', '.join(WAYS)}")
    name = f"multiple_choice:{Path(spec).name}" + ("" if way == "text" else f"@{way}")
    return Task(name, axis="utility", title=f"Multiple choice, {Path(spec).name}", load=partial(load, way=way),
                score=score, metrics=METRICS[way], hub=(spec,), source="lm-evaluation-harness")


def load(specs: Sequence[str], *, way: str = "text") -> list[Document]:
    """One document a row."""
    return [_document(row, str(i), way, where) for i, (row, where) in enumerate(rows.read(specs))]


def _document(row: dict, number: str, way: str, where: str) -> Document:
    question, (choices, marks) = rows.need(row, "question", where), read_choices(row, where)
    gold = read_gold(row, choices, marks, where)
    letters = string.ascii_uppercase[:len(choices)]
    passage = row.get("passage") or row.get("context")
    front = f"{passage}\n\n" if passage else ""
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True))
    if way == "text":
        requests = tuple(Score(f"{front}Question: {question}\nAnswer:", f" {choice}") for choice in choices)
    elif way == "letters":
        requests = tuple(Score(f"{front}{question}\n{listed}\nAnswer:", f" {letter}") for letter in letters)
    else:
        requests = (Generate(chat(CHAT.format(f"{front}{question}\n{listed}")), max_new_tokens=512),)
    tags = {"domain": "general"} | {k: str(row[k]) for k in ("language", "domain") if row.get(k)}
    asked = {"question": question, "choices": choices, "way": way} | ({"passage": passage} if passage else {})
    return Document(id=str(row.get("id") or number), row=asked, requests=requests, tags=tags, target=gold,
                    cluster=str(row.get("group") or ""))


def read_choices(row: dict, where: str) -> tuple[list[str], list[str]]:
    """The texts of the choices, and the marks by which `answer` may name them (A, B, ... without any of their own)."""
    given, marks = row.get("choices"), None
    if isinstance(given, dict):
        given, marks = given.get("text"), given.get("label")
    if given is None:
        given = [row[letter] for letter in string.ascii_uppercase if row.get(letter) not in (None, "")]
    if not isinstance(given, (list, tuple)) or len(given) < 2 or len(given) > len(string.ascii_uppercase):
        raise UserError(f"{where}: choices are {given!r:.60}; a list of 2 to 26, or the columns A, B, ... are needed")
    choices = [str(choice).strip() for choice in given]
    if not all(choices) or len(set(choices)) < len(choices):
        raise UserError(f"{where}: a choice is empty or there twice: {choices!r:.80}")
    marks = [str(m) for m in marks] if marks else list(string.ascii_uppercase[:len(choices)])
    if len(marks) != len(choices):
        raise UserError(f"{where}: {len(choices)} choices have {len(marks)} labels")
    return choices, marks


def read_gold(row: dict, choices: Sequence[str], marks: Sequence[str], where: str) -> int:
    """The index of the right choice: from an index, a letter or a text; what could be two of them is refused."""
    names = ("answer", "answerKey", "label", "gold", "target")
    name = next((n for n in names if row.get(n) not in (None, "")), "answer")
    given = rows.need(row, name, where, (str, int))
    if isinstance(given, bool):
        raise UserError(f"{where}: {name} is {given}; an index from 0, a letter or a choice is needed")
    if isinstance(given, int):
        meant = {given} & set(range(len(choices)))
    else:
        given = given.strip()
        meant = {i for i, (choice, mark) in enumerate(zip(choices, marks, strict=True))
                 if given == choice or given.strip("().").upper() == mark.upper()}
        if not meant and given.isdecimal():
            meant = {int(given)} & set(range(len(choices)))
    if len(meant) != 1:
        what = "could be two choices" if meant else f"is no index from 0 to {len(choices) - 1}, letter or choice"
        raise UserError(f"{where}: {name} {given!r} {what}; the choices are {list(choices)!r:.80}")
    return meant.pop()


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple) -> Outcome:
    """By likelihood (`answers.pick`), or by the letter that the answer gives."""
    choices, way = document.row["choices"], document.row["way"]
    letters = string.ascii_uppercase[:len(choices)]
    if way == "chat":
        text, cut = responses[0].text, responses[0].finish_reason == "length"
        letter = answers.choice_letter(answers.marked_text(text) or ("" if cut else text), letters)
        letter = letter or answers.choice_letter("" if cut else text, letters)
        if letter is None:
            return Outcome({"acc": None}, failure="extraction")
        return Outcome({"acc": float(letters.index(letter) == document.target)}, answer=letter)
    choice = answers.pick(responses, choices, document.target, where=f"multiple_choice {document.id}")
    names = ("acc",) if way == "letters" else ("acc", "acc_norm", "acc_bytes")
    picked = choice.picked["acc"]
    return Outcome({n: choice.scores[n] for n in names}, answer=None if picked is None else choices[picked])
