"""The page of a curation: how many records came how far, why the others did not, and what it cost.

    page_of(funnel, examples("out/rejected.jsonl", marks, 3))         # HTML, one document that needs nothing else

Made of funnel.json and of lines of rejected.jsonl; every number on it carries its digits in `data-value`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from jitune.construct.curate import card
from jitune.construct.curate.examples import shown_row
from jitune.evals.pages.shown import clean, numbered, part
from jitune.report import charts, page
from jitune.report.page import value
from jitune.runlog import duration

MOST = 200  # examples of a page
BARS = 14  # languages of a chart
LABELS = {"ids": "ids", "read": "reading"}


def page_of(result: Mapping[str, Any], rows: Mapping[str, Mapping[str, Sequence[dict]]]) -> str:
    """The page. rows: by stage and reason, as `examples` gives them."""
    result = clean(result)
    counts = result["records"]
    parts = [(counts["kept"], "kept"), (counts["rejected"], "rejected"), (counts["malformed"], "malformed"),
             (counts["left_out"], "left out by their reader")]
    lead = (f"{numbered(counts['read'], 'row')} of {numbered(len(result['inputs']), 'source')}: "
            + ", ".join(f"{count:,} {what}" for count, what in parts[:2] + [p for p in parts[2:] if p[0]]) + ".")
    return page.page(
        f"Curation of {card.title(result)}", tiles(result), *warnings(result), funnel(result), stages(result),
        told(result), rejected(result, rows), lengths(result), languages(result), sources(result), settings(result),
        lead=lead,
        footer=f"Made by jitune {result['jitune']} from funnel.json and rejected.jsonl.",
    )  # fmt: skip


def examples(path: Path, marks: Mapping[str, Mapping[str, Sequence]], count: int) -> dict[str, dict[str, list[dict]]]:
    """The first `count` remembered lines of rejected.jsonl, by stage and reason; fewer where there are many reasons."""
    reasons = sum(map(len, marks.values()))
    count = min(count, max(1, MOST // max(reasons, 1)))
    found: dict[str, dict[str, list[dict]]] = {}
    with open(path, "rb") as stream:
        for stage, by_reason in marks.items():
            for reason, places in by_reason.items():
                for _, at in places[:count]:
                    stream.seek(at)
                    found.setdefault(stage, {}).setdefault(reason, []).append(json.loads(stream.readline()))
    return found


def tiles(result: Mapping[str, Any]) -> Markup:
    """The figures that one asks for first."""
    counts, seconds = result["records"], result["seconds"]
    share = counts["kept"] / counts["read"] if counts["read"] else None
    speed = counts["read"] / seconds if seconds else None
    return page.tiles([
        ("Read", counts["read"], "records and rows that could not be read"),
        ("Kept", counts["kept"], f"{page.number(share, percent=True)} of what was read"),
        ("Rejected", counts["rejected"], f"by {numbered(len(result['stages']), 'stage')}"),
        ("Not read", counts["malformed"] + counts["left_out"],
         f"{counts['malformed']:,} malformed, {counts['left_out']:,} left out by their reader"),
        ("Time", spent(seconds), f"{page.number(speed)} records per second"),
        ("CPU time", spent(result["cpu_seconds"]), "of all processes"),
    ])


def spent(seconds: float) -> Markup:
    """Seconds, as 0.35 s or 12m34s."""
    return value(seconds, unit="s") if seconds < 60 else value(seconds, text=duration(seconds))


def warnings(result: Mapping[str, Any]) -> list[Markup]:
    """What must not be overlooked."""
    found = card.license_warnings(result)
    for row in result["stages"]:
        for one in row["told"].get("sources", ()) if row["name"] == "mix" else ():
            if one["too small by"]:
                found.append(f"{one['source']} is too small for the mixture: {one['wanted']:,} wanted, "
                             f"{one['taken']:,} taken; nothing was repeated.")
    return [Markup('<p class="warning">{}</p>').format(text) for text in found]


def funnel(result: Mapping[str, Any]) -> Markup:
    """Records that are left after each stage, what each rejected, and what it cost."""
    names = ["read", *(row["name"] for row in result["stages"])]
    left = [result["records"]["read"], *(row["out"] for row in result["stages"])]
    costly = [row for row in result["stages"] if row["cpu_seconds"] >= 0.0005]
    cost = charts.bars([row["name"] for row in costly], {"seconds": [row["cpu_seconds"] for row in costly]},
                       title="What each stage cost, CPU seconds") if costly else ""
    lost = [(row["name"], row["rejected"]) for row in result["stages"] if row["rejected"]]
    rejected = charts.bars([name for name, _ in lost], {"records": [count for _, count in lost]},
                           title="Records rejected by each stage") if lost else ""
    return page.section("Funnel", page.grid(
        charts.bars(names, {"records": left}, title="Records left after each stage"), rejected, cost))


def stages(result: Mapping[str, Any]) -> Markup:
    """Each stage with what it did and what it cost."""
    rows = [[row["name"], row["kind"], row["in"], row["rejected"], part_of(row), row["out"], row["changed"],
             value(row["cpu_seconds"], unit="s"), row["records_per_second"]] for row in result["stages"]]
    return page.section(
        "Stages", page.table(["stage", "kind", "in", "rejected", "share", "out", "written on", "CPU time",
                              "per CPU second"], rows, numeric=range(2, 9)),
        note="In order. A record is written on where a stage notes something, such as its language, or changes it. "
             "CPU time is that of the stage alone, and the records that it would take in a second are by it.")


def part_of(row: Mapping[str, Any]) -> Markup:
    """The share of what came to a stage that it rejected."""
    return value(row["rejected"] / row["in"] if row["in"] else None, percent=True)


def told(result: Mapping[str, Any]) -> Markup | str:
    """What choices say of themselves: the mixture, distributions of scores."""
    blocks: list[Any] = []
    for row in result["stages"]:
        plain = {k: v for k, v in row["told"].items() if not isinstance(v, list)}
        if plain:
            blocks.append(page.table([row["name"], "value"], [[k, simple(v)] for k, v in plain.items()]))
        for name, rows in row["told"].items():
            if isinstance(rows, list) and rows:
                blocks.append(page.table(list(rows[0]), [[simple(cell) for cell in one.values()] for one in rows],
                                         caption=f"{row['name']}: {name}"))
    return page.section("Choices", *blocks, note="What stages that look at all records say of them.") if blocks else ""


def simple(what: Any) -> Any:
    """A number or text as it is, anything else as JSON."""
    return what if isinstance(what, (int, float, str)) or what is None else json.dumps(what, ensure_ascii=False)


def rejected(result: Mapping[str, Any], rows: Mapping[str, Mapping[str, Sequence[dict]]]) -> Markup:
    """Reasons with their counts and examples."""
    whys = [("read", reason, count) for reason, count in result["unread"].items()]
    whys += [(row["name"], reason, count) for row in result["stages"] for reason, count in row["reasons"].items()]
    if not whys:
        return page.section("Reasons", "Nothing was rejected.")
    table = page.table(["stage", "reason", "records"], whys)
    of_page = clean(rows)
    shown = [page.details(f"{stage}: {reason} ({count:,})", *map(shown_row, of_page.get(stage, {}).get(reason, ())))
             for stage, reason, count in whys if of_page.get(stage, {}).get(reason)]
    return page.section("Reasons", table, *shown, note="Examples are drawn by the hash of the record's id; "
                        "rejected.jsonl has all of them.")


def lengths(result: Mapping[str, Any]) -> Markup:
    """Lengths of prompts and answers, before and after."""
    figures = []
    for name in ("prompt", "answer"):
        before, after = result["before"][name], result["after"][name]
        if before:
            figures.append(charts.bars(list(before), {"before": list(before.values()), "after": [
                after.get(bin, 0) for bin in before]}, title=f"Records by characters of the {name}"))
    return page.section("Lengths", page.grid(*figures) if figures else "Nothing was read.")


def languages(result: Mapping[str, Any]) -> Markup | str:
    """Languages and licences before and after."""
    figures = []
    for name, title in (("language", "Languages"), ("license", "Licences"), ("method", "Methods"), ("model", "Models")):
        before, after = result["before"][name], result["after"][name]
        if set(before) - {""}:
            names = list(before)[:BARS]
            figures.append(charts.bars([n or "not said" for n in names], {
                "before": [before[n] for n in names], "after": [after.get(n, 0) for n in names]}, title=title))
    if not figures:
        return ""
    return page.section("Languages and licences", page.grid(*figures),
                        note="Languages are those that a reader or the stage language has noted; und is too short to "
                             "tell.")


def sources(result: Mapping[str, Any]) -> Markup:
    """The inputs."""
    rows = [[one["input"], one["read"], one["malformed"], one["left_out"], part(one["kept"], one["read"]),
             ", ".join(f"{name or 'none'} ({count:,})" for name, count in one["licenses"].items()), one["sha256"][:12]]
            for one in result["inputs"]]
    notes = page.table(["what readers counted", "times"], list(result["notes"].items())) if result["notes"] else ""
    headers = ["source", "read", "malformed", "left out", "kept", "licences of what was kept", "SHA-256 begins"]
    return page.section("Sources", page.table(headers, rows, numeric=(1, 2, 3, 4)), notes)


def settings(result: Mapping[str, Any]) -> Markup:
    """The options of the stages that ran."""
    rows = [[row["name"], key, simple(given)] for row in result["stages"] for key, given in card.telling(row)]
    config = page.details("All of the config", page.code(json.dumps(result["config"], indent=1, ensure_ascii=False)))
    return page.section("Settings", page.table(["stage", "option", "value"], rows, numeric=()) if rows else "", config,
                        note="Options that are not as they are by default, and those that say what a stage did.")
