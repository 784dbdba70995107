"""The page of a distillation: what was made and by whom, why the rest was rejected, and what it cost.

    page_of(funnel, examples, samples)         # HTML, one document that needs nothing else

Made of funnel.json, and of lines of rejected.jsonl and kept.jsonl; every number carries its digits in `data-value`.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from jitune.construct.curate.examples import marked, shown_row, texts
from jitune.construct.curate.report import simple, spent
from jitune.construct.distill import card, funnel
from jitune.evals.pages.shown import clean, numbered, part, short
from jitune.report import charts, page

ACCOUNT = (("calls", "answered in this run"), ("cached", "kept from before"), ("failed", "failed"),
           ("not_asked", "not asked"), ("retries", "retries"))  # fmt: skip


def page_of(result: Mapping[str, Any], rows: Mapping[str, Mapping[str, Sequence[dict]]], samples: Sequence[dict]
            ) -> str:
    """The page. rows: by stage and reason, as `curate.report.examples` gives them. samples: rows of kept.jsonl."""
    result = clean(result)
    counts = result["records"]
    lead = f"{card.opening(result)} {counts['rejected']:,} rejected."
    return page.page(
        result["name"], tiles(result), *warned(result), who(result), rejected(result, rows), made(samples),
        lengths(result), sources(result), settings(result), lead=lead,
        footer=f"Made by jitune {result['jitune']} from funnel.json, kept.jsonl and rejected.jsonl.",
    )  # fmt: skip


def chosen(path: Path, count: int) -> list[dict]:
    """`count` rows of a file of records, those whose ids have the lowest hashes."""
    def mark(line: bytes) -> str:
        return hashlib.blake2b(line[:40], digest_size=8).hexdigest()  # a row begins with its id

    with open(path, "rb") as stream:
        return [json.loads(line) for line in heapq.nsmallest(count, stream, key=mark)]


def tiles(result: Mapping[str, Any]) -> Markup:
    """The figures that one asks for first."""
    counts, both = result["records"], result["generators"].values()
    took = [funnel.spent(one["account"]) for one in both]
    costs = [one["cost"] for one in took if one["cost"] is not None]
    calls, cached = (sum(one["account"].get(name, 0) for one in both) for name in ("calls", "cached"))
    share = counts["kept"] / (counts["kept"] + counts["rejected"]) if counts["kept"] + counts["rejected"] else None
    return page.tiles([
        ("Kept", counts["kept"], f"{page.number(share, percent=True)} of what was made"),
        ("Rejected", counts["rejected"], numbered(len(result["reasons"]), "reason")),
        ("Input", counts["read"], f"{counts['malformed']:,} malformed, {counts['left_out']:,} left out"),
        ("Answers", calls + cached, f"that the last run asked for, {cached:,} of them kept from before"),
        ("Tokens", sum(one["tokens"] for one in took), "in and out, of all runs of this folder"),
        ("Cost", sum(costs) if costs else None, "of all runs of this folder" if costs else "no prices were given"),
        ("Time", spent(result["seconds"]), "of all runs of this folder"),
    ])


def warned(result: Mapping[str, Any]) -> list[Markup]:
    """What must not be overlooked."""
    return [Markup('<p class="warning">{}</p>').format(text) for text in card.warnings(result)]


def who(result: Mapping[str, Any]) -> Markup:
    """The generators with their accounts."""
    headers = ["generator", "model", *(words for _, words in ACCOUNT), "tokens in", "tokens out", "cost"]
    rows = []
    for name, one in result["generators"].items():
        account, took = one["account"], funnel.spent(one["account"])
        rows.append([name, str(one["identity"].get("model", "")), *(account.get(key, 0) for key, _ in ACCOUNT),
                     account.get("input_tokens", 0), account.get("output_tokens", 0), took["cost"]])
    identity = page.details("Who answered, as it is part of every key", page.code(json.dumps(
        {name: one["identity"] for name, one in result["generators"].items()}, indent=1, ensure_ascii=False)))
    return page.section("Generators", page.table(headers, rows, numeric=range(2, len(headers))), identity,
                        note="Tokens are those of the last run; the cost is of all runs of this folder.")


def rejected(result: Mapping[str, Any], rows: Mapping[str, Mapping[str, Sequence[dict]]]) -> Markup:
    """Reasons with their counts and examples."""
    whys = [("read", reason, count) for reason, count in result["unread"].items()]
    whys += [(result["method"], reason, count) for reason, count in result["reasons"].items()]
    if not whys:
        return page.section("Reasons", "Nothing was rejected.")
    of_page = clean(rows)
    total = result["records"]["kept"] + result["records"]["rejected"]
    table = page.table(["where", "reason", "count"], [
        [where, reason, part(count, total) if where != "read" else count] for where, reason, count in whys])
    chart = charts.bars([f"{reason}" for _, reason, _ in whys], {"count": [count for *_, count in whys]},
                        title="Why it was rejected")
    shown = [page.details(f"{reason} ({count:,})", *(shown_row(row | {"raw": row.get("text")}) for row in found))
             for where, reason, count in whys
             if (found := of_page.get(where, of_page.get(where.rpartition(".")[2], {})).get(reason))]
    return page.section("Reasons", page.grid(chart), table, *shown, note="Shares are of all that was made. Examples "
                        "are drawn by a hash; rejected.jsonl has all of them.")


def made(samples: Sequence[dict]) -> Markup | str:
    """Some of what was kept."""
    shown = []
    for row in clean(list(samples)):
        prompt, answers = texts(row)
        shown.append(page.sample(marked(prompt, ()) or "(no prompt)", [
            *((name, marked(text, ())) for name, text in answers), ("how", short(origin(row), 900))],
            label=" \N{MIDDLE DOT} ".join(filter(None, (short(row["provenance"].get("source"), 120), row["id"])))))
    return page.section("Samples", *shown, note="Of what was kept, drawn by a hash.") if shown else ""


def origin(row: Mapping[str, Any]) -> str:
    """How a record came about, for people to read."""
    p, meta = row["provenance"], row.get("meta") or {}
    parts = [f"{name}: {meta[name]}" for name in ("persona", "system") if meta.get(name)]
    parts += [f"by {p['model']}"] if p.get("model") else []
    parts += [", ".join(f"{name} {given}" for name, given in (p.get("sampling") or {}).items() if name != "stop")]
    parts += [f"seed {p['seed']}"] if p.get("seed") is not None else []
    return "; ".join(filter(None, [*parts, numbered(len(p.get("parents") or ()), "parent")]))


def lengths(result: Mapping[str, Any]) -> Markup | str:
    """Lengths of prompts and answers that were made."""
    figures = [charts.bars(list(found), {"records": list(found.values())},
                           title=f"Records by characters of the {name}")
               for name in ("prompt", "answer") if (found := result["after"][name])]
    return page.section("Lengths", page.grid(*figures)) if figures else ""


def sources(result: Mapping[str, Any]) -> Markup | str:
    """The inputs."""
    rows = [[one["input"], one["read"], one["malformed"], one["left_out"], one["sha256"][:12]]
            for one in result["inputs"]]
    headers = ["source", "read", "malformed", "left out", "SHA-256 begins"]
    return page.section("Sources", page.table(headers, rows, numeric=(1, 2, 3))) if rows else ""


def settings(result: Mapping[str, Any]) -> Markup:
    """The options of the method."""
    rows = [[name, simple(given), "chosen" if name in result["chosen"] else ""]
            for name, given in result["options"].items()]
    config = page.details("All of the config", page.code(json.dumps(result["config"], indent=1, ensure_ascii=False)))
    return page.section("Settings", page.table(["option", "value", ""], rows, numeric=()), config)
