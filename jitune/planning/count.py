"""The FLOPs of a function's matrix products, counted in its jaxpr.

    traced = jax.jit(step).trace(*abstract_arguments)
    count_products(traced.jaxpr)

It counts what is really computed, whatever the model: what is computed again in the backward pass, the pairs
that a mask throws away, padding. `flops.train_flops` is the count that MFU is made of, without all these.
"""

from __future__ import annotations

import math

import jax


def count_products(jaxpr) -> int:
    """FLOPs of every product of a (closed) jaxpr, ragged ones too, 2 for a multiplication and an addition, over all
    devices.

    The body of a scan counts as often as it runs, that of a while loop (of unknown length) once, of the branches
    of a cond the most expensive. Raises NotImplementedError for convolutions, which no model here has.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            total += _product(equation)
        elif name == "ragged_dot_general":
            total += _ragged_product(equation)
        elif name == "conv_general_dilated":
            raise NotImplementedError("convolutions are not counted")
        elif name == "scan":
            total += params["length"] * count_products(params["jaxpr"])
        elif name == "cond":
            total += max(count_products(branch) for branch in params["branches"])
        else:
            total += sum(count_products(inner) for inner in jax.tree.leaves(list(params.values()), is_leaf=_is_jaxpr)
                         if _is_jaxpr(inner))
    return total


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
