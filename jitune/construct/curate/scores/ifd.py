"""IFD, the instruction-following difficulty: how much of an answer's loss is left once its instruction is known.

    engine = open_scorer("models/small")
    measured = measure(engine, records)             # [records, 6], see `losses.COLUMNS`
    scores(measured, "ifd"), scores(measured, "ifd_ppl")

Two published numbers, which are not the same and are never mixed. With L the mean loss of the answer's tokens, in nats:

    ifd       L(answer | instruction) / L(answer)            Li et al. 2024, Cherry: prompt alpaca, 512 tokens
    ifd_ppl   exp(L(answer | instruction)) / exp(L(answer))  Li et al. 2024, Superfiltering: prompt plain, 1024 tokens

Above 1 the instruction makes the answer harder: such records are dropped, and the highest of the others are kept.
L = 1.0 and 2.0: ifd 0.5, ifd_ppl 0.37; L = 0.1 and 0.2: ifd 0.5 too, ifd_ppl 0.90.

With the prompts and lengths above the numbers are those of the authors' scripts for the same model, but for this: a
record whose prompt leaves no room has no score, where Superfiltering's script writes 0 (and Cherry's NaN); records of
exactly 1 are kept, as Cherry's script does, where Superfiltering's drops them; and a share of records to keep is one of
those that were not dropped, as in Cherry, unless of=all: of all records, as in Superfiltering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jitune.construct.curate.scores.losses import COLUMNS, losses, nothing, unite
from jitune.construct.curate.scores.model import MESH, check_model, open_scorer
from jitune.construct.curate.scores.pick import Rule, check_rule, pick
from jitune.construct.curate.scores.texts import PROMPTS, REFUSED, TURNS, WHY, exchanges, write, write_parts
from jitune.construct.curate.stage import Choice
from jitune.data.record import Record
from jitune.types import UserError

VARIANTS = {"ifd": ("alpaca", 512), "ifd_ppl": ("plain", 1024)}  # the prompt, and the tokens of prompt and answer


def measure(engine: Any, records: Sequence[Record], *, prompt: str = "alpaca", turns: str = "last",
            max_length: int = 512) -> np.ndarray:  # fmt: skip
    """float32 [records, 6], see `losses.COLUMNS`: both mean losses of each record's answer, in nats a token.

    turns: `last` answer, given everything before it; or `all`: the mean over the tokens of all answers, each given
    everything before it, of those that can be scored.
    """
    asked = [exchanges(record, turns) for record in records]
    flat = [one for several in asked for one in several if not one.why]
    texts = [write(one, prompt, engine.pretrained.tokenizer) for one in flat]
    rows = iter(losses(engine, [t for t in texts if t], prompt=prompt, max_length=max_length))
    given = iter([next(rows) if text else nothing(REFUSED) for text in texts])
    found = [unite([nothing(one.why) if one.why else next(given) for one in several]) for several in asked]
    return np.stack(found) if found else np.zeros((0, len(COLUMNS)), np.float32)


def measure_parts(engine: Any, rows: Sequence[tuple[str, str, str]], *, prompt: str = "alpaca",
                  max_length: int = 512) -> np.ndarray:  # fmt: skip
    """As `measure`, of (instruction, input, answer) as Alpaca's rows have them; input "" where there is none."""
    texts = [write_parts(*row, prompt, name=f"row {i}") for i, row in enumerate(rows, 1)]
    return losses(engine, texts, prompt=prompt, max_length=max_length)


def scores(measured: Any, variant: str) -> np.ndarray:
    """float64 [records]: `ifd` or `ifd_ppl` of what was measured; NaN where there is none. See the module."""
    conditional, direct, why = (np.asarray(measured, np.float64)[:, i] for i in (0, 1, 5))
    there = why == 0
    value = conditional / np.where(there, direct, 1) if variant == "ifd" else np.exp(conditional - direct)
    return np.where(there, value, np.nan)


def build(*, model: Any = "", variant: str = "ifd", prompt: str = "", turns: str = "last", max_length: int = 0,
          min: float | None = None, max: float | None = 1.0, top: int = 0, fraction: float = 0.0, of: str = "left",
          missing: str = "reject", dtype: str = "float32", mesh: Sequence[int] = MESH,
          batch_size: int = 256) -> Choice:  # fmt: skip
    """A Choice by IFD; it writes the score under the variant's name, both losses (`ifd_loss`, `ifd_loss_alone`), and
    `ifd_cut`, tokens, where an answer was cut.

    model: a path, loaded when it is first asked. variant: `ifd` or `ifd_ppl`, see the module. prompt: alpaca | plain |
    chat; "": the variant's own. turns: see `measure`. max_length: of prompt and answer, 0: the variant's own or the
    model's context, what is less. min, max, top, fraction, of, missing: see `pick.Rule`.
    """
    if variant not in VARIANTS:
        raise UserError(f"ifd: variant={variant!r} is not one of {', '.join(VARIANTS)}")
    prompt, usual = prompt or VARIANTS[variant][0], VARIANTS[variant][1]
    for name, value, allowed in (("prompt", prompt, PROMPTS), ("turns", turns, TURNS)):
        if value not in allowed:
            raise UserError(f"{variant}: {name}={value!r} is not one of {', '.join(allowed)}")
    check_model(model, variant)
    rule = check_rule(Rule(min, max, top, fraction, of, missing=missing), variant)

    def measured_of(records):
        engine = open_scorer(model, dtype=dtype, max_length=max_length, usual=usual, mesh=mesh)
        return measure(engine, records, prompt=prompt, turns=turns, max_length=max_length or usual)

    def choose(heads, measured):
        return pick(scores(measured, variant), rule, variant, [WHY[int(row[5])] for row in measured])

    def note(record, row):
        (score,) = scores([row], variant)
        new = {variant: score, f"{variant}_loss": row[0], f"{variant}_loss_alone": row[1]}
        new |= {f"{variant}_cut": row[4]} if row[4] else {}
        return record if row[5] else replace(record, scores={**record.scores, **{k: float(v) for k, v in new.items()}})

    return Choice(variant, len(COLUMNS), measured_of, choose, note, batch_size)


def build_ppl(**options: Any) -> Choice:
    """`build` of the variant `ifd_ppl`; its options are in `build_ppl.extra`, with their defaults."""
    return build(**{"variant": "ifd_ppl", **options})


build_ppl.extra = {**build.__kwdefaults__, "variant": "ifd_ppl"}
