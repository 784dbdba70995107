"""What a model is told when it looks at answers: a hint, a scale to judge by, a principle; conversations out.

    hinted(record, "7")                           # the question, and that its result is 7
    judge(record, "It is 7.")                     # the answer to be scored, 0 to 5 points added up
    read_score("It helps and is clear. Score: 4") # 4.0
    critique(record, text, principle), revision(record, text, principle, said)

The structure is that of the papers (STaR: the result as a hint; Self-Rewarding Language Models, figure 2: five points
that add up; Constitutional AI: critique, then revision by a principle); the words are ours.
"""

from __future__ import annotations

import re

from jitune.construct.improve.problems import conversation, question
from jitune.data.record import Record
from jitune.generators.call import Prompt

HINT = "Hint: the result is {result}. Write the whole way that leads to it, as if nobody had told you."
JUDGE = """\
Below are a user's request and an answer to it. Judge the answer by points that add up, from 0 to 5:

- 1 point if it is about the request and gives something useful, even if it is incomplete or partly beside the point.
- 1 more point if it deals with a large part of the request, though not with all of it.
- 1 more point if it answers the core of the request in a useful way.
- 1 more point if it is written for the user, clear, well ordered and complete, with little left to improve.
- 1 more point if it is what an expert would give: without a needless word, insightful, and nothing to improve.

Request:
{request}

Answer:
{answer}

Say in at most 100 words why it gets its points. Then end with a line "Score: " and the total, a number from 0 to 5."""
CRITIQUE = """\
Below are a user's request and an answer to it. Read the answer in the light of this principle:

{principle}

Request:
{request}

Answer:
{answer}

Say precisely what in the answer goes against the principle, and what is missing by it. If nothing does, say so."""
REVISION = """\
Below are a user's request, an answer to it, and a critique of that answer by this principle:

{principle}

Request:
{request}

Answer:
{answer}

Critique:
{critique}

Write the answer anew, so that the critique no longer holds. Write nothing but the new answer."""
# "Score: 4", "score: 3.5 / 5", "**Score:** 4"
SCORE = re.compile(r"score\W{0,6}(\d+(?:\.\d+)?)(?![\d.]*\d)", re.IGNORECASE)


def hinted(record: Record, result: str) -> Prompt:
    """The problem with its result as a hint, behind the last message of the user."""
    hint = HINT.format(result=result)
    asked = question(record)
    if isinstance(asked, str):
        return f"{asked}\n{hint}\n"
    *before, (role, content) = asked
    return (*before, (role, f"{content}\n\n{hint}"))


def judge(record: Record, answer: str) -> Prompt:
    """What a judge is asked about an answer."""
    return _told(JUDGE, request=request(record), answer=answer)


def read_score(text: str) -> float | None:
    """The points of a judgement: the last number behind "Score:", where it lies in 0 to 5; else None."""
    found = SCORE.findall(text)
    score = float(found[-1]) if found else None
    return score if score is not None and score <= 5 else None


def critique(record: Record, answer: str, principle: str) -> Prompt:
    """Asks what of an answer goes against a principle."""
    return _told(CRITIQUE, request=request(record), answer=answer, principle=principle)


def revision(record: Record, answer: str, principle: str, said: str) -> Prompt:
    """Asks for a better answer. said: the critique."""
    return _told(REVISION, request=request(record), answer=answer, principle=principle, critique=said)


def request(record: Record) -> str:
    """What was asked, as one text; of a conversation of several turns, who said what."""
    if record.text:
        return record.text[0][0]
    messages = conversation(record)
    if len(messages) == 1:
        return messages[0].get("content") or ""
    return "\n\n".join(f"{m['role']}: {m.get('content') or ''}" for m in messages)


def _told(template: str, **parts: str) -> Prompt:
    # One pass, so that braces and names of parts in a text stay as they are.
    return (("user", re.sub(r"\{(\w+)\}", lambda m: parts[m[1]], template)),)
