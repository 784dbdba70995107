"""Frozen weights in few bits: int8, or NF4 with quantized scales (QLoRA, arXiv 2305.14314).

    chain(quantize("nf4"), lora(16, 32))      # QLoRA

A weight's last axis is cut into blocks of 64; each has one scale, its largest absolute value, and each of these 8 bits
of the largest in the row: 4 + 8 / 64 + 32 / row bits a weight, 4.13 for rows of 4,096. What uses a weight decodes it
there, in the forward and again in the backward pass, and nothing keeps it dense.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jitune import structured
from jitune.leaves.quantized import Quantized
from jitune.transforms import weights
from jitune.transforms.weights import LINEAR
from jitune.types import Transform, UserError

# The 16 quantiles of a normal distribution, scaled to [-1, 1], with an exact zero (appendix E of the paper).
NF4 = np.array([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
], np.float32)  # fmt: skip
KINDS = ("nf4", "int8")


@dataclass(frozen=True)
class Blocks:
    """How numbers become codes: `kind` of them in blocks of `block`.

    encode: [..., n] -> (codes, scales of blocks uint8 [..., n / block], scales of rows float32 [..., 1]); codes are
    int8 [..., n], or uint8 [..., n / 2] with two to a byte; n is rounded up to whole blocks.
    """

    kind: str
    block: int = 64

    def encode(self, array: jax.Array) -> tuple:
        """The codes of an array; rows are along its last axis."""
        size = array.shape[-1]
        pad = -size % self.block
        x = jnp.pad(array.astype(jnp.float32), [(0, 0)] * (array.ndim - 1) + [(0, pad)])
        x = x.reshape(*x.shape[:-1], -1, self.block)
        largest = jnp.abs(x).max(axis=-1)
        rows = largest.max(axis=-1, keepdims=True)
        # Rounded up, so that no number of a block is beyond its scale.
        scales = jnp.ceil(largest / jnp.where(rows == 0, 1, rows) * 255).clip(0, 255).astype(jnp.uint8)
        shares = x / jnp.maximum(self._scales(scales, rows), 1e-30)[..., None]
        shares = shares.reshape(*x.shape[:-2], -1)
        if self.kind == "int8":
            return jnp.round(shares * 127).clip(-127, 127).astype(jnp.int8), scales, rows
        codes = jnp.searchsorted((NF4[1:] + NF4[:-1]) / 2, shares).astype(jnp.uint8)
        return codes[..., ::2] << 4 | codes[..., 1::2], scales, rows

    def decode(self, codes: tuple, size: int) -> jax.Array:
        """float32 [..., size]."""
        numbers, scales, rows = codes
        if self.kind == "int8":
            shares = numbers.astype(jnp.float32) / 127
        else:
            pairs = jnp.stack([numbers >> 4, numbers & 15], axis=-1)
            shares = jnp.asarray(NF4)[pairs.astype(jnp.int32).reshape(*numbers.shape[:-1], -1)]
        blocks = shares.reshape(*shares.shape[:-1], -1, self.block) * self._scales(scales, rows)[..., None]
        return blocks.reshape(shares.shape)[..., :size]

    @staticmethod
    def _scales(scales, rows):
        return scales.astype(jnp.float32) * (rows / 255)


def quantize(kind: str, *, select: str = LINEAR, block: int = 64, merge_at=()) -> Transform:
    """Freezes all weights, those that `select` is found in with few bits; to be chained with what is trained.

    kind: nf4 (4 bits) or int8. block: weights that share a scale. merge_at: where weights may be made dense, see
    `structured.run`. frozen: base; trainable: nothing. Weights that are quantized already are left as they are (see
    `encode`). Raises UserError for an unknown kind, a block that is not even, a pattern that matches nothing, and
    weights of less than two axes.
    """
    if kind not in KINDS:
        raise UserError(f"quantize: {kind!r} is not known; known are {', '.join(KINDS)}")
    if block < 2 or block % 2:
        raise UserError(f"quantize: block={block} must be a positive even number")
    form = Blocks(kind, block)

    def init(key, params):
        chosen = weights.choose(params, select, "quantize")
        for path, leaf in chosen.items():
            if structured.is_leaf(leaf) and not isinstance(leaf, Quantized):
                raise UserError(f"quantize: {path} is changed by a transform already; quantize comes first in a chain")
        coded = {path: leaf if structured.is_leaf(leaf) else encode(path, leaf, form) for path, leaf in chosen.items()}
        return {"base": weights.replace(params, coded)}, {}

    def view(frozen, trainable, key=None):
        return frozen["base"]

    return Transform(init, weights.over(view, merge_at), lambda frozen, trainable: structured.merge(frozen["base"]))


def encode(path: str, leaf: jax.Array, form: Blocks) -> Quantized:
    """A weight in codes; of stacked layers one after the other, so that little memory is needed besides."""
    if leaf.ndim < 2:
        raise UserError(f"quantize: {path} has the shape {leaf.shape}; only matrices are quantized")
    codes = lax.map(form.encode, leaf) if leaf.ndim > 2 else form.encode(leaf)
    return Quantized(codes, form, leaf.shape, leaf.shape, leaf.dtype, path)
