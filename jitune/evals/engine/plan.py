"""Plans of scoring, on the host: pairs of (context, continuation) to few packed rows of few widths.

    windows = [window(context, continuation, limit) for context, continuation in pairs]
    segments, places = share(windows)
    for batch in batches(segments, widths, rows): ...       # arrays for `score.score`

Pairs whose inputs are equal, or of which one begins with the other, are computed once: a causal model has the same
hidden states there. So the letters A to D after one question take one segment, in which one position has four targets:

    contexts (5 6 7) x continuations (8), (9), (8 3)   ->   one segment 5 6 7 8; position 2: targets 8 9, position 3: 3
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

TARGETS = 4  # of one queried position; more targets repeat the position
# The cost of a token in attention, in units of the rest of the model, grows with the row: about 1 at this width.
WIDE = 8192


class Window(NamedTuple):
    """What a pair asks of a model. inputs: int32 [n], n at most the context. targets: int32 [t], of the last t inputs.

    truncated: tokens of the context that were cut off on the left.
    """

    inputs: np.ndarray
    targets: np.ndarray
    truncated: int


class Segment(NamedTuple):
    """One document in a row. tokens: int32 [n]. at: int32 [m], queried positions; targets: int32 [m, TARGETS]."""

    tokens: np.ndarray
    at: np.ndarray
    targets: np.ndarray

    @property
    def size(self) -> int:
        """The slots that it takes: of tokens, or of queries where these are more."""
        return max(len(self.tokens), len(self.at))


class Place(NamedTuple):
    """Where a pair's answers lie: the segment's index, and places int64 [t] in its flat [m * TARGETS]."""

    segment: int
    queries: np.ndarray


class Rows(NamedTuple):
    """A batch of packed rows.

    batch: tokens, segment_ids, positions, int32 [rows, width]. at: int32 [rows, width], queried columns; targets: int32
    [rows, width, TARGETS]. queries: the most queries of a row. parts: (segment, row, its first query) of each segment.
    """

    batch: dict[str, np.ndarray]
    at: np.ndarray
    targets: np.ndarray
    queries: int
    parts: list[tuple[int, int, int]]


def window(context: Sequence[int], continuation: Sequence[int], limit: int) -> Window:
    """The last `limit` + 1 tokens of context and continuation without the last one, as in lm-evaluation-harness."""
    whole = np.asarray([*context, *continuation], np.int32)
    kept = whole[-(limit + 1) :]
    return Window(kept[:-1], kept[len(kept) - len(continuation) :], len(whole) - len(kept))


def share(windows: Sequence[Window]) -> tuple[list[Segment], list[Place]]:
    """Segments that answer all windows, each computed once, and the place of each window."""
    keys = [w.inputs.astype(">i4").tobytes() for w in windows]  # big-endian: bytes sort as the numbers do
    members: dict[bytes, list[int]] = {}
    for i, key in enumerate(keys):
        members.setdefault(key, []).append(i)
    segments, places = [], [None] * len(windows)
    order = sorted(members)
    end = len(order)
    while end:
        # Whatever begins a key stands before it, and all between the two begins with it too.
        first = end - 1
        while first and order[end - 1].startswith(order[first - 1]):
            first -= 1
        group = [i for key in order[first:end] for i in members[key]]
        segment, found = _merge([windows[i] for i in group], np.frombuffer(order[end - 1], ">i4").astype(np.int32))
        for i, queries in zip(group, found, strict=True):
            places[i] = Place(len(segments), queries)
        segments.append(segment)
        end = first
    return segments, places


def _merge(windows: Sequence[Window], tokens: np.ndarray) -> tuple[Segment, list[np.ndarray]]:
    """One segment with the queries of all windows, and where each window's queries are."""
    if len(windows) == 1:  # the common case, without a look at every token
        count = len(windows[0].targets)
        targets = np.zeros((count, TARGETS), np.int32)
        targets[:, 0] = windows[0].targets
        at = np.arange(len(tokens) - count, len(tokens), dtype=np.int32)
        return Segment(tokens, at, targets), [np.arange(count) * TARGETS]
    asked: dict[int, dict[int, None]] = {}
    pairs = []
    for w in windows:
        start = len(w.inputs) - len(w.targets)
        pairs.append([(start + i, t) for i, t in enumerate(w.targets.tolist())])
        for at, target in pairs[-1]:
            asked.setdefault(at, {})[target] = None
    at, targets, slot = [], [], {}
    for position in sorted(asked):
        wanted = list(asked[position])
        for i in range(0, len(wanted), TARGETS):
            part = wanted[i : i + TARGETS]
            slot.update({(position, t): len(at) * TARGETS + j for j, t in enumerate(part)})
            at.append(position)
            targets.append(part + [0] * (TARGETS - len(part)))
    segment = Segment(tokens, np.asarray(at, np.int32), np.asarray(targets, np.int32))
    return segment, [np.asarray([slot[pair] for pair in one], np.int64) for one in pairs]


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


def choose(sizes: Sequence[int], widths: Sequence[int], rows: Any) -> list[tuple[int, list[int]]]:
    """The cheapest of several packings: sizes that leave much of the narrowest row empty may go into wider ones.

    rows: `(width) -> rows of a batch`, for a batch is computed whole.
    """

    def cost(packed):
        counts: dict[int, int] = {}
        for width, _ in packed:
            counts[width] = counts.get(width, 0) + 1
        return sum(-(-n // rows(w)) * rows(w) * w * (1 + w / WIDE) for w, n in counts.items())

    cuts = [widths[0] // n for n in (1, 2, 3)] + [0] if len(widths) > 1 else [widths[0]]
    return min((pack(sizes, widths, cut) for cut in cuts), key=cost)


def batches(segments: Sequence[Segment], widths: Sequence[int], rows: Any) -> Iterator[Rows]:
    """Batches of `rows(width)` rows, the widest first; rows of about as many queries stand together."""
    packed = choose([s.size for s in segments], widths, rows)
    weights = [sum(len(segments[i].at) for i in row) for _, row in packed]
    order = sorted(range(len(packed)), key=lambda r: (-packed[r][0], -weights[r], r))
    start = 0
    while start < len(order):
        width = packed[order[start]][0]
        chosen = [r for r in order[start : start + rows(width)] if packed[r][0] == width]
        yield _fill(segments, [packed[r][1] for r in chosen], rows(width), width)
        start += len(chosen)


def _fill(segments, chosen: list[list[int]], rows: int, width: int) -> Rows:
    """The arrays of a batch; rows that are missing are padding."""
    batch = {name: np.zeros((rows, width), np.int32) for name in ("tokens", "segment_ids", "positions")}
    at, targets = np.zeros((rows, width), np.int32), np.zeros((rows, width, TARGETS), np.int32)
    parts, most = [], 1
    for row, members in enumerate(chosen):
        start = first = 0
        for number, i in enumerate(members, 1):
            tokens, columns = segments[i].tokens, segments[i].at
            place, queries = slice(start, start + len(tokens)), slice(first, first + len(columns))
            batch["tokens"][row, place] = tokens
            batch["segment_ids"][row, place] = number
            batch["positions"][row, place] = np.arange(len(tokens))
            at[row, queries] = start + columns
            targets[row, queries] = segments[i].targets
            parts.append((i, row, first))
            start, first = place.stop, queries.stop
        most = max(most, first)
    return Rows(batch, at, targets, most, parts)
