"""What a run feeds its steps: tokenizer, prepared data, batches.

    tokenizer = take_tokenizer(base, config, model_config)
    prepared = prepare(config, tokenizer)                  # pairs where the objective compares answers
    stream = make_batches(config, mesh, prepared)          # a grain iterator with get_state and set_state
    batch = put(next(stream), config, mesh)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jitune import sharding
from jitune.data import chat, pairs, pipeline
from jitune.hub.tokenizer import load_tokenizer
from jitune.objectives import build
from jitune.types import UserError


def take_tokenizer(base: Path, config, model_config):
    """The tokenizer of the model, with the chat template that the config names, if any."""
    tokenizer = load_tokenizer(base)
    if tokenizer is None:
        raise UserError(f"{base}: has no tokenizer, and the data are text")
    if config.data.add_tokens:
        tokenizer.add_tokens(config.data.add_tokens.split(","))
    if config.data.chat_template:
        tokenizer.chat_template = chat.load_template(config.data.chat_template, tokenizer=tokenizer)
    if len(tokenizer) > model_config.vocab_size and not config.data.add_tokens:
        raise UserError(f"{base}: the tokenizer has {len(tokenizer)} tokens, the model {model_config.vocab_size}")
    return tokenizer


def prepare(config, tokenizer, *, eval=False) -> pipeline.Prepared:
    """The training or the evaluation data of a run: documents, or pairs of them for objectives that compare."""
    if build.compares(config):
        return pairs.prepare_pairs(config.data, tokenizer, config.seq_len, objective=config.objective.name, eval=eval)
    return pipeline.prepare(config.data, tokenizer, config.seq_len, eval=eval)


def batching(config) -> dict:
    """The options of the pipeline that decide which rows a batch holds."""
    return {
        "seq_len": config.seq_len, "batch_size": config.batch_size, "seed": config.seed,
        "shuffle": config.data.shuffle, "packing": config.data.packing, "num_bins": config.data.packing_bins,
    }


def count_steps(config, prepared) -> int:
    """Optimizer steps of the run: `steps`, or what `epochs` take."""
    if config.steps:
        return config.steps
    return pipeline.count_steps(prepared, epochs=config.epochs, **batching(config))


def writes_answers(config) -> bool:
    """Whether the model answers prompts of its batches itself, which every process then has to see."""
    return config.objective.name == "distill" and config.objective.on_policy > 0


def make_batches(config, mesh, prepared, extras: Mapping[str, Any] | None = None):
    """The training batches of this process, a grain iterator with get_state and set_state.

    extras: arrays with an entry for each token, see `pipeline.batches`. Where the model `writes_answers`, a batch has
    the rows of all processes.
    """
    index, count = (0, 1) if writes_answers(config) else sharding.process_share(mesh, config.batch_size)
    return iter(pipeline.batches(
        prepared, epochs=None if config.steps else config.epochs, process_index=index, process_count=count,
        prefetch=config.data.prefetch, **_given(extras), **batching(config),
    ))


def eval_batches(config, mesh, prepared, extras: Mapping[str, Any] | None = None):
    """The documents once, in their order, in batches of this process."""
    index, count = sharding.process_share(mesh, config.batch_size)
    chosen = {k: v for k, v in batching(config).items() if k not in ("seed", "shuffle")}
    return pipeline.eval_batches(prepared, process_index=index, process_count=count, **_given(extras), **chosen)


def _given(extras) -> dict:
    return {"extras": extras} if extras else {}


def put(batch, config, mesh):
    """Lays a batch of `make_batches` on the mesh."""
    if writes_answers(config):
        index, count = sharding.process_share(mesh, config.batch_size)
        share = config.batch_size // count
        batch = {name: x[index * share : (index + 1) * share] for name, x in batch.items()}
    return sharding.put_batch(batch, mesh, config.batch_size)
