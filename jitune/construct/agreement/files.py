"""What a study leaves behind: results and the labels behind them in, files of one folder out, each written whole.

    agreement.json      every figure            agreement.html     the same for people
    aggregated.jsonl    a row an item           queue.jsonl        the most disagreed items, less their labels

All four take their names together, when the last of them is whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jitune.construct.agreement.labels import Sheet
from jitune.construct.agreement.pages import render
from jitune.construct.agreement.read import Labels
from jitune.construct.agreement.study import aggregated
from jitune.construct.whole_file import whole_file

NAMES = ("agreement.html", "agreement.json", "aggregated.jsonl", "queue.jsonl")


def write(results: Mapping[str, Any], sheet: Sheet, labels: Labels, out: str | Path, *,
          told: Callable[[], None] = lambda: None) -> tuple[str, ...]:
    """Writes all files in place of those of an earlier study; returns their names.

    told: called after each row that is read again, for the texts of the queue.
    """
    folder = Path(out)
    queued = queue(results["questions"])
    said = {label for found in results["questions"] for label in found.get("labels", ())}
    texts = labels.texts(queued, said, told=told) if queued else {}
    figures = plain(results)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        page, table, merged, again = (stack.enter_context(whole_file(folder / name)) for name in NAMES)
        for found in results["questions"]:
            merged.writelines(map(line, aggregated(sheet.table(found["question"]), found)))
        again.writelines(line(_queued(item, texts.get(item, {}), why, results["shape"]))
                         for item, why in queued.items())
        table.write(json.dumps(figures, ensure_ascii=False, indent=1).encode() + b"\n")
        page.write(render(figures, texts).encode())
    return NAMES


def plain(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results as JSON has them, without the model that the aggregated rows are made of."""
    return {**results, "questions": [{key: value for key, value in found.items() if key != "posterior"}
                                     for found in results["questions"]]}


def queue(questions: Iterable[Mapping]) -> dict[str, dict]:
    """{item: {"disagreement": the largest over the questions, "questions": [...]}}, the most disagreed first."""
    found: dict[str, dict] = {}
    for question in questions:
        for row in question.get("queue", ()):
            why = found.setdefault(row["item"], {"disagreement": 0.0, "entropy": 0.0, "questions": []})
            why["questions"].append(question["question"])
            for key in ("disagreement", "entropy"):
                why[key] = max(why[key], row[key])
    return dict(sorted(found.items(), key=lambda pair: (-pair[1]["disagreement"], -pair[1]["entropy"])))


def _queued(item: str, row: Mapping, why: Mapping, shape: str) -> dict:
    """A row of the queue; a record stays a record."""
    if shape == "records":
        return {**row, "meta": {**row.get("meta", {}), "disagreement": dict(why)}}
    return {**row, "id": item, "disagreement": dict(why)}


def line(row: Mapping) -> bytes:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"
