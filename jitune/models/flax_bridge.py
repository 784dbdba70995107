"""From a Flax Linen module to a `Model`: plain pytrees in, arrays out.

The module has the methods `embed(tokens)`, `hidden(batch, cache=None) -> (hidden, cache)` and
`unembed(hidden)`; its `__call__(tokens)` runs all of them, for initialization.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from jitune.types import Model


def from_linen(module: nn.Module, init_cache: Callable) -> Model:
    """Makes the pure functions of `types.Model` from a Linen module.

    init_cache: `(batch_size, capacity) -> KVCache`, since a cache is data and not part of the module.
    """

    def call(method):
        return lambda params, *args: module.apply({"params": params}, *args, method=method)

    def init(key):
        return module.init(key, jnp.zeros((1, 2), jnp.int32))["params"]

    return Model(init, call("embed"), call("hidden"), call("unembed"), init_cache)
