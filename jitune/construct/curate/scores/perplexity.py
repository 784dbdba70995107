"""Perplexity: how likely a model finds an answer after its instruction, or a text as a whole.

    measured = measure(open_scorer("models/small"), records, of="answer", prompt="chat")
    scores(measured)            # exp of the mean loss of a token

Text that no model expects (a broken encoding, a wrong language) has a high one, and text that repeats itself a very low
one: give a range. Numbers of different tokenizers are not comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jitune.construct.curate.scores.losses import COLUMNS, losses, nothing, unite
from jitune.construct.curate.scores.model import MESH, check_model, open_scorer
from jitune.construct.curate.scores.pick import Rule, check_rule, pick
from jitune.construct.curate.scores.texts import (
    NO_ANSWER,
    NO_INSTRUCTION,
    PROMPTS,
    REFUSED,
    TURNS,
    WHY,
    Texts,
    exchanges,
    name_of,
    write,
)
from jitune.construct.curate.stage import Choice
from jitune.data.record import Record
from jitune.data.record import turns as turns_of
from jitune.types import UserError

OF = ("answer", "text")
LENGTH = 1024


def measure(engine: Any, records: Sequence[Record], *, of: str = "answer", prompt: str = "plain", turns: str = "last",
            max_length: int = LENGTH) -> np.ndarray:  # fmt: skip
    """float32 [records, 6], see `losses.COLUMNS`; what stands there of the answer alone is 0.

    of: `answer`: the losses of the answer after what stands before it (nothing, where it is a text alone), written by
    `prompt` (plain | alpaca | chat) and `turns` (last | all), see `ifd`; or `text`: of all turns, with blank lines
    between them.
    """
    asked = [_texts(record, of, prompt, turns, engine.pretrained.tokenizer) for record in records]
    flat = [text for several in asked for text in several if isinstance(text, Texts)]
    rows = iter(losses(engine, flat, prompt=prompt, max_length=max_length, direct=False))
    found = [unite([next(rows) if isinstance(text, Texts) else nothing(text) for text in several]) for several in asked]
    return np.stack(found) if found else np.zeros((0, len(COLUMNS)), np.float32)


def scores(measured: Any) -> np.ndarray:
    """float64 [records]: perplexities of what was measured; NaN where there is none."""
    measured = np.asarray(measured, np.float64)
    return np.where(measured[:, 5] == 0, np.exp(measured[:, 0]), np.nan)


def build(*, model: Any = "", of: str = "answer", prompt: str = "plain", turns: str = "last", max_length: int = 0,
          min: float | None = None, max: float | None = None, top: int = 0, fraction: float = 0.0,
          best: str = "low", missing: str = "reject", dtype: str = "float32", mesh: Sequence[int] = MESH,
          batch_size: int = 256) -> Choice:  # fmt: skip
    """A Choice by perplexity, which it writes as `perplexity`, and `perplexity_cut`, tokens, where a text was cut.

    model: a path, loaded when it is first asked. of, prompt, turns: see `measure`. max_length: tokens, 0: 1024 or the
    model's context, what is less. min, max, top, fraction, best, missing: see `pick.Rule`.
    """
    for name, value, allowed in (("of", of, OF), ("prompt", prompt, PROMPTS), ("turns", turns, TURNS)):
        if value not in allowed:
            raise UserError(f"perplexity: {name}={value!r} is not one of {', '.join(allowed)}")
    check_model(model, "perplexity")
    rule = check_rule(Rule(min, max, top, fraction, best=best, missing=missing), "perplexity")

    def measured_of(records):
        engine = open_scorer(model, dtype=dtype, max_length=max_length, usual=LENGTH, mesh=mesh)
        return measure(engine, records, of=of, prompt=prompt, turns=turns, max_length=max_length or LENGTH)

    def choose(heads, measured):
        return pick(scores(measured), rule, "perplexity", [WHY[int(row[5])] for row in measured])

    def note(record, row):
        new = {"perplexity": float(scores([row])[0])} | ({"perplexity_cut": float(row[4])} if row[4] else {})
        return record if row[5] else replace(record, scores={**record.scores, **new})

    return Choice("perplexity", len(COLUMNS), measured_of, choose, note, batch_size)


def _texts(record: Record, of: str, prompt: str, turns: str, tokenizer: Any) -> list[Texts | int]:
    """What is scored of a record, or why it is not."""
    if of == "text":
        whole = "\n\n".join(text for _, text in turns_of(record))
        return [Texts(name_of(record), "", "", whole) if whole.strip() else NO_ANSWER]
    found: list[Texts | int] = []
    for one in exchanges(record, turns):
        alone = Texts(one.name, "", "", one.answer) if one.why == NO_INSTRUCTION else None
        found.append(alone or one.why or write(one, prompt, tokenizer) or REFUSED)
    return found
