"""A folder that an evaluation wrote: its path in, what it holds out.

    run = read("eval/tuned")                  # Run(directory, header): header is results.json
    samples = read_samples(run, "gsm8k")      # the lines of eval/tuned/samples/gsm8k.jsonl

    OUT/results.json = {"format": 1, "jitune": version, "created": ISO time,
      "model": {"path", "digest", "adapter", "family", "parameters"},
      "settings": {"chat_template": digest or "none", "max_length", "dtype", "limit", "seed", "judge": who judged},
      "tasks": {name: an entry of `aggregate.summarize`, with "prompts": digest, "truncated": count},
      "skipped": {name: reason}, "engine": {...}, "judge": {...} or null, "seconds"}
    OUT/samples/TASK.jsonl, a line a document = {"id", "document": hash, "prompt_hash", "tags", "cluster",
      "prompt": the first request as the model saw it, "target", "responses": [{"text", ...} or {"logprob", ...}],
      "verdicts": [...], "answer", "scores": {metric: number or null}, "failure", "details": {...}}
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from jitune.types import UserError

FORMAT = 1
FILE = "results.json"
SAMPLES = "samples"
# What the rest of the code reads without asking again.
HEADER = {"model": dict, "settings": dict, "tasks": dict}
ENTRY = {"axis": str, "metrics": dict, "documents": str}
SAMPLE = {"id": str, "document": str, "prompt_hash": str, "scores": dict}


class Run(NamedTuple):
    """A finished evaluation. header: what results.json holds."""

    directory: Path
    header: dict


def sample_file(directory: str | Path, task: str) -> Path:
    """Where the samples of a task lie; what no file name may hold is `_`."""
    return Path(directory) / SAMPLES / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', task)}.jsonl"


def read(directory: str | Path) -> Run:
    """The evaluation in a folder.

    Raises:
      UserError: where there is none, or its results.json is broken or of another format.
    """
    folder = Path(directory)
    path = folder / FILE
    if not path.is_file():
        what = "holds no evaluation: no results.json" if folder.is_dir() else "no such directory"
        raise UserError(f"{folder}: {what}; give the folder that `jitune eval` wrote to")
    header = parse(path.read_text("utf-8", errors="replace"), str(path))
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        given = header.get("format") if isinstance(header, dict) else type(header).__name__
        raise UserError(f"{path}: is of format {given!r:.40}; this version reads format {FORMAT}")
    need(header, HEADER, str(path))
    for name, entry in header["tasks"].items():
        need(entry, ENTRY, f"{path}: task {name}")
    return Run(folder, header)


def read_samples(run: Run, task: str) -> list[dict]:
    """The samples of a task, in the order of the file.

    Raises:
      UserError: where the file is not there, or a line is broken, naming the line.
    """
    path = sample_file(run.directory, task)
    if not path.is_file():
        raise UserError(f"{path}: no such file, though {run.directory / FILE} has the task {task}")
    samples = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                sample = parse(line, f"{path}:{number}")
                need(sample, SAMPLE, f"{path}:{number}")
                check_scores(sample["scores"], f"{path}:{number}")
                samples.append(sample)
    return samples


def parse(text: str, where: str) -> Any:
    """JSON without NaN and Infinity, which would be the mean of everything."""
    def refuse(word):
        raise UserError(f"{where}: holds {word}, which is no score")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: is not readable as JSON: {error}") from error


def need(found: Any, fields: dict[str, type], where: str) -> None:
    """Refuses what lacks a field, or has one of another type."""
    for name, kind in fields.items():
        if not isinstance(found, dict) or not isinstance(found.get(name), kind):
            given = repr(found.get(name)) if isinstance(found, dict) else repr(found)
            raise UserError(f"{where}: {name} is {given:.40}; {kind.__name__} is needed")


def check_scores(scores: dict, where: str) -> None:
    """Refuses scores that are neither numbers nor null; 1e999 reads as infinity."""
    for name, score in scores.items():
        if score is not None and not (isinstance(score, (int, float)) and math.isfinite(score)):
            raise UserError(f"{where}: the score {name} is {score!r:.40}; a finite number or null is needed")
