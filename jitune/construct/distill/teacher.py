"""What a teacher says of the training data: its k likeliest tokens at every place, into a store that is mapped.

    write_stores(config, "teacher", k=64, batch_size=8)       # config: of `jitune train`, with objective.teacher

In: the config of a training run, whose documents are prepared as the run prepares them. Out: `data/token_store.py`'s
folder, and in its subfolder `eval` one of the evaluation data, where there is some. Documents go through the teacher
in their order, as many at a time as fill a batch; after each batch the files are committed, and a run that was killed
goes on behind it and ends with the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jitune import config as configs
from jitune.construct.ledger import Ledger
from jitune.data import token_store
from jitune.data.pipeline import Prepared, summary
from jitune.evals.progress import Bars
from jitune.evals.store import one_process
from jitune.options import check_objective
from jitune.types import Model, UserError

EVAL = "eval"
EVERY = 1.0  # seconds between commits, at least


class Filled(NamedTuple):
    """A batch of documents that follow each other: where each lies, as (row, first slot, length)."""

    batch: dict[str, np.ndarray]
    places: list[tuple[int, int, int]]


def write_stores(config: Any, out: str | Path, *, k: int = 64, batch_size: int = 0, logprobs: str = "float32",
                 shown: bool = False) -> list[Path]:  # fmt: skip
    """Writes what the teacher says of the data of a training run; returns the folders.

    Args:
      config: of `jitune train`: model.path (the student), data, seq_len, objective.teacher, mesh, model.dtype.
      k: tokens a place; as many as the vocabulary has, at most.
      batch_size: rows of seq_len at a time; 0: config.batch_size.
      logprobs: float32 or float16.

    Raises:
      UserError: the config, the teacher, or a folder that holds something else.
    """
    import jax

    from jitune import companions, feed, sharding
    from jitune.hub import weights
    from jitune.hub.vocabulary import vocabulary_digest

    one_process("storing what a teacher says")
    _check(config, k, logprobs, batch_size)
    mesh = sharding.make_mesh(**config.mesh)
    rows = -(-(batch_size or config.batch_size) // sharding.batch_shards(mesh)) * sharding.batch_shards(mesh)
    student = weights.resolve(config.model.path)
    own = weights.read_config(student)
    tokenizer = feed.take_tokenizer(student, config, own)
    teacher = companions.find_teacher(config)
    vocab, note = companions.check_teacher(teacher, tokenizer, own, config)
    if k > vocab:
        raise UserError(f"--k {k}: the vocabulary has {vocab} tokens")
    documents = {"": feed.prepare(config, tokenizer)}
    if config.data.eval:
        documents[EVAL] = feed.prepare(config, tokenizer, eval=True)
    identity = {"path": teacher.path, **companions.identify(teacher), "dtype": teacher.config.dtype}
    made = {"k": k, "vocab": vocab, "vocabulary": vocabulary_digest(tokenizer), "teacher": identity}
    folders = []
    with Bars(shown=shown) as bars, jax.set_mesh(mesh):
        if note:
            bars.say(note)
        model, params = companions.load_teacher(teacher, mesh)
        ask = make_ask(model, params, mesh, k=k, vocab=vocab, chunk=config.loss_chunk)
        for name, prepared in documents.items():
            bars.say(summary(prepared.stats, name=name or "train"))
            header = token_store.make_header(prepared, **made, logprobs=logprobs)
            folders.append(Path(out).expanduser() / name)
            _write(folders[-1], header, prepared, ask, (rows, config.seq_len), bars, name or "train")
    return folders


def _check(config: Any, k: int, logprobs: str, batch_size: int) -> None:
    flat = configs.flatten(config)
    configs.check_values(flat, needed=("model.path", "data.train", "objective.teacher"))
    if k < 1:
        raise UserError(f"--k {k}: must be at least 1")
    if batch_size < 0:
        raise UserError(f"--batch_size {batch_size}: must be at least 1, or 0 for that of the config")
    if logprobs not in ("float32", "float16"):
        raise UserError(f"--logprobs {logprobs}: is not one of float32, float16")
    if config.objective.name not in ("sft", "distill"):
        raise UserError(f"config.objective.name={config.objective.name}: a teacher is asked for objective.name=distill")
    check_objective({**flat, "objective.name": "distill", "objective.store": ""})  # of the run that reads the store


def make_ask(model: Model, params: Any, mesh: Any, *, k: int, vocab: int, chunk: int) -> Callable:
    """Makes `ask(batch) -> (ids, logprobs)`, [rows, seq, k] each: the likeliest next tokens, best first.

    The log-probabilities are those among the first `vocab` tokens, at temperature 1. Logits are there for about
    `chunk` tokens at a time.
    """
    import jax

    from jitune import sharding
    from jitune.objectives.loss import cut, join

    def best(params, hidden):
        logits = model.unembed(params, hidden)[..., :vocab]
        values, ids = jax.lax.top_k(logits, k)
        return ids, values - jax.nn.logsumexp(logits, axis=-1, keepdims=True)

    def run(params, batch):
        hidden = model.hidden(params, batch)[0]
        found = jax.lax.map(lambda part: best(params, part), cut(hidden, chunk))
        return [join(x, hidden.shape[1]) for x in found]

    jitted = jax.jit(run)
    return lambda batch: jitted(params, sharding.put_whole(batch, mesh))


def fill(source: Iterator[np.ndarray], rows: int, seq_len: int) -> Iterator[Filled]:
    """Documents, [length] of tokens each, into batches of rows, each into the first that has room.

    A batch ends before the first document that fits into none of its rows, so that it follows from where it begins.
    """
    waiting, places, free = [], [], [seq_len] * rows
    for tokens in source:
        length = len(tokens)
        row = next((r for r in range(rows) if free[r] >= length), -1)
        if row < 0:
            yield _lay(waiting, places, rows, seq_len)
            waiting, places, free, row = [], [], [seq_len] * rows, 0
        places.append((row, seq_len - free[row], length))
        waiting.append(tokens)
        free[row] -= length
    if waiting:
        yield _lay(waiting, places, rows, seq_len)


def _lay(documents, places, rows: int, seq_len: int) -> Filled:
    batch = {name: np.zeros((rows, seq_len), np.int32) for name in ("tokens", "segment_ids", "positions")}
    numbers = [0] * rows
    for tokens, (row, start, length) in zip(documents, places, strict=True):
        numbers[row] += 1
        at = slice(start, start + length)
        batch["tokens"][row, at], batch["segment_ids"][row, at] = tokens, numbers[row]
        batch["positions"][row, at] = np.arange(length)
    return Filled(batch, places)


def _documents(prepared: Prepared) -> Iterator[np.ndarray]:
    for source in prepared.sources:
        yield from (source[i]["tokens"] for i in range(len(source)))


def _write(folder: Path, header: dict, prepared: Prepared, ask: Callable, shape, bars: Bars, name: str) -> None:
    """Writes one store, from its last commit on; one that is whole already is left as it is."""
    files = tuple(token_store.file_of(array) for array in header["arrays"])
    kept = {**header, "teacher": {key: value for key, value in header["teacher"].items() if key != "path"}}
    lengths = np.concatenate([np.diff(source.offsets) for source in prepared.sources])
    with Ledger(folder, files, kept, others=(token_store.HEADER,)) as ledger:
        done, before, began = ledger.done, None, time.monotonic()
        written, committed = 0, began
        batches = fill(islice(_documents(prepared), done, None), *shape)
        with bars.bar(f"teacher, {name}", int(lengths[done:].sum())) as advance:
            # The next batch is on the devices while this one is written.
            for filled in chain(batches, [None]):
                running = (filled.places, ask(filled.batch)) if filled else None
                if before:
                    _put(ledger, header, *before, done)
                    done += len(before[0])
                    count, now = sum(length for _, _, length in before[0]), time.monotonic()
                    written += count
                    advance(count, f"{written / (now - began):,.0f} tokens/s")
                    if not filled or now - committed > EVERY:
                        ledger.commit(done)
                        committed = now
                before = running
    if not (folder / token_store.HEADER).exists():
        token_store.finish(folder, header)


def _put(ledger: Ledger, header: dict, places, found, done: int) -> None:
    """Writes what was found of a batch, document by document; `done` of them are written already."""
    for (name, spec), array in zip(header["arrays"].items(), map(np.asarray, found), strict=True):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(f"the teacher's log-probabilities of documents {done + 1} to {done + len(places)} are not "
                            "finite: broken weights, or a dtype that overflows")  # fmt: skip
        stored = array.astype(np.dtype(spec["dtype"]).newbyteorder("<"))
        for row, start, length in places:
            ledger.write(token_store.file_of(name), stored[row, start : start + length].tobytes())
