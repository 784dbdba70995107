"""What a study leaves behind: results and the labels behind them in, files of one folder out, each written whole.

    agreement.json      every figure            agreement.html     the same for people
    aggregated.jsonl    a row an item           queue.jsonl        the most disagreed items, less their labels
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jitune.construct.agreement.labels import Sheet
from jitune.construct.agreement.pages import render
from jitune.construct.agreement.read import Labels
from jitune.construct.agreement.study import aggregated

NAMES = ("agreement.html", "agreement.json", "aggregated.jsonl", "queue.jsonl")


def write(results: Mapping[str, Any], sheet: Sheet, labels: Labels, out: str | Path) -> tuple[str, ...]:
    """Writes all files; returns their names."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    queued = queue(results["questions"])
    said = {label for found in results["questions"] for label in found.get("labels", ())}
    texts = labels.texts(queued, said) if queued else {}
    rows = (row for found in results["questions"] for row in aggregated(sheet.table(found["question"]), found))
    write_text(folder / "aggregated.jsonl", map(line, rows))
    write_text(folder / "queue.jsonl", (line(_queued(item, texts.get(item, {}), why, results["shape"]))
                                        for item, why in queued.items()))
    told = plain(results)
    write_text(folder / "agreement.json", [json.dumps(told, ensure_ascii=False, indent=1), "\n"])
    write_text(folder / "agreement.html", [render(told, texts)])
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


def line(row: Mapping) -> str:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_text(path: Path, pieces: Iterable[str]) -> None:
    """A file of all pieces, in place of what was there once all are written; a failure leaves what was there."""
    draft = path.with_name(path.name + ".partial")
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.writelines(pieces)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
