"""What all rounds of a run share, and where each leaves its files.

    folder_of(run, 2)       # OUT/round-2
    model_of(run, 1)        # OUT/round-1/train/final: what round 2 asks
    read_state(folder)      # {"make": {...}, ...}: the phases of a round that are done
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jitune.construct.improve.makers import Asked
from jitune.construct.improve.methods import Recipe
from jitune.construct.improve.problems import Problems
from jitune.construct.whole_file import whole_file
from jitune.generators.call import Generator, Reply


class Run(NamedTuple):
    """What stays the same from round to round.

    models: see `models.Models`. name: of the first model, for provenance. verify, read, principles: see `makers.Given`.
    suite: see `evals.during.prepare`.
    """

    config: Any
    recipe: Recipe
    folder: Path
    problems: Problems
    heldout: Problems | None
    models: Any
    name: str
    verify: Any
    read: Callable[[str], str | None] | None
    principles: Sequence[str]
    suite: Any
    say: Callable[[str], None]


def folder_of(run: Run, number: int) -> Path:
    """The folder of a round."""
    return run.folder / f"round-{number}"


def model_of(run: Run, number: int) -> Path | str:
    """The model that a round ends with, as the next one opens it; that of round 0 is the first."""
    if number == 0:
        return run.config.model.path
    merged = folder_of(run, number) / "merged"
    return merged if merged.exists() else folder_of(run, number) / "train" / "final"


def name_of(run: Run, number: int) -> str:
    """What provenance calls the model of a round."""
    return f"{run.name}, round {number}" if number else run.name


def read_state(folder: Path) -> dict[str, Any]:
    """What the phases that are done have said."""
    path = folder / "state.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_json(path: Path, value: Any) -> None:
    """Writes a file whole, the same bytes for the same value."""
    with whole_file(path) as file:
        file.write((json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode(errors="backslashreplace"))


def start_of(run: Run, number: int) -> int:
    """The round whose model a round trains."""
    return number - 1 if run.recipe.start == "last" else 0


def history(run: Run, number: int) -> list[dict[str, Any]]:
    """What the checks of the rounds found, in order."""
    return [json.loads((folder_of(run, t) / "checks.json").read_text(encoding="utf-8")) for t in range(1, number + 1)]


def asked(generator: Generator, tokens: Counter) -> Asked:
    """A generator as methods ask it; its answers' tokens are counted, whoever paid for them."""
    def ask(calls):
        replies = generator.answer(calls)
        for reply in replies:
            if isinstance(reply, Reply):
                tokens["answers"] += 1
                tokens["input_tokens"] += reply.input_tokens or 0
                tokens["output_tokens"] += reply.output_tokens or 0
            else:
                tokens["lost"] += 1
        return replies

    return Asked(ask, generator.identity)


def seeds(seed: int, number: int) -> Callable[[int], int]:
    """Seeds of samples that no other round or run has: `(number of the sample) -> 31 bits`."""
    def one(k: int) -> int:
        drawn = hashlib.sha256(f"{seed} {number} {k}".encode()).digest()
        return int.from_bytes(drawn[:4], "little") & 0x7FFFFFFF

    return one
