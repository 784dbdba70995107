"""What methods ask through: a generator whose answers are looked at on their way.

    ask = Asking(generator)
    ask([call])         # [Reply]; what no file can hold comes as Lost("encoding", ...)
    ask.why             # "the budget is spent": asking on is of no use
"""

from __future__ import annotations

from collections.abc import Sequence

from jitune.generators.call import Call, Generator, Lost, Reply

IN_A_ROW = 10  # calls that fail one after the other, after which a run stops
BUDGET, FAILED = "budget", "failed"


class Asking:
    """Asks a generator.

    A model of one's own fails by the call, such as one that its template refuses, and would again; an endpoint may be
    down.

    Attributes:
      why: why no more will be answered, or "".
    """

    def __init__(self, generator: Generator):
        self.generator, self.why, self.row = generator, "", 0

    def __call__(self, calls: Sequence[Call]) -> list[Reply | Lost]:
        calls = list(calls)
        if not calls:
            return []
        return [self._looked_at(one) for one in self.generator.answer(calls)]

    def _looked_at(self, one: Reply | Lost) -> Reply | Lost:
        failed = isinstance(one, Lost) and one.reason == FAILED and self.generator.identity.get("kind") != "local"
        self.row = self.row + 1 if failed else 0
        if failed and self.row >= IN_A_ROW and not self.why:
            self.why = f"{self.row} calls failed in a row; the last: {one.detail}"
        if isinstance(one, Lost) and one.reason == BUDGET and not self.why:
            self.why = "the budget is spent"
        if isinstance(one, Reply):
            try:
                one.text.encode()
            except UnicodeEncodeError:
                return Lost("encoding", "holds half of a surrogate pair")
        return one
