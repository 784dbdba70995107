"""Mixture of experts: every token goes through the few experts that its router likes best, and none is dropped.

In: x [batch, seq, dim] and the tokens' segments. Out: (the same shape, what the router did). With 3 experts, 2 of them
a token, softmax(x @ router) = [0.5, 0.2, 0.3] gives 0.5 expert_0(x) + 0.3 expert_2(x), and with norm_topk 0.625 and
0.375 in their places (Mixtral, arXiv 2401.04088; Qwen1.5-MoE, Qwen3). Choices are sorted by expert, so that each
expert's product is one stretch of rows (`leaves.grouped`), of whatever length.

On a mesh the experts are split over `expert`. Devices that differ in that axis alone gather their tokens, take the own
experts of each, and scatter the sums back, so that nothing depends on how evenly tokens are routed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec as P

from jitune.leaves.grouped import ROWS, mesh_axes, product
from jitune.models.config import ModelConfig
from jitune.types import BATCH_AXES, Routed, UserError

PRODUCT = "product of experts"


class Sent(NamedTuple):
    """Where the choices of a device's tokens lie, sorted by expert. The first axis of all counts devices' parts.

    x: [parts, rows, dim], of choices of experts that are not here the last ones. sizes: [parts, own experts]. order:
    [parts, rows], the choice that a row is of; places: [parts, rows], the row of a choice. weights: [parts, tokens, k].
    counts, shares: [parts, experts] float32, over tokens of documents: how often each was chosen, and the sums of the
    router's probabilities.
    """

    x: jax.Array
    sizes: jax.Array
    order: jax.Array
    places: jax.Array
    weights: jax.Array
    counts: jax.Array
    shares: jax.Array


class MoE(nn.Module):
    """Experts in the place of an MLP. dense: the module of a gated MLP, for the expert that all tokens go through.

    act: `(activation, gate, up) -> what goes into down`. Returns (out, (counts, shares) [experts] each, see Sent).
    """

    config: ModelConfig
    dense: Any
    act: Any

    @nn.compact
    def __call__(self, x, segments):
        c = self.config
        logits = _linear(c, c.num_experts, "router")(x)
        layout = _layout(c, x.shape)
        sent = _send(x, logits, segments, c, layout)
        sizes = (c.dim, c.expert_dim)
        experts = Experts(c, sizes, name="experts")
        out = _join(experts(sent.x, sent.sizes, self.act), sent, x.shape, layout).astype(x.dtype)
        if c.shared_dim:
            shared = self.dense(c.replace(mlp_dim=c.shared_dim), name="shared")(x)
            out = out + jax.nn.sigmoid(_linear(c, 1, "shared_gate")(x)) * shared
        return out, (sent.counts.sum(0), sent.shares.sum(0))


class Experts(nn.Module):
    """x [parts, rows, dim] in the order of experts -> the same shape."""

    config: ModelConfig
    sizes: tuple[int, int]

    @nn.compact
    def __call__(self, x, sizes, act):
        c, (dim, width) = self.config, self.sizes

        def kernel(name, ins, outs):
            return _Kernel((c.num_experts, ins, outs), c.init_std, c.param_dtype, name=name)().astype(c.dtype)

        def through(x, weights, **split):
            # Named for the policies of remat, which know a dot by its primitive.
            return checkpoint_name(product(x, weights, sizes, **split), PRODUCT)

        gate = through(x, kernel("gate_proj", dim, width), outs="tensor")
        up = through(x, kernel("up_proj", dim, width), outs="tensor")
        return through(act(c.activation, gate, up), kernel("down_proj", width, dim), ins="tensor")


class _Kernel(nn.Module):
    """The matrices of all experts, [experts, in, out]."""

    shape: tuple[int, ...]
    std: float
    param_dtype: str

    @nn.compact
    def __call__(self):
        return self.param("kernel", nn.initializers.normal(self.std), self.shape, self.param_dtype)


def _linear(c: ModelConfig, features: int, name: str) -> nn.Dense:
    return nn.Dense(features, use_bias=False, dtype=c.dtype, param_dtype=c.param_dtype,
                    kernel_init=nn.initializers.normal(c.init_std), name=name)  # fmt: skip


def choose(logits, c: ModelConfig):
    """logits [..., experts] -> (probabilities, weights [..., k], experts [..., k]), in float32."""
    shares = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    weights, experts = lax.top_k(shares, c.experts_per_token)
    if c.norm_topk:
        weights = weights / weights.sum(-1, keepdims=True)
    return shares, weights, experts


class Layout(NamedTuple):
    """How tokens and experts lie on the mesh: the axes of the batch, that of the sequence, experts' parts."""

    rows: tuple | None
    seq: str | None
    parts: int
    mesh: bool

    @property
    def exchange(self) -> bool:
        """Whether devices with different experts have different tokens."""
        return self.parts > 1 and self.rows is not None

    def run(self, function, in_specs, out_specs, *args):
        """The function on every device's own part; without a mesh on all there is."""
        if not self.mesh:
            return function(*args)
        return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, check_vma=False)(*args)


def _layout(c: ModelConfig, shape) -> Layout:
    """The layout of x [batch, seq, dim]. A batch or a sequence that does not divide is on every device as a whole."""
    mesh = mesh_axes()
    if not mesh:
        return Layout(None, None, 1, False)
    if c.num_experts % mesh["expert"]:
        raise UserError(f"mesh: expert={mesh['expert']} does not divide the model's {c.num_experts} experts")
    rows = BATCH_AXES if shape[0] % np.prod([mesh[a] for a in BATCH_AXES]) == 0 else None
    return Layout(rows, "context" if shape[1] % mesh["context"] == 0 else None, mesh["expert"], True)


def _send(x, logits, segments, c: ModelConfig, layout: Layout) -> Sent:
    """Sorts the choices of every device's tokens by expert, those of other devices' tokens among them."""
    own = c.num_experts // layout.parts

    def shard(x, logits, real):
        x, real = x.reshape(-1, c.dim), real.reshape(-1, 1)
        shares, weights, experts = choose(logits.reshape(-1, c.num_experts), c)
        chosen = (experts[..., None] == np.arange(c.num_experts)).sum(1) * real
        counts, sums = chosen.sum(0).astype(jnp.float32), (shares * real).sum(0)
        experts = jnp.where(real, experts, c.num_experts)  # padding has none
        if layout.exchange:
            x, weights, experts = (lax.all_gather(a, "expert", tiled=True) for a in (x, weights, experts))
        first = lax.axis_index("expert") * own if layout.parts > 1 else 0
        here = jnp.where((experts >= first) & (experts < first + own), experts - first, own).reshape(-1)
        order = jnp.argsort(here, stable=True)
        places = jnp.zeros_like(order).at[order].set(np.arange(len(here)), unique_indices=True)
        sizes = (here[:, None] == np.arange(own)).sum(0, dtype=jnp.int32)
        sorted_x = _spread(x, order, places)
        return Sent(*(a[None] for a in (sorted_x, sizes, order, places, weights, counts, sums)))

    tokens = P(layout.rows, layout.seq)
    return layout.run(shard, (tokens, tokens, tokens), P(ROWS), x, logits, segments > 0)


def _join(y, sent: Sent, shape, layout: Layout):
    """The weighted sums of every token's experts: y [parts, rows, dim] -> [batch, seq, dim] float32."""

    def shard(y, order, places, weights):
        y = _gather(y[0], places[0], order[0]).reshape(*weights.shape[1:], -1)
        out = (y.astype(jnp.float32) * weights[0][..., None]).sum(1)
        if layout.exchange:
            out = lax.psum_scatter(out, "expert", tiled=True)
        elif layout.parts > 1:
            out = lax.psum(out, "expert")
        return out.reshape(local)

    local = _local_shape(shape, layout)
    return layout.run(shard, (P(ROWS),) * 4, P(layout.rows, layout.seq), y, sent.order, sent.places, sent.weights)


def _local_shape(shape, layout: Layout):
    """The shape of a device's part of x."""
    mesh = mesh_axes()
    rows = int(np.prod([mesh[a] for a in layout.rows])) if layout.rows else 1
    return shape[0] // rows, shape[1] // (mesh[layout.seq] if layout.seq else 1), shape[2]


@jax.custom_vjp
def _spread(x, order, places):
    """Each token's row as often as it has choices, in their order: x [tokens, dim] -> [rows, dim]."""
    return x[order // (len(order) // len(x))]


def _spread_back(kept, g):
    places, tokens = kept
    return g[places].reshape(len(tokens), -1, g.shape[1]).sum(1), None, None


_spread.defvjp(lambda x, order, places: (_spread(x, order, places), (places, x[:, 0])), _spread_back)


@jax.custom_vjp
def _gather(y, places, order):
    """y[places], of which `order` is the inverse: so is its gradient a look-up and no sum."""
    return y[places]


_gather.defvjp(lambda y, places, order: (y[places], order), lambda order, g: (g[order], None, None))


def routed(counts, shares, c: ModelConfig) -> Routed:
    """What the routers of all layers did, counts and shares [layers, experts] (see Sent).

    The balance is that of Switch Transformers (arXiv 2101.03961, eq. 4 to 6) as these families take it, with all
    layers' tokens together: experts x the sum over experts of the mean choices and the mean probability of each; k
    where all are liked alike.
    """
    tokens = jnp.maximum(counts.sum() / c.experts_per_token, 1.0)
    balance = c.num_experts * jnp.sum(counts.sum(0) / tokens * shares.sum(0) / tokens)
    return Routed(balance, counts / jnp.maximum(counts.sum(-1, keepdims=True), 1.0), c.router_coef)
