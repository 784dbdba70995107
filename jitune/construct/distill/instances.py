"""Instances of a task out of a model's text, with Self-Instruct's rules of what is dropped.

    found = instances("Example 1\\nInput: 2, 3\\nOutput: 5", classification=False, cut=False)
    found.kept          # [Instance("2, 3", "5")]
    found.dropped       # []: (reason, detail, text) each

The rules are those of the released code, in its order: of a text that was cut the last instance goes; then instances
whose input is their output, those without an output, and those of which either side ends in a colon; if what is left
gives one input two outputs, all of it goes; and equal instances are one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from jitune.construct.distill.seeds import Instance

EXAMPLE = re.compile(r"Example\s?\d*\.?")
OUTPUT = re.compile(r"Output\s*\d*\s*:")
INPUT = re.compile(r"Input\s*\d*\s*:")
LABEL = "Class label:"


class Found(NamedTuple):
    """kept: in order. dropped: (reason, detail, text of the instance)."""

    kept: list[Instance]
    dropped: list[tuple[str, str, str]]


def instances(text: str, *, classification: bool, cut: bool) -> Found:
    """What a text holds. cut: it ended by its length."""
    found = labelled(text) if classification else exemplified(text)
    if not found:
        return Found([], [("no_instance", "nothing that could be read as an instance", text)])
    dropped = []
    if cut:
        dropped.append(("cut", "the last instance, where the text reached max_tokens", shown(found.pop())))
    found, more = valid(found)
    return unique(found, dropped + more)


def labelled(text: str) -> list[Instance]:
    """Output first: each class label, and below it an input."""
    found = []
    for piece in text.split(LABEL)[1:]:
        label, _, given = piece.strip().partition("\n")
        found.append(Instance(given.strip(), label.strip()))
    return found


def exemplified(text: str) -> list[Instance]:
    """Input first: examples by their numbers, or one without."""
    text = text.strip()
    if EXAMPLE.search(text):
        return [sides(piece) for piece in map(str.strip, EXAMPLE.split(text)) if piece]
    return [sides(text)] if OUTPUT.search(text) else []


def sides(text: str) -> Instance:
    """Input and output of one example; without the word Output all of it is the output."""
    pieces = OUTPUT.split(text)
    given, output = (pieces[0].strip(), pieces[1].strip()) if len(pieces) > 1 else ("", text.strip())
    output = INPUT.split(output)[0].strip()  # where another pair follows
    return Instance(re.sub(rf"^{INPUT.pattern}", "", given).strip(), output)


def valid(found: list[Instance]) -> tuple[list[Instance], list[tuple[str, str, str]]]:
    """Instances that can be right, and why others cannot."""
    kept, dropped = [], []
    for one in found:
        if one.input == one.output:
            dropped.append(("same_as_input" if one.output else "empty_output", "", shown(one)))
        elif not one.output:
            dropped.append(("empty_output", "", shown(one)))
        elif one.input.endswith(":") or one.output.endswith(":"):
            dropped.append(("colon", "the input or the output ends with a colon", shown(one)))
        else:
            kept.append(one)
    return kept, dropped


def unique(found: list[Instance], dropped: list[tuple[str, str, str]]) -> Found:
    """Each instance once; none where one input has two outputs."""
    outputs: dict[str, str] = {}
    for one in found:
        if one.input and outputs.setdefault(one.input, one.output) != one.output:
            why = f"one input, two outputs: {one.output[:80]!r} and {outputs[one.input][:80]!r}"
            return Found([], [*dropped, *(("conflicting", why, shown(other)) for other in found)])
    once = list(dict.fromkeys(found))
    again = len(found) - len(once)
    return Found(once, [*dropped, *[("repeated", "the same instance again", "")] * again])


def shown(one: Instance) -> str:
    """An instance as text."""
    return f"Input: {one.input}\nOutput: {one.output}"
