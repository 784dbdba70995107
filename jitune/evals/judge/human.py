"""People as judges: a page to vote on, and what the votes say.

    key = export(pairs, "page.html", "page.key.json", seed=0, names=("tuned", "base"))
    collect("page.key.json", ["votes-ann.json", "votes-bo.json"])["win_rate"]

The page is blind: in an order and with sides drawn by `seed`, and without the models' names. Which side is which
stands in the key, which its owner keeps. Votes are a file {"page", "annotator", "votes": {"0": "first", ...}}.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from jitune.evals.agreement import kappa, krippendorff
from jitune.evals.judge.answers import Pair
from jitune.evals.judge.human_page import make
from jitune.evals.judge.pairwise import rate
from jitune.evals.task import digest
from jitune.types import UserError

FORMAT = 1
TITLE = "Which answer is better?"
VOTES = ("first", "second", "tie")


def export(pairs: Sequence[Pair], out: str | Path, key: str | Path, *, seed: int = 0,
           names: tuple[str, str] = ("a", "b"), title: str = TITLE, references: bool = True) -> dict:
    """Writes the page and its key; returns the key.

    Questions whose answers are the same text are left out, and counted in the key.

    Raises:
      UserError: where nothing is left to compare, or one of the files is there already: votes may be out for it.
    """
    out, key = Path(out), Path(key)
    for path in (out, key):
        if path.exists():
            raise UserError(f"{path}: is there already, and people may have its page; give another name, or delete it")
    rng = random.Random(seed)
    shown = [pair for pair in pairs if pair.a != pair.b]
    if not shown:
        raise UserError("there is nothing to compare: all answers are the same")
    rng.shuffle(shown)
    sides = [rng.choice("ab") for _ in shown]
    items = []
    for pair, side in zip(shown, sides, strict=True):
        first, second = (pair.a, pair.b) if side == "a" else (pair.b, pair.a)
        item = {"question": pair.question, "first": first, "second": second}
        items.append(item | ({"reference": pair.reference} if references and pair.reference else {}))
    page = digest([title, items])
    record = {"format": FORMAT, "page": page, "a": names[0], "b": names[1], "seed": seed,
              "identical": len(pairs) - len(shown),
              "items": [{"id": p.id, "first": s, "cluster": p.cluster} for p, s in zip(shown, sides, strict=True)]}
    for path, text in ((out, make(title, page, items)), (key, json.dumps(record, ensure_ascii=False, indent=1) + "\n")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return record


def collect(key: str | Path, files: Sequence[str | Path]) -> dict[str, Any]:
    """What the votes of people say.

    Returns:
      {"a", "b": names, "win_rate": of a, a tie counting half, with an interval over questions as clusters; "wins",
      "ties", "losses": votes; "questions", "answered": those with a vote; "annotators": {name: votes};
      "first": the share of votes for the answer that stood first, among those for one; "agreement": as below}.

    Raises:
      UserError: for votes of another page, two files of one annotator, and what is no vote.
    """
    record = _read(key)
    if record.get("format") != FORMAT or not isinstance(record.get("items"), list):
        raise UserError(f"{key}: is not the key of a page")
    items, people, where = record["items"], {}, {}
    for file in files:
        name, votes = _votes(file, record["page"], len(items))
        if name in people:
            raise UserError(f"{file}: holds votes of {name!r}, and so does {where[name]}; give one file each")
        people[name], where[name] = votes, file
    winners = {name: {i: _winner(items[i], vote) for i, vote in votes.items()} for name, votes in people.items()}
    cast = [(i, winner) for votes in winners.values() for i, winner in votes.items()]
    if not cast:
        raise UserError("there is not one vote in the files")
    scores = [{"a": 1.0, "tie": 0.5, "b": 0.0}[winner] for _, winner in cast]
    clusters = [items[i]["cluster"] or f"question {i}" for i, _ in cast]
    decided = [vote for votes in people.values() for vote in votes.values() if vote != "tie"]
    return {
        "a": record["a"], "b": record["b"],
        "win_rate": rate(scores, clusters),
        "wins": scores.count(1.0), "ties": scores.count(0.5), "losses": scores.count(0.0),
        "questions": len(items), "answered": len({i for i, _ in cast}), "identical": record.get("identical", 0),
        "annotators": {name: len(votes) for name, votes in sorted(people.items())},
        "first": decided.count("first") / len(decided) if decided else None,
        "agreement": agreement(list(winners.values()), len(items)),
    }


def agreement(people: Sequence[dict[int, str]], count: int) -> dict[str, Any]:
    """How far people agree on a, b and tie.

    Returns:
      {"pairs": pairs of votes on one question, "share": of them that are alike, "kappa": Cohen's, the mean over pairs
      of people with a question in common, "alpha": Krippendorff's, nominal}; None where nothing was voted on twice.
    """
    units = [[votes.get(i) for votes in people] for i in range(count)]
    given = [[v for v in unit if v is not None] for unit in units]
    same = [x == y for unit in given for x, y in combinations(unit, 2)]
    kappas = []
    for one, other in combinations(people, 2):
        both = sorted(one.keys() & other.keys())
        kappas.append(kappa([one[i] for i in both], [other[i] for i in both]))
    kappas = [k for k in kappas if k is not None]
    return {"pairs": len(same), "share": sum(same) / len(same) if same else None,
            "kappa": sum(kappas) / len(kappas) if kappas else None, "alpha": krippendorff(units)}


def _winner(item: dict, vote: str) -> str:
    if vote == "tie":
        return "tie"
    return item["first"] if vote == "first" else {"a": "b", "b": "a"}[item["first"]]


def _votes(file: str | Path, page: str, count: int) -> tuple[str, dict[int, str]]:
    """(annotator, {place: vote}) of one file."""
    found = _read(file)
    name, votes = found.get("annotator"), found.get("votes")
    if not isinstance(name, str) or not name.strip() or not isinstance(votes, dict):
        raise UserError(f"{file}: holds no votes: annotator and votes are needed")
    if found.get("page") != page:
        raise UserError(f"{file}: holds votes on another page ({found.get('page')!r:.40}; the key is of {page!r})")
    for place, vote in votes.items():
        if not (str(place).isdecimal() and int(place) < count):
            raise UserError(f"{file}: votes on question {place!r:.40}; the page has 0 to {count - 1}")
        if vote not in VOTES:
            raise UserError(f"{file}: question {place}: the vote is {vote!r:.40}; first, second or tie is needed")
    return " ".join(name.split()), {int(place): vote for place, vote in votes.items()}


def _read(path: str | Path) -> dict:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{path}: is not readable as JSON: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: is {type(found).__name__}; a JSON object is needed")
    return found
