"""A score of one's own: any function from records to numbers.

    # lengths.py
    def letters(records): return [len(answer(r)) for r in records]

    stage = build(function="lengths:letters", min=20, top=1000)

The function is given a list of records and returns one number each, or None where a record has no score. It must be
pure and look at each record alone: what it gave is kept on disk, and batches may come in any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from jitune.construct.curate.scores.model import load_function
from jitune.construct.curate.scores.pick import Rule, check_rule, pick
from jitune.construct.curate.scores.texts import name_of
from jitune.construct.curate.stage import Choice
from jitune.data.record import Record
from jitune.types import UserError


def measure(function: Callable, records: Sequence[Record], name: str) -> np.ndarray:
    """float32 [records, 2]: the function's numbers, and 1 where there is none.

    Raises UserError, naming the record, for what is no number or is not finite.
    """
    values = list(function(list(records)))
    if len(values) != len(records):
        raise UserError(f"{name}: gave {len(values)} scores for {len(records)} records; one each is needed")
    found = np.zeros((len(records), 2), np.float32)
    for i, value in enumerate(values):
        try:
            found[i] = (0, 1) if value is None else (value, 0)
        except (TypeError, ValueError):
            found[i] = math.nan
        if not np.isfinite(found[i, 0]):
            raise UserError(f"{name}: the score of {name_of(records[i])} is {value!r:.60}; a finite number is needed, "
                            "or None where there is none")  # fmt: skip
    return found


def build(*, function: str = "", name: str = "", min: float | None = None, max: float | None = None, top: int = 0,
          fraction: float = 0.0, of: str = "left", best: str = "high", missing: str = "reject",
          batch_size: int = 256) -> Choice:  # fmt: skip
    """A Choice by a function's score.

    function: `module:function`. name: of the score, by default the function's. min, max, top, fraction, of, best,
    missing: see `pick.Rule`.
    """
    if ":" not in function:
        raise UserError(f"score: function={function!r} must be module:function, from a list of records to numbers")
    name = name or function.rpartition(":")[2]
    scorer = load_function(function, "score")
    rule = check_rule(Rule(min, max, top, fraction, of, best, missing), f"score {name}")

    def choose(heads, measured):
        values = [math.nan if missing_ else value for value, missing_ in measured]
        return pick(values, rule, name, ["the function gave none"] * len(values))

    def note(record, row):
        return record if row[1] else replace(record, scores={**record.scores, name: float(row[0])})

    return Choice(name, 2, lambda records: measure(scorer, records, name), choose, note, batch_size)
