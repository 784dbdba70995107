"""Plans of scoring, on the host: pairs of (context, continuation) to few packed rows of few widths.

    windows = [window(context, continuation, limit) for context, continuation in pairs]
    units, places = share(windows, widths)
    for rows in batches(units, widths, rows_of): ...        # arrays for `score.score`

What windows have in common at their beginning is computed once, for a causal model has the same hidden states there:
the context of several choices, the examples in front of all questions. Windows in alphabetical order are the leaves of
a tree; a unit is a run of them that stands in one row. Contexts 5 6 7 with the continuations (8 3) and (9 4), and (8):

    windows    5 6 7 (target 8)   5 6 7 8 (targets 8 3)   5 6 7 9 (targets 9 4)
    tokens     5 6 7 8 9
    segments   1 1 1 2 3          the first window that has the token
    ends       3 3 3 2 3          the last one
    positions  0 1 2 3 3
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

TARGETS = 4  # of one queried position; more targets repeat the position
SHORT = 8  # a common beginning of fewer tokens is not shared
# The cost of a token in attention, in units of the rest of the model, grows with the row: about 1 at this width.
WIDE = 8192


class Window(NamedTuple):
    """What a pair asks of a model. inputs: int32 [n], n at most the context. targets: int32 [t], of the last t inputs.

    truncated: tokens of the context that were cut off on the left.
    """

    inputs: np.ndarray
    targets: np.ndarray
    truncated: int


class Unit(NamedTuple):
    """Documents that begin alike, in one row; see the module's docstring.

    tokens, segments (from 1), ends, positions: int32 [n]. at: int32 [m], queried columns; targets: int32 [m, TARGETS].
    """

    tokens: np.ndarray
    segments: np.ndarray
    ends: np.ndarray
    positions: np.ndarray
    at: np.ndarray
    targets: np.ndarray

    @property
    def size(self) -> int:
        """The slots that it takes: of tokens, or of queries where these are more."""
        return max(len(self.tokens), len(self.at))


class Place(NamedTuple):
    """Where a window's answers lie: the unit's index, and places int64 [t] in its flat [m * TARGETS]."""

    unit: int
    queries: np.ndarray


class Rows(NamedTuple):
    """A batch of packed rows.

    batch: tokens, segment_ids, ends, positions, int32 [rows, width]. at: int32 [rows, width], queried columns;
    targets: int32 [rows, width, TARGETS]. queries: the most queries of a row. parts: (unit, row, its first query).
    """

    batch: dict[str, np.ndarray]
    at: np.ndarray
    targets: np.ndarray
    queries: int
    parts: list[tuple[int, int, int]]


class _Leaf(NamedTuple):
    """Windows of equal inputs. at: queried positions [m]; targets: [m, TARGETS]; found: each window's flat queries."""

    tokens: np.ndarray
    windows: list[int]
    at: np.ndarray
    targets: np.ndarray
    found: list[np.ndarray]


def window(context: Sequence[int], continuation: Sequence[int], limit: int) -> Window:
    """The last `limit` + 1 tokens of context and continuation without the last one, as in lm-evaluation-harness."""
    whole = np.asarray([*context, *continuation], np.int32)
    kept = whole[-(limit + 1) :]
    return Window(kept[:-1], kept[len(kept) - len(continuation) :], len(whole) - len(kept))


def share(windows: Sequence[Window], widths: Sequence[int], *, trees: bool = True) -> tuple[list[Unit], list[Place]]:
    """Units that answer all windows, and the place of each window.

    widths: of rows, ascending. trees: whether the model knows of segments that share tokens; if not, only windows of
    equal inputs are computed once.
    """
    members: dict[bytes, list[int]] = {}
    for i, w in enumerate(windows):
        members.setdefault(w.inputs.astype(">i4").tobytes(), []).append(i)  # big-endian: bytes sort as numbers do
    leaves = [_leaf(windows, members[key]) for key in sorted(members)]
    common = [0] + [_common(a.tokens, b.tokens) for a, b in zip(leaves, leaves[1:], strict=False)]
    units, places = [], [None] * len(windows)
    for run in _runs(leaves, common, widths[0]) if trees else [[i] for i in range(len(leaves))]:
        for part in _cut(leaves, common, run, widths):
            unit, firsts = _unite([leaves[i] for i in part], [common[i] for i in part])
            for i, first in zip(part, firsts, strict=True):
                for w, queries in zip(leaves[i].windows, leaves[i].found, strict=True):
                    places[w] = Place(len(units), first * TARGETS + queries)
            units.append(unit)
    return units, places


def _leaf(windows: Sequence[Window], members: list[int]) -> _Leaf:
    """The queries of windows of equal inputs, those of a position together."""
    tokens, first = windows[members[0]].inputs, windows[members[0]].targets
    if len(members) == 1:  # the common case, without a look at every token
        targets = np.zeros((len(first), TARGETS), np.int32)
        targets[:, 0] = first
        at = np.arange(len(tokens) - len(first), len(tokens), dtype=np.int32)
        return _Leaf(tokens, members, at, targets, [np.arange(len(first)) * TARGETS])
    asked: dict[int, dict[int, None]] = {}
    pairs = [list(enumerate(windows[i].targets.tolist(), len(tokens) - len(windows[i].targets))) for i in members]
    for position, target in (pair for one in pairs for pair in one):
        asked.setdefault(position, {})[target] = None
    at, targets, slot = [], [], {}
    for position in sorted(asked):
        wanted = list(asked[position])
        for i in range(0, len(wanted), TARGETS):
            part = wanted[i : i + TARGETS]
            slot.update({(position, t): len(at) * TARGETS + j for j, t in enumerate(part)})
            at.append(position)
            targets.append(part + [0] * (TARGETS - len(part)))
    found = [np.asarray([slot[pair] for pair in one], np.int64) for one in pairs]
    return _Leaf(tokens, members, np.asarray(at, np.int32), np.asarray(targets, np.int32), found)


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """How many tokens two arrays begin with in common."""
    n = min(len(a), len(b))
    other = np.flatnonzero(a[:n] != b[:n])
    return int(other[0]) if len(other) else n


def _runs(leaves: list[_Leaf], common: list[int], narrow: int) -> Iterator[list[int]]:
    """Runs of leaves that are worth sharing: by what they have in common, or because they add little to a row."""
    run = [0] if leaves else []
    for i in range(1, len(leaves)):
        length = len(leaves[i].tokens)
        if common[i] >= SHORT and (2 * common[i] >= length or 8 * (length - common[i]) <= narrow):
            run.append(i)
        else:
            yield run
            run = [i]
    if run:
        yield run


def _cut(leaves: list[_Leaf], common: list[int], run: list[int], widths: Sequence[int]) -> list[list[int]]:
    """A run in parts that fit a row, of the width at which they cost least."""
    longest = max(max(len(leaves[i].tokens), len(leaves[i].at)) for i in run)
    best, least = [[i] for i in run], float("inf")
    for width in [w for w in widths if w >= longest][:2]:
        parts, total, size, queries = [], 0, width, 0
        for i in run:
            size, queries = size + len(leaves[i].tokens) - common[i], queries + len(leaves[i].at)
            if not parts or max(size, queries) > width:
                total += 0 if not parts else size - (len(leaves[i].tokens) - common[i])
                parts.append([])
                size, queries = len(leaves[i].tokens), len(leaves[i].at)
            parts[-1].append(i)
        cost = (total + size) * (1 + width / WIDE)
        if cost < least:
            best, least = parts, cost
    return best


def _unite(leaves: list[_Leaf], common: list[int]) -> tuple[Unit, list[int]]:
    """Leaves in one row, and the first query of each. common: tokens that a leaf shares with the one before it."""
    path = np.zeros(0, np.int64)  # the columns of the last leaf's tokens
    kept = [0] + [min(n, len(leaf.tokens)) for n, leaf in zip(common[1:], leaves[1:], strict=True)]
    total = sum(len(leaf.tokens) - n for n, leaf in zip(kept, leaves, strict=True))
    tokens, segments, ends, positions = np.zeros((4, total), np.int32)
    at, firsts, queries, start = [], [], 0, 0
    for number, (n, leaf) in enumerate(zip(kept, leaves, strict=True), 1):
        ends[path[n:]] = number - 1
        new = slice(start, start + len(leaf.tokens) - n)
        tokens[new], segments[new], positions[new] = leaf.tokens[n:], number, np.arange(n, len(leaf.tokens))
        path = np.concatenate([path[:n], np.arange(new.start, new.stop)])
        at.append(path[leaf.at])
        firsts.append(queries)
        start, queries = new.stop, queries + len(leaf.at)
    ends[path] = len(leaves)
    targets = np.concatenate([leaf.targets for leaf in leaves])
    return Unit(tokens, segments, ends, positions, np.concatenate(at).astype(np.int32), targets), firsts


def pack(sizes: Sequence[int], widths: Sequence[int], cut: int) -> list[tuple[int, list[int]]]:
    """Rows as (width, indices of what lies in it). The largest size left opens a row, and then the largest that fits.

    widths: ascending. A row that is opened by a size of at most `cut` has the least width, others the least but that
    one that they fit in. pack((5, 2, 1, 2), (8,), 8) -> [(8, [0, 1, 2]), (8, [3])]
    """
    left: dict[int, list[int]] = {}
    for i in range(len(sizes) - 1, -1, -1):
        left.setdefault(sizes[i], []).append(i)
    present, rows = sorted(left), []
    while present:
        wide = present[-1] > cut and len(widths) > 1
        width = widths[bisect_left(widths, present[-1], lo=int(wide))]
        row, space = [], width
        while j := bisect_right(present, space):
            size = present[j - 1]
            row.append(left[size].pop())
            space -= size
            if not left[size]:
                del present[j - 1]
        rows.append((width, row))
    return rows


def choose(sizes: Sequence[int], widths: Sequence[int], rows_of: Callable[[int], int]) -> list[tuple[int, list[int]]]:
    """The cheapest of several packings: sizes that leave much of the narrowest row empty may go into wider ones.

    rows_of: `(width) -> rows of a batch`, for a batch is computed whole.
    """

    def cost(packed):
        counts: dict[int, int] = {}
        for width, _ in packed:
            counts[width] = counts.get(width, 0) + 1
        return sum(-(-n // rows_of(w)) * rows_of(w) * w * (1 + w / WIDE) for w, n in counts.items())

    cuts = [widths[0] // n for n in (1, 2, 3)] + [0] if len(widths) > 1 else [widths[0]]
    return min((pack(sizes, widths, cut) for cut in cuts), key=cost)


def batches(units: Sequence[Unit], widths: Sequence[int], rows_of: Callable[[int], int]) -> Iterator[Rows]:
    """Batches of `rows_of(width)` rows, the widest first; rows of about as many queries stand together."""
    packed = choose([u.size for u in units], widths, rows_of)
    weights = [sum(len(units[i].at) for i in row) for _, row in packed]
    order = sorted(range(len(packed)), key=lambda r: (-packed[r][0], -weights[r], r))
    start = 0
    while start < len(order):
        width = packed[order[start]][0]
        chosen = [r for r in order[start : start + rows_of(width)] if packed[r][0] == width]
        yield _fill(units, [packed[r][1] for r in chosen], rows_of(width), width)
        start += len(chosen)


def _fill(units, chosen: list[list[int]], rows: int, width: int) -> Rows:
    """The arrays of a batch; rows that are missing are padding."""
    batch = {name: np.zeros((rows, width), np.int32) for name in ("tokens", "segment_ids", "ends", "positions")}
    at, targets = np.zeros((rows, width), np.int32), np.zeros((rows, width, TARGETS), np.int32)
    parts, most = [], 1
    for row, members in enumerate(chosen):
        start = first = number = 0
        for i in members:
            unit = units[i]
            place, queries = slice(start, start + len(unit.tokens)), slice(first, first + len(unit.at))
            batch["tokens"][row, place], batch["positions"][row, place] = unit.tokens, unit.positions
            batch["segment_ids"][row, place], batch["ends"][row, place] = number + unit.segments, number + unit.ends
            at[row, queries], targets[row, queries] = start + unit.at, unit.targets
            parts.append((i, row, first))
            start, first, number = place.stop, queries.stop, number + int(unit.segments[-1])
        most = max(most, first)
    return Rows(batch, at, targets, most, parts)
