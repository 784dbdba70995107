"""From a Flax module, Linen or NNX, to a `Model`: plain pytrees in, arrays out.

The module has the methods `embed(tokens)`, `hidden(batch, cache=None) -> (hidden, cache)` and `unembed(hidden)`; a
Linen module's `__call__(tokens)` runs all of them, for initialization.

    model = from_linen(module)
    params = model.init(jax.random.key(0))

    model, params = from_nnx(module)
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jitune import tree
from jitune.types import Model, Params


def from_linen(module: nn.Module, init_cache: Callable | None = None) -> Model:
    """Makes the pure functions of `types.Model` from a Linen module.

    init_cache: `(batch_size, capacity) -> KVCache`, since a cache is data and not part of the module; without one the
    model trains and scores, and does not generate.
    """

    def call(method):
        return lambda params, *args: module.apply({"params": params}, *args, method=method)

    def init(key):
        return module.init(key, jnp.zeros((1, 2), jnp.int32))["params"]

    return Model(init, call("embed"), call("hidden"), call("unembed"), init_cache)


def from_nnx(module, init_cache: Callable | None = None) -> tuple[Model, Params]:
    """Makes (the pure functions of `types.Model`, params) from an NNX module, which stays as it is.

    params: the values of its `nnx.Param`s, nested by attribute and index, such as `layers/0/linear/kernel`; all other
    state (statistics, keys of random numbers) is what it was at the time of this call. Methods that the module lacks
    are None in the model; where it has no `hidden`, its `__call__` stands there. `model.init` gives the module's own
    params, whatever the key.
    """
    from flax import nnx

    definition, state, rest = nnx.split(module, nnx.Param, ...)
    leaves, treedef = jax.tree_util.tree_flatten_with_path(state)
    paths = [tree.path_str(path).removesuffix("/value") for path, _ in leaves]
    params = tree.unflatten(dict(zip(paths, (x for _, x in leaves), strict=True)))

    def call(method):
        def on_params(params, *args):
            given = tree.flatten(params)
            whole = nnx.merge(definition, treedef.unflatten([given[path] for path in paths]), rest)
            return getattr(whole, method)(*args)

        return on_params if hasattr(module, method) else None

    hidden = call("hidden") or call("__call__")
    return Model(lambda key: params, call("embed"), hidden, call("unembed"), init_cache), params
