"""Evaluations written by hand: tasks of a few documents, and folders as `jitune eval` leaves them."""

import json
from pathlib import Path

from jitune.evals.aggregate import summarize
from jitune.evals.results import sample_file
from jitune.evals.task import Document, Generate, Metric, Outcome, Task, digest

ACCURACY = Metric("accuracy", "right answers", chance=0.25, worst=0.0)
REFUSED = Metric("refused", "harmless prompts that were refused", better="lower")
RATING = Metric("rating", "marks of the judge", unit="", needs="judge")


def hits(documents, outcomes):
    """The share of the known answers that are "yes"."""
    known = [o.answer for o in outcomes if o.answer is not None]
    return sum(a == "yes" for a in known) / len(known) if known else None


YES = Metric("yes", "answers of yes", unit="", corpus=hits)


def make_task(name="colours", axis="utility", metrics=(ACCURACY,), domain="general") -> Task:
    return Task(name, axis=axis, title=name.title(), load=lambda specs: [], score=lambda d, r, v: Outcome({}),
                metrics=metrics, domain=domain)


def make_documents(count, *, cluster=lambda i: "", **tags) -> list[Document]:
    """Tags are functions of the number."""
    return [Document(f"d{i}", {"question": f"q{i}"}, (Generate(f"q{i}"),), cluster=cluster(i), target="red",
                     tags={t: v for t, f in tags.items() if (v := f(i))}) for i in range(count)]


def outcomes(scores, metric="accuracy", **more) -> list[Outcome]:
    return [Outcome({metric: s}, failure="extraction" if s is None else "", **more) for s in scores]


def write_run(folder: Path, tasks, *, prompt="", available=(), **settings) -> Path:
    """tasks: (task, documents, outcomes). prompt: what is in front of every question, as a template would be."""
    header = {"format": 1, "jitune": "0", "created": "2025-01-01T00:00:00", "model": {"path": folder.name},
              "settings": {"chat_template": digest(prompt), "limit": None, "judge": None, **settings}, "tasks": {}}
    for task, documents, found in tasks:
        lines = [{
            "id": d.id, "document": d.hash, "prompt_hash": digest(prompt + d.row["question"]), "tags": d.tags,
            "cluster": d.cluster, "prompt": prompt + d.row["question"], "target": d.target,
            "responses": [{"text": f"It is {o.answer}."}], "verdicts": [], "answer": o.answer, "scores": o.scores,
            "failure": o.failure, "details": {}} for d, o in zip(documents, found, strict=True)]
        header["tasks"][task.name] = {**summarize(task, documents, found, available=available),
                                      "prompts": digest([line["prompt_hash"] for line in lines])}
        file = sample_file(folder, task.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "results.json").write_text(json.dumps(header))
    return folder
