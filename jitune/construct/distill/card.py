"""A data card of a distillation, in Markdown with a YAML head as dataset cards of the Hugging Face hub have it.

    card(funnel)         # "---\\npretty_name: ...\\n---\\n\\n# self_instruct by large\\n..."

Everything in it comes from funnel.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jitune.construct.curate.card import counted, front, lengths, license_warnings, line, places, table, without_places
from jitune.construct.distill.funnel import base, spent
from jitune.evals.pages.shown import clean, numbered, short

LIMITS = (
    "What a model says may be false, biased or unsafe; nobody has checked it but the filters below.",
    "A model repeats what it was trained on: texts of others may be in its answers, and test sets too. `jitune data "
    "curate` looks for overlap with test sets.",
    "The terms of the model's maker may limit what its answers may be used for.",
    "Lengths are in characters. Licences are those of the input, as it says them.",
)


def card(result: Mapping[str, Any]) -> str:
    """The card of a run's funnel.json."""
    result = clean(result)
    counts = result["records"]
    parts = [front(result), f"# {line(result['name'])}", line(opening(result))]
    parts += [f"> **{line(warning)}**" for warning in warnings(result)]
    parts += ["## How it was made", generators(result), chosen(result)]
    parts += ["## Sources", sources(result)] if result["inputs"] else []
    parts += ["## What was rejected", f"{counts['kept']:,} were kept, {counts['rejected']:,} rejected, and "
              f"{numbered(counts['malformed'] + counts['left_out'], 'row')} of the input not read. Every one is in "
              "`rejected.jsonl` with its reason.", reasons(result)]
    parts += ["## Licences", counted(result["after"]["license"], "licence of the input", unknown="none said")]
    parts += ["## Lengths", lengths(result), "## Known limits", "\n".join(f"- {text}" for text in LIMITS)]
    parts += [f"Made by jitune {result['jitune']}; `funnel.json` holds all counts, `report.html` shows them."]
    return "\n\n".join(filter(None, parts)) + "\n"


def opening(result: Mapping[str, Any]) -> str:
    """What it is, in a plain sentence."""
    kept, given = result["records"]["kept"], result["inputs"]
    teacher, *others = dict.fromkeys(base(one["identity"].get("model")) for one in result["generators"].values())
    model = f"{teacher}, with {others[0]}," if others else teacher
    of = f" from {numbered(len(given), 'source')}" if given else ""
    return f"{numbered(kept, 'record')} that {model} wrote by the method {result['method']}{of}."


def warnings(result: Mapping[str, Any]) -> list[str]:
    """What a reader must know before using the data."""
    ended = [f"The run stopped before its end: {result['ended']}."] if result["ended"] else []
    for role, one in result["generators"].items():
        if len(who := one["account"].get("answered_by") or ()) > 1:
            ended.append(f"Not one model but {len(who)} answered as the {role}, by what its endpoint says: "
                         f"{short(', '.join(who), 120)}.")
    return [*ended, *(license_warnings(result) if result["records"]["kept"] else ())]


def sources(result: Mapping[str, Any]) -> str:
    """The inputs with their digests."""
    names = places([one["input"] for one in result["inputs"]])
    return table(["source", "read", "SHA-256"], [[name, one["read"], one["sha256"]] for name, one in zip(
        names, result["inputs"], strict=True)])


def generators(result: Mapping[str, Any]) -> str:
    """Who wrote, and what it took."""
    rows = []
    for name, one in result["generators"].items():
        who, account, took = one["identity"], one["account"], spent(one["account"])
        rows.append([name, without_places(str(who.get("model", ""))), str(who.get("digest") or who.get("base_url") or
                     who.get("kind", "-")), account.get("calls", 0) + account.get("cached", 0), took["tokens"],
                     "-" if took["cost"] is None else f"{took['cost']:.4g}"])
    return table(["generator", "model", "digest of its weights, or where it is", "answers", "tokens", "cost"], rows)


def chosen(result: Mapping[str, Any]) -> str:
    """The options of the method, those that are not as they are by default in bold."""
    rows = [[f"**{name}**" if name in result["chosen"] else name, short(without_places(value), 120)]
            for name, value in result["options"].items() if value not in ("", None)]
    text = table(["option", "value"], rows).replace("\\*\\*", "**")
    return text + ("\n\n" + table(["file or code", "digest"], list(result["files"].items())) if result["files"] else "")


def reasons(result: Mapping[str, Any]) -> str:
    """Why rows and generations were rejected."""
    rows = [["input", reason, count] for reason, count in result["unread"].items()]
    rows += [[result["method"], reason, count] for reason, count in result["reasons"].items()]
    return table(["where", "reason", "count"], rows) if rows else "Nothing was rejected."
