"""A diverse part of the data: the best records that are unlike each other, or those that stand for all the others.

    build(method="cosine", embedder="my_vectors:embed", score="deita", threshold=0.9, budget=6000)
    build(method="facility", model="runs/base", budget=0.1)          # a tenth of the records

`cosine` is DEITA's rule (Liu et al. 2024): from the highest score down, a record stays if its cosine with every record
that stays is at most the threshold. `facility` chooses a set S to make sum_i max_{j in S} max(0, cos(i, j)) large, so
that every record is close to a chosen one. That function is monotone and submodular, and is 0 for no record, so the
greedy choice reaches at least 1 - 1/e = 63 % of the best (Nemhauser, Wolsey and Fisher 1978).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from jitune.construct.curate.near import BLOCK, ROUNDING, embed, find_embedder, greedy
from jitune.construct.curate.pieces import PARTS, check_number, check_word, text_of
from jitune.construct.curate.stage import Choice, Head, Reject
from jitune.data.record import Record
from jitune.types import UserError

METHODS = ("cosine", "facility")
PART = 20_000  # records that facility location looks at together
AT_ONCE = 16  # bounds that are brought up to date by one product


def facility(vectors: np.ndarray, budget: int, *, block: int = BLOCK) -> list[int]:
    """Indices of `budget` rows, as chosen one after the other: always the one that adds most, the first of equals.

    vectors: float32 [n, dim], rows of length 1 or 0. A gain only falls as the set grows, so a candidate is looked at
    again only when its old gain is the highest (Minoux 1978): the choice is that of plain greedy, with far fewer
    products. Similarities are float32 and are never all held, [n, block] at a time; gains are summed in float64.
    """
    vectors = np.asarray(vectors, np.float32)
    covered = np.zeros(len(vectors), np.float32)

    def gains(rows: Sequence[int]) -> np.ndarray:
        more = vectors @ vectors[rows].T - covered[:, None]
        return np.maximum(more, 0, out=more).sum(axis=0, dtype=np.float64)

    size = max(1, min(block, len(vectors)))
    first = [gains(range(start, min(start + size, len(vectors)))) for start in range(0, len(vectors), size)]
    heap = [(-gain, index) for index, gain in enumerate(np.concatenate(first or [np.zeros(0)]))]
    heapq.heapify(heap)
    chosen, looked_at = [], dict.fromkeys(range(len(vectors)), 0)
    while len(chosen) < min(budget, len(vectors)):
        old = []
        while heap and len(old) < AT_ONCE and looked_at[heap[0][1]] < len(chosen):
            old.append(heapq.heappop(heap)[1])
        if old:
            for gain, index in zip(gains(old), old, strict=True):
                looked_at[index] = len(chosen)
                heapq.heappush(heap, (-gain, index))
            continue
        index = heapq.heappop(heap)[1]
        chosen.append(index)
        np.maximum(covered, vectors @ vectors[index], out=covered)
    return chosen


def facility_in_parts(vectors: np.ndarray, budget: int, *, part: int = PART, seed: int = 0) -> list[int]:
    """`facility` for any number of rows: in random parts of at most `part`, each with its share of the budget.

    Up to `part` rows it is `facility` itself. Beyond, the guarantee holds within each part, not for the whole.
    """
    count = -(-len(vectors) // part)
    if count <= 1:
        return facility(vectors, budget)
    rows = np.random.default_rng(seed).permutation(len(vectors))
    chosen, given, seen = [], 0, 0
    for some in np.array_split(rows, count):
        some = np.sort(some)
        seen += len(some)
        share = budget * seen // len(vectors) - given
        given += share
        chosen += [int(some[i]) for i in facility(vectors[some], share)]
    return chosen


def value(vectors: np.ndarray, chosen: Sequence[int]) -> float:
    """What `facility` makes large: the sum over all rows of the cosine with the nearest chosen one, at least 0."""
    if not len(chosen):
        return 0.0
    total = 0.0
    for start in range(0, len(vectors), BLOCK):
        products = np.asarray(vectors[start : start + BLOCK]) @ np.asarray(vectors[np.asarray(chosen)]).T
        total += float(np.maximum(products.max(axis=1), 0).sum(dtype=np.float64))
    return total


def count_of(budget: int | float | None, total: int) -> int:
    """How many of `total` records a budget means: a whole number is a count, 0.1 a tenth, None all."""
    if budget is None:
        return total
    return min(total, budget if isinstance(budget, int) else round(budget * total))


def build(*, method: str = "cosine", embedder: str = "", model: str = "", of: str = "conversation", score: str = "",
          threshold: float = 0.9, budget: int | float | None = None, seed: int = 0, width: int = 0,
          batch_size: int = 64) -> Choice:
    """A Choice of diverse records.

    method: cosine or facility. embedder, model, of, width: as in `near.build`.
    score: for cosine, the name in `record.scores` by which records come, the highest first; "": as they stand.
    threshold: for cosine. budget: how many to keep, a count (100) or a fraction (0.1); facility needs one.
    seed: of the parts into which facility divides more than 20,000 records.

    Raises:
      UserError: an option that is not known or out of range, no embedder, or a record without the score.
    """
    check_word("diversity", "method", method, METHODS)
    check_word("diversity", "of", of, PARTS)
    check_number("diversity", "threshold", threshold, -1, 1)
    if budget is not None:
        check_number("diversity", "budget", budget, 0, 1 if isinstance(budget, float) else 2**62)
    elif method == "facility":
        raise UserError("diversity: facility needs a budget: a count such as 1000, or a fraction such as 0.1")
    function = find_embedder("diversity", embedder=embedder, model=model)
    dim = width or embed("diversity", function, ["width"], ["-"]).shape[1]
    # The score is one more column, after the vector.
    extra = int(bool(score))

    def measure(records: Sequence[Record]) -> np.ndarray:
        vectors = embed("diversity", function, [text_of(r, of) for r in records], [r.id for r in records], dim)
        scores = [[_score(r, score)] for r in records] if score else np.zeros((len(records), 0))
        return np.concatenate([vectors, np.asarray(scores, np.float32).reshape(len(records), extra)], axis=1)

    def choose(heads: Sequence[Head], measured: np.ndarray) -> list[Reject | None]:
        vectors, total = measured[:, :dim], count_of(budget, len(heads))
        if method == "facility":
            return _represented(heads, vectors, facility_in_parts(vectors, total, seed=seed))
        order = np.argsort(-measured[:, dim], kind="stable") if score else np.arange(len(heads))
        return _unlike(heads, greedy(vectors, order, at_least=threshold + ROUNDING, budget=total), threshold)

    return Choice("diversity", dim + extra, measure, choose, batch_size=batch_size)


def _score(record: Record, name: str) -> float:
    found = record.scores.get(name)
    if found is None or not np.isfinite(found):
        given = ", ".join(record.scores) or "none"
        raise UserError(f"diversity: record {record.id}: has no score {name!r}, or no finite one; it has {given}")
    return float(found)


def _unlike(heads: Sequence[Head], found, threshold: float) -> list[Reject | None]:
    verdicts: list[Reject | None] = []
    for kept, near, cosine in zip(*found, strict=True):
        if kept:
            verdicts.append(None)
        elif near >= 0 and cosine >= threshold + ROUNDING:
            verdicts.append(Reject("not_diverse", f"{cosine:.2f} like {heads[near].id}"))
        else:
            verdicts.append(Reject("over_budget", "enough were kept before it"))
    return verdicts


def _represented(heads: Sequence[Head], vectors: np.ndarray, chosen: Sequence[int]) -> list[Reject | None]:
    """None for the chosen; for the others, which of the chosen is nearest."""
    verdicts: list[Reject | None] = [None] * len(heads)
    picked = np.asarray(sorted(chosen), np.int64)
    inside = set(picked.tolist())
    for start in range(0, len(heads), BLOCK):
        rows = range(start, min(start + BLOCK, len(heads)))
        products = np.asarray(vectors[start : start + BLOCK]) @ np.asarray(vectors[picked]).T
        for i, row in enumerate(rows):
            if row not in inside:
                at = int(products[i].argmax()) if len(picked) else -1
                detail = f"{products[i, at]:.2f} like {heads[picked[at]].id}" if at >= 0 else "the budget is 0"
                verdicts[row] = Reject("not_selected", detail)
    return verdicts
