"""From `config.transform` to a `Transform`, and to how the frozen weights are kept.

    name       full | lora | dora | prefix | prompt | select (the weights that `select` is found in)
    quantize   the frozen base in few bits: nf4 | int8
    train      a pattern: weights that are trained as they are, besides
    new tokens get rows of their own wherever the embedding is not trained as a whole
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from jitune import tree
from jitune.transforms.chain import chain
from jitune.transforms.dora import dora
from jitune.transforms.full import full
from jitune.transforms.lora import lora
from jitune.transforms.partial import select
from jitune.transforms.quantize import Blocks, encode, quantize
from jitune.transforms.tokens import tokens
from jitune.transforms.weights import LINEAR
from jitune.types import Transform, UserError

NAMES = ("full", "lora", "dora", "prefix", "prompt", "select")


def make_transform(options, *, model=None, model_config=None, tokenizer=None,
                   new_tokens: Sequence[int] = ()) -> Transform:  # fmt: skip
    """Makes the transform that the options name.

    model, model_config: for prefix and prompt. tokenizer: for init_text; None where shapes alone are asked for.
    new_tokens: ids that the model has not been trained on. Raises UserError for a name that is not known, for options
    that do not go together, and as the transforms do.
    """
    check(options)
    if options.name == "full":
        return full()
    merges = parse_merges(options.merge_at)
    parts = []
    if options.quantize:
        parts.append(quantize(options.quantize, select=options.quantize_select or LINEAR, merge_at=merges))
    if options.name in ("prefix", "prompt"):
        parts.append(_soft(options, model, model_config, tokenizer))
    elif options.name == "select":
        parts.append(select(options.select))
    else:
        parts.append(_factors(options, merges))
    if options.train:
        parts.append(select(options.train, name="config.transform.train"))
    if len(new_tokens) and not _trains(options, "embed/embedding"):
        parts.append(tokens(new_tokens, merge_at=merges))
    return parts[0] if len(parts) == 1 else chain(*parts)


def check(options) -> None:
    """Raises UserError for options that are not known or do not go together."""
    if options.name not in NAMES:
        raise UserError(f"config.transform.name={options.name!r} is not known; known are {', '.join(NAMES)}")
    if options.name == "full":
        for name in ("quantize", "train"):
            if options[name]:
                raise UserError(f"config.transform.{name}={options[name]!r} needs a frozen base, and "
                                "config.transform.name=full trains all of it; lora does not")  # fmt: skip
    if options.name == "select" and not options.select:
        raise UserError("config.transform.select is not set; name=select trains the weights that it is found in")
    if options.quantize and options.name == "select":
        raise UserError("config.transform.quantize: name=select trains weights themselves; quantize needs lora, dora, "
                        "prefix or prompt")  # fmt: skip


def _factors(options, merges) -> Transform:
    make = {"lora": lora, "dora": dora}[options.name]
    return make(
        options.rank, options.alpha, select=options.select or LINEAR,
        rank_pattern=parse_pairs("rank_pattern", options.rank_pattern, int),
        alpha_pattern=parse_pairs("alpha_pattern", options.alpha_pattern, float),
        rslora=options.rslora, dropout=options.dropout, init=options.init or "kaiming", dtype=options.dtype,
        merge_at=merges,
    )  # fmt: skip


def _soft(options, model, model_config, tokenizer) -> Transform:
    from jitune.transforms.prefix import prefix
    from jitune.transforms.prompt import prompt

    ids = None
    if options.init == "text":
        if not options.init_text:
            raise UserError("config.transform.init=text needs config.transform.init_text")
        ids = tokenizer.encode(options.init_text, add_special_tokens=False) if tokenizer else [0]
    given = {"model": model, "init": options.init or "random", "tokens": ids, "windows": model_config.windows,
             "max_positions": model_config.max_positions}  # fmt: skip
    if options.name == "prompt":
        return prompt(options.num_tokens, **given)
    return prefix(options.num_tokens, projection=options.projection, **given)


def parse_pairs(name: str, text: str, kind: type) -> dict[str, Any]:
    """"q_proj=8,v_proj=4" -> {"q_proj": 8, "v_proj": 4}. Raises UserError for anything else."""
    found = {}
    for pair in filter(None, (p.strip() for p in text.split(","))):
        pattern, _, value = pair.rpartition("=")
        try:
            found[pattern] = kind(value)
        except ValueError:
            pattern = ""
        if not pattern:
            raise UserError(f"config.transform.{name}={text!r}: pairs such as q_proj=8,v_proj=4 are needed")
    return found


def parse_merges(text: str) -> tuple[tuple[str, str], ...]:
    """"mul:attn/.*,sin:mlp" -> (("mul", "attn/.*"), ("sin", "mlp"))."""
    pairs = [p.strip().partition(":") for p in text.split(",") if p.strip()]
    if bad := [name for name, colon, pattern in pairs if not (name and pattern)]:
        raise UserError(f"config.transform.merge_at={text!r}: PRIMITIVE:PATTERN pairs are needed, {bad[0]!r} is none")
    return tuple((name, pattern) for name, _, pattern in pairs)


def is_adapter(options) -> bool:
    """Whether what is trained stands beside the model's own weights, and is kept without them."""
    return options.name not in ("full", "select")


def _trains(options, path: str) -> bool:
    """Whether the weight at this path is trained itself."""
    patterns = [options.train, options.select if options.name == "select" else ""]
    return options.name == "full" or any(p and tree.matches(p, path) for p in patterns)


def keeper(options, dtype: str) -> Callable[[str, Any], Any]:
    """Makes `keep(path, array)`: a loaded float32 weight as it is kept.

    Trained ones stay as they are, frozen ones get the `dtype` of the computation, or become codes.
    """
    quantized = options.quantize_select or LINEAR

    def keep(path, array):
        if _trains(options, path):
            return array
        if options.quantize and tree.matches(quantized, path):
            return encode(path, array, Blocks(options.quantize)).cast(dtype)
        return array.astype(jnp.dtype(dtype))

    return keep
