"""Which tasks there are, by name, and where they lie; nothing is imported until it is asked for.

    find_task("gsm8k")                           # jitune.evals.tasks.gsm8k.TASK
    find_task("multiple_choice:mine.jsonl")      # jitune.evals.tasks.multiple_choice.make("mine.jsonl")
    find_task("my_tasks.fruit:TASK")             # a task of yours, by its import path
"""

from __future__ import annotations

import difflib
import importlib

from jitune.evals.task import AXES, Task
from jitune.types import UserError

UTILITY = (
    "ifeval", "gsm8k", "mgsm", "bbh", "humaneval", "pubmedqa", "legalbench", "lawbench", "tatqa", "xcopa", "open_ended",
)
FAITHFULNESS = (
    "truthfulqa_mc", "truthfulqa_gen", "halueval", "grounded_qa", "claim_support", "selfcheck", "begin",
)
SAFETY = (
    "xstest", "advbench", "harmbench", "strongreject", "multijail", "bbq", "toxicity",
)
SUITES = {"utility": UTILITY, "faithfulness": FAITHFULNESS, "safety": SAFETY}
# Not in a suite: they take a file of yours.
OF_A_FILE = ("multiple_choice", "generation", "perplexity")
NAMES = (*UTILITY, *FAITHFULNESS, *SAFETY, *OF_A_FILE)


def find_task(word: str) -> Task:
    """The task that a word names; see the module's docstring.

    Raises:
      UserError: with the nearest names, or why the import failed.
    """
    name, _, argument = word.partition(":")
    if name in NAMES:
        module = importlib.import_module(f"jitune.evals.tasks.{name}")
        if argument:
            if not hasattr(module, "make"):
                raise UserError(f"--tasks {word}: {name} takes nothing after a colon")
            return module.make(argument)
        if not hasattr(module, "TASK"):
            raise UserError(f"--tasks {word}: {name} needs a file, as in {name}:FILE.jsonl")
        return module.TASK
    if not argument:
        near = difflib.get_close_matches(name, NAMES, n=3) or NAMES
        raise UserError(f"--tasks {word}: there is no such task; the nearest are {', '.join(near)}; "
                        "a task of your own is module:NAME")
    try:
        found = getattr(importlib.import_module(name), argument)
    except (ImportError, AttributeError) as error:
        raise UserError(f"--tasks {word}: cannot be imported: {error}") from error
    if not isinstance(found, Task):
        raise UserError(f"--tasks {word}: is {type(found).__name__}, not a jitune.evals.task.Task")
    return found


def suite(words: str) -> list[str]:
    """The names of the tasks of suites joined by commas."""
    names = []
    for word in filter(None, (w.strip() for w in words.split(","))):
        if word not in SUITES:
            raise UserError(f"--suite {word}: there is no such suite; there are {', '.join(AXES)}")
        names += [n for n in SUITES[word] if n not in names]
    return names
