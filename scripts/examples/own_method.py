"""A method of distillation of your own: a teacher shortens answers, and what it does not shorten is rejected.

    python scripts/examples/own_method.py

runs three records through the method with a teacher that is a function, and says what became of each. The same with a
model, from the folder of this file:

    jitune data distill --config.method=own_method --config.input=data.jsonl --config.teacher.model=DIR \\
        --config.own_method.most=0.5 --config.output_dir=shortened

A method is a module with `defaults()`, its section of the config, and `run(given)`; see
`jitune.construct.distill.method`. What it asks for must follow from `given` alone: a run that was killed calls it
again with the state of the last step, and finds the answers that were paid for.
"""

from jitune.construct.distill.method import Given, Rejected, Step
from jitune.data.record import Record, answer, changed, named
from jitune.generators.call import Call, Lost, Reply, provenance
from jitune.generators.replay import Replay

AT_ONCE = 64  # records of a step


def defaults():
    return {"most": 0.8, "max_tokens": 256}  # of an answer's length, at most; tokens of the new one


def total(options, records):
    return len(records)


def run(given):
    for start in range(given.state.get("done", 0), len(given.records), AT_ONCE):
        some = given.records[start : start + AT_ONCE]
        calls = [Call((("user", f"Say the same in fewer words, and nothing else:\n\n{answer(record)}"),),
                      given.options["max_tokens"]) for record in some]
        kept, rejected = [], []
        for record, call, reply in zip(some, calls, given.ask(calls), strict=True):
            why = fault(reply, most=given.options["most"] * len(answer(record)))
            if why:
                said = reply.text if isinstance(reply, Reply) else ""
                rejected.append(Rejected(*why, source=record.provenance.source, text=said))
            else:
                kept.append(shorter(record, call, reply, given))
        yield Step(kept, rejected, {"done": start + len(some)}, done=start + len(some))


def fault(reply, *, most):
    """(reason, detail), or None."""
    if isinstance(reply, Lost):
        return reply.reason, reply.detail
    if reply.finish_reason == "length":
        return "cut", "reached max_tokens"
    length = len(reply.text.strip())
    return None if 0 < length <= most else ("no_shorter", f"{length} characters, at most {most:.0f}")


def shorter(record, call, reply, given):
    messages = (*record.messages[:-1], {"role": "assistant", "content": reply.text.strip()})
    made = provenance(given.generator.identity, call, method="own_method", parents=[record.id],
                      source=record.provenance.source, license=record.provenance.license)
    return named(changed(record, id="", messages=messages, provenance=made))


ROWS = (("Do cats swim?", "Most cats can swim, though few of them like it."), ("What is 2 + 2?", "4"),
        ("Why is ice slippery?", "A very thin layer of water on top of the ice makes it slippery."))  # fmt: skip
SAID = {"Most cats": "Most can, few like to.", "4": "It is 4.", "A very": "A thin layer of water lies on it."}


def teacher(call):
    text = call.prompt[-1][1].partition("\n\n")[2]
    return next(said for start, said in SAID.items() if text.startswith(start))


def main():
    records = [named(Record("", ({"role": "user", "content": asked}, {"role": "assistant", "content": said})))
               for asked, said in ROWS]
    generator = Replay(teacher)
    for step in run(Given(generator.answer, generator, defaults(), records)):
        for record in step.kept:
            print(f"kept: {answer(record)}")
        for one in step.rejected:
            print(f"{one.reason}: {one.detail}")


if __name__ == "__main__":
    main()
