"""Embedders for tests: hashes of words, and what an embedder should not give."""

import numpy as np

from jitune.construct.curate.words import hash_tokens, tokens


def words(texts):
    """Counts of words by the remainder of their hashes, float32 [texts, 1024]."""
    found = np.zeros((len(texts), 1024), np.float32)
    for row, text in zip(found, texts, strict=True):
        np.add.at(row, (hash_tokens(tokens(text)) % np.uint64(1024)).astype(int), 1)
    return found


def broken(texts):
    return np.full((len(texts), 4), np.nan)


def flat(texts):
    return np.zeros(len(texts))
