"""Items of annotation tools: the conversation that their fields hold, and what annotators wrote and said.

    item = find_item({"prompt": "2 and 3?", "response": "5", "topic": "sums"}, {}, Counter())
    item.messages, item.rest        # (user: 2 and 3?, assistant: 5), {"topic": "sums"}

Where `fields` does not name them, a conversation is looked for under messages, conversations, dialogue, chat and so
on, a question under prompt, instruction, question or query (with input or context after it), an answer under
response, answer, output or completion, and two answers under left and right, text1 and text2, response_a and
response_b and so on. What is not found stays in `rest`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from jitune.data.record import Annotation, Candidate, Record, named
from jitune.data.row_parts import (
    CONTEXTS,
    CONVERSATIONS,
    PROMPTS,
    RESPONSES,
    Messages,
    Origin,
    as_messages,
    is_text,
    say,
    source,
)
from jitune.types import UserError

NAMES = ("messages", "system", "prompt", "input", "response", "left", "right", "items")
PAIRS = (("left", "right"), ("text1", "text2"), ("text_1", "text_2"), ("response_a", "response_b"),
         ("response_1", "response_2"), ("response1", "response2"), ("answer_a", "answer_b"), ("answer1", "answer2"),
         ("answer_1", "answer_2"), ("output_1", "output_2"))
LISTS = ("items", "candidates", "responses", "answers")
ITEM_TEXTS = ("text", "body", "html", "content", "response", "title")


class Item(NamedTuple):
    """messages: the conversation. candidates: answers to it. rest: the fields that are in neither."""

    messages: Messages
    candidates: tuple[Candidate, ...]
    rest: dict[str, Any]


class Work(NamedTuple):
    """What one annotator did with an item.

    name: of this piece of work, unique for the item.
    annotator: who; at, seconds: when, and for how long.
    values: by question; None or nothing in it is an empty answer.
    chat: messages that the annotator wrote or had written.
    skipped: it was given up; its values are not read.
    """

    name: str
    annotator: str
    values: Mapping[str, Any]
    chat: Messages = ()
    skipped: bool = False
    at: str = ""
    seconds: float | None = None


def find_item(data: Mapping[str, Any], fields: Mapping[str, str], notes: Counter) -> Item:
    """The conversation and the answers that an item's fields hold.

    Raises:
      UserError: `fields` has a name that is none of `NAMES`, or names a field that is not there.
    """
    for name, key in fields.items():
        if name not in NAMES:
            raise UserError(f"fields: unknown name '{name}'; known are {', '.join(NAMES)}")
        if key not in data and name != "response":  # that may be a question
            raise UserError(f"fields: no field '{key}'; the item has {list(data)}")
    used: set[str] = set()
    messages = _conversation(data, fields, used, notes) or _question(data, fields, used)
    candidates = _answers(data, fields, used)
    return Item(messages, candidates, {key: value for key, value in data.items() if key not in used})


def written_question(item: Item, fields: Mapping[str, str], questions: Sequence[str]) -> str:
    """The question whose text is the assistant's answer, or "" where there is none."""
    if not item.messages or item.messages[-1]["role"] == "assistant":
        return ""
    if "response" in fields:
        return fields["response"]
    return next((question for question in questions if question in RESPONSES), "")


def as_records(id: str, item: Item, works: Sequence[Work], written: str, questions: Sequence[str], meta: Mapping,
               origin: Origin, notes: Counter) -> list[Record]:
    """One record of an item, and one more for each annotator who wrote messages for it.

    Args:
      id: of the item, or "".
      written: the question whose text is the assistant's answer, or "".
      questions: all that are known, so that one without a value is known to be empty.
    """
    shared, found = [], []
    for work in works:
        said, more = annotations(work, questions, notes), () if work.skipped else work.chat
        if more and more[: len(item.messages)] != item.messages:
            more = item.messages + more
        answer = work.values.get(written) if written and not work.skipped else None
        if is_text(answer) and not more:
            more, said = item.messages + say("assistant", answer), [a for a in said if a.question != written]
        if more:
            found.append((f"{id}:{work.name}" if id else "", more, said, work.annotator))
        else:
            shared += said
    if shared or not found:
        judges = dict.fromkeys(a.annotator for a in shared if a.state != "skipped")
        found.insert(0, (id, item.messages, shared, *judges))
    return [named(Record(name, messages, candidates=item.candidates, annotations=tuple(said),
                         meta={**item.rest, **meta},
                         provenance=replace(source(origin), annotators=tuple(who for who in people if who))))
            for name, messages, said, *people in found]


def annotations(work: Work, questions: Sequence[str], notes: Counter) -> list[Annotation]:
    """One annotation for each question: labelled, empty (left out or nothing in it), or skipped."""
    names = list(dict.fromkeys((*questions, *work.values)))
    if work.skipped:
        notes["cancelled"] += 1
        return [Annotation(work.annotator, name, None, "skipped", work.at, work.seconds) for name in names or [""]]
    found = []
    for name in names:
        value = work.values.get(name)
        empty = value is None or value == [] or value == {} or (isinstance(value, str) and not value.strip())
        notes["empty"] += empty
        found.append(Annotation(work.annotator, name, None if empty else value, "empty" if empty else "labelled",
                                work.at, work.seconds))
    if not found and not work.chat:
        notes["empty"] += 1
        found = [Annotation(work.annotator, "", None, "empty", work.at, work.seconds)]
    return found


def _conversation(data: Mapping, fields: Mapping[str, str], used: set[str], notes: Counter) -> Messages:
    wanted = fields.get("messages")
    keys = [wanted] if wanted else [key for key in CONVERSATIONS if isinstance(data.get(key), list)]
    for key in keys:
        try:
            found = as_messages([_turn(turn) for turn in data[key]], f"'{key}'") if data[key] else ()
        except (UserError, TypeError) as error:
            if wanted:
                raise UserError(f"'{key}' is no conversation: {error}") from error
            notes["unread_conversations"] += 1
            continue
        used.add(key)
        return found
    return ()


def _turn(turn: Any) -> Any:
    """A message; paragraphs of Label Studio name their speaker author and what is said text."""
    if not isinstance(turn, Mapping) or "role" in turn or "from" in turn:
        return turn
    who = str(turn.get("author", turn.get("speaker", ""))).lower()
    return {"role": who, "content": turn.get("text", turn.get("content"))}


def _question(data: Mapping, fields: Mapping[str, str], used: set[str]) -> Messages:
    prompt = _named(data, fields, "prompt", PROMPTS)
    if not prompt:
        return ()
    found, more = as_messages(data[prompt], f"'{prompt}'", role="user"), _named(data, fields, "input", CONTEXTS)
    used.add(prompt)
    if more and isinstance(data[prompt], str) and isinstance(data[more], str):
        found = say("user", f"{data[prompt]}\n\n{data[more]}")
        used.add(more)
    system, response = _named(data, fields, "system", ("system",)), _named(data, fields, "response", RESPONSES)
    if system and found[0]["role"] != "system" and isinstance(data[system], str):
        found, _ = say("system", data[system]) + found, used.add(system)
    if response and isinstance(data[response], str) and found[-1]["role"] == "user":
        found, _ = found + say("assistant", data[response]), used.add(response)
    return found


def _answers(data: Mapping, fields: Mapping[str, str], used: set[str]) -> tuple[Candidate, ...]:
    """Two answers as left and right, or those of a list, by the ids that annotators ranked."""
    pair = (fields["left"], fields["right"]) if {"left", "right"} <= set(fields) else next(
        (pair for pair in PAIRS if all(is_text(data.get(key)) for key in pair)), None)
    if pair:
        used.update(pair)
        return tuple(Candidate(as_messages(data[key], f"'{key}'"), id=side)
                     for key, side in zip(pair, ("left", "right"), strict=True))
    key = _named(data, fields, "items", LISTS)
    items = data.get(key) if key else None
    if not isinstance(items, list) or not all(isinstance(item, Mapping) and "id" in item for item in items):
        return ()
    texts = [(str(item["id"]), next((item[name] for name in ITEM_TEXTS if is_text(item.get(name))), None))
             for item in items]
    if not all(text for _, text in texts):
        return ()
    used.add(key)
    return tuple(Candidate(say("assistant", text), id=name) for name, text in texts)


def _named(data: Mapping, fields: Mapping[str, str], name: str, guesses: Sequence[str]) -> str | None:
    """The field of that name: as `fields` says, else the first guess that holds something."""
    keys = [fields[name]] if name in fields else guesses
    return next((key for key in keys if is_text(data.get(key)) or (data.get(key) and isinstance(data[key], list))),
                None)
