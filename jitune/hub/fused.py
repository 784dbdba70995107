"""Low-rank factors of a fused module and of the weights in it: one pair for all on disk, one pair for each here.

    fuse([q, k, v], [64, 32, 32])       # A: those of the parts side by side, B: block-diagonal
    split(pair, [64, 32, 32])           # the same A for each, B by columns

Both are exact: W + scale A B is the same matrix, and what one makes the other gives back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Factors(NamedTuple):
    """Low-rank factors of one module, float32: W' = W + scale A B, with a magnitude DoRA's.

    a: [in, r] (of an embedding [vocab, r]). b: [r, out]. magnitude: [out] or None.
    """

    a: np.ndarray
    b: np.ndarray
    scale: float
    magnitude: np.ndarray | None = None


def fuse(parts: Sequence[Factors | None], widths: Sequence[int], norms=None) -> Factors:
    """One pair for weights that lie end to end, [in, sum of widths]; None: a weight without factors.

    Parts with the same A share its rank; the rank is the sum of those that differ. The scale is that of the first; the
    B of a part with another is multiplied with the ratio. norms: `(number of the part) -> [width]`, the lengths of a
    weight's outputs, which are the magnitudes of a part without factors beside some with.
    """
    found = [f for f in parts if f is not None]
    if len(parts) == 1:
        return found[0]
    shared: list[np.ndarray] = []
    for f in found:
        if not any(np.array_equal(f.a, a) for a in shared):
            shared.append(f.a)
    first = np.cumsum([0, *(a.shape[1] for a in shared)])
    scale, column = found[0].scale, 0
    b = np.zeros((first[-1], sum(widths)), np.float32)
    for f, width in zip(parts, widths, strict=True):
        if f is not None:
            i = next(i for i, a in enumerate(shared) if np.array_equal(f.a, a))
            ratio = 1.0 if f.scale == scale else f.scale / scale
            b[first[i] : first[i + 1], column : column + width] = f.b * np.float32(ratio)
        column += width
    magnitude = None
    if found[0].magnitude is not None:
        magnitude = np.concatenate([norms(i) if f is None else f.magnitude for i, f in enumerate(parts)])
    return Factors(np.concatenate(shared, axis=1), b, scale, magnitude)


def split(pair: Factors, widths: Sequence[int]) -> list[Factors | None]:
    """A pair for each of the weights that lie end to end; None for one that the pair leaves as it is.

    Of each part stay the ranks that reach its own outputs, or no part's at all.
    """
    if len(widths) == 1:
        return [pair]
    ends = np.cumsum([0, *widths])
    blocks = [pair.b[:, i:j] for i, j in zip(ends[:-1], ends[1:], strict=True)]
    idle = ~pair.b.any(axis=1)
    found: list[Factors | None] = []
    for number, block in enumerate(blocks):
        kept = block.any(axis=1) | idle
        magnitude = None
        if pair.magnitude is not None:
            magnitude = pair.magnitude[ends[number] : ends[number + 1]]
            kept = kept if kept.any() else np.arange(len(kept)) == 0
        part = Factors(pair.a[:, kept], np.ascontiguousarray(block[kept]), pair.scale, magnitude)
        found.append(part if kept.any() else None)
    return found
