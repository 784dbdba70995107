"""A teacher's responses to prompts: records in, the same conversations with answers of the teacher out.

    config.method, config.respond.n = "respond", 4      # four answers to each prompt

Everything before a record's last answer is its prompt: several turns, a system prompt and tools are kept, and so is a
raw text's. A teacher is asked in words: of tools it is not told, and calls of them it reads as JSON; the provenance of
such an answer has the step `tools_unseen`. `systems` are system prompts of which each record without one draws its own.
With `personas`, the teacher first writes a task that a person would ask, whom each record draws (Ge et al. 2024,
"Scaling synthetic data creation with 1,000,000,000 personas"); the record, where there is one, shows what kind of task,
and without any input `count` tasks are written. Who was drawn is said in the record's meta.

Rejected: no answer (budget, failed, too_long, filtered, encoding), one cut by its length (cut) or without words
(empty_answer; of a persona's task no_task), and whatever the filters find: rubbish, repetition, refusals.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

from jitune.construct.curate.stage import Reject
from jitune.construct.distill import checks, texts
from jitune.construct.distill.faults import fault, text_of
from jitune.construct.distill.method import Given, Rejected, Step
from jitune.data.record import Record, changed, digest, prompt
from jitune.generators.call import Call, Reply, prompt_hash, provenance
from jitune.types import UserError

AT_ONCE = 512  # calls of a step


def defaults() -> dict[str, Any]:
    """The section `respond`."""
    return {
        "n": 1,  # answers to each prompt
        "max_tokens": 1024,
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": 0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop": "",  # texts that end an answer, joined by commas; \n is a line break
        "systems": "",  # system prompts: a file (.txt, .jsonl, .json), or texts joined by "|"; each record draws one
        "keep_system": True,  # whether what was drawn stands in the record
        "personas": "",  # people: a file, or texts joined by "|"; each record draws one, whose task is answered
        "count": 0,  # tasks that personas ask where there is no input
        "task_temperature": 1.0,  # of the calls that write personas' tasks
        "task_max_tokens": 512,
        "filters": checks.USUAL,  # filters of `jitune data curate` that an answer must pass
    }


def total(options: Any, records: Sequence[Record]) -> int:
    """How many prompts there are to answer."""
    return len(records) or options.count


def reads(options: Any) -> list[str]:
    """Files that options name."""
    return list(filter(None, map(texts.file_of, (options.systems, options.personas))))


def run(given: Given) -> Iterator[Step]:
    """See the module's docstring."""
    options = given.options
    systems = texts.listed(options.systems, key="system", option="config.respond.systems")
    personas = texts.listed(options.personas, key="persona", option="config.respond.personas")
    check = checks.checks(options.filters, option="config.respond.filters")
    if options.n > 1 and not options.temperature:
        raise UserError(f"config.respond.n={options.n} at temperature=0 would all be the same; give a temperature, "
                        "such as 0.7")
    if not given.records and not (personas and options.count > 0):
        raise UserError("respond: there is no prompt; give config.input, or config.respond.personas and "
                        "config.respond.count")
    count, size = total(options, given.records), max(1, AT_ONCE // options.n)
    for start in range(given.state.get("done", 0), count, size):
        end = min(count, start + size)
        prompts, rejected = prompts_of(given, range(start, end), systems, personas)
        kept, more = answers(given, prompts, check)
        yield Step(kept, rejected + more, {"done": end}, done=end)


def prompts_of(given: Given, numbers: range, systems: Sequence[str], personas: Sequence[str]
               ) -> tuple[list[Record], list[Rejected]]:
    """What is to be answered: the records' prompts, or tasks of personas, each with what it has drawn."""
    drawn, rejected = [], []
    for number in numbers:
        rng = random.Random(f"{given.seed}:{number}")  # of its own, so that one record's draw is not another's
        system, persona = (rng.choice(some) if some else "" for some in (systems, personas))
        record = prompt_of(given.records[number]) if given.records else Record(f"persona {number}")
        if isinstance(record, Rejected):
            rejected.append(record)
        else:
            drawn.append((record, system, persona))
    if personas:
        drawn, more = tasks(given, drawn, numbers.start)
        rejected += more
    return [with_system(record, system) for record, system, _ in drawn], rejected


def prompt_of(record: Record) -> Record | Rejected:
    """The record without its last answer and what was said of it."""
    messages = record.messages
    if messages and messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    weights = record.message_weights[: len(messages)] if record.message_weights else None
    text = record.text[:1] if len(record.text) > 1 else ()
    role = "user" if text else messages[-1]["role"] if messages else ""
    said = text[0][0] if text else said_in(messages[-1]) if messages else ""
    if role not in ("user", "tool") or role == "user" and not said.strip():
        return Rejected("no_prompt", "nothing that can be answered", record.provenance.source, record=record)
    return Record(record.id, messages, record.tools, weights, text, meta=record.meta, provenance=record.provenance)


def tasks(given: Given, drawn: Sequence[tuple[Record, str, str]], first: int
          ) -> tuple[list[tuple[Record, str, str]], list[Rejected]]:
    """(task, system prompt, persona) of each (record, system prompt, persona), and what is no task."""
    options = given.options
    calls = [Call(asks_for(persona, prompt(record)), options.task_max_tokens, options.task_temperature,
                  seed=given.seed + (0 if given.records else first + i))
             for i, (record, _, persona) in enumerate(drawn)]
    found, rejected = [], []
    for (record, system, persona), call, reply in zip(drawn, calls, given.ask(calls), strict=True):
        source = record.provenance.source
        bad = fault(reply, lambda _, text: None if text.strip() else Reject("no_task", "said nothing"))
        if bad:
            rejected.append(Rejected(*bad, source or record.id, text_of(reply)))
            continue
        made = provenance(given.generator.identity, call, method="respond", source=source,
                          parents=[record.id] if given.records else [], license=record.provenance.license)
        task = Record("", ({"role": "user", "content": reply.text.strip()},), meta={"persona": persona},
                      provenance=changed(made, steps=(f"task:{prompt_hash(call)}",)))
        found.append((changed(task, id=digest([task.messages, persona, record.id])), system, persona))
    return found, rejected


def asks_for(persona: str, example: str) -> tuple[tuple[str, str], ...]:
    """What is asked for a persona's task."""
    like = f"Here is a task of the kind that is wanted:\n\n{example}\n\n" if example else ""
    return (("user", f"{like}Think of this person: {persona}\n\nWrite one task or question that this person would put "
             "to an assistant: concrete, complete, in the person's own words, with whatever it needs to be answered. "
             "Write the task alone, without an answer, a title or quotation marks."),)


def with_system(record: Record, system: str) -> Record:
    """The record with a drawn system prompt in front, where it has none."""
    if not system or record.text or any(message["role"] == "system" for message in record.messages):
        return record
    weights = (None, *record.message_weights) if record.message_weights else None
    return changed(record, messages=({"role": "system", "content": system}, *record.messages), message_weights=weights,
                   meta={**record.meta, "system": system})


def answers(given: Given, prompts: Sequence[Record], check) -> tuple[list[Record], list[Rejected]]:
    """Answers to prompts, n each."""
    options, kept, rejected = given.options, [], []
    pairs = [(record, call_of(record, given, sample)) for record in prompts for sample in range(options.n)]
    for (record, call), reply in zip(pairs, given.ask([call for _, call in pairs]), strict=True):
        source = record.provenance.source or record.id
        bad = fault(reply, check, prompt=last(record))
        made = answered(given, record, call, reply) if isinstance(reply, Reply) else None
        if bad:
            rejected.append(Rejected(*bad, source, text_of(reply), made))
        else:
            kept.append(made)
    return kept, rejected


def call_of(record: Record, given: Given, sample: int) -> Call:
    """The call of one answer."""
    o = given.options
    said = record.text[0][0] if record.text else tuple((m["role"], said_in(m)) for m in record.messages)
    if record.text and not given.generator.raw:
        said = (("user", said),)
    return Call(said, o.max_tokens, o.temperature, o.top_p, o.top_k, o.presence_penalty, o.frequency_penalty,
                texts.words(o.stop), seed=given.seed * o.n + sample)


def said_in(message: dict) -> str:
    """What a message says; of one that calls tools the calls, as JSON."""
    if message.get("content") or not message.get("tool_calls"):
        return message.get("content") or ""
    return json.dumps([call["function"] for call in message["tool_calls"]], ensure_ascii=False)


def last(record: Record) -> str:
    """The last thing that was asked."""
    return record.text[0][0] if record.text else said_in(record.messages[-1])


def answered(given: Given, record: Record, call: Call, reply: Reply) -> Record:
    """The record with its answer."""
    before = record.provenance
    made = provenance(given.generator.identity, call, method="respond", source=before.source, license=before.license,
                      parents=before.parents if given.options.personas else [record.id])
    unseen = record.tools or any(m["role"] == "tool" or m.get("tool_calls") for m in record.messages)
    made = changed(made, steps=(*before.steps, *(["tools_unseen"] if unseen else []), "respond"))
    answer = reply.text.strip()
    if record.text:
        return Record("", text=((record.text[0][0], 0.0), (reply.text, 1.0)), meta=record.meta, provenance=made)
    messages, weights = record.messages, record.message_weights
    drawn = {"role": "system", "content": record.meta.get("system")}
    if given.options.systems and not given.options.keep_system and messages[0] == drawn:
        messages, weights = messages[1:], weights[1:] if weights else None
    return Record("", (*messages, {"role": "assistant", "content": answer}), record.tools,
                  (*weights, None) if weights else None, meta=record.meta, provenance=made)
