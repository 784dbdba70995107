"""What an answer must not be: filters of curation over one prompt and one answer, with their reasons.

    check = checks("empty,encoding,repetition,refusal", option="config.respond.filters")
    check("Name a prime.", "I'm sorry, but I can't help with that.")     # Reject("refusal", ...)
    check("Name a prime.", "7")                                          # None
"""

from __future__ import annotations

from collections.abc import Callable

from jitune.construct.curate import table
from jitune.construct.curate.stage import Filter, Reject
from jitune.construct.curate.table import Spec
from jitune.data.record import Record
from jitune.types import UserError

USUAL = "empty,encoding,repetition,refusal"


def checks(names: str, *, option: str) -> Callable[[str, str], Reject | None]:
    """A function of a prompt and an answer that gives the first filter's Reject, or None.

    Raises:
      UserError: a stage that is not known, or one that looks at more than a record.
    """
    try:
        stages = [(name, table.build(Spec(name, target, table.options(target)))) for name, target in table.parse(names)]
    except UserError as error:
        raise UserError(str(error).replace("config.stages", option, 1)) from None
    for name, stage in stages:
        if not isinstance(stage, Filter):
            raise UserError(f"{option}={names}: {name} looks at more than one answer; name filters, such as {USUAL}")
    filters = [stage for _, stage in stages]

    def check(prompt: str, answer: str) -> Reject | None:
        said = ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})
        record = Record("answer", said)
        for one in filters:
            verdict = one.judge(record)
            if isinstance(verdict, Reject):
                return verdict
            record = verdict.record
        return None

    return check
