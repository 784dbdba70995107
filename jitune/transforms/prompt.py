"""Prompt tuning (arXiv 2104.08691): trained embeddings in front of every document.

    transform = prompt(20, model=model, init="text", tokens=tokenizer.encode("Answer briefly."))
    frozen, trainable = transform.init(key, params)     # {"base": params}, {"prompt": [20, dim]}
    hidden, _ = transform.apply(model).hidden((frozen, trainable), batch)

The embeddings stand first and see nothing but themselves. So one pass over them gives the keys and values that all
documents of all rows see in front, as with `transforms.prefix`, and a packed row needs no embeddings between its
documents. Exact, and dearer than a prefix: the pass goes through all layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jitune import structured
from jitune.transforms.prefix import check, in_front, keys_and_values, repeat
from jitune.types import Model, Transform


def prompt(
    num_tokens: int,
    *,
    model: Model,
    init: str = "random",
    tokens: Sequence[int] | None = None,
    windows: Sequence[int] = (),
    max_positions: int = 0,
) -> Transform:
    """The transform that trains `num_tokens` embeddings in front; nothing can be merged.

    trainable: {"prompt": [num_tokens, dim]}, float32; frozen {"base": params}. init: random (normal numbers, as PEFT
    draws them), or text: the embeddings of `tokens`. The other arguments and errors are those of
    `transforms.prefix.prefix`.
    """
    check("prompt", num_tokens, init, ("random", "text"), tokens, windows, max_positions)

    def start(key, params):
        ids = jnp.asarray([repeat(tokens or [0], num_tokens)], jnp.int32)
        if init == "text":
            embeddings = structured.run(model.embed, params, ids)[0].astype(jnp.float32)
        else:
            shape = jax.eval_shape(lambda: structured.run(model.embed, params, ids)[0]).shape
            embeddings = jax.random.normal(key, shape)
        return {"base": params}, {"prompt": embeddings}

    def apply(model: Model) -> Model:
        def compute(pair, batch):
            embeddings = pair[1]["prompt"][None]
            alone = {"tokens": jnp.zeros(embeddings.shape[:2], jnp.int32), "embeddings": embeddings}
            # What else travels with a batch, such as dropout's key, holds for the prompt too.
            return keys_and_values(model, pair[0]["base"], alone | {k: batch[k] for k in ("key",) if k in batch})

        return in_front("prompt", model, num_tokens, compute)

    return Transform(start, apply, None)
