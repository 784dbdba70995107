"""Units of two answers in rows, and what arrays say of each token, against slow twins."""

import json

import numpy as np
import pytest

from jitune.data import pipeline
from jitune.types import DataStats, UserError

SIZES = {"seq_len": 32, "batch_size": 4}


def units(count, seed, first=1, longest=15):
    """Pairs whose tokens number them; a wanted token is a multiple of ten, an unwanted one ends with 1."""
    rng = np.random.default_rng(seed)
    tokens, sides, offsets = [], [], [0]
    for i in range(first, first + count):
        for side, (last, length) in zip((1, -1), enumerate(rng.integers(2, longest + 1, 2)), strict=True):
            tokens += [10 * i + last] * length
            sides += [side] * length
        offsets.append(len(tokens))
    weights = rng.choice([0.0, 0.5, 1.0], len(tokens)).astype(np.float32)
    return pipeline.Documents(np.array(tokens, np.int32), weights, np.array(offsets), np.array(sides, np.int8))


def prepared(counts=(40, 23), weights=None):
    firsts = np.cumsum([1, *counts])
    sources = tuple(units(n, i, first) for i, (n, first) in enumerate(zip(counts, firsts, strict=False)))
    return pipeline.Prepared(sources, weights, DataStats())


def drain(stream):
    iterator = iter(stream)
    found = list(iterator)
    iterator.close()
    return found


def same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def all_of(data):
    return np.concatenate([source.tokens for source in data.sources])


def segments(batches):
    """(tokens, targets, weights, positions, sides, extras...) of every segment of all rows."""
    for batch in batches:
        for row in range(len(batch["tokens"])):
            ids = batch["segment_ids"][row]
            for segment in range(1, ids.max(initial=0) + 1):
                yield row, {key: value[row][ids == segment] for key, value in batch.items()}


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_unit_keeps_together_and_its_answers_apart(packing, shuffle):
    data = prepared()
    options = {**SIZES, "epochs": 1, "packing": packing, "shuffle": shuffle, "num_bins": 5}
    batches = drain(pipeline.batches(data, **options))
    assert len(batches) == pipeline.count_steps(data, **options)
    found = list(segments(batches))
    wanted, unwanted = found[0::2], found[1::2]
    numbers = []
    for (row, one), (other_row, other) in zip(wanted, unwanted, strict=True):
        number = one["tokens"][0] // 10
        numbers.append(number)
        assert row == other_row and set(one["sides"]) == {1} and set(other["sides"]) == {-1}
        assert set(one["tokens"]) == {10 * number} and set(other["tokens"]) == {10 * number + 1}
        source = data.sources[int(number > 40)]
        unit = source[number - 1 if number <= 40 else number - 41]
        for answer, side in ((one, 1), (other, -1)):
            inside = unit["sides"] == side
            np.testing.assert_array_equal(answer["tokens"], unit["tokens"][inside])
            np.testing.assert_array_equal(answer["positions"], np.arange(inside.sum()))
            np.testing.assert_array_equal(answer["targets"], [*unit["tokens"][inside][1:], 0])
            np.testing.assert_array_equal(answer["loss_weights"], [*unit["loss_weights"][inside][1:], 0])
    assert sorted(numbers) == list(range(1, 64))
    for batch in batches:
        assert batch["sides"].dtype == np.int32
        np.testing.assert_array_equal(batch["sides"] != 0, batch["segment_ids"] > 0)
    if not packing:
        assert all(batch["segment_ids"].max() == 2 for batch in batches)


def test_a_row_by_hand():
    pair = pipeline.Documents(np.array([5, 6, 5, 7, 8, 9, 9]), np.array([0, 1, 0, 1, 1, 0, 1], np.float32),
                              np.array([0, 5, 7]), np.array([1, 1, -1, -1, -1, 1, 2], np.int8))  # fmt: skip
    data = pipeline.Prepared((pair,), None, DataStats())
    [batch] = drain(pipeline.eval_batches(data, seq_len=8, batch_size=1, extras={"of": np.arange(10, 17)}))
    expected = {
        "tokens": [5, 6, 5, 7, 8, 9, 9, 0], "targets": [6, 0, 7, 8, 0, 0, 0, 0],
        "loss_weights": [1, 0, 1, 1, 0, 0, 0, 0], "segment_ids": [1, 1, 2, 2, 2, 3, 4, 0],
        "positions": [0, 1, 0, 1, 2, 0, 0, 0], "sides": [1, 1, -1, -1, -1, 1, 2, 0],
        "of": [10, 11, 12, 13, 14, 15, 16, 0],
    }  # fmt: skip
    assert {key: value[0].tolist() for key, value in batch.items()} == expected


@pytest.mark.parametrize("weights", [None, (0.7, 0.3)])
@pytest.mark.parametrize("packing", [True, False])
def test_extras_lie_beside_their_tokens(tmp_path, packing, weights):
    data = prepared(weights=weights)
    tokens, rng = all_of(data), np.random.default_rng(0)
    stored = np.memmap(tmp_path / "x", np.float16, "w+", shape=(len(tokens), 3))
    stored[:] = rng.standard_normal(stored.shape)
    extras = {"stored": stored, "number": np.arange(1, len(tokens) + 1)}
    options = {**SIZES, "epochs": 2, "packing": packing, "num_bins": 5, "seed": 3}
    plain = drain(pipeline.batches(data, **options))
    batches = drain(pipeline.batches(data, **options, extras=extras))
    same([{key: batch[key] for key in plain[0]} for batch in batches], plain)
    for batch in batches:
        assert batch["stored"].dtype == np.float16 and batch["stored"].shape == (4, 32, 3)
        for place in np.ndindex(4, 32):  # the slow twin
            number = batch["number"][place]
            expected = stored[number - 1] if number else np.zeros(3)
            np.testing.assert_array_equal(batch["stored"][place], expected)
            assert batch["tokens"][place] == (tokens[number - 1] if number else 0)
        assert ((batch["number"] > 0) == (batch["segment_ids"] > 0)).all()


def test_extras_stand_beside_plain_documents():
    plain = tuple(source.__class__(source.tokens, source.loss_weights, source.offsets) for source in prepared().sources)
    data = prepared()._replace(sources=plain)
    extras = {"token": all_of(data)}
    for batch in drain(pipeline.eval_batches(data, **SIZES, extras=extras)):
        assert "sides" not in batch
        np.testing.assert_array_equal(batch["token"], batch["tokens"])
    with pytest.raises(UserError, match=r"token is of 3 tokens, and the data has [\d,]+"):
        pipeline.batches(data, **SIZES, extras={"token": np.zeros(3)})


@pytest.mark.parametrize("packing", [True, False])
def test_units_and_extras_resume_and_divide_among_processes(packing):
    data = prepared(weights=(0.6, 0.4))
    extras = {"token": all_of(data)}
    options = {**SIZES, "epochs": 2, "packing": packing, "num_bins": 7, "seed": 5, "extras": extras}
    whole = drain(pipeline.batches(data, **options))
    halves = [drain(pipeline.batches(data, **options, process_index=i, process_count=2)) for i in range(2)]
    same([{key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*halves, strict=True)], whole)
    running = iter(pipeline.batches(data, **options, prefetch=2))
    for taken in range(len(whole)):
        if taken in (0, 3, len(whole) - 1):
            fresh = iter(pipeline.batches(data, **options))
            fresh.set_state(json.loads(json.dumps(running.get_state())))
            same(list(fresh), whole[taken:])
            fresh.close()
        same([next(running)], [whole[taken]])
    running.close()
