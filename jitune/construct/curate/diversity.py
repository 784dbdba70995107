"""A diverse part of the data: the best records that are unlike each other, or those that stand for all the others.

    build(method="cosine", embedder="my_vectors:embed", score="deita", threshold=0.9, budget=6000)
    build(method="facility", model="runs/base", budget=0.1)          # a tenth of the records

`cosine` is DEITA's rule (Liu et al. 2024): from the highest score down, a record stays if its cosine with every record
that stays is at most the threshold. `facility` chooses a set S to make sum_i max_{j in S} max(0, cos(i, j)) large, so
that every record is close to a chosen one. That function is monotone and submodular, and is 0 for no record, so the
greedy choice reaches at least 1 - 1/e = 63 % of the best (Nemhauser, Wolsey and Fisher 1978).

DEITA's vectors are the last token's state of a model of 13B (`pool="last"`). The states of models all point one way, so
that 0.9 may be the cosine of texts that have nothing in common: look at `center` in `near`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jitune.construct.curate.near import BLOCK, ROUNDING, centered, embed, find_embedder, greedy
from jitune.construct.curate.pieces import PARTS, check_number, check_word, text_of
from jitune.construct.curate.scores.embed import LENGTH
from jitune.construct.curate.scores.model import MESH
from jitune.construct.curate.stage import Choice, Head, Reject
from jitune.data.record import Record
from jitune.types import UserError

METHODS = ("cosine", "facility")
PART = 20_000  # records that facility location looks at together
AT_ONCE = 32  # bounds that are brought up to date by one product


def facility(vectors: np.ndarray, budget: int, *, block: int = BLOCK) -> list[int]:
    """Indices of `budget` rows, as chosen one after the other: always the one that adds most, the first of equals.

    vectors: float32 [n, dim], rows of length 1 or 0. The choice is that of plain greedy, with far fewer products. A
    gain only falls as the set grows, so an old one is a bound, and is looked at again only where it is the highest
    (Minoux 1978). Rows that came closer to the set wait until they are `block`, and lower all bounds by one product.
    Similarities are float32, [n, block] of them at a time; gains are float64.
    """
    vectors = np.asarray(vectors, np.float32)
    n, chosen, covered = len(vectors), [], np.zeros(len(vectors), np.float32)
    bounds = _over(vectors, vectors, covered, np.full(n, 2, np.float32), block)
    waiting = _Waiting.none()
    taken, fresh = np.zeros(n), np.ones(n, bool)  # by those that wait; is that up to date
    while len(chosen) < min(budget, n):
        best = int(bounds.argmax())
        if not fresh[best]:
            some = _highest(bounds, ~fresh, AT_ONCE)
            fell = _over(vectors[some], vectors[waiting.rows], waiting.before, waiting.after, block)
            bounds[some] += taken[some] - fell
            taken[some], fresh[some] = fell, True
            continue
        chosen.append(best)
        bounds[best] = -np.inf
        closer = np.maximum(covered, vectors @ vectors[best])
        waiting = waiting.and_those(np.flatnonzero(closer > covered), covered, closer)
        covered, fresh[:] = closer, False
        if len(waiting.rows) >= block:
            bounds += taken - _over(vectors, vectors[waiting.rows], waiting.before, waiting.after, block)
            waiting, taken[:], fresh[:] = _Waiting.none(), 0, True
    return chosen


class _Waiting(NamedTuple):
    """Rows that came closer to the set: how close they were before, and are after."""

    rows: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @classmethod
    def none(cls) -> _Waiting:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))

    def and_those(self, rows: np.ndarray, before: np.ndarray, after: np.ndarray) -> _Waiting:
        more = (rows, before[rows], after[rows])
        return _Waiting(*(np.concatenate(pair) for pair in zip(self, more, strict=True)))


def _over(candidates: np.ndarray, rows: np.ndarray, low: np.ndarray, high: np.ndarray, block: int) -> np.ndarray:
    """For each candidate the sum over rows of the part of their cosine that lies between low and high, float64."""
    sums = [np.zeros(0)]
    for start in range(0, len(candidates), block):
        products = rows @ candidates[start : start + block].T
        np.clip(products, low[:, None], high[:, None], out=products)
        products -= low[:, None]
        sums.append(products.sum(axis=0, dtype=np.float64))
    return np.concatenate(sums)


def _highest(values: np.ndarray, among: np.ndarray, most: int) -> np.ndarray:
    """Indices of the `most` highest values among some."""
    rows = np.flatnonzero(among)
    return rows[np.argpartition(-values[rows], most)[:most]] if most < len(rows) else rows


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


def count_of(budget: float, total: int) -> int:
    """How many of `total` records a budget means: 100 is a count, 0.1 a tenth, 0 all."""
    return min(total, round(budget if budget >= 1 else budget * total)) if budget else total


def build(*, method: str = "cosine", embedder: str = "", model: str = "", of: str = "conversation", score: str = "",
          threshold: float = 0.9, budget: float = 0.0, seed: int = 0, center: bool = False, pool: str = "mean",
          dtype: str = "float32", max_length: int = LENGTH, mesh: Sequence[int] = MESH, width: int = 0,
          batch_size: int = 64) -> Choice:
    """A Choice of diverse records.

    method: cosine or facility. embedder, model, of, center, pool, dtype, max_length, mesh, width: as in `near.build`.
    score: for cosine, the name in `record.scores` by which records come, the highest first; "": as they stand.
    threshold: for cosine. budget: how many to keep, a count (100) or a fraction (0.1); 0: all, for cosine only.
    seed: of the parts into which facility divides more than 20,000 records.

    Raises:
      UserError: an option that is not known or out of range, no embedder, or a record without the score.
    """
    check_word("of", of, PARTS)
    _check(method, threshold, budget)
    function = find_embedder(embedder=embedder, model=model, pool=pool, dtype=dtype, max_length=max_length, mesh=mesh)
    dim = width or embed(function, ["width"], ["-"]).shape[1]
    # The score is one more column, after the vector.
    extra = int(bool(score))

    def measure(records: Sequence[Record]) -> np.ndarray:
        vectors = embed(function, [text_of(r, of) for r in records], [r.id for r in records], dim)
        scores = [[_score(r, score)] for r in records] if score else np.zeros((len(records), 0))
        return np.concatenate([vectors, np.asarray(scores, np.float32).reshape(len(records), extra)], axis=1)

    def choose(heads: Sequence[Head], measured: np.ndarray) -> list[Reject | None]:
        vectors, total = measured[:, :dim], count_of(budget, len(heads))
        vectors = centered(vectors) if center else vectors
        if method == "facility":
            return _represented(heads, vectors, facility_in_parts(vectors, total, seed=seed))
        order = np.argsort(-measured[:, dim], kind="stable") if score else np.arange(len(heads))
        return _unlike(heads, greedy(vectors, order, at_least=threshold + ROUNDING, budget=total), threshold)

    return Choice("diversity", dim + extra, measure, choose, batch_size=batch_size)


def _check(method: str, threshold: float, budget: float) -> None:
    check_word("method", method, METHODS)
    check_number("threshold", threshold, -1, 1)
    check_number("budget", budget, 0, 1e15)
    if budget > 1 and budget != round(budget):
        raise UserError(f"budget = {budget!r}: a count such as 1000, or a fraction below 1 such as 0.1, is needed")
    if method == "facility" and not budget:
        raise UserError("facility needs a budget: a count such as 1000, or a fraction such as 0.1")


def _score(record: Record, name: str) -> float:
    found = record.scores.get(name)
    if found is None or not np.isfinite(found):
        given = ", ".join(record.scores) or "none"
        raise UserError(f"record {record.id}: has no score {name!r}, or no finite one; it has {given}")
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
