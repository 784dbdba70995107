"""Constraints that a program can check, as IFEval has them. In: a record that names them, an answer. Out: a verdict.

    record.meta     # {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    build()(record, "Red, green.")     # Checked(False, "not followed: punctuation:no_comma")

True where all of them are followed, strictly or, with `loose`, in one of eight readings (`evals.tasks.ifeval`). The
keys `instructions` and `arguments` mean the same. A constraint that does not exist, or has other arguments, is None.
"""

from __future__ import annotations

from jitune.construct.verify.verifier import Checked, Verifier
from jitune.data.record import Record
from jitune.evals.instructions import table
from jitune.evals.tasks import ifeval
from jitune.types import UserError


def build(*, loose: bool = False, languages: str = "") -> Verifier:
    """The verifier. languages: `module:NAME` of Languages of one's own, joined by commas, beside en, es, fr and ja."""
    known = table.known(languages)

    def verify(record: Record, text: str) -> Checked:
        names = record.meta.get("instruction_id_list", record.meta.get("instructions"))
        given = record.meta.get("kwargs", record.meta.get("arguments"))
        if not names or not isinstance(names, (list, tuple)):
            return Checked(None, "the record has no constraints: meta lacks instruction_id_list")
        given = [{}] * len(names) if given is None else given
        if len(given) != len(names) or not all(isinstance(one or {}, dict) for one in given):
            return Checked(None, f"{len(names)} constraints need as many objects of arguments (kwargs)")
        row = {"instructions": names, "arguments": [one or {} for one in given]}
        try:
            followed = ifeval.follow(row, text, languages=known)[int(loose)]
        except UserError as error:
            return Checked(None, str(error))
        missed = [name for name, kept in zip(names, followed, strict=True) if not kept]
        return Checked(not missed, f"not followed: {', '.join(missed)}" if missed else "")

    return verify
