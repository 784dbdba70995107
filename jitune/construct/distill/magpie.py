"""Magpie: instructions that an aligned model writes itself, when it is shown where a user's text would begin.

    "<|im_start|>user\\n"  ->  "How do I keep basil alive in winter?"  ->  the model's own answer

In: nothing, or records whose system messages are drawn from in turn. Out: conversations. The model continues its
template's text up to the user's first word (temperature 1, top_p 1) until it ends the line or the turn, and then
answers as it would (temperature 0). It needs raw completion: a chat API puts its template around what it is given, so
that the model answers an empty question, with a greeting. Xu et al. 2024 (arXiv 2406.08464) and its code. Left out are

| reason | what |
|---|---|
| cut | an instruction or an answer that its length ended |
| empty, loop, refusal, ... | what `filters` of curation find in either |
| ends_with_colon | an instruction that ends with ":", whose matter is missing |
| control_tokens | an instruction in which a turn of the template begins |
| low_quality | a judge grades it other than `qualities` (good, excellent) |
| unrated | the judge names no grade |
| near_duplicate, duplicate | like one that was kept before, by MinHash over word 5-grams, or word by word |

Magpie finds duplicates by embeddings, and has another model grade (`rater="second"`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jitune.construct.curate import exact, minhash
from jitune.construct.distill import checks, ranges
from jitune.construct.distill import magpie_prompts as prompts
from jitune.construct.distill.faults import fault, first_line, seed_of, text_of
from jitune.construct.distill.method import Given, Rejected, Step
from jitune.construct.distill.pre_query import Pieces, pieces
from jitune.data.record import Record, named
from jitune.generators.call import Call, Lost, Reply, provenance
from jitune.types import UserError

METHOD = "magpie"
DUPLICATES = ("minhash", "exact", "none")


def defaults() -> dict[str, Any]:
    """The options; those without the mark are the published ones."""
    return {
        "count": 1000,  # instructions that are sampled
        "turns": 1,  # of a conversation
        "temperature": 1.0,  # of instructions
        "top_p": 1.0,
        "instruction_tokens": 512,
        "one_line": True,  # an instruction ends with its line; False: with the turn
        "answer_temperature": 0.0,
        "answer_tokens": 2048,
        "qualities": "good,excellent",  # by commas; "": nobody is asked
        "rater": "teacher",  # ours: or second
        "duplicates": "minhash",  # ours: or exact, none
        "similarity": 0.8,  # ours: of word 5-grams, from which an instruction is a near-duplicate
        "filters": checks.USUAL,  # ours: filters of `jitune data curate` that questions and answers must pass
        "pre_query": "",  # for an endpoint: the template's text up to where the user's begins
        "post_query": "",  # from the end of the user's text to where the answer begins
        "between": "",  # from the end of an answer to the next text of the user, for turns over 1
        "stops": "",  # what ends a turn, by "|||", as control tokens hold commas and bars
        "tokenizer": "",  # ours: a folder whose chat template says all four; "": a local teacher's own
        "chat_template": "",  # ours: chatml, alpaca or a file, in place of the tokenizer's
        "step": 200,  # instructions between two entries of the run's record
    }


def total(options: Mapping[str, Any], records: Sequence[Record]) -> int:
    """How many instructions are sampled."""
    return options["count"]


def reads(options: Mapping[str, Any]) -> list[str]:
    """Files that options name."""
    folder = options["tokenizer"]
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    return [options["chat_template"], *(f"{folder}/{name}" for name in names if folder)]


@dataclass(frozen=True)
class Try:
    """A conversation on its way. number: of the sample. turns: (question, answer)."""

    number: int
    system: str
    question: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    call: Call = Call("")
    reply: Reply | Lost | None = None

    def rejected(self, reason: str, detail: str = "") -> Rejected:
        """As it is counted."""
        return Rejected(reason, detail, f"sample {self.number}", text_of(self.reply) or self.question)


def run(given: Given) -> Iterator[Step]:
    """See the module's docstring.

    Raises:
      UserError: options that cannot work; a teacher that only chats, or whose template cannot be told.
    """
    options = _checked(given)
    systems = list(dict.fromkeys(_system(record) for record in given.records)) or [""]
    around = {system: _around(given, options, system) for system in dict.fromkeys([*systems, ""])}
    seen, key = _memory(options, given.kept)
    for at in range(given.state.get("at", 0), options["count"], options["step"]):
        numbers = range(at, min(at + options["step"], options["count"]))
        kept, rejected = [], []
        tries = [Try(n, systems[n % len(systems)]) for n in numbers]
        for one in _conversations(given, options, around, tries, rejected):
            record = _record(given, one)
            mark = key(record) if seen else None
            twice = seen.admit(mark, record.id) if mark else None
            if twice:
                rejected.append(one.rejected(twice.reason, twice.detail))
            else:
                kept.append(record)
        yield Step(kept, rejected, {"at": numbers.stop}, done=numbers.stop)


def _conversations(given: Given, options: dict, around: Mapping[str, Pieces], tries: list[Try],
                   rejected: list[Rejected]) -> list[Try]:
    """Whole conversations; a later turn that fails ends its conversation, which stays as it was."""
    done: list[Try] = []
    for turn in range(options["turns"]):
        good = _turn(given, options, around, turn, tries, rejected)
        there = {one.number for one in good}
        done += [one for one in tries if one.turns and one.number not in there]
        tries = good
    return sorted(done + tries, key=lambda one: one.number)


def _turn(given: Given, options: dict, around: Mapping[str, Pieces], turn: int, tries: list[Try],
          rejected: list[Rejected]) -> list[Try]:
    """The tries that got another question and answer; the others are rejected where they have no turn before."""
    def parted(tries: Sequence[Try], fault_of) -> list[Try]:
        found = [(one, fault_of(one)) for one in tries]
        rejected.extend(one.rejected(*bad) for one, bad in found if bad and not one.turns)
        return [one for one, bad in found if not bad]

    line = ("\n",) if options["one_line"] else ()
    sampled = {"max_tokens": options["instruction_tokens"], "temperature": options["temperature"],
               "top_p": options["top_p"]}
    questions = [Call(around[one.system].conversation(list(one.turns)), seed=seed_of(given.seed, one.number),
                      stop=around[one.system].stops + line, **sampled) for one in tries]
    tries = _answered(given.ask, tries, questions)
    tries = parted(tries, lambda one: _bad_question(one, around[one.system], options))
    tries = [replace(one, question=one.reply.text.strip()) for one in tries]
    if options["qualities"]:
        judges = given.ask_second if options["rater"] == "second" else given.ask
        graded = _answered(judges, tries, [_grading(one.question, options, around[""]) for one in tries])
        there = {one.number for one in parted(graded, lambda one: _bad_quality(one, options["qualities"]))}
        tries = [one for one in tries if one.number in there]
    answers = [Call(around[one.system].conversation(list(one.turns)) + one.question + around[one.system].after,
                    options["answer_tokens"], options["answer_temperature"], seed=seed_of(given.seed, one.number),
                    stop=around[one.system].stops) for one in tries]
    tries = _answered(given.ask, tries, answers)
    tries = parted(tries, lambda one: fault(one.reply, options["check"]))
    return [replace(one, turns=(*one.turns, (one.question, one.reply.text.strip()))) for one in tries]


def _grading(question: str, options: dict, around: Pieces) -> Call:
    """A call to the teacher is put into its template here, as all others are."""
    text = prompts.quality(question)
    if options["rater"] == "second":
        return Call((("user", text),), max_tokens=256)
    return Call(around.before + text + around.after, max_tokens=256, stop=around.stops)


def _answered(ask, tries: Sequence[Try], calls: Sequence[Call]) -> list[Try]:
    return [replace(one, call=call, reply=reply) for one, call, reply in zip(tries, calls, ask(calls), strict=True)]


def _bad_question(one: Try, around: Pieces, options: dict) -> tuple[str, str] | None:
    bad = fault(one.reply, options["check"])
    if bad:
        return bad
    text = one.reply.text.strip()
    if text.endswith((":", "：")):
        return "ends_with_colon", text[-80:]
    inside = next((stop for stop in around.stops if stop in text), "")
    return ("control_tokens", inside) if inside else None


def _bad_quality(one: Try, wanted: Sequence[str]) -> tuple[str, str] | None:
    if isinstance(one.reply, Lost):
        return one.reply
    grade = prompts.read_quality(one.reply.text)
    if grade is None:
        return "unrated", first_line(one.reply.text) or "no grade"
    return None if grade in wanted else ("low_quality", f"{grade}; wanted are {', '.join(wanted)}")


def _record(given: Given, one: Try) -> Record:
    messages = [{"role": "system", "content": one.system}] if one.system else []
    for question, answer in one.turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    made = provenance(given.generator.identity, one.call, method=METHOD, source=f"sample {one.number}")
    return named(Record("", tuple(messages), meta={"magpie": {"sample": one.number}}, provenance=made))


def _system(record: Record) -> str:
    return next((m.get("content") or "" for m in record.messages if m["role"] == "system"), "")


def _memory(options: dict, kept: Sequence[Record]):
    """(what was kept, the key of a record), of instructions; (None, None) where nothing is compared."""
    if options["duplicates"] == "none":
        return None, None
    sieve = (exact.build(of="prompt") if options["duplicates"] == "exact" else
             minhash.build(of="prompt", threshold=options["similarity"]))

    def key(record: Record) -> bytes | None:
        users = tuple(m for m in record.messages if m["role"] == "user")
        return sieve.key(Record("", users))

    seen = sieve.memory()
    for record in kept:
        if (one := key(record)) is not None:
            seen.restore(one, record.id)
    return seen, key


def _around(given: Given, options: dict, system: str) -> Pieces:
    """What stands around a user's text: as the options say, or a tokenizer's template."""
    stops = tuple(filter(None, options["stops"].split("|||")))
    if options["pre_query"]:
        if not options["post_query"] or not stops:
            raise UserError("config.magpie.pre_query is given without post_query and stops; a turn needs all three")
        if system:
            raise UserError("config.magpie.pre_query is given, so system messages of the input have no place; name a "
                            "tokenizer in its place")
        if options["turns"] > 1 and not options["between"]:
            raise UserError("config.magpie.turns over 1 need between: the text from an answer to the next question")
        return Pieces(options["pre_query"], options["post_query"], options["between"] or None, stops)
    tokenizer, template = _tokenizer(given, options)
    found = pieces(tokenizer, chat_template=template, system=system)
    if options["turns"] > 1 and found.between is None:
        raise UserError("config.magpie.turns: the chat template cannot write a second question")
    return found._replace(stops=stops or found.stops)


def _tokenizer(given: Given, options: dict) -> tuple[Any, str | None]:
    """(tokenizer, template or None for its own): of the folder that is named, else of a local teacher."""
    from jitune.data import chat
    from jitune.hub.tokenizer import load_tokenizer

    source = getattr(given.generator, "source", given.generator)
    if options["tokenizer"]:
        tokenizer, template = load_tokenizer(options["tokenizer"]), None
        if tokenizer is None:
            raise UserError(f"config.magpie.tokenizer={options['tokenizer']}: there is no tokenizer")
    else:
        tokenizer, template = getattr(source, "tokenizer", None), getattr(source, "chat_template", None)
        if tokenizer is None:
            raise UserError("config.magpie: what stands before a user's text is not known of this teacher; name a "
                            "folder with its tokenizer in config.magpie.tokenizer, or give pre_query, post_query and "
                            "stops as texts")
    if options["chat_template"]:
        template = chat.load_template(options["chat_template"], tokenizer=tokenizer)
    return tokenizer, None if template == "none" else template


def _checked(given: Given) -> dict[str, Any]:
    options = {**defaults(), **dict(given.options)}
    if not given.generator.raw:
        raise UserError("config.method=magpie needs a teacher that continues plain texts (api=completion, or a model "
                        "of your own): a chat API puts its template around what it is given, and greetings come back")
    wanted = tuple(word.strip() for word in options["qualities"].split(",") if word.strip())
    unknown = [word for word in wanted if word not in prompts.GRADES]
    if unknown:
        raise UserError(f"config.magpie.qualities: {unknown[0]!r} is none of {', '.join(prompts.GRADES)}")
    ranges.check(options, METHOD)
    if not options["count"]:
        raise UserError("config.magpie.count=0 must be at least 1")
    for name, allowed in (("rater", ("teacher", "second")), ("duplicates", DUPLICATES)):
        if options[name] not in allowed:
            raise UserError(f"config.magpie.{name}={options[name]!r} is none of {', '.join(allowed)}")
    if wanted and options["rater"] == "second" and given.ask_second is None:
        raise UserError("config.magpie.rater=second: config.second.model is not set")
    return options | {"qualities": wanted,
                      "check": checks.checks(options["filters"], option="config.magpie.filters")}
