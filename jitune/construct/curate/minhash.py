"""Near-duplicates by MinHash: texts that share most of their shingles; a signature a record is remembered.

    sieve = build(preset="datatrove")                # word 5-grams, 14 bands of 8 rows
    seen = sieve.memory()
    seen.admit(sieve.key(first), "a")                # None
    seen.admit(sieve.key(second), "b")               # Reject("near_duplicate", "0.83 like a")

Two texts with Jaccard similarity s (shingles shared / shingles of either) get the same value from one permutation with
probability s (Broder 1997), so that they meet in one of `bands` groups of `rows` values with 1 - (1 - s^rows)^bands:

| preset | shingles | bands x rows | s = 0.5 | 0.6 | 0.7 | 0.8 | 0.9 |
|---|---|---|---|---|---|---|---|
| `datatrove` | 5 words | 14 x 8 | 0.05 | 0.21 | 0.56 | 0.92 | 1.00 |
| `nemo` | 24 characters | 20 x 13 | 0.00 | 0.03 | 0.18 | 0.68 | 1.00 |

The permutations are datasketch's (MinHash, scheme affine32). The bands are dicts of 64-bit hashes, which find what its
MinHashLSH finds in under half of its memory: 2 KB a record for datatrove, 3 for nemo, with the signatures.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jitune.construct.curate.pieces import PARTS, check_number, check_word, text_of
from jitune.construct.curate.stage import Reject, Sieve
from jitune.construct.curate.words import fold_spaces, hash_characters, hash_grams, hash_tokens, normalize, tokens
from jitune.data.record import Record
from jitune.types import UserError

CHUNK = 8192  # shingles at a time: a text of a megabyte takes some MB, not GB
UNITS = ("words", "characters")


class Shape(NamedTuple):
    """What is compared and how: shingles of `length` units; `bands` groups of `rows` values."""

    unit: str
    length: int
    bands: int
    rows: int


PRESETS = {"datatrove": Shape("words", 5, 14, 8), "nemo": Shape("characters", 24, 20, 13)}


def shingles(text: str, shape: Shape) -> np.ndarray:
    """Hashes of the shingles of a text, uint64, in order and with repeats; a shorter text is one shingle, "" none.

    Words are `words.tokens`, so characters in Chinese, Japanese and Thai; spaces and case make no difference.
    """
    if shape.unit == "words":
        values = hash_tokens(tokens(text))
    else:
        values = hash_characters(fold_spaces(normalize(text)))
    return hash_grams(values, min(shape.length, len(values))) if len(values) else values


def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """Shared shingles over all shingles of two texts, each counted once; 0 where there are none."""
    shared, either = len(np.intersect1d(left, right)), len(np.union1d(left, right))
    return shared / either if either else 0.0


def s_curve(similarity: float | np.ndarray, shape: Shape) -> float | np.ndarray:
    """The chance that two texts of this Jaccard similarity meet in a band: 1 - (1 - s^rows)^bands."""
    return 1 - (1 - similarity**shape.rows) ** shape.bands


def permutations(count: int, seed: int) -> np.ndarray:
    """Multipliers and summands of `count` permutations of 32-bit numbers, uint32 [2, count], as datasketch draws them.

    Raises:
      UserError: datasketch is not installed.
    """
    try:
        from datasketch import MinHash
    except ImportError as error:
        raise UserError(f"needs datasketch 2: pip install 'jitune[data]' ({error})") from error
    return np.asarray(MinHash(count, seed=seed, scheme="affine32").permutations, np.uint32)


def signature(found: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The least value of all shingles under each permutation: uint64 [shingles], uint32 [2, count] -> uint32 [count].

    Equal to `datasketch.MinHash(scheme="affine32")` fed with the upper 32 bits of the shingles' hashes.
    """
    hashes = _mix32((found >> np.uint64(32)).astype(np.uint32))
    least = np.full(drawn.shape[1], 0xFFFFFFFF, np.uint32)
    for start in range(0, len(hashes), CHUNK):
        values = hashes[start : start + CHUNK, None] * drawn[0]
        values += drawn[1]
        np.minimum(least, values.min(axis=0), out=least)
    return least


def _mix32(values: np.ndarray) -> np.ndarray:
    """The finalizer of MurmurHash3 for 32 bits, which datasketch puts before its permutations."""
    values = (values ^ (values >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    values = (values ^ (values >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return values ^ (values >> np.uint32(16))


class Signatures:
    """Signatures of the records that were admitted, found by bands. Makes a `stage.Memory`.

    threshold: what the signatures' estimate of the similarity must reach; 0: meeting in a band is enough.
    """

    def __init__(self, shape: Shape, threshold: float):
        self.shape, self.threshold, self.ids = shape, threshold, []
        self.bands: list[dict[int, int | tuple[int, ...]]] = [{} for _ in range(shape.bands)]
        self.values = np.empty((64, shape.bands * shape.rows), np.uint32)

    def admit(self, key: bytes, id: str) -> Reject | None:
        hashes = self._hashes(key)
        met = sorted(self._met(hashes))
        if met:
            alike = (self.values[met] == np.frombuffer(key, "<u4")).mean(axis=1)
            best = int(alike.argmax())
            if alike[best] >= self.threshold:
                return Reject("near_duplicate", f"{alike[best]:.2f} like {self.ids[met[best]]}")
        self._remember(key, hashes, id)
        return None

    def restore(self, key: bytes, id: str) -> None:
        self._remember(key, self._hashes(key), id)

    def _hashes(self, key: bytes) -> list[int]:
        import xxhash

        width = 4 * self.shape.rows
        return [xxhash.xxh64_intdigest(key[i : i + width]) for i in range(0, len(key), width)]

    def _met(self, hashes: list[int]) -> set[int]:
        found: set[int] = set()
        for band, value in zip(self.bands, hashes, strict=True):
            there = band.get(value)
            if there is not None:
                found.update(there if isinstance(there, tuple) else (there,))
        return found

    def _remember(self, key: bytes, hashes: list[int], id: str) -> None:
        number = len(self.ids)
        if number == len(self.values):
            self.values = np.concatenate([self.values, np.empty_like(self.values)])
        self.values[number] = np.frombuffer(key, "<u4")
        self.ids.append(id)
        for band, value in zip(self.bands, hashes, strict=True):
            there = band.setdefault(value, number)
            if there != number:
                band[value] = (*(there if isinstance(there, tuple) else (there,)), number)


def build(*, preset: str = "datatrove", of: str = "conversation", threshold: float = 0.0, seed: int = 1,
          unit: str = "", length: int = 0, bands: int = 0, rows: int = 0) -> Sieve:
    """A Sieve of near-duplicates.

    preset: `datatrove` or `nemo`, the parameters that these two pipelines are published with.
    of: conversation, with calls of tools and all answers of a preference or ranking; both, the prompt and the last
      answer, which is the preferred one; prompt; or answer. A record without a word there passes.
    threshold: the Jaccard similarity, as the signatures estimate it, from which two records are duplicates; its
      standard error is sqrt(s (1 - s) / (bands x rows)), 0.04 at s = 0.8 for datatrove. 0: meeting in a band.
    unit, length, bands, rows: in place of the preset's.

    Raises:
      UserError: an option that is not known or out of range, or datasketch missing.
    """
    check_word("preset", preset, tuple(PRESETS))
    check_word("of", of, PARTS)
    base = PRESETS[preset]
    shape = Shape(unit or base.unit, length or base.length, bands or base.bands, rows or base.rows)
    check_word("unit", shape.unit, UNITS)
    for option, given in zip(("length", "bands", "rows"), shape[1:], strict=True):
        check_number(option, given, 1, 1000, whole=True)
    check_number("seed", seed, 0, 2**32 - 1, whole=True)
    check_number("threshold", threshold, 0, 1)
    drawn = permutations(shape.bands * shape.rows, seed)

    def key(record: Record) -> bytes | None:
        found = shingles(text_of(record, of), shape)
        return signature(found, drawn).astype("<u4").tobytes() if len(found) else None

    return Sieve("minhash", key, lambda: Signatures(shape, threshold))
