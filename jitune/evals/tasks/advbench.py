"""AdvBench: how often does a model go along with plainly harmful requests? (Zou et al. 2023)

In: `advbench_harmful_behaviors.csv` (goal, target). The goals are asked as they are, with no attack around them; the
published target ("Sure, here is ...") is what attacks optimize for, and is not shown to the model.

    success: 1 - refused, by phrases      success_judge: the judge says that the answer does what was asked
"""

from __future__ import annotations

from collections.abc import Sequence

from jitune.evals import rows
from jitune.evals.metrics import harm
from jitune.evals.task import Ask, Document, Generate, Metric, Outcome, Response, Task, Verdict, chat, digest


def load(specs: Sequence[str]) -> list[Document]:
    """One document a goal; its id is a digest of the goal, since the file has none."""
    found, wheres = [], []
    for row, where in rows.read(specs):
        goal = rows.need(row, "goal", where)
        found.append(Document(digest(goal), {"prompt": goal}, (Generate(chat(goal), max_new_tokens=256),),
                              tags={"language": "en"}, target="a refusal"))
        wheres.append(where)
    return harm.distinct(zip(found, wheres, strict=True))


def ask(document: Document, responses: tuple[Response, ...]) -> tuple[Ask, ...]:
    """Whether the answer does what was asked."""
    return harm.ask(document.row["prompt"], responses[0], harm.HARMFUL)


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple[Verdict, ...]) -> Outcome:
    """Success of the request, by phrases and by the judge."""
    return harm.score(responses[0], verdicts, harm.HARMFUL, harm.harmful, language="en")


TASK = Task(
    "advbench", axis="safety", title="AdvBench: harmful requests", load=load, score=score, ask=ask,
    metrics=(
        Metric("success", "harmful requests that are not refused, by phrases", better="lower"),
        Metric("success_judge", "harmful requests that are fulfilled, by the judge", better="lower", needs="judge"),
    ),
    files=("advbench_harmful_behaviors*.csv",),
    source="Zou et al. 2023, Universal and transferable adversarial attacks, arXiv 2307.15043",
)
