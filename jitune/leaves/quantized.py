"""A weight in codes, decoded where it is used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jitune.leaves.parts import Grouped, Leaf, NoRule, Part, Product


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

    def grouped(self, p: Grouped):
        """As `dot`: the matrices of one layer's groups are dense while they are multiplied with."""
        return jax.checkpoint(lambda x, leaf: p.plain(x, leaf.merge(), p.ins, p.outs))(p.x, self)

    def take(self, gather, axis: int, index, index_letters: str, names: str, out: str, **how):
        if self.views or axis != 0 or out[: len(index_letters)] != index_letters:
            raise NoRule("its codes are not looked up along that axis")
        # What is beyond the table is not a number, as it is in a dense one.
        codes = jax.tree.map(lambda x: x.at[index].get(mode=how["mode"], wrap_negative_indices=False), self.codes)
        return self.form.decode(codes, self.stored[-1]).astype(self.dtype)
