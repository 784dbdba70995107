"""Stores of what a teacher said: written, opened, and refused where they are of something else or broken."""

import json
import shutil

import numpy as np
import pytest

from jitune.data import token_store
from jitune.data.pipeline import Documents, Prepared
from jitune.types import DataStats, UserError

pytestmark = pytest.mark.core


def prepare(*documents, start=0):
    """One source of documents of these lengths, tokens counted up."""
    offsets = np.cumsum([0, *documents])
    tokens = np.arange(start, start + offsets[-1], dtype=np.int32)
    return Prepared((Documents(tokens, np.ones(len(tokens), np.float32), offsets),), None, DataStats())


def write(folder, prepared, k=2, vocab=100, logprobs="float32"):
    header = token_store.make_header(prepared, k=k, vocab=vocab, vocabulary="words", teacher={"digest": "abc"},
                                     logprobs=logprobs)  # fmt: skip
    folder.mkdir()
    rng, arrays = np.random.default_rng(0), {}
    for name, spec in header["arrays"].items():
        arrays[name] = (100 * rng.random((header["tokens"], k))).astype(spec["dtype"])
        arrays[name].tofile(folder / token_store.file_of(name))
    token_store.finish(folder, header)
    return arrays


def test_what_is_written_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(token_store, "BLOCK", 4)
    written = write(tmp_path / "a", prepare(3, 4, 5), logprobs="float16")
    found = token_store.open_store(tmp_path / "a", prepare(3, 4, 5), vocabulary="words", k=2)
    assert {name: str(array.dtype) for name, array in found.items()} == {
        "teacher_ids": "uint16", "teacher_logprobs": "float16"}  # fmt: skip
    for name, array in found.items():
        assert isinstance(array, np.memmap)
        np.testing.assert_array_equal(array, written[name])


def test_ids_take_four_bytes_where_two_are_too_few():
    types = [token_store.make_header(prepare(1), k=1, vocab=n, vocabulary="", teacher={})["arrays"]["teacher_ids"]
             for n in (65536, 65537)]  # fmt: skip
    assert [t["dtype"] for t in types] == ["uint16", "int32"]


@pytest.mark.parametrize("prepared, options, message", [
    (prepare(3, 4), {}, "is of 3 documents, the training data has 2"),
    (prepare(3, 4, 6), {}, "is of 12 tokens, the training data has 13"),
    (prepare(3, 5, 4), {}, "other tokens"),
    (prepare(3, 4, 5, start=1), {}, "other tokens"),
    (prepare(3, 4, 5), {"vocabulary": "letters"}, "another vocabulary"),
    (prepare(3, 4, 5), {"k": 3}, "has 2 tokens at each place, not k=3"),
])  # fmt: skip
def test_stores_of_something_else_are_refused(prepared, options, message, tmp_path):
    write(tmp_path / "a", prepare(3, 4, 5))
    with pytest.raises(UserError, match=message):
        token_store.open_store(tmp_path / "a", prepared, **{"vocabulary": "words", **options})


def cut_short(folder):
    (folder / "teacher_ids.bin").write_bytes((folder / "teacher_ids.bin").read_bytes()[:-1])


def flip(folder):
    data = bytearray((folder / "teacher_logprobs.bin").read_bytes())
    data[-3] ^= 8
    (folder / "teacher_logprobs.bin").write_bytes(data)


def change(**values):
    def spoil(folder):
        header = json.loads((folder / "header.json").read_text())
        (folder / "header.json").write_text(json.dumps(header | values))

    return spoil


@pytest.mark.parametrize("spoil, message", [
    (cut_short, "teacher_ids.bin: has 47 bytes in the place of 48"),
    (flip, "teacher_logprobs.bin: has changed since it was written, near token 8"),
    (lambda folder: (folder / "teacher_ids.bin").unlink(), "teacher_ids.bin: is missing"),
    (lambda folder: (folder / "header.json").unlink(), "is no store of a teacher"),
    (lambda folder: (folder / "header.json").write_text("{"), "is not the header of a store"),
    (change(format=2), "has format 2; this version reads 1"),
    (change(arrays={}), "is not the header of a store"),
    (lambda folder: shutil.move(folder / "header.json", folder / "ledger.jsonl"), "is not written to its end"),
])  # fmt: skip
def test_broken_stores_are_errors(spoil, message, tmp_path, monkeypatch):
    monkeypatch.setattr(token_store, "BLOCK", 8)
    write(tmp_path / "a", prepare(3, 4, 5))
    spoil(tmp_path / "a")
    with pytest.raises(UserError, match=message):
        token_store.open_store(tmp_path / "a", prepare(3, 4, 5), vocabulary="words")
