"""One round of self-improvement, phase by phase; a round that was killed goes on behind its last whole phase.

    state = run_round(run, 2)        # {"make": {...}, "curate": {...}, "pool": ..., "train": ..., "evaluate": ...}

| phase | leaves in round-T/ |
|---|---|
| make | made.jsonl, rejected.jsonl; generations.jsonl, which every answer enters as it comes; judgements.jsonl |
| curate | kept.jsonl; curated/, a folder of `jitune data curate`, where stages are named |
| pool | pool.jsonl: what is trained on |
| train | train/, a run of `jitune train` |
| evaluate | eval.json; heldout.jsonl with the answers as they came; evals/ where a suite is named |
| checks | checks.json: what speaks of collapse |

state.json says which phases are done, and what they counted. Round 0 is the evaluation of the first model alone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from typing import Any

from jitune.construct.improve import phases
from jitune.construct.improve.frame import Run, folder_of, read_state, write_json
from jitune.types import UserError

PHASES = {"make": phases.make, "curate": phases.curate, "pool": phases.pool, "train": phases.train,
          "evaluate": phases.measure, "checks": phases.check}
LEARN = ("pool", "train", "evaluate", "checks")  # what a round without data leaves out


def run_round(run: Run, number: int) -> dict[str, Any]:
    """Runs what is left of a round; returns what its phases said.

    A round in which nothing is kept ends before its training. Where answers were lost in it (an endpoint that failed, a
    budget), they are asked for again when it is run again.
    """
    folder = folder_of(run, number)
    folder.mkdir(parents=True, exist_ok=True)
    state = read_state(folder)
    if is_empty(state) and (state["make"]["tokens"].get("lost") or state["make"]["judge_tokens"].get("lost")):
        state = {}
        shutil.rmtree(folder / "curated", ignore_errors=True)  # of the answers that came before
    for name in PHASES if number else ("evaluate",):
        if name in state or is_empty(state) and name in LEARN:
            continue
        run.say(f"round {number}: {name}")
        began = time.perf_counter()
        found = PHASES[name](run, number, folder)
        state[name] = {**found, "seconds": round(time.perf_counter() - began, 2)}
        write_json(folder / "state.json", state)
    return state


def is_empty(state: Mapping[str, Any]) -> bool:
    """Whether nothing was kept in a round."""
    return "curate" in state and not state["curate"]["kept"]


def why_empty(state: Mapping[str, Any]) -> str:
    """Why nothing was kept, with counts."""
    reasons = {**state["make"]["reasons"], **state["curate"]["reasons"]}
    told = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count:,} {reason}" for reason, count in told) or "no answers came"


def refuse_empty(number: int, state: Mapping[str, Any]) -> UserError:
    """The error of a first round that leaves nothing to train on."""
    most = max(state["make"]["reasons"], key=state["make"]["reasons"].get, default="")
    told = state["make"].get("told", {}).get(most)
    first = f" The first {most}: {' '.join(told.split())[:200]}." if told else ""
    return UserError(f"round {number}: nothing was kept of the answers to {state['make']['asked']:,} prompts "
                     f"({why_empty(state)}); nothing was trained.{first} rejected.jsonl has every answer with its "
                     "reason")
