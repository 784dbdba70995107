"""Packing: exact rows, conservation against a naive packer, and TRL's best-fit decreasing."""

from collections import Counter

import grain
import numpy as np
import pytest

from jitune.data.chat import Rendered
from jitune.data.packing import count_rows, fit, pack, pad_batch, shift, unpacked
from jitune.types import DataStats, UserError

OPTIONS = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)


def document(tokens, weights=None):
    weights = np.ones(len(tokens)) if weights is None else weights
    return {"tokens": np.asarray(tokens, np.int32), "loss_weights": np.asarray(weights, np.float32)}


def stream(documents):
    return grain.MapDataset.source(documents).to_iter_dataset(OPTIONS)


def random_documents(seed, count, longest):
    """Documents of distinct tokens: the first token numbers the document from 1."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, count)
    return [
        document(1000 * (i + 1) + np.arange(n), rng.choice([0.0, 0.5, 1.0], n)) for i, n in enumerate(lengths)
    ]


def naive_pack(documents, seq_len, num_bins):
    """Best fit over a window of bins, with lists: returns rows of document indices."""
    rows, bins = [], [[] for _ in range(num_bins)]

    def used(one):
        return sum(len(documents[i]["tokens"]) for i in one)

    for index, one in enumerate(documents):
        room = [b for b in range(num_bins) if used(bins[b]) + len(one["tokens"]) <= seq_len]
        if not room:
            rows += [one for one in bins if one]
            bins, room = [[] for _ in range(num_bins)], [0]
        bins[max(room, key=lambda b: (used(bins[b]), -b))].append(index)
    return rows + [one for one in bins if one]


def naive_row(documents, seq_len):
    """A row by the definition of targets, one slot at a time."""
    row = {key: np.zeros(seq_len, np.int32) for key in ("tokens", "targets", "segment_ids", "positions")}
    row["loss_weights"] = np.zeros(seq_len, np.float32)
    slot = 0
    for segment, one in enumerate(documents, 1):
        for position, token in enumerate(one["tokens"]):
            row["tokens"][slot], row["segment_ids"][slot], row["positions"][slot] = token, segment, position
            if position + 1 < len(one["tokens"]):
                row["targets"][slot] = one["tokens"][position + 1]
                row["loss_weights"][slot] = one["loss_weights"][position + 1]
            slot += 1
    return row


def same(row, expected):
    assert set(row) == set(expected)
    for key in expected:
        assert row[key].dtype == expected[key].dtype, key
        np.testing.assert_array_equal(row[key], expected[key], err_msg=key)


def test_the_worked_example():
    (row,) = pack(stream([document([5, 6, 7], [0, 0, 1]), document([8, 9], [0, 1])]), 8)
    same(row, {
        "tokens": np.array([5, 6, 7, 8, 9, 0, 0, 0], np.int32),
        "targets": np.array([6, 7, 0, 9, 0, 0, 0, 0], np.int32),
        "loss_weights": np.array([0, 1, 0, 1, 0, 0, 0, 0], np.float32),
        "segment_ids": np.array([1, 1, 1, 2, 2, 0, 0, 0], np.int32),
        "positions": np.array([0, 1, 2, 0, 1, 0, 0, 0], np.int32),
    })  # fmt: skip


def test_a_first_token_with_a_weight_is_nobodys_target():
    (row,) = pack(stream([document([5, 6], [1, 0]), document([7, 8], [1, 1])]), 4)
    assert row["loss_weights"].tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize(("seq_len", "num_bins"), [(8, 1), (16, 4), (33, 64)])
def test_against_the_naive_packer(seq_len, num_bins):
    documents = random_documents(seq_len, 200, seq_len)
    rows = list(pack(stream(documents), seq_len, num_bins=num_bins))
    naive = naive_pack(documents, seq_len, num_bins)
    assert count_rows([len(one["tokens"]) for one in documents], seq_len, num_bins) == len(naive) == len(rows)
    for row, indices in zip(rows, naive, strict=True):
        same(row, naive_row([documents[i] for i in indices], seq_len))
    assert sorted(index for indices in naive for index in indices) == list(range(200))


def test_shuffled_rows_are_the_same_rows():
    documents = random_documents(0, 100, 16)
    plain = [row["tokens"].tolist() for row in pack(stream(documents), 16, num_bins=8)]
    mixed = [row["tokens"].tolist() for row in pack(stream(documents), 16, num_bins=8, shuffle=True, seed=1)]
    again = [row["tokens"].tolist() for row in pack(stream(documents), 16, num_bins=8, shuffle=True, seed=1)]
    assert mixed == again != plain
    assert sorted(mixed) == sorted(plain)


def test_unpacked_rows_hold_one_document():
    documents = random_documents(0, 20, 9)
    rows = list(unpacked(stream(documents), 9))
    for row, one in zip(rows, documents, strict=True):
        same(row, naive_row([one], 9))


@pytest.mark.parametrize("seed", range(3))
def test_decreasing_lengths_make_the_bins_of_trl(seed):
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    lengths = np.random.default_rng(seed).integers(1, 65, 300)
    examples = datasets.Dataset.from_dict({"input_ids": [[i + 1] * n for i, n in enumerate(lengths)]})
    theirs = trl.pack_dataset(examples, seq_length=64, strategy="bfd")["seq_lengths"]
    documents = [document([1] * n) for n in sorted(lengths, reverse=True)]
    ours = [int((row["segment_ids"] > 0).sum()) for row in pack(stream(documents), 64, num_bins=300)]
    # Of bins that are equally full either may be chosen, so what is compared is how full the bins become.
    assert Counter(ours) == Counter(sum(one) for one in theirs)


def test_shift_takes_leading_axes():
    documents = random_documents(3, 12, 7)
    rows = [naive_row([one], 7) for one in documents]
    stacked = pad_batch(rows, 12)
    given = [np.zeros((12, 7), np.int32), np.zeros((12, 7), np.float32)]
    for i, one in enumerate(documents):
        given[0][i, : len(one["tokens"])], given[1][i, : len(one["tokens"])] = (
            one["tokens"],
            one["loss_weights"],
        )
    same(shift(*given, stacked["segment_ids"], stacked["positions"]), stacked)


def test_pad_batch_fills_with_empty_rows():
    rows = [naive_row([one], 5) for one in random_documents(0, 3, 5)]
    batch = pad_batch(rows, 4)
    for key, value in batch.items():
        assert value.shape == (4, 5) and value.dtype == rows[0][key].dtype
        np.testing.assert_array_equal(value[:3], np.stack([row[key] for row in rows]))
        assert not value[3].any()
    parts = [pad_batch(rows, 4, start=start, stop=start + 2) for start in (0, 2)]
    same({key: np.concatenate([part[key] for part in parts]) for key in batch}, batch)
    assert not pad_batch(rows[:1], 4, start=2, stop=4)["tokens"].any()


# Fitting long examples.


def example(length, weights):
    tokens = np.arange(1, length + 1, dtype=np.int32)
    return Rendered(tokens, np.asarray(weights, np.float32), "", ("f", 1), ("odd",))


def pieces(kept):
    return [(piece.tokens.tolist(), piece.loss_weights.tolist()) for piece in kept]


@pytest.mark.parametrize("policy", ["drop", "truncate", "split"])
def test_short_examples_are_left_alone(policy):
    stats = DataStats()
    for length in (2, 4):
        (kept,) = fit(example(length, [0] + [1] * (length - 1)), 4, policy, stats)
        assert len(kept.tokens) == length and kept.origin == ("f", 1)
    assert stats == DataStats(examples=2, tokens=6, supervised_tokens=4, notes={"odd": 2})


@pytest.mark.parametrize(
    ("policy", "weights", "expected", "counted"),
    [
        ("drop", [0, 1, 1, 1, 1], [], DataStats(dropped_examples=1, dropped_tokens=5)),
        (
            "truncate",
            [0, 0, 1, 1, 1],
            [([1, 2, 3, 4], [0, 0, 1, 1])],
            DataStats(tokens=4, supervised_tokens=2, truncated_examples=1, truncated_tokens=1),
        ),
        (
            "truncate",
            [1, 0, 0, 0, 1],
            [],
            DataStats(
                dropped_examples=1, dropped_tokens=5,
                notes={"dropped because nothing of what fits is trained": 1},
            ),
        ),
        (
            "split",
            [0, 0, 0, 1, 1, 1, 0],
            [([1, 2, 3, 4], [0, 0, 0, 1]), ([5, 6, 7], [1, 1, 0])],
            DataStats(tokens=7, supervised_tokens=2, split_examples=1),
        ),
        (
            "split",
            [0, 1, 0, 0, 1, 0, 0, 0, 0, 1],
            [([1, 2, 3, 4], [0, 1, 0, 0]), ([9, 10], [0, 1])],
            DataStats(
                tokens=6, supervised_tokens=2, split_examples=1, dropped_tokens=4,
                notes={"pieces of split examples dropped because nothing in them is trained": 1},
            ),
        ),
    ],
)  # fmt: skip
def test_long_examples(policy, weights, expected, counted):
    stats = DataStats()
    assert pieces(fit(example(len(weights), weights), 4, policy, stats)) == expected
    counted.examples, counted.notes = 1, {"odd": 1, **counted.notes}
    assert stats == counted


def test_unknown_policy():
    with pytest.raises(UserError, match="overlong='cut' is not one of drop, truncate, split"):
        fit(example(3, [0, 1, 1]), 4, "cut", DataStats())
