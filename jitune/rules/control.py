"""Rules of equations that hold jaxprs: these are evaluated with the leaves in their place."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jitune.leaves.parts import NoRule, is_leaf
from jitune.rules.bind import bind


def inline(run, equation, *inputs):
    """A jitted function, evaluated in place."""
    closed = equation.params["jaxpr"]
    return run.evaluate(closed.jaxpr, closed.consts, inputs)


def remat(run, equation, *inputs):
    """A checkpointed function, whose policy holds for what is computed with the leaves."""
    p = equation.params
    again = jax.checkpoint(lambda *inputs: run.evaluate(p["jaxpr"], (), inputs), policy=p["policy"],
                           prevent_cse=p["prevent_cse"])  # fmt: skip
    return again(*inputs)


def scan(run, equation, *inputs):
    """A scan; leaves may be constants, carried as they are, or scanned over along their first axis."""
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


def while_loop(run, equation, *inputs):
    """A while loop, which carries leaves only as they are."""
    p = equation.params
    n, m = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]

    def cond(carry):
        return run.evaluate(p["cond_jaxpr"].jaxpr, p["cond_jaxpr"].consts, [*inputs[:n], *carry])[0]

    def body(carry):
        out = run.evaluate(p["body_jaxpr"].jaxpr, p["body_jaxpr"].consts, [*inputs[n:m], *carry])
        _check_carry(carry, out)
        return out

    return lax.while_loop(cond, body, list(inputs[m:]))


def cond(run, equation, index, *inputs):
    """Branches, which have to return leaves in one form."""
    def branch(closed):
        return lambda *inputs: run.evaluate(closed.jaxpr, closed.consts, inputs)

    branches = [branch(closed) for closed in equation.params["branches"]]
    shapes = [jax.tree.structure(jax.eval_shape(b, *inputs)) for b in branches]
    if any(s != shapes[0] for s in shapes):
        raise NoRule("the branches return it in different forms")
    return lax.switch(index, branches, *inputs)


def custom(run, equation, *inputs):
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
                return bind(equation, [next(left) if m else a for m, a in zip(moves, arrays, strict=True)])

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
