"""What calls cost: tokens, prices, and a cap that is kept while calls run beside each other.

    purse = Purse(prices=(2.5, 10.0), budget=1.0)   # dollars, or what else, for a million tokens in and out
    if purse.reserve(1200, 512):                    # False where the cap could be passed
        purse.settle(1200, 512, used=(1187, 90))    # what was really used
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

from jitune.generators.call import Call
from jitune.types import UserError

BYTES_A_TOKEN = 4


def count_tokens(prompt: str | Sequence[tuple[str, str]]) -> int:
    """About how many tokens a prompt has: four bytes of UTF-8 each, and four tokens a message."""
    if isinstance(prompt, str):
        return -(-len(prompt.encode()) // BYTES_A_TOKEN)
    return sum(4 + -(-len(content.encode()) // BYTES_A_TOKEN) for _, content in prompt)


class Purse:
    """Counts of tokens and of money; safe for threads.

    prices: for a million tokens of input and of output; None: not known. budget: what may be spent; None: no cap.
    tokens: how many may be used, in and out together; 0: no cap. earlier, earlier_tokens: what is gone already.
    longest: tokens of an answer, where something else than the calls says how many they may be.
    """

    def __init__(self, prices: tuple[float, float] | None = None, budget: float | None = None, *, tokens: int = 0,
                 longest: int = 0):
        if budget is not None and budget >= 0 and prices is None:
            raise UserError("a budget needs the prices, as in prices=2.5,10 (for a million tokens of input, of output)")
        for name, value in (("budget", budget or 0.0), ("token_budget", tokens), *(("price", p) for p in prices or ())):
            if not 0 <= value < math.inf:
                raise UserError(f"a {name} must be 0 or more; it is {value:g}")
        self.prices, self.budget, self.tokens, self.longest = prices, budget, tokens, longest
        self.settled = threading.Condition()
        self.input_tokens = self.output_tokens = self.uncounted = self.retries = 0
        self.reserved = [0, 0]
        self.earlier, self.earlier_tokens = 0.0, 0
        # How many times as many tokens as by `count_tokens` a prompt turned out to have, at most.
        self.stretch = 1.0

    def cost(self, input_tokens: float, output_tokens: float) -> float | None:
        """Of so many tokens; None where no prices are known."""
        if self.prices is None:
            return None
        return (input_tokens * self.prices[0] + output_tokens * self.prices[1]) / 1e6

    @property
    def spent(self) -> float | None:
        """Since it was opened; None where no prices are known."""
        return self.cost(self.input_tokens, self.output_tokens)

    def expected(self, call: Call) -> tuple[int, int]:
        """About how many tokens go in, and at most how many come out."""
        return count_tokens(call.prompt), 1 if call.options else self.longest or call.max_tokens

    def reserve(self, input_tokens: int, output_tokens: int, *, wait: bool = True) -> bool:
        """Whether a call of at most so many tokens fits into the budget; what it may cost is then set aside.

        wait: where it would fit but for what is set aside for other calls, they are waited for. They often take less.
        """
        with self.settled:
            while True:
                if not self._fits(input_tokens, output_tokens):
                    return False
                if self._fits(input_tokens + self.reserved[0], output_tokens + self.reserved[1]):
                    self._set_aside(input_tokens, output_tokens, 1)
                    return True
                if not wait:
                    return False
                self.settled.wait(1.0)

    def settle(self, input_tokens: int, output_tokens: int, *, used: tuple[int | None, int | None] | None) -> None:
        """After a call for which these were reserved. used: what was counted, None for what was not; None: no call."""
        with self.settled:
            self._set_aside(input_tokens, output_tokens, -1)
            if used is not None:
                self.uncounted += None in used
                self.input_tokens += input_tokens if used[0] is None else used[0]
                self.output_tokens += output_tokens if used[1] is None else used[1]
                if used[0] is not None and used[0] > input_tokens > 0:
                    self.stretch = max(self.stretch, used[0] / input_tokens)
            self.settled.notify_all()

    def tried_again(self) -> None:
        """Counts a retry."""
        with self.settled:
            self.retries += 1

    def _set_aside(self, input_tokens: int, output_tokens: int, sign: int) -> None:
        self.reserved[0] += sign * input_tokens
        self.reserved[1] += sign * output_tokens

    def _fits(self, input_tokens: int, output_tokens: int) -> bool:
        """Whether so many tokens, besides all that is gone, are within the caps."""
        total = self.input_tokens + math.ceil(input_tokens * self.stretch), self.output_tokens + output_tokens
        if self.tokens and self.earlier_tokens + sum(total) > self.tokens:
            return False
        return self.budget is None or self.earlier + self.cost(*total) <= self.budget
