"""The layers of the decoder: RMSNorm, rotary embedding, attention over a KV cache, gated MLP."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jitune.models.attention import attend
from jitune.models.cached_attention import attend_cached
from jitune.models.config import ModelConfig, Rope
from jitune.types import BATCH_AXES, KVCache


def constrain(x: jax.Array, *spec) -> jax.Array:
    """Pins an activation's sharding where a mesh with the spec's axes is set; otherwise returns x.

    A batch that does not divide (one row, which all devices need) is not split.
    """
    mesh = jax.sharding.get_abstract_mesh()
    wanted = {a for entry in spec if entry for a in ((entry,) if isinstance(entry, str) else entry)}
    if not wanted or not wanted <= set(mesh.axis_names):
        return x
    if spec[0] == BATCH_AXES and x.shape[0] % math.prod(mesh.shape[a] for a in BATCH_AXES):
        spec = (None, *spec[1:])
    return jax.lax.with_sharding_constraint(x, jax.sharding.PartitionSpec(*spec))


class Context(NamedTuple):
    """What every layer of one forward shares.

    cos, sin: [batch, t, head_dim // 2] float32. segments: [batch, t].
    cache: one with the places of these tokens, or None; start: the first of these places; views: by window, see
    `cached_attention.view`.
    positions: [batch, t]; None where no key is for everyone and no segments share tokens. ends: [batch, t], see
    `types.Batch`, or None.
    """

    cos: jax.Array
    sin: jax.Array
    segments: jax.Array
    positions: jax.Array | None
    ends: jax.Array | None = None
    cache: KVCache | None = None
    start: jax.Array | None = None
    views: Any = None


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
    """Grouped-query attention; gives the layer's part of the cache beside, None where there is none.

    layer: its number. prefix: that of this layer (k, v: [n, kv_heads, head_dim]), where there is one and no cache.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, x, ctx: Context, layer, window, prefix):
        c = self.config
        heads = x.shape[:2] + (-1, c.head_dim)
        q = _dense(c, c.num_heads * c.head_dim, c.qkv_bias, "q_proj")(x).reshape(heads)
        k = _dense(c, c.num_kv_heads * c.head_dim, c.qkv_bias, "k_proj")(x).reshape(heads)
        v = _dense(c, c.num_kv_heads * c.head_dim, c.qkv_bias, "v_proj")(x).reshape(heads)
        if c.qk_norm:
            q, k = _norm(c, "q_norm")(q), _norm(c, "k_norm")(k)
        q, k = rotate(q, ctx.cos, ctx.sin), rotate(k, ctx.cos, ctx.sin)
        kept = None
        if ctx.cache is not None:
            out, kept = attend_cached(
                q, k, v, ctx.cache, layer, ctx.start, ctx.views[window or 0], scale=c.attn_scale or None,
                softcap=c.attn_softcap,
            )  # fmt: skip
        else:
            out = attend(
                q, k, v, segments=ctx.segments, kv_segments=ctx.segments, start=None, window=window,
                kind=c.attention, prefix=prefix, positions=ctx.positions, ends=ctx.ends,
            )
        out = _dense(c, c.dim, c.out_bias, "o_proj")(out.reshape(x.shape[:2] + (-1,)))
        return out, kept


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
    """One pre-norm block: (x, its part of the cache). `which` is (layer index, window, prefix)."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x, ctx: Context, which):
        layer, window, prefix = which
        x = constrain(x, BATCH_AXES, None, None)
        out, kept = Attention(self.config, name="attn")(
            _norm(self.config, "attn_norm")(x), ctx, layer, window, prefix
        )
        x = x + out
        x = x + MLP(self.config, name="mlp")(_norm(self.config, "mlp_norm")(x))
        return x, kept
