"""A weight of which a few rows are others: an embedding with trained tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp

from jitune.leaves.parts import NoRule, Part, Parts, Product, spread


@partial(jax.tree_util.register_dataclass, data_fields=("base", "rows", "ids"), meta_fields=("path",))
@dataclass(frozen=True)
class Rows(Parts):
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
