"""The accepted fraction: Q_manual = (1/N) sum I[judge(x_i, y_i) >= tau], where people are the judge.

    parse(">=4", ["1", "2", "3", "4", "5"])   # [False, False, False, True, True]
    parse("good,great", ["poor", "good", "great"])     # [False, True, True]
    parse(">=good", ["poor", "good", "great"])         # the same, by the order of the scale
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from jitune.construct.agreement.labels import value_of
from jitune.evals.stats import mean_interval
from jitune.types import UserError

COMPARE = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


class Rule:
    """What is accepted: "tau" and beyond, or some labels."""

    def __init__(self, text: str):
        match = re.fullmatch(r"\s*(>=|<=|>|<)\s*(.+?)\s*", text)
        self.text, self.sign, self.end = text, match[1] if match else "", match[2] if match else ""
        self.labels = () if match else tuple(part.strip() for part in text.split(",") if part.strip())
        if not match and not self.labels:
            raise UserError(f"--accept {text!r}: a bound such as '>=4' or labels joined by commas are needed")

    def of(self, labels: Sequence[str], *, ordered: bool) -> list[bool]:
        """Whether each label is accepted.

        Args:
          labels: in the order of the scale.
          ordered: the scale has an order, so that a label may be the bound.

        Raises:
          UserError: the bound is no number and not on an ordered scale, or a label is not on the scale.
        """
        if not self.sign:
            strange = [label for label in self.labels if label not in labels]
            if strange:
                raise UserError(f"--accept: {strange[0]!r:.60} is none of the labels: {', '.join(labels)}")
            return [label in self.labels for label in labels]
        compare, values = COMPARE[self.sign], [value_of(label) for label in labels]
        if value_of(self.end) is not None and None not in values:
            return [compare(value, value_of(self.end)) for value in values]
        if ordered and self.end in labels:
            return [compare(place, list(labels).index(self.end)) for place in range(len(labels))]
        raise UserError(f"--accept {self.text}: the labels are not all numbers, and {self.end!r:.60} is not on an "
                        f"ordered scale (--scale gives one); the labels are {', '.join(labels)}")

    def number(self, value: float) -> bool | None:
        """Whether a mean of numbers is accepted; None where the rule is of labels."""
        bound = value_of(self.end) if self.sign else None
        return None if bound is None else bool(COMPARE[self.sign](value, bound))


def parse(text: str, labels: Sequence[str], *, ordered: bool = True) -> list[bool]:
    """Whether each label is accepted; see `Rule.of`."""
    return Rule(text).of(labels, ordered=ordered)


def fraction(accepted: Sequence[bool | None], clusters: Sequence[str] | None = None) -> dict[str, Any]:
    """The share of what is accepted, with an interval: Wilson's, or of clusters where items are not independent.

    accepted: None is undecided, counted and left out.
    """
    kept = [i for i, a in enumerate(accepted) if a is not None]
    found = mean_interval(np.array([float(accepted[i]) for i in kept]),
                          None if clusters is None else [clusters[i] for i in kept], bounds=(0.0, 1.0))
    return {**found._asdict(), "undecided": len(accepted) - len(kept)}
