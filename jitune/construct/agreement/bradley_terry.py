"""Strengths of candidates from comparisons of two: the model of Bradley and Terry (1952), fitted as Hunter (2004) does.

    found = fit([[0, 3], [1, 0]])          # [i, j]: how often i beat j; a tie is half a win for each
    found.scores                           # [0.549, -0.549]: logarithms of strengths, with mean 0; sigmoid of a
                                           # difference is how probably one beats the other
    fit([[0, 2], [0, 0]]).reason           # "... has no finite strengths"

"MM algorithms for generalized Bradley-Terry models", Annals of Statistics 32, equation 3. Finite strengths exist only
where, however the candidates are parted in two, someone of each part beat someone of the other (Ford 1957).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

TOLERANCE = 1e-10
STEPS = 20_000


class Fit(NamedTuple):
    """scores: [candidates], or None; reason: why there are none; groups: places of candidates that wins link both
    ways; steps: of MM."""

    scores: np.ndarray | None
    reason: str
    groups: list[list[int]]
    steps: int = 0


def fit(wins: Any, names: Sequence[str] | None = None, *, tolerance: float = TOLERANCE, steps: int = STEPS) -> Fit:
    """Fits the model.

    Args:
      wins: [candidates, candidates], how often the first of two beat the second.
      names: for the reason.
      tolerance: MM ends where no score moves by more.

    Returns:
      a Fit without scores where they are not finite, or MM did not end in `steps`.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    wins = np.array(wins, dtype=np.float64)
    np.fill_diagonal(wins, 0)
    names = names or [str(i) for i in range(len(wins))]
    found = connected_components(csr_matrix(wins), directed=True, connection="strong")[1]
    groups = [np.flatnonzero(found == g).tolist() for g in dict.fromkeys(found.tolist())]
    if len(wins) < 2:
        return Fit(None, "fewer than two candidates were compared", groups)
    if len(groups) > 1:
        return Fit(None, _why(wins, groups, names), groups)
    games, won = wins + wins.T, wins.sum(1)
    strength = np.ones(len(wins))
    for step in range(1, steps + 1):
        new = won / (games / (strength[:, None] + strength[None])).sum(1)
        new /= np.exp(np.log(new).mean())
        moved = np.abs(np.log(new) - np.log(strength)).max()
        strength = new
        if moved < tolerance:
            return Fit(np.log(strength), "", groups, step)
    return Fit(None, f"the fit did not come to rest in {steps} steps", groups, steps)


def _why(wins: np.ndarray, groups: list[list[int]], names: Sequence[str]) -> str:
    """Which candidates are not linked to the others by wins both ways."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    count, weak = connected_components(csr_matrix(wins + wins.T), directed=False)
    if count > 1:
        parts = [", ".join(names[i] for i in np.flatnonzero(weak == g)) for g in range(count)]
        return f"never compared with each other: {' | '.join(parts)}"
    part = next(g for g in groups if not wins[np.ix_(sorted({*range(len(wins))} - {*g}), g)].any()
                or not wins[np.ix_(g, sorted({*range(len(wins))} - {*g}))].any())
    never = "never lost to" if not wins[np.ix_(sorted({*range(len(wins))} - {*part}), part)].any() else "never beat"
    return f"{', '.join(names[i] for i in part)} {never} any of the others, so that there are no finite strengths"
