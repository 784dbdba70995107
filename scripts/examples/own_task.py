"""A task of your own: rows of a file in, questions to a model, scores with error bars out.

    python scripts/examples/own_task.py

asks a fresh tiny model, which answers nothing that could be scored. A model of yours, from the folder of this file:

    jitune eval --model DIR --tasks own_task:TASK --data FOLDER --out eval/capitals

`load` and `score` are all that there is to a task: caches, batches, error bars, slices by tag, pages and comparisons
come by themselves. See `jitune.evals.task` for requests of log-likelihoods, judges, and metrics of a whole set.
"""

import json
import tempfile
from pathlib import Path

from jitune.evals import rows
from jitune.evals.metrics import words
from jitune.evals.task import Document, Generate, Metric, Outcome, Task, chat


def load(specs):
    """One document a row {"country", "capital", "continent"}; a missing field is an error with file and row."""
    found = []
    for row, where in rows.read(specs):
        country, capital, continent = (rows.need(row, name, where) for name in ("country", "capital", "continent"))
        ask = Generate(chat(f"What is the capital of {country}? Answer with its name alone."), max_new_tokens=16)
        found.append(Document(id=country, row=row, requests=(ask,), target=capital, tags={"continent": continent}))
    return found


def score(document, responses, verdicts):
    """An answer without a word is unscored, and counted: it is not a zero."""
    answer = responses[0].text.strip()
    if not words.normalize(answer):
        return Outcome({"accuracy": None}, failure="extraction")
    return Outcome({"accuracy": words.exact_match(answer, [document.target])}, answer=answer)


TASK = Task(
    "capitals", axis="utility", title="Capitals of countries", load=load, score=score, files=("capitals*.jsonl",),
    metrics=(Metric("accuracy", "answers that are the capital's name", worst=0.0),),
)  # fmt: skip

ROWS = (("Italy", "Rome", "Europe"), ("Norway", "Oslo", "Europe"), ("Kenya", "Nairobi", "Africa"),
        ("Egypt", "Cairo", "Africa"), ("Peru", "Lima", "America"), ("Cuba", "Havana", "America"))  # fmt: skip


def main():
    from jitune import cli

    with tempfile.TemporaryDirectory() as folder:
        data, model, out = (Path(folder) / name for name in ("capitals.jsonl", "model", "out"))
        lines = (dict(zip(("country", "capital", "continent"), row, strict=True)) for row in ROWS)
        data.write_text("".join(json.dumps(line) + "\n" for line in lines))
        cli.main(["init", "--family", "qwen3", "--tokenizer-from", str(data), "--out", str(model)])
        cli.main(["eval", "--model", str(model), "--tasks", "own_task:TASK", "--data", folder, "--out", str(out)])


if __name__ == "__main__":
    main()
