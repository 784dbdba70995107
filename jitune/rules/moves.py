"""Rules of what moves or scales a weight's elements: it moves or scales a leaf's arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jitune.leaves.parts import NoRule, is_leaf
from jitune.rules.bind import bind


def static_slice(run, equation, x):
    """A slice whose bounds are known."""
    p = equation.params
    strides = p["strides"] or (1,) * len(x.shape)
    sizes = [-(-(b - a) // s) for a, b, s in zip(p["start_indices"], p["limit_indices"], strides, strict=True)]
    return _cut(x, p["start_indices"], sizes, strides)


def dynamic_slice(run, equation, x, *starts):
    """A slice whose starts may be traced."""
    if not is_leaf(x):
        raise NoRule("")
    sizes = equation.params["slice_sizes"]
    starts = [s if isinstance(s, jax.core.Tracer) else min(max(int(s), 0), n - z)
              for s, n, z in zip(starts, x.shape, sizes, strict=True)]
    return _cut(x, starts, sizes, (1,) * len(x.shape))


def split(run, equation, x):
    """Parts along one axis."""
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


def broadcast(run, equation, x, *sizes):
    """New axes of length 1 only."""
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    if sizes or any(shape[p] != n for p, n in zip(places, x.shape, strict=True)) or any(
        n != 1 for i, n in enumerate(shape) if i not in places
    ):
        raise NoRule("it is repeated")
    return x.reshape(tuple(shape))


def reshape(run, equation, x, *sizes):
    """Another shape, as far as the leaf has a form for it."""
    if sizes or equation.params.get("dimensions") is not None:
        raise NoRule("")
    return x.reshape(tuple(equation.params["new_sizes"]))


def cast(run, equation, x):
    """Another floating dtype."""
    if not jnp.issubdtype(equation.params["new_dtype"], jnp.floating):
        raise NoRule("")
    return x.cast(equation.params["new_dtype"])


def times(run, equation, x, y):
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


def transparent(run, equation, *inputs):
    """What leaves every number as it is, on each array of a leaf."""
    return [x.each(lambda a: bind(equation, [a])[0]) if is_leaf(x) else x for x in inputs]


def constraint(run, equation, x):
    """A sharding constraint, which holds for the base of a leaf."""
    return x.with_base(lambda a: bind(equation, [a])[0])
