"""The page of a run of self-improvement, and the card of its data: summary.json in, HTML and Markdown out.

    write("out", summary)           # out/report.html
    write_card("out", "my data")    # out/card.md, of out/data.jsonl
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from jitune.construct.improve.summary import said_gain, spent
from jitune.construct.whole_file import whole_file
from jitune.evals.pages.shown import between, clean, long_text, numbered
from jitune.report import charts, page
from jitune.report.intervals import Point, intervals
from jitune.report.page import value
from jitune.runlog import duration

NOT_CHECKS = ("round", "records", "looked_at")  # no figures of quality


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Writes report.html."""
    with whole_file(folder / "report.html") as file:
        file.write(render(found).encode(errors="backslashreplace"))


def write_card(folder: Path, name: str) -> None:
    """Writes card.md of data.jsonl, as `jitune data curate` makes it."""
    from jitune.construct.curate import config as curation
    from jitune.construct.curate.run import curate

    work = folder / "card.partial"
    shutil.rmtree(work, ignore_errors=True)
    config = curation.defaults()
    config.update({"input": str(folder / "data.jsonl"), "output_dir": str(work), "stages": "", "name": name,
                   "workers": 0})  # fmt: skip
    curate(config)
    text = (work / "card.md").read_text(encoding="utf-8").replace("path: kept.jsonl", "path: data.jsonl")
    text = text.replace("`funnel.json` holds all counts, `report.html` shows them", "`report.html` shows every round")
    with whole_file(folder / "card.md") as file:
        file.write(text.encode(errors="backslashreplace"))
    shutil.rmtree(work)


def render(found: Mapping[str, Any]) -> str:
    """The page."""
    found = clean(found)
    rounds = found["rounds"]
    lead = Markup("{} of self-improvement by {}, of {}. Stopped: {}.").format(
        numbered(len(rounds) - 1, "round"), found["method"], found["name"], found["stopped"].rstrip("."))
    return page.page(
        f"Self-improvement of {found['name']}", tiles(found), *warnings(found), accuracy(found),
        made(rounds), checks(rounds), training(rounds), suite(rounds), costs(rounds), samples(found), settings(found),
        lead=lead, footer=f"Made by jitune {found['jitune']} from summary.json beside this page, which has all digits.",
    )  # fmt: skip


def tiles(found: Mapping[str, Any]) -> Markup:
    """The figures that one asks for first."""
    rounds = found["rounds"]
    first, last = rounds[0]["accuracy"], next((r["accuracy"] for r in rounds if r["round"] == found["final"]), None)
    shown = [("Rounds that trained", found["last"], "final is the model of "
              + (f"round {found['final']}" if found["final"] else "the start"))]
    if first or last:
        note = Markup("{} before").format(value(first["value"], percent=True)) if first else ""
        shown.append(("Held-out accuracy", value(last and last["value"], percent=True), note))
    kept, asked = (sum(r[name] or 0 for r in rounds) for name in ("kept", "asked"))
    tokens = sum(c.get("output_tokens", 0) for r in rounds for c in r["tokens"].values())
    seconds = sum(sum(r["seconds"].values()) for r in rounds)
    return page.tiles([*shown, ("Kept", kept, f"of answers to {numbered(asked, 'prompt')}, over all rounds"),
                       ("Trained on", found["records"], "records in data.jsonl, by the last round"),
                       ("Written by models", tokens, "tokens"),
                       ("Time", value(seconds, text=spent(seconds)), "of the phases that came to their end")])


def warnings(found: Mapping[str, Any]) -> list[Markup]:
    """What must not be overlooked."""
    texts = []
    if "nothing was kept" in found["stopped"] or found["stopped"].startswith("round "):
        texts.append(f"It stopped early: {found['stopped']}.")
    first, *trained = [r["accuracy"]["value"] if r["accuracy"] else None for r in found["rounds"]]
    trained = [x for x in trained if x is not None]
    if trained and first is not None and all(x <= first for x in trained):
        texts.append("No round is better on held-out problems than the model before.")
    if found["heldout"] is None:
        texts.append("No held-out problems were given, so that nothing here says whether the model got better.")
    return [Markup('<p class="warning">{}</p>').format(text) for text in texts]


def accuracy(found: Mapping[str, Any]) -> Markup | str:
    """Held-out accuracy by round with its interval, and the change."""
    rounds = [r for r in found["rounds"] if r["accuracy"] and r["accuracy"]["value"] is not None]
    if not rounds:
        return ""
    names = ["before" if not r["round"] else f"round {r['round']}" for r in rounds]
    points = [Point(*(r["accuracy"][k] for k in ("value", "low", "high"))) for r in rounds]
    rows = [[name, value(r["accuracy"]["value"], percent=True), between(r["accuracy"], "share"),
             r["accuracy"]["n"], r["unscored"], said_gain(r["gain"]) if r["gain"] and r["round"] else None]
            for name, r in zip(names, rounds, strict=True)]
    line = charts.lines({"accuracy": [(r["round"], r["accuracy"]["value"]) for r in rounds]}, x_label="round",
                        title="Held-out accuracy by round", percent=True)
    return page.section(
        "Held-out accuracy", page.grid(line, intervals(names, {"": points}, title="With 95 % intervals", percent=True)),
        page.table(["", "accuracy", "95 %", "scored", "unscored", "change from the first model"], rows,
                   numeric=(1, 2, 3, 4)),
        note=f"{numbered(found['heldout']['count'], 'problem')} that no round learns from, answered greedily. Answers "
             "that could not be judged are unscored. The change is paired, problem by problem.")


def made(rounds: list) -> Markup:
    """What was asked, made and kept in each round, and why the rest was not."""
    learned = [r for r in rounds if r["round"]]
    rows = [[f"round {r['round']}", r["asked"], r["made"], r["kept"], r["trained_on"]] for r in learned]
    reasons = sorted({reason for r in learned for reason in r["reasons"]},
                     key=lambda reason: -sum(r["reasons"].get(reason, 0) for r in learned))
    why = page.table(["reason", *(f"round {r['round']}" for r in learned)],
                     [[reason, *(r["reasons"].get(reason, 0) for r in learned)] for reason in reasons],
                     caption="Rejected, by reason") if reasons else ""
    names = [f"round {r['round']}" for r in learned]
    chart = charts.bars(names, {"made": [r["made"] for r in learned], "kept": [r["kept"] for r in learned]},
                        title="Records made and kept") if names else ""
    return page.section("Rounds", page.grid(chart) if chart else "",
                        page.table(["", "prompts", "made", "kept", "trained on"], rows), why,
                        note="Made is what the method chose of the answers; kept is what curation left of it; trained "
                             "on is that with what is pooled. rejected.jsonl of each round has every answer that is "
                             "not among them.")


def checks(rounds: list) -> Markup | str:
    """What speaks of collapse."""
    learned = [r for r in rounds if r["checks"]]
    if not learned:
        return ""
    names = [name for name, x in learned[-1]["checks"].items() if name not in NOT_CHECKS and _is_number(x)]
    rows = [[name.replace("_", " "), *(r["checks"].get(name) for r in learned)] for name in names]
    if any(r["judge_drift"] for r in learned):
        rows += [[f"judge's mean on anchors, {name}", *((r["judge_drift"] or {}).get(name) for r in learned)]
                 for name in ("then", "now", "shift", "low", "high")]
    figures = [charts.lines({name.replace("_", " "): [(r["round"], r["checks"].get(name)) for r in learned]},
                            title=name.replace("_", " "), x_label="round")
               for name in names if name in ("distinct_2", "length_median", "near_duplicates")]
    return page.section("Checks for collapse", page.grid(*figures) if len(learned) > 1 and figures else "",
                        page.table(["", *(f"round {r['round']}" for r in learned)], rows),
                        note="Of what each round kept. Diversity that falls, answers that grow or shrink, and a judge "
                             "that drifts on answers it has judged before are signs of collapse.")


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool)


def training(rounds: list) -> Markup | str:
    """What was trained from what."""
    rows = [[f"round {r['round']}", t["from"], t["steps"], t["tokens"], t["loss_first"], t["loss_last"],
             t["digest"][:12]]
            for r in rounds if (t := r["training"])]
    if not rows:
        return ""
    headers = ["", "from", "steps", "tokens", "first loss", "last loss", "digest"]
    return page.section("Training", page.table(headers, rows, numeric=(2, 3, 4, 5)))


def suite(rounds: list) -> Markup | str:
    """The headlines of a suite, where one was named."""
    names = sorted({name for r in rounds for name in r["suite"]})
    if not names:
        return ""
    shown = [r for r in rounds if r["suite"]]
    return page.section("Evaluations", page.table(
        ["", *("before" if not r["round"] else f"round {r['round']}" for r in shown)],
        [[name.removeprefix("evals/"), *(r["suite"].get(name) for r in shown)] for name in names]))


def costs(rounds: list) -> Markup:
    """Tokens, money, time."""
    rows = [[f"round {r['round']}", what, c.get("answers", 0), c.get("lost", 0), c.get("input_tokens", 0),
             c.get("output_tokens", 0)] for r in rounds for what, c in r["tokens"].items()]
    phases = list(dict.fromkeys(name for r in rounds for name in r["seconds"]))
    time = [[f"round {r['round']}", *(seconds(r["seconds"].get(name)) for name in phases)] for r in rounds]
    paid = [x for r in rounds for x in r["costs"].values()]
    note = Markup("Paid for generations: {}.").format(value(sum(paid))) if paid else ""
    return page.section("Costs", page.table(["", "for", "answers", "lost", "tokens in", "tokens out"], rows)
                        if rows else "", page.table(["", *phases], time, caption="Time"), note=note)


def seconds(x: float | None) -> Markup | None:
    """A cell of time."""
    return None if x is None else value(x, unit="s") if x < 60 else value(x, text=duration(x))


def samples(found: Mapping[str, Any]) -> Markup | str:
    """Some of what was kept and rejected, with provenance."""
    shown = []
    for s in found["samples"]:
        p = s["provenance"]
        told = [("model", p.get("model")), ("digest", (p.get("model_digest") or "")[:12]), ("seed", p.get("seed")),
                ("parents", ", ".join(p.get("parents", []))), ("source", p.get("source"))]
        label = f"round {s['round']}" + "".join(f", {k} {v}" for k, v in told if v not in (None, ""))
        answers = [("answer", long_text(s["answer"]), s["verdict"])]
        answers += [("less wanted", long_text(s["rejected"]))] if s.get("rejected") else []
        shown.append(page.sample(long_text(s["prompt"]), answers, label=label))
    return page.section("Samples", *shown, note="Of every round the first that were kept, and the first of some "
                        "reasons that were not.") if shown else ""


def settings(found: Mapping[str, Any]) -> Markup:
    """The method as it ran, and what was left out of its problems."""
    recipe = found["recipe"] | {"source": found["source"], "seed": found["seed"]}
    rows = [[name.replace("_", " "), x if isinstance(x, (int, float)) and not isinstance(x, bool) else
             json.dumps(x) if isinstance(x, bool) else x or None] for name, x in recipe.items()]
    left = [[kind, reason, count] for kind in ("prompts", "heldout") if found[kind]
            for reason, count in found[kind]["left_out"].items()]
    blocks = [page.table(["file", "reason", "rows"], left, caption="Rows that were not asked")] if left else []
    return page.section("Settings", page.table(["option", "value"], rows, numeric=()), *blocks)
