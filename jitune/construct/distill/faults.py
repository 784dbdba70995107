"""What is wrong with an answer, whoever asked for it: an answer in, a reason and a detail out, or None.

    fault(Lost("failed", "HTTP 500"))                   # ("failed", "HTTP 500")
    fault(Reply("The cat sat. " * 50, "stop"))          # ("repeats", "loop: ...")
    fault(Reply("I'm sorry, I can't do that.", "stop")) # ("refused", "I'm sorry, I can't do that.")
    fault(Reply("7", "stop"))                           # None

Refusals are known by the phrases of nineteen languages, repetition by the filter of curation.
"""

from __future__ import annotations

from jitune.construct.curate.filters import repetition
from jitune.data.record import Record
from jitune.evals.metrics import refusal
from jitune.generators.call import Lost, Reply

Fault = tuple[str, str]
_LOOPS = repetition.build()
SHOWN = 200  # characters of a text in a detail
LARGEST_SEED = 2**31 - 1


def fault(reply: Reply | Lost, *, cut: bool = True, refusals: bool = True, repeats: bool = True) -> Fault | None:
    """(reason, detail) of the first thing that is wrong, or None.

    Reasons: that of a Lost; cut_by_length; empty (no letter or digit); repeats; refused. cut, refusals, repeats:
    whether these three count.
    """
    if isinstance(reply, Lost):
        return reply.reason, reply.detail
    if cut and reply.finish_reason == "length":
        return "cut_by_length", f"after {reply.output_tokens or 'all'} tokens"
    if not any(character.isalnum() for character in reply.text):
        return "empty", repr(reply.text[:SHOWN])
    if repeats and (found := loops(reply.text)):
        return "repeats", found
    if refusals and refusal.classify(reply.text) == "full":
        return "refused", first_line(reply.text)
    return None


def loops(text: str) -> str:
    """How a text repeats itself, as the stage `repetition` of curation sees it; "" where it does not."""
    verdict = _LOOPS.judge(Record("", ({"role": "user", "content": "x"}, {"role": "assistant", "content": text})))
    return f"{verdict.reason}: {verdict.detail}"[:SHOWN] if hasattr(verdict, "reason") else ""


def first_line(text: str) -> str:
    """The first line with text, cut to what a detail shows."""
    return next(filter(None, map(str.strip, text.splitlines())), "")[:SHOWN]


def seed_of(seed: int, number: int) -> int:
    """A seed for the sample `number` of a run; runs of different seeds share few or none."""
    return (seed * 1_000_003 + number) % LARGEST_SEED
