"""What is wrong with an answer, whoever asked for it: an answer in, a reason and a detail out, or None.

    check = checks.checks(checks.USUAL, option="config.magpie.filters")
    fault(Lost("failed", "HTTP 500"), check)                    # ("failed", "HTTP 500")
    fault(Reply("The cat sat. " * 50, "stop"), check)           # ("loop", '"The cat sat. " 50 times at the end')
    fault(Reply("I'm sorry, I can't do that.", "stop"), check)  # ("refusal", ...)
    fault(Reply("7", "stop"), check)                            # None
"""

from __future__ import annotations

from collections.abc import Callable

from jitune.construct.curate.stage import Reject
from jitune.generators.call import Lost, Reply

Fault = tuple[str, str]
SHOWN = 200  # characters of a text in a detail
LARGEST_SEED = 2**31 - 1


def fault(reply: Reply | Lost, check: Callable[[str, str], Reject | None], *, prompt: str = "-") -> Fault | None:
    """(reason, detail) of the first thing that is wrong, or None.

    The reason is that of a Lost; cut, of an answer that its length ended; a filter's; or empty_answer, whatever the
    filters. check: of `checks.checks`.
    """
    if isinstance(reply, Lost):
        return reply.reason, reply.detail
    if reply.finish_reason == "length":
        return "cut", f"after {reply.output_tokens or 'all'} tokens"
    found = check(prompt, reply.text)
    if found:
        return found.reason, found.detail
    return None if reply.text.strip() else ("empty_answer", "no text")


def text_of(reply: Reply | Lost | None) -> str:
    """What was said, or ""."""
    return reply.text if isinstance(reply, Reply) else ""


def first_line(text: str) -> str:
    """The first line with text, cut to what a detail shows."""
    return next(filter(None, map(str.strip, text.splitlines())), "")[:SHOWN]


def seed_of(seed: int, number: int) -> int:
    """A seed for the sample `number` of a run; runs of different seeds share few or none."""
    return (seed * 1_000_003 + number) % LARGEST_SEED
