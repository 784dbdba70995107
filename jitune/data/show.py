"""Examples as the model will see them: the rendered text, with what is trained in colour.

    show("data/alpaca.json", tokenizer, count=2)

Look at this before every first run: the role headers should be dim, the answers and their end-of-turn tokens
green. Without colour, in a pipe say, what is trained stands in [[double brackets]]. Files are read no further than
what is shown. Of a record, and of a row of preferences, the preferred answer is shown so, and below it the others and
where it comes from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from jitune.data import chat
from jitune.data.chat import colour, load_template, render_all, where
from jitune.data.formats import plain, renamed, to_example
from jitune.data.packing import fit
from jitune.data.pipeline import parse_fields, summary
from jitune.data.preferences import READERS
from jitune.data.record import Record
from jitune.data.record_rows import from_row, is_record
from jitune.data.show_record import clipped, details, preferred, spoken
from jitune.data.sources import split_specs
from jitune.data.streams import stream
from jitune.data.visible import visible
from jitune.types import DataStats, Example, UserError


def show(
    spec: str,
    tokenizer,
    *,
    count=3,
    start=0,
    format="auto",
    fields="",
    chat_template="",
    train_on="assistant",
    split_turns=False,
    seq_len=None,
    overlong="truncate",
    console=None,
) -> None:
    """Prints `count` examples from example `start` (counted from 0) on, then what they add up to.

    Args:
      spec: one source or several, separated by commas.
      tokenizer: None shows the words alone.
      seq_len: cut examples to this length as `overlong` says, as training would; None shows them whole.
      console: a `rich.console.Console`; standard output if None.

    Raises:
      UserError: as in `pipeline.prepare`, or when there is no such example.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console(highlight=False)
    marks = console.no_color or console.color_system is None
    template = load_template(chat_template, tokenizer=tokenizer) if chat_template else None
    found = _examples(split_specs(spec), format, parse_fields(fields), split_turns and train_on)
    chosen = list(islice(found, start, start + count))
    if not chosen:
        raise UserError(f"data: {spec} has no example {start + 1}")
    stats = DataStats()
    for example, record in chosen:
        if tokenizer is None or not _has_answer(example):
            console.print(Text(f"-- {where(example)}", "bold"), soft_wrap=True)
            lines = [*spoken(example.messages), *(f"  {clipped(piece)}" for piece, _ in example.text)]
            console.print(Text(visible("\n".join(lines))))
        else:
            (rendered,) = render_all(tokenizer, [example], train_on=train_on, chat_template=template)
            pieces = fit(rendered, seq_len or len(rendered.tokens), overlong, stats)
            _print_pieces(console, tokenizer, rendered, pieces, marks)
        console.print(Text(visible("\n".join(details(record) if record else []))))
    if stats.examples:
        console.print(_legend(marks))
        console.print(Text(summary(stats, name="shown")))


def _print_pieces(console, tokenizer, rendered, pieces, marks: bool) -> None:
    from rich.text import Text

    for number, piece in enumerate(pieces, 1):
        console.print(Text(_header(piece, number, len(pieces)), "bold"), soft_wrap=True)
        whole = colour(tokenizer, piece, marks=marks)
        # Whatever data hold, a terminal obeys none of it.
        console.print(Text.assemble(*((visible(whole.plain[s.start:s.end]), s.style) for s in whole.spans)))
    if not pieces:
        console.print(Text(f"-- {where(rendered)}: dropped", "bold"))


def _examples(specs: list[str], format: str, fields: dict, turns: str | bool) -> Iterator[tuple[Example, Record]]:
    """Every example and its record, or None; `turns`: what is trained, where each turn is an example."""
    for row, origin in stream(specs):
        record = from_row(row, origin) if format == "auto" and is_record(row) else None
        try:
            example = preferred(record) if record else to_example(row, origin, format=format, fields=fields)
        except UserError:
            record = _preference(row, origin, format, fields)
            if record is None:
                raise
            example = preferred(record)
        example = replace(example, origin=origin)
        for one in chat.split_turns(example, train_on=turns) if turns and _has_answer(example) else (example,):
            yield one, record


def _preference(row: dict, origin, format: str, fields: dict) -> Record | None:
    """The record of a row of preferences, as objectives that compare answers read it; None where it is none."""
    row = plain(renamed(row, fields) if fields else row)
    readers = (reader for name, reader in READERS.items() if format in ("auto", name) and reader.detects(row))
    found = [one for reader in islice(readers, 1) for one in reader.read(row, origin, Counter(), fields)]
    return next((one for one in found if isinstance(one, Record)), None)


def _has_answer(example: Example) -> bool:
    return bool(example.text) or any(message["role"] == "assistant" for message in example.messages)


def _header(piece, number: int, total: int) -> str:
    trained = int((piece.loss_weights[1:] != 0).sum())
    part = f", piece {number} of {total}" if total > 1 else ""
    notes = "".join(f", {note}" for note in piece.notes)
    return f"-- {where(piece)}: {len(piece.tokens):,} tokens, {trained:,} trained{part}{notes}"


def _legend(marks: bool):
    from rich.text import Text

    if marks:
        return Text("[[trained]], [[0.5:trained at this weight]], not trained")
    words = {"trained": "green underline", "trained at another weight": "yellow underline", "not": "dim"}
    return Text(", ").join(Text(word, style) for word, style in words.items())
