"""HaluEval: does the model see which answers are hallucinated?

In: `halueval_qa_*.jsonl` (knowledge, question, right_answer, hallucinated_answer) and `halueval_general.jsonl`
(user_query, chatgpt_response, hallucination: what people found). The model is asked about one answer at a time and
says yes (hallucinated) or no.

    "No, the answer is supported."  -> no      "Yes and no."  -> None: it says both, or neither

- accuracy: the paper counts what says both or neither as wrong; here it is unscored, and the paper's number is the
  stricter reading beside it. Four of five general responses are right, so always "no" has 82 % there: hence the
  balanced accuracy in front.
- pairs: a right and a hallucinated answer of one question, both told right (a model that always says the same has 0).
- auc and accuracy_ll: from log p("Yes") - log p("No") in place of the text, so that nothing can fail to be read;
  auc does not depend on how readily the model says yes.

Of QA the knowledge is shown, so that the model need not know the facts: this is the paper's second setting. Both QA
files ask the same 500 questions, and their items are one cluster each.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence

from jitune.evals import rows
from jitune.evals.metrics import detection
from jitune.evals.task import Document, Generate, Metric, Outcome, Response, Score, Task, Verdict, chat, digest
from jitune.types import UserError

YES, NO = re.compile(r"\byes\b", re.I), re.compile(r"\bno\b", re.I)
QA = (
    "Here is some knowledge, a question, and an answer to it. An answer is hallucinated if the knowledge contradicts "
    "it or does not bear it out, or if it does not answer the question.\n\n"
    "Knowledge: {knowledge}\n\nQuestion: {question}\n\nAnswer: {answer}\n\n"
    "Is the answer hallucinated? Say only Yes or No."
)
GENERAL = (
    "Here is a request and a response to it. A response is hallucinated if it holds statements that are false, that "
    "nobody could verify, or that were not asked for.\n\n"
    "Request: {question}\n\nResponse: {answer}\n\nIs the response hallucinated? Say only Yes or No."
)


def load(specs: Sequence[str]) -> list[Document]:
    """One document an answer: two a row of QA, one a row of the general part.

    Raises:
      UserError: for a missing field, or a label that is neither yes nor no; two rows that are the same.
    """
    found: dict[str, Document] = {}
    seen: set[str] = set()
    for row, where in rows.read(specs):
        if "user_query" in row:
            made = [_general(row, where)]
        else:
            made = _qa(row, where)
            # The two schemes sometimes made the same false answer: one pair, not two.
            pair = digest([d.row for d in made])
            made = [] if pair in seen else made
            seen.add(pair)
        for document in made:
            if document.id in found:
                raise UserError(f"{where}: {document.id} was there before; each row is needed once")
            found[document.id] = document
    return sorted(found.values(), key=lambda d: d.tags["part"] != "qa")  # whole pairs first, however few are taken


def _qa(row: dict, where: str) -> list[Document]:
    knowledge, question = rows.need(row, "knowledge", where), rows.need(row, "question", where)
    answers = {"no": rows.need(row, "right_answer", where), "yes": rows.need(row, "hallucinated_answer", where)}
    pair = digest([question, *answers.values()])
    return [_document(f"qa/{pair}/{'hallucinated' if label == 'yes' else 'right'}", "qa",
                      {"knowledge": knowledge, "question": question, "answer": answer, "pair": pair},
                      QA.format(knowledge=knowledge, question=question, answer=answer), label)
            for label, answer in answers.items()]


def _general(row: dict, where: str) -> Document:
    question, answer = rows.need(row, "user_query", where), rows.need(row, "chatgpt_response", where)
    label = rows.need(row, "hallucination", where).strip().lower()
    if label not in ("yes", "no"):
        raise UserError(f"{where}: hallucination is {label!r}; yes or no is needed")
    # One row of the published file has no ID.
    return _document(f"general/{digest([question, answer])}", "general", {"question": question, "answer": answer},
                     GENERAL.format(question=question, answer=answer), label)


def _document(name: str, part: str, row: dict, prompt: str, label: str) -> Document:
    asked = chat(prompt)
    return Document(name, row, (Generate(asked, max_new_tokens=16), Score(asked, "Yes"), Score(asked, "No")),
                    tags={"language": "en", "part": part, "hallucinated": label},
                    cluster=digest(row["question"]), target=label)


def said(text: str) -> str | None:
    """`yes` or `no` where a text holds one of the words and not the other, else None."""
    yes, no = bool(YES.search(text)), bool(NO.search(text))
    return None if yes == no else "yes" if yes else "no"


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple[Verdict, ...]) -> Outcome:
    """Whether the word, and the likelier word, is right.

    Raises:
      UserError: for a log-likelihood that is NaN or infinite.
    """
    text, yes, no = responses[0].text, responses[1].logprob, responses[2].logprob
    margin = yes - no
    if not math.isfinite(margin):
        raise UserError(f"halueval: document {document.id}: the log-likelihoods of Yes and No are {yes} and {no}; "
                        "the model gives no finite numbers")
    answer, truth = said(text), document.target
    by_likelihood = 0.5 if margin == 0 else float((margin > 0) == (truth == "yes"))
    scores = {"accuracy": None if answer is None else float(answer == truth), "accuracy_ll": by_likelihood,
              "auc": margin}
    return Outcome(scores, answer=answer, failure="" if answer else "extraction")


def balanced(documents: Sequence[Document], outcomes: Sequence[Outcome]) -> float | None:
    """Balanced accuracy of what was said, over the answers that could be read."""
    read = [(d.target == "yes", o.answer == "yes") for d, o in zip(documents, outcomes, strict=True) if o.answer]
    return detection.balanced_accuracy([t for t, _ in read], [s for _, s in read]) if read else None


def pairs(documents: Sequence[Document], outcomes: Sequence[Outcome]) -> float | None:
    """The share of pairs whose answers are both told right, of those with both answers read."""
    found = defaultdict(list)
    for document, outcome in zip(documents, outcomes, strict=True):
        if "pair" in document.row:
            found[document.row["pair"]].append((document.target, outcome.scores["accuracy"]))
    # A resample may hold a pair several times: it then counts as often as its first half.
    whole = [(min(s for _, s in pair), sum(t == pair[0][0] for t, _ in pair)) for pair in found.values()
             if len({t for t, _ in pair}) == 2 and all(s is not None for _, s in pair)]
    count = sum(times for _, times in whole)
    return sum(right * times for right, times in whole) / count if count else None


def auc(documents: Sequence[Document], outcomes: Sequence[Outcome]) -> float | None:
    """AUC-ROC of log p(Yes) - log p(No)."""
    return detection.auc([d.target == "yes" for d in documents], [o.scores["auc"] for o in outcomes])


TASK = Task(
    "halueval", axis="faithfulness", title="HaluEval: recognizing hallucinated answers", load=load, score=score,
    metrics=(
        Metric("balanced_accuracy", "mean of the shares of right and of hallucinated answers that are recognized",
               chance=0.5, corpus=balanced),
        Metric("accuracy", "answers told right or hallucinated correctly", worst=0.0),
        Metric("pairs", "questions of which both the right and the hallucinated answer are recognized", corpus=pairs),
        Metric("auc", "AUC-ROC of log p(Yes) - log p(No)", unit="", chance=0.5, corpus=auc),
        Metric("accuracy_ll", "answers of which the likelier of Yes and No is correct"),
    ),
    files=("halueval_qa*.jsonl", "halueval_general*.jsonl"), source="Li et al. 2023, arXiv 2305.11747",
)
