"""What holds of every task of faithfulness: names, headlines, empty files, scores without and with a judge."""

import math

import pytest

from jitune.evals import aggregate, catalogue, rows
from jitune.evals.task import Generate, Generated, LogLikelihood, Verdict
from jitune.types import UserError

TASKS = {name: catalogue.find_task(name) for name in catalogue.FAITHFULNESS}
SUFFIX = {"truthfulqa_mc": "json", "truthfulqa_gen": "json", "halueval": "jsonl", "begin": "tsv"}
JUDGEMENT = ("[[truthful: 1]] [[informative: 1]] [[claim: 1]] [[attributable: 1]] "
             + " ".join(f"[[sentence {i}: 0]]" for i in range(1, 13)))


def answer(request):
    return Generated("No, it was 308.", "stop", 5) if isinstance(request, Generate) else LogLikelihood(-3.0, False, 2)


@pytest.fixture(scope="module")
def real(shared):
    """name -> the first documents of the files that the task finds for itself."""
    return {name: task.load(rows.find(shared / "data", task.files))[:60] for name, task in TASKS.items()}


@pytest.mark.parametrize("name", TASKS)
def test_the_headline_needs_no_assessor(name):
    task = TASKS[name]
    assert task.name == name and task.axis == "faithfulness" and task.metrics[0].needs == "" and task.source
    assert len({m.name for m in task.metrics}) == len(task.metrics)
    assert any(m.needs for m in task.metrics) == (task.ask is not None)


@pytest.mark.parametrize("name", TASKS)
def test_an_empty_file_is_an_error(name, tmp_path):
    file = tmp_path / f"begin_dev.{SUFFIX.get(name, 'json')}"
    file.write_text("")
    with pytest.raises(UserError, match=f"{file.name}: is empty"):
        TASKS[name].load([str(file)])


@pytest.mark.parametrize("judged", [False, True])
@pytest.mark.parametrize("name", TASKS)
def test_from_real_documents_to_an_entry(name, judged, real):
    task, documents = TASKS[name], real[name]
    assert len({d.id for d in documents}) == 60 and all(d.cluster and d.tags["language"] for d in documents)
    outcomes = []
    for document in documents:
        responses = tuple(map(answer, document.requests))
        questions = task.ask(document, responses) if task.ask and judged else ()
        outcomes.append(task.score(document, responses, tuple(Verdict(JUDGEMENT) for _ in questions)))
    entry = aggregate.summarize(task, documents, outcomes, available={"judge"} if judged else ())
    assert entry["unscored"] == 0 and math.isfinite(entry["metrics"][entry["headline"]]["value"])
    judging = {m.name for m in task.metrics if m.needs}
    assert (judging <= entry["metrics"].keys()) if judged else (judging == {*entry["left_out"]})
    named = {name for outcome in outcomes for name in outcome.scores}
    assert named <= {m.name for m in task.metrics} and (judged or not named & judging)
