"""Structured weights: a base array with low-rank factors, gains or replaced rows beside it, never merged in a product.

A leaf stands where the model's weight W stood. It has the shape and dtype of W, `merge()` gives the array that it
means, and it knows how it behaves under what models do with a weight: products, look-ups, slices, casts.

Each array of a leaf lies along some axes of W: `axes[i]` is the axis of W that its i-th axis is, None where that is
its own (a rank). With W [layers, in, out], A [layers, r, in] has the axes (0, None, 1), B [layers, r, out] has
(0, None, 2).
So an operation on W becomes one on each array, and a product takes the arrays one after the other: with x [.., in],
(x A) B costs 2 r (in + out) a row in place of 2 in out.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


class NoRule(Exception):
    """An operation that a leaf cannot follow without being merged; the text says what is in the way."""


class Leaf:
    """What all structured weights are: they have the shape and dtype of the weight that they stand for, and its path.

    merge() gives the dense weight; dot(product) and take(...) a product and a look-up; transpose, reshape, squeeze,
    slice, cast and times(number) leaves; check_first() and slice_first() what a scan over the first axis needs. All
    raise NoRule where they cannot without merging. grouped(...) is a product by groups.
    """

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def grouped(self, p: Grouped):
        """The products of rows with their groups' matrices, where the weight is [groups, in, out]."""
        raise NoRule("it has no product by groups")


@partial(jax.tree_util.register_dataclass, data_fields=("array",), meta_fields=("axes",))
@dataclass(frozen=True)
class Part:
    """An array along some axes of a weight, in any order, and some of its own (None)."""

    array: Any
    axes: tuple[int | None, ...]

    def letters(self, names: str, own: str = "") -> str:
        own = iter(own)
        return "".join(next(own) if a is None else names[a] for a in self.axes)

    def cast(self, dtype):
        keep = jnp.issubdtype(self.array.dtype, jnp.floating)
        return replace(self, array=self.array.astype(dtype)) if keep else self

    def transpose(self, permutation):
        """The weight's new axis i is the old axis permutation[i]; the array stays as it lies."""
        return replace(self, axes=tuple(None if a is None else permutation.index(a) for a in self.axes))

    def sort(self):
        """The same with its axes in ascending order, as the weight's are, and its own last."""
        order = sorted(range(len(self.axes)), key=lambda i: (self.axes[i] is None, self.axes[i]))
        return Part(jnp.transpose(self.array, order), tuple(self.axes[i] for i in order))

    def reshape(self, groups, shape):
        """groups: for every old axis, the new axes that it is a part of or is cut into; see `axis_groups`."""
        part = self.sort()
        sizes, axes, i = [], [], 0
        while i < len(part.axes) and part.axes[i] is not None:
            old, new = groups[part.axes[i]]
            if part.axes[i : i + len(old)] != old:
                raise NoRule("it merges axes of its input with axes of its output")
            sizes += [shape[n] for n in new]
            axes += new
            i += len(old)
        # Axes of size 1 that no old axis went into belong to nobody.
        return Part(part.array.reshape(*sizes, *part.array.shape[i:]), (*axes, *part.axes[i:]))

    def squeeze(self, gone):
        inside = [i for i, a in enumerate(self.axes) if a in gone]
        left = [a for a in self.axes if a not in gone]
        axes = tuple(a if a is None else a - sum(g < a for g in gone) for a in left)
        return Part(lax.squeeze(self.array, inside), axes)

    def slice(self, starts, sizes, strides):
        """starts: ints or scalars, one for each axis of the weight."""
        array = self.array
        for i, a in enumerate(self.axes):
            if a is None or sizes[a] is None:
                continue
            if isinstance(starts[a], int):
                stop = starts[a] + (sizes[a] - 1) * strides[a] + 1
                array = lax.slice_in_dim(array, starts[a], stop, strides[a], i)
            else:
                array = lax.dynamic_slice_in_dim(array, starts[a], sizes[a], i)
        return replace(self, array=array)

    def take(self, axis, index, mode, fill):
        """Entries along one axis of the weight. Returns (array, letters of the index's axes before the rest)."""
        i = self.axes.index(axis)
        array = jnp.moveaxis(self.array, i, 0)
        return array.at[index].get(mode=mode, fill_value=fill, wrap_negative_indices=False)


def axis_groups(old: tuple[int, ...], new: tuple[int, ...]) -> dict[int, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Which old axes became which new ones in a reshape: {old axis: (old axes, new axes)}.

    (4, 6) -> (4, 2, 3) gives {0: ((0,), (0,)), 1: ((1,), (1, 2))}; (1, 4) -> (4,) gives {0: ((0,), ()), 1: ((1,),
    (0,))}.
    """
    groups, i, j = {}, 0, 0
    while i < len(old) or j < len(new):
        left, right = [], []
        if i < len(old) and old[i] == 1 and (j >= len(new) or new[j] != 1):
            left, i = [i], i + 1
        elif j < len(new) and new[j] == 1 and (i >= len(old) or old[i] != 1):
            j += 1
            continue
        else:
            left, right = [i], [j]
            a, b, i, j = old[i], new[j], i + 1, j + 1
            while a != b:
                if a < b:
                    a, left, i = a * old[i], [*left, i], i + 1
                else:
                    b, right, j = b * new[j], [*right, j], j + 1
        groups.update({axis: (tuple(left), tuple(right)) for axis in left})
    return groups


@dataclass(frozen=True)
class Product:
    """A product of x with a weight: einsum letters of x, of the weight's axes, of the result; how it is computed."""

    x: Any
    x_letters: str
    names: str
    out: str
    plain: Any  # (x, array) -> the product with a dense weight, as the model takes it
    precision: Any
    dtype: Any

    @property
    def own(self) -> str:
        """Letters that are in no other place, for ranks."""
        used = {*self.x_letters, *self.names, *self.out}
        return "".join(c for c in string.ascii_letters if c not in used)

    def contract(self, x, factor, out: str, dtype=None):
        """The product of two (letters, array) pairs, the second of them a weight's factor."""
        return _contract(x[1], factor[1], (x[0], factor[0], out), self.precision, dtype)


@dataclass(frozen=True)
class Grouped:
    """Products of rows x with the matrices of their groups: see `leaves.grouped`, and there for ins and outs.

    plain: `(x, array [groups, in, out], ins, outs) -> the products with a dense weight`.
    """

    x: Any
    ins: str | None
    outs: str | None
    plain: Callable


def product(first, second, out: str, precision=None, dtype=None) -> jax.Array:
    """The product of two (letters, array) pairs, summed over the letters that `out` has not: one dot, then a transpose.

    ("bi", x), ("io", w), "bo" is x @ w. The two are not swapped, as einsum may do.
    """
    (a, x), (b, y) = first, second
    batch, summed = [c for c in a if c in b and c in out], [c for c in a if c in b and c not in out]
    dims = tuple(tuple([s.index(c) for c in letters] for s in (a, b)) for letters in (summed, batch))
    got = lax.dot_general(x, y, dims, precision, dtype)
    letters = "".join(batch) + "".join(c for c in a + b if c not in batch and c not in summed)
    return lax.transpose(got, [letters.index(c) for c in out])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _contract(x, factor, letters, precision, dtype):
    """`product` with a gradient of its own.

    In the factor's, the smaller of x and the result's cotangent comes first: backends that transpose the first
    operand of such a sum over tokens then transpose [tokens, rank], and not what is as wide as the model.
    """
    x_letters, factor_letters, out = letters
    return product((x_letters, x), (factor_letters, factor), out, precision, dtype)


def _contract_forward(x, factor, letters, precision, dtype):
    return _contract(x, factor, letters, precision, dtype), (x, factor)


def _contract_backward(letters, precision, dtype, kept, cotangent):
    (x_letters, factor_letters, out), (x, factor) = letters, kept
    g, wide = (out, cotangent.astype(x.dtype)), (x_letters, x)
    first, second = (g, wide) if cotangent.size < x.size else (wide, g)
    in_x = product(g, (factor_letters, factor), x_letters, precision, x.dtype)
    return in_x, product(first, second, factor_letters, precision, factor.dtype)


_contract.defvjp(_contract_forward, _contract_backward)


def spread(array, letters: str, out: str):
    """An array whose axes have the letters, broadcast along the other letters of `out`."""
    order = sorted(range(len(letters)), key=lambda i: out.index(letters[i]))
    array = jnp.transpose(array, order)
    return array.reshape([array.shape[order.index(letters.index(c))] if c in letters else 1 for c in out])


class Parts(Leaf):
    """A leaf made of parts, which do along their axes what the base does along all of its own."""

    @property
    def shape(self):
        return self.base.array.shape

    @property
    def dtype(self):
        return self.base.array.dtype

    def map(self, function, *, base=None):
        """The leaf with the function applied to each of its parts, or `base` (an array) in place of the first."""
        new = {name: None if (part := getattr(self, name)) is None else function(part) for name in self.parts}
        if base is not None:
            new["base"] = Part(base, tuple(range(base.ndim)))
        return replace(self, **new)

    def cast(self, dtype):
        return self.map(lambda part: part.cast(dtype))

    def transpose(self, permutation):
        return self.map(lambda part: part.transpose(permutation), base=lax.transpose(self.base.array, permutation))

    def reshape(self, shape):
        groups = axis_groups(self.shape, shape)
        return self.map(lambda part: part.reshape(groups, shape), base=self.base.array.reshape(shape))

    def squeeze(self, axes):
        return self.map(lambda part: part.squeeze(axes))

    def slice(self, starts, sizes, strides):
        return self.map(lambda part: part.slice(starts, sizes, strides))

    def with_base(self, function):
        """For what moves no element: a sharding constraint, say."""
        return replace(self, base=replace(self.base, array=function(self.base.array)))

    def each(self, function):
        """For what is done to every number alike, a stop of gradients for one."""
        return self.map(lambda part: replace(part, array=function(part.array)))

    def check_first(self):
        """Raises NoRule unless every part can be cut along the weight's first axis as the weight can."""
        for name in self.parts:
            part = getattr(self, name)
            if part is not None and part.axes[:1] != (0,):
                raise NoRule("a scan cuts it along an axis that its factors do not share")

    def slice_first(self):
        return self.map(lambda part: Part(part.array, tuple(a and a - 1 for a in part.axes[1:])))


@dataclass(frozen=True)
class Later(Leaf):
    """A leaf that is built if the function uses it: a head needs one of a model's weights. build: () -> leaf."""

    shape: tuple[int, ...]
    dtype: Any
    path: str
    build: Callable[[], Leaf]

    def merge(self):
        return self.build().merge()


def is_leaf(x: Any) -> bool:
    """True for structured leaves, which are pytrees of several arrays."""
    return isinstance(x, Leaf)
