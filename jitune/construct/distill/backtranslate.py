"""Instruction back-translation: documents in; the documents as answers, with instructions that a model wrote, out.

    "Basil needs light ..."  ->  "How do I keep basil alive in winter?"  ->  scored 1 to 5  ->  kept from 4.5

One model writes the instruction that a document answers, p(x | y); another says how good the pair is (self-curation).
Li et al. 2023 (Humpback, arXiv 2308.06259). There the first is tuned on seed pairs turned round, and the second on
the seeds; this is one iteration of their two, with the models as they are given:

| option | who |
|---|---|
| backward="teacher" or "second" | writes instructions |
| backward_prompt="ask" | it is asked in words, as any assistant can be |
| backward_prompt="plain" | it gets the document alone, as a model that was tuned on pairs turned round |
| scorer="teacher" or "second" | scores |

Records with a question and an answer among the input are seeds: they are kept as they are. System messages tell the
two kinds apart, as published: "Answer in the style of an AI Assistant." on seeds and "Answer with knowledge from web
search." on documents. Documents that are too short, too long, without a text or there twice, instructions that are no
good, and pairs that score too low or that nobody could score are counted rejections. `segment` makes a document's
paragraphs into pieces of `min_words` to `max_words`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from jitune.construct.curate.filters import units
from jitune.construct.curate.words import fold_spaces, normalize
from jitune.construct.distill import backtranslate_prompts as prompts
from jitune.construct.distill import checks, ranges
from jitune.construct.distill.faults import fault, first_line, seed_of, text_of
from jitune.construct.distill.forms import FORMS, asked
from jitune.construct.distill.method import Given, Rejected, Step
from jitune.data.record import Provenance, Record, changed, digest, named
from jitune.generators.call import Call, Lost, Reply, provenance
from jitune.types import UserError

METHOD = "backtranslate"
WHO = ("teacher", "second")
COPIED = 200  # characters of a document's beginning that no instruction repeats


def defaults() -> dict[str, Any]:
    """The options; those without the mark are the published ones."""
    return {
        "backward": "teacher",  # who writes instructions: teacher | second
        "backward_prompt": "ask",  # ours: or plain, see above
        "scorer": "teacher",  # who scores: teacher | second
        "threshold": 4.5,  # least mean score that is kept
        "scores": 1,  # that are asked for and averaged
        "score_temperature": 0.0,  # ours; over 0 where several are averaged
        "score_tokens": 512,  # ours
        "temperature": 0.7,  # of instructions
        "top_p": 0.9,
        "max_tokens": 256,  # ours: of an instruction
        "seed_system": "Answer in the style of an AI Assistant.",  # "": none
        "system": "Answer with knowledge from web search.",
        "keep_seeds": True,  # records with an answer go along
        "segment": "whole",  # ours: or paragraphs
        "min_words": 30,  # ours: of a document, or of a piece
        "max_words": 1500,  # ours
        "filters": checks.USUAL,  # ours: filters of `jitune data curate` that instructions must pass
        "form": "chat",  # ours: or raw, for models that only continue texts
        "step": 256,  # ours: documents between two entries of the run's record
    }


@dataclass(frozen=True)
class Try:
    """A document or a piece of one on its way. number: of the document. record: with the text of the piece alone. call,
    reply: that gave the instruction, in the end."""

    number: int
    record: Record
    document: str
    instruction: str = ""
    call: Call = Call("")
    reply: Reply | Lost | None = None
    scores: tuple[float, ...] = ()

    def rejected(self, reason: str, detail: str = "", text: str = "") -> Rejected:
        """As it is counted."""
        return Rejected(reason, detail, self.record.provenance.source, text or text_of(self.reply), self.record)


def total(options: Mapping[str, Any], records: Sequence[Record]) -> int:
    """How many records there are; documents in pieces count as one."""
    return len(records)


def run(given: Given) -> Iterator[Step]:
    """See the module's docstring. Raises UserError for options that cannot work."""
    options = _checked(given)
    seen: set[str] = set()
    for at in range(0, len(given.records), options["step"]):
        kept, rejected, tries = [], [], []
        end = min(at + options["step"], len(given.records))
        for number in range(at, end):
            _sort(given.records[number], number, options, seen, kept, rejected, tries)
        if at < given.state.get("at", 0):
            continue  # it was done before; what was seen there is known now
        kept += _translated(given, options, tries, rejected)
        yield Step(kept, rejected, {"at": end}, done=end)


def _sort(record: Record, number: int, options: dict, seen: set[str], kept: list[Record], rejected: list[Rejected],
          tries: list[Try]) -> None:
    """A seed is kept, a document is tried; what is neither is rejected."""
    one = Try(number, record, "")
    if record.messages:
        if record.messages[-1]["role"] != "assistant":
            rejected.append(one.rejected("no_text", "a conversation without an answer is no document"))
        elif options["keep_seeds"]:
            kept.append(_with_system(record, options["seed_system"]))
        return
    text = record.text[0][0].strip() if len(record.text) == 1 else ""
    if not text:
        why = "a prompt and its completion are no document; give seeds as conversations" if record.text else ""
        rejected.append(one.rejected("no_text", why))
        return
    for piece, reason, detail in pieces(text, options["segment"], options["min_words"], options["max_words"]):
        folded = digest(fold_spaces(normalize(piece)))
        # A rejection of a piece must not repeat the whole document, which may be a book.
        mine = Try(number, record if piece == text else changed(record, text=((piece, 1.0),)), piece)
        if reason or folded in seen:
            rejected.append(mine.rejected(reason or "duplicate_document", detail, piece))
            continue
        seen.add(folded)
        tries.append(mine)


def pieces(text: str, segment: str, least: int, most: int) -> Iterator[tuple[str, str, str]]:
    """(piece, "" or why it will not do, detail) of a document, in order.

    segment: whole, or paragraphs: lines are put together until a piece has `least` words, and further while it has no
    more than `most`; an end that is shorter joins the piece before it where there is room.
    """
    found = [text] if segment == "whole" else _joined(text, least, most)
    for piece in found:
        count = units.words(piece)
        if count < least:
            yield piece, "too_short", f"{count} words, at least {least}"
        elif count > most:
            yield piece, "too_long", f"{count} words, at most {most}"
        else:
            yield piece, "", ""


def _joined(text: str, least: int, most: int) -> list[str]:
    blocks = [block.strip() for block in text.split("\n\n" if "\n\n" in text.strip() else "\n") if block.strip()]
    found: list[str] = []
    for block in blocks:
        size = units.words(block)
        if found and (units.words(found[-1]) < least or size < least) and units.words(found[-1]) + size <= most:
            found[-1] += f"\n\n{block}"
        else:
            found.append(block)
    return found


def _translated(given: Given, options: dict, tries: list[Try], rejected: list[Rejected]) -> list[Record]:
    """The records of documents that got an instruction and a score."""
    backward = _ask(given, options["backward"])
    calls = [_call(given, options, one) for one in tries]
    tries = [replace(one, call=call, reply=reply) for one, call, reply in
             zip(tries, calls, backward(calls), strict=True)]
    good = []
    for one in tries:
        bad = _bad_instruction(one, options)
        rejected += [one.rejected(*bad)] if bad else []
        good += [] if bad else [replace(one, instruction=one.reply.text.strip())]
    ratings = [_rating(given, options, one, n) for one in good for n in range(options["scores"])]
    replies = iter(_ask(given, options["scorer"])(ratings))
    kept = []
    for one in good:
        mine = [next(replies) for _ in range(options["scores"])]
        scores = [s for r in mine if isinstance(r, Reply) and (s := prompts.read_score(r.text)) is not None]
        if bad := _bad_score(mine, scores, options["threshold"]):
            said = [one.instruction, *(r.text for r in mine if isinstance(r, Reply))]
            rejected.append(one.rejected(*bad, "\n\n".join(said)))
        else:
            kept.append(_record(given, options, replace(one, scores=tuple(scores))))
    return kept


def _call(given: Given, options: dict, one: Try) -> Call:
    text = one.document if options["backward_prompt"] == "plain" else prompts.instruct(one.document)
    return asked((("user", text),), options["form"], seed=seed_of(given.seed, 0), max_tokens=options["max_tokens"],
                 temperature=options["temperature"], top_p=options["top_p"])


def _rating(given: Given, options: dict, one: Try, number: int) -> Call:
    return asked((("user", prompts.rate(one.instruction, one.document)),), options["form"],
                 seed=seed_of(given.seed, number), max_tokens=options["score_tokens"],
                 temperature=options["score_temperature"])


def _bad_instruction(one: Try, options: dict) -> tuple[str, str] | None:
    bad = fault(one.reply, options["check"])
    if bad:
        return bad
    text, document = fold_spaces(normalize(one.reply.text)), fold_spaces(normalize(one.document))
    copies = document[:COPIED] in text or (units.words(text) >= 20 and text in document)
    return ("copies_document", first_line(one.reply.text)) if copies else None


def _bad_score(replies: Sequence[Reply | Lost], scores: Sequence[float], threshold: float) -> tuple[str, str] | None:
    """Why a pair is not kept. A verdict without a score counts for nothing where another has one."""
    budget = next((r for r in replies if isinstance(r, Lost) and r.reason == "budget"), None)
    if budget:
        return budget
    if not scores:
        lost = next((r for r in replies if isinstance(r, Lost)), None)
        said = next((r.text for r in replies if isinstance(r, Reply)), "")
        return lost or ("unscored", first_line(said) or "no verdict")
    mean = fmean(scores)
    return None if mean >= threshold else ("low_score", f"{mean:g}, at least {threshold:g}")


def _record(given: Given, options: dict, one: Try) -> Record:
    messages = ({"role": "user", "content": one.instruction}, {"role": "assistant", "content": one.document})
    writer = given.second if options["backward"] == "second" else given.generator
    known = one.record.provenance
    made = provenance(writer.identity, one.call, method=METHOD, parents=(one.record.id,), source=known.source,
                      license=known.license)
    record = Record("", messages, scores={"backtranslation": fmean(one.scores)}, provenance=made,
                    meta={**one.record.meta, "backtranslated": {"row": one.number, "scores": list(one.scores)}})
    return _with_system(record, options["system"])


def _with_system(record: Record, system: str) -> Record:
    """The record with a system message in front, unless it has one; the change is a step of its provenance."""
    if not system or record.messages[0]["role"] == "system":
        return named(record)
    messages = ({"role": "system", "content": system}, *record.messages)
    weights = record.message_weights and (None, *record.message_weights)
    known: Provenance = record.provenance
    steps = known.steps if known.method == METHOD else (*known.steps, "add_system")
    return named(changed(record, id="", messages=messages, message_weights=weights,
                         provenance=changed(known, steps=steps)))


def _ask(given: Given, who: str):
    return given.ask_second if who == "second" else given.ask


def _checked(given: Given) -> dict[str, Any]:
    options = {**defaults(), **dict(given.options)}
    for name, allowed in (("backward", WHO), ("scorer", WHO), ("backward_prompt", ("ask", "plain")), ("form", FORMS),
                          ("segment", ("whole", "paragraphs"))):
        if options[name] not in allowed:
            raise UserError(f"config.{METHOD}.{name}={options[name]!r} is none of {', '.join(allowed)}")
    if "second" in (options["backward"], options["scorer"]) and given.ask_second is None:
        name = "backward" if options["backward"] == "second" else "scorer"
        raise UserError(f"config.{METHOD}.{name}=second: config.second.model is not set")
    ranges.check(options, METHOD)
    if not 1 <= options["threshold"] <= 5:
        raise UserError(f"config.{METHOD}.threshold={options['threshold']} is no score from 1 to 5")
    if options["scores"] > 1 and not options["score_temperature"]:
        raise UserError(f"config.{METHOD}.scores={options['scores']} at score_temperature=0 would all be the same; "
                        "give a temperature, such as 0.7")
    if options["min_words"] > options["max_words"]:
        raise UserError(f"config.{METHOD}.min_words={options['min_words']} is over max_words={options['max_words']}")
    return options | {"check": checks.checks(options["filters"], option=f"config.{METHOD}.filters")}
