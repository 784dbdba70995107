"""What a function only moves of its parameters is moved once: layers cut out of stacks, casts to fewer bytes.

    prepared = jit(partial(move, step))(params, state).beside(params)    # what `step` computes with
    call(step, prepared, state)                                          # = step(params, state), with no cut in it

Layers lie in stacks [layers, in, out]; a loop that cuts them out again for each token spends more time on copies than
on products where the cut is a copy, as it is on CPUs. The function is traced, and the equations that only move
parameters are taken out of its jaxpr, so that it holds for any model and for structured weights alike.

Matrices that are multiplied with one row are laid for that, see `laid`; not on a mesh of several devices.

Experts stay where they are: of their matrices few are read for a token, and each is one stretch of the stack. A layer
of them is a `Stacked` leaf, so that neither a copy of all of them is kept nor one of a layer's is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jitune import laid, structured
from jitune.leaves import grouped
from jitune.leaves.parts import Grouped, Leaf

MOVES = ("split", "slice", "squeeze", "reshape", "convert_element_type")


@dataclass(frozen=True)
class Stacked(Leaf):
    """A layer of a stack of experts [layers, experts, in, out], for products by groups alone."""

    array: Any
    layer: int

    def merge(self):
        """The layer's matrices, cut out."""
        return self.array[self.layer]

    def grouped(self, p: Grouped):
        """With the stack itself."""
        return p.plain(p.x, self.array, p.ins, p.outs, layer=self.layer)


jax.tree_util.register_dataclass(Stacked, data_fields=("array",), meta_fields=("layer",))


@dataclass(frozen=True)
class Prepared:
    """Parameters as `call` takes them. pieces: arrays, and experts as `Stacked`; keys: what each was made by; laid:
    where each lies in the pieces; origin: (tree, shapes and dtypes) of the parameters."""

    pieces: tuple
    keys: tuple
    laid: tuple
    origin: Any


@dataclass(frozen=True)
class Moved:
    """What `move` gives. pieces: arrays, None for parameters as they are; places: the number of the leaf each of those
    is, and of its layer, None for all of them, or None for an array; the rest as in Prepared."""

    pieces: tuple
    keys: tuple
    places: tuple
    laid: tuple
    origin: Any

    def beside(self, params) -> Prepared:
        """With the parameters that are as they were: no copy of theirs is made."""
        leaves = jax.tree.leaves(params)
        pieces = (x if x is not None else leaves[place[0]] if place[1] is None else Stacked(leaves[place[0]], place[1])
                  for x, place in zip(self.pieces, self.places, strict=True))  # fmt: skip
        return Prepared(tuple(pieces), self.keys, self.laid, self.origin)


jax.tree_util.register_dataclass(Prepared, data_fields=("pieces",), meta_fields=("keys", "laid", "origin"))
jax.tree_util.register_dataclass(Moved, data_fields=("pieces",), meta_fields=("keys", "places", "laid", "origin"))


class _Part(NamedTuple):
    """A part of a jaxpr, with the fields that `structured.evaluate` reads."""

    eqns: list
    constvars: list
    invars: list
    outvars: list


def move(function: Callable, params: Any, *args) -> Moved:
    """The pieces of `params` that `function(params, *args)` computes with, to be put under jit."""
    leaves, treedef = jax.tree.flatten(params)
    origin = treedef, tuple((x.shape, np.dtype(x.dtype)) for x in leaves)
    closed, _, moves, rest, keys = _split(function, origin, args)
    place = {v: (i, None) for i, v in enumerate(moves.invars)} | _experts(moves, rest)
    found = structured.evaluate(moves, closed.consts, leaves)
    found = [None if v in place else x for v, x in zip(moves.outvars, found, strict=True)]
    copies = {i: v for i, v in enumerate(moves.outvars) if v not in place}
    groups = [] if grouped.mesh_axes() else laid.choose(rest.eqns, copies)
    pieces, where = laid.lay(found, groups)
    places = {p.array: place.get(v) for v, p in zip(moves.outvars, where, strict=True)}
    return Moved(tuple(pieces), keys, tuple(places[i] for i in range(len(pieces))), tuple(where), origin)


def call(function: Callable, params: Any, *args) -> Any:
    """`function(params, *args)`; params: what `beside` gave, or any other.

    Raises ValueError where the function reads a piece that the one given to `move` did not.
    """
    if not isinstance(params, Prepared):
        return function(params, *args)
    closed, tree, _, rest, keys = _split(function, params.origin, args)
    there = dict(zip(params.keys, laid.take(params.pieces, params.laid), strict=True))
    if missing := sum(key not in there for key in keys):
        raise ValueError(f"{missing} of {len(keys)} pieces of the parameters were not prepared for this function")
    pieces = laid.cut_out(rest.eqns, rest.invars[: len(keys)], [there[key] for key in keys])
    return tree.unflatten(structured.evaluate(rest, closed.consts, [*pieces, *jax.tree.leaves(args)]))


def _split(function, origin, args):
    """(the jaxpr, the tree of its outputs, what moves parameters, the rest of it, the keys of the pieces between).

    A key says how a piece is made, so that functions that read the same pieces in another order may share them.
    """
    treedef, shapes = origin
    params = treedef.unflatten([jax.ShapeDtypeStruct(*x) for x in shapes])
    closed, out = jax.make_jaxpr(function, return_shape=True)(params, *args)
    jaxpr, count = closed.jaxpr, len(shapes)
    moved, moves, rest = {v: hash(("leaf", i)) for i, v in enumerate(jaxpr.invars[:count])}, [], []
    for equation in structured.live(jaxpr):
        variables = [v for v in equation.invars if not hasattr(v, "val")]
        if equation.primitive.name in MOVES and variables and all(v in moved for v in variables) and _fits(equation):
            moves.append(equation)
            given = (str(v) if hasattr(v, "val") else moved[v] for v in equation.invars)
            made = equation.primitive.name, str(equation.params), *given
            moved.update({v: hash((*made, i)) for i, v in enumerate(equation.outvars)})
        else:
            rest.append(equation)
    read = {v for e in rest for v in e.invars if not hasattr(v, "val")}
    read |= {v for v in jaxpr.outvars if not hasattr(v, "val")}
    pieces = [v for v in moved if v in read]
    first = _Part(moves, jaxpr.constvars, jaxpr.invars[:count], pieces)
    second = _Part(rest, jaxpr.constvars, [*pieces, *jaxpr.invars[count:]], jaxpr.outvars)
    return closed, jax.tree.structure(out), first, second, tuple(moved[v] for v in pieces)


def _experts(moves: _Part, rest: _Part) -> dict:
    """{variable: (number of the stack, layer)} of layers of experts that are multiplied with by groups alone."""
    if grouped.mesh_axes():
        return {}
    place, cut = {v: i for i, v in enumerate(moves.invars)}, {}
    for e in moves.eqns:
        if e.invars[0] in place and e.outvars[0].aval.shape == (1, *e.invars[0].aval.shape[1:]):
            if e.primitive.name == "split" and e.params["axis"] == 0:
                cut |= {v: (place[e.invars[0]], layer) for layer, v in enumerate(e.outvars)}
            elif e.primitive.name == "slice":
                cut[e.outvars[0]] = place[e.invars[0]], e.params["start_indices"][0]
    found = {e.outvars[0]: cut[e.invars[0]] for e in moves.eqns
             if e.primitive.name == "squeeze" and e.invars[0] in cut and e.params["dimensions"] == (0,)}  # fmt: skip
    for e in rest.eqns:
        weights = e.invars[1:2] if grouped.options(str(e.params.get("name", ""))) else []
        for v in e.invars:
            if v not in weights and not hasattr(v, "val"):
                found.pop(v, None)
    return {v: x for v, x in found.items() if len(v.aval.shape) == 3}


def _fits(equation) -> bool:
    """Codes stay codes: nothing is kept that takes more bytes than it was made of."""
    size = [sum(v.aval.size * v.aval.dtype.itemsize for v in vs if hasattr(v.aval, "dtype"))
            for vs in (equation.invars, equation.outvars)]  # fmt: skip
    return size[1] <= size[0]
