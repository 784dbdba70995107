"""What the transforms of weights share: which weights they take, and a model over structured leaves.

A transform of weights has a `view(frozen, trainable, key)`: the parameters of the model, with structured leaves where
weights are changed. The model runs over it (`structured.run`), and merging it gives plain parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from jitune import structured, tree
from jitune.types import Model, Params, Transform, UserError

# All linear layers but the head, and but what chooses among experts or weighs one.
LINEAR = r"(?<!lm_head/)(?<!router/)(?<!shared_gate/)kernel$"
# Vectors, also where those of stacked layers have two axes.
VECTORS = r"^layers/.*(scale|bias)$"
# Axes by path, for what the number of axes leaves open: l counts stacked layers, i is of the input, o of the output.
LAYOUTS = (
    (r"^layers/.*experts/.*kernel$", "llio"),
    (r"^layers/.*kernel$", "lio"),
    (r"(query|key|value)/kernel$", "ioo"),
    (r"out/kernel$", "iio"),
)


def flatten(params: Params) -> dict[str, Any]:
    """{path: array or structured leaf}."""
    return tree.flatten(params, structured.is_leaf)


def choose(params: Params, pattern: str, name: str) -> dict[str, Any]:
    """{path: leaf} of the weights whose path the pattern is found in. Raises UserError, naming `name`, for none."""
    leaves = flatten(params)
    chosen = {path: leaf for path, leaf in leaves.items() if tree.matches(pattern, path)}
    if not chosen:
        near = tree.nearest(pattern, leaves) or list(leaves)[:3]
        raise UserError(f"{name}: pattern {pattern!r} matched no weights; the nearest are {', '.join(near)}")
    return chosen


def layout(path: str, shape: Sequence[int], layouts: dict[str, str] | None, name: str) -> str:
    """One letter an axis (see LAYOUTS): 'io' for [in, out]. Raises UserError where it cannot be known."""
    if len(shape) < 2 or (len(shape) == 2 and tree.matches(VECTORS, path)):
        raise UserError(f"{name}: {path} has the shape {tuple(shape)} and is no matrix; leave it out of select")
    for pattern, letters in (*(layouts or {}).items(), *LAYOUTS):
        if tree.matches(pattern, path) and len(letters) == len(shape):
            if set(letters) != set(letters) & set("lio") or letters != "".join(sorted(letters, key="lio".index)):
                raise UserError(f"{name}: layout {letters!r} of {path}: letters l, i, o in this order are needed")
            return letters
    if len(shape) == 2:
        return "io"
    if len(shape) < 2:
        raise UserError(f"{name}: {path} has the shape {tuple(shape)}, and two axes are needed; leave it out of select")
    raise UserError(f"{name}: {path} has the shape {tuple(shape)}; say which axes are of the input and of the output, "
                    f"such as layouts={{{path!r}: {'l' * (len(shape) - 2) + 'io'!r}}}, "
                    "or leave it out of select")  # fmt: skip


def over(view: Callable, merge_at=()) -> Callable[[Model], Model]:
    """Makes a transform's `apply` from its `view(frozen, trainable, key)`; key is the batch's, None without one.

    See scripts/examples/new_transform.py for a transform made of it.
    """

    def apply(model: Model) -> Model:
        def call(function, key_of=lambda *args: None):
            def on_pair(pair, *args):
                if function is _give_back:
                    return view(*pair, None)
                return structured.run(function, view(*pair, key_of(*args)), *args, merge_at=merge_at)

            return on_pair

        def batch_key(batch, *_):
            return batch.get("key") if isinstance(batch, dict) else None

        return Model(model.init, call(model.embed), call(model.hidden, batch_key), call(model.unembed),
                     model.init_cache)  # fmt: skip

    return apply


def _give_back(params, *_):
    return params


def parameters(transform: Transform, frozen, trainable) -> Params:
    """What the model is given under a transform: parameters, with structured leaves where weights are changed."""
    return transform.apply(Model(None, None, _give_back, None, None)).hidden((frozen, trainable), None)


def base_of(frozen) -> Params | None:
    """The parameters that a transform, or the first of a chain, keeps; None where it keeps none."""
    return frozen.get("base", frozen.get("0", {}).get("base"))


def for_function(transform: Transform, function: Callable) -> Callable:
    """A plain function `(params, *args)` under a transform of weights: `((frozen, trainable), *args)`.

    A dropout's key is found where the first of args is a dict that has one as "key".
    """
    return transform.apply(Model(None, None, function, None, None)).hidden


def replace(params: Params, new: dict[str, Any]) -> Params:
    """The parameters with the leaves at these paths replaced."""
    return tree.unflatten({**flatten(params), **new})


def by_path(changes: dict, name: str) -> dict[str, dict[str, Any]]:
    """Groups a transform's arrays by the weight that they change: {'a/kernel': {'lora_a': .., 'lora_b': ..}}.

    Of nested dicts, those that hold `name` count.
    """
    found = {}
    for path, array in tree.flatten(changes).items():
        weight, _, last = path.rpartition("/")
        found.setdefault(weight, {})[last] = array
    return {weight: arrays for weight, arrays in found.items() if name in arrays}


def dense(leaf: Any) -> jax.Array:
    """A weight as one array."""
    return leaf.merge() if structured.is_leaf(leaf) else leaf
