"""Files and desks for the tests of annotating."""

import json
from contextlib import contextmanager
from itertools import count

from jitune.construct.annotate.command import Options, open_desk
from jitune.construct.annotate.log import Log

EVENTS = count(10**8)


def rows(path, number=6):
    """A file of Alpaca rows, some hostile."""
    odd = ["<script>alert(1)</script>", "a\u2028b", "שלום", "東京"]
    made = [{"instruction": f"Question {i}? {odd[i % 4]}", "input": "", "output": f"Answer {i}."}
            for i in range(number)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


@contextmanager
def desk_of(path, **options):
    """A desk over a file, and its log beside it."""
    with Log(f"{path}.annotations.jsonl") as log:
        desk = open_desk(str(path), log, Options(**options))
        yield desk
        desk.items.close()


def answer(desk, name, number, *, state="done", **answers):
    """An event as the page sends it."""
    item = desk.items.ids[desk.places(name)[number]]
    return {"kind": "answer", "event": str(next(EVENTS)), "annotator": name, "item": item, "state": state,
            "answers": answers, "seconds": 2.5}
