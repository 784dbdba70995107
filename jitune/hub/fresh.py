"""A fresh model from nothing: random weights, a byte-level BPE tokenizer trained on a file, a chat template.

    create("model", family="qwen3", preset="tiny", tokenizer_from="data.jsonl")

Everything is written in Hugging Face layout, for work from scratch and without the hub.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from jitune import sharding, tree
from jitune.data import chat, sources
from jitune.hub import weights
from jitune.hub.tokenizer import import_transformers
from jitune.models import decoder
from jitune.models.config import ModelConfig, preset_sizes
from jitune.types import Pretrained, UserError

PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (PAD, TURN_START, TURN_END)
# One token each, but part of the text: decoding keeps them.
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")


def create(out: str | Path, *, family: str, preset: str, tokenizer_from: str, vocab_size: int = 4096,
           seed: int = 0, dtype: str = "float32", mesh=None) -> Pretrained:
    """Makes and saves a randomly initialized model; returns it.

    tokenizer_from: a data file of any format that `data.sources` reads (its strings are the corpus), or a
    directory with a tokenizer, which is then taken as it is. vocab_size: of the new tokenizer, at most.
    Raises UserError for an unknown family or preset, or where `out` already holds something.
    """
    sizes = preset_sizes(family, preset)
    if dtype not in weights.DTYPES:
        raise UserError(f"dtype {dtype!r} is not supported; known are {', '.join(weights.DTYPES)}")
    if Path(out).exists() and (not Path(out).is_dir() or any(Path(out).iterdir())):
        raise UserError(f"{out}: exists and is not empty; choose another directory")
    tokenizer = _take_tokenizer(tokenizer_from) or train_tokenizer(texts(tokenizer_from), vocab_size)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
           "bos_token_id": tokenizer.bos_token_id}
    raw = {**sizes, "vocab_size": len(tokenizer), **ids}
    stop = chat.stop_token_ids(tokenizer, {})
    config = ModelConfig.from_hf(raw, generation={**ids, "eos_token_id": stop}).replace(
        dtype=dtype, param_dtype=dtype
    )
    pretrained = Pretrained(decoder.build(config), init_params(config, seed, mesh), tokenizer, config)
    weights.save(out, pretrained)
    return pretrained


def init_params(config: ModelConfig, seed: int, mesh=None) -> Any:
    """Random parameters laid out on the mesh, by default on one device."""
    mesh = mesh or sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
    homes = sharding.shardings(weights.abstract_params(config), mesh)
    return jax.jit(decoder.build(config).init, out_shardings=homes)(jax.random.key(seed))


def _take_tokenizer(path: str):
    from jitune.hub.tokenizer import load_tokenizer

    return load_tokenizer(path) if Path(path).is_dir() else None


def texts(spec: str) -> Iterator[str]:
    """Every string in the rows of a data file, keys not included."""

    def strings(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for item in value.values():
                yield from strings(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield from strings(item)

    for row, _ in sources.read_rows(spec):
        yield from strings(row)


def train_tokenizer(corpus: Iterator[str], vocab_size: int) -> Any:
    """A byte-level BPE tokenizer with ChatML's special tokens and template; any text round-trips."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    transformers = import_transformers()
    smallest = 256 + len(SPECIAL) + len(TAGS)
    if vocab_size < smallest:
        raise UserError(f"vocab_size {vocab_size} is too small: bytes and special tokens take {smallest}")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(TAGS),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(corpus, trainer)
    backend.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=TURN_END, pad_token=PAD, additional_special_tokens=[TURN_START]
    )
    tokenizer.chat_template = chat.load_template("chatml")
    return tokenizer


def describe(pretrained: Pretrained) -> str:
    """One line: family, parameters, layers, width, vocabulary."""
    c, count = pretrained.config, tree.count_params(pretrained.params)
    return (f"{c.family}: {count:,} parameters, {c.num_layers} layers of width {c.dim}, "
            f"vocabulary {c.vocab_size:,}")
