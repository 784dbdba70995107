"""Who sees which item: each item goes to `overlap` annotators, by design.

    assign(6, 3, 2, seed=0)   # [(0, 2), (0, 1), (1, 2), ...]: places of annotators, one tuple an item

Nobody has more than one item more than another, every two annotators share items where there are enough, as evenly as
can be, and the same seed gives the same assignment.
"""

from __future__ import annotations

import random
from itertools import combinations

from jitune.evals.pages.shown import numbered
from jitune.types import UserError


def assign(items: int, annotators: int, overlap: int, *, seed: int = 0) -> list[tuple[int, ...]]:
    """The annotators of each item, as places in their list, ascending.

    Item after item goes to those with the fewest items so far; among equals, to those who share the fewest with
    the ones already chosen for it.

    Raises:
      UserError: overlap is not within 1 and the number of annotators, or is 2 or more over so few items that two
        annotators share none, so that nothing could be said of how they agree.
    """
    if not 1 <= overlap <= annotators:
        raise UserError(f"--overlap {overlap}: must be 1 to the number of annotators, {annotators}")
    rng = random.Random(seed)
    load = [0] * annotators
    shared = [[0] * annotators for _ in range(annotators)]
    places = list(range(items))
    rng.shuffle(places)
    found: list[tuple[int, ...]] = [()] * items
    for place in places:
        found[place] = _choose(load, shared, overlap, rng)
        for a in found[place]:
            load[a] += 1
        for a, b in combinations(found[place], 2):
            shared[a][b] += 1
            shared[b][a] += 1
    apart = sum(not shared[a][b] for a, b in combinations(range(annotators), 2))
    if overlap > 1 and apart:
        told = f"over {numbered(items, 'item')} {numbered(apart, 'pair')} of the {annotators} annotators"
        raise UserError(f"--overlap {overlap}: {told} would share no item; give more items, more overlap or fewer "
                        "annotators")
    return found


def _choose(load: list[int], shared: list[list[int]], overlap: int, rng: random.Random) -> tuple[int, ...]:
    chosen: list[int] = []
    left = list(range(len(load)))
    while len(chosen) < overlap:
        def rank(a: int, before: tuple = tuple(chosen)) -> tuple:
            # The first one is who has shared least with somebody, so that no two stay apart.
            if before:
                return load[a], sum(shared[a][b] for b in before)
            return load[a], min((shared[a][b] for b in range(len(load)) if b != a), default=0)

        rng.shuffle(left)  # equals are drawn by lot
        chosen.append(min(left, key=rank))
        left.remove(chosen[-1])
    return tuple(sorted(chosen))
