"""The layers of the decoder: RMSNorm, rotary embedding, attention over a KV cache, gated MLP."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jitune.models.attention import KEYS, allowed, attend, attend_cache
from jitune.models.config import ModelConfig, Rope
from jitune.models.context_attention import attend_ring, parts
from jitune.types import BATCH_AXES


def constrain(x: jax.Array, *spec) -> jax.Array:
    """Pins an activation's sharding where a mesh with the spec's axes is set; otherwise returns x.

    A batch that does not divide (one row, which all devices need) is not split, nor is such a sequence over context.
    """
    mesh = jax.sharding.get_abstract_mesh()
    wanted = {a for entry in spec if entry for a in ((entry,) if isinstance(entry, str) else entry)}
    if not wanted or not wanted <= set(mesh.axis_names):
        return x
    if spec[0] == BATCH_AXES and x.shape[0] % math.prod(mesh.shape[a] for a in BATCH_AXES):
        spec = (None, *spec[1:])
    if spec[1] == "context" and x.shape[1] % mesh.shape["context"]:
        spec = (spec[0], None, *spec[2:])
    return jax.lax.with_sharding_constraint(x, jax.sharding.PartitionSpec(*spec))


class Context(NamedTuple):
    """What every layer of one forward shares.

    cos, sin: [batch, t, head_dim // 2] float32. segments: [batch, t]. kv_segments: [batch, s].
    start: the index of the first query among the keys, a scalar; None where there is no cache.
    positions: [batch, t]; None where no key is for everyone and no segments share tokens. ends: [batch, t], see
    `types.Batch`, or None.
    """

    cos: jax.Array
    sin: jax.Array
    segments: jax.Array
    kv_segments: jax.Array
    start: jax.Array | None
    positions: jax.Array | None
    ends: jax.Array | None = None


class RMSNorm(nn.Module):
    """x / rms(x) * scale over the last axis; statistics in float32, cast before the scale as Llama does."""

    eps: float
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],), self.param_dtype)
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.eps)
        return y.astype(self.dtype) * scale.astype(self.dtype)


def rope_frequencies(rope: Rope, head_dim: int) -> jax.Array:
    """Inverse frequencies [head_dim // 2] in float32 (RoFormer, arXiv 2104.09864; llama3: three bands)."""
    inverse = 1.0 / rope.theta ** (jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    if rope.kind == "linear":
        return inverse / rope.factor
    if rope.kind == "llama3":
        length = rope.original_max_position
        wavelength = 2 * math.pi / inverse
        low, high = rope.low_freq_factor, rope.high_freq_factor
        smooth = (length / wavelength - low) / (high - low)
        middle = (1 - smooth) * inverse / rope.factor + smooth * inverse
        slow = jnp.where(wavelength > length / low, inverse / rope.factor, middle)
        return jnp.where(wavelength < length / high, inverse, slow)
    return inverse


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Applies RoPE to x [batch, t, heads, head_dim], half-split: feature i turns with i + head_dim / 2."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def _dense(config: ModelConfig, features: int, bias: bool, name: str) -> nn.Dense:
    return nn.Dense(
        features,
        use_bias=bias,
        dtype=config.dtype,
        param_dtype=config.param_dtype,
        kernel_init=nn.initializers.normal(config.init_std),
        name=name,
    )


def _norm(config: ModelConfig, name: str) -> RMSNorm:
    return RMSNorm(config.norm_eps, config.dtype, config.param_dtype, name=name)


class Attention(nn.Module):
    """Grouped-query attention. keys, values: the cache of all layers, or None; layer: its index there.

    prefix: that of this layer (k, v: [n, kv_heads, head_dim]), where there is one and no cache.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, x, keys, values, ctx: Context, layer, window, prefix):
        c = self.config
        heads = x.shape[:2] + (-1, c.head_dim)
        q = _dense(c, c.num_heads * c.head_dim, c.qkv_bias, "q_proj")(x).reshape(heads)
        k = _dense(c, c.num_kv_heads * c.head_dim, c.qkv_bias, "k_proj")(x).reshape(heads)
        v = _dense(c, c.num_kv_heads * c.head_dim, c.qkv_bias, "v_proj")(x).reshape(heads)
        if c.qk_norm:
            q, k = _norm(c, "q_norm")(q), _norm(c, "k_norm")(k)
        q, k = rotate(q, ctx.cos, ctx.sin), rotate(k, ctx.cos, ctx.sin)
        if keys is not None:
            at = (layer, 0, ctx.start, 0, 0)
            keys = jax.lax.dynamic_update_slice(keys, k[None].astype(keys.dtype), at)
            values = jax.lax.dynamic_update_slice(values, v[None].astype(values.dtype), at)
        if keys is not None and keys.shape[2] % KEYS == 0 and jax.default_backend() == "cpu":
            mask = allowed(ctx.segments, ctx.kv_segments, ctx.start, window, ctx.positions)
            out = attend_cache(q, keys, values, layer, mask, ctx.start + x.shape[1])
        else:
            if keys is not None:
                k, v = (jax.lax.dynamic_index_in_dim(a, layer, 0, False) for a in (keys, values))
            out = (attend_ring if keys is None and parts(x.shape[1]) > 1 else attend)(
                q, k, v, segments=ctx.segments, kv_segments=ctx.kv_segments, start=ctx.start, window=window,
                kind=c.attention, prefix=prefix, positions=ctx.positions, ends=ctx.ends,
            )
        out = _dense(c, c.dim, c.out_bias, "o_proj")(out.reshape(x.shape[:2] + (-1,)))
        return out, keys, values


@partial(jax.checkpoint, prevent_cse=False)
def gated(gate, up):
    """silu(gate) * up, of which the backward pass keeps the two inputs only."""
    return jax.nn.silu(gate) * up


class MLP(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x):
        c = self.config
        gate = _dense(c, c.mlp_dim, c.mlp_bias, "gate_proj")(x)
        up = _dense(c, c.mlp_dim, c.mlp_bias, "up_proj")(x)
        return _dense(c, c.dim, c.mlp_bias, "down_proj")(gated(gate, up))


class Layer(nn.Module):
    """One pre-norm block. The carry is (x, keys, values); `which` is (layer index, window, prefix)."""

    config: ModelConfig

    @nn.compact
    def __call__(self, carry, ctx: Context, which):
        x, keys, values = carry
        layer, window, prefix = which
        x = constrain(x, BATCH_AXES, "context" if keys is None else None, None)
        out, keys, values = Attention(self.config, name="attn")(
            _norm(self.config, "attn_norm")(x), keys, values, ctx, layer, window, prefix
        )
        x = x + out
        x = x + MLP(self.config, name="mlp")(_norm(self.config, "mlp_norm")(x))
        return (x, keys, values), None
