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

import math
import string
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
    raise NoRule where they cannot without merging.
    """

    @property
    def ndim(self) -> int:
        return len(self.shape)


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
        """groups: for every old axis, the new axes that it is a part of or is cut into; see `_axis_groups`."""
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


class _Parts(Leaf):
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


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("base", "a", "b", "scale", "gain", "key"), meta_fields=("path", "dropout"),
)  # fmt: skip
@dataclass(frozen=True)
class Factored(_Parts):
    """(W + scale A B) * gain: LoRA, with a gain DoRA. Never merged: x W + scale (x A) B.

    a, b: the factors, which share a rank of their own; products are fastest with both as [r, ...].
    Together they have all axes of W that are longer than 1, and both have the axes of a stack of layers. scale, gain
    (or None): along some axes of W. key: key data, [stack, 2] uint32, for dropout of what goes into A at the rate
    `dropout`; None: no dropout.
    """

    base: Part
    a: Part
    b: Part
    scale: Part
    gain: Part | None = None
    key: Part | None = None
    path: str = ""
    dropout: float = 0.0

    parts = ("base", "a", "b", "scale", "gain", "key")

    def cast(self, dtype):
        """The base alone: the factors, of which float32 ones are trained, follow it where they are used."""
        return replace(self, base=self.base.cast(dtype))

    def times(self, number):
        """A number is a gain, so that no array of the weight's size is made."""
        if self.gain is not None:
            return replace(self, gain=replace(self.gain, array=self.gain.array * number))
        gain = jnp.broadcast_to(jnp.asarray(number, jnp.float32), self.scale.array.shape)
        return replace(self, gain=Part(gain, self.scale.axes))

    def merge(self):
        """The dense weight, computed in float32 and cast back."""
        names = string.ascii_letters[: len(self.shape)]
        wide = self.map(lambda part: part.cast(jnp.float32))
        p = Product(None, "", names, names, None, lax.Precision.HIGHEST, jnp.float32)
        y = wide.base.array + wide._sum(p, wide.a.array, wide.a.letters(names, p.own), wide.b)
        if wide.gain is not None:
            y = y * spread(wide.gain.array, wide.gain.letters(names, ""), names)
        return y.astype(self.dtype)

    def _sum(self, p: Product, first, letters: str, b: Part):
        """scale * (first B), spread over p.out; first: an array with the letters, rank included."""
        scale = self.scale.letters(p.names, "")
        first = (first * spread(self.scale.array, scale, letters)).astype(first.dtype)
        b_letters = b.letters(p.names, p.own)
        there = "".join(c for c in p.out if c in letters or c in b_letters)
        y = p.contract((letters, first), (b_letters, b.array), there, p.dtype)
        return spread(y, there, p.out)

    def dot(self, p: Product):
        """The product with x in the factored form; the factor that leaves less to compute comes first."""
        x, gain = p.x, None
        if self.gain is not None:
            letters = self.gain.letters(p.names, "")
            if set(letters) <= set(p.out):
                gain = spread(self.gain.array, letters, p.out)
            elif set(letters) <= set(p.x_letters):
                x = (x * spread(self.gain.array, letters, p.x_letters)).astype(x.dtype)
            else:
                raise NoRule("its gain lies along axes of both what goes in and what comes out")
        y = p.plain(x, self.base.array)
        first, second = (part.cast(self.dtype) for part in self._order(p))
        letters, other = first.letters(p.names, p.own), second.letters(p.names, p.own)
        kept = "".join(c for c in dict.fromkeys(p.x_letters + letters) if c in p.out or c in other)
        inner = p.contract((p.x_letters, self._drop(x)), (letters, first.array), kept)
        y = y + self._sum(p, inner, kept, second).astype(y.dtype)
        return y if gain is None else (y * gain).astype(y.dtype)

    def _order(self, p: Product):
        """(A, B) or (B, A), whichever leaves the smaller array in between."""
        sizes = dict(zip(p.names, self.shape, strict=True)) | dict(zip(p.x_letters, p.x.shape, strict=True))

        def cost(first, second):
            letters, other = (part.letters(p.names, p.own) for part in (first, second))
            sizes[p.own[0]] = first.array.shape[first.axes.index(None)]
            return math.prod(sizes[c] for c in {*p.x_letters, *letters} if c in p.out or c in other)

        return min(((self.a, self.b), (self.b, self.a)), key=lambda pair: cost(*pair))

    def _drop(self, x):
        if self.key is None:
            return x
        key = jax.random.wrap_key_data(self.key.array.reshape(-1, self.key.array.shape[-1])[0])
        keep = jax.random.bernoulli(key, 1 - self.dropout, x.shape)
        return jnp.where(keep, x / (1 - self.dropout), 0).astype(x.dtype)

    def take(self, gather, axis: int, index, index_letters: str, names: str, out: str, **how):
        """Entries along one axis, by index: those of the base by `gather`, and the same ones of the factors."""
        p = Product(None, "", names, out, None, lax.Precision.HIGHEST, None)

        def pick(part):
            letters = part.letters(names, p.own)
            if axis not in part.axes:
                return part.array, letters
            return part.take(axis, index, **how), index_letters + letters.replace(names[axis], "")

        (a, a_letters), (b, b_letters) = (pick(part.cast(self.dtype)) for part in (self.a, self.b))
        scale, letters = pick(self.scale)
        a = (a * spread(scale, letters, a_letters)).astype(a.dtype)
        there = "".join(c for c in out if c in a_letters + b_letters)
        y = gather(self.base.array)
        y = y + spread(p.contract((a_letters, a), (b_letters, b), there), there, out).astype(y.dtype)
        if self.gain is None:
            return y
        gain, letters = pick(self.gain)
        return (y * spread(gain, letters, out)).astype(y.dtype)


@partial(jax.tree_util.register_dataclass, data_fields=("base", "rows", "ids"), meta_fields=("path",))
@dataclass(frozen=True)
class Rows(_Parts):
    """W with the entries `ids` of one axis replaced: an embedding of which a few tokens are trained.

    rows: along all axes of W, `len(ids)` long on the axis that `ids` (int32 [k], different from each other) counts.
    """

    base: Part
    rows: Part
    ids: Part
    path: str = ""

    parts = ("base", "rows", "ids")

    @property
    def axis(self) -> int:
        return self.ids.axes[0]

    def reshape(self, shape):
        raise NoRule("its replaced rows have no such shape")

    def slice(self, starts, sizes, strides):
        if sizes[self.axis] is not None:
            raise NoRule("it is cut along the axis of its replaced rows")
        return self.map(lambda part: part.slice(starts, sizes, strides))

    def check_first(self):
        raise NoRule("a scan cuts it along an axis that its replaced rows do not share")

    def times(self, number):
        base, rows = (replace(p, array=(p.array * number).astype(p.array.dtype)) for p in (self.base, self.rows))
        return replace(self, base=base, rows=rows)

    def merge(self):
        rows = jnp.moveaxis(self.rows.sort().array, self.axis, 0).astype(self.dtype)
        moved = jnp.moveaxis(self.base.array, self.axis, 0)
        return jnp.moveaxis(moved.at[self.ids.array].set(rows), 0, self.axis)

    def dot(self, p: Product):
        """The product with the base, in which the part of the replaced rows is another one."""
        name = p.names[self.axis]
        letters = self.rows.letters(p.names, "")
        if name in p.out:
            y = p.plain(p.x, self.base.array)
            own = p.contract((p.x_letters, p.x), (letters, self.rows.array), p.out, p.dtype)
            if name in p.x_letters:
                raise NoRule("its rows are a batch axis of the product")
            at = (slice(None),) * p.out.index(name) + (self.ids.array,)
            return y.at[at].set(own.astype(y.dtype))
        at = (slice(None),) * p.x_letters.index(name) + (self.ids.array,)
        own = p.contract((p.x_letters, p.x[at]), (letters, self.rows.array), p.out, p.dtype)
        y = p.plain(p.x.at[at].set(0), self.base.array)
        return y + own.astype(y.dtype)

    def take(self, gather, axis: int, index, index_letters: str, names: str, out: str, **how):
        """A look-up of tokens: the replaced rows where the index is one of theirs."""
        if axis != self.axis:
            raise NoRule("it is looked up along another axis than that of its replaced rows")
        plain, hit = gather(self.base.array), index[..., None] == self.ids.array
        rows = self.rows.take(axis, jnp.argmax(hit, axis=-1), "clip", None).astype(plain.dtype)
        letters = index_letters + self.rows.letters(names, "").replace(names[axis], "")
        return jnp.where(spread(hit.any(axis=-1), index_letters, out), spread(rows, letters, out), plain)


@partial(
    jax.tree_util.register_dataclass, data_fields=("codes",),
    meta_fields=("form", "stored", "shape", "dtype", "path", "views"),
)  # fmt: skip
@dataclass(frozen=True)
class Quantized(Leaf):
    """A weight in few bits, made dense where a product needs it, and again in the backward pass.

    codes: a tuple of arrays, each with the weight's leading axes and whatever last. form.decode(codes, size) gives
    float32 [..., size], size being the weight's last axis. stored: the shape so encoded; views: what the model did to
    the dense weight since, which gave it `shape`.
    """

    codes: tuple
    form: Any
    stored: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: Any
    path: str = ""
    views: tuple = ()

    def merge(self):
        array = self.form.decode(self.codes, self.stored[-1]).astype(self.dtype)
        for function, *arguments in self.views:
            array = function(array, *arguments)
        return array

    def _view(self, function, *arguments):
        shape = jax.eval_shape(lambda x: function(x, *arguments), jax.ShapeDtypeStruct(self.shape, self.dtype)).shape
        return replace(self, shape=shape, views=(*self.views, (function, *arguments)))

    def _leading(self, function):
        """The leaf with the leading axes of all its arrays changed alike."""
        codes = jax.tree.map(function, self.codes)
        stored = (*codes[0].shape[:-1], self.stored[-1])
        return replace(self, codes=codes, stored=stored, shape=stored)

    def cast(self, dtype):
        return replace(self, dtype=jnp.dtype(dtype))

    def transpose(self, permutation):
        return self._view(lax.transpose, tuple(permutation))

    def reshape(self, shape):
        return self._view(lax.reshape, tuple(shape))

    def squeeze(self, axes):
        if self.views or len(self.shape) - 1 in axes:
            return self._view(lax.squeeze, tuple(axes))
        return self._leading(lambda x: lax.squeeze(x, axes))

    def slice(self, starts, sizes, strides):
        if self.views or sizes[-1] is not None:
            if not all(isinstance(s, int) for s in starts):
                raise NoRule("its last axis is cut at a place that is not known beforehand")
            ends = [n if z is None else s + (z - 1) * t + 1 for n, s, z, t in zip(
                self.shape, starts, sizes, strides, strict=True)]
            return self._view(lax.slice, tuple(starts), tuple(ends), tuple(strides))
        cut = partial(Part.slice, starts=starts, sizes=sizes, strides=strides)
        return self._leading(lambda x: cut(Part(x, tuple(range(x.ndim - 1)))).array)

    def times(self, number):
        if isinstance(number, jax.core.Tracer):
            raise NoRule("the number is not known beforehand")
        return self._view(lax.mul, float(number))

    def with_base(self, function):
        """The codes stay where they lie."""
        return self

    def each(self, function):
        return self

    def check_first(self):
        if self.views:
            raise NoRule("a scan cuts it after its axes were changed")

    def slice_first(self):
        return replace(self, stored=self.stored[1:], shape=self.shape[1:])

    def dot(self, p: Product):
        """The product with the dense weight, which is kept by nobody: the backward pass decodes it again."""
        return jax.checkpoint(lambda x, leaf: p.plain(x, leaf.merge()))(p.x, self)

    def take(self, gather, axis: int, index, index_letters: str, names: str, out: str, **how):
        if self.views or axis != 0 or out[: len(index_letters)] != index_letters:
            raise NoRule("its codes are not looked up along that axis")
        # What is beyond the table is not a number, as it is in a dense one.
        codes = jax.tree.map(lambda x: x.at[index].get(mode=how["mode"], wrap_negative_indices=False), self.codes)
        return self.form.decode(codes, self.stored[-1]).astype(self.dtype)
