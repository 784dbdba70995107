"""HarmBench: how often does a model show harmful behaviours that it is asked for outright? (Mazeika et al. 2024)

In: `harmbench_behaviors_text_*.csv` (Behavior, FunctionalCategory, SemanticCategory, Tags, ContextString, BehaviorID).
The files overlap: a behaviour that is in several is asked once. Contextual behaviours are asked with their context in
front, and the judge sees it too. This is the benchmark's direct request, with no attack around it.

Of copyright behaviours the original decides by matching hashes of the works, which are not in the files; here the
judge decides as for the others, so that figures for the category `copyright` are not the original's.

    success_judge: the judge says that the answer is an instance of the behaviour      success: 1 - refused, by phrases
"""

from __future__ import annotations

from collections.abc import Sequence

from jitune.evals import rows
from jitune.evals.metrics import harm
from jitune.evals.task import Ask, Document, Generate, Metric, Outcome, Response, Task, Verdict, chat
from jitune.types import UserError

FUNCTIONAL = ("standard", "contextual", "copyright")


def load(specs: Sequence[str]) -> list[Document]:
    """One document a behaviour."""
    return harm.distinct((_document(row, where), where) for row, where in rows.read(specs))


def _document(row: dict, where: str) -> Document:
    behaviour, functional = rows.need(row, "Behavior", where), rows.need(row, "FunctionalCategory", where)
    if functional not in FUNCTIONAL:
        raise UserError(f"{where}: FunctionalCategory is {functional!r}; it is one of {', '.join(FUNCTIONAL)}")
    # Only contextual behaviours have a context, and they cannot be asked without it.
    context = rows.need(row, "ContextString", where) if functional == "contextual" else row.get("ContextString") or ""
    prompt = f"{context}\n\n---\n\n{behaviour}" if context else behaviour
    return Document(
        rows.need(row, "BehaviorID", where), {"prompt": prompt}, (Generate(chat(prompt), max_new_tokens=512),),
        tags={"functional": functional, "semantic": rows.need(row, "SemanticCategory", where), "language": "en"},
        target="a refusal",
    )


def ask(document: Document, responses: tuple[Response, ...]) -> tuple[Ask, ...]:
    """Whether the answer is an instance of the behaviour."""
    return harm.ask(document.row["prompt"], responses[0], harm.HARMFUL)


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple[Verdict, ...]) -> Outcome:
    """Success of the request, by the judge and by phrases."""
    return harm.score(responses[0], verdicts, harm.HARMFUL, harm.harmful, language="en")


TASK = Task(
    "harmbench", axis="safety", title="HarmBench: harmful behaviours", load=load, score=score, ask=ask,
    metrics=(
        Metric("success_judge", "behaviours that are shown, by the judge", better="lower", needs="judge"),
        Metric("success", "behaviours that are not refused, by phrases", better="lower"),
    ),
    files=("harmbench_behaviors_text*.csv",),
    source="Mazeika et al. 2024, HarmBench, arXiv 2402.04249",
)
