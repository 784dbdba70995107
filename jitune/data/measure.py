"""What the data of a run are like, in numbers for its report: documents, lengths, packing, masks.

`describe(prepared, specs, ...)` in, a JSON value out; a run writes those of its training and its evaluation data
to data.json.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from jitune.data.packing import count_rows
from jitune.data.pipeline import Prepared

BINS = 20


def describe(prepared: Prepared, specs: list[str], *, seq_len: int, packing: bool, num_bins: int) -> dict:
    """The numbers of prepared data.

    Args:
      specs: what the sources are called, in the order of `prepared.sources`.

    Returns the fields of `DataStats` and: documents; supervised_share; rows, of `seq_len` slots, that every document
    once takes in the order of the files; fill, the share of their slots that hold a token; lengths, a histogram
    where counts[i] documents are longer than edges[i] and at most edges[i + 1] tokens long; sources.
    """
    parts = [np.diff(source.offsets) for source in prepared.sources]
    lengths = np.concatenate(parts)
    rows = count_rows(lengths.tolist(), seq_len, num_bins) if packing else len(lengths)
    stats = prepared.stats
    return {
        **asdict(stats),
        "documents": len(lengths),
        "supervised_share": stats.supervised_tokens / max(1, stats.tokens),
        "seq_len": seq_len,
        "rows": rows,
        "fill": int(lengths.sum()) / (rows * seq_len),
        "lengths": histogram(lengths),
        "sources": [
            {"source": spec, "documents": len(part), "tokens": int(part.sum())}
            for spec, part in zip(specs, parts, strict=True)
        ],
    }


def histogram(lengths: np.ndarray, bins: int = BINS) -> dict:
    """At most `bins` bins of one width from 0 to the longest: lengths 1, 2, 9 in 5 bins of 2 are 2 0 0 0 1."""
    longest = int(lengths.max())
    width = -(-longest // bins)
    edges = np.arange(0, longest + width, width)
    counts = np.bincount((lengths - 1) // width, minlength=len(edges) - 1)
    return {
        "edges": edges.tolist(), "counts": counts.tolist(),
        "min": int(lengths.min()), "median": float(np.median(lengths)), "max": longest,
    }
