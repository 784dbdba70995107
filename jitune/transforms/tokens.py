"""A few rows of the embedding are trained, those of added tokens, say; the rest of it is frozen.

    tokens([32000, 32001])     # and the same columns of the head, where it is not the embedding itself
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jitune import structured, tree
from jitune.leaves.parts import Later, Part
from jitune.leaves.rows import Rows
from jitune.transforms import weights
from jitune.types import Transform, UserError

# What has one row or column for each token, and the axis that counts them.
TABLES = {r"(^|/)embed/embedding$": 0, r"(^|/)lm_head/kernel$": -1}


def tokens(ids: Sequence[int], *, tables: dict[str, int] | None = None, merge_at=()) -> Transform:
    """Trains the rows of these token ids, in the embedding and in a head of its own.

    tables: {pattern of paths: axis of the tokens}, by default the decoder's. merge_at: see
    `structured.run`. trainable: `PATH/rows` [tokens, dim] (of
    the head [dim, tokens]), float32; frozen: base and ids. Raises UserError for no ids, one twice, and one outside the
    vocabulary.
    """
    ids = [int(i) for i in ids]
    if not ids or len(set(ids)) != len(ids):
        raise UserError(f"tokens: ids {ids[:8]}: token ids, each once, are needed")

    def init(key, params):
        found = {}
        for path, (leaf, axis) in _tables(params, tables or TABLES).items():
            if bad := [i for i in ids if not 0 <= i < leaf.shape[axis]]:
                raise UserError(f"tokens: id {bad[0]} is not among the {leaf.shape[axis]} tokens of {path}")
            found[f"{path}/rows"] = jnp.take(weights.dense(leaf), np.array(ids), axis=axis).astype(jnp.float32)
        return {"base": params, "ids": jnp.array(ids, jnp.int32)}, tree.unflatten(found)

    def view(frozen, trainable, key=None):
        changed = {}
        for path, (leaf, axis) in _tables(frozen["base"], tables or TABLES).items():
            rows = weights.by_path(trainable, "rows")[path]["rows"]
            every = tuple(range(len(leaf.shape)))

            def build(path=path, leaf=leaf, axis=axis, rows=rows, every=every):
                new = Part(rows.astype(leaf.dtype), every)
                return Rows(Part(weights.dense(leaf), every), new, Part(frozen["ids"], (every[axis],)), path)

            changed[path] = Later(leaf.shape, leaf.dtype, path, build)
        return weights.replace(frozen["base"], changed)

    return Transform(init, weights.over(view, merge_at), lambda f, t: structured.merge(view(f, t)))


def _tables(params, patterns):
    found = {path: (leaf, axis) for path, leaf in weights.flatten(params).items()
             for pattern, axis in patterns.items() if tree.matches(pattern, path)}
    if not found:
        near = ", ".join(tree.nearest("embedding", weights.flatten(params)) or weights.flatten(params))
        raise UserError(f"tokens: no weight has a row for each token; name it in tables, such as {near}")
    return found
