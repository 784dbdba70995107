"""Optimizers and learning-rate schedules from optax, chosen by `config.optimizer`.

Weight decay, times the learning rate in all of them, spares biases and norm scales. Adafactor is that of a given
learning rate: no relative step, no parameter scale. Muon moves the kernels of the layers, each layer of a stacked
kernel by itself, with steps of AdamW's size (arXiv 2502.16982), and leaves embeddings, head, norms and biases
to AdamW.
"""

from __future__ import annotations

import math
import re

import jax
import jax.numpy as jnp
import optax

from jitune import tree
from jitune.types import UserError

NO_DECAY = r"(norm/scale|/bias|/magnitude)$"
MUON_KERNELS = r"(^|^\d+/)layers/.*/kernel$"


def make_schedule(options, steps: int) -> optax.Schedule:
    """Learning rate by step, counted from 0: linear warmup, then cosine, linear, constant or wsd.

    wsd holds the highest rate and falls linearly over the last `decay_ratio` of the steps
    (arXiv 2404.06395). `final_ratio` of the highest rate is what remains at the end.
    """
    peak, end = options.learning_rate, options.learning_rate * options.final_ratio
    warmup = options.warmup_steps or math.ceil(options.warmup_ratio * steps)
    rest = max(1, steps - warmup)
    if options.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest, options.final_ratio)
    elif options.schedule == "linear":
        after = optax.linear_schedule(peak, end, rest)
    elif options.schedule == "wsd":
        decay = max(1, math.ceil(options.decay_ratio * steps))
        after = optax.linear_schedule(peak, end, decay, max(0, rest - decay))
    elif options.schedule == "constant":
        after = optax.constant_schedule(peak)
    else:
        raise UserError(f"config.optimizer.schedule={options.schedule!r} is not known")
    if warmup == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def decay_mask(params):
    """True for the leaves that weight decay touches."""
    return tree.map_with_path(lambda path, _: not tree.matches(NO_DECAY, path), params)


def _muon_labels(params):
    return tree.map_with_path(lambda path, _: "muon" if tree.matches(MUON_KERNELS, path) else "adamw", params)


def _muon_axes(params):
    """The last two axes are a layer's [in, out]; any before them count layers."""
    axes = optax.contrib.MuonDimensionNumbers
    return jax.tree.map(lambda x: axes(reduction_axis=x.ndim - 2, output_axis=x.ndim - 1), params)


def _clip_by_layer_rms(threshold: float) -> optax.GradientTransformation:
    """Adafactor's update clipping (arXiv 1804.04235, section 6), each layer of a stacked weight by itself."""

    def clip(path, x):
        axes = tuple(range(1 if re.match(r"(\d+/)?layers/", path) else 0, x.ndim))
        rms = jnp.sqrt(jnp.mean(jnp.square(x), axis=axes, keepdims=True))
        return x / jnp.maximum(1.0, rms / threshold)

    return optax.stateless(lambda updates, params: tree.map_with_path(clip, updates))


def lora_plus(ratio: float) -> optax.GradientTransformation:
    """LoRA+ (arXiv 2402.12354): the learning rate of the factors B is `ratio` times that of all else."""

    def scale(path, x):
        return x * ratio if path.endswith("lora_b") else x

    return optax.stateless(lambda updates, params: tree.map_with_path(scale, updates))


def make_optimizer(options, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Returns (the optimizer with clipping in front, its schedule) for a run of `steps` steps."""
    rate, o = make_schedule(options, steps), options
    if o.name == "adamw":
        update = optax.adamw(rate, o.b1, o.b2, o.eps, weight_decay=o.weight_decay, mask=decay_mask)
    elif o.name == "adafactor":
        update = optax.chain(
            optax.scale_by_factored_rms(),
            _clip_by_layer_rms(1.0),
            optax.add_decayed_weights(o.weight_decay, decay_mask),
            optax.scale_by_learning_rate(rate),
        )
    elif o.name == "lion":
        update = optax.lion(rate, o.b1, o.b2, weight_decay=o.weight_decay, mask=decay_mask)
    elif o.name == "muon":
        kernels = optax.contrib.muon(
            rate, weight_decay=o.weight_decay, muon_weight_dimension_numbers=_muon_axes, consistent_rms=0.2
        )
        others = optax.adamw(rate, o.b1, o.b2, o.eps, weight_decay=o.weight_decay, mask=decay_mask)
        update = optax.partition({"muon": kernels, "adamw": others}, _muon_labels)
    else:
        raise UserError(f"config.optimizer.name={o.name!r} is not known")
    clip = [optax.clip_by_global_norm(o.clip_norm)] if o.clip_norm else []
    plus = [lora_plus(o.lora_plus)] if o.lora_plus != 1 else []
    return optax.chain(*clip, update, *plus), rate
