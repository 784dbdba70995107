"""Matrices laid as the products of one row read them fastest on a CPU.

    groups = choose(equations, pieces)                       # of float32 matrices that are multiplied with one row
    arrays, places = lay(values, groups)
    take(arrays, places)                                     # the matrices again, as leaves for products

The product of one row takes as long as it takes to read the matrix, and how fast XLA reads it depends on how it lies. A
matrix [ins, outs] with no more columns than rows is read up to twice as fast if it lies turned, [outs, ins]; small ones
that are multiplied with the same row, those of queries, keys and values, as one. Products of more rows than one are
slower so. docs/performance.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jitune.leaves.parts import Leaf, Product, product

SMALL = 2 * 2**20  # bytes: the time to share a product of fewer among threads is seen beside that to read it


@dataclass(frozen=True)
class Columns(Leaf):
    """The columns first, first + 1, ... of a matrix that lies as it is or turned, for products alone.

    array: [ins, columns], or turned [columns, ins]; shape: [ins, outs]. Products of several with one array are one.
    """

    array: Any
    first: int
    shape: tuple[int, int]
    turned: bool
    path: str = ""

    @property
    def dtype(self):
        return self.array.dtype

    def merge(self):
        """The columns, cut out."""
        return self._cut(self.array.T if self.turned else self.array, 1)

    def dot(self, p: Product):
        """The product with the whole array, of which these columns are cut."""
        if self.turned:  # a transpose of the array would be made anew for each product
            y = product((p.x_letters, p.x), (p.names[::-1], self.array), p.out, p.precision, p.dtype)
        else:
            y = p.plain(p.x, self.array)
        return self._cut(y, p.out.index(p.names[1]))

    def _cut(self, array, axis: int):
        return jax.lax.slice_in_dim(array, self.first, self.first + self.shape[1], axis=axis)


jax.tree_util.register_dataclass(Columns, data_fields=("array",), meta_fields=("first", "shape", "turned", "path"))


class Place(NamedTuple):
    """Where a piece lies. array: its number; first, shape, turned: as of `Columns`, shape None for the array itself."""

    array: int
    first: int = 0
    shape: tuple[int, int] | None = None
    turned: bool = False


class Group(NamedTuple):
    """Pieces, by their numbers, that lie side by side in one array, turned or not."""

    members: tuple[int, ...]
    turned: bool


def choose(equations: Iterable, pieces: Mapping[int, Any]) -> list[Group]:
    """Which of the pieces lie otherwise than they are: {number: variable of a jaxpr with these equations}."""
    together = {}
    for (number, variable), uses in zip(pieces.items(), _uses(equations, pieces.values()), strict=True):
        if uses and all(_is_product(e, variable) and _is_row(e.invars[0]) for e in uses):
            small = variable.aval.size * variable.aval.dtype.itemsize <= SMALL
            shared = ((e.invars[0], str(e.params)) for e in uses)
            together.setdefault((None if small else number, *shared), []).append(number)
    groups = []
    for members in together.values():
        ins, outs = pieces[members[0]].aval.shape[0], sum(pieces[i].aval.shape[1] for i in members)
        if len(members) > 1 or outs <= ins:
            groups.append(Group(tuple(members), outs <= ins))
    return groups


def lay(values: Sequence, groups: Sequence[Group]) -> tuple[list, list[Place]]:
    """(arrays, where each value lies in them)."""
    arrays, places = [], [None] * len(values)
    for members, turned in groups:
        first = 0
        for i in members:
            places[i] = Place(len(arrays), first, values[i].shape, turned)
            first += values[i].shape[1]
        arrays.append(jnp.concatenate([values[i].T if turned else values[i] for i in members], axis=0 if turned else 1))
    for i, value in enumerate(values):
        if places[i] is None:
            places[i] = Place(len(arrays))
            arrays.append(value)
    return arrays, places


def take(arrays: Sequence, places: Sequence[Place]) -> list:
    """The values that lie there: arrays, and leaves for products."""
    return [arrays[p.array] if p.shape is None else Columns(arrays[p.array], *p[1:]) for p in places]


def cut_out(equations: Iterable, pieces: Sequence, values: Sequence) -> list:
    """The values; as arrays where the equations do something else with a piece than to multiply."""
    return [x.merge() if isinstance(x, Columns) and not all(_is_product(e, v) for e in uses) else x
            for v, x, uses in zip(pieces, values, _uses(equations, pieces), strict=True)]  # fmt: skip


def _uses(equations: Iterable, pieces: Iterable) -> list[list]:
    """The equations that read each piece."""
    found = {v: [] for v in pieces}
    for e in equations:
        for v in {v for v in e.invars if not hasattr(v, "val")}:
            if v in found:
                found[v].append(e)
    return list(found.values())


def _is_product(equation, matrix) -> bool:
    """Whether it is x @ matrix, in float32."""
    if equation.primitive.name != "dot_general" or equation.invars[1] is not matrix or equation.invars[0] is matrix:
        return False
    last = len(equation.invars[0].aval.shape) - 1
    plain = equation.params["dimension_numbers"] == (((last,), (0,)), ((), ()))
    return plain and matrix.aval.ndim == 2 and matrix.aval.dtype == np.float32


def _is_row(x) -> bool:
    return not hasattr(x, "val") and x.aval.size == x.aval.shape[-1]
