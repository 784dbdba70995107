"""Evol-Instruct: instructions that a teacher makes harder or rarer, round after round, and answers.

    "Name a prime."  --constraints-->  "Name a prime that ends in 7."  --reasoning-->  ...  each with an answer

In: records with one instruction each (an answer is not looked at). Out: one record for each instruction that a round
evolved. In every round each instruction gets one of six operations by lot: five in depth (add constraints, deepen,
concretise, more reasoning, complicate the input) and one in breadth. What is evolved takes the place of its parent in
the next round; what is eliminated leaves the parent there, to be tried again. Xu et al. 2023 (WizardLM, arXiv
2304.12244): 4 rounds, all operations equally likely, temperature 1, 2048 tokens, top_p 0.9. Eliminated is

| reason | what |
|---|---|
| no_gain | the teacher finds the evolved instruction equal to its parent |
| sorry | the answer says "sorry" in under 80 words |
| only_stop_words | the answer is punctuation and stop words |
| leaked_prompt | the instruction repeats words of the question, such as "given prompt" |

and here, beside the paper: what is cut by length (`cut`), an instruction that is there already (`duplicate`), a
verdict that says neither (`unjudged`), and what `filters` of curation find: empty and damaged texts, loops, refusals
in nineteen languages. The script that was
released with the paper has five operations (no `complicate`), makes one round and eliminates nothing:
operations="constraints,deepen,concretise,reasoning,breadth", rounds=1, eliminate=False, top_p=0.95 is like it. The
paper trains on the first instructions too: name their file as another input of what comes next.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jitune.construct.curate import words
from jitune.construct.distill import checks, ranges
from jitune.construct.distill import evolve_prompts as prompts
from jitune.construct.distill.faults import fault, first_line, seed_of, text_of
from jitune.construct.distill.forms import FORMS, asked, instruction_of, limits
from jitune.construct.distill.method import Given, Rejected, Step
from jitune.construct.distill.stop_words import only_stop_words, read_words
from jitune.data.record import Record, named
from jitune.generators.call import Call, Lost, Reply, provenance
from jitune.types import UserError

METHOD = "evol_instruct"


def defaults() -> dict[str, Any]:
    """The options; what the paper does not say is our own choice, and marked so."""
    return {
        "rounds": 4,
        "operations": ",".join(prompts.OPERATIONS),  # by commas; one twice is twice as likely
        "temperature": 1.0,
        "top_p": 0.9,
        "max_tokens": 2048,  # of an evolved instruction, and of an answer
        "eliminate": True,  # no_gain, sorry, only_stop_words and leaked_prompt; False: none of these
        "sorry_words": 80,  # an answer that says sorry has at least so many
        "filters": checks.USUAL,  # ours: filters of `jitune data curate` that instructions and answers must pass
        "stop_words": "",  # ours: a file of more stop words, one a line, for other languages than English
        "form": "chat",  # ours: or raw, for a teacher that only continues texts
        "step": 256,  # ours: instructions between two entries of the run's record
    }


def total(options: Mapping[str, Any], records: Sequence[Record]) -> int:
    """How many instructions are to be evolved in all rounds."""
    return options["rounds"] * len(_pool(records)[0])


def reads(options: Mapping[str, Any]) -> list[str]:
    """Files that options name."""
    return [options["stop_words"]] if options["stop_words"] else []


@dataclass(frozen=True)
class Try:
    """One instruction on its way through a round. row: of the pool. call, reply: of what was asked last."""

    row: int
    parent: Record
    operation: str
    evolved: str = ""
    call: Call = Call("")
    reply: Reply | Lost | None = None

    def rejected(self, reason: str, detail: str = "") -> Rejected:
        """As it is counted."""
        return Rejected(reason, f"{self.operation}: {detail}" if detail else self.operation,
                        self.parent.provenance.source, text_of(self.reply), self.parent)


def run(given: Given) -> Iterator[Step]:
    """See the module's docstring. Raises UserError for options that cannot work."""
    options = _checked(given.options)
    pool, unusable = _pool(given.records)
    seen = {_folded(instruction_of(record)) for record in pool.values()}
    for record in given.kept:
        pool[record.meta["evolved"]["row"]] = record
        seen.add(_folded(instruction_of(record)))
    first, start = given.state.get("round", 0), given.state.get("at", 0)
    if not first:
        yield Step((), unusable, {"round": 1, "at": 0})
        first = 1
    for round in range(first, options["rounds"] + 1):
        for at in range(start, len(pool), options["step"]):
            rows = range(at, min(at + options["step"], len(pool)))
            kept, rejected = _evolve(given, options, round, [(row, pool[row]) for row in rows], seen)
            pool |= {record.meta["evolved"]["row"]: record for record in kept}
            done = (round - 1) * len(pool) + rows.stop
            yield Step(kept, rejected, {"round": round, "at": at + options["step"]}, done=done)
        start = 0


def _evolve(given: Given, options: dict, round: int, parents: list[tuple[int, Record]], seen: set[str]):
    """(kept records, rejections) of a few instructions in one round; `seen` learns what is kept."""
    tries = [_try(given, options, round, row, parent) for row, parent in parents]
    tries = _answer(given, tries)
    tries, rejected = _parted(tries, lambda one: _bad_instruction(one, options, seen))
    tries = [replace(one, evolved=one.reply.text.strip()) for one in tries]
    if options["eliminate"]:
        verdicts = _answer(given, [replace(one, call=_judge(one, options)) for one in tries])
        verdicts, more = _parted(verdicts, _no_gain)
        rejected += more
        there = {one.row for one in verdicts}
        tries = [one for one in tries if one.row in there]
    tries = _answer(given, [replace(one, call=_respond(given, options, round, one)) for one in tries])
    tries, more = _parted(tries, lambda one: _bad_answer(one, options))
    rejected += more
    kept = []
    for one in tries:
        if (folded := _folded(one.evolved)) in seen:
            rejected.append(one.rejected("duplicate", first_line(one.evolved)))
            continue
        seen.add(folded)
        kept.append(_record(given, round, one))
    return kept, rejected


def _try(given: Given, options: dict, round: int, row: int, parent: Record) -> Try:
    """An operation by lot, and the question that evolves the instruction."""
    lot = random.Random(f"{given.seed}/{round}/{row}")
    operation, format = lot.choice(options["operations"]), lot.choice(prompts.FORMATS)
    question = prompts.rewrite(operation, instruction_of(parent), format=format)
    call = asked((("user", question),), options["form"], seed=seed_of(given.seed, round), **limits(options))
    return Try(row, parent, operation, call=call)


def _judge(one: Try, options: dict) -> Call:
    question = prompts.equal(instruction_of(one.parent), one.evolved)
    return asked((("user", question),), options["form"], max_tokens=64)


def _respond(given: Given, options: dict, round: int, one: Try) -> Call:
    systems = tuple((m["role"], m["content"]) for m in one.parent.messages if m["role"] == "system")
    return asked((*systems, ("user", one.evolved)), options["form"], seed=seed_of(given.seed, round),
                 **limits(options))


def _answer(given: Given, tries: Sequence[Try]) -> list[Try]:
    replies = given.ask([one.call for one in tries])
    return [replace(one, reply=reply) for one, reply in zip(tries, replies, strict=True)]


def _parted(tries: Sequence[Try], fault_of) -> tuple[list[Try], list[Rejected]]:
    """Those without a fault, and the rejections of the others."""
    found = [(one, fault_of(one)) for one in tries]
    return [one for one, bad in found if not bad], [one.rejected(*bad) for one, bad in found if bad]


def _bad_instruction(one: Try, options: dict, seen: set[str]) -> tuple[str, str] | None:
    bad = fault(one.reply, options["check"])
    if bad:
        return bad
    parent = instruction_of(one.parent)
    if options["eliminate"] and (leaked := prompts.leak(one.reply.text, parent)):
        return "leaked_prompt", leaked
    folded = _folded(one.reply.text)
    if folded == _folded(parent):
        return "no_gain", "unchanged"
    return ("duplicate", first_line(one.reply.text)) if folded in seen else None  # before more is paid for it


def _no_gain(one: Try) -> tuple[str, str] | None:
    if isinstance(one.reply, Lost):
        return one.reply
    equal = prompts.read_equal(one.reply.text)
    if equal is None:
        return "unjudged", first_line(one.reply.text) or "no verdict"
    return ("no_gain", "judged equal") if equal else None


def _bad_answer(one: Try, options: dict) -> tuple[str, str] | None:
    if options["eliminate"] and isinstance(one.reply, Reply):
        count = len(found := words.tokens(one.reply.text))
        if "sorry" in found and count < options["sorry_words"]:
            return "sorry", f"{count} words, at least {options['sorry_words']}"
        if one.reply.finish_reason != "length" and only_stop_words(one.reply.text, options["stop_words"]):
            return "only_stop_words", repr(one.reply.text[:80])
    return fault(one.reply, options["check"])


def _record(given: Given, round: int, one: Try) -> Record:
    messages = (*(m for m in one.parent.messages if m["role"] == "system"), {"role": "user", "content": one.evolved},
                {"role": "assistant", "content": one.reply.text.strip()})
    known = one.parent.provenance
    return named(Record("", messages, meta={"evolved": {"round": round, "operation": one.operation, "row": one.row}},
                        provenance=provenance(given.generator.identity, one.call, method=METHOD,
                                              parents=(one.parent.id,), source=known.source, license=known.license)))


def _pool(records: Sequence[Record]) -> tuple[dict[int, Record], list[Rejected]]:
    """The instructions by their numbers, and the records that have none, or more than one."""
    pool, unusable = {}, []
    for record in records:
        users = [m for m in record.messages if m["role"] == "user"]
        if len(users) == 1 and instruction_of(record).strip():
            pool[len(pool)] = record
        else:
            reason = "several_turns" if len(users) > 1 else "no_instruction"
            unusable.append(Rejected(reason, f"{len(users)} turns of the user", record.provenance.source,
                                     record=record))
    return pool, unusable


def _folded(text: str) -> str:
    return words.fold_spaces(words.normalize(text))


def _checked(given: Any) -> dict[str, Any]:
    """The options with operations and stop words read. Raises UserError."""
    options = {**defaults(), **dict(given)}
    names = tuple(word.strip() for word in options["operations"].split(",") if word.strip())
    unknown = [name for name in names if name not in prompts.OPERATIONS]
    if unknown or not names:
        raise UserError(f"config.{METHOD}.operations={options['operations']!r}: there are "
                        f"{', '.join(prompts.OPERATIONS)}; at least one is needed")
    ranges.check(options, METHOD)
    if options["form"] not in FORMS:
        raise UserError(f"config.{METHOD}.form={options['form']!r} is none of {', '.join(FORMS)}")
    check = checks.checks(options["filters"], option=f"config.{METHOD}.filters")
    return options | {"operations": names, "check": check, "stop_words": read_words(options["stop_words"])}
