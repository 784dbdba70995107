"""What Self-Instruct and Alpaca ask: the published forms, in words of our own.

    new_tasks(["Name a prime.", ...])        # "Write a list of tasks ...\\n1. Name a prime.\\n...\\n9."
    is_classification("Sort these words.")   # 31 examples, then this task and a question
    instances("Sort these words.", classification=False)

A base model continues these texts as they are. For a chat model each has a second form, which says what to write.
"""

from __future__ import annotations

from collections.abc import Sequence

from jitune.construct.distill.classified import CLASSIFIED, LABELLED, WORKED
from jitune.generators.call import Prompt

HEAD = "Here is a varied list of tasks:"
HEAD_LABELS = ("Here is a varied list of tasks whose answer is one of a few labels. Where it helps, a task names its "
               "labels:")
QUESTION = "Is this task a classification, with a small and fixed set of possible answers?"
ASKED = "Classification?"
HEAD_WORKED = ("For each task below, write examples of it, several where you can. Where a task needs no input, write "
               "its output alone.")
HEAD_LABELLED = ("For each classification task below, name its class labels, and under each label write an input that "
                 "belongs to it. Where a task needs no input, write the labels alone.")
ALPACA = """\
Write {count} varied tasks for an assistant that is a language model. Another model will be given the same tasks, and \
both will be judged by how well they do them.

What is wanted:
1. No two tasks begin with the same verb, where that can be avoided.
2. They are worded in many ways: some ask, some tell.
3. They are of many kinds: open generation, classification, rewriting, and others.
4. A language model can do them with text alone. It sees and hears nothing, makes no picture or sound, cannot wake \
anybody at five or remind them of something, and does nothing in the world.
5. {language}
6. A task is one or two sentences long, a question or an order.
7. Where a task works on something, its input gives a realistic case, not a placeholder, of at most 100 words. It must \
be hard enough to be of interest.
8. Not every task needs an input, as when a general fact is asked for: then the input is "<noinput>".
9. The output is a fitting answer to the task and its input, of fewer than 100 words.

The {count} tasks:
"""


def new_tasks(instructions: Sequence[str], *, labels: bool = False, chat: bool = False) -> Prompt:
    """Asks for more tasks. labels: for classification tasks. The text ends with the number of the next one."""
    lines = [f"{n}. {' '.join(text.split()).rstrip(':')}" for n, text in enumerate(instructions, 1)]
    body = "\n".join([HEAD_LABELS if labels else HEAD, *lines])
    after = len(lines) + 1
    if not chat:
        return f"{body}\n{after}."
    return (("user", f"{body}\n\nGo on with this list: write tasks {after} to {after + len(lines) - 1}, each on a line "
             "that begins with its number, unlike those above and unlike each other. Write nothing else."),)


def is_classification(instruction: str, *, chat: bool = False) -> Prompt:
    """Asks whether a task is a classification; the answer begins with Yes or No."""
    shots = [f"Task: {task}\n{ASKED} {'Yes' if yes else 'No'}" for task, yes in CLASSIFIED]
    text = "\n\n".join([QUESTION, *shots, f"Task: {instruction.strip()}\n{ASKED}"])
    return (("user", f"{text}\n\nAnswer for the last task alone, with Yes or No."),) if chat else text


def instances(instruction: str, *, classification: bool, chat: bool = False) -> Prompt:
    """Asks for instances of a task: labels and inputs of a classification, else inputs and outputs."""
    head, shots = (HEAD_LABELLED, LABELLED) if classification else (HEAD_WORKED, WORKED)
    text = "\n\n".join([head, *(f"Task: {task}\n{body}" for task, body in shots), f"Task: {instruction.strip()}\n"])
    return (("user", f"{text}\nWrite what belongs below the last task, in the same form, for it alone, and nothing "
             "else."),) if chat else text


def alpaca(tasks: Sequence[tuple[str, str, str]], *, count: int, language: str, chat: bool = False) -> Prompt:
    """Asks for `count` tasks, of which (instruction, input, output) of these are the first."""
    text = ALPACA.format(count=count, language=language)
    for n, (instruction, given, output) in enumerate(tasks, 1):
        text += (f"###\n{n}. Instruction: {' '.join(instruction.split()).rstrip(':')}\n{n}. Input:\n"
                 f"{given or '<noinput>'}\n{n}. Output:\n{output}\n")
    text += f"###\n{len(tasks) + 1}. Instruction:"
    return (("user", text),) if chat else text
