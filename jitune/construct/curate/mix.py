"""Several sources in chosen proportions: how many records each may keep, and which.

    shares([900, 100], temperature=2.0)                  # [0.75, 0.25]: 30 to 10
    targets([900, 100], [0.5, 0.5], total=300)           # [150, 150]
    targets([900, 100], [0.5, 0.5], total=0)             # [100, 100]: as many as the proportions allow

Records are drawn by the hash of the seed and their id: the same ones whatever their order, and a smaller total takes
a part of what a larger one takes. Nothing is ever repeated: a source that is too small keeps what it has, and the
funnel says how many were wanted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from jitune.construct.curate.stage import Choice, Head, Reject
from jitune.types import UserError


def build(*, weights: str = "", temperature: float = 1.0, total: int = 0, caps: str = "", seed: int = 0,
          inputs: Sequence[str] = ()) -> Choice:
    """The mixture of the inputs.

    Args:
      weights: one a source, in the order of the inputs, such as "0.7,0.3"; or "": by the sources' sizes.
      temperature: without weights, sizes to the power of 1/T: 1 leaves them, a higher one evens them out (T5,
        Raffel et al. 2020, 3.5.2).
      total: records in all; 0: as many as the proportions allow.
      caps: the most records of a source, one a source or one for all, such as "1000,0"; 0: all.
      seed: of the draw.
      inputs: names of the sources; by default those that records have, sorted.

    Raises:
      UserError: weights or caps that are no numbers of 0 or more, or not one a source.
    """
    if temperature <= 0 or total < 0:
        raise UserError(f"temperature={temperature} must be above 0, and total={total} at least 0")
    weighted, capped = _numbers(weights, "weights"), _numbers(caps, "caps")
    if weighted and not sum(weighted):
        raise UserError(f"weights={weights!r} are all 0")
    if inputs:
        _one_each(inputs, weighted, capped)

    def wanted(heads: Sequence[Head]) -> dict[str, tuple[int, int]]:
        return plan(Counter(head.source for head in heads), list(inputs), weighted, temperature, total, capped)

    def choose(heads: Sequence[Head], measured: Any) -> list[Reject | None]:
        return draw(heads, {name: count for name, (_, count) in wanted(heads).items()}, seed)

    def tell(heads: Sequence[Head], measured: Any, chosen: Sequence[Reject | None]) -> dict:
        taken = Counter(head.source for head, reject in zip(heads, chosen, strict=True) if reject is None)
        rows = [{"source": name, "records": size, "wanted": count, "taken": taken[name],
                 "too small by": max(0, count - size)} for name, (size, count) in wanted(heads).items()]
        return {"sources": rows}

    return Choice("mix", 0, lambda records: None, choose, tell=tell)


def _one_each(names: Sequence[str], weights: Sequence[float], caps: Sequence[float]) -> None:
    """Refuses weights or caps that are not one a source."""
    for what, numbers in (("weights", weights), ("caps", caps)):
        if numbers and len(numbers) != len(names) and (what, len(numbers)) != ("caps", 1):
            raise UserError(f"{what} are {len(numbers)}, and the sources {len(names)}: {', '.join(names)}")


def plan(sizes: Mapping[str, int], inputs: Sequence[str], weights: Sequence[float], temperature: float, total: int,
         caps: Sequence[float]) -> dict[str, tuple[int, int]]:
    """Of each source how many records it has, and how many are wanted of it. Raises UserError as `build`."""
    names = list(inputs) or sorted(sizes)
    strange = sorted(sizes.keys() - set(names))
    if strange:
        raise UserError(f"records come from {strange[0]!r}, which is none of the inputs {', '.join(names)}")
    _one_each(names, weights, caps)
    given = [sizes.get(name, 0) for name in names]
    counts = targets(given, shares(given, weights=weights, temperature=temperature), total=total,
                     scaled=bool(weights) or temperature != 1)
    if caps:
        most = [int(cap) or math.inf for cap in (caps * len(names) if len(caps) == 1 else caps)]
        counts = [min(count, cap) for count, cap in zip(counts, most, strict=True)]
    return dict(zip(names, zip(given, counts, strict=True), strict=True))


def shares(sizes: Sequence[int], *, weights: Sequence[float] = (), temperature: float = 1.0) -> list[float]:
    """The part that each source is to have: its weight, or its size to the power of 1/temperature; they sum to 1."""
    raw = list(weights) or [size ** (1 / temperature) for size in sizes]
    return [x / (sum(raw) or 1) for x in raw]


def targets(sizes: Sequence[int], shares: Sequence[float], *, total: int, scaled: bool = True) -> list[int]:
    """How many records each source is to give: shares of the total, rounded by largest remainders.

    A total of 0 is the largest for which every source has enough; where proportions are the sizes' own (`scaled` is
    False), that is everything.
    """
    if not total and not scaled:
        return list(sizes)
    if not total:
        total = math.floor(min((n / p for n, p in zip(sizes, shares, strict=True) if p > 0), default=0) + 1e-9)
    parts = [total * p for p in shares]
    counts = [math.floor(part + 1e-9) for part in parts]
    order = sorted(range(len(parts)), key=lambda i: (counts[i] - parts[i], i))
    for i in order[: total - sum(counts)]:
        counts[i] += 1
    return counts


def draw(heads: Sequence[Head], counts: Mapping[str, int], seed: int) -> list[Reject | None]:
    """Keeps of each source the records whose hashes with the seed are lowest; equal ids in their order."""
    ranks: dict[str, list[tuple[bytes, int]]] = {}
    for i, head in enumerate(heads):
        hashed = blake2b(f"{seed}\0{head.id}".encode(), digest_size=16).digest()
        ranks.setdefault(head.source, []).append((hashed, i))
    chosen: list[Reject | None] = [None] * len(heads)
    for source, found in ranks.items():
        taken = min(counts[source], len(found))
        left_out = Reject("mixed_out", f"{taken:,} of {len(found):,} were drawn from {source}")
        for _, i in sorted(found)[counts[source] :]:
            chosen[i] = left_out
    return chosen


def _numbers(text: str, what: str) -> list[float]:
    try:
        found = [float(word) for word in str(text).split(",")] if str(text).strip() else []
    except ValueError:
        found = [-1.0]
    if any(not 0 <= x < math.inf for x in found):
        raise UserError(f"{what}={text!r} must be numbers of 0 or more, joined by commas")
    return found
