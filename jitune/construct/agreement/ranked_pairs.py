"""Rankings of the same candidates merged into one: Tideman's ranked pairs, by which OASST's rankings are merged too.

    merged = ranked_pairs([[["a"], ["b"], ["c"]], [["b"], ["a"], ["c"]], [["a"], ["c"], ["b"]]])
    merged.tiers           # (("a",), ("b",), ("c",))

T. N. Tideman, "Independence of Clones as a Criterion for Voting Rules" (1987): every two candidates are compared by
the ballots that rank both; majorities are locked from the largest down, less those that would close a cycle. Where
several are of one size, those that together would close a cycle are all left out, so that the outcome does not
depend on the order of ballots or names; what stays unordered is a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Tiers = Sequence[Sequence[str]]


class Merged(NamedTuple):
    """tiers: the best first, ties together. cycle: a majority was left out, since it contradicts larger ones, or its
    equals. margins: {(winner, loser): votes for less votes against}. ballots: how many there were."""

    tiers: tuple[tuple[str, ...], ...]
    cycle: bool
    margins: dict[tuple[str, str], int]
    ballots: int


def ranked_pairs(ballots: Sequence[Tiers]) -> Merged:
    """Merges ballots, each a list of tiers, the best first; a candidate that a ballot leaves out is not compared by it.

    Raises:
      ValueError: a ballot names a candidate twice.
    """
    names = sorted({name for tiers in ballots for tier in tiers for name in tier})
    votes = dict.fromkeys(((a, b) for a in names for b in names if a != b), 0)
    for tiers in ballots:
        place = {name: i for i, tier in enumerate(tiers) for name in tier}
        if len(place) != sum(map(len, tiers)):
            raise ValueError(f"ranked_pairs: {tiers} names a candidate twice")
        for a in place:
            for b in place:
                votes[a, b] = votes.get((a, b), 0) + (place[a] < place[b])
    margins = {(a, b): votes[a, b] - votes[b, a] for a in names for b in names
               if a != b and votes[a, b] > votes[b, a]}
    beats: dict[str, set[str]] = {name: set() for name in names}  # whom each is above, by what is locked
    cycle = False
    for size in sorted(set(margins.values()), reverse=True):
        equal = [pair for pair, margin in margins.items() if margin == size and pair[0] not in beats[pair[1]]]
        cycle |= len(equal) < sum(margin == size for margin in margins.values())
        trial = _closed(beats, equal)
        sound = [(a, b) for a, b in equal if a not in trial[b]]
        cycle |= len(sound) < len(equal)
        beats = _closed(beats, sound)
    return Merged(_tiers(names, beats), cycle, margins, len(ballots))


def _closed(beats: dict[str, set[str]], more: Sequence[tuple[str, str]]) -> dict[str, set[str]]:
    """The transitive closure of `beats` and more pairs."""
    found = {name: set(below) for name, below in beats.items()}
    for a, b in more:
        above = [name for name, below in found.items() if a in below or name == a]
        for name in above:
            found[name] |= {b} | found[b]
    return found


def _tiers(names: Sequence[str], beats: dict[str, set[str]]) -> tuple[tuple[str, ...], ...]:
    """Candidates level by level: those that none of the rest is above."""
    left, tiers = list(names), []
    while left:
        top = tuple(name for name in left if not any(name in beats[other] for other in left))
        tiers.append(top)
        left = [name for name in left if name not in top]
    return tuple(tiers)
