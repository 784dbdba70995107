"""From data files to a stream of batches.

In: the data section of a config, a tokenizer and a row length. Out: `Prepared`, every document as tokens, and
from it a grain IterDataset of batches.

    prepared = prepare(config.data, tokenizer, seq_len=2048)
    stream = iter(batches(prepared, seq_len=2048, batch_size=16, seed=0, prefetch=2))
    batch = next(stream)              # {"tokens": int32 [16, 2048], ...}, see packing.py
    state = stream.get_state()        # a JSON value; set_state(state) continues with the next batch

Everything is read, rendered and measured before the first batch, so that a bad row is found before the
first step. The order of the data follows from the seed and the number of documents drawn: every process runs
the same pipeline and takes its own rows of each batch, so neither the order nor the state depends on how many
processes there are. A state holds for the same data, seed, seq_len, batch_size, shuffle, packing, num_bins.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain, islice
from typing import NamedTuple

import numpy as np

from jitune.data import chat
from jitune.data.formats import to_example
from jitune.data.packing import count_rows, fit, gather, pack, pad_batch, unpacked
from jitune.data.sources import split_specs
from jitune.data.streams import stream
from jitune.types import DataStats, Example, UserError

CHUNK = 512  # examples rendered at a time: enough to keep the tokenizer's threads busy


@dataclass(frozen=True)
class Documents:
    """Documents end to end: tokens int32 and loss_weights float32 [all tokens], offsets int64 [count + 1].

    sides: int8 [all tokens], or None. Where they are there, what lies between two offsets is a unit: answers that
    belong together, one after the other, which packing keeps in one row. See `types.Batch`.
    """

    tokens: np.ndarray
    loss_weights: np.ndarray
    offsets: np.ndarray
    sides: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> dict:
        place = slice(self.offsets[index], self.offsets[index + 1])
        document = {"tokens": self.tokens[place], "loss_weights": self.loss_weights[place]}
        return document if self.sides is None else {**document, "sides": self.sides[place].astype(np.int32)}


class Prepared(NamedTuple):
    """sources: the documents of each source. weights: how often each is drawn; None: all of them in turn."""

    sources: tuple[Documents, ...]
    weights: tuple[float, ...] | None
    stats: DataStats


def load_examples(
    spec: str, *, format="auto", fields="", split_turns=False, train_on="assistant"
) -> Iterator[Example]:
    """Yields the examples of one source.

    Args:
      spec: a file, a folder or a dataset, see sources.py.
      format: a name of formats.py, `auto` or `module:function`.
      fields: `instruction=question,output=answer` where the columns have names of their own.
      split_turns: one example a trained turn, see `chat.split_turns`.
    """
    columns = parse_fields(fields)
    for row, origin in stream([spec]):
        example = to_example(row, origin, format=format, fields=columns)
        yield from chat.split_turns(example, train_on=train_on) if split_turns else (example,)


def prepare(config, tokenizer, seq_len: int, *, eval=False) -> Prepared:
    """Reads, renders and fits all examples.

    Args:
      config: the data section: train, eval, weights, format, fields, chat_template, train_on, split_turns,
        overlong.
      eval: reads `config.eval`, without weights.

    Raises:
      UserError: a source or a row that cannot be read or rendered, or a source with nothing to train on.
    """
    name = "eval" if eval else "train"
    specs = split_specs(config[name])
    if not specs:
        raise UserError(f"data: --config.data.{name} names no data")
    weights = None if eval else parse_weights(config.weights, specs)
    template = chat.load_template(config.chat_template, tokenizer=tokenizer) if config.chat_template else None
    render = partial(chat.render_all, tokenizer, train_on=config.train_on, chat_template=template)
    options = {key: config[key] for key in ("format", "fields", "split_turns", "train_on")}
    stats, sources = DataStats(), []
    for spec in specs:
        examples = load_examples(spec, **options)
        cut = partial(fit, seq_len=seq_len, policy=config.overlong, stats=stats)
        sources.append(_fill(examples, render, cut))
        if not len(sources[-1]):
            raise UserError(f"data: {spec} leaves nothing to train on. {summary(stats, name=name)}")
    return Prepared(tuple(sources), weights, stats)


def _fill(examples: Iterator[Example], render, cut) -> Documents:
    tokens, weights = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    while chunk := list(islice(examples, CHUNK)):
        kept = list(chain.from_iterable(map(cut, render(chunk))))
        tokens += [piece.tokens for piece in kept]
        weights += [piece.loss_weights for piece in kept]
    offsets = np.cumsum([len(piece) for piece in tokens], dtype=np.int64)
    return Documents(np.concatenate(tokens), np.concatenate(weights), offsets)


def batches(
    prepared: Prepared,
    *,
    seq_len: int,
    batch_size: int,
    seed=0,
    epochs=None,
    shuffle=True,
    packing=True,
    num_bins=64,
    process_index=0,
    process_count=1,
    prefetch=0,
    extras=None,
):
    """A grain IterDataset of batches: this process's `batch_size / process_count` rows of each.

    Args:
      epochs: how often as many documents are drawn as there are; a fraction will do, None is endless. The
        last batch is filled up with empty rows, so that no document is left out.
      shuffle: a new order each epoch, from `seed`; rows that are open together leave in any order.
      packing: several documents a row, or else one.
      num_bins: rows open at a time in packing; more of them pack tighter.
      prefetch: batches that a thread makes ahead; the state stays that of the batches taken.
      extras: name -> array [all tokens of all sources, ...], memory-mapped or not, of which a batch gets what belongs
        to its tokens, 0 in padding. Entry i is of token i and lies in its slot, as what it predicts does in targets.

    Documents with sides give batches with `sides`.
    """
    import grain

    if batch_size % process_count:
        raise UserError(f"data: batch_size={batch_size} does not divide among {process_count} processes")
    read, more = _reader(prepared, extras)

    draws = _draws(prepared, seed=seed, epochs=epochs, shuffle=shuffle)
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)  # a read is a slice of an array
    rows = draws.map(read).to_iter_dataset(options)
    if packing:
        rows = pack(rows, seq_len, num_bins=num_bins, shuffle=shuffle, seed=seed, more=more)
    else:
        rows = unpacked(rows, seq_len, more=more)
    share = batch_size // process_count
    mine = {"start": process_index * share, "stop": (process_index + 1) * share}
    stream = rows.batch(batch_size, batch_fn=partial(pad_batch, batch_size=batch_size, **mine))
    if extras:
        stream = stream.map(partial(gather, extras=dict(extras)))
    if prefetch:
        stream = grain.experimental.ThreadPrefetchIterDataset(stream, prefetch_buffer_size=prefetch)
    return stream


def _reader(prepared: Prepared, extras) -> tuple[Callable, tuple[str, ...]]:
    """`read(number) -> document`, and what documents hold besides tokens and weights."""
    sources = prepared.sources
    starts = list(accumulate((len(source) for source in sources), initial=0))
    tokens = list(accumulate((len(source.tokens) for source in sources), initial=0))
    for name, array in (extras or {}).items():
        if len(array) != tokens[-1]:
            raise UserError(f"data: {name} is of {len(array):,} tokens, and the data has {tokens[-1]:,}")
    sided = [source.sides is not None for source in sources]
    assert all(sided) or not any(sided), "all sources hold pairs, or none does"
    more = ("sides",) * any(sided) + ("index",) * bool(extras)

    def read(number):
        which = bisect_right(starts, number) - 1
        source, own = sources[which], number - starts[which]
        if not extras:
            return source[own]
        first, last = source.offsets[own : own + 2] + (tokens[which] + 1)
        return {**source[own], "index": np.arange(first, last, dtype=np.int64)}

    return read, more


def eval_batches(prepared: Prepared, *, seq_len: int, batch_size: int, **options):
    """Like `batches`, with each document once and in the order of the files."""
    return batches(prepared, seq_len=seq_len, batch_size=batch_size, epochs=1, shuffle=False, **options)


def count_steps(
    prepared: Prepared,
    *,
    seq_len: int,
    batch_size: int,
    epochs: float,
    seed=0,
    shuffle=True,
    packing=True,
    num_bins=64,
) -> int:
    """How many batches `batches` gives with these options, from the lengths of the documents alone."""
    draws = _draws(prepared, seed=seed, epochs=epochs, shuffle=shuffle)
    rows = len(draws)
    if packing:
        lengths = np.concatenate([np.diff(source.offsets) for source in prepared.sources]).tolist()
        rows = count_rows((lengths[draws[i]] for i in range(rows)), seq_len, num_bins)
    return -(-rows // batch_size)


def _draws(prepared: Prepared, *, seed: int, epochs: float | None, shuffle: bool):
    """A grain MapDataset of document numbers, counted through all sources, in the order of drawing."""
    import grain

    ends = list(accumulate((len(source) for source in prepared.sources), initial=0))
    edges = list(zip(ends[:-1], ends[1:], strict=True)) if prepared.weights else [(0, ends[-1])]
    parts = [grain.MapDataset.range(start, end) for start, end in edges]
    if shuffle:
        parts = [part.seed(seed).shuffle() for part in parts]
    parts = [part.repeat() for part in parts]
    draws = grain.MapDataset.mix(parts, weights=prepared.weights) if prepared.weights else parts[0]
    return draws if epochs is None else draws[: max(1, round(epochs * ends[-1]))]


def summary(stats: DataStats, *, name="data") -> str:
    """What happened to the data, in a line and one more for each thing that was left out."""
    share = stats.supervised_tokens / max(1, stats.tokens)
    lines = [f"{name}: {_examples(stats.examples)}, {stats.tokens:,} tokens, {share:.1%} trained"]
    for verb in ("dropped", "truncated"):
        count, lost = getattr(stats, f"{verb}_examples"), getattr(stats, f"{verb}_tokens")
        if count or lost:
            lines.append(f"{verb}: {_examples(count)}, {lost:,} tokens lost")
    if stats.split_examples:
        lines.append(f"split: {_examples(stats.split_examples)}")
    lines += [f"{note}: {count:,}" for note, count in sorted(stats.notes.items())]
    return "\n  ".join(lines)


def _examples(count: int) -> str:
    return f"{count:,} example{'s' * (count != 1)}"


def parse_fields(fields: str, *, name: str = "fields") -> dict[str, str]:
    """`instruction=question,output=answer` -> {"instruction": "question", "output": "answer"}; name: of the option."""
    pairs = [pair.partition("=") for pair in fields.split(",") if pair.strip()]
    if not all(left.strip() and right.strip() for left, _, right in pairs):
        such = "instruction=question,output=answer" if name == "fields" else "name=value,other=value"
        raise UserError(f"data: {name}={fields!r} is not a list such as {such}")
    return {left.strip(): right.strip() for left, _, right in pairs}


def parse_weights(weights: str, specs: list[str]) -> tuple[float, ...] | None:
    """`0.7,0.3` -> (0.7, 0.3), one for each source; the empty string -> None."""
    if not weights.strip():
        return None
    try:
        values = tuple(float(weight) for weight in weights.split(","))
    except ValueError:
        values = ()
    if len(values) != len(specs) or not all(0 < value < float("inf") for value in values):
        raise UserError(
            f"data: weights={weights!r} must be {len(specs)} positive numbers, one each of {', '.join(specs)}"
        )
    return values
