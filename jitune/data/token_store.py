"""What another model said of every token of the training data: arrays on disk, in the order of the documents.

A store is a folder with a file of plain numbers for each array, [all tokens of all sources, ...], mapped into
memory when it is opened, and `header.json`, which is there once all of it is written:

    {"format": 1, "tokens": 812, "documents": 20, "digest": "...", "vocabulary": "...", "vocab": 512,
     "teacher": {...}, "arrays": {"teacher_ids": {"dtype": "uint16", "shape": [64]}, ...}, "sums": {...}}

    arrays = open_store("teacher", prepared, vocabulary=digest)      # {"teacher_ids": memmap [tokens, 64], ...}
    stream = batches(prepared, ..., extras=arrays)

Entry i is of what slot i predicts. Tokens tell whose documents they are (`digest`): the same data, template, tokenizer
and seq_len; how documents are shuffled, packed and weighed is free. `sums` holds a CRC-32 of every BLOCK tokens. Log-
probabilities are those at temperature 1.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jitune.data.pipeline import Prepared
from jitune.types import UserError

FORMAT = 1
HEADER = "header.json"
BLOCK = 1 << 14
CHECKED = 1 << 28  # bytes of a file that are compared with their sums when it is opened, evenly spread


def documents_digest(prepared: Prepared, *, weights: bool = False) -> str:
    """sha256 over the tokens of all documents, source by source in order. weights: over what is trained, too."""
    state = hashlib.sha256()
    for source in prepared.sources:
        state.update(np.diff(source.offsets).astype("<i8").tobytes())
        state.update(np.ascontiguousarray(source.tokens, "<i4"))
        if weights:
            state.update(np.ascontiguousarray(source.loss_weights, "<f4"))
    return state.hexdigest()


def make_header(prepared: Prepared, *, k: int, vocab: int, vocabulary: str, teacher: Mapping[str, Any],
                logprobs: str = "float32") -> dict[str, Any]:
    """The header of a store of the k likeliest next tokens by a teacher.

    vocab: tokens of the vocabulary, of the digest `vocabulary`. teacher: what it is. logprobs: float32 or float16.
    """
    ids = "uint16" if vocab <= 1 << 16 else "int32"
    return {
        "format": FORMAT, "tokens": sum(len(source.tokens) for source in prepared.sources),
        "documents": sum(map(len, prepared.sources)), "digest": documents_digest(prepared),
        "vocabulary": vocabulary, "vocab": vocab, "teacher": dict(teacher),
        "arrays": {"teacher_ids": {"dtype": ids, "shape": [k]}, "teacher_logprobs": {"dtype": logprobs, "shape": [k]}},
    }  # fmt: skip


def file_of(name: str) -> str:
    """The file of an array."""
    return f"{name}.bin"


def finish(folder: str | Path, header: Mapping[str, Any]) -> None:
    """Writes header.json over files that are whole: the last step of writing. Raises UserError where they are not."""
    folder = Path(folder)
    sums = {name: [_sum(block) for block in _blocks(array)] for name, array in _map(folder, header).items()}
    draft = folder / f"{HEADER}.partial"
    with open(draft, "w") as file:
        json.dump({**header, "sums": sums}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, folder / HEADER)


def open_store(folder: str | Path, prepared: Prepared, *, vocabulary: str, k: int | None = None) -> dict:
    """The arrays of a store by name, mapped into memory, read-only.

    Args:
      prepared: the documents that they must belong to.
      vocabulary: digest of the vocabulary that the ids must be of.
      k: how many tokens there must be at each place; None: as many as there are.

    Raises:
      UserError: there is no store, it is not whole, its files have changed, or it is of something else.
    """
    folder = Path(folder).expanduser()
    header = read_header(folder)
    tokens, documents = sum(len(s.tokens) for s in prepared.sources), sum(map(len, prepared.sources))
    for name, found, wanted in (("documents", header["documents"], documents), ("tokens", header["tokens"], tokens)):
        if found != wanted:
            raise UserError(f"{folder}: is of {found:,} {name}, the training data has {wanted:,}; {_AGAIN}")
    if header["digest"] != documents_digest(prepared):
        raise UserError(f"{folder}: is of documents with other tokens than the training data; {_AGAIN}")
    if header["vocabulary"] != vocabulary:
        raise UserError(f"{folder}: is of another vocabulary than the model's; {_AGAIN}")
    there = header["arrays"]["teacher_ids"]["shape"][0]
    if k is not None and k != there:
        raise UserError(f"{folder}: has {there} tokens at each place, not k={k}")
    arrays = _map(folder, header)
    for name, array in arrays.items():
        _check(folder / file_of(name), array, header["sums"].get(name, []))
    return arrays


_AGAIN = "write it anew, with `jitune data teacher` and the config of the training run"


def read_header(folder: str | Path) -> dict[str, Any]:
    """What a store says of itself. Raises UserError where there is none that this version reads."""
    path = Path(folder) / HEADER
    if not path.exists():
        begun = (Path(folder) / "ledger.jsonl").exists()
        raise UserError(f"{folder}: " + ("is not written to its end; the same `jitune data teacher` goes on"
                                         if begun else f"is no store of a teacher, for it has no {HEADER}"))
    try:
        header = json.loads(path.read_text())
        if header["format"] != FORMAT:
            raise UserError(f"{path}: has format {header['format']!r}; this version reads {FORMAT}")
        for spec in header["arrays"].values():
            np.dtype(spec["dtype"]), tuple(spec["shape"])
        header["tokens"], header["documents"], header["digest"], header["vocabulary"], header["sums"]
        header["arrays"]["teacher_ids"]["shape"][0]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: is not the header of a store ({type(error).__name__}: {error})") from None
    return header


def _map(folder: Path, header: Mapping[str, Any]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, spec in header["arrays"].items():
        path, dtype, shape = folder / file_of(name), np.dtype(spec["dtype"]), (header["tokens"], *spec["shape"])
        size = path.stat().st_size if path.exists() else None
        wanted = int(np.prod(shape)) * dtype.itemsize
        if size != wanted:
            there = "is missing" if size is None else f"has {size:,} bytes in the place of {wanted:,}"
            raise UserError(f"{path}: {there}; {_AGAIN}")
        arrays[name] = np.memmap(path, dtype.newbyteorder("<"), "r", shape=shape) if wanted else np.zeros(shape, dtype)
    return arrays


def _blocks(array):
    return (array[start : start + BLOCK] for start in range(0, len(array), BLOCK))


def _sum(block) -> int:
    return zlib.crc32(np.ascontiguousarray(block))


def _check(path: Path, array, sums: list[int]) -> None:
    """Compares blocks with their sums: all of a small file, and of a large one as many as are read quickly."""
    count = -(-len(array) // BLOCK)
    if len(sums) != count:
        raise UserError(f"{path}: {HEADER} has {len(sums)} sums of it, and it has {count} blocks; {_AGAIN}")
    step = max(1, -(-array.nbytes // CHECKED))
    for i in range(0, count, step):
        if _sum(array[i * BLOCK : (i + 1) * BLOCK]) != sums[i]:
            raise UserError(f"{path}: has changed since it was written, near token {i * BLOCK:,}; {_AGAIN}")
