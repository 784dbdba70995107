"""Questions on an item: what is asked, of which records, and which answers are allowed.

    asked = parse(["rate:helpfulness,flag"], scales=["helpfulness:1=poor,2,3=great"], reasons=["wrong", "unsafe"])
    asked[0]                                   # Question("rate", "helpfulness", points=((1, "poor"), (2, ""), ...))
    check(asked[0], 3, answers=())             # 3
    check(asked[0], 9, answers=())             # UserError: helpfulness: 9 is not on the scale: 1, 2, 3

Six kinds: write an answer, rate, choose between a pair, rank a list, correct the last answer, flag with reasons. What
people compare is shown under letters in an order drawn by lot, so that places say nothing about origin; a page speaks
of places, a log and a record of the answers' own names.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from jitune.data.record import Record
from jitune.types import UserError

# The kinds, and what an answer is named where no name is given.
KINDS = {"write": "answer", "rate": "rating", "pair": "preference", "rank": "ranking", "correct": "correction",
         "flag": "flags"}
ASK = {"write": "Write the answer.", "rate": "How good is it?", "pair": "Which answer is better?",
       "rank": "Rank the answers, 1 for the best.", "correct": "Correct the answer.", "flag": "What is wrong with it?"}
SCALE = "1=very poor,2=poor,3=fair,4=good,5=very good"
REASONS = ("wrong", "unsafe", "unclear", "off topic", "personal data", "other")
NAME = re.compile(r"[\w .-]{1,60}")
MAX_RANKED = 9  # what one digit ranks


class Question(NamedTuple):
    """kind: of `KINDS`. name: unique on an item. ask: the words. points: of a scale, or reasons: (value, name)."""

    kind: str
    name: str
    ask: str
    points: tuple[tuple[Any, str], ...] = ()


def parse(tasks: Sequence[str], *, scales: Sequence[str] = (), reasons: Sequence[str] = (),
          asks: Sequence[str] = ()) -> tuple[Question, ...]:
    """Questions of what a command line says.

    Args:
      tasks: "rate" or "rate:helpfulness", also several in one, joined by commas.
      scales: "1-7", "1=poor,2=fair" or "yes,no"; "helpfulness:1-7" for one question only.
      reasons: of flags, also several in one, joined by commas.
      asks: "helpfulness=How much does it help?".

    Raises:
      UserError: an unknown kind, a name given twice, a scale of fewer than two points, words for no question.
    """
    found = []
    for task in (part.strip() for text in tasks for part in text.split(",")):
        kind, _, name = task.partition(":")
        if kind not in KINDS:
            raise UserError(f"--task: unknown task {task!r}; known are {', '.join(KINDS)}, each also as KIND:NAME")
        name = name.strip() or KINDS[kind]
        if not NAME.fullmatch(name):
            raise UserError(f"--task: {name!r} is not a name of up to 60 letters, digits, spaces, dots and hyphens")
        found.append(Question(kind, name, ASK[kind]))
    names = [q.name for q in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"--task: {twice[0]!r} is asked twice; name questions of one kind: rate:help,rate:tone")
    scale, words = _by_name(scales, ":", names, "--scale"), _by_name(asks, "=", names, "--ask")
    if scales and not any(q.kind == "rate" for q in found):
        raise UserError("--scale: nothing is rated; give --task rate")
    if reasons and not any(q.kind == "flag" for q in found):
        raise UserError("--reasons: nothing is flagged; give --task flag")
    given = [part.strip() for text in reasons for part in text.split(",") if part.strip()] or REASONS
    points = {"rate": lambda q: _points(scale.get(q.name, scale.get("", SCALE))),
              "flag": lambda q: tuple((reason, "") for reason in dict.fromkeys(given))}
    return tuple(q._replace(ask=words.get(q.name, q.ask), points=points.get(q.kind, lambda q: ())(q)) for q in found)


def _by_name(texts: Sequence[str], mark: str, names: list[str], option: str) -> dict[str, str]:
    """{"name": the rest}; "" for what names no question, where that is allowed."""
    found = {}
    for text in texts:
        name, there, rest = text.partition(mark)
        if there and name.strip() in names:
            found[name.strip()] = rest.strip()
        elif mark == ":" and ":" not in text:
            found[""] = text
        else:
            raise UserError(f"{option}: {text!r:.60} names no question; they are {', '.join(names)}")
    return found


def _points(text: str) -> tuple[tuple[Any, str], ...]:
    span = re.fullmatch(r"\s*(-?\d+)\s*-\s*(-?\d+)\s*", text)
    if span:
        low, high = int(span[1]), int(span[2])
        points = [(value, "") for value in range(low, min(high, low + 100) + 1)]
    else:
        points = []
        for part in (part.strip() for part in text.split(",") if part.strip()):
            value, _, name = part.partition("=")
            points.append((_number(value.strip()), name.strip()))
    values = [value for value, _ in points]
    if not 2 <= len(set(values)) == len(values) <= 20:
        raise UserError(f"--scale: {text!r:.60} needs 2 to 20 different points, such as 1-5 or 1=poor,2=fair,3=good")
    return tuple(points)


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def answers_of(record: Record) -> dict[str, str]:
    """The answers that can be compared, by name: "chosen" and "rejected", or the candidates' ids or numbers."""
    if not record.candidates:
        return {"chosen": said(record.chosen), "rejected": said(record.rejected)} if record.chosen else {}
    ids = [c.id for c in record.candidates]
    unique = len(set(ids)) == len(ids) and not {"", "tie"} & set(ids)
    names = ids if unique else [str(i) for i in range(len(ids))]
    return {name: said(c.messages) for name, c in zip(names, record.candidates, strict=True)}


def said(messages: Sequence[dict]) -> str:
    """The texts of an answer of one or more messages."""
    return "\n\n".join(m["content"] for m in messages if m.get("content"))


def original(record: Record) -> str | None:
    """The text that can be corrected: of a last message by the assistant, or of the last raw piece; else None."""
    if record.text:
        return record.text[-1][0]
    last = record.messages[-1] if record.messages else {}
    return last.get("content") or None if last.get("role") == "assistant" else None


def applies(question: Question, record: Record) -> str:
    """"" where the question can be asked of a record, or why not."""
    count = len(answers_of(record)) if question.kind in ("pair", "rank") else 0
    if question.kind == "pair" and count != 2:
        return "a pair needs two answers, as chosen and rejected or as candidates" + (", else rank" if count else "")
    if question.kind == "rank" and not 2 <= count <= MAX_RANKED:
        return f"a ranking needs 2 to {MAX_RANKED} answers"
    if question.kind == "correct" and original(record) is None:
        return "a correction needs an answer at the end"
    return ""


def order(record: Record, *, annotator: str, seed: int) -> list[str]:
    """The names of the answers as one annotator sees them: an order by lot that is always the same."""
    names = list(answers_of(record))
    random.Random(f"{seed}/{record.id}/{annotator}").shuffle(names)
    return names


def check(question: Question, value: Any, answers: Sequence[str]) -> Any:
    """The value that a page sent, as a record has it.

    Args:
      answers: the names of what is compared, in the order shown. "pair" takes a place in it or "tie"; "rank" takes
        lists of places, the best first, ties together.

    Raises:
      UserError: the value is none of the question's.
    """
    allowed = [point for point, _ in question.points]
    if question.kind in ("write", "correct"):
        if not isinstance(value, str):
            raise UserError(f"{question.name}: a text is needed, not {value!r:.40}")
        return valid(value, question.name)
    if question.kind == "rate":
        if not any(value == point and type(value) is type(point) for point in allowed):
            raise UserError(f"{question.name}: {value!r:.40} is not on the scale: {', '.join(map(str, allowed))}")
        return value
    if question.kind == "flag":
        if not isinstance(value, list) or not value or any(reason not in allowed for reason in value):
            raise UserError(f"{question.name}: {value!r:.60} are no reasons; they are {', '.join(allowed)}")
        return [reason for reason in allowed if reason in value]
    if question.kind == "pair":
        if value == "tie":
            return value
        if type(value) is not int or value not in range(len(answers)):
            raise UserError(f"{question.name}: {value!r:.40} is neither the place of an answer nor a tie")
        return answers[value]
    places = [place for tier in value for place in tier] if _is_tiers(value) else []
    if sorted(places) != list(range(len(answers))):
        raise UserError(f"{question.name}: {value!r:.60} does not rank each of the {len(answers)} answers once")
    return [sorted(answers[place] for place in tier) for tier in value]


def shown_value(question: Question, value: Any, answers: Sequence[str]) -> Any:
    """The inverse of `check`: a kept value as the page shows it, in places."""
    if question.kind == "pair" and value != "tie":
        return answers.index(value)
    if question.kind == "rank":
        return [[answers.index(name) for name in tier] for tier in value]
    return value


def _is_tiers(value: Any) -> bool:
    tiers = value if isinstance(value, list) else [None]
    return all(isinstance(tier, list) and tier and all(type(place) is int for place in tier) for tier in tiers)


def valid(text: str, what: str) -> str:
    """The text, if it is Unicode; a browser can send half of an emoji."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what}: holds half of a surrogate pair at character {error.start + 1}, as of an emoji that "
                        "was cut in two") from None
    return text
