"""The layers of the decoder: norms, attention over a KV cache, the MLP, and the block that all families share."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jitune.models.attention import attend
from jitune.models.cached_attention import attend_cached
from jitune.models.config import ModelConfig
from jitune.models.moe import MoE
from jitune.models.rotary import rotate
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

    cos, sin: [batch, t, width // 2] float32, [ropes, ...] where layers differ; None where none is turned.
    segments: [batch, t].
    cache: one with the places of these tokens, or None; start: the first of these places; views: by window, see
    `cached_attention.view`.
    positions: [batch, t]; None where no key is for everyone and no segments share tokens. ends: [batch, t], see
    `types.Batch`, or None.
    """

    cos: jax.Array | None
    sin: jax.Array | None
    segments: jax.Array
    positions: jax.Array | None
    ends: jax.Array | None = None
    cache: KVCache | None = None
    start: jax.Array | None = None
    views: Any = None


class RMSNorm(nn.Module):
    """x / rms(x) * scale over the last axis; statistics in float32.

    kind: rms is cast before it is scaled, as Llama's; rms_scaled afterwards (OLMo 2); rms_plus_one too, with the
    scale counted from one (Gemma).
    """

    eps: float
    dtype: Any
    param_dtype: Any
    kind: str = "rms"

    @nn.compact
    def __call__(self, x):
        plus_one = self.kind == "rms_plus_one"
        start = nn.initializers.zeros_init() if plus_one else nn.initializers.ones_init()
        scale = self.param("scale", start, (x.shape[-1],), self.param_dtype)
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.eps)
        if self.kind == "rms":
            return y.astype(self.dtype) * scale.astype(self.dtype)
        scale = scale.astype(self.dtype).astype(jnp.float32)
        return (y * (1 + scale if plus_one else scale)).astype(self.dtype)


class LayerNorm(nn.Module):
    """(x - mean(x)) / std(x) * scale + bias over the last axis, in float32 (arXiv 1607.06450)."""

    eps: float
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],), self.param_dtype)
        y = x.astype(jnp.float32)
        y = y - jnp.mean(y, axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.eps)
        scale, bias = (p.astype(self.dtype).astype(jnp.float32) for p in (scale, bias))
        return (y * scale + bias).astype(self.dtype)


def make_norm(config: ModelConfig, name: str | None = None) -> nn.Module:
    """The norm of the config's kind."""
    if config.norm == "layer":
        return LayerNorm(config.norm_eps, config.dtype, config.param_dtype, name=name)
    return RMSNorm(config.norm_eps, config.dtype, config.param_dtype, config.norm, name=name)


def _dense(config: ModelConfig, features: int, bias: bool, name: str) -> nn.Dense:
    return nn.Dense(
        features,
        use_bias=bias,
        dtype=config.dtype,
        param_dtype=config.param_dtype,
        kernel_init=nn.initializers.normal(config.init_std),
        name=name,
    )


class Attention(nn.Module):
    """Grouped-query attention; gives the layer's part of the cache beside, None where there is none.

    layer: its number. prefix: that of this layer (k, v: [n, kv_heads, head_dim]), where there is one and no cache.
    rope: the index of this layer's, where there are several, else None.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, x, ctx: Context, layer, window, prefix, rope):
        c = self.config
        q, k, v = self.project(x)
        if ctx.cos is not None:
            cos, sin = ctx.cos, ctx.sin
            if rope is not None:
                cos, sin = (jax.lax.dynamic_index_in_dim(a, rope, 0, False) for a in (cos, sin))
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        scores, kept = {"scale": c.attn_scale or None, "softcap": c.attn_softcap}, None
        if ctx.cache is not None:
            out, kept = attend_cached(q, k, v, ctx.cache, layer, ctx.start, ctx.views[window or 0], **scores)
        else:
            out = attend(
                q, k, v, segments=ctx.segments, kv_segments=ctx.segments, start=None, window=window,
                kind=c.attention, prefix=prefix, positions=ctx.positions, ends=ctx.ends, **scores,
                windows=tuple(sorted({*c.windows})),
            )
        out = _dense(c, c.dim, c.out_bias, "o_proj")(out.reshape(x.shape[:2] + (-1,)))
        return out, kept

    def project(self, x):
        """Queries, keys and values of x, [batch, t, heads, head_dim] each, with their norms."""
        c = self.config
        shape = x.shape[:2] + (-1, c.head_dim)
        q = _dense(c, c.num_heads * c.head_dim, c.qkv_bias, "q_proj")(x)
        k = _dense(c, c.num_kv_heads * c.head_dim, c.qkv_bias, "k_proj")(x)
        v = _dense(c, c.num_kv_heads * c.head_dim, c.qkv_bias, "v_proj")(x).reshape(shape)
        if c.qk_norm == "width":
            q, k = make_norm(c, "q_norm")(q), make_norm(c, "k_norm")(k)
        q, k = q.reshape(shape), k.reshape(shape)
        if c.qk_norm == "head":
            q, k = make_norm(c, "q_norm")(q), make_norm(c, "k_norm")(k)
        return q, k, v


ACTIVATIONS = {
    "silu": jax.nn.silu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": jax.nn.gelu,
    "relu": jax.nn.relu,
}


@partial(jax.checkpoint, prevent_cse=False, static_argnums=0)
def gated(activation: str, gate, up):
    """act(gate) * up, of which the backward pass keeps the two inputs only."""
    return ACTIVATIONS[activation](gate) * up


@partial(jax.checkpoint, prevent_cse=False, static_argnums=0)
def activated(activation: str, x):
    """act(x), of which the backward pass keeps x only."""
    return ACTIVATIONS[activation](x)


class MLP(nn.Module):
    """down(act(gate(x)) * up(x)), or down(act(up(x))) where the family has no gate."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x):
        c = self.config
        if c.gated:
            gate = _dense(c, c.mlp_dim, c.mlp_bias, "gate_proj")(x)
            inner = gated(c.activation, gate, _dense(c, c.mlp_dim, c.mlp_bias, "up_proj")(x))
        else:
            inner = activated(c.activation, _dense(c, c.mlp_dim, c.mlp_bias, "up_proj")(x))
        return _dense(c, c.dim, c.mlp_bias, "down_proj")(inner)


class Layer(nn.Module):
    """One block. `which` is (layer index, window, prefix, index of the rope).

    Returns x, and (the layer's part of the cache, of layers with experts what the router did).
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, x, ctx: Context, which):
        c = self.config
        x = constrain(x, BATCH_AXES, None, None)
        out, kept = Attention(c, name="attn")(self.before(x, "attn"), ctx, *which)
        x = x + self.after(out, "attn")
        out, router = self.feed(self.before(x, "mlp"), ctx.segments)
        return x + self.after(out, "mlp"), (kept, router)

    def feed(self, x, segments):
        """(the MLP of x, None), or (the experts of x, what their router did): see `moe.MoE`."""
        if self.config.num_experts:
            return MoE(self.config, MLP, gated, name="mlp")(x, segments)
        return MLP(self.config, name="mlp")(x), None

    def before(self, x, part: str):
        """What attention or MLP reads of the stream."""
        return x if self.config.norms == "post" else make_norm(self.config, f"{part}_norm")(x)

    def after(self, out, part: str):
        """What attention or MLP adds to the stream."""
        return out if self.config.norms == "pre" else make_norm(self.config, f"{part}_post_norm")(out)
