"""Rules of products: a leaf takes them in its own form."""

from __future__ import annotations

import string

import jax.numpy as jnp
from jax import lax

from jitune.leaves import grouped
from jitune.leaves.parts import Grouped, NoRule, Product, is_leaf


def dot_general(run, equation, x, y):
    """A product of a leaf with an array, over any axes."""
    (contract, batch), p = equation.params["dimension_numbers"], equation.params
    if is_leaf(x) and is_leaf(y):
        raise NoRule("both factors of the product are structured")
    first = is_leaf(x)
    weight, other = (x, y) if first else (y, x)
    names = string.ascii_letters[: len(weight.shape)]
    free = iter(string.ascii_letters[len(weight.shape) :])
    joined = {}
    for mine, its in ((contract[0], contract[1]), (batch[0], batch[1])):
        mine, its = (mine, its) if first else (its, mine)
        joined |= {i: names[w] for w, i in zip(mine, its, strict=True)}
    letters = "".join(joined.get(i) or next(free) for i in range(jnp.ndim(other)))
    left, right = (names, letters) if first else (letters, names)
    used = {side[i] for side, axes in ((left, contract[0]), (left, batch[0])) for i in axes}
    out = "".join(left[i] for i in batch[0]) + "".join(c for c in left + right if c not in used)

    def plain(other, array):
        pair = (array, other) if first else (other, array)
        return lax.dot_general(*pair, p["dimension_numbers"], p["precision"], p["preferred_element_type"])

    dtype = p["preferred_element_type"]
    return weight.dot(Product(other, letters, names, out, plain, p["precision"], dtype))


def grouped_product(run, equation, x, weight, sizes):
    """Products of rows with their group's matrix: `grouped.product`, by its name, and lax.ragged_dot."""
    if not is_leaf(weight) or is_leaf(x) or is_leaf(sizes):
        raise NoRule("it is not the matrices of the groups")
    if equation.primitive.name == "ragged_dot_general":
        p = equation.params
        dims = p["ragged_dot_dimension_numbers"]
        if dims != lax.RaggedDotDimensionNumbers((((1,), (1,)), ((), ())), (0,), (0,)):
            raise NoRule("it is not in the form [groups, in, out]")

        def plain(x, array, ins, outs):
            return lax.ragged_dot_general(x, array, sizes, dims, p["precision"], p["preferred_element_type"])

        return weight.grouped(Grouped(x, None, None, plain))
    given = grouped.options(equation.params["name"])

    def plain(x, array, ins, outs, **layer):
        return grouped.product(x, array, sizes, ins=ins, outs=outs, precision=given["precision"], **layer)

    return weight.grouped(Grouped(x, given["ins"], given["outs"], plain))


def gather(run, equation, weight, index):
    """A look-up of whole rows by their index."""
    p, n = equation.params, equation.params["dimension_numbers"]
    whole = [i for i, (a, b) in enumerate(zip(p["slice_sizes"], weight.shape, strict=True)) if a == b]
    axes = n.start_index_map
    if (not is_leaf(weight) or len(axes) != 1 or n.collapsed_slice_dims != axes or n.operand_batching_dims
            or set(whole) | set(axes) != set(range(len(weight.shape)))):  # fmt: skip
        raise NoRule("only whole rows are looked up by index")
    if p["fill_value"] is not None and p["fill_value"] == p["fill_value"]:  # A number, not NaN.
        raise NoRule("what is beyond it is given a value")
    axis = axes[0]
    names = string.ascii_letters[: len(weight.shape)]
    rest = iter(names[:axis] + names[axis + 1 :])
    index_letters = string.ascii_letters[len(names) : len(names) + index.ndim - 1]
    left = iter(index_letters)
    out = "".join(next(rest if i in n.offset_dims else left) for i in range(len(equation.outvars[0].aval.shape)))
    mode = {"CLIP": "clip", "FILL_OR_DROP": "fill"}.get(p["mode"].name, "promise_in_bounds")

    def plain(array):
        return lax.gather(array, index, n, p["slice_sizes"], unique_indices=p["unique_indices"],
                          indices_are_sorted=p["indices_are_sorted"], mode=p["mode"], fill_value=p["fill_value"])

    return weight.take(plain, axis, index[..., 0], index_letters, names, out, mode=mode, fill=0)
