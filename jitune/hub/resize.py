"""A vocabulary that grows: new tokens get the mean of the rows that are there, as in transformers but for its noise.

    config = resize_config(config, len(tokenizer))
    embedding = grow("embed/embedding", embedding, config.vocab_size)
"""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp

# The axis of the tokens in what has one.
AXES = {"embed/embedding": 0, "lm_head/kernel": 1}


def resize_config(config, size: int):
    """The config of the same model with a vocabulary of `size` tokens."""
    raw = {**json.loads(config.hf), "vocab_size": size}
    return config.replace(vocab_size=size, hf=json.dumps(raw))


def grow(path: str, array: jax.Array, size: int) -> jax.Array:
    """The array of this path with `size` tokens; other arrays, and those that have as many, come back as they are."""
    axis = AXES.get(path)
    if axis is None or array.shape[axis] >= size:
        return array
    mean = array.astype(jnp.float32).mean(axis=axis, keepdims=True).astype(array.dtype)
    return jnp.concatenate([array, jnp.repeat(mean, size - array.shape[axis], axis=axis)], axis=axis)
