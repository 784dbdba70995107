"""Near-duplicates by meaning: a record whose embedding is close to that of an earlier one is rejected.

    choice = build(embedder="my_vectors:embed", threshold=0.95)     # embed(["a", "b"]) -> float array [2, dim]
    choice = build(model="runs/base", threshold=0.95)               # the hidden states of a model that jitune loads
    choice.choose(heads, choice.measure(records))                   # [None, Reject("similar", "0.97 like a"), ...]

Vectors have length 1, so that a product is a cosine. The rule is greedy in the order of the stream: a record stays
unless its cosine with one that stays is at least the threshold (SemDeDup's rule, Abbas et al. 2023, without clusters).
It is exact, and takes a product of all pairs with the kept ones, in blocks: n = 50,000 of 384 numbers are 1e12
operations, some 20 seconds of 2 cores, and a block is 4 MB.

The hidden states of a language model that was not trained for this all point one way, and more so within a script:
texts that have nothing in common have cosines of 0.9 and more, so that a threshold that suits one language empties
another. `center=True` takes the mean vector of all records off every vector before it is brought to length 1 (Mu and
Viswanath 2018), after which unlike texts are near 0. The mean is that of the data at hand: with few records it says
little, and thresholds are other ones than without. An embedder that was trained on pairs of texts needs no centering.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jitune.construct.curate.pieces import PARTS, check_number, check_word, text_of
from jitune.construct.curate.scores.embed import LENGTH, normalize, open_embedder
from jitune.construct.curate.scores.model import MESH, load_function
from jitune.construct.curate.stage import Choice, Head, Reject
from jitune.data.record import Record
from jitune.types import UserError

Embedder = Callable[[Sequence[str]], np.ndarray]
BLOCK = 1024
ROUNDING = 1e-6  # of a cosine in float32; equal texts count as 1 although their product may be 0.9999999


class Nearest(NamedTuple):
    """Of every vector: is it kept; its nearest among those kept before it (-1: none), and the cosine with that."""

    kept: np.ndarray
    index: np.ndarray
    cosine: np.ndarray


def find_embedder(*, embedder: str, model: str, pool: str, dtype: str, max_length: int,
                  mesh: Sequence[int]) -> Embedder:
    """The function that an import path names, or one that runs a model of jitune's.

    pool, dtype, max_length, mesh: for a model, see `scores.embed.open_embedder`.

    Raises:
      UserError: neither or both are given, an option is out of range, or the import fails.
    """
    if bool(embedder) == bool(model):
        raise UserError("give embedder = 'module:function' or model = a folder, one of the two")
    if model:
        return open_embedder(model, pool=pool, dtype=dtype, max_length=max_length, mesh=mesh)
    return load_function(embedder, "embedder")


def embed(embedder: Embedder, texts: Sequence[str], names: Sequence[str], width: int = 0) -> np.ndarray:
    """Vectors of length 1, float32 [texts, width]; zeros for an empty text, which is then like nothing.

    Raises:
      UserError: the embedder gives another shape, or what is no number, naming the record.
    """
    wanted = [i for i, text in enumerate(texts) if text.strip()]
    found = np.zeros((0, width), np.float32)
    if wanted:
        found = np.asarray(embedder([texts[i] for i in wanted]), np.float32)
    if found.ndim != 2 or len(found) != len(wanted) or (width and found.shape[1] != width):
        shape = f"[{len(wanted)}, {width or 'any'}]"
        raise UserError(f"the embedder gave {list(found.shape)} for {len(wanted)} texts; {shape} is needed")
    bad = ~np.isfinite(found).all(axis=1)
    if bad.any():
        raise UserError(f"the embedding of record {names[wanted[int(bad.argmax())]]} is not finite")
    vectors = np.zeros((len(texts), found.shape[1]), np.float32)
    vectors[wanted] = normalize(found)
    return vectors


def centered(vectors: np.ndarray) -> np.ndarray:
    """Vectors less their mean, of length 1 again: a copy in memory, float32 [n, dim].

    Rows of zeros, of empty texts, stay so and do not count for the mean; a vector that is the mean itself stays as it
    is, so that equal texts are alike even where there are no others.
    """
    vectors = np.array(vectors, np.float32)
    there = np.flatnonzero(vectors.any(axis=1))
    if len(there):
        rest = vectors[there] - vectors[there].mean(axis=0, dtype=np.float64).astype(np.float32)
        lengths = np.linalg.norm(rest, axis=1, keepdims=True)
        some = lengths[:, 0] > 1e-5  # below that it is rounding
        vectors[there[some]] = rest[some] / lengths[some]
    return vectors


def greedy(vectors: np.ndarray, order: np.ndarray, *, at_least: float, budget: int | None = None,
           block: int = BLOCK) -> Nearest:
    """Goes through vectors in an order and keeps those whose cosine with all kept ones is below `at_least`.

    vectors: float32 [n, dim], rows of length 1 or 0; may be a memory map. order: every index once. budget: stops when
    so many are kept; what comes after is neither kept nor compared. Memory: a few blocks of block x max(block, dim).
    """
    n = len(vectors)
    kept, near, cosine = np.zeros(n, bool), np.full(n, -1), np.full(n, -2, np.float32)
    chosen = np.empty(n, np.int64)
    count = 0
    for start in range(0, n, block):
        rows = order[start : start + block]
        here = np.asarray(vectors[rows], np.float32)
        best, who = _against(here, vectors, chosen[:count], block)
        inside = here @ here.T
        for i, row in enumerate(rows):
            if count == budget:
                return Nearest(kept, near, cosine)
            near[row], cosine[row] = who[i], best[i]
            if best[i] >= at_least:
                continue
            kept[row], chosen[count] = True, row
            count += 1
            closer = inside[i, i + 1 :] > best[i + 1 :]
            best[i + 1 :][closer] = inside[i, i + 1 :][closer]
            who[i + 1 :][closer] = row
    return Nearest(kept, near, cosine)


def _against(here: np.ndarray, vectors: np.ndarray, chosen: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """The highest cosine of each row with the chosen vectors, and which one that is; (-2, -1) where there are none."""
    best, who = np.full(len(here), -2, np.float32), np.full(len(here), -1)
    for start in range(0, len(chosen), block):
        some = chosen[start : start + block]
        products = here @ np.asarray(vectors[some], np.float32).T
        at = products.argmax(axis=1)
        value = products[np.arange(len(here)), at]
        closer = value > best
        best[closer], who[closer] = value[closer], some[at[closer]]
    return best, who


def build(*, embedder: str = "", model: str = "", of: str = "conversation", threshold: float = 0.95,
          center: bool = False, pool: str = "mean", dtype: str = "float32", max_length: int = LENGTH,
          mesh: Sequence[int] = MESH, width: int = 0, batch_size: int = 64) -> Choice:
    """A Choice without near-duplicates by embedding.

    embedder: `module:function`, from a list of texts to an array [texts, dim]; or model: a folder that jitune loads.
    of: conversation, both, prompt or answer. width: dim, where embedding one word to find it out is too much.
    center: take the mean vector of all records off, see the module. pool (mean or last), dtype, max_length (tokens of
    a text) and mesh: of a model, see `scores.embed.open_embedder`.

    Raises:
      UserError: an option that is not known or out of range, or no embedder.
    """
    check_word("of", of, PARTS)
    check_number("threshold", threshold, -1, 1)
    function = find_embedder(embedder=embedder, model=model, pool=pool, dtype=dtype, max_length=max_length, mesh=mesh)
    dim = width or embed(function, ["width"], ["-"]).shape[1]

    def measure(records: Sequence[Record]) -> np.ndarray:
        texts, names = [text_of(r, of) for r in records], [r.id for r in records]
        return embed(function, texts, names, dim)

    def choose(heads: Sequence[Head], measured: np.ndarray) -> list[Reject | None]:
        found = greedy(centered(measured) if center else measured, np.arange(len(heads)), at_least=threshold - ROUNDING)
        return [None if kept else Reject("similar", f"{cosine:.2f} like {heads[near].id}")
                for kept, near, cosine in zip(*found, strict=True)]

    return Choice("embedding_duplicates", dim, measure, choose, batch_size=batch_size)
