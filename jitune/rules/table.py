"""The rule of each operation, by its primitive's name.

A rule takes (run, equation, *inputs), a leaf among the inputs, and returns the output or a list of them. `run.evaluate`
evaluates a jaxpr inside the equation. It raises NoRule, with a reason or "", for what it does not cover.
"""

from __future__ import annotations

from collections.abc import Callable

from jitune.leaves import grouped
from jitune.rules import control, moves, products

RULES = {
    "dot_general": products.dot_general,
    "ragged_dot_general": products.grouped_product,
    "gather": products.gather,
    "slice": moves.static_slice,
    "dynamic_slice": moves.dynamic_slice,
    "split": moves.split,
    "broadcast_in_dim": moves.broadcast,
    "reshape": moves.reshape,
    "transpose": lambda run, equation, x: x.transpose(equation.params["permutation"]),
    "squeeze": lambda run, equation, x: x.squeeze(tuple(equation.params["dimensions"])),
    "convert_element_type": moves.cast,
    "mul": moves.times,
    "div": moves.times,
    "neg": lambda run, equation, x: x.times(-1),
    "stop_gradient": moves.transparent,
    "copy": moves.transparent,
    "optimization_barrier": moves.transparent,
    "sharding_constraint": moves.constraint,
    "jit": control.inline,
    "pjit": control.inline,
    "closed_call": control.inline,
    "remat2": control.remat,
    "checkpoint": control.remat,
    "scan": control.scan,
    "while": control.while_loop,
    "cond": control.cond,
    "custom_jvp_call": control.custom,
    "custom_vjp_call": control.custom,
}


def find(equation) -> tuple[str, Callable | None]:
    """(the name of an operation, its rule); products of groups go by the name of the function that has them."""
    name = equation.primitive.name
    rule = RULES.get(name)
    if rule is control.inline and grouped.options(equation.params["name"]):
        return "grouped_product", products.grouped_product
    return name, rule
