"""Attention by kernels that libraries keep: cuDNN's, and in Pallas jax's own for GPUs and TPUs and tokamax's.

Each is a function of q [batch, t, heads, head_dim], k and v [batch, s, kv_heads, head_dim] and of what it sees by:
segments [batch, t] of queries that are the keys too, or a mask [batch, t, s]. `interpret` runs a Pallas kernel on any
device, slowly. `backends` tells what each of them has.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jitune.types import BATCH_AXES, UserError

LANES = 128  # of a TPU's registers; also the queries of a block on GPUs
TOKAMAX = {"cpu": ("xla_chunked",), "gpu": ("mosaic", "triton", "xla_chunked"), "tpu": ("mosaic", "xla_chunked")}


def run(kind: str, q, k, v, segments, see, *, window, scale: float, softcap: float) -> jax.Array:
    """The kernel `kind`, one of `backends.BACKENDS`; see: gives the mask, for those that take one."""
    if kind == "cudnn":
        return attend_cudnn(q, k, v, see(), scale=scale)
    if kind == "tokamax":
        return per_shard(partial(attend_tokamax, scale=scale, softcap=softcap), q, k, v, see())
    if kind == "pallas":
        return per_shard(partial(attend_pallas, scale=scale), q, k, v, segments)
    own = partial(attend_splash, window=int(window or 0), scale=scale, softcap=softcap)
    return per_shard(own, q, k, v, segments)


def attend_cudnn(q, k, v, mask, *, scale: float) -> jax.Array:
    """cuDNN's attention; documents go in as a mask, since jax's public call has no segment ids."""
    if k.shape[1] % 2 > q.shape[1] % 2:
        # Behind a prefix of odd length. Its backward pass takes even lengths only.
        k, v = (jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (k, v))
        mask = jnp.pad(mask, ((0, 0), (0, 0), (0, 1)))
    try:
        return jax.nn.dot_product_attention(q, k, v, mask=mask[:, None], scale=scale, implementation="cudnn")
    except NotImplementedError as error:  # which lengths and sizes a card takes depends on it
        raise UserError(f"config.model.attention=cudnn: {error} auto works everywhere") from None


def attend_pallas(q, k, v, segments, *, scale: float, interpret: bool = False) -> jax.Array:
    """jax's flash attention for GPUs, causal inside segments. It has one kv head a head: they are repeated."""
    from jax.experimental.pallas.ops.gpu.attention import mha

    t, groups = q.shape[1], q.shape[2] // k.shape[2]
    k, v = (jnp.repeat(x, groups, axis=2) for x in (k, v))
    q, k, v, segments = (_fill(x, 1, LANES) for x in (q, k, v, segments))
    return mha(q, k, v, segments, sm_scale=scale, causal=True, interpret=interpret)[:, :t]


def attend_splash(
    q, k, v, segments, *, window: int, scale: float, softcap: float = 0.0, interpret: bool = False
) -> jax.Array:
    """jax's splash attention for TPUs, causal inside segments; window 0: all keys."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    t, d = q.shape[1], q.shape[3]
    q = (q.astype(jnp.float32) * scale).astype(q.dtype)
    q, k, v = (_fill(_fill(x, 1, LANES), 3, LANES).transpose(0, 2, 1, 3) for x in (q, k, v))
    segments = _fill(segments, 1, LANES)
    length, heads = q.shape[2], q.shape[1]
    mask = masks.LocalMask((length, length), (window - 1, 0), 0) if window else masks.CausalMask((length, length))
    kernel = splash.make_splash_mha(
        masks.MultiHeadMask([mask] * heads), head_shards=1, q_seq_shards=1, interpret=interpret,
        block_sizes=_block_sizes(splash, length), attn_logits_soft_cap=softcap or None,
    )  # fmt: skip
    out = jax.vmap(kernel)(q, k, v, splash.SegmentIds(segments, segments))
    return out.transpose(0, 2, 1, 3)[:, :t, :, :d]


def _block_sizes(splash, length: int):
    size = next(n for n in (512, 256, LANES) if length % n == 0)
    return splash.BlockSizes(
        block_q=size, block_kv=size, block_kv_compute=size, block_q_dkv=size, block_kv_dkv=size,
        block_kv_dkv_compute=size, block_q_dq=size, block_kv_dq=size,
    )  # fmt: skip


def attend_tokamax(q, k, v, mask, *, scale: float, softcap: float = 0.0) -> jax.Array:
    """tokamax's attention: the first of its kernels for this device that takes the call, or its chunks by XLA."""
    import tokamax

    exact = jax.lax.Precision.HIGHEST if q.dtype == jnp.float32 else None
    return tokamax.dot_product_attention(
        q, k, v, mask=mask[:, None], scale=scale, logits_soft_cap=softcap or None, precision=exact,
        is_causal=q.shape[1] == k.shape[1],  # the mask says it as well, but does not tell kernels what to leave out
        implementation=TOKAMAX[jax.default_backend()],
    )  # fmt: skip


def _fill(x, axis: int, size: int) -> jax.Array:
    """Zeros behind an axis, up to a multiple of size."""
    return jnp.pad(x, [(0, -n % size if i == axis else 0) for i, n in enumerate(x.shape)])


def per_shard(function, q, k, v, seen) -> jax.Array:
    """function(q, k, v, seen) on each device's rows and heads, for XLA does not split a kernel over a mesh by itself.

    seen: [batch, ...]. Rows lie on the axes of a batch and heads on tensor, each where it divides; without a mesh it is
    a plain call.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return function(q, k, v, seen)
    rows = tuple(a for a in BATCH_AXES if a in mesh.axis_names)
    rows = rows if q.shape[0] % math.prod(mesh.shape[a] for a in rows) == 0 else None
    heads = "tensor" if "tensor" in mesh.axis_names and k.shape[2] % mesh.shape["tensor"] == 0 else None
    whole = P(rows, None, heads, None)
    split = jax.shard_map(
        function, mesh=mesh, in_specs=(whole, whole, whole, P(rows)), out_specs=whole, check_vma=False)
    return split(q, k, v, seen)
