"""On-policy distillation (GKD, arXiv 2306.13649, algorithm 1): batches whose answers the student has written itself.

    if coin(seed, step, share):                    # GKD's lambda: 0 never, 1 at every step
        prompts = prompts_of(batch)                # [[5, 6], [8]]
        answers = ...                              # sampled from the student, with their end tokens: [[7, 2], [9, 2]]
        batch = batch_of(prompts, answers, batch)

All arrays are of the host. What a step does follows from the seed and the number of the step alone, so that a resumed
run repeats it. Of `5 6 7 | 8 9`, whose answers are 7 and 9, the new row is

    tokens        5 6 7 2 8 9 2 0
    loss_weights  0 1 1 0 1 1 0 0
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jitune.data.packing import shift
from jitune.types import Batch


class Placed(NamedTuple):
    """Where documents lie: of each its row (-1: dropped) and how many of its tokens are there."""

    rows: list[int]
    lengths: list[int]
    dropped: int
    cut: int


def coin(seed: int, step: int, share: float) -> bool:
    """Whether a step is on-policy; of many steps, a `share` is. 0: none, 1: all."""
    drawn = hashlib.sha256(f"on policy/{seed}/{step}".encode()).digest()[:8]
    return int.from_bytes(drawn, "big") / 2**64 < share


def prompts_of(batch: Mapping[str, np.ndarray], *, max_new_tokens: int = 1, limit: int = 0) -> list[list[int]]:
    """The tokens before the first trained one of every document, row by row; documents without one are left out.

    max_new_tokens: room in a row that an answer needs; of prompts that leave less, the last tokens are kept. limit: the
    most tokens of a prompt with its answer, where that is less than a row.
    """
    tokens, segments = np.asarray(batch["tokens"]), np.asarray(batch["segment_ids"])
    weights, found = np.asarray(batch["loss_weights"]), []
    most = max(1, min(tokens.shape[1], limit or tokens.shape[1]) - max(1, max_new_tokens))
    for row in range(len(tokens)):
        starts = np.flatnonzero(np.diff(segments[row], prepend=0))
        for start, end in zip(starts, [*starts[1:], tokens.shape[1]][: len(starts)], strict=True):
            trained = np.flatnonzero(weights[row, start:end])
            if segments[row, start] and len(trained):
                found.append(tokens[row, start : start + trained[0] + 1].tolist()[-most:])
    return found


def batch_of(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], like: Mapping[str, np.ndarray],
             placed: Placed | None = None) -> Batch:  # fmt: skip
    """A batch of prompts with these answers, of the rows and length of another; every answer token has weight 1.

    placed: see `place`, by default that of these documents. Where nothing fits, all weights are 0.
    """
    shape = np.asarray(like["tokens"]).shape
    placed = placed or place(prompts, answers, *shape)
    names = ("tokens", "loss_weights", "segment_ids", "positions")
    out = {name: np.zeros(shape, np.float32 if name == "loss_weights" else np.int32) for name in names}
    filled, numbers = [0] * shape[0], [0] * shape[0]
    for prompt, answer, row, length in zip(prompts, answers, placed.rows, placed.lengths, strict=True):
        if row < 0:
            continue
        at = slice(filled[row], filled[row] + length)
        numbers[row] += 1
        out["tokens"][row, at] = [*prompt, *answer][:length]
        out["loss_weights"][row, at] = np.arange(length) >= len(prompt)
        out["segment_ids"][row, at], out["positions"][row, at] = numbers[row], np.arange(length)
        filled[row] += length
    return shift(*(out[name] for name in names))


def place(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], rows: int, seq_len: int) -> Placed:
    """Puts documents into rows: one a row where there are rows enough, else by decreasing length into the fullest row.

    What fits nowhere loses the end of its answer, if a row has room for some of it, and is dropped else; so are
    empty answers.
    """
    lengths = [min(len(p) + len(a), seq_len) for p, a in zip(prompts, answers, strict=True)]
    where, free, dropped = [-1] * len(lengths), [seq_len] * rows, 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        least = len(prompts[i]) + 1
        fits = [r for r in range(rows) if free[r] >= lengths[i]] or [r for r in range(rows) if free[r] >= least]
        if lengths[i] < least or not fits:
            dropped += 1
            continue
        alone = len(lengths) <= rows or free[fits[0]] < lengths[i]
        where[i] = max(fits, key=lambda r: free[r]) if alone else min(fits, key=lambda r: free[r])
        lengths[i] = min(lengths[i], free[where[i]])
        free[where[i]] -= lengths[i]
    whole = [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)]
    cut = sum(row >= 0 and n < m for row, n, m in zip(where, lengths, whole, strict=True))
    return Placed(where, lengths, dropped, cut)
