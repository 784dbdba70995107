"""The decoder that all families share: embedding, layers (scanned or unrolled), norm, head.

`build(config)` gives a `Model`. Parameters of the layers are stacked, [layers, ...], whether they run as
one scan or as a Python loop, so that either reads the other's checkpoints.
"""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
from flax import linen as nn

from jitune.models import cache as caches
from jitune.models.attention import capped
from jitune.models.cached_attention import view
from jitune.models.config import ModelConfig
from jitune.models.flax_bridge import from_linen
from jitune.models.layers import Context, Layer, constrain, make_norm
from jitune.models.moe import PRODUCT, routed
from jitune.models.rotary import document_lengths, tables
from jitune.types import BATCH_AXES, Batch, KVCache, Model, Prefix, UserError


def _with_experts(policy):
    """The policy, with the products of experts kept as those of an MLP are."""
    return jax.checkpoint_policies.save_from_both_policies(
        policy, jax.checkpoint_policies.save_only_these_names(PRODUCT)
    )


# What a layer keeps for its backward pass; the rest is computed again.
REMAT_POLICIES = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": _with_experts(jax.checkpoint_policies.dots_saveable),
    "dots_no_batch": _with_experts(jax.checkpoint_policies.dots_with_no_batch_dims_saveable),
}


class Decoder(nn.Module):
    """A decoder-only language model over a `ModelConfig`. See `types.Model` for the shapes."""

    config: ModelConfig

    def setup(self):
        c = self.config
        places = c.max_positions if c.learned_positions else 0
        self.table = _Table((c.vocab_size, c.dim), places, c.init_std, c.param_dtype, name="embed")
        self.layers = nn.scan(
            _remat(c, in_scan=True),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(nn.broadcast, 0),
            length=c.num_layers,
        )(c)
        self.norm = make_norm(c)
        if not c.tied:
            self.lm_head = _Weight("kernel", (c.dim, c.vocab_size), c.init_std, c.param_dtype)

    def embed(self, tokens):
        """tokens [batch, t] -> [batch, t, dim]."""
        # Gathered over fsdp as a whole: looking up in a table cut along its rows' features is far slower.
        c = self.config
        table = constrain(self.table()[0].astype(c.dtype), "tensor", None)
        x = constrain(jnp.take(table, tokens, axis=0), BATCH_AXES, "context", None)
        return x * jnp.asarray(c.embed_scale, c.dtype) if c.embed_scale else x

    def hidden(self, batch: Batch, cache: KVCache | Prefix | None = None):
        """Returns (normed hidden states [batch, t, dim], the cache; without one Routed or None).

        With a cache the batch's positions count those of its prefix; with a Prefix they are added here.
        """
        c = self.config
        prefix, cache = (cache, None) if isinstance(cache, Prefix) else (None, cache)
        tokens = batch["tokens"]
        segments = batch.get("segment_ids")
        segments = jnp.ones(tokens.shape, jnp.int32) if segments is None else segments
        positions = batch.get("positions")
        if positions is None:
            positions = (0 if cache is None else cache.length) + restart_positions(segments)
        if prefix is not None:
            positions = positions + prefix.k.shape[1]
        x = batch["embeddings"].astype(c.dtype) if "embeddings" in batch else self.embed(tokens)
        spread = BATCH_AXES, "context" if cache is None else None, None
        x = constrain(x, *spread)
        if c.learned_positions:
            # There is none beyond the last one: NaN tells of it, but not of padding, whose runs may be longer.
            places = constrain(self.table()[1].astype(c.dtype), None, None)
            x = x + constrain(jnp.take(places, jnp.where(segments == 0, 0, positions), axis=0), *spread)
        ends = batch.get("ends")
        if ends is not None and cache is not None:
            raise ValueError("segments that share tokens have no form with a cache")
        seen = positions if prefix is not None or ends is not None else None
        lengths = batch.get("lengths")
        if lengths is None and any(rope.kind == "longrope" for rope in c.ropes):
            lengths = document_lengths(positions, segments, 0 if prefix is None else prefix.k.shape[1], ends)
        cos, sin = tables(c.ropes, c.head_dim, positions, lengths)
        ctx = Context(cos, sin, segments, seen, ends)
        if cache is None:
            x, routers = self._run_layers(x, ctx, prefix)
            return self.norm(x), routed(*routers, c) if c.num_experts else None
        cache, start = caches.extend(cache, segments)
        firsts = {w or 0: i for i, w in reversed(list(enumerate(c.windows)))}
        views = {w: view(cache, i, start, segments, positions, w) for w, i in firsts.items()}
        x, layers = self._run_cached(x, ctx._replace(cache=cache, start=start, views=views))
        return self.norm(x), cache._replace(layers=layers)

    def _run_layers(self, x, ctx, prefix):
        c = self.config
        several = len(c.ropes) > 1
        if c.scan_layers or self.is_initializing():
            windows = jnp.asarray(c.windows, jnp.int32) if any(c.windows) else None
            ropes = jnp.asarray(c.rope_of_layer, jnp.int32) if several else None
            x, (_, routers) = self.layers(x, ctx, (jnp.arange(c.num_layers), windows, prefix, ropes))
            return x, routers
        layer = _remat(c, in_scan=False)(c, parent=None)
        prefixes = [None] * c.num_layers if prefix is None else unstack(prefix, c.num_layers)
        routers = []
        for i, params in enumerate(unstack(self.variables["params"]["layers"], c.num_layers)):
            rope = c.rope_of_layer[i] if several else None
            x, (_, router) = layer.apply({"params": params}, x, ctx, (i, c.windows[i] or None, prefixes[i], rope))
            routers.append(router)
        return x, jax.tree.map(lambda *each: jnp.stack(each), *routers)

    def _run_cached(self, x, ctx):
        """(x, the layers' parts of the cache). Always a loop: layers differ in what they keep, and a scan copies each
        one's weights out of the stack for every token."""
        c, kept = self.config, []
        layer = Layer(c, parent=None)
        for i, params in enumerate(unstack(self.variables["params"]["layers"], c.num_layers)):
            rope = c.rope_of_layer[i] if len(c.ropes) > 1 else None
            x, (part, _) = layer.apply({"params": params}, x, ctx, (i, c.windows[i] or None, None, rope))
            kept.append(part)
        return x, tuple(kept)

    def unembed(self, hidden):
        """hidden [..., dim] -> logits [..., vocab] in float32."""
        c = self.config
        kernel = self.table()[0].T if c.tied else self.lm_head()
        logits = jnp.matmul(
            hidden.astype(c.dtype), kernel.astype(c.dtype), preferred_element_type=jnp.float32
        )
        return capped(logits, c.final_softcap)

    def __call__(self, tokens):
        return self.unembed(self.hidden({"tokens": tokens})[0])


class _Table(nn.Module):
    """The embedding, and the vectors of positions where they are learned (places: how many there are)."""

    shape: tuple[int, int]
    places: int
    std: float
    param_dtype: str

    @nn.compact
    def __call__(self):
        start = nn.initializers.normal(self.std)
        embedding = self.param("embedding", start, self.shape, self.param_dtype)
        if not self.places:
            return embedding, None
        return embedding, self.param("positions", start, (self.places, self.shape[1]), self.param_dtype)


class _Weight(nn.Module):
    """One matrix with no computation of its own: the head, whose products are taken above."""

    leaf: str
    shape: tuple[int, int]
    std: float
    param_dtype: str

    @nn.compact
    def __call__(self):
        return self.param(self.leaf, nn.initializers.normal(self.std), self.shape, self.param_dtype)


def _remat(config: ModelConfig, *, in_scan: bool):
    if config.remat not in REMAT_POLICIES:
        raise UserError(f"remat {config.remat!r} is not known; known are {', '.join(REMAT_POLICIES)}")
    if config.remat == "none":
        return Layer
    return nn.remat(Layer, policy=REMAT_POLICIES[config.remat], prevent_cse=not in_scan)


def unstack(stacked, count: int) -> list:
    """Splits a tree of [count, ...] leaves into `count` trees; its gradient is one concatenation a leaf."""
    pieces = jax.tree.map(lambda a: [p[0] for p in jax.lax.split(a, (1,) * count)], stacked)
    return [jax.tree.map(lambda _, p, i=i: p[i], stacked, pieces) for i in range(count)]


def restart_positions(segments: jax.Array) -> jax.Array:
    """Positions that restart where the segment changes: [[1, 1, 1, 2, 2, 0]] -> [[0, 1, 2, 0, 1, 0]]."""
    index = jnp.broadcast_to(jnp.arange(segments.shape[1]), segments.shape)
    changed = jnp.concatenate([jnp.ones_like(segments[:, :1]), jnp.diff(segments, axis=1)], axis=1) != 0
    return index - jax.lax.cummax(jnp.where(changed, index, 0), axis=1)


def precision(dtype: str):
    """A context in which float32 means float32: accelerators multiply it in fewer bits by default."""
    return jax.default_matmul_precision("highest") if dtype == "float32" else contextlib.nullcontext()


def build(config: ModelConfig) -> Model:
    """The `Model` of a config, float32 products exact. Nothing is computed until its functions are called."""
    if config.router_coef and not config.num_experts:
        raise UserError(f"model.router_coef={config.router_coef}: the model has no experts to balance")

    def exact(function):
        def call(*args):
            with precision(config.dtype):
                return function(*args)

        return call

    turn = min((rope.original_max_position for rope in config.ropes if rope.kind == "longrope"), default=0)

    def init_cache(batch_size: int, capacity: int, kind: str = "") -> KVCache:
        return caches.empty(
            batch_size, capacity, windows=config.windows, kv_heads=config.num_kv_heads, head_dim=config.head_dim,
            dtype=config.dtype, kind=kind, turn=turn,
        )  # fmt: skip

    model = from_linen(Decoder(config), init_cache)
    return model._replace(hidden=exact(model.hidden), unembed=exact(model.unembed))
