"""Runs a function whose weights are structured leaves as if they were the dense arrays that they stand for.

    y = run(forward, {"kernel": Factored(...)}, x)      # forward(weights, x), any traced function

The function is traced with plain abstract weights, so that Flax never sees an odd leaf; then its jaxpr is evaluated
with the leaves in their place. A product with a leaf is taken in the leaf's own form, and whatever moves a weight's
elements (casts, reshapes, slices, scans over stacked layers) moves the leaf's arrays. A leaf is never made dense in
silence: an operation that has no rule raises `UserError`, which names it and the weight's path; `merge_at` lets
single operations merge single weights.

All access to jax's internals (jaxprs and how their equations are bound) is in this file.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import source_info_util

from jitune import tree
from jitune.leaves import grouped
from jitune.leaves.parts import Grouped, Later, Leaf, NoRule, Product
from jitune.types import UserError


def is_leaf(x: Any) -> bool:
    """True for structured leaves, which are pytrees of several arrays."""
    return isinstance(x, Leaf)


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
            return _bind(equation, inputs)
        name = equation.primitive.name
        rule = RULES.get(name)
        if rule is _inline and grouped.options(equation.params["name"]):
            name, rule = "grouped_product", _grouped
        try:
            if rule is None:
                raise NoRule("")
            found = rule(self, equation, *inputs)
            return found if isinstance(found, (list, tuple)) else [found]
        except NoRule as reason:
            refused = [x for x in leaves if not self.may_merge(name, x.path)]
            if refused:
                raise UserError(_explain(name, refused[0].path, str(reason))) from None
            return _bind(equation, [x.merge() if is_leaf(x) else x for x in inputs])

    def may_merge(self, name: str, path: str) -> bool:
        return any(tree.matches(f"^({p})$", name) and tree.matches(w, path) for p, w in self.allowed)


def _explain(name: str, path: str, reason: str) -> str:
    why = f": {reason}" if reason else ""
    return (f"{path}: the model puts this weight through {name!r}, which would have to make it dense{why}; leave it "
            f"out of select, or let it be merged there with merge_at={name}:{path}")  # fmt: skip


def _bind(equation, inputs) -> Sequence:
    """The equation on arrays, as it is."""
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    source = equation.source_info
    stack = source_info_util.current_name_stack() + source.name_stack
    with source_info_util.user_context(source.traceback, name_stack=stack), equation.ctx.manager:
        found = equation.primitive.bind(*functions, *inputs, **params)
    return found if equation.primitive.multiple_results else [found]


# Rules: (run, equation, *inputs) -> the output or a list of them, for equations with a leaf among their inputs.


def _dot_general(run, equation, x, y):
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


def _grouped(run, equation, x, weight, sizes):
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


def _gather(run, equation, weight, index):
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


def _slice(run, equation, x):
    p = equation.params
    strides = p["strides"] or (1,) * len(x.shape)
    sizes = [-(-(b - a) // s) for a, b, s in zip(p["start_indices"], p["limit_indices"], strides, strict=True)]
    return _cut(x, p["start_indices"], sizes, strides)


def _dynamic_slice(run, equation, x, *starts):
    if not is_leaf(x):
        raise NoRule("")
    sizes = equation.params["slice_sizes"]
    starts = [s if isinstance(s, jax.core.Tracer) else min(max(int(s), 0), n - z)
              for s, n, z in zip(starts, x.shape, sizes, strict=True)]
    return _cut(x, starts, sizes, (1,) * len(x.shape))


def _split(run, equation, x):
    axis, found, start = equation.params["axis"], [], 0
    for size in equation.params["sizes"]:
        starts = [start if i == axis else 0 for i in range(len(x.shape))]
        sizes = [size if i == axis else n for i, n in enumerate(x.shape)]
        found.append(_cut(x, starts, sizes, (1,) * len(x.shape)))
        start += int(size)
    return found


def _cut(x, starts, sizes, strides):
    """Axes that stay whole have the size None."""
    whole = [n == z and t == 1 for n, z, t in zip(x.shape, sizes, strides, strict=True)]
    sizes = [None if w else z for w, z in zip(whole, sizes, strict=True)]
    return x.slice([0 if w else s for w, s in zip(whole, starts, strict=True)], sizes, strides)


def _broadcast(run, equation, x, *sizes):
    """New axes of length 1 only."""
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    if sizes or any(shape[p] != n for p, n in zip(places, x.shape, strict=True)) or any(
        n != 1 for i, n in enumerate(shape) if i not in places
    ):
        raise NoRule("it is repeated")
    return x.reshape(tuple(shape))


def _reshape(run, equation, x, *sizes):
    if sizes or equation.params.get("dimensions") is not None:
        raise NoRule("")
    return x.reshape(tuple(equation.params["new_sizes"]))


def _cast(run, equation, x):
    if not jnp.issubdtype(equation.params["new_dtype"], jnp.floating):
        raise NoRule("")
    return x.cast(equation.params["new_dtype"])


def _times(run, equation, x, y):
    """mul and div by one number."""
    weight, number = (x, y) if is_leaf(x) else (y, x)
    if is_leaf(number) or jnp.size(number) != 1 or jnp.ndim(number) > len(weight.shape):
        raise NoRule("")
    number = jnp.reshape(number, ()) if jnp.ndim(number) else number
    if equation.primitive.name == "mul":
        return weight.times(number)
    if weight is y:
        raise NoRule("")
    return weight.times(1 / number)


def _transparent(run, equation, *inputs):
    """What leaves every number as it is, on each array of a leaf."""
    done = [x.each(lambda a: _bind(equation, [a])[0]) if is_leaf(x) else x for x in inputs]
    return done


def _constraint(run, equation, x):
    return x.with_base(lambda a: _bind(equation, [a])[0])


def _inline(run, equation, *inputs):
    closed = equation.params["jaxpr"]
    return run.evaluate(closed.jaxpr, closed.consts, inputs)


def _remat(run, equation, *inputs):
    p = equation.params
    again = jax.checkpoint(lambda *inputs: run.evaluate(p["jaxpr"], (), inputs), policy=p["policy"],
                           prevent_cse=p["prevent_cse"])  # fmt: skip
    return again(*inputs)


def _scan(run, equation, *inputs):
    p = equation.params
    consts, carry, xs = _scan_parts(p, inputs)
    for x in xs:
        if is_leaf(x):
            x.check_first()

    def body(carry, xs):
        xs = [x.slice_first() if is_leaf(x) else x for x in xs]
        out = run.evaluate(p["jaxpr"].jaxpr, p["jaxpr"].consts, [*consts, *carry, *xs])
        carried, stacked = out[: len(carry)], out[len(carry) :]
        _check_carry(carry, carried)
        if any(map(is_leaf, stacked)):
            raise NoRule("it is stacked up by the scan")
        return carried, stacked

    options = {k: p[k] for k in ("length", "reverse", "unroll", "_split_transpose") if k in p}
    carry, ys = lax.scan(body, list(carry), list(xs), **options)
    return [*carry, *ys]


def _scan_parts(p, inputs):
    """(constants, carry, what is scanned over): counted in a scan's parameters, and from jax 0.11 on a tree there."""
    if "ft_in" in p:
        return [list(part) for part in p["ft_in"].update(inputs).unpack()]
    first, second = p["num_consts"], p["num_consts"] + p["num_carry"]
    return [list(part) for part in (inputs[:first], inputs[first:second], inputs[second:])]


def _check_carry(before, after):
    """A leaf goes round a loop only as it is."""
    for x, y in zip(before, after, strict=True):
        if jax.tree.structure(x) != jax.tree.structure(y):
            raise NoRule("it changes its form from one round of a loop to the next")


def _while(run, equation, *inputs):
    p = equation.params
    n, m = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]

    def cond(carry):
        return run.evaluate(p["cond_jaxpr"].jaxpr, p["cond_jaxpr"].consts, [*inputs[:n], *carry])[0]

    def body(carry):
        out = run.evaluate(p["body_jaxpr"].jaxpr, p["body_jaxpr"].consts, [*inputs[n:m], *carry])
        _check_carry(carry, out)
        return out

    return lax.while_loop(cond, body, list(inputs[m:]))


def _cond(run, equation, index, *inputs):
    def branch(closed):
        return lambda *inputs: run.evaluate(closed.jaxpr, closed.consts, inputs)

    branches = [branch(closed) for closed in equation.params["branches"]]
    shapes = [jax.tree.structure(jax.eval_shape(b, *inputs)) for b in branches]
    if any(s != shapes[0] for s in shapes):
        raise NoRule("the branches return it in different forms")
    return lax.switch(index, branches, *inputs)


def _custom(run, equation, *inputs):
    """A function with a derivative of its own: its value in the leaves' form, its derivative as it was written.

    The derivative's jaxpr is evaluated with the leaves too; the cotangent of the dense weight that it returns is
    taken back to the leaf's arrays.
    """
    moves = [jnp.issubdtype(x.dtype, jnp.floating) for x in inputs]

    @jax.custom_vjp
    def call(*inputs):
        closed = equation.params.get("call_jaxpr") or equation.params["jaxpr"]
        return run.evaluate(closed.jaxpr, closed.consts, inputs)

    def forward(*inputs):
        return call(*inputs), inputs

    def backward(inputs, cotangents):
        shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs]

        def written(arrays, cotangents):
            def moving(*given):
                left = iter(given)
                return _bind(equation, [next(left) if m else a for m, a in zip(moves, arrays, strict=True)])

            return jax.vjp(moving, *(a for m, a in zip(moves, arrays, strict=True) if m))[1](list(cotangents))

        closed = jax.make_jaxpr(written)(shapes, cotangents)
        found = iter(run.evaluate(closed.jaxpr, closed.consts, [*inputs, *cotangents]))
        return tuple(_pull(x, next(found)) if m else None for m, x in zip(moves, inputs, strict=True))

    call.defvjp(forward, backward)
    return call(*inputs)


def _pull(x, cotangent):
    """The cotangent of a dense weight as that of a leaf."""
    if not is_leaf(x):
        return cotangent
    arrays, treedef = jax.tree.flatten(x)
    moves = [jnp.issubdtype(a.dtype, jnp.floating) for a in arrays]

    def merged(*given):
        left = iter(given)
        return treedef.unflatten([next(left) if m else a for m, a in zip(moves, arrays, strict=True)]).merge()

    found = iter(jax.vjp(merged, *(a for m, a in zip(moves, arrays, strict=True) if m))[1](cotangent))
    return treedef.unflatten([next(found) if m else None for m in moves])


RULES = {
    "dot_general": _dot_general,
    "ragged_dot_general": _grouped,
    "gather": _gather,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "split": _split,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "transpose": lambda run, equation, x: x.transpose(equation.params["permutation"]),
    "squeeze": lambda run, equation, x: x.squeeze(tuple(equation.params["dimensions"])),
    "convert_element_type": _cast,
    "mul": _times,
    "div": _times,
    "neg": lambda run, equation, x: x.times(-1),
    "stop_gradient": _transparent,
    "copy": _transparent,
    "optimization_barrier": _transparent,
    "sharding_constraint": _constraint,
    "jit": _inline,
    "pjit": _inline,
    "closed_call": _inline,
    "remat2": _remat,
    "checkpoint": _remat,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "custom_jvp_call": _custom,
    "custom_vjp_call": _custom,
}
