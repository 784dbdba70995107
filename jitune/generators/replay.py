"""A generator that plays back: a function of a call, for tests, or a file of what another one said.

    g = Replay(lambda call: "4" if "2 + 2" in str(call.prompt) else "I cannot tell.")
    g.answer([Call("2 + 2 =")])        # [Reply("4", "stop", ...)]
    g.asked                            # every call that was answered, in order

    g = open_recorded("answers.jsonl")   # the cache of a real run; what is not in it is an error, or lost

A recording has the identity of who was recorded, so that what is made from it is what that generator made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jitune.evals.store import parse
from jitune.generators.cached import HEADER, IDENTITY, revive
from jitune.generators.call import Call, Lost, Reply, key
from jitune.types import UserError

MISSING = ("error", "lost")


class Replay:
    """See `call.Generator`. answer_one: `(call) -> text, Reply or Lost`."""

    raw = True

    def __init__(self, answer_one: Callable[[Call], str | Reply | Lost], *, name: str = "replay",
                 identity: Mapping[str, Any] | None = None):
        self.answer_one, self.identity = answer_one, dict(identity or {"kind": "replay", "model": name})
        self.asked: list[Call] = []
        self.counts = {"calls": 0, "cached": 0, "failed": 0, "input_tokens": 0, "output_tokens": 0}

    @property
    def account(self) -> dict[str, Any]:
        """How often it was asked, and what of it was lost."""
        return {"model": self.identity.get("model", ""), **self.counts}

    def answer(self, calls: Sequence[Call], on_done=None) -> list[Reply | Lost]:
        """Answers in order."""
        found = []
        for i, call in enumerate(calls):
            self.asked.append(call)
            said = self.answer_one(call)
            found.append(Reply(said, "stop", None, len(said.split())) if isinstance(said, str) else said)
            self._count(found[-1])
            if on_done:
                on_done([(i, found[-1])])
        return found

    def estimate(self, calls: Sequence[Call]) -> dict[str, Any]:
        """Nothing is paid."""
        return {"calls": len(calls), "answered": 0, "input_tokens": 0, "output_tokens": 0, "cost": None}

    def close(self) -> None:
        """Nothing is open."""

    def _count(self, reply: Reply | Lost) -> None:
        self.counts["calls"] += isinstance(reply, Reply)
        self.counts["failed"] += isinstance(reply, Lost)
        if isinstance(reply, Reply):
            self.counts["input_tokens"] += reply.input_tokens or 0
            self.counts["output_tokens"] += reply.output_tokens or 0


def open_recorded(path: str | Path, *, model: str = "", missing: str = "error") -> Replay:
    """What a file of answers says; the file is only read.

    model: whose answers, where several models are in it. missing: of a call that is not there, `error` or `lost`.

    Raises:
      UserError: for a file of something else, and for one without answers of that model.
    """
    if missing not in MISSING:
        raise UserError(f"replay_missing={missing!r} is not one of {', '.join(MISSING)}")
    path = Path(path).expanduser()
    places, people = _index(path)
    chosen = [who for who in people if model in ("", who.get("model"))]
    if not chosen:
        there = ", ".join(str(who.get("model")) for who in people) or "nobody"
        raise UserError(f"{path}: has no answers of {model!r}; it has those of {there}" if people else
                        f"{path}: does not say who answered, so it cannot be played back")

    def answer_one(call: Call) -> Reply | Lost:
        for who in chosen:
            if (place := places.get(key(who, call))) is not None:
                with path.open("rb") as file:
                    file.seek(place)
                    return revive(json.loads(file.readline())["value"])
        words = call.prompt if isinstance(call.prompt, str) else call.prompt[-1][1]
        if missing == "error":
            raise UserError(f"{path}: has no answer to {words!r:.80} with these parameters (seed {call.seed}, "
                            f"temperature {call.temperature:g}, max_tokens {call.max_tokens})")
        return Lost("failed", "not in the recording")

    return Replay(answer_one, identity=chosen[0])


def _index(path: Path) -> tuple[dict[str, int], list[dict]]:
    """(where each answer begins, who answered)."""
    places, people, start, number = {}, [], 0, 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                entry = parse(line, ("key", "value") if number > 1 else ("header",))
                if number == 1 and (entry is None or entry["header"] != HEADER):
                    raise UserError(f"{path}: is no file of generations; its first line must be "
                                    f"{json.dumps({'header': HEADER})}")
                if number > 1 and entry is not None:  # a last line may be cut off
                    if entry["key"].startswith(IDENTITY):
                        people.append(entry["value"])
                    else:
                        places[entry["key"]] = start
                start += len(line)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if not number:
        raise UserError(f"{path}: is empty")
    return places, people
