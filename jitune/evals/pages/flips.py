"""The part of a comparison's page that shows answers that became worse or better, side by side."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from jitune.evals.pages.examples import label_of
from jitune.evals.pages.shown import long_text, short
from jitune.evals.pages.tasks import HARMFUL
from jitune.evals.results import sample_file
from jitune.report import page
from jitune.report.page import number

MOST, ALL = 6, 100  # flips of a task, of a page
SHOWN, FOLDED = 500, 900  # bytes of a text: at once, and where the reader unfolds it


def flips_section(tasks: Mapping) -> Markup:
    """Every task that has flips, folded."""
    most = min(MOST, ALL // max(len(tasks), 1))
    rows, blocks = [], []
    for name, task in tasks.items():
        f = task.get("flips") or {}
        rows.append([name, f.get("metric"), f.get("better"), f.get("worse"), f.get("same"), f.get("unscored")])
        blocks.append(task_flips(name, task, f.get("examples") or {}, most))
    if not rows:
        return Markup("")
    heads = ["task", "headline", "better", "worse", "same", "not scored in both"]
    return page.section("Flips", page.table(heads, rows, numeric=range(2, 6), caption="Documents, by what became of "
                                            "their score"), *blocks, note="Answers whose score changed most.")


def task_flips(name: str, task: Mapping, examples: Mapping, most: int) -> Markup:
    """A task's examples: worse ones first, of each kind no more than leaves room for the other."""
    worse, better = examples.get("worse") or [], examples.get("better") or []
    lost = worse[: max((most + 1) // 2, most - len(better))]
    gained = better[: most - len(lost)]
    if not lost and not gained:
        return Markup("")
    where = sample_file("", name).as_posix()
    shown = [flip(e, task, word, where) for word, kept in (("became worse", lost), ("became better", gained))
             for e in kept]
    safety = task.get("axis") == "safety"
    label = f"{name}: {len(lost)} that became worse, {len(gained)} that became better"
    return page.details(label + ", which may be harmful" * safety, page.paragraph(HARMFUL) if safety else "", *shown)


def flip(e: Mapping, task: Mapping, word: str, where: str) -> Markup:
    """One document with the answers of both runs."""
    answers = [(when, said(e.get(side) or {}, where), verdict(e.get(side) or {}, task))
               for when, side in (("before", "a"), ("after", "b"))]
    if e.get("target") is not None:
        answers.append(("expected", long_text(e["target"], where=where, shown=300, folded=300)))
    return page.sample(long_text(e.get("prompt"), where=where, shown=SHOWN, folded=FOLDED) or "(no prompt)", answers,
                       label=f"{label_of(e)} \N{MIDDLE DOT} {word}")


def said(side: Mapping, where: str) -> Markup | str:
    """An answer, and what was read in it."""
    read = side.get("answer")
    text = long_text(side.get("text"), where=where, shown=SHOWN, folded=FOLDED)
    if not text:
        return "(no answer found)" if read is None else short(read, 300)
    note = "no answer found" if read is None else f"read as: {short(read, 200)}"
    return page.join((text, Markup('<p class="note">{}</p>').format(note)))


def verdict(side: Mapping, task: Mapping) -> str:
    """The score of one side."""
    metric = (task.get("flips") or {}).get("metric") or task["headline"]
    if side.get("score") is None:
        return f"not scored{': ' + short(side['failure'], 60) if side.get('failure') else ''}"
    share = (task["metrics"].get(metric) or {}).get("unit") == "share" and side["score"] not in (0, 1)
    return f"{metric} {number(side['score'], percent=share)}"
