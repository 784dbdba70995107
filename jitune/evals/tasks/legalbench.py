"""LegalBench: legal reasoning in many small tasks (Guha et al. 2023).

In: `NAME/train.tsv` and `NAME/test.tsv`, or `NAME.tsv`. A file has `answer` (or `label`, in the version of February
2023) and texts. The rows of a train.tsv beside a test.tsv are shown as examples in front of each question; without a
test.tsv they are what is asked. Columns that would give the answer away (slices, elements of the test) are not shown.

Answers are labels (exact match after normalizing, and balanced accuracy by task, averaged over tasks), amounts (right
within 10 %), or open texts (F1 of words).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from jitune.evals import rows
from jitune.evals.metrics import answers, labels, numbers, words
from jitune.evals.task import Document, Generate, Metric, Outcome, Response, Task, chat, digest
from jitune.types import UserError

SHOWN = ("statute", "contract", "policy", "claim", "description", "text", "question")
TEXT, AMOUNT = "text", "amount"
ASKED = {
    "abercrombie": "Of which kind is this mark on the Abercrombie scale of distinctiveness?",
    "consumer_contracts_qa": "Answer the question from the terms of the contract.",
    "contract_nli_survival_of_obligations": "May some obligations of the agreement survive its end under this clause?",
    "contract_qa": "Answer the question on the clause.",
    "definition_classification": "Does this sentence define a term?",
    "definition_extraction": "Which term is defined here?",
    "hearsay": "Is this evidence hearsay?",
    "insurance_policy_interpretation": "Is the claim covered by the policy? A: yes. B: no. C: it cannot be decided.",
    "international_citizenship_questions": "Answer the question on the law of citizenship.",
    "jcrew_blocker": "Is this a J.Crew blocker, a term that keeps valuable intellectual property from being moved to "
                     "unrestricted subsidiaries, or asks for the lenders' consent to that?",
    "nys_judicial_ethics": "Answer the question on the ethics of judges in the state of New York.",
    "oral_argument_question_purpose": "What is the purpose of this question of a judge in oral argument?",
    "overruling": "Does this sentence overrule an earlier decision?",
    "personal_jurisdiction": "Does the court have personal jurisdiction over the defendant?",
    "privacy_policy_qa": "Is this clause of a privacy policy relevant to the question?",
    "proa": "Does this clause of a statute give a private right of action?",
    "rule_qa": "Answer the question on law in a sentence.",
    "sara_numeric": "Answer the question on the tax under this statute with an amount in dollars.",
    "ssla_company_defendants": "Which companies are defendants in this complaint? Give their names.",
    "telemarketing_sales_rule": "Answer the question on the Telemarketing Sales Rule.",
    "ucc_v_common_law": "Which law governs this contract?",
    "unfair_tos": "Which kind of unfair term, if any, is this sentence from terms of service?",
}
OPEN = ("definition_extraction", "rule_qa", "ssla_company_defendants")


def load(specs: Sequence[str]) -> list[Document]:
    """One document a row that is asked; the tag `subset` is the task's name.

    Rows of one long text (a contract, a statute; some rows are there several times) are a cluster.
    """
    files: dict[str, dict[str, str]] = {}
    for spec in map(str, specs):
        path = Path(spec)
        split = path.name.partition(".")[0]
        name = path.parent.name if split in ("train", "test") else split
        if split in files.setdefault(name, {}):
            raise UserError(f"{spec}: the task {name} is also in {files[name][split]}")
        files[name][split] = spec
    return [document for name in files for document in _load_one(name, files[name])]


def _load_one(name: str, files: dict[str, str]) -> list[Document]:
    shots = []
    if len(files) > 1 and len(rows.text(files["train"]).splitlines()) > 1:  # some have a header and no examples
        shots = [(_shown(row, where), _answer(row, where)) for row, where in rows.read([files["train"]])]
    asked = files.get("test") or next(iter(files.values()))
    found = [(_shown(row, where), _answer(row, where)) for row, where in rows.read([asked])]
    kind, known = _kind(name, [answer for _, answer in (*shots, *found)])
    forms = {TEXT: "Give the answer alone.", AMOUNT: "Answer with the amount alone."}
    form = forms.get(kind) or f"Answer with one of: {', '.join(known)}."
    front = f"{_question(name)} {form}\n\n"
    front += "".join(f"{text}\nAnswer: {answer}\n\n" for text, answer in shots)
    return [
        Document(
            id=f"{name}-{i}", row={"text": text, "kind": kind, "labels": known}, target=answer,
            requests=(Generate(chat(f"{front}{text}\nAnswer:"), max_new_tokens=64 if kind != TEXT else 128),),
            tags={"domain": "legal", "subset": name}, cluster=digest([name, max(text.split("\n"), key=len)]),
        )
        for i, (text, answer) in enumerate(found)
    ]


def _shown(row: dict, where: str) -> str:
    names = [n for n in SHOWN if row.get(n)]
    if {"statute", "description"} <= set(names):
        names.remove("text")  # it repeats the two
    if not names:
        raise UserError(f"{where}: has none of the fields {', '.join(SHOWN)}; it has {', '.join(row)}")
    return "\n".join(f"{n.capitalize()}: {row[n].strip()}" for n in names)


def _answer(row: dict, where: str) -> str:
    return rows.need(row, "label" if "label" in row and "answer" not in row else "answer", where).strip()


def _question(name: str) -> str:
    if name in ASKED:
        return ASKED[name]
    said = re.sub(r"[_-]+", " ", re.sub(r"^(cuad|maud|contract_nli)_", "", name, flags=re.IGNORECASE)).lower()
    if name.startswith("diversity"):
        return "Is there diversity jurisdiction?"
    return f"Is this a clause on {said}?" if name.lower().startswith("cuad") else f"The task: {said}."


def _kind(name: str, found: Sequence[str]) -> tuple[str, list[str]]:
    """`text`, `amount` or `label`, and the labels."""
    if all(re.fullmatch(r"\$?[0-9][0-9,.]*", answer) for answer in found):
        return AMOUNT, []
    known = sorted(set(found))
    many = len(known) > max(2, len(found) // 2) and name not in ASKED
    return (TEXT, []) if name in OPEN or many else ("label", known)


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple) -> Outcome:
    """Exact match of a label, 1 or 0 for an amount, F1 of an open answer."""
    text, kind = responses[0].text.strip(), document.row["kind"]
    if kind == TEXT:
        found = answers.marked_text(text, to_end=True) or text
        return Outcome({"score": words.token_f1(found, [document.target])}, answer=found) if found else _nothing()
    if kind == AMOUNT:
        number = numbers.answer_number(text)
        if number is None:
            return _nothing()
        gold = numbers.last_number(document.target)
        near = abs(number - gold) <= Fraction(1, 10) * abs(gold)
        return Outcome({"score": float(near)}, answer=numbers.show_number(number))
    known = document.row["labels"]
    letters = all(len(label) == 1 for label in known)
    label = answers.choice_letter(text, known) if letters else answers.label_in(text, known)
    return Outcome({"score": float(label == document.target)}, answer=label) if label else _nothing()


def _nothing() -> Outcome:
    return Outcome({"score": None}, failure="extraction")


def balanced_accuracy(documents: Sequence[Document], outcomes: Sequence[Outcome]) -> float | None:
    """Of each task of labels, averaged over the tasks; answers that name no label are left out."""
    by_task: dict[str, list[tuple[str, str]]] = {}
    for document, outcome in zip(documents, outcomes, strict=True):
        if document.row["kind"] == "label" and outcome.answer is not None:
            by_task.setdefault(document.tags["subset"], []).append((document.target, outcome.answer))
    values = [labels.balanced_accuracy(*zip(*pairs, strict=True)) for pairs in by_task.values()]
    return sum(values) / len(values) if values else None


TASK = Task(
    "legalbench", axis="utility", title="LegalBench, legal reasoning", load=load, score=score, domain="legal",
    metrics=(Metric("balanced_accuracy", "balanced accuracy of labels, mean of tasks", corpus=balanced_accuracy),
             Metric("score", "right labels and amounts, F1 of open answers", worst=0.0)),
    files=("legalbench*/**/*.tsv",), source="Guha et al. 2023, arXiv:2308.11462",
)
