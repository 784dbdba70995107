"""What the experiments share: lines of JSON, intervals over seeds, tables.

    interval([0.23, 0.166, 0.18])                       # "19.2 ± 8.4"
    markdown([["row", "right"], ["experts", "19.2"]])
"""

from __future__ import annotations

import json
import math
from pathlib import Path


def write_rows(path: Path, rows) -> None:
    """Writes JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_rows(path: Path) -> list[dict]:
    """Reads JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def interval(values: list[float], *, signed: bool = False) -> str:
    """Mean and half of a 95 % interval (Student's t over seeds), in points."""
    from jitune.evals.stats import mean_interval

    if not values:
        return ""
    found = mean_interval(values)
    half = (found.high - found.low) / 2 if found.high is not None and len(values) > 1 else math.nan
    mean = f"{100 * found.value:+.1f}" if signed else f"{100 * found.value:.1f}"
    return mean if math.isnan(half) else f"{mean} ± {100 * half:.1f}"


def markdown(rows: list[list[str]]) -> str:
    """The first row is the head."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [rows[0], ["---"] * len(rows[0]), *rows[1:]])
