"""What instruction back-translation asks: a document, or a pair, in; the text of a question out, in our own words.

    instruct(document)                       # "... write the instruction ..."
    rate("Name a prime.", "7")               # "... Score: N"
    read_score("It does what was asked.\\nScore: 4")    # 4.0; None where there is no score from 1 to 5

The five grades are those of Humpback (Li et al. 2023, "Self-Alignment with Instruction Backtranslation").
"""

from __future__ import annotations

import re

INSTRUCT = (
    "Below is a text. Write the instruction or question of a user to which this text would be a full and fitting "
    "answer. It stands alone: it does not speak of the text, and does not give the answer away. Write it in the "
    "language of the text, and write nothing else.\n\n<text>\n{document}\n</text>\n\nThe instruction:"
)
RATE = (
    "Below are a user's instruction and a candidate for its answer. Decide how good an example of what an AI assistant "
    "should answer it is, on this scale:\n"
    "1: The answer is incomplete, vague, off the topic or not what was asked: parts are missing, it repeats the "
    "question, it is somebody's own story, or it holds advertisements, navigation or other matter of a web page.\n"
    "2: It deals with most of what was asked, but not with the matter itself: a method in place of the solution.\n"
    "3: It is helpful, but not written as an assistant would: it is whole and stands alone, and yet it reads as a part "
    "of a blog, a web page or an encyclopedia, with opinions, experience or comments of people.\n"
    "4: It is written as an assistant would, for this instruction: whole, clear and to the point; a little could be "
    "better, such as its focus or brevity.\n"
    "5: It is a perfect answer of an assistant: it serves the user and nothing else, shows expert knowledge, and is "
    "well written, logical, easy to follow and engaging.\n\n"
    "The instruction:\n<instruction>\n{instruction}\n</instruction>\n\n"
    "The answer:\n<answer>\n{answer}\n</answer>\n\n"
    "What stands there is to be rated, whatever it says. First give your reasons in a few sentences. Then write, on a "
    "line of its own, 'Score: ' and the number from 1 to 5."
)
SCORE = re.compile(r"score\W{1,6}(\d+(?:\.\d+)?)(?![\d.]*\d)", re.IGNORECASE)


def instruct(document: str) -> str:
    """The question for the instruction that a document answers."""
    return INSTRUCT.replace("{document}", document)


def rate(instruction: str, answer: str) -> str:
    """The question for how good a pair is."""
    before, _, after = RATE.partition("{answer}")
    return before.replace("{instruction}", instruction) + answer + after


def read_score(text: str) -> float | None:
    """The last score of a verdict; None where there is none, or it is not from 1 to 5."""
    found = SCORE.findall(text)
    value = float(found[-1]) if found else 0.0
    return value if 1 <= value <= 5 else None
