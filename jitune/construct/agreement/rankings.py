"""Rankings that people gave: how far they agree, each item's merged ranking, and strengths over all items.

    found = study(table)
    found["merged"]        # [{"item": "q1", "ranking": [["b"], ["a"]], "ballots": 3, "cycle": False}, ...]
    found["strengths"]     # [{"name": "b", "score": 0.4, "low": 0.1, "high": 0.7, "wins": 12.0, "games": 20}, ...]

Agreement is that of pairs: who ranks an item says of every two of its candidates which is better, or that they tie.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from jitune.construct.agreement.bradley_terry import fit
from jitune.construct.agreement.labels import Label, Sheet, Table
from jitune.construct.agreement.measure import FEWEST
from jitune.construct.agreement.ranked_pairs import ranked_pairs
from jitune.evals.stats import LEVEL, REPLICATES, draws, percentile

MOST = 60  # candidates whose strengths are told


def pairs_table(table: Table) -> tuple[Table, list[int]]:
    """The same as labels first, second and tie of every item's pairs of candidates, and the item of each pair."""
    owners: dict[str, int] = {}
    sheet = Sheet(scales={table.question: ("first", "second", "tie")})
    for item, who, tiers in table.ballots:
        place = {name: i for i, tier in enumerate(tiers) for name in tier}
        for a, b in combinations(sorted(place), 2):
            side = "tie" if place[a] == place[b] else "first" if place[a] < place[b] else "second"
            pair = f"{table.items[item]}: {a} | {b}"
            owners.setdefault(pair, item)
            sheet.add(Label(pair, table.annotators[who], table.question, side, origin=table.origins[item]))
    found = sheet.table(table.question)
    return found, [owners[pair] for pair in found.items]


def study(table: Table, *, replicates: int = REPLICATES, seed: int = 0) -> dict[str, Any]:
    """What rankings say.

    Returns:
      {"merged": a row an item, "cycles": items whose majorities contradict each other, "strengths": a row a candidate,
      the strongest first, or None and "reason" where they are not finite, "groups": see `bradley_terry.Fit`}.
    """
    ballots: dict[int, list] = {}
    for item, _, tiers in table.ballots:
        ballots.setdefault(item, []).append(tiers)
    merged = []
    for item, given in ballots.items():
        found = ranked_pairs(given)
        merged.append({"item": table.items[item], "ranking": [list(t) for t in found.tiers], "ballots": len(given),
                       "cycle": found.cycle})
    return {"merged": merged, "cycles": sum(m["cycle"] for m in merged),
            **strengths(list(ballots.values()), replicates=replicates, seed=seed)}


def strengths(items: list[list], *, replicates: int = REPLICATES, seed: int = 0, level: float = LEVEL) -> dict:
    """Scores by Bradley and Terry of the candidates of all items; a tie is half a win for each.

    items: for each item its ballots. Intervals are percentiles of a bootstrap over items; a resample without finite
    strengths has none, and counts as such.
    """
    names = sorted({name for given in items for tiers in given for tier in tiers for name in tier})
    if len(names) > MOST:
        return {"strengths": None, "reason": f"{len(names)} candidates differ, more than {MOST}: they are answers of "
                                             "their items rather than what is compared over all", "groups": []}
    wins = _wins(items, {name: i for i, name in enumerate(names)})
    total = _sum(wins)
    found = fit(total, names)
    groups = [[names[i] for i in group] for group in found.groups]
    if found.scores is None:
        return {"strengths": None, "reason": found.reason, "groups": groups}
    times = (np.bincount(places, minlength=len(items)) for places in draws(None, len(items), replicates=replicates,
                                                                           seed=seed))
    drawn = [fit(_sum(wins, n), tolerance=1e-6).scores for n in times] if len(items) >= FEWEST else []
    ends = [percentile([None if s is None else float(s[i]) for s in drawn], level=level) if drawn else None
            for i in range(len(names))]
    rows = [{"name": name, "score": float(found.scores[i]), "low": ends[i][1] if ends[i] else None,
             "high": ends[i][2] if ends[i] else None, "wins": float(total[i].sum()),
             "games": float((total + total.T)[i].sum())} for i, name in enumerate(names)]
    return {"strengths": sorted(rows, key=lambda r: -r["score"]), "reason": "", "groups": groups}


def _wins(items: list[list], place: dict[str, int]) -> Any:
    """A sparse matrix [items, candidates x candidates]: how often the first of two beat the second on an item."""
    from scipy.sparse import csr_matrix

    rows, columns, won = [], [], []
    for n, given in enumerate(items):
        for tiers in given:
            rank = {name: i for i, tier in enumerate(tiers) for name in tier}
            for a, b in combinations(rank, 2):
                first = 0.5 if rank[a] == rank[b] else float(rank[a] < rank[b])
                rows += [n, n]
                columns += [place[a] * len(place) + place[b], place[b] * len(place) + place[a]]
                won += [first, 1 - first]
    return csr_matrix((won, (rows, columns)), (len(items), len(place) ** 2))


def _sum(wins: Any, times: np.ndarray | None = None) -> np.ndarray:
    """[candidates, candidates] wins over all items, each taken so many times."""
    found = (np.ones(wins.shape[0]) if times is None else times) @ wins
    side = round(wins.shape[1] ** 0.5)
    return np.asarray(found).reshape(side, side)
