"""Interactive chat on the terminal: a line in, the answer as it is generated, the conversation kept.

    chat(pretrained, max_new_tokens=512, sampling=Sampling(temperature=0.7))

/reset forgets the conversation, /exit or Ctrl-D ends it, Ctrl-C stops an answer. Without a chat template
each line is a text of its own, which the model continues. Lines may be piped in: stdout then gets the
answers, and stderr everything else.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from jitune import limits
from jitune.generation.generate import stream
from jitune.generation.prompts import check_prompt, default_stop_ids, encode_prompt
from jitune.generation.sampling import GREEDY, Sampling
from jitune.types import Pretrained, UserError

HELP = "/reset forgets the conversation, /exit ends it; Ctrl-C stops an answer"


def chat(
    pretrained: Pretrained,
    *,
    max_new_tokens: int = 512,
    sampling: Sampling = GREEDY,
    stop_ids: Sequence[int] = (),
    stop_strings: Sequence[str] = (),
    chat_template: str | None = None,
    system: str = "",
    raw: bool = False,
    flow: Callable | None = None,
    **more,
) -> None:
    """Reads lines from stdin and answers them on stdout, until the input ends.

    stop_ids: besides the default ones. chat_template: Jinja source in place of the tokenizer's own. system: a
    first message. raw: continue each line as plain text, as is done where there is no chat template.
    flow: in the place of `generate.stream`. more: what it takes besides.
    """
    model, params, tokenizer, config = pretrained
    if tokenizer is None:
        raise UserError("chat: the model has no tokenizer")
    raw = raw or not (chat_template or tokenizer.chat_template)
    if raw and system:
        raise UserError("chat: a system message needs a chat template")
    stops = (*default_stop_ids(tokenizer, config, chat_template=chat_template), *stop_ids)

    def answer(row: dict):
        tokens = encode_prompt(tokenizer, row, chat_template=chat_template, where="chat")
        check_prompt(tokens, "chat", max_positions=config.max_positions, vocab_size=config.vocab_size,
                     more=limits.hint(config))
        return (flow or stream)(
            model, params, tokenizer, tokens, max_new_tokens=max_new_tokens, sampling=sampling,
            stop_ids=stops, stop_strings=stop_strings, max_positions=config.max_positions, **more,
        )  # fmt: skip

    console, notes = (Console(highlight=False, emoji=False, stderr=e) for e in (False, True))
    if sys.stdin.isatty():
        notes.print("each line is continued as it is, without a chat template." if raw else HELP, style="dim")
    first = [{"role": "system", "content": system}] if system else []
    messages = list(first)
    while (line := _ask(console, notes)) is not None and line.strip() not in ("/exit", "/quit"):
        if line.strip() == "/reset":
            messages = list(first)
        elif re.fullmatch(r"/\w+", line.strip()):
            notes.print(HELP, style="dim")
        elif line.strip():
            question = [*messages, {"role": "user", "content": line.strip()}]
            try:
                text = _show(console, answer({"prompt": line} if raw else {"messages": question}))
                messages = [*question, {"role": "assistant", "content": text}]
            except UserError as error:
                notes.print(f"{error}. /reset starts a new conversation", style="red", markup=False)


def _ask(console: Console, notes: Console) -> str | None:
    """The next line, or None at the end of the input."""
    while True:
        try:
            return console.input("[bold]> [/bold]") if sys.stdin.isatty() else input()
        except EOFError:
            return None
        except KeyboardInterrupt:
            notes.print(f"\n{HELP}", style="dim")


def _show(console: Console, pieces) -> str:
    """Prints an answer as it comes and returns it; Ctrl-C leaves it as far as it has come."""
    text = ""
    try:
        for piece in pieces:
            text += piece
            console.print(piece, end="", markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        console.print(" (stopped)", end="", style="dim")
    console.print()
    return text
