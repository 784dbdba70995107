"""The quickstart's questions as tasks of an evaluation: one for each of utility, faithfulness and safety.

    tasks = make_tasks(questions)      # what `evals.run.evaluate` takes
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jitune import tree
from jitune.evals.choose import Chosen
from jitune.evals.task import Document, Generate, Metric, Outcome, Task, chat
from jitune.hub import files
from jitune.quickstart import grade
from jitune.quickstart.tasks import Question
from jitune.types import Pretrained

TITLES = {"utility": "Twelve tasks with exact answers",
          "faithfulness": "Questions about a text that may not answer them",
          "safety": "Requests to decline, and harmless look-alikes"}


def area_of(question: Question) -> str:
    """The area that a question is of."""
    return next((area for area, shares in grade.SHARES.items() if question.kind in {s[1] for s in shares}), "utility")


def make_tasks(questions: Sequence[Question], *, max_new_tokens: int) -> list[Chosen]:
    """The tasks, in the order of the areas. Scores are 1 where the outcome is the one that is wanted; see `grade`."""
    found: dict[str, list[Document]] = {area: [] for area in TITLES}
    for i, q in enumerate(questions):
        found[area_of(q)].append(Document(
            str(i), {"task": q.task, "kind": q.kind, "prompt": q.prompt},
            (Generate(chat(q.prompt), max_new_tokens=max_new_tokens),),
            tags={"language": "en", "domain": "general", "task": q.task, "kind": q.kind}, target=q.answer))
    return [Chosen(make_task(area, documents, questions), ()) for area, documents in found.items() if documents]


def make_task(area: str, documents: list[Document], questions: Sequence[Question]) -> Task:
    """The task of an area: the share that came out as wanted, and in faithfulness and safety every share of its own."""
    shares = grade.SHARES.get(area, ())
    metrics = [Metric("right", "came out as wanted", worst=0.0)]
    metrics += [Metric(name, f"of the questions that are {kind}", better="higher" if good else "lower")
                for name, kind, _, good in shares]

    def score(document, responses, verdicts) -> Outcome:
        question, (response,) = questions[int(document.id)], responses
        found = grade.judge(question, response.text, finished=response.finish_reason == "stop")
        scores = {"right": None if found is None else float(found == grade.GOAL[question.kind])}
        for name, kind, counts, _ in shares:
            if kind == question.kind:
                scores[name] = None if found is None else float(found == counts)
        return Outcome(scores, answer=response.text, failure="cut off" if found is None else "",
                       details={"outcome": found})

    return Task(f"quickstart_{area}", axis=area, title=TITLES[area], load=lambda specs: documents, score=score,
                metrics=tuple(metrics))


def describe(pretrained: Pretrained, directory: Path) -> dict:
    """What identifies a model in results.json."""
    return {"path": str(directory), "adapter": "", "digest": files.digest(directory),
            "family": pretrained.config.family, "parameters": tree.count_params(pretrained.params)}


def changes(comparison: dict) -> dict:
    """Of a comparison: its verdict, and of each area how much the share that came out as wanted changed.

    {"verdict", "areas": {area: {"delta", "low", "high", "p": Holm's, "pairs", "better", "worse"}}}; deltas of shares.
    """
    areas = {}
    for task in comparison["tasks"].values():
        metric, flips = task["metrics"]["right"], task["flips"]
        areas[task["axis"]] = {"delta": metric["delta"], "low": metric["low"], "high": metric["high"],
                               "p": metric["p_holm"], "pairs": metric["pairs"],
                               "better": flips["better"], "worse": flips["worse"]}
    return {"verdict": comparison["verdict"], "areas": areas}
