"""Texts to vectors of length one, by a model's hidden states.

    embed = open_embedder("models/small")
    vectors = embed(["Name a colour.", "Name a color."])       # float32 [2, dim]
    vectors[0] @ vectors[1]                                     # their cosine

A text's vector is the mean of the model's final hidden states (after the last norm) over the text's own tokens, the BOS
of tokenizers that put one among them, divided by its length. Texts are packed into few shapes by their lengths; what
stands beside a text changes nothing (float32: less than 1e-5). `pool="last"` takes the last token's state, as DEITA's
code does.

Vectors of language models lie close together: texts that have nothing in common often have cosines of 0.9 and more,
and all texts in a script that the model hardly knows may look alike. So look at the cosines of some unlike texts before
a threshold is set, or give the stage a function that was trained to tell texts apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jitune.construct.curate.scores.model import MESH, check_model, open_scorer
from jitune.types import UserError

POOLS = ("mean", "last")
LENGTH = 1024  # tokens of a text that are looked at, unless the model's context is shorter
Embedder = Callable[[Sequence[str]], np.ndarray]


def open_embedder(model: Any, *, dtype: str = "float32", max_length: int = LENGTH, pool: str = "mean",
                  mesh: Sequence[int] = MESH) -> Embedder:  # fmt: skip
    """`texts -> float32 [texts, dim]`, each row of length one.

    Args:
      model: a path, which is loaded at the first call; a `Pretrained` or an Engine.
      dtype: float32, or bfloat16, which is faster on accelerators and where the last digits depend on the batch.
      max_length: tokens of a text; what goes beyond them is cut off on the right, and counted by `engine.stats`.
      pool: `mean` or `last`, see the module.
      mesh: devices along data, fsdp and tensor.

    Raises UserError for a model that is not there; when called, for vectors that are not finite, naming the text.
    """
    check_model(model, "embed")
    if pool not in POOLS:
        raise UserError(f"embed: pool={pool!r} is not one of {', '.join(POOLS)}")
    if max_length < 1:
        raise UserError(f"embed: max_length={max_length} must be at least 1")

    def embed(texts: Sequence[str]) -> np.ndarray:
        return embed_texts(open_scorer(model, dtype=dtype, mesh=mesh), texts, max_length=max_length, pool=pool)

    return embed


def embed_texts(engine: Any, texts: Sequence[str], *, max_length: int = LENGTH, pool: str = "mean") -> np.ndarray:
    """float32 [texts, dim], each row of length one; an empty text is the BOS, or the EOS without one."""
    from jitune.evals.engine import tokens

    texts, tokenizer = list(texts), engine.pretrained.tokenizer
    if not texts:
        return np.zeros((0, 0), np.float32)
    unique = list(dict.fromkeys(texts))
    ids = tokens.encode(tokenizer, unique)
    documents = [ids[text] or [tokens.prefix_token(tokenizer)] for text in unique]
    most = min(max_length, engine.limit)
    engine.counts["truncated"] += sum(len(d) > most for d in documents)
    found = engine.embed_tokens([d[:most] for d in documents], last=pool == "last",
                                name=lambda i: f"text {unique[i][:60]!r}")  # fmt: skip
    place = {text: i for i, text in enumerate(unique)}
    return normalize(found)[[place[text] for text in texts]]


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Rows divided by their lengths, float32; rows of zeros stay as they are."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
