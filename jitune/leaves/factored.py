"""W + scale A B and its gain: LoRA and DoRA, by their factors."""

from __future__ import annotations

import math
import string
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jitune.leaves.parts import Grouped, NoRule, Part, Parts, Product, spread


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("base", "a", "b", "scale", "gain", "key"), meta_fields=("path", "dropout"),
)  # fmt: skip
@dataclass(frozen=True)
class Factored(Parts):
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

    def grouped(self, p: Grouped):
        """x W_g + scale (x A_g) B_g, each group's factors with its own rows."""
        if self.gain is not None:
            raise NoRule("magnitudes (DoRA) have no product by groups")
        a, b = (part.cast(self.dtype).sort() for part in (self.a, self.b))
        if (a.axes, b.axes) != ((0, 1, None), (0, 2, None)) or self.scale.axes not in ((0,), ()):
            raise NoRule("its factors are not those of groups of matrices")
        scale = spread(self.scale.array, self.scale.letters("gio"), "gzo")
        second = (jnp.swapaxes(b.array, 1, 2) * scale).astype(self.dtype)
        inner = p.plain(self._drop(p.x), a.array, p.ins, None)
        return p.plain(p.x, self.base.array, p.ins, p.outs) + p.plain(inner, second, None, p.outs)

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
