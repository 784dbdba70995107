"""Models for tests of generation: tiny random decoders, and a model that says what it is told."""

import jax
import jax.numpy as jnp
import numpy as np

from jitune.models import decoder
from jitune.models.cache import from_stacked
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES
from jitune.types import Model


def tiny(family="llama", *, scan_layers=True, vocab_size=331, **changes):
    """A tiny model whose norms and biases are not at their defaults: (model, params, config)."""
    raw = {**FAMILIES[family].presets["tiny"], "vocab_size": vocab_size, "model_type": family, **changes}
    config = ModelConfig.from_hf({**raw, "initializer_range": 0.1}).replace(scan_layers=scan_layers)
    model = decoder.build(config)

    @jax.jit  # as one program: compiling each operation alone takes long
    def draw():
        leaves, treedef = jax.tree.flatten(model.init(jax.random.key(0)))
        keys = jax.random.split(jax.random.key(1), len(leaves))
        noisy = [x + 0.2 * jax.random.normal(k, x.shape) if x.ndim <= 2 and x.shape[-1] < 200 else x
                 for x, k in zip(leaves, keys, strict=True)]  # fmt: skip
        return jax.tree.unflatten(treedef, noisy)

    return model, draw(), config


def scripted(start: int, vocab_size: int) -> Model:
    """A model that answers a prompt of `start` tokens with the ids in params, [n], and with -1's as NaN."""

    def hidden(params, batch, cache=None):
        at = jnp.clip(batch["positions"] + 1 - start, 0, params.shape[0] - 1)
        return params[at][..., None].astype(jnp.float32), cache

    def unembed(params, hidden):
        ids = hidden.astype(jnp.int32)
        return jnp.where(ids < 0, jnp.nan, 10.0 * (jnp.arange(vocab_size) == ids))

    def init_cache(batch_size, capacity):
        zeros = jnp.zeros((1, batch_size, capacity, 1, 1))
        return from_stacked(zeros, zeros, jnp.zeros((batch_size, capacity), jnp.int32), jnp.zeros((), jnp.int32))

    return Model(None, None, hidden, unembed, init_cache)


def prompts_of(lengths, *, vocab_size=331, seed=0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, vocab_size, n).tolist() for n in lengths]
