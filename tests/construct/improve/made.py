"""Small sums as problems, a generator that knows some of them, and runs of a tiny model on them."""

import json
import os
from pathlib import Path

from jitune.construct.improve import config as configs
from jitune.construct.improve.models import Models
from jitune.generators.cached import Cached
from jitune.generators.call import Reply

SUMS = [(a, b) for a in range(2, 8) for b in range(3, 5)]


def row(a: int, b: int) -> dict:
    """A problem with its answer, as GSM8K has them."""
    return {"messages": [{"role": "user", "content": f"What is {a} plus {b}?"},
                         {"role": "assistant", "content": f"It is {a}+{b}=<<{a}+{b}={a + b}>>{a + b}.\n#### {a + b}"}]}


def write(path: Path, sums) -> Path:
    """A file of problems."""
    path.write_text("".join(json.dumps(row(a, b)) + "\n" for a, b in sums))
    return path


def solve(call, made: str) -> str:
    """Right in one of two ways for even seeds, wrong for odd ones; to a hint always right. made: by which model."""
    words = call.prompt[-1][1]
    a, b = (int(w) for w in words.partition("?")[0].replace("What is ", "").split(" plus "))
    if "Hint:" not in words and call.temperature and call.seed % 2:
        return f"It is {a + b + 1}.\n#### {a + b + 1}"
    first, second = (a, b) if call.seed % 4 else (b, a)
    return f"{made} says {first}+{second}=<<{first}+{second}={a + b}>>{a + b}.\n#### {a + b}"


class Source:
    """Answers by a function, and writes down every answer that is paid for."""

    raw, free, shared = True, True, False

    def __init__(self, name: str, digest: str, answer_one, log: Path):
        self.identity = {"kind": "replay", "model": name, "digest": digest}
        self.answer_one, self.log = answer_one, log

    def check(self, call) -> None:
        """Every call may be asked."""

    def ask(self, calls, purse, keep, tell, proven=False) -> None:
        """One after the other."""
        for i, call in enumerate(calls):
            said = self.answer_one(call, self.identity["model"])
            reply = Reply(said, "stop", len(str(call.prompt)), len(said.split())) if isinstance(said, str) else said
            with open(self.log, "a") as log:
                log.write(json.dumps([self.identity["model"], repr(call)]) + "\n")
            if isinstance(reply, Reply):
                keep(i, reply)
            tell(i, reply)


class Told(Models):
    """Models whose answers are a function's; what is trained is real."""

    def __init__(self, config, answer_one=solve, log=os.devnull):
        super().__init__(config)
        self.answer_one, self.log = answer_one, log

    def open_own(self, path, *, name, cache):
        return Cached(Source(name, self.digest(path), self.answer_one, self.log), cache=cache)


def config(model: Path, folder: Path, out: Path, **options):
    """A run of one step a round on all devices. options: with two underscores for a dot."""
    found = configs.defaults()
    found.model.path, found.output_dir = str(model), str(out)
    found.prompts = str(write(folder / "prompts.jsonl", SUMS[:8]))
    found.heldout = str(write(folder / "heldout.jsonl", SUMS[8:]))
    found.verifier.name = "math"
    found.train.update({"seq_len": 96, "batch_size": 8, "steps": 2, "loss_chunk": 64})
    found.sampling.update({"samples": 4, "max_tokens": 24})
    for name, value in options.items():
        node = found
        *parents, last = name.split("__")
        for parent in parents:
            node = node[parent]
        node[last] = value
    return found
