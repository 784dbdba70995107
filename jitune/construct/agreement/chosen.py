"""What a command line says of one question or of all: words in, what holds for each question out.

    said = by_question(["ordinal", "tone=nominal"], "--level")      # {"": "ordinal", "tone": "nominal"}
    rules = by_rule([">=4", "tone=good,great"])                     # {"": Rule(">=4"), "tone": Rule("good,great")}
    found, not_applied = study_all(tables, levels=said, rules=rules, scales={})
    not_applied                                                     # {"--accept >=4": ["correction", "flags"]}

What is said of all questions holds where it can be applied, such as a bound where labels are numbers; the other
questions are named. What is said of one must be applicable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jitune.construct.agreement.accepted import Rule
from jitune.construct.agreement.labels import Table
from jitune.construct.agreement.study import check_level, study
from jitune.types import UserError

LEVEL = "nominal"


def by_question(given: Sequence[str], option: str) -> dict[str, str]:
    """{"" or a question: what is said}: ["a,b", "truth=yes,no"] -> {"": "a,b", "truth": "yes,no"}."""
    found: dict[str, str] = {}
    for text in given:
        question, sign, rest = text.rpartition("=")
        _add(found, *((question, rest) if sign else ("", text)), text, option)
    return found


def by_rule(given: Sequence[str]) -> dict[str, Rule]:
    """{"" or a question: what is accepted}: the sign "=" of a bound is none that ends a question's name."""
    found: dict[str, str] = {}
    for text in given:
        match = re.fullmatch(r"\s*([^=<>]*[^=<>\s])\s*=(.*)", text, re.DOTALL)
        _add(found, *(match.groups() if match else ("", text)), text, "--accept")
    return {question: Rule(text) for question, text in found.items()}


def _add(found: dict[str, str], question: str, what: str, text: str, option: str) -> None:
    if question in found:
        raise UserError(f"{option}: said twice for {question or 'all questions'!r}")
    if not what.strip():
        raise UserError(f"{option} {text!r}: says nothing")
    found[question] = what


def study_all(tables: Iterable[Table], *, levels: Mapping[str, str], rules: Mapping[str, Rule],
              scales: Mapping[str, Sequence[str]], **options: Any) -> tuple[list[dict], dict[str, list[str]]]:
    """The figures of all questions, and for what is said of all of them the questions it cannot be applied to.

    Raises:
      UserError: what is said of a question cannot be applied to it, or what is said of all to none of them.
    """
    found, levelled, ruled = [], [], []
    for table in tables:
        scale = table.question in scales or "" in scales
        level, why = pick(table, levels, lambda level, t=table, s=scale: fits_level(t, level, s))
        levelled.append((table.question, why))
        rule, why = pick(table, rules, lambda rule, t=table, s=scale, of=level: fits_rule(t, rule, s or (of or LEVEL)
                                                                                         != LEVEL))
        ruled.append((table.question, why))
        found.append(study(table, level=level or LEVEL, scale=scale, rule=rule, **options))
    told = {f"--level {levels.get('')}": levelled, f"--accept {rules[''].text if '' in rules else ''}": ruled}
    for whys in told.values():
        if whys and all(why for _, why in whys):
            raise whys[0][1]
    left = {what: [question for question, why in whys if why] for what, whys in told.items()}
    return found, {what: names for what, names in left.items() if names}


def pick(table: Table, said: Mapping[str, Any], check: Callable[[Any], None]) -> tuple[Any, UserError | None]:
    """(what holds for a question or None, why what is said of all does not)."""
    own = said.get(table.question) if table.question else None
    what = own if own is not None else said.get("")
    if what is None:
        return None, None
    try:
        check(what)
    except UserError as error:
        if own is not None:
            raise
        return None, error
    return what, None


def fits_level(table: Table, level: str, scale: bool) -> None:
    """Raises a UserError where the labels of a question do not have a level; what has no labels has any."""
    if not (table.free or table.ballots) and len(table.code):
        check_level(table, level, scale)


def fits_rule(table: Table, rule: Rule, ordered: bool) -> None:
    """Raises a UserError where nothing of a question can be accepted by a rule."""
    kind = "texts" if table.free else "rankings" if table.ballots else "" if len(table.code) else "no labels"
    if kind:
        raise UserError(f"--accept {rule.text}: {table.question} has {kind}, of which nothing can be accepted so")
    rule.of(table.labels, ordered=ordered)
