"""DoRA (arXiv 2402.09353): the direction of each output's weights by LoRA, their length a trained magnitude.

W' = (W + scale A B) * magnitude / ||W + scale A B||, the norm over the inputs of each output and without a gradient
(section 4.3). The norm is taken from the factors, ||W||^2 + 2 scale W.(A B) + scale^2 ||A B||^2, so that no
array of the weight's size is made.
"""

from __future__ import annotations

import string

import jax
import jax.numpy as jnp
from jax import lax

from jitune import structured, tree
from jitune.leaves.parts import Part
from jitune.transforms import weights
from jitune.transforms.lora import factored, lora
from jitune.types import Transform


def dora(rank: int, alpha: float, *, dropout: float = 0.0, merge_at=(), **options) -> Transform:
    """`lora` with magnitudes; it takes the same options.

    trainable: besides lora's `PATH/magnitude` [layers, out], float32; frozen: besides lora's `norm`, the squared norms
    of the base. Raises UserError as `lora` does.
    """
    under = lora(rank, alpha, dropout=dropout, name="dora", **options)

    def start(key, params):
        frozen, trainable = under.init(key, params)
        base, norms, magnitudes = weights.flatten(params), {}, {}
        for path, arrays in weights.by_path(trainable, "lora_a").items():
            norms[path] = _squared_norms(base[path], arrays)
            magnitudes[f"{path}/magnitude"] = jnp.sqrt(norms[path])
        trainable = tree.unflatten({**tree.flatten(trainable), **magnitudes})
        return {**frozen, "norm": tree.unflatten(norms)}, trainable

    def view(frozen, trainable, key=None):
        norms, arrays = tree.flatten(frozen["norm"]), weights.by_path(trainable, "lora_a")

        def gain(path, leaf):
            return _with_gain(leaf, norms[path], arrays[path]["magnitude"])

        return factored(frozen, trainable, key if dropout else None, dropout, gain)

    return Transform(start, weights.over(view, merge_at), lambda f, t: structured.merge(view(f, t)))


def _axes(base, arrays):
    """(axes of the stack, of the input, of the output)."""
    stack = arrays["lora_a"].ndim + arrays["lora_b"].ndim - 2 - base.ndim
    ins = arrays["lora_a"].ndim - 1 - stack
    every = tuple(range(base.ndim))
    return every[:stack], every[stack : stack + ins], every[stack + ins :]


def _squared_norms(leaf, arrays) -> jax.Array:
    """||W||^2 over the inputs, [layers, out], a layer at a time."""
    stack, ins, _ = _axes(leaf, arrays)

    def norms(w):
        return jnp.sum(jnp.square(weights.dense(w).astype(jnp.float32)), axis=tuple(i - len(stack) for i in ins))

    for _ in stack:
        norms = _map(norms)
    return norms(leaf)


def _map(function):
    """The function of a weight over its first axis, one after the other; the weight may be a structured leaf."""

    def mapped(w):
        def one(_, part):
            return None, function(part.slice_first() if structured.is_leaf(part) else part)

        return lax.scan(one, None, w)[1]

    return mapped


def _with_gain(leaf, norms, magnitude):
    """The leaf with the gain magnitude / ||W + scale A B||, [layers, out] float32."""
    stack = leaf.scale.axes
    out = tuple(a for a in range(len(leaf.shape)) if a not in stack and a in leaf.b.axes)
    a, b, scale = (lax.stop_gradient(part.array.astype(jnp.float32)) for part in (leaf.a, leaf.b, leaf.scale))
    names = string.ascii_lowercase[: len(leaf.shape) - len(stack)]
    ins = "".join(c for i, c in enumerate(names, len(stack)) if i not in out)
    outs = "".join(c for c in names if c not in ins)

    def length(args):
        w, a, b, scale, norms = args
        exact = {"precision": lax.Precision.HIGHEST, "preferred_element_type": jnp.float32}
        across = jnp.einsum(f"{names},z{ins}->{outs}z", w, a.astype(w.dtype), **exact)
        within = jnp.einsum(f"y{ins},z{ins}->yz", a, a, **exact)
        both = jnp.einsum(f"y{outs},yz,z{outs}->{outs}", b, within, b, **exact)
        cross = jnp.einsum(f"{outs}z,z{outs}->{outs}", across, b, **exact)
        return jnp.sqrt(jnp.maximum(norms + 2 * scale * cross + scale**2 * both, 1e-30))

    for _ in stack:
        length = (lambda inner: lambda args: lax.scan(lambda _, part: (None, inner(part)), None, args)[1])(length)
    lengths = length((lax.stop_gradient(leaf.base.array), a, b, scale, norms))
    return leaf.__class__(**{**vars(leaf), "gain": Part(magnitude.astype(jnp.float32) / lengths, stack + out)})
