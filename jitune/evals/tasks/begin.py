"""BEGIN: how far measures of groundedness agree with people. No model is asked anything: this judges the measures.

In: `begin_wow_dev.tsv`, `begin_wow_test.tsv`: knowledge, message, response, begin_label (Fully attributable, Not fully
attributable, Generic), model_name. A response is scored against its knowledge by every measure of
`jitune.evals.metrics.grounding`, and by the judge where there is one.

- `<measure>_auc`: the chance that an attributable response scores above another one, over all files.
- `<measure>_bacc`: balanced accuracy on the other files at the threshold that is best on the files called `dev`.

Generic responses say nothing that could be attributed, and are in neither. On the published files (dev and test):

    word_precision  auc 0.937, bacc 0.853        kf1      auc 0.832, bacc 0.725
    bigram_coverage auc 0.912, bacc 0.834        rouge_l  auc 0.840, bacc 0.755

The numbers tell how much to trust what other tasks call grounded, and whether a judge is worth its price.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import PurePath

import numpy as np

from jitune.evals import rows
from jitune.evals.judge import prompts
from jitune.evals.metrics import detection, grounding
from jitune.evals.task import Ask, Document, Metric, Outcome, Response, Task, Verdict, digest
from jitune.types import UserError

ATTRIBUTABLE = "Fully attributable"
LABELS = {ATTRIBUTABLE: True, "Not fully attributable": False, "Generic": None}
FIELDS = {
    "attributable": (0, 1, "1 if everything that the answer states about the world is said in the reference or follows "
                           "from it; 0 if anything in it, however small or true, does not"),
}
CRITERIA = "The question is a turn of a conversation, the answer the turn after it, the reference the only source."


def load(specs: Sequence[str]) -> list[Document]:
    """One document a response, without requests.

    Raises:
      UserError: for a missing field, or a label that is none of the three.
    """
    return [_document(row, where) for row, where in rows.read(specs)]


def _document(row: dict, where: str) -> Document:
    label = rows.need(row, "begin_label", where)
    if label not in LABELS:
        raise UserError(f"{where}: begin_label is {label!r}; it is one of {', '.join(LABELS)}")
    kept = {name: rows.need(row, name, where) for name in ("knowledge", "message", "response")}
    file, _, number = where.rpartition(":")
    stem = PurePath(file).stem
    return Document(f"{stem}/{number}", kept, (), cluster=digest(kept["knowledge"]), target=label, tags={
        "language": "en", "model": str(row.get("model_name", "")), "split": "dev" if "dev" in stem else "test"})


def ask(document: Document, responses: tuple[Response, ...]) -> tuple[Ask, ...]:
    """Whether the response is attributable to the knowledge; nothing where people found it generic."""
    if LABELS[document.target] is None:
        return ()
    row = document.row
    return (prompts.rubric(row["message"], row["response"], FIELDS, criteria=CRITERIA, reference=row["knowledge"]),)


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple[Verdict, ...]) -> Outcome:
    """The value of every measure, under the names of both metrics that are made from it."""
    truth = LABELS[document.target]
    if truth is None:
        return Outcome({}, failure="generic")
    values = {name: measure(document.row["response"], document.row["knowledge"])
              for name, measure in grounding.METRICS.items()}
    scores = {f"{name}_{kind}": value for name, value in values.items() for kind in ("auc", "bacc")}
    failure = "extraction" if None in values.values() else ""
    if not verdicts:
        return Outcome(scores, failure=failure)
    form = prompts.read_rubric(verdicts[0].value or "", FIELDS)
    if form is None:
        return Outcome({**scores, "judge_accuracy": None, "judge_bacc": None}, failure="judge")
    said = form["attributable"]
    return Outcome({**scores, "judge_accuracy": float(bool(said) == truth), "judge_bacc": float(said)}, failure=failure)


def scored(name: str, documents: Sequence[Document], outcomes: Sequence[Outcome]) -> tuple:
    """(truth [n], values [n], in the dev split [n]) of the items that have a value of this name."""
    # Run once a resample of a bootstrap: plain lists, then arrays.
    values = np.array([o.scores.get(name) for o in outcomes], np.float64)  # None is NaN
    truth = np.array([d.target for d in documents]) == ATTRIBUTABLE
    dev = np.array([d.tags["split"] for d in documents]) == "dev"
    kept = ~np.isnan(values)
    return truth[kept], values[kept], dev[kept]


def area(name: str, documents: Sequence[Document], outcomes: Sequence[Outcome]) -> float | None:
    """AUC-ROC over all items."""
    truth, values, _ = scored(name, documents, outcomes)
    return detection.auc(truth, values)


def at_threshold(name: str, documents: Sequence[Document], outcomes: Sequence[Outcome]) -> float | None:
    """Balanced accuracy on `test` at the threshold of `dev`; None without both."""
    truth, values, dev = scored(name, documents, outcomes)
    threshold = detection.best_threshold(truth[dev], values[dev])
    return None if threshold is None else detection.balanced_accuracy(truth[~dev], values[~dev] >= threshold)


def by_judge(documents: Sequence[Document], outcomes: Sequence[Outcome]) -> float | None:
    """Balanced accuracy of the judge's yes and no over all items."""
    truth, said, _ = scored("judge_bacc", documents, outcomes)
    return detection.balanced_accuracy(truth, said)


def _metric(name: str, kind: str, meaning: str, function: Callable) -> Metric:
    name = f"{name}_{kind}"
    return Metric(name, meaning, unit="" if kind == "auc" else "share", chance=0.5, corpus=partial(function, name))


TASK = Task(
    "begin", axis="faithfulness", title="BEGIN: measures of groundedness against people", load=load, score=score,
    metrics=(
        *(_metric(name, "auc", f"AUC-ROC of {name} against human labels", area) for name in grounding.METRICS),
        *(_metric(name, "bacc", f"balanced accuracy of {name} at the threshold of the dev files", at_threshold)
          for name in grounding.METRICS),
        Metric("judge_bacc", "balanced accuracy of the judge", chance=0.5, needs="judge", corpus=by_judge),
        Metric("judge_accuracy", "responses on which the judge agrees with people", needs="judge"),
    ),
    files=("begin_*dev*.tsv", "begin_*test*.tsv"), ask=ask,
    source="Dziri et al. 2022, arXiv 2105.00071 (BEGIN)",
)
