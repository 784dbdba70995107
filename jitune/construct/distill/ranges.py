"""What values the options of methods may have, told by their names; whatever is out of range is refused at once.

    check({"temperature": -1.0}, "respond")     # UserError: config.respond.temperature=-1.0 must be 0 or more
    check({"requests": 0}, "alpaca")            # UserError: config.alpaca.requests=0 must be at least 1

A method of one's own has the same names or others, which are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from jitune.types import UserError

LEAST_ONE = {"n", "step", "rounds", "turns", "requests", "in_context", "tasks", "instances", "patience", "scores"}
LEAST_NONE = {"count", "machine", "min_words", "max_words", "sorry_words", "top_k"}
SHARES = {"top_p"}


def check(options: Mapping[str, Any], section: str) -> None:
    """Raises UserError for a number that its option cannot have."""
    for name, value in options.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            rule = rule_of(name)
            if rule and not rule[0](value):
                raise UserError(f"config.{section}.{name}={value} must be {rule[1]}")


def rule_of(name: str) -> tuple[Callable[[float], bool], str] | None:
    """(test, in words) of an option; None where any number will do."""
    if name.endswith("temperature"):
        return lambda value: 0 <= value < math.inf, "0 or more"
    if name.endswith("penalty"):
        return math.isfinite, "a finite number"
    if name in SHARES:
        return lambda value: 0 < value <= 1, "above 0 and at most 1"
    if name.endswith("tokens") or name in LEAST_ONE:
        return lambda value: value >= 1, "at least 1"
    if name in LEAST_NONE:
        return lambda value: value >= 0, "0 or more"
    return None
