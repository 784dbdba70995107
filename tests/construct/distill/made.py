"""A teacher that says the same whenever it is asked the same, seeds, and folders that are read."""

import json
import random
from pathlib import Path

from jitune.construct.distill import config as configs
from jitune.generators.call import Call, Reply

VERBS = ("Name", "Describe", "Compare", "Explain", "Translate", "List", "Rewrite", "Sort", "Invent", "Count")
THINGS = ("rivers of Asia", "kinds of bread", "moons of Saturn", "ways to fold paper", "old trades", "rules of chess",
          "birds at night", "words for snow", "games with stones", "uses of salt")  # fmt: skip
ENDS = ("for a child", "in one line", "with a reason", "by their age", "as a poem", "for a visitor", "in two words")


def seeds(count: int = 10) -> list[dict]:
    """Rows of Self-Instruct's seed file."""
    return [{"id": f"seed_task_{i}", "instruction": f"Tell me about number {i} {'abcdefghij'[i % 10] * 3}.",
             "instances": [{"input": f"case {i}", "output": f"fact {i}"}], "is_classification": i % 3 == 0}
            for i in range(count)]


def write(path: Path, rows: list) -> Path:
    """A JSONL file; a text stands as it is."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def config(method: str, out: Path, *words: str, **options):
    """A config of `jitune data distill`; options with a section: respond__n=2."""
    given = [f"--config.{name.replace('__', '.')}={value}" for name, value in options.items()]
    return configs.from_words(None, [f"--config.method={method}", f"--config.output_dir={out}", *given, *words])


def sentence(rng: random.Random) -> str:
    """A task; a few are alike."""
    return f"{rng.choice(VERBS)} the {rng.choice(THINGS)} {rng.choice(ENDS)}."


def teacher(call: Call) -> str | Reply:
    """Answers whatever the methods ask, sometimes badly."""
    text = call.prompt if isinstance(call.prompt, str) else call.prompt[-1][1]
    rng = random.Random(f"{text}{call.seed if call.temperature else ''}")
    finish = "length" if rng.random() < 0.1 else "stop"
    if text.startswith("Here is a varied"):
        return Reply(" " + "\n".join(f"{9 + i}. {sentence(rng)}" for i in range(8)).removeprefix("9. "), finish, 9, 80)
    if text.startswith("Is this task"):
        return rng.choice([" Yes", " No", " no idea"])
    if text.startswith("For each task"):
        return Reply("".join(f"Example {i}\nInput: {rng.randrange(99)}\nOutput: {rng.randrange(99)}{':' * (i == 3)}\n"
                             for i in range(1, 4)), finish, 50, 30)
    if text.startswith("For each class"):
        return Reply(f"Class label: yes\nText: {rng.random()}\nClass label: no\nText: {rng.random()}", finish, 50, 30)
    if text.startswith("Write 20"):
        return Reply("".join(f"{'#' * 3 if i else ''}\n{4 + i}. Instruction: {sentence(rng)}\n{4 + i}. Input:\n"
                             f"{rng.choice(['<noinput>', 'salt'])}\n{4 + i}. Output:\n{rng.random()}\n"
                             for i in range(6)).strip().removeprefix("4. Instruction:"), finish, 300, 400)
    bad = ("I'm sorry, but I can't help with that.", "", "spam and eggs, " * 40, "half \ufffd a text")
    return rng.choice(bad) if rng.random() < 0.3 else Reply(f"Answer {rng.random()} to it.", finish, 12, 7)
