"""Equations of a jaxpr on arrays, as they are."""

from __future__ import annotations

from collections.abc import Sequence

from jax._src import source_info_util


def bind(equation, inputs) -> Sequence:
    """The outputs of an equation for these arrays."""
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    source = equation.source_info
    stack = source_info_util.current_name_stack() + source.name_stack
    with source_info_util.user_context(source.traceback, name_stack=stack), equation.ctx.manager:
        found = equation.primitive.bind(*functions, *inputs, **params)
    return found if equation.primitive.multiple_results else [found]
