"""XCOPA: which of two sentences is the cause or the effect of a premise, in eleven languages (Ponti et al. 2020).

In: `xcopa/test.LL.jsonl`, rows of `premise`, `choice1`, `choice2`, `question` (cause or effect), `label`, `idx`. Out:
the likelier of two continuations of one sentence:

    The item was packaged in bubble wrap because | it was fragile.      (cause)
    I emptied my pockets therefore | i retrieved a ticket stub.         (effect)

The form is lm-evaluation-harness's. Here a premise loses a full stop and never a letter (Thai has no full stop),
Chinese and Thai get no spaces, and Haitian, Quechua and Tamil have other connectives. The same 500 items are in each
language: all translations of one are a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from jitune.evals import rows
from jitune.evals.metrics import answers
from jitune.evals.task import Document, Metric, Outcome, Response, Score, Task
from jitune.types import UserError

# language -> (because, therefore)
CONNECTIVES = {
    "et": ("sest", "seetõttu"), "ht": ("paske", "donk"), "id": ("karena", "maka"), "it": ("perché", "quindi"),
    "qu": ("imaraykuchus", "chayrayku"), "sw": ("kwa sababu", "kwa hiyo"), "ta": ("ஏனெனில்", "எனவே"),
    "th": ("เพราะ", "ดังนั้น"), "tr": ("çünkü", "bu yüzden"), "vi": ("bởi vì", "vì vậy"), "zh": ("因为", "所以"),
    "en": ("because", "therefore"),
}
WITHOUT_SPACES = {"zh": "，", "th": ""}  # and what stands before the connective there
HUB = tuple(f"cambridgeltl/xcopa:{language}[test]" for language in CONNECTIVES if language != "en")


def load(specs: Sequence[str]) -> list[Document]:
    """One document a row; id `it-17` is the row of idx 17 in Italian."""
    documents = []
    for spec in map(str, specs):
        named = re.search(r"(?:\.|xcopa:|_)([a-z]{2})(?:\.jsonl(?:\.gz)?|\[.*\])$", spec)
        if not named or named[1] not in CONNECTIVES:
            raise UserError(f"{spec}: the name must be test.LANGUAGE.jsonl; the languages are {', '.join(CONNECTIVES)}")
        documents += [_document(row, named[1], where) for row, where in rows.read([spec])]
    return documents


def _document(row: dict, language: str, where: str) -> Document:
    premise, *choices = (rows.need(row, name, where) for name in ("premise", "choice1", "choice2"))
    question, label = rows.need(row, "question", where), rows.need(row, "label", where, int)
    index = rows.need(row, "idx", where, int)
    if question not in ("cause", "effect") or label not in (0, 1):
        raise UserError(f"{where}: question is {question!r} and label {label!r}; they must be cause or effect, 0 or 1")
    connective = CONNECTIVES[language][question == "effect"]
    front = premise.strip().rstrip(".。!?！？ ")
    bare = WITHOUT_SPACES.get(language)
    prompt = f"{front} {connective}" if bare is None else f"{front}{bare}{connective}"
    space = " " if bare is None else ""
    return Document(
        id=f"{language}-{index}", row={"premise": premise, "choices": choices, "question": question}, target=label,
        requests=tuple(Score(prompt, space + lower_first(c.strip(), language)) for c in choices),
        tags={"language": language, "domain": "commonsense", "question": question}, cluster=str(index),
    )


def lower_first(text: str, language: str) -> str:
    """A sentence as the second half of another one. Turkish has two letters i: I becomes ı."""
    first = {"I": "ı", "İ": "i"}.get(text[0], text[0].lower()) if language == "tr" else text[0].lower()
    return first + text[1:]


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple) -> Outcome:
    """1 where the right sentence is the likelier one, 1/2 where both are as likely."""
    choice = answers.pick(responses, document.row["choices"], document.target, where=f"xcopa {document.id}")
    picked = choice.picked["acc"]
    return Outcome({"accuracy": choice.scores["acc"]}, answer=None if picked is None else str(picked))


TASK = Task(
    "xcopa", axis="utility", title="XCOPA, causes and effects in eleven languages", load=load, score=score,
    metrics=(Metric("accuracy", "premises whose right continuation is the likelier one", chance=0.5),),
    files=("xcopa/**/test.*.jsonl",), hub=HUB, domain="commonsense", source="Ponti et al. 2020, arXiv:2005.00333",
)
