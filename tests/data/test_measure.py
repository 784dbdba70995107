"""The description of data against the rows that packing makes of them."""

import json

import numpy as np
import pytest

from jitune.data import measure, pipeline
from jitune.data.pipeline import Documents, Prepared
from jitune.types import DataStats

pytestmark = pytest.mark.core


def prepared(*parts: list[int]) -> Prepared:
    sources = []
    for lengths in parts:
        offsets = np.cumsum([0, *lengths])
        sources.append(Documents(np.ones(offsets[-1], np.int32), np.ones(offsets[-1], np.float32), offsets))
    total = sum(map(sum, parts))
    return Prepared(tuple(sources), None, DataStats(examples=len(parts), tokens=total, supervised_tokens=total // 2))


def test_lengths_fall_into_bins():
    assert measure.histogram(np.array([1, 2, 9]), bins=5) == {
        "edges": [0, 2, 4, 6, 8, 10], "counts": [2, 0, 0, 0, 1], "min": 1, "median": 2.0, "max": 9}
    found = measure.histogram(np.array([7, 300, 20, 21]))
    assert sum(found["counts"]) == 4 and len(found["counts"]) == len(found["edges"]) - 1 <= 20
    assert found["edges"][-2] < 300 <= found["edges"][-1]


@pytest.mark.parametrize("packing", [True, False])
def test_rows_and_fill_are_those_of_the_batches(packing):
    rng = np.random.default_rng(0)
    data = prepared(rng.integers(2, 33, 40).tolist(), rng.integers(2, 10, 25).tolist())
    found = measure.describe(data, ["a", "b"], seq_len=32, packing=packing, num_bins=8)
    rows = np.concatenate([batch["segment_ids"] for batch in pipeline.eval_batches(
        data, seq_len=32, batch_size=1, packing=packing, num_bins=8)])
    assert found["rows"] == len(rows) and found["fill"] == (rows > 0).mean()
    assert found["documents"] == 65 and [s["documents"] for s in found["sources"]] == [40, 25]
    assert sum(s["tokens"] for s in found["sources"]) == found["tokens"]
    assert json.loads(json.dumps(found)) == found and found["notes"] == {}
