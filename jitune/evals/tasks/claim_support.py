"""Claim support: of what a summary claims, how much does its text bear out?

In: `xquad.{en,de,zh}.json`. The model says in its own language what each paragraph says.

- grounded_words, grounded_bigrams: the shares of the summary's words and bigrams that stand in the text. They need no
  judge, and copying has 100 %. Against people's labels (task `begin`) the first has an AUC-ROC of 0.94.
- supported: a judge splits the summary into claims and marks each; supported claims / claims, which is the
  faithfulness of RAGAS (Es et al. 2023). One question does both steps.
- factscore: the same times exp(1 - 10/n) for n < 10 claims, so that saying little is not the way to be right
  (FActScore, Min et al. 2023, with its length penalty).

    [[claim: 1]] [[claim: 1]] [[claim: 0]]  ->  supported 2/3, factscore 2/3 * exp(1 - 10/3) = 0.065
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from jitune.evals.judge import prompts
from jitune.evals.metrics import grounding
from jitune.evals.task import Ask, Document, Generate, Metric, Outcome, Response, Task, Verdict, chat
from jitune.evals.tasks import xquad_rows

PROMPTS = {
    "en": "Say in three to five sentences what the text below says. Add nothing that it does not say.\n\n{context}",
    "de": "Sage in drei bis fünf Sätzen, was der Text unten sagt. Füge nichts hinzu, was er nicht sagt.\n\n{context}",
    "zh": "请用三到五句话说明下面这段文字的内容，不要添加文中没有的信息。\n\n{context}",
}
RULES = (
    "You check an answer against a text. Split the answer into claims: statements so short that each is borne out or "
    "not as a whole, with names in the place of pronouns. Leave out what claims nothing, such as greetings. A claim is "
    "borne out if the text says it or if it follows from the text alone; what you know from elsewhere does not count, "
    "even where it is true.\n\n{fence}\n\nWrite every claim on a line of its own, and behind it [[claim: 1]] if the "
    "text bears it out and [[claim: 0]] if not. If the answer claims nothing, write [[claims: 0]] alone."
)
CLAIM = re.compile(r"\[\[\s*claim\s*[:=]\s*([01])\s*\]\]", re.I)
NO_CLAIMS = re.compile(r"\[\[\s*claims\s*[:=]\s*0\s*\]\]", re.I)
ENOUGH = 10  # claims from which FActScore has no penalty
BY_JUDGE = ("supported", "factscore", "all_supported", "claims")


def load(specs: Sequence[str]) -> list[Document]:
    """One document a paragraph and language."""
    return [
        Document(
            f"{p.language}/{p.id}", {"context": p.context},
            (Generate(chat(PROMPTS.get(p.language, PROMPTS["en"]).format(context=p.context)), max_new_tokens=320),),
            tags={"language": p.language}, cluster=p.id,
        )
        for p in xquad_rows.read_paragraphs(specs)
    ]


def ask(document: Document, responses: tuple[Response, ...]) -> tuple[Ask, ...]:
    """The claims and their marks, in one question; none about an answer of no words."""
    if not grounding.words(responses[0].text):
        return ()
    mark, body = prompts.fenced({"text": document.row["context"], "answer": responses[0].text.strip()})
    # FENCE speaks of a question: here the first block is the text.
    fence = prompts.FENCE.format(mark=mark).replace(f"question {mark}", f"text {mark}")
    return (Ask((("system", RULES.format(fence=fence)), ("user", body)), max_new_tokens=1024),)


def read_claims(text: str) -> list[bool] | None:
    """The marks in order, an empty list where the answer claims nothing; None where the verdict cannot be read."""
    found = [mark == "1" for mark in CLAIM.findall(text)]
    return found if found or NO_CLAIMS.search(text) else None


def factscore(claims: Sequence[bool]) -> float:
    """The share of supported claims, times exp(1 - 10/n) where there are n < 10 of them."""
    penalty = 1.0 if len(claims) >= ENOUGH else math.exp(1 - ENOUGH / len(claims))
    return penalty * sum(claims) / len(claims)


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple[Verdict, ...]) -> Outcome:
    """Groundedness by words, and the claims where there is a judge."""
    answer, context = responses[0].text.strip(), document.row["context"]
    if not grounding.words(answer):
        return Outcome({m.name: None for m in TASK.metrics}, failure="extraction")
    scores = {"grounded_words": grounding.word_precision(answer, context),
              "grounded_bigrams": grounding.ngram_coverage(answer, context, n=2)}
    if not verdicts:
        return Outcome(scores, answer=answer)
    claims = read_claims(verdicts[0].value or "")
    if not claims:
        failure = "judge" if claims is None else "no claims"
        return Outcome({**scores, **dict.fromkeys(BY_JUDGE)}, answer=answer, failure=failure)
    values = (sum(claims) / len(claims), factscore(claims), float(all(claims)), float(len(claims)))
    return Outcome({**scores, **dict(zip(BY_JUDGE, values, strict=True))}, answer=answer,
                   details={"claims": [int(c) for c in claims]})


TASK = Task(
    "claim_support", axis="faithfulness", title="Claims of summaries, supported by their texts", load=load,
    score=score, ask=ask,
    metrics=(
        Metric("grounded_words", "words of the summary that stand in the text", worst=0.0),
        Metric("grounded_bigrams", "bigrams of the summary that stand in the text", worst=0.0),
        Metric("supported", "claims that the text bears out, by a judge", needs="judge", worst=0.0),
        Metric("factscore", "the same, with a penalty for fewer than ten claims", needs="judge", worst=0.0),
        Metric("all_supported", "summaries of which every claim is borne out, by a judge", needs="judge", worst=0.0),
        Metric("claims", "claims a summary, by a judge", unit="", needs="judge"),
    ),
    files=xquad_rows.FILES, source="RAGAS, arXiv 2309.15217; FActScore, arXiv 2305.14251",
)
