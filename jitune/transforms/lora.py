"""LoRA (arXiv 2106.09685): W + scale A B, of which A and B are trained, for any weight that is multiplied with.

    transform = lora(16, 32, select=r"(q|v)_proj/kernel$")
    frozen, trainable = transform.init(key, params)
    hidden, _ = transform.apply(model).hidden((frozen, trainable), batch)   # x W + scale (x A) B, never A B

Scale is alpha / rank; with rslora alpha / sqrt(rank) (arXiv 2312.03732). A starts random and B at zero (`kaiming`:
uniform within 1 / sqrt(in), PEFT's; `gaussian`: of deviation 1 / rank; embeddings the other way round: A zero, B of
deviation 1); `pissa` at the largest singular vectors (arXiv 2404.02948), `olora` at the first columns of a QR
decomposition (arXiv 2406.01775), and of these two the initial A B is subtracted again, so that the base stays as it is.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jitune import structured, tree
from jitune.leaves.factored import Factored
from jitune.leaves.parts import Later, Part
from jitune.transforms import weights
from jitune.transforms.weights import LINEAR
from jitune.types import Transform, UserError

INITS = ("kaiming", "gaussian", "pissa", "olora")


def lora(rank: int, alpha: float, *, select: str = LINEAR, rank_pattern: dict[str, int] | None = None,
         alpha_pattern: dict[str, float] | None = None, rslora: bool = False, dropout: float = 0.0,
         init: str = "kaiming", layouts: dict[str, str] | None = None, dtype: str = "float32", merge_at=(),
         name: str = "lora") -> Transform:  # fmt: skip
    """Trains low-rank factors beside the weights whose path `select` is found in; all else is frozen.

    Args:
      rank, alpha: of every weight, except where a pattern of rank_pattern or alpha_pattern is found in its path (the
        first that is).
      dropout: the share of what goes into A that is dropped while training (batch["key"] is there then).
      layouts: {pattern of paths: one letter an axis}, where a weight of more than two axes is no kernel of stacked
        layers or of Flax's attention: l counts layers, i is of the input, o of the output.
      dtype: of A and B.
      merge_at: where weights may be merged, see `structured.run`.

    trainable: `PATH/lora_a` [layers, in, rank] and `PATH/lora_b` [layers, rank, out], without layers where there are
    none; frozen: base (the parameters), scale, and for pissa and olora minus (the initial A and B).

    Raises UserError for a pattern that matches nothing, a rank that is not between 1 and the weight's dimensions, and
    an init or a dropout that is not known.
    """
    _check(rank, init, dropout, name)

    def start(key, params):
        chosen = weights.choose(params, select, name)
        for pattern in {**(rank_pattern or {}), **(alpha_pattern or {})}:
            weights.choose({path: 0 for path in chosen}, pattern, f"{name}: rank_pattern, alpha_pattern")
        trainable, scales, minus = {}, {}, {}
        for path, leaf in chosen.items():
            letters = weights.layout(path, leaf.shape, layouts, name)
            r, a = first_match(rank_pattern, path, rank), first_match(alpha_pattern, path, alpha)
            _check_rank(r, path, leaf.shape, letters, name)
            scale = a / (math.sqrt(r) if rslora else r)
            keyed = jax.random.fold_in(key, zlib.crc32(path.encode()))
            factors = _factors(keyed, leaf, path, letters, r, scale, init, dtype)
            trainable |= {f"{path}/{k}": v for k, v in factors.items()}
            stack = leaf.shape[: letters.count("l")]
            scales[path] = jnp.full(stack, scale, jnp.float32)
            if init in ("pissa", "olora"):
                # Copies: the trained ones are given away to the step that updates them.
                minus |= {f"{path}/{k}": jnp.copy(v) for k, v in factors.items()}
        frozen = {"base": params, "scale": tree.unflatten(scales)}
        return frozen | ({"minus": tree.unflatten(minus)} if minus else {}), tree.unflatten(trainable)

    def view(frozen, trainable, key=None):
        return factored(frozen, trainable, key if dropout else None, dropout)

    return Transform(start, weights.over(view, merge_at), lambda f, t: structured.merge(view(f, t)))


def first_match(patterns: dict[str, Any] | None, path: str, default: Any) -> Any:
    """The value of the first pattern that is found in the path."""
    return next((value for pattern, value in (patterns or {}).items() if tree.matches(pattern, path)), default)


def factored(frozen, trainable, key, dropout: float, gain=None):
    """The parameters with a `Factored` leaf for every pair of factors, built when it is used.

    key: for dropout, None without. gain: `(path, leaf) -> leaf`, for DoRA.
    """
    scales, minus = tree.flatten(frozen["scale"]), weights.by_path(frozen.get("minus", {}), "lora_a")
    base = weights.flatten(frozen["base"])

    def later(path, arrays):
        def build():
            leaf = make_leaf(path, weights.dense(base[path]), arrays, scales[path], minus.get(path), key, dropout)
            return gain(path, leaf) if gain else leaf

        return Later(base[path].shape, base[path].dtype, path, build)

    changed = {path: later(path, arrays) for path, arrays in weights.by_path(trainable, "lora_a").items()}
    return weights.replace(frozen["base"], changed)


def make_leaf(path: str, base, arrays: dict, scale, minus: dict | None, key, dropout: float) -> Factored:
    """The leaf of one weight from its factors; which axes are which follows from their numbers."""
    a, b = arrays["lora_a"], arrays["lora_b"]
    if minus:
        a = jnp.concatenate([a, minus["lora_a"]], axis=-1)
        b = jnp.concatenate([b, -minus["lora_b"]], axis=a.ndim + b.ndim - 2 - base.ndim)
    stack = a.ndim + b.ndim - 2 - base.ndim
    ins = a.ndim - 1 - stack
    layers, every = tuple(range(stack)), tuple(range(base.ndim))
    keys = None
    if key is not None:
        keyed = jax.random.fold_in(key, zlib.crc32(path.encode()))
        keyed = jax.random.split(keyed, base.shape[:stack]) if stack else keyed
        keys = Part(jax.random.key_data(keyed), (*layers, None))
    return Factored(
        base=Part(base, every), a=Part(jnp.moveaxis(a, -1, stack), (*layers, None, *every[stack : stack + ins])),
        b=Part(b, (*layers, None, *every[stack + ins :])), scale=Part(scale, layers), key=keys,
        path=path, dropout=dropout if keys is not None else 0.0,
    )  # fmt: skip


def _check(rank, init, dropout, name) -> None:
    if init not in INITS:
        raise UserError(f"{name}: init={init!r} is not known; known are {', '.join(INITS)}")
    if not 0 <= dropout < 1:
        raise UserError(f"{name}: dropout={dropout} must be at least 0 and below 1")
    if rank < 1:
        raise UserError(f"{name}: rank={rank} must be at least 1")


def _check_rank(rank, path, shape, letters, name) -> None:
    sizes = {kind: math.prod(n for n, c in zip(shape, letters, strict=True) if c == kind) for kind in "io"}
    if not 1 <= rank <= min(sizes.values()):
        raise UserError(f"{name}: rank={rank} of {path}: it must be between 1 and {min(sizes.values())}, for the "
                        f"weight has {sizes['i']} inputs and {sizes['o']} outputs")  # fmt: skip


def _factors(key, leaf, path, letters, rank, scale, init, dtype) -> dict[str, jax.Array]:
    """The initial factors of one weight, in their shapes [layers, in, rank] and [layers, rank, out]."""
    stack, ins, outs = ([n for n, c in zip(leaf.shape, letters, strict=True) if c == kind] for kind in "lio")
    fan_in, embedding = math.prod(ins), path.endswith("embedding")
    if init in ("pissa", "olora"):
        decompose = _pissa if init == "pissa" else _olora
        matrices = weights.dense(leaf).astype(jnp.float32).reshape(-1, fan_in, math.prod(outs))
        a, b = lax.map(lambda w: decompose(w, rank, scale), matrices)
        a, b = a.reshape(*stack, *ins, rank), b.reshape(*stack, rank, *outs)
    else:
        a, b = jnp.zeros((*stack, *ins, rank)), jnp.zeros((*stack, rank, *outs))
        if embedding:
            b = jax.random.normal(key, b.shape)
        elif init == "gaussian":
            a = jax.random.normal(key, a.shape) / rank
        else:
            a = jax.random.uniform(key, a.shape, minval=-1.0, maxval=1.0) / math.sqrt(fan_in)
    return {"lora_a": a.astype(dtype), "lora_b": b.astype(dtype)}


def _pissa(w, rank, scale):
    u, s, vt = jnp.linalg.svd(w, full_matrices=False)
    root = jnp.sqrt(s[:rank] / scale)
    return u[:, :rank] * root, root[:, None] * vt[:rank]


def _olora(w, rank, scale):
    q, r = jnp.linalg.qr(w.T)
    return r[:rank].T, q[:, :rank].T
