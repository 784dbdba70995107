"""A generator that plays back: a function of a call, for tests, or a file of what was recorded.

    g = Replay(lambda call: "4" if "2 + 2" in str(call.prompt) else "I cannot tell.")
    g.answer([Call("2 + 2 =")])        # [Reply("4", "stop", ...)]
    g.asked                            # every call that was answered, in order
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jitune.generators.call import Call, Lost, Reply


class Replay:
    """See `call.Generator`. answer_one: `(call) -> text, Reply or Lost`."""

    raw = True

    def __init__(self, answer_one: Callable[[Call], str | Reply | Lost], *, name: str = "replay"):
        self.answer_one, self.identity = answer_one, {"kind": "replay", "model": name}
        self.asked: list[Call] = []

    @property
    def account(self) -> dict[str, Any]:
        """How often it was asked."""
        return {"model": self.identity["model"], "calls": len(self.asked)}

    def answer(self, calls: Sequence[Call], on_done=None) -> list[Reply | Lost]:
        """Answers in order."""
        found = []
        for i, call in enumerate(calls):
            self.asked.append(call)
            said = self.answer_one(call)
            found.append(Reply(said, "stop", None, len(said.split())) if isinstance(said, str) else said)
            if on_done:
                on_done([(i, found[-1])])
        return found

    def close(self) -> None:
        """Nothing is open."""
