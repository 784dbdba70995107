"""How far a judge can be trusted: its verdicts on pairs whose better answer is known.

    rows = read_labelled(["llmbar_natural.json"])
    report(rows, play([row.pair for row in rows], judge))["all"]["accuracy"]

The files are LLMBar's (Zeng et al. 2024, arXiv 2310.07641): {"input", "output_1", "output_2", "label": 1 or 2}.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jitune.evals.judge.answers import Pair
from jitune.evals.judge.pairwise import Game, position_bias, rate
from jitune.evals.rows import need, read
from jitune.types import UserError


class Labelled(NamedTuple):
    """A pair; better: `a` or `b`."""

    pair: Pair
    better: str
    file: str


def read_labelled(specs: Sequence[str]) -> list[Labelled]:
    """The pairs of files. Raises UserError with file and row."""
    found = []
    for row, where in read(specs):
        question, first, second = (need(row, name, where) for name in ("input", "output_1", "output_2"))
        if row.get("label") not in (1, 2):
            raise UserError(f"{where}: label is {row.get('label')!r:.40}; 1 or 2, the better output, is needed")
        file = Path(where.rpartition(":")[0]).stem
        found.append(Labelled(Pair(where, question, "", first, second), "ab"[row["label"] - 1], file))
    if not found:
        raise UserError(f"{', '.join(specs)}: nothing to judge")
    return found


def report(rows: Sequence[Labelled], games: Sequence[Game]) -> dict[str, dict[str, Any]]:
    """Of all, and of each file: what follows.

    accuracy: the share of questions where the better one wins, a tie counting half, with its interval. verdicts: the
    same over single games, with both of a question as one cluster; what one order alone would give. agreement: the
    share whose two games agree. position_bias: as in `pairwise.summarize`. unscored: questions without a verdict.
    """
    files = list(dict.fromkeys(row.file for row in rows))
    parts = {name: [(r, g) for r, g in zip(rows, games, strict=True) if name in ("all", r.file)]
             for name in ("all", *files)}
    return {name: _one(part) for name, part in parts.items()}


def _one(part: Sequence[tuple[Labelled, Game]]) -> dict[str, Any]:
    scored = [(r, g) for r, g in part if g.score is not None]
    right = [g.score if r.better == "a" else 1 - g.score for r, g in scored]
    single = [({r.better: 1.0, "tie": 0.5}.get(winner, 0.0), r.pair.id) for r, g in scored for winner in g.winners]
    bias = position_bias([g for _, g in scored])
    return {
        "accuracy": rate(right),
        "verdicts": rate([s for s, _ in single], [c for _, c in single]),
        "agreement": None if bias["disagreement"] is None else 1 - bias["disagreement"],
        "position_bias": bias, "n": len(part), "unscored": len(part) - len(scored),
    }
