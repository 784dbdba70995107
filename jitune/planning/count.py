"""The FLOPs of a function's matrix products, counted in its jaxpr.

    traced = jax.jit(step).trace(*abstract_arguments)
    count_products(traced.jaxpr)

It counts what is really computed, whatever the model: what is computed again in the backward pass, the pairs
that a mask throws away, padding. `flops.train_flops` is the count that MFU is made of, without all these.
"""

from __future__ import annotations

import math

import jax


def count_products(jaxpr, *, skips: bool = False, own: int = 1) -> int:
    """FLOPs of every product of a (closed) jaxpr, ragged ones too, 2 for a multiplication and an addition, over all
    devices.

    The body of a scan counts as often as it runs, that of a while loop (of unknown length) once, of the branches
    of a cond the most expensive, what one device of a shard_map does as often as there are devices. Raises
    NotImplementedError for convolutions, which no model here has.

    skips: a branch that multiplies nothing is taken half of the time, as in a shard_map, where it stands for the blocks
    of keys after those of queries. own: of the rows that a ragged product is given, one in so many meets one of the
    matrices that are here.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            total += _product(equation)
        elif name == "ragged_dot_general":
            total += _ragged_product(equation) // own
        elif name == "conv_general_dilated":
            raise NotImplementedError("convolutions are not counted")
        elif name == "scan":
            total += params["length"] * count_products(params["jaxpr"], skips=skips, own=own)
        elif name == "shard_map":
            axes = params["newly_manual_axes" if "newly_manual_axes" in params else "manual_axes"]  # by jax's version
            devices = math.prod(params["mesh"].shape[axis] for axis in axes)
            total += devices * count_products(params["jaxpr"], skips=True, own=params["mesh"].shape.get("expert", 1))
        elif name == "cond":
            counts = [count_products(branch, skips=skips, own=own) for branch in _counted(params["branches"])]
            total += max(counts) // 2 if skips and not min(counts) else max(counts)
        else:
            total += sum(count_products(inner, skips=skips, own=own)
                         for inner in jax.tree.leaves(list(params.values()), is_leaf=_is_jaxpr) if _is_jaxpr(inner))
    return total


def _counted(branches):
    """Of the forms of one product for several platforms, the ragged one; else all branches."""
    ragged = [b for b in branches if any(e.primitive.name == "ragged_dot_general" for e in b.jaxpr.eqns)]
    return ragged or branches


def _is_jaxpr(value) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def _product(equation) -> int:
    """2 x the elements of the result x the length that is summed over."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    summed = math.prod(equation.invars[0].aval.shape[d] for d in contracted)
    return 2 * summed * math.prod(equation.outvars[0].aval.shape)


def _ragged_product(equation) -> int:
    """2 x rows x in x out, whatever the groups are: every row meets the matrix of its own group."""
    dims, left = equation.params["ragged_dot_dimension_numbers"], equation.invars[0].aval.shape
    (contracted, _), _ = dims.dot_dimension_numbers
    out = math.prod(equation.outvars[0].aval.shape)
    if not dims.rhs_group_dimensions:  # sums over the rows of each group
        out //= equation.outvars[0].aval.shape[0]
    return 2 * out * math.prod(left[d] for d in contracted)
