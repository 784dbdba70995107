"""Examples as the model will see them: the rendered text, with what is trained in colour.

    show("data/alpaca.json", tokenizer, count=2)

Look at this before every first run: the role headers should be dim, the answers and their end-of-turn tokens
green. Without colour, in a pipe say, what is trained stands in [[double brackets]].
"""

from __future__ import annotations

from itertools import chain, islice

from jitune.data.chat import colour, load_template, render_all, where
from jitune.data.packing import fit
from jitune.data.pipeline import load_examples, summary
from jitune.data.sources import split_specs
from jitune.types import DataStats, UserError


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
    given = {"format": format, "fields": fields, "train_on": train_on, "split_turns": split_turns}
    examples = chain.from_iterable(load_examples(one, **given) for one in split_specs(spec))
    chosen = list(islice(examples, start, start + count))
    if not chosen:
        raise UserError(f"data: {spec} has no example {start + 1}")
    stats = DataStats()
    for rendered in render_all(tokenizer, chosen, train_on=train_on, chat_template=template):
        pieces = fit(rendered, seq_len or len(rendered.tokens), overlong, stats)
        for number, piece in enumerate(pieces, 1):
            console.print(Text(_header(piece, number, len(pieces)), "bold"), soft_wrap=True)
            console.print(colour(tokenizer, piece, marks=marks))
            console.print()
        if not pieces:
            console.print(Text(f"-- {where(rendered)}: dropped\n", "bold"))
    console.print(_legend(marks))
    console.print(Text(summary(stats, name="shown")))


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
