"""Runs a function whose weights are structured leaves as if they were the dense arrays that they stand for.

    y = run(forward, {"kernel": Factored(...)}, x)      # forward(weights, x), any traced function

The function is traced with plain abstract weights, so that Flax never sees an odd leaf; then its jaxpr is evaluated
with the leaves in their place. A product with a leaf is taken in the leaf's own form, and whatever moves a weight's
elements (casts, reshapes, slices, scans over stacked layers) moves the leaf's arrays. A leaf is never made dense in
silence: an operation that has no rule raises `UserError`, which names it and the weight's path; `merge_at` lets
single operations merge single weights.

What becomes of each operation is in `rules`. All access to jax's internals (jaxprs, and how their equations are
bound) is there and here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from jitune import tree
from jitune.leaves.parts import Later, NoRule, is_leaf
from jitune.rules import table
from jitune.rules.bind import bind
from jitune.types import UserError


def merge(weights: Any) -> Any:
    """The tree with every structured leaf made dense."""
    return jax.tree.map(lambda x: x.merge() if is_leaf(x) else x, weights, is_leaf=is_leaf)


def run(function: Callable, weights: Any, *args, merge_at: Sequence[tuple[str, str]] = ()) -> Any:
    """`function(weights, *args)` with structured leaves among the weights.

    args: pytrees of arrays; closed-over arrays may be traced ones. merge_at: (primitive, pattern of paths) pairs,
    regular expressions both: where such an operation meets such a weight and has no rule, the weight is merged.
    Differentiable, and under jit, vmap, remat and meshes as the function itself. Raises UserError for an operation
    without a rule.
    """
    leaves, treedef = jax.tree.flatten(weights, is_leaf=is_leaf)
    if not any(map(is_leaf, leaves)):
        return function(weights, *args)
    plain = [jax.ShapeDtypeStruct(x.shape, x.dtype) if is_leaf(x) else x for x in leaves]
    closed, shape = jax.make_jaxpr(function, return_shape=True)(treedef.unflatten(plain), *args)
    _, used = _live(closed.jaxpr)
    leaves = [x.build() if isinstance(x, Later) and v in used else x
              for x, v in zip(leaves, closed.jaxpr.invars, strict=False)]
    out = _Run(tuple(merge_at)).evaluate(closed.jaxpr, closed.consts, [*leaves, *jax.tree.leaves(args)])
    if returned := [x.path for x in out if is_leaf(x)]:
        raise UserError(f"{returned[0]}: the model returns this weight itself, which would have to make it dense; "
                        "leave it out of select")  # fmt: skip
    return jax.tree.structure(shape).unflatten(out)


def evaluate(jaxpr, consts, args) -> list:
    """The outputs of a jaxpr for these arrays; or of a part of one, which has its eqns, constvars, invars, outvars."""
    return _Run(()).evaluate(jaxpr, consts, args)


def live(jaxpr) -> list:
    """The equations of a jaxpr that its outputs need."""
    return _live(jaxpr)[0]


def _live(jaxpr):
    """(the equations that the outputs need or that have effects, the variables that these and the outputs read)."""
    kept, used = [], {v for v in jaxpr.outvars if not hasattr(v, "val")}
    for equation in reversed(jaxpr.eqns):
        if equation.effects or not used.isdisjoint(equation.outvars):
            kept.append(equation)
            used.update(v for v in equation.invars if not hasattr(v, "val"))
    return kept[::-1], used


class _Run:
    """One evaluation; allowed: where weights may be merged."""

    def __init__(self, allowed):
        self.allowed = allowed

    def evaluate(self, jaxpr, consts, args) -> list:
        """The outputs of a jaxpr, in which each value is an array or a leaf."""
        values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

        def read(atom):
            return atom.val if hasattr(atom, "val") else values[atom]

        for equation in _live(jaxpr)[0]:
            found = self.equation(equation, [read(v) for v in equation.invars])
            values.update(zip(equation.outvars, found, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def equation(self, equation, inputs: list) -> Sequence:
        leaves = [x for x in inputs if is_leaf(x)]
        if not leaves:
            return bind(equation, inputs)
        name, rule = table.find(equation)
        try:
            if rule is None:
                raise NoRule("")
            found = rule(self, equation, *inputs)
            return found if isinstance(found, (list, tuple)) else [found]
        except NoRule as reason:
            refused = [x for x in leaves if not self.may_merge(name, x.path)]
            if refused:
                raise UserError(_explain(name, refused[0].path, str(reason))) from None
            return bind(equation, [x.merge() if is_leaf(x) else x for x in inputs])

    def may_merge(self, name: str, path: str) -> bool:
        return any(tree.matches(f"^({p})$", name) and tree.matches(w, path) for p, w in self.allowed)


def _explain(name: str, path: str, reason: str) -> str:
    why = f": {reason}" if reason else ""
    return (f"{path}: the model puts this weight through {name!r}, which would have to make it dense{why}; leave it "
            f"out of select, or let it be merged there with merge_at={name}:{path}")  # fmt: skip
