"""A run of self-improvement in numbers: what its rounds have left in, summary.json and a table for the terminal out.

summary.json has

    jitune, method, source, recipe; name, digest: of the first model; prompts, heldout {count, left_out: {reason: rows}}
    rounds    [{round, asked, made, kept, trained_on, reasons: {reason: count}, accuracy: an Interval or null,
               unscored, gain: the Paired change from the first model, checks: {...}, judge_drift, training: {...},
               suite: {...}, tokens: {what: {input_tokens, output_tokens}}, costs, seconds: {phase: ...}}]
    stopped   why; last, final: the last round that trained, and the one whose model `final` is
    records   how many the last model was trained on; samples: [{round, prompt, answer, verdict, provenance}]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from jitune import __version__
from jitune.construct.improve import evaluate, prompts
from jitune.construct.improve.frame import Run, folder_of, read_state
from jitune.data.visible import visible
from jitune.report.page import DASH, number

SAMPLES = 2  # of what a round kept, and of what it rejected
WIDTH = 80


def summarize(run: Run, stopped: str, last: int, final: int) -> dict[str, Any]:
    """What summary.json holds."""
    numbers = [t for t in range(run.config.rounds + 1) if (folder_of(run, t) / "state.json").exists()]
    first = _json(folder_of(run, 0) / "eval.json")
    words = {p.provenance.source: prompts.shown(p) for p in run.problems.problems}
    recipe = {k: v for k, v in run.recipe._asdict().items() if k not in ("make", "source")}
    return {
        "jitune": __version__, "method": run.config.method, "source": run.recipe.source, "recipe": recipe,
        "name": run.name, "seed": run.config.seed,
        "prompts": {"count": len(run.problems.problems), "left_out": run.problems.reasons},
        "heldout": run.heldout and {"count": len(run.heldout.problems), "left_out": run.heldout.reasons},
        "rounds": [one_round(run, t, first) for t in numbers], "stopped": stopped, "last": last, "final": final,
        "records": read_state(folder_of(run, last))["pool"]["records"] if last else 0,
        "samples": [s for t in numbers[1:] for s in samples(folder_of(run, t), t, words)],
    }  # fmt: skip


def one_round(run: Run, number: int, first: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to say of a round."""
    folder, state = folder_of(run, number), read_state(folder_of(run, number))
    make, curated, measured = (state.get(name, {}) for name in ("make", "curate", "evaluate"))
    found = {"round": number, "asked": make.get("asked"), "made": make.get("made"), "kept": curated.get("kept"),
             "trained_on": state.get("pool", {}).get("records"),
             "reasons": {**make.get("reasons", {}), **curated.get("reasons", {})},
             "accuracy": measured.get("accuracy"), "unscored": measured.get("unscored"),
             "gain": evaluate.gain(first, _json(folder / "eval.json")) if number else None,
             "checks": _json(folder / "checks.json"), "judge_drift": make.get("judge_drift"),
             "training": {k: v for k, v in state.get("train", {}).items() if k != "seconds"},
             "suite": measured.get("suite", {}), "costs": make.get("costs", {})}
    spent = {"generating": make.get("tokens"), "judging": make.get("judge_tokens"), "held-out": measured.get("tokens")}
    found["tokens"] = {what: counts for what, counts in spent.items() if counts}
    found["seconds"] = {name: phase["seconds"] for name, phase in state.items()}
    return found


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def samples(folder: Path, number: int, words: Mapping[str, str]) -> list[dict[str, Any]]:
    """The first records that a round kept, and the first answers of different reasons that it did not.

    words: of problems, by their sources.
    """
    found = []
    if (folder / "kept.jsonl").exists():
        with open(folder / "kept.jsonl", encoding="utf-8") as lines:
            found += [kept_sample(json.loads(line), number) for line in islice(lines, SAMPLES)]
    seen: dict[str, dict[str, Any]] = {}
    if (folder / "rejected.jsonl").exists():
        with open(folder / "rejected.jsonl", encoding="utf-8") as lines:
            for row in map(json.loads, islice(lines, 1000)):
                if row["text"] and row["reason"] not in seen and len(seen) < SAMPLES:
                    seen[row["reason"]] = {
                        "round": number, "prompt": words.get(row["source"], row["source"]), "answer": row["text"],
                        "verdict": f"{row['reason']} {row['detail']}".strip(), "provenance": {"source": row["source"]}}
    return [*found, *seen.values()]


def kept_sample(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A record as the report shows it."""
    messages = row.get("prompt") or row.get("messages") or []
    if isinstance(messages, str):
        asked, said = messages, row.get("completion", "")
    else:
        answer = row["chosen"] if "chosen" in row else messages[-1:]
        asked = "\n\n".join(m.get("content") or "" for m in (messages if "chosen" in row else messages[:-1]))
        said = "\n".join(m.get("content") or "" for m in answer)
    found = {"round": number, "prompt": asked, "answer": said, "verdict": "kept", "provenance": row["provenance"]}
    if row.get("rejected"):
        found["rejected"] = "\n".join(m.get("content") or "" for m in row["rejected"])
    return found


def line(number_: int, state: Mapping[str, Any], accuracies: Sequence[float | None]) -> str:
    """A round in a line, when it is done."""
    text = f"round {number_}: {state['make']['made']:,} made, {state['curate']['kept']:,} kept, trained on " \
           f"{state['pool']['records']:,}"
    if accuracies[-1] is not None:
        before = f" (first model {number(accuracies[0], percent=True)})" if accuracies[0] is not None else ""
        text += f"; held-out accuracy {number(accuracies[-1], percent=True)}{before}"
    return text


def table(found: Mapping[str, Any]) -> list[str]:
    """The rounds in lines of at most 80 letters."""
    headers = ("asked", "made", "kept", "trained", "accuracy")
    lines = [f"round {' '.join(f'{h:>8}' for h in headers)}   {'95 %':<15} {'time':>7}"]
    for one in found["rounds"]:
        accuracy = one["accuracy"] or {}
        low, high = accuracy.get("low"), accuracy.get("high")
        between = f"{number(low, percent=True)} {DASH} {number(high, percent=True)}" if low is not None else DASH
        counts = " ".join(f"{number(one[name]):>8}" for name in ("asked", "made", "kept", "trained_on"))
        shown = number(accuracy.get("value"), percent=True)
        lines.append(f"{one['round']:>5} {counts} {shown:>8}   {between:<15} {spent(sum(one['seconds'].values())):>7}")
    for one in found["rounds"]:
        why = ", ".join(f"{n:,} {reason}" for reason, n in sorted(one["reasons"].items(), key=lambda p: (-p[1], p[0])))
        lines += [cut(f"round {one['round']} rejected: {why}")] if why else []
    last = found["rounds"][-1]
    if last["gain"] and last["gain"]["delta"] is not None:
        lines.append(cut(f"gain over the first model: {said_gain(last['gain'])}"))
    return [*lines, *wrapped(f"stopped: {visible(found['stopped'])}")]


def said_gain(gain: Mapping[str, Any]) -> str:
    """"+4.2 points (-1.0 to +9.4), p 0.11, of 48 problems"."""
    low, high = gain["low"], gain["high"]
    ends = f" ({100 * low:+.1f} to {100 * high:+.1f})" if low is not None and high is not None else ""
    p = "" if gain["p"] is None else f", p {'<0.001' if gain['p'] < 0.001 else format(gain['p'], '.3f')}"
    return f"{100 * gain['delta']:+.1f} points{ends}{p}, of {gain['n']:,} problems"


def spent(seconds: float) -> str:
    """Seconds as 12.3 s or 12m34s."""
    from jitune.runlog import duration

    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


def cut(text: str) -> str:
    """At most a line."""
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "\N{HORIZONTAL ELLIPSIS}"


def wrapped(text: str) -> list[str]:
    """Lines of words."""
    import textwrap

    return textwrap.wrap(text, WIDTH, subsequent_indent="  ")
