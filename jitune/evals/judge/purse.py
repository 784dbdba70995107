"""What judging costs: tokens, prices, and a cap that is kept while calls run beside each other.

    purse = Purse(prices=(2.5, 10.0), budget=1.0)   # dollars, or what else, for a million tokens in and out
    if purse.reserve(1200, 512):                    # False where the cap could be passed
        purse.settle(1200, 512, used=(1187, 90))    # what was really used
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from jitune.types import UserError

BYTES_A_TOKEN = 4


def count_tokens(messages: Sequence[tuple[str, str]]) -> int:
    """About how many tokens a conversation has: four bytes of UTF-8 each, and four tokens a message."""
    return sum(4 + -(-len(content.encode()) // BYTES_A_TOKEN) for _, content in messages)


class Purse:
    """Counts of tokens and of money; safe for threads.

    prices: for a million tokens of input and of output; None: not known. budget: what may be spent; None: no cap.
    """

    def __init__(self, prices: tuple[float, float] | None = None, budget: float | None = None):
        if budget is not None and prices is None:
            raise UserError("--judge_budget: needs the prices, as in --judge_prices 2.5,10 (for a million tokens of "
                            "input, of output)")
        if budget is not None and not budget >= 0 or prices is not None and not min(prices) >= 0:
            raise UserError("the judge's budget and prices must be 0 or more")
        self.prices, self.budget, self.lock = prices, budget, threading.Lock()
        self.input_tokens = self.output_tokens = self.uncounted = 0
        self.reserved = 0.0

    def cost(self, input_tokens: float, output_tokens: float) -> float | None:
        """Of so many tokens; None where no prices are known."""
        if self.prices is None:
            return None
        return (input_tokens * self.prices[0] + output_tokens * self.prices[1]) / 1e6

    @property
    def spent(self) -> float | None:
        """So far; None where no prices are known."""
        return self.cost(self.input_tokens, self.output_tokens)

    def reserve(self, input_tokens: int, output_tokens: int) -> bool:
        """Whether a call of at most so many tokens fits into the budget; what it may cost is then set aside."""
        with self.lock:
            cost = self.cost(input_tokens, output_tokens) or 0.0
            if self.budget is not None and self.spent + self.reserved + cost > self.budget:
                return False
            self.reserved += cost
            return True

    def settle(self, input_tokens: int, output_tokens: int, *, used: tuple[int | None, int | None] | None) -> None:
        """After a call for which these were reserved. used: what was counted, None for what was not; None: no call."""
        with self.lock:
            self.reserved -= self.cost(input_tokens, output_tokens) or 0.0
            if used is not None:
                self.uncounted += None in used
                self.input_tokens += input_tokens if used[0] is None else used[0]
                self.output_tokens += output_tokens if used[1] is None else used[1]
