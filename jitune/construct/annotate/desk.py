"""What annotators do, without the web: items to look at, answers that are checked and kept.

    desk = Desk(items, log, plan)
    desk.status("ann")["states"]        # "l.s." of her four items
    desk.item("ann", 1)                 # what a page shows of her second one
    desk.take({"kind": "answer", "event": "6f...", "annotator": "ann", "item": "8f...", "state": "done",
               "answers": {"rating": 4}, "seconds": 9.5})

Each annotator sees the own items and the own answers only. An item is done with an answer to each of its questions, an
empty one where None is given, or skipped.
"""

from __future__ import annotations

import datetime
import json
from typing import Any, NamedTuple

from jitune.construct.annotate.assignment import assign
from jitune.construct.annotate.items import Items
from jitune.construct.annotate.log import Log
from jitune.construct.annotate.questions import Question, check, order, shown_value, valid
from jitune.construct.annotate.shown import asked, view
from jitune.types import UserError

RECENT = 50  # answers that can be taken back after the page is opened anew


class Plan(NamedTuple):
    """What is asked of whom, as the head of a log says.

    annotators: names, or () where anybody may join and sees all items. assignment: places of annotators by item.
    """

    questions: tuple[Question, ...]
    annotators: tuple[str, ...] = ()
    overlap: int = 0
    seed: int = 0
    assignment: tuple[tuple[int, ...], ...] = ()


def make_plan(questions: tuple[Question, ...], count: int, *, annotators: tuple[str, ...] = (), overlap: int = 0,
              seed: int = 0) -> Plan:
    """A new plan for `count` items; overlap 0: every item goes to every annotator."""
    if overlap and not annotators:
        raise UserError("--overlap: give --annotators too, whose items are to overlap")
    annotators = tuple(clean_name(name) for name in annotators)
    twice = [name for name in annotators if annotators.count(name) > 1]
    if twice:
        raise UserError(f"--annotators: {twice[0]!r} is given twice")
    overlap = overlap or len(annotators)
    assignment = assign(count, len(annotators), overlap, seed=seed) if annotators else []
    return Plan(questions, annotators, overlap, seed, tuple(assignment))


def to_header(plan: Plan, items: Items) -> dict:
    """The plan as the first line of a log has it, with what it was made for."""
    questions = [{"kind": q.kind, "name": q.name, "ask": q.ask, "points": [list(p) for p in q.points]}
                 for q in plan.questions]
    return {"items": len(items), "digest": items.digest, "questions": questions, "annotators": list(plan.annotators),
            "overlap": plan.overlap, "seed": plan.seed, "assignment": [list(places) for places in plan.assignment]}


def from_header(header: dict) -> Plan:
    """The inverse of `to_header`."""
    questions = tuple(Question(q["kind"], q["name"], q["ask"], tuple((v, n) for v, n in q["points"]))
                      for q in header["questions"])
    return Plan(questions, tuple(header["annotators"]), header["overlap"], header["seed"],
                tuple(map(tuple, header["assignment"])))


def clean_name(name: Any) -> str:
    """A name with single spaces.

    Raises:
      UserError: it is empty, longer than 80 characters, or holds what cannot be seen.
    """
    name = " ".join(name.split()) if isinstance(name, str) else ""
    if not 0 < len(name) <= 80 or not name.isprintable():
        raise UserError("a name of 1 to 80 letters is needed")
    return name


class Desk:
    """Items, their plan, and the log of what was said of them."""

    def __init__(self, items: Items, log: Log, plan: Plan):
        self.items, self.log, self.plan = items, log, plan
        self.questions = {question.name: question for question in plan.questions}
        self.own: dict[str, list[int]] = {name: [] for name in plan.annotators}
        for place, who in enumerate(plan.assignment):
            for annotator in who:
                self.own[plan.annotators[annotator]].append(place)

    def places(self, name: str) -> list[int] | range:
        """The items of an annotator, as places in `items`.

        Raises:
          UserError: nobody of that name is to annotate.
        """
        if not self.plan.annotators:
            return range(len(self.items))
        if name not in self.own:
            raise UserError(f"{name!r:.80} is not one of the annotators: {', '.join(self.plan.annotators)}")
        return self.own[name]

    def status(self, name: str) -> dict[str, Any]:
        """What is asked, and what is done: a letter an item in "states", and places of the latest answers."""
        name = clean_name(name)
        places = self.places(name)
        states = "".join(self.log.marks.state(name, self.items.ids[place]) for place in places)
        at = {self.items.ids[place]: i for i, place in enumerate(places)}
        recent = [at[item] for item in self.log.marks.recent.get(name, ())[-RECENT:] if item in at]
        asked = [{"kind": q.kind, "name": q.name, "ask": q.ask, "points": q.points} for q in self.plan.questions]
        return {"annotator": name, "questions": asked, "states": states, "recent": recent,
                "log": self.log.header["digest"]}

    def item(self, name: str, number: int) -> dict[str, Any]:
        """What a page shows of an annotator's item, counted from 0, with the answer or the draft that is there."""
        name = clean_name(name)
        places = self.places(name)
        if number not in range(len(places)):
            raise UserError(f"there is no item {number}; there are {len(places)}")
        record = self.items[places[number]]
        shown = order(record, annotator=name, seed=self.plan.seed)
        answer, draft = self.log.latest(name, record.id), self.log.draft(name, record.id)
        found = view(record, self.plan.questions, shown) | {"item": record.id, "number": number, "answer": None,
                                                            "draft": draft and draft.get("draft")}
        if answer:
            values = {key: shown_value(self.questions[key], value["value"], shown) if "value" in value else None
                      for key, value in (answer.get("answers") or {}).items()}
            found["answer"] = {"state": answer["state"], "values": values}
        return found

    def take(self, body: Any) -> dict[str, Any]:
        """Checks what a page sent and keeps it; an event that was kept before is kept once.

        Returns:
          {"saved": True, "state": of the item now}.

        Raises:
          UserError: it is no event, of an item of somebody else, or with a value that is not allowed.
          OSError: it could not be kept.
        """
        entry, record = self._entry(body)
        kind = entry["kind"]
        if entry["event"] not in self.log.marks.events:
            if kind == "answer":
                entry |= self._answer(body, record, entry["annotator"])
            elif kind == "draft":
                entry |= {"draft": body.get("draft") if isinstance(body.get("draft"), dict) else {}}
            elif self.log.marks.state(entry["annotator"], entry["item"]) == ".":
                raise UserError("there is no answer to take back")
            valid(json.dumps(entry, ensure_ascii=False), kind)
            self.log.append(entry)
        return {"saved": True, "state": self.log.marks.state(entry["annotator"], entry["item"])}

    def _entry(self, body: Any) -> tuple[dict, Any]:
        body = body if isinstance(body, dict) else {}
        kind, event, item = body.get("kind"), body.get("event"), body.get("item")
        if kind not in ("answer", "undo", "draft") or not isinstance(event, str) or not 8 <= len(event) <= 64:
            raise UserError("an event needs a kind and an id of 8 to 64 letters")
        name = clean_name(body.get("annotator"))
        place = self.items.place.get(item) if isinstance(item, str) else None
        self.places(name)
        mine = place is not None and (not self.plan.annotators
                                      or self.plan.annotators.index(name) in self.plan.assignment[place])
        if not mine:
            raise UserError(f"{item!r:.80} is not an item of {name}")
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"kind": kind, "event": event, "at": at, "annotator": name, "item": item}, self.items[place]

    def _answer(self, body: dict, record: Any, name: str) -> dict:
        seconds = body.get("seconds")
        timed = isinstance(seconds, (int, float)) and 0 <= seconds < 1e7
        spent = {"seconds": round(seconds, 1)} if timed else {}
        if body.get("state") == "skipped":
            return {"state": "skipped"} | spent
        given = body.get("answers")
        questions = asked(record, self.plan.questions)
        names = [question.name for question in questions]
        if body.get("state") != "done" or not isinstance(given, dict) or not set(given) <= set(names):
            raise UserError(f"answers to {', '.join(names)} are needed, or that the item is skipped")
        shown = order(record, annotator=name, seed=self.plan.seed)
        answers = {q.name: self._one(q, given.get(q.name), record, shown) for q in questions}
        compared = {"shown": shown} if any(q.kind in ("pair", "rank") for q in questions) else {}
        return {"state": "done", "answers": answers} | compared | spent

    @staticmethod
    def _one(question: Question, value: Any, record: Any, shown: list[str]) -> dict:
        if value is None or value in ("", []):
            return {"state": "empty"}
        kept = {"state": "labelled", "value": check(question, value, shown)}
        # Both texts, so that the log alone says what was changed.
        return kept | ({"original": view(record, (question,), shown)["original"]} if question.kind == "correct" else {})
