"""Self-Instruct (Wang et al. 2023, "Self-Instruct: aligning language models with self-generated instructions").

    config.method, config.self_instruct.count = "self_instruct", 1000      # config.input: the 175 seed tasks

A round asks `requests` times for new tasks, each time after 8 that it shows: 2 that were made and 6 seeds (all seeds
while none are made). What comes passes the filters of `instructions`, joins the pool, and is asked to be a
classification or not; then come its instances: labels first for a classification, inputs first otherwise. Defaults are
the parameters of the released code, and so are the rules: of a response that ends by its length no instruction is
taken, not even those before the last, for the code throws the whole of it away; of instances only the last one goes.
All instructions of a round join the pool, so that a few more than `count` may be made.

Two things are ours: the wording of the prompts, and that 300 and 350 tokens of instances are by task, where the code
gives a whole batch 300 once it holds a classification. Of more than 5 instances 5 are drawn, as there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jitune.construct.distill import growing, instances, seeds, templates, texts
from jitune.construct.distill.instructions import BLACKLIST, tidy
from jitune.construct.distill.method import Given, Rejected, Step
from jitune.construct.distill.numbered import continued, listed
from jitune.data.record import Record, changed
from jitune.generators.call import Call, Lost, Reply, prompt_hash, provenance
from jitune.types import UserError

YES = ("Yes", "yes", "YES")
WHAT = "self_instruct"
total = growing.total


def defaults() -> dict[str, Any]:
    """The section `self_instruct`: the released code's values."""
    return {
        **growing.defaults(),
        "in_context": 8,  # instructions that a request shows, all requests of a time after the same pool
        "machine": 2,  # of them, how many that were made before; the others are seeds
        "temperature": 0.7,
        "top_p": 0.5,
        "presence_penalty": 2.0,
        "max_tokens": 1024,
        "stop": r"\n\n,\n16,16.,16 .",  # of a text that is continued; a chat model has none
        "blacklist": ",".join(BLACKLIST),
        "classification_seeds": False,  # show classification tasks alone, and ask for such
        "check_tokens": 3,  # of the answer to whether a task is a classification
        "label_tokens": 300,  # of a classification's instances
        "instance_tokens": 350,
        "instance_presence_penalty": 1.5,
        "instances": 5,  # of a task, at most
    }


class Made(NamedTuple):
    """An instruction that was made. parents: ids of records that its request showed."""

    instruction: str
    parents: tuple[str, ...]
    steps: tuple[str, ...]
    source: str


class Making:
    """What a run works with: its tasks, the pool of instructions, and the ids of records that were made of them."""

    def __init__(self, given: Given):
        o = self.options = given.options
        self.given = given
        if o.machine > o.in_context:
            raise UserError(f"config.self_instruct.machine={o.machine} is over in_context={o.in_context}")
        self.tasks, self.machine, self.gate, self.chat, self.check = growing.begin(given, WHAT,
                                                                                   labels=o.classification_seeds)
        self.ids = {task.instruction: task.ids[0] for task in self.tasks}
        for record in given.kept:
            self.ids.setdefault(seeds.read(record)[0], record.id)

    def request(self, number: int) -> tuple[Call, tuple[str, ...]]:
        """The call of a request, and what it shows. Drawn by the run's seed and the request's number."""
        o, rng = self.options, random.Random(f"{self.given.seed}:{number}")
        shown = rng.sample(self.machine, min(o.machine, len(self.machine)))
        shown += [task.instruction for task in rng.sample(self.tasks, o.in_context - len(shown))]
        rng.shuffle(shown)
        call = Call(templates.new_tasks(shown, labels=o.classification_seeds, chat=self.chat), o.max_tokens,
                    o.temperature, o.top_p, presence_penalty=o.presence_penalty,
                    stop=() if self.chat else texts.words(o.stop), seed=self.given.seed + number)
        return call, tuple(self.ids[text] for text in shown if text in self.ids)


def run(given: Given) -> Iterator[Step]:
    """See the module's docstring."""
    making = Making(given)

    def bring(numbers: range) -> tuple[list[Record], list[Rejected], list[str]]:
        made, rejected = new_instructions(making, numbers)
        kept, more = with_instances(making, made)
        return kept, rejected + more, [one.instruction for one in made]

    yield from growing.grow(given, making.machine, bring)


def new_instructions(making: Making, numbers: range) -> tuple[list[Made], list[Rejected]]:
    """What requests bring: instructions that are taken, and why the others are not."""
    asked = [making.request(number) for number in numbers]
    replies = making.given.ask([call for call, _ in asked])
    made, rejected = [], []
    for number, (call, parents), reply in zip(numbers, asked, replies, strict=True):
        source = f"request {number}"
        if isinstance(reply, Lost):
            rejected.append(Rejected(reply.reason, reply.detail, source))
            continue
        if reply.finish_reason == "length":
            rejected.append(Rejected("cut", "reached max_tokens, so that all of it goes", source, reply.text))
            continue
        tasks = list(listed(reply.text) if making.chat else continued(reply.text))
        if not tasks:
            rejected.append(Rejected("no_task", "names no task", source, reply.text))
        for text in tasks:
            text = tidy(text, policy=making.options.policy)
            found = making.gate.refuses(text)
            if found:
                rejected.append(Rejected(*found, source, text))
            else:
                made.append(Made(text, parents, (f"instruction:{prompt_hash(call)}:{call.seed}",), source))
    return made, rejected


def with_instances(making: Making, made: Sequence[Made]) -> tuple[list[Record], list[Rejected]]:
    """Records of instructions: whether each is a classification, then its instances."""
    given, o, kept, rejected, known = making.given, making.options, [], [], []
    questions = [Call(templates.is_classification(one.instruction, chat=making.chat), o.check_tokens,
                      stop=() if making.chat else ("\n", "Task")) for one in made]
    for one, call, reply in zip(made, questions, given.ask(questions), strict=True):
        if isinstance(reply, Lost):
            rejected.append(Rejected(reply.reason, f"classification or not: {reply.detail}", one.source,
                                     one.instruction))
        else:
            yes = reply.text.strip().rstrip(".").strip() in YES
            known.append((one._replace(steps=(*one.steps, f"classification:{prompt_hash(call)}")), yes))
    calls = [Call(templates.instances(one.instruction, classification=yes, chat=making.chat),
                  o.label_tokens if yes else o.instance_tokens, presence_penalty=o.instance_presence_penalty,
                  stop=() if making.chat else (f"Example {o.instances + 1}", "Task:")) for one, yes in known]
    for (one, yes), call, reply in zip(known, calls, given.ask(calls), strict=True):
        if isinstance(reply, Lost):
            rejected.append(Rejected(reply.reason, f"instances: {reply.detail}", one.source, one.instruction))
            continue
        records, more = records_of(making, one, yes, call, reply)
        kept, rejected = kept + records, rejected + more
        if records:
            making.ids.setdefault(one.instruction, records[0].id)
    return kept, rejected


def records_of(making: Making, one: Made, yes: bool, call: Call, reply: Reply) -> tuple[list[Record], list[Rejected]]:
    """A record of each instance of a reply."""
    o = making.options
    found = instances.instances(reply.text, classification=yes, cut=reply.finish_reason == "length")
    rejected = [Rejected(reason, detail or one.instruction, one.source, f"{one.instruction}\n\n{text}")
                for reason, detail, text in found.dropped]
    chosen = found.kept
    if len(chosen) > o.instances:
        rng = random.Random(f"{making.given.seed}:{one.instruction}")
        places = set(rng.sample(range(len(chosen)), o.instances))
        rejected += [Rejected("too_many", f"more than {o.instances} instances", one.source, instances.shown(instance))
                     for i, instance in enumerate(chosen) if i not in places]
        chosen = [instance for i, instance in enumerate(chosen) if i in places]
    made = changed(provenance(making.given.generator.identity, call, method=WHAT, parents=one.parents),
                   steps=(*one.steps, "instances"))
    kept = []
    for instance in chosen:
        prompt = seeds.message(one.instruction, instance.input)
        record = seeds.record(one.instruction, instance, made, is_classification=yes)
        bad = making.check(prompt, instance.output)
        if bad:
            rejected.append(Rejected(bad.reason, bad.detail, one.source, instance.output, record))
        else:
            kept.append(record)
    return kept, rejected
