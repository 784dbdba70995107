"""Prefix tuning (arXiv 2101.00190): trained keys and values that every document sees in front of its own tokens.

    transform = prefix(20, model=model)
    frozen, trainable = transform.init(key, params)     # {"base": params}, {"prefix": {"k": ..., "v": ...}}
    hidden, _ = transform.apply(model).hidden((frozen, trainable), batch)

A row of several documents has the prefix once, and each of them sees it as if it were alone: its tokens stand at the
positions n, n + 1, ... The layouts and the initial numbers are those of PEFT. `transforms.prompt` shares `in_front`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jitune import structured
from jitune.models import cache as caches
from jitune.types import Batch, KVCache, Model, Params, Prefix, Transform, Unfilled, UserError


def prefix(
    num_tokens: int,
    *,
    model: Model,
    init: str = "random",
    tokens: Sequence[int] | None = None,
    projection: int = 0,
    windows: Sequence[int] = (),
    max_positions: int = 0,
) -> Transform:
    """The transform that trains the keys and values of `num_tokens` entries in front; nothing can be merged.

    trainable: {"prefix": {"k", "v"}}, [layers, num_tokens, kv_heads, head_dim] each, float32; frozen {"base": params}.

    Args:
      model: the one that is tuned; its cache gives the shapes.
      init: random (normal numbers), zero (the prefix still takes a share of every softmax, and gives zeros for it), or
        text: what the model itself has for `tokens`, so that training starts from that text in front.
      tokens: ids for init="text", the first num_tokens of them, or all again from the start where they are fewer.
      projection: the width of an MLP that the prefix is the output of; 0: none. trainable is then {"prefix":
        {"embedding": [num_tokens, kv_heads * head_dim], "mlp": {"hidden", "out"}}}, and `project` gives its output.
      windows, max_positions: the model's (a `ModelConfig` has them), where they are known.

    Raises:
      UserError: for what cannot work, before anything is computed.
    """
    check("prefix", num_tokens, init, ("random", "zero", "text"), tokens, windows, max_positions)
    if projection < 0 or (projection and init == "text"):
        limit = "a width, or 0 for none" if projection < 0 else "0 with init='text': an MLP cannot start from a text"
        raise UserError(f"prefix: projection={projection} is not possible; it is {limit}")
    kept = jax.eval_shape(lambda: model.init_cache(1, num_tokens)).layers
    layers, (kv_heads, head_dim) = len(kept), kept[0].k.shape[2:]

    def start(key, params):
        frozen, shape = {"base": params}, (layers, num_tokens, kv_heads, head_dim)
        if projection:
            return frozen, {"prefix": _start_mlp(key, shape, projection, zero=init == "zero")}
        if init == "text":
            batch = {"tokens": jnp.asarray([repeat(tokens, num_tokens)], jnp.int32)}
            k, v = (x.astype(jnp.float32) for x in keys_and_values(model, params, batch))
        elif init == "zero":
            k, v = jnp.zeros((2, *shape))
        else:
            k, v = jax.random.normal(key, (2, *shape))
        return frozen, {"prefix": {"k": k, "v": v}}

    def apply(model: Model) -> Model:
        return in_front("prefix", model, num_tokens, lambda pair, batch: Prefix(*project(pair[1])))

    return Transform(start, apply, None)


def project(trainable: Params) -> tuple[jax.Array, jax.Array]:
    """The keys and values of a trainable part, [layers, n, kv_heads, head_dim] each, float32; the MLP's output, if any.

    As PEFT's `prompt_embeddings` [n, layers * 2 * kv_heads * head_dim]: jnp.stack((k, v), 1).transpose(2, 0, 1, 3, 4)
    reshaped.
    """
    part = trainable["prefix"]
    if "mlp" not in part:
        return part["k"], part["v"]
    hidden, out = part["mlp"]["hidden"], part["mlp"]["out"]
    with jax.default_matmul_precision("highest"):
        x = jnp.tanh(part["embedding"] @ hidden["kernel"] + hidden["bias"])
        k, v = jnp.einsum("nh,hltkd->tlnkd", x, out["kernel"]) + out["bias"].swapaxes(0, 1)[:, :, None]
    return k, v


def _start_mlp(key, shape, width: int, *, zero: bool) -> Params:
    """PEFT's embedding and MLP as torch starts them: normal, and uniform in +-1 / sqrt(inputs)."""
    layers, num_tokens, kv_heads, head_dim = shape
    dim = kv_heads * head_dim
    keys = jax.random.split(key, 5)

    def uniform(key, inputs, *shape):
        return jax.random.uniform(key, shape, jnp.float32, -(inputs**-0.5), inputs**-0.5)

    out = {
        "kernel": uniform(keys[3], width, width, layers, 2, kv_heads, head_dim),
        "bias": uniform(keys[4], width, layers, 2, kv_heads, head_dim),
    }
    return {
        "embedding": jax.random.normal(keys[0], (num_tokens, dim)),
        "mlp": {
            "hidden": {"kernel": uniform(keys[1], dim, dim, width), "bias": uniform(keys[2], dim, width)},
            "out": jax.tree.map(jnp.zeros_like, out) if zero else out,
        },
    }


# What prefix and prompt tuning share.


def check(name, num_tokens, init, known, tokens, windows, max_positions) -> None:
    """Raises UserError for options that cannot work."""
    if num_tokens < 1:
        raise UserError(f"{name}: num_tokens={num_tokens} must be at least 1")
    if init not in known:
        raise UserError(f"{name}: init={init!r} is not known; known are {', '.join(known)}")
    if (init == "text") != bool(tokens):
        has = f"{len(tokens)} tokens" if tokens else "no tokens"
        raise UserError(f"{name}: init={init!r} has {has}; tokens are for init='text', which needs at least one")
    narrow = min((w for w in windows if w), default=0)
    if narrow and num_tokens >= narrow:
        raise UserError(f"{name}: num_tokens={num_tokens} does not fit into the model's sliding window of {narrow}; "
                        f"at most {narrow - 1} do")  # fmt: skip
    if max_positions and num_tokens >= max_positions:
        raise UserError(f"{name}: num_tokens={num_tokens} leaves nothing of the model's context of {max_positions}")


def repeat(tokens: Sequence[int], count: int) -> list[int]:
    """`count` of the tokens, from the start again where there are fewer: ([5, 6], 5) -> [5, 6, 5, 6, 5]."""
    return (list(tokens) * math.ceil(count / len(tokens)))[:count]


def keys_and_values(model: Model, params: Params, batch: Batch) -> Prefix:
    """What the model has in its cache for a batch of one row: keys turned to the positions 0, 1, ..."""
    length = batch["tokens"].shape[1]
    _, cache = structured.run(model.hidden, params, batch, model.init_cache(1, length))
    # A row as long as the cache: every layer has the tokens in their places, whatever it would keep of a longer one.
    k, v = (jnp.stack([x[0] for x in part]) for part in zip(*(layer[:2] for layer in cache.layers), strict=True))
    return Prefix(k, v)


def in_front(name: str, model: Model, num_tokens: int, compute: Callable) -> Model:
    """The model over (frozen, trainable) with `compute(pair, batch) -> Prefix` in front of every document.

    Positions that a batch brings count the document's own tokens, from 0. A cache begins with the prefix.
    Raises UserError where the model has something in front already.
    """
    if model.init_cache and isinstance(jax.eval_shape(lambda: model.init_cache(1, 1)), Unfilled):
        raise UserError(f"{name}: the model has a prefix or a prompt in front already, and only one can be; "
                        "give it more tokens instead")  # fmt: skip

    def hidden(pair, batch, cache=None):
        if batch is None:  # asked for the parameters alone, by `weights.parameters`
            return model.hidden(pair[0]["base"], None)
        if isinstance(cache, Unfilled):
            cache = caches.fill(cache.cache, *compute(pair, batch))
        elif cache is None:
            cache = compute(pair, batch)
        if isinstance(cache, KVCache) and "positions" in batch:
            counted = {name: batch[name] + num_tokens for name in ("positions", "lengths") if name in batch}
            batch = {**batch, **counted}
        return structured.run(model.hidden, pair[0]["base"], batch, cache)

    return Model(
        init=model.init,
        embed=lambda pair, tokens: structured.run(model.embed, pair[0]["base"], tokens),
        hidden=hidden,
        unembed=lambda pair, hidden: structured.run(model.unembed, pair[0]["base"], hidden),
        init_cache=lambda size, capacity, *kind: Unfilled(model.init_cache(size, num_tokens + capacity, *kind)),
    )
