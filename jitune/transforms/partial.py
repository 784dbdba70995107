"""Partial tuning: some weights are trained as they are, the others frozen.

    select(r"norm/scale$")      # norms alone
    freeze(r"^(embed|lm_head)/")   # all but embeddings and head
"""

from __future__ import annotations

from jitune import structured, tree
from jitune.transforms import weights
from jitune.types import Transform, UserError


def select(pattern: str, *, name: str = "select") -> Transform:
    """Trains the weights whose path the pattern is found in.

    trainable: these weights in float32, nested as in the parameters; frozen: base, the others. Raises UserError for a
    pattern that matches nothing, and for a weight that is quantized.
    """
    return _partial(lambda params: weights.choose(params, pattern, name), name)


def freeze(pattern: str) -> Transform:
    """Trains all weights but those whose path the pattern is found in; see `select`."""

    def chosen(params):
        still = weights.choose(params, pattern, "freeze")
        left = {path: leaf for path, leaf in weights.flatten(params).items() if path not in still}
        if not left:
            raise UserError(f"freeze: pattern {pattern!r} matched every weight, and nothing is left to train")
        return left

    return _partial(chosen, "freeze")


def _partial(chosen, name) -> Transform:
    def init(key, params):
        moving = chosen(params)
        for path, leaf in moving.items():
            if structured.is_leaf(leaf):
                raise UserError(f"{name}: {path} is not a plain weight (quantized, say), and cannot be trained itself; "
                                "leave it out of the pattern, or out of what is quantized")  # fmt: skip
        still = {path: leaf for path, leaf in weights.flatten(params).items() if path not in moving}
        trained = {path: leaf.astype("float32") for path, leaf in moving.items()}
        return {"base": tree.unflatten(still)}, tree.unflatten(trained)

    def view(frozen, trainable, key=None):
        return weights.replace(frozen["base"], tree.flatten(trainable))

    return Transform(init, weights.over(view), view)
