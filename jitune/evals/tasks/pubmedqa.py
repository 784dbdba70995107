"""PubMedQA: is a question on biomedical research answered yes, no or maybe by its abstract (Jin et al. 2019).

In: `ori_pqal.json`, an object by PMID of `QUESTION`, `CONTEXTS`, `final_decision`; and the test split's object of
PMID -> answer, where it is there: then only its 500 questions are asked. Rows of the hub's layout (`pubid`,
`question`, `context.contexts`, `final_decision`) work as well. This is the setting that requires reasoning: the
abstract is shown without its conclusion. The answer is the likeliest of three continuations.

    Abstract: ...
    Question: Do mitochondria play a role in remodelling lace plant leaves?
    Answer: yes
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from jitune.evals import rows
from jitune.evals.metrics import answers, labels
from jitune.evals.task import Document, Metric, Outcome, Response, Score, Task
from jitune.types import UserError

CHOICES = ("yes", "no", "maybe")


def load(specs: Sequence[str]) -> list[Document]:
    """One document a question, in the order of the file; those of the test split where that is given."""
    found, test = {}, {}
    for spec in map(str, specs):
        for pmid, entry, where in _entries(spec):
            if isinstance(entry, str):
                test[pmid] = (entry, where)
            elif pmid in found:
                raise UserError(f"{where}: the question {pmid} is there twice")
            else:
                found[pmid] = _document(pmid, entry, where)
    for pmid, (gold, where) in test.items():
        if found and (pmid not in found or found[pmid].target != gold):
            what = f"{found[pmid].target!r}" if pmid in found else "not there"
            raise UserError(f"{where}: says {gold!r}; the question is {what} in the other file")
    if not found:
        raise UserError(f"{', '.join(map(str, specs))}: the questions are missing; they are in ori_pqal.json")
    return [document for pmid, document in found.items() if pmid in test or not test]


def _entries(spec: str) -> Iterator[tuple[str, dict | str, str]]:
    """(PMID, question or answer, place) of a file or dataset."""
    if not spec.endswith((".json", ".json.gz")):
        for row, where in rows.read([spec]):
            context = row.get("context")
            contexts = context.get("contexts") if isinstance(context, dict) else context
            yield str(row.get("pubid")), {"QUESTION": row.get("question"), "CONTEXTS": contexts, **row}, where
        return
    try:
        value = json.loads(rows.text(spec))
    except ValueError as error:
        raise UserError(f"{spec}: not valid JSON: {error}") from error
    if not isinstance(value, dict) or not value:
        raise UserError(f"{spec}: an object by PMID is needed, as in ori_pqal.json")
    for pmid, entry in value.items():
        yield pmid, entry, f"{spec}:{pmid}"


def _document(pmid: str, entry: dict, where: str) -> Document:
    question = rows.need(entry, "QUESTION", where)
    contexts = rows.need(entry, "CONTEXTS", where, list)
    gold = rows.need(entry, "final_decision", where)
    if gold not in CHOICES:
        raise UserError(f"{where}: final_decision is {gold!r}; it must be one of {', '.join(CHOICES)}")
    prompt = "Abstract: {}\nQuestion: {}\nAnswer:".format("\n".join(contexts), question)
    return Document(
        id=pmid, row={"question": question, "contexts": contexts}, target=gold,
        requests=tuple(Score(prompt, f" {choice}") for choice in CHOICES), tags={"domain": "healthcare"},
    )


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple) -> Outcome:
    """1 where the likeliest word is the target; 1/k where k tie, and then there is no answer."""
    choice = answers.pick(responses, CHOICES, CHOICES.index(document.target), where=f"pubmedqa {document.id}")
    picked = choice.picked["acc"]
    return Outcome({"accuracy": choice.scores["acc"]}, answer=None if picked is None else CHOICES[picked])


def macro_f1(documents: Sequence[Document], outcomes: Sequence[Outcome]) -> float | None:
    """Over the three labels, of the questions that have an answer; None where none has."""
    pairs = [(d.target, o.answer) for d, o in zip(documents, outcomes, strict=True) if o.answer is not None]
    return labels.macro_f1(*zip(*pairs, strict=True), labels=CHOICES) if pairs else None


TASK = Task(
    "pubmedqa", axis="utility", title="PubMedQA, biomedical abstracts", load=load, score=score, domain="healthcare",
    metrics=(Metric("accuracy", "questions answered as by the experts", chance=1 / 3),
             Metric("macro_f1", "mean F1 of yes, no and maybe", corpus=macro_f1)),
    files=("pubmedqa_ori_pqal.json", "pubmedqa_test_ground_truth.json",
           "pubmedqa*/**/ori_pqal.json", "pubmedqa*/**/test_ground_truth.json"),
    hub=("qiaojin/PubMedQA:pqa_labeled",), source="Jin et al. 2019, arXiv:1909.06146",
)
