"""What Evol-Instruct asks: an operation and an instruction in, the text of a question out, in our own words.

    ask = rewrite("deepen", "Name a prime.")     # "... #Given Prompt#:\\nName a prime.\\n\\n#Rewritten Prompt#:"
    ask = equal("Name a prime.", "Name two.")    # "... Equal or Not Equal"
    read_equal("Not Equal.")                     # False; None where it says neither

The structure, the six operations, the 10 to 20 words that a rewriting adds and the headings, by which leaks are
known, are those of Xu et al. 2023 (WizardLM, arXiv 2304.12244, appendix). Their demonstrations of
complicated inputs are not used: a format is named in their place.
"""

from __future__ import annotations

import re

GIVEN, REWRITTEN, CREATED = "#Given Prompt#", "#Rewritten Prompt#", "#Created Prompt#"
# How an instruction is made harder, in depth.
DEPTH = {
    "constraints": "Add one more condition or requirement that an answer has to meet.",
    "deepen": "If the prompt asks about something, ask for more of it: go deeper into the matter, and wider around it.",
    "concretise": "Put something special in the place of something general: a named case, a number, a situation.",
    "reasoning": "If a simple thought is enough for an answer, change the prompt so that it openly asks for several "
                 "steps of reasoning.",
    "complicate": "Add input data to the prompt, written out in full as {format}, that an answer has to work with.",
}
OPERATIONS = (*DEPTH, "breadth")
FORMATS = ("XML data", "a SQL table with its rows", "Python code", "an HTML page", "shell commands with their output",
           "JSON data")
# What an evolved instruction must not say: it then repeats what it was asked with.
LEAKS = ("given prompt", "rewritten prompt", "created prompt", "#given prompt#", "#rewritten prompt#",
         "#created prompt#")

UNEQUAL = re.compile(r"(?:\bnot|n't|\bnon)\W{1,3}equal\b|\bunequal\b")
EQUALS = re.compile(r"\bequal\b")

DEEPER = (
    "You rewrite prompts. Turn the prompt below into a more complex one, which well-known assistants find a bit harder "
    "to handle. It must stay reasonable: a person has to understand it and be able to respond to it. Keep what is not "
    f"prose in {GIVEN}, such as tables and code, and keep its input.\n\n"
    "Make it more complex in this way: {method}\n\n"
    f"Do not let {REWRITTEN} become wordy: {{growth}}. The words '{GIVEN}', '{REWRITTEN}', 'given prompt' and "
    f"'rewritten prompt' must not occur in it. Write it in the language of {GIVEN}, and write nothing else.\n\n"
    f"{GIVEN}:\n{{text}}\n\n{REWRITTEN}:\n"
)
SHORT, LONG = "add no more than 10 to 20 words to it", "beside the data, add no more than 10 to 20 words to it"
WIDER = (
    "You invent prompts. Let the prompt below inspire you to write a new one, of the same domain and of a kind that is "
    f"even rarer. {CREATED} should be about as long and as complex as {GIVEN}. It must be reasonable: a person has to "
    f"understand it and be able to respond to it. The words '{GIVEN}', '{CREATED}', 'given prompt' and 'created "
    f"prompt' must not occur in it. Write it in the language of {GIVEN}, and write nothing else.\n\n"
    f"{GIVEN}:\n{{text}}\n\n{CREATED}:\n"
)
EQUAL = (
    "Here are two instructions to an assistant. Decide whether they are equal. They are if both hold: they set the "
    "same conditions and requirements, and they ask equally deep and equally wide.\n\n"
    "The first:\n{first}\n\nThe second:\n{second}\n\n"
    "Reply with Equal or Not Equal and nothing else."
)


def rewrite(operation: str, text: str, *, format: str = FORMATS[0]) -> str:
    """The question that evolves an instruction. format: of the data that `complicate` adds."""
    if operation == "breadth":
        return WIDER.replace("{text}", text)
    method = DEPTH[operation].replace("{format}", format)
    growth = LONG if operation == "complicate" else SHORT
    return DEEPER.replace("{method}", method).replace("{growth}", growth).replace("{text}", text)


def equal(first: str, second: str) -> str:
    """The question whether an evolved instruction is the one that it was made of."""
    before, _, after = EQUAL.partition("{second}")
    return before.replace("{first}", first) + second + after


def read_equal(text: str) -> bool | None:
    """Whether a verdict says equal; None where it says neither, or both."""
    text = text.casefold()
    rest = UNEQUAL.sub("", text)
    no, yes = rest != text, EQUALS.search(rest) is not None
    return None if no == yes else yes


def leak(text: str, parent: str) -> str:
    """The words of the question that an evolved instruction repeats and its parent has not, or ""."""
    text, parent = text.casefold(), parent.casefold()
    return next((words for words in sorted(LEAKS, key=len, reverse=True) if words in text and words not in parent), "")
