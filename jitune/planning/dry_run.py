"""`jitune train --dry_run`: everything up to the first step, on the devices that are here, and nothing after it.

    jitune train --config configs/sft.py --dry_run

The config, model, tokenizer and data are checked as a run checks them; the step is compiled over shapes; the
first batch is decoded. Weights are not read, and nothing is written.
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from jitune import companions, compiling, feed, hardware, limits, rundir, sharding
from jitune import config as configs
from jitune.data import chat, pipeline
from jitune.hub import weights
from jitune.planning import tables
from jitune.planning.study import study
from jitune.runlog import parse_loggers
from jitune.types import MISMATCHED

MAX_ROWS = 8
SIDES = {1: ", wanted", -1: ", not wanted", MISMATCHED: ", of another prompt", 0: ""}


def dry_run(config, *, resume: bool = False, rows: int = MAX_ROWS) -> None:
    """Prints what a step of this run costs and its first batch with its mask.

    resume: the run may stand in output_dir already. rows: of the batch that are printed. Raises UserError for
    all that `train` refuses before its first step, except for weights that do not fit the model.
    """
    configs.check(config)
    parse_loggers(config.loggers)
    rundir.check_free(Path(config.output_dir).expanduser(), resume)
    mesh = sharding.make_mesh(**config.mesh)
    compiling.check_batch(config, mesh)
    base = weights.resolve(config.model.path)
    model_config = limits.lift(weights.read_config(base), config.model.allow_longer_context)
    compiling.check_attention(model_config.replace(**compiling.model_options(config)))
    tokenizer = feed.take_tokenizer(base, config, model_config)
    teacher = companions.open_teacher(config)
    if teacher and (note := companions.check_teacher(teacher, tokenizer, model_config, config)[1]):
        print(note)
    prepared = feed.prepare(config, tokenizer)
    evaluation = feed.prepare(config, tokenizer, eval=True) if config.data.eval else None
    companions.open_store(config, {"train": prepared, "eval": evaluation}, tokenizer)
    total = feed.count_steps(config, prepared)
    batch = next(iter(pipeline.batches(prepared, **feed.batching(config))))
    made = study(config, model_config, mesh)
    if jax.process_index() != 0:
        return
    console = tables.open_console()
    tables.print_study(console, made, hardware.of_device(jax.devices()[0]), lengths=document_lengths(batch))
    console.print(pipeline.summary(prepared.stats), soft_wrap=True)
    console.print(f"{total} steps\n")
    print_batch(console, tokenizer, batch, rows)
    console.print(f"compiled in {made.seconds:.1f} s; nothing was trained and nothing was written")


def document_lengths(batch) -> list[int]:
    """The lengths of a batch's documents, padding left out: segments [[1, 1, 2, 0]] -> [2, 1]."""
    lengths = []
    for row in batch["segment_ids"]:
        lengths += np.unique(row[row > 0], return_counts=True)[1].tolist()
    return lengths


def print_batch(console, tokenizer, batch, rows: int) -> None:
    """Prints the first `rows` rows, document by document; what is trained is green, without colour in [[ ]]."""
    from rich.text import Text

    marks = console.no_color or console.color_system is None
    count, length = batch["tokens"].shape
    for number in range(min(rows, count)):
        segments = batch["segment_ids"][number]
        pads = int((segments == 0).sum())
        console.print(Text(f"-- row {number + 1} of {count}: {length - pads} tokens, {pads} padding", "bold"),
                      soft_wrap=True)
        sides = sides_of(batch, number)
        for document, piece in enumerate(documents(batch, number), 1):
            trained, side = int((piece.loss_weights != 0).sum()), sides[document - 1]
            note = f"-- row {number + 1}, document {document}: {len(piece.tokens)} tokens, {trained} trained{side}"
            console.print(Text(note, "dim"), soft_wrap=True)
            console.print(chat.colour(tokenizer, piece, marks=marks))
    if count > rows:
        console.print(f"-- and {count - rows} rows more")
    console.print()


def sides_of(batch, row: int) -> list[str]:
    """What the answer of each document of a row is to its objective, in words; "" where nothing is compared."""
    segments = batch["segment_ids"][row]
    starts = [int(np.flatnonzero(segments == segment)[0]) for segment in np.unique(segments[segments > 0])]
    return [SIDES[int(batch["sides"][row, start])] if "sides" in batch else "" for start in starts]


def documents(batch, row: int):
    """The documents of a row as `Rendered`, their weights back at the tokens that they train."""
    segments = batch["segment_ids"][row]
    for segment in np.unique(segments[segments > 0]):
        place = np.flatnonzero(segments == segment)
        tokens, shifted = batch["tokens"][row, place], batch["loss_weights"][row, place]
        yield chat.Rendered(tokens, np.concatenate([shifted[:1] * 0, shifted[:-1]]), "", ("", 0), ())
