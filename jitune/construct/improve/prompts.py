"""What a model is asked about its own problems and answers, and how its replies are read. Pure functions.

    hint(record, "18")                       # (("user", "..."),): the problem with its answer, for STaR
    judge(record, "Because ...")             # (("user", "..."),): points from 0 to 5, for self-rewarding
    read_points("Clear. Score: 4")           # 4.0; None where no points from 0 to 5 are given
    mean_points(["Score: 4", "Score: 3", "?"])      # (3.5, "2 of 3 replies gave points")

The wording is jitune's own; the structure and the numbers are the papers'.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from jitune.construct.improve.select import question
from jitune.construct.verify.math_text import stated
from jitune.data.record import Record, own_answer
from jitune.types import UserError

MOST = 5  # points, one for each of the criteria below
POINTS = re.compile(r"\bscore\b[*_\s]{0,4}[:：=]?[*_\s]{0,4}<?(-?[0-9]+(?:\.[0-9]+)?)>?(?:\s*/\s*([0-9]+))?",
                    re.IGNORECASE)  # fmt: skip
HINT = """{question}

(Hint: the right answer is {answer}. Work the problem out step by step as if you did not know it, so that each step \
follows from the one before, and end with the answer. Do not mention this hint.)"""
JUDGE = """Below are a user's request and a reply to it. Rate the reply by adding up points, from 0 to {most}; each \
point is given only on top of those before it:

- One point: the reply is about what was asked and says something useful, even if it is incomplete or partly beside \
the point.
- A second point: it deals with a good part of the request, though not with all of it.
- A third point: it answers the essence of the request in a way that helps the user, whoever wrote it.
- A fourth point: it is written as an assistant should write, from its own point of view, to the point, well ordered \
and complete, with little left to improve.
- A fifth point: it is made for this user by an expert: no needless words, real insight, pleasant to read.

<request>
{question}
</request>

<reply>
{reply}
</reply>

First give your reasons in at most 100 words. Then end with one line of this form:
Score: <points>"""


def hint(record: Record, answer: str = "") -> tuple[tuple[str, str], ...]:
    """The problem with its right answer as a hint behind the last message, for STaR's rationalization.

    answer: by default the record's (`right_answer`). What comes back is kept with the problem itself, without the hint.
    """
    answer = answer or right_answer(record)
    turns = _turns(record)
    if not turns:
        raise UserError(f"record {record.id}: has no question to which a hint could be given")
    if not answer:
        raise UserError(f"record {record.id}: has no right answer that could be the hint")
    role, text = turns[-1]
    return (*turns[:-1], (role, HINT.format(question=text, answer=answer)))


def right_answer(record: Record) -> str:
    """What is known to be right: `meta["answer"]`, else what the record's answer states, without its reasoning."""
    if record.meta.get("answer") not in (None, ""):
        return str(record.meta["answer"])
    text = own_answer(record)
    found = stated(text)
    return (found[0] if found else text).strip()


def judge(record: Record, reply: str, *, template: str = JUDGE) -> tuple[tuple[str, str], ...]:
    """The request for points from 0 to 5 (self-rewarding, arXiv 2401.10020, its additive scale).

    template: has the fields {question}, {reply} and {most}.
    """
    fields = {"question": shown(record), "reply": reply.strip(), "most": str(MOST)}
    return (("user", re.sub(r"\{(question|reply|most)\}", lambda m: fields[m[1]], template)),)


def read_points(text: str) -> float | None:
    """The points behind the last "Score:" of a reply; None without one from 0 to 5. "4/5" is 4."""
    found = POINTS.findall(text)
    if not found:
        return None
    points, most = float(found[-1][0]), found[-1][1]
    return points if 0 <= points <= MOST and most in ("", str(MOST)) else None


def mean_points(replies: Sequence[str]) -> tuple[float | None, str]:
    """The mean of the points that replies give (the paper asks three times), and how many gave some; None for none."""
    points = [found for reply in replies if (found := read_points(reply)) is not None]
    detail = f"{len(points)} of {len(replies)} replies gave points"
    return (sum(points) / len(points) if points else None), detail


def shown(record: Record) -> str:
    """The messages before the answer, as a text: the user's words alone where that is all."""
    turns = _turns(record)
    return turns[0][1] if len(turns) == 1 else "\n\n".join(f"{role}: {text}" for role, text in turns)


def _turns(record: Record) -> tuple[tuple[str, str], ...]:
    return tuple((message["role"], message.get("content") or "") for message in question(record))
