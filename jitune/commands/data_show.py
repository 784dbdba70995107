"""jitune data show: examples as the model sees them."""

from __future__ import annotations

from jitune.types import UserError


def add(commands) -> None:
    """jitune data show"""
    p = commands.add_parser("show", help="print examples as the model sees them, what is trained in colour")
    p.add_argument("source", metavar="FILE", help="files, directories or hub names, joined by commas")
    p.add_argument("--model", default="", metavar="DIR", help="whose tokenizer and chat template to use; without it "
                   "the words alone are shown")  # fmt: skip
    p.add_argument("--count", type=int, default=3)
    p.add_argument("--start", type=int, default=0, help="the first example, counted from 0")
    p.add_argument("--format", default="auto")
    p.add_argument("--fields", default="", help="instruction=question,output=answer")
    p.add_argument("--chat-template", default="", help="a jinja file, or chatml | alpaca")
    p.add_argument("--train-on", default="assistant", choices=("assistant", "last", "all"))
    p.add_argument("--split-turns", action="store_true")
    p.add_argument("--seq-len", type=int, default=None)
    p.add_argument("--overlong", default="truncate", choices=("truncate", "drop", "split"))
    p.set_defaults(run=run)


def run(a) -> None:
    """Prints examples."""
    from jitune.data.show import show
    from jitune.hub.tokenizer import load_tokenizer
    from jitune.hub.weights import resolve

    tokenizer = load_tokenizer(resolve(a.model)) if a.model else None
    if a.model and tokenizer is None:
        raise UserError(f"{a.model}: has no tokenizer")
    show(a.source, tokenizer, count=a.count, start=a.start, format=a.format, fields=a.fields,
         chat_template=a.chat_template, train_on=a.train_on, split_turns=a.split_turns, seq_len=a.seq_len,
         overlong=a.overlong)
