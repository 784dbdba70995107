"""What a run wrote, read for its report: a directory in, `Records` out.

config.json and metrics.jsonl are needed; samples.jsonl, data.json and startup.json may be missing, and so may any
column, as in runs of older versions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from jitune.types import UserError

FILES = ("config.json", "metrics.jsonl", "samples.jsonl", "data.json", "startup.json")


class Records(NamedTuple):
    """What a run wrote. rows: of metrics.jsonl; data, startup: {} where there is none."""

    name: str
    config: dict
    rows: list[dict]
    samples: list[dict]
    data: dict
    startup: dict
    finished: bool
    found: list[str]


def read(directory: Path) -> Records:
    """The files of a run. Raises UserError where there is no run, no finished step, or a file is broken."""
    if not (directory / "config.json").is_file():
        raise UserError(f"{directory}: holds no run, there is no config.json")
    config = read_json(directory / "config.json")
    rows = read_lines(directory / "metrics.jsonl")
    if not rows:
        raise UserError(f"{directory}: no step is finished, there is nothing in metrics.jsonl")
    return Records(
        name=config.get("run_name") or directory.resolve().name, config=config, rows=rows,
        samples=read_lines(directory / "samples.jsonl"), data=read_json(directory / "data.json"),
        startup=read_json(directory / "startup.json"), finished=(directory / "final" / "config.json").is_file(),
        found=[name for name in FILES if (directory / name).is_file()],
    )


def read_json(path: Path) -> dict:
    """A JSON object; {} where the file is not there."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path}: is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: an object is needed, not {type(found).__name__}")
    return found


def read_lines(path: Path) -> list[dict]:
    """The objects of a .jsonl file; the last line may be unfinished, for the run may be going on."""
    if not path.is_file():
        return []
    rows, text = [], path.read_text(encoding="utf-8", errors="replace").split("\n")
    for at, line in enumerate(text, 1):
        try:
            row = json.loads(line) if line else None
        except ValueError:
            if at == len(text):
                break
            raise UserError(f"{path}:{at}: is not JSON") from None
        if row is not None:
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                raise UserError(f'{path}:{at}: an object with a "step" is needed')
            rows.append(row)
    return rows


def dig(tree: Any, *path: str) -> Any:
    """tree[a][b]..., None where something on the way is missing."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def column(r: Records, name: str) -> list[tuple[int, float | None]]:
    """(step, value) of every row that has the key; a value that was not finite is None."""
    return [(row["step"], row[name]) for row in r.rows if name in row]


def known(r: Records, name: str) -> list[float]:
    """The finite values of a column."""
    return [y for _, y in column(r, name) if y is not None]
