"""Documents to rows of one length: fit the long ones, pack the short ones together, pad what is left.

In: documents `{"tokens", "loss_weights"}` of any length (see chat.py). Out: rows of `seq_len` slots
`{tokens, targets, loss_weights, segment_ids, positions}`, and batches of them.

    rows = pack(grain.MapDataset.source(documents).to_iter_dataset(), seq_len=8)

A document of n tokens takes n slots. The target of a slot is the next token of its own document, and the
slot's loss weight is that of its target; a document's last slot has target 0 and weight 0. Two documents in
one row, 5 6 7 (7 is trained) and 8 9 (9 is trained), at seq_len 8:

    tokens        5 6 7 8 9 0 0 0
    targets       6 7 0 9 0 0 0 0
    loss_weights  0 1 0 1 0 0 0 0
    segment_ids   1 1 1 2 2 0 0 0
    positions     0 1 2 0 1 0 0 0

A unit of two answers (a pair) travels as one document whose tokens say which side they are on, and becomes two segments
of its row: nothing of the first predicts the second, and each has positions of its own. 5 6 wanted, 5 7 not:

    tokens 5 6 5 7   sides 1 1 -1 -1   segment_ids 1 1 2 2   positions 0 1 0 1   targets 6 0 7 0

Packing is best fit over a window of bins, by grain (`BestFitPackIterDataset`); fed by decreasing length with
enough bins it makes the bins of best-fit decreasing (Ding et al. 2024, arXiv:2404.10830).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np

from jitune.data.chat import Rendered
from jitune.types import Batch, DataStats, UserError

POLICIES = ("drop", "truncate", "split")


def fit(rendered: Rendered, seq_len: int, policy: str, stats: DataStats) -> list[Rendered]:
    """Makes documents of at most `seq_len` tokens from one example, and counts it in `stats`.

    Args:
      policy: for a longer example, `drop` it, `truncate` it to its first `seq_len` tokens, or `split` it into
        pieces of `seq_len`. What is left without a trained token is dropped and counted.

    `stats.tokens` and `stats.supervised_tokens` count what is kept; the first token of a piece has nothing
    before it to be predicted from, so it is never counted as supervised.
    """
    if policy not in POLICIES:
        raise UserError(f"data: overlong={policy!r} is not one of {', '.join(POLICIES)}")
    stats.examples += 1
    for note in rendered.notes:
        stats.notes[note] = stats.notes.get(note, 0) + 1
    length = len(rendered.tokens)
    ends = range(seq_len, length + seq_len, seq_len)[: None if policy == "split" else 1]
    if length > seq_len and policy == "drop":
        ends = ()
    pieces = [_cut(rendered, end - seq_len, end) for end in ends]
    kept = [piece for piece in pieces if piece.loss_weights[1:].any()]
    _count(stats, length, pieces, kept, policy)
    return kept


def _cut(rendered: Rendered, start: int, end: int) -> Rendered:
    tokens, weights = rendered.tokens[start:end], rendered.loss_weights[start:end]
    return rendered._replace(tokens=tokens, loss_weights=weights)


def _count(stats: DataStats, length: int, pieces: list[Rendered], kept: list[Rendered], policy: str) -> None:
    tokens = sum(len(piece.tokens) for piece in kept)
    stats.tokens += tokens
    stats.supervised_tokens += sum(int(np.count_nonzero(piece.loss_weights[1:])) for piece in kept)
    if not kept:
        stats.dropped_examples += 1
        stats.dropped_tokens += length
        if pieces:
            note = "dropped because nothing of what fits is trained"
            stats.notes[note] = stats.notes.get(note, 0) + 1
    elif policy == "truncate" and tokens < length:
        stats.truncated_examples += 1
        stats.truncated_tokens += length - tokens
    elif len(pieces) > 1:
        stats.split_examples += 1
        stats.dropped_tokens += length - tokens
    if kept and len(kept) < len(pieces):
        note = "pieces of split examples dropped because nothing in them is trained"
        stats.notes[note] = stats.notes.get(note, 0) + len(pieces) - len(kept)


def pack(dataset, seq_len: int, *, num_bins=64, shuffle=False, seed=0, more=()):
    """A grain IterDataset of documents to one of packed rows [seq_len]; no document is longer than `seq_len`.

    Args:
      num_bins: rows that are open at a time; the window is emitted when a document fits none of them.
      shuffle: emit the rows of a window in an order drawn from `seed`.
      more: what documents hold besides, one value a token, which stands in the rows beside it; `sides` cut units.
    """
    import grain

    packed = grain.experimental.BestFitPackIterDataset(
        dataset,
        length_struct=dict.fromkeys(("tokens", "loss_weights", *more), seq_len),
        num_packing_bins=num_bins,
        shuffle_bins=shuffle,
        seed=seed,
    )
    return packed.map(partial(_from_grain, more=more))


def _from_grain(row: dict, more) -> Batch:
    return _row(row, row["tokens_segment_ids"], row["tokens_positions"], more)


def unpacked(dataset, seq_len: int, *, more=()):
    """A grain dataset of documents to one of rows [seq_len] with one document, or unit, each; more: as of `pack`."""
    return dataset.map(partial(_alone, seq_len=seq_len, more=more))


def _alone(document: dict, seq_len: int, more) -> Batch:
    length, row = len(document["tokens"]), {}
    for key in ("tokens", "loss_weights", *more):
        row[key] = np.zeros(seq_len, document[key].dtype)
        row[key][:length] = document[key]
    places = np.arange(seq_len, dtype=np.int32)
    inside = places < length
    return _row(row, inside.astype(np.int32), np.where(inside, places, 0).astype(np.int32), more)


def _row(row: dict, segment_ids, positions, more) -> Batch:
    """A row of the documents in it, with what they hold besides."""
    if "sides" in more:
        segment_ids, positions = cut_units(row["sides"], segment_ids, positions)
    batch = shift(row["tokens"], row["loss_weights"], segment_ids, positions)
    return {**batch, **{key: row[key] for key in more}} if more else batch


def cut_units(sides, segment_ids, positions):
    """(segment_ids, positions) with a segment of its own wherever the side changes within a unit; all are [seq_len]."""
    begins = segment_ids > 0
    begins[1:] &= (segment_ids[1:] != segment_ids[:-1]) | (sides[1:] != sides[:-1])
    starts = np.flatnonzero(begins)
    if not len(starts):
        return segment_ids, positions
    inside, numbers = segment_ids > 0, np.cumsum(begins, dtype=np.int32)
    first = positions[starts][np.maximum(numbers - 1, 0)]
    return np.where(inside, numbers, 0).astype(np.int32), np.where(inside, positions - first, 0).astype(np.int32)


def gather(batch: Batch, extras: Mapping[str, np.ndarray]) -> Batch:
    """The batch with what arrays say of its tokens, in place of its `index` [rows, seq_len].

    index: of each slot the number of its token, from 1, and 0 in padding. extras: name -> array [all tokens, ...],
    on a disk too (`np.memmap`): what follows each other is read at once. Rows get [rows, seq_len, ...], 0 in padding.
    """
    batch = dict(batch)
    index = batch.pop("index").reshape(-1)
    edges = np.flatnonzero((np.diff(index, prepend=0) != 1) | (index == 1))
    edges = edges[index[edges] > 0]
    ends = np.flatnonzero((np.diff(index, append=0) != 1) & (index > 0)) + 1
    for name, array in extras.items():
        found = np.zeros((len(index), *array.shape[1:]), array.dtype)
        for start, end in zip(edges, ends, strict=True):
            found[start:end] = array[index[start] - 1 : index[end - 1]]
        batch[name] = found.reshape(*batch["tokens"].shape, *array.shape[1:])
    return batch


def shift(tokens, loss_weights, segment_ids, positions) -> Batch:
    """Moves targets and their weights to the slot that predicts them; every array is [..., seq_len]."""
    targets, weights = np.zeros_like(tokens), np.zeros_like(loss_weights)
    inside = (segment_ids[..., 1:] == segment_ids[..., :-1]) & (segment_ids[..., 1:] > 0)
    targets[..., :-1] = np.where(inside, tokens[..., 1:], 0)
    weights[..., :-1] = np.where(inside, loss_weights[..., 1:], 0)
    return Batch(
        tokens=tokens, targets=targets, loss_weights=weights, segment_ids=segment_ids, positions=positions
    )


def pad_batch(rows: list[Batch], batch_size: int, *, start=0, stop=None) -> Batch:
    """Stacks rows into arrays [batch_size, seq_len], with empty rows (all zero) for those that are missing.

    `start` and `stop` take these rows of the batch only, for one process of several.
    """
    stop = batch_size if stop is None else stop
    batch = {key: np.zeros((stop - start, *value.shape), value.dtype) for key, value in rows[0].items()}
    for i, row in enumerate(rows[start:stop]):
        for key, value in row.items():
            batch[key][i] = value
    return batch


def count_rows(lengths: Iterable[int], seq_len: int, num_bins: int) -> int:
    """How many rows `pack` makes of documents of these lengths, in this order, without packing them."""
    rows, free = 0, [seq_len] * num_bins  # room left in the bins, sorted
    for length in lengths:
        best = bisect_left(free, length)
        if best == num_bins:
            rows += num_bins - free.count(seq_len)
            best, free = 0, [seq_len] * num_bins
        insort(free, free.pop(best) - length)
    return rows + num_bins - free.count(seq_len)
