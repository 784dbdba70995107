"""Alpaca's way (Taori et al. 2023): a call shows 3 seed tasks and asks for 20, each with its input and output.

    config.method, config.alpaca.count = "alpaca", 1000      # config.input: the seed tasks

Seeds alone are shown, never what was made. An instruction passes the filters of `instructions`, with more words that
name what a text cannot hold, and is not over 0.7 in ROUGE-L with any before it; one instance comes with it. Of a
response that ends by its length the last task goes, the others stay. Defaults are the parameters of the released code;
the wording of the prompt is ours, and that a task without an output is rejected.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jitune.construct.distill import growing, seeds, templates, texts
from jitune.construct.distill.instructions import ALPACA
from jitune.construct.distill.method import Given, Rejected, Step
from jitune.data.record import Record, changed
from jitune.generators.call import Call, Lost, provenance

WHAT = "alpaca"
total = growing.total
NO_INPUT = "<noinput>"


def defaults() -> dict[str, Any]:
    """The section `alpaca`: the released code's values."""
    return {
        **growing.defaults(),
        "in_context": 3,  # seed tasks that a call shows
        "tasks": 20,  # that a call asks for, with those that it shows
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 3072,
        "stop": r"\n20,20.",  # of a text that is continued; a chat model has none
        "language": "",  # of the tasks; "": English where policy is english, else that of the seeds
        "blacklist": ",".join(ALPACA),
    }


class Written(NamedTuple):
    """A task out of a model's text; problem: (reason, detail) of one that cannot be read."""

    instruction: str
    input: str = ""
    output: str = ""
    problem: tuple[str, str] | None = None


def run(given: Given) -> Iterator[Step]:
    """See the module's docstring."""
    start = growing.begin(given, WHAT)
    yield from growing.grow(given, start.made, lambda numbers: asked(given, start, numbers))


def asked(given: Given, start: growing.Start, numbers: range) -> tuple[list[Record], list[Rejected], list[str]]:
    """What requests bring: records, rejections, and the instructions that were taken."""
    drawn = [random.Random(f"{given.seed}:{number}").sample(start.tasks, given.options.in_context)
             for number in numbers]
    calls = [call_of(given, some, number, start.chat) for some, number in zip(drawn, numbers, strict=True)]
    kept, rejected, new = [], [], []
    for number, some, call, reply in zip(numbers, drawn, calls, given.ask(calls), strict=True):
        source = f"request {number}"
        if isinstance(reply, Lost):
            rejected.append(Rejected(reply.reason, reply.detail, source))
            continue
        made = changed(provenance(given.generator.identity, call, method=WHAT, parents=[t.ids[0] for t in some]),
                       steps=(WHAT,))
        for one in written(reply.text, shown=len(some), cut=reply.finish_reason == "length"):
            found = one.problem or start.gate.refuses(one.instruction)
            text = f"{seeds.message(one.instruction, one.input)}\n\n{one.output}".strip()
            if found:
                rejected.append(Rejected(*found, source, text))
                continue
            new.append(one.instruction)
            prompt = seeds.message(one.instruction, one.input)
            record = seeds.record(one.instruction, seeds.Instance(one.input, one.output), made)
            bad = start.check(prompt, one.output)
            if not one.output:
                rejected.append(Rejected("empty_output", one.instruction, source, text))
            elif bad:
                rejected.append(Rejected(bad.reason, bad.detail, source, one.output, record))
            else:
                kept.append(record)
    return kept, rejected, new


def call_of(given: Given, tasks: Sequence[seeds.Task], number: int, chat: bool) -> Call:
    """The call of a request."""
    o = given.options
    language = f"They are written in {o.language}." if o.language else (
        "They are written in English." if o.policy == "english" else
        "They are written in the language of the tasks that the list begins with.")
    shown = [(task.instruction, *task.instances[0]) for task in tasks]
    return Call(templates.alpaca(shown, count=o.tasks, language=language, chat=chat), o.max_tokens, o.temperature,
                o.top_p, stop=() if chat else texts.words(o.stop), seed=given.seed + number)


def written(text: str, *, shown: int, cut: bool) -> Iterator[Written]:
    """The tasks of a text that goes on behind the number of the next task; `shown` came before it.

    As the released code reads them: between ###, each under its own number; of a text that was cut the last one goes.
    """
    # A chat model writes the number once more, maybe after a few words of its own.
    begins = re.search(rf"(?<!\d){shown + 1}\.\s+(Instruction|Input):", text)
    again = begins and begins[1] == "Instruction"
    text = text[begins.start():] if again else f"{shown + 1}. Instruction:{text}"
    pieces = text.strip().split("###")
    for number, piece in enumerate(pieces, shown + 1):
        if cut and number == shown + len(pieces):
            yield Written("", problem=("cut", "the last task, where the text reached max_tokens"), output=piece.strip())
            return
        parts = re.split(rf"{number}\.\s+(?:Instruction|Input|Output):", piece)
        if len(parts) != 4:
            if piece.strip():
                yield Written("", problem=("unreadable", f"task {number} has not instruction, input and output, each "
                                           "under its number"), output=piece.strip())
            continue
        instruction, given, output = map(str.strip, parts[1:])
        yield Written(instruction, "" if given.lower() == NO_INPUT else given, output)
