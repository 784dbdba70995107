"""A data card of a curation, in Markdown with a YAML head as dataset cards of the Hugging Face hub have it.

    card(funnel)         # "---\\nlicense: mit\\nlanguage:\\n- en\\n..."

Everything in it comes from funnel.json: what the records' provenance said, and what the run counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jitune.evals.pages.shown import clean, short

# The licences that the hub knows by these words; others are written as license_name.
HUB_LICENSES = ("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
                "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "cc-by-nd-4.0", "odc-by", "odbl", "pddl", "bsd-3-clause",
                "gpl-3.0", "openrail", "llama2", "llama3", "unlicense")  # fmt: skip
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
         (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"))  # fmt: skip
SHOWN = 25  # rows of a table of languages, licences and the like
LIMITS = {
    "language": "Languages were told by a program, which errs on short and mixed texts.",
    "pii": "Personal data was looked for by patterns; names and what the patterns do not know may remain.",
    "decontaminate": "Only passages that are shared word for word were looked for; paraphrases and translations of "
                     "test items may remain.",
    "minhash": "Near-duplicates were found by an approximate method, which misses some and may reject a few that "
               "differ.",
    "ifd": "Scores of a model say what that model finds hard, which is not what is good.",
    "deita": "Scores of a model say what that model finds good, which people may not.",
}


def card(result: Mapping[str, Any]) -> str:
    """The card of a run's funnel.json."""
    result = clean(result)
    counts, name = result["records"], title(result)
    parts = [front(result), f"# {line(name)}", opening(result)]
    parts += [f"> **{line(warning)}**" for warning in license_warnings(result)]
    parts += ["## Sources", sources(result), "## How it was made", made(result), "## Curation",
              f"{counts['read']:,} rows were read: {counts['malformed']:,} were malformed, {counts['left_out']:,} were "
              f"left out by their reader, {counts['rejected']:,} records were rejected, and {counts['kept']:,} kept. "
              "Every rejection is in `rejected.jsonl` with its reason.", stages(result), reasons(result)]
    parts += ["## Languages", counted(result["after"]["language"], "language", unknown="not told")]
    parts += ["## Lengths", lengths(result), "## Known limits", *(f"- {text}" for text in limits(result))]
    parts += ["", f"Made by jitune {result['jitune']}; `funnel.json` holds all counts, `report.html` shows them."]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ") + "\n"


def title(result: Mapping[str, Any]) -> str:
    """The data's name: as it was given, or the folder's."""
    return result["name"] or result["config"]["output_dir"].rstrip("/").rpartition("/")[2] or "curated records"


def front(result: Mapping[str, Any]) -> str:
    """The YAML head; texts are written as JSON, which is YAML."""
    kept = result["records"]["kept"]
    size = next((word for most, word in SIZES if kept < most), "n>1T" if kept >= 10**12 else "100M<n<1B")
    rows: dict[str, Any] = {"pretty_name": title(result)} | license_fields(result["after"]["license"])
    languages = [code for code in result["after"]["language"] if re.fullmatch(r"[a-z]{2,3}", code)]
    rows |= {"language": sorted(languages)} if languages else {}
    rows |= {"size_categories": [size], "task_categories": ["text-generation"],
             "tags": ["instruction-tuning", "jitune"]}  # fmt: skip
    text = "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in rows.items())
    data = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: kept.jsonl\n"
    return f"---\n{text}{data}---"


def license_fields(licenses: Mapping[str, int]) -> dict[str, Any]:
    """license of the head: one that the hub knows; "other" where there are several, or words of one's own."""
    known = [name for name in licenses if name]
    if not known:
        return {"license": "unknown"}
    if len(licenses) == 1 and known[0].lower() in HUB_LICENSES:
        return {"license": known[0].lower()}
    name = known[0] if len(licenses) == 1 else "mixed: " + ", ".join(name or "unknown" for name in licenses)
    return {"license": "other", "license_name": name}


def license_warnings(result: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the licences before using the data."""
    licenses, kept = result["after"]["license"], result["records"]["kept"]
    missing, known = licenses.get("", 0), [name for name in licenses if name]
    found = [f"{missing:,} of {kept:,} records have no licence."] if missing else []
    if len(known) > 1:
        found.append(f"The records are under {len(known)} licences ({', '.join(known[:8])}); what is made of all of "
                     "them must heed all of them.")
    return found


def opening(result: Mapping[str, Any]) -> str:
    """What it is, in a sentence."""
    inputs, kept = result["inputs"], result["records"]["kept"]
    return (f"{kept:,} records of instruction data, curated from {len(inputs)} source{'s' * (len(inputs) != 1)} by "
            f"{len(result['stages'])} stages.")


def sources(result: Mapping[str, Any]) -> str:
    """The inputs with their digests and licences."""
    rows = [[one["input"], one["read"], one["kept"], ", ".join(
        f"{name or 'none'} ({count:,})" for name, count in list(one["licenses"].items())[:SHOWN]) or "-",
        one["sha256"]] for one in result["inputs"]]
    return table(["source", "read", "kept", "licences of what was kept", "SHA-256"], rows)


def made(result: Mapping[str, Any]) -> str:
    """Methods and models, as the provenance of the kept records says."""
    after = result["after"]
    parts = [counted(after["method"], "method", unknown="not said")]
    if set(after["model"]) - {""}:
        parts.append(counted(after["model"], "model that wrote", unknown="none, or not said"))
    return "\n\n".join(parts)


def stages(result: Mapping[str, Any]) -> str:
    """The stages in order."""
    rows = [[row["name"], row["in"], row["rejected"], row["out"], "; ".join(
        f"{key}={short(value, 120)}" for key, value in row["options"].items() if value not in ("", None)) or "-"]
        for row in result["stages"]]
    text = table(["stage", "in", "rejected", "out", "options"], rows)
    files = [[row["name"], file, digest] for row in result["stages"] for file, digest in row["files"].items()]
    return text + ("\n\n" + table(["stage", "file, model or code", "digest"], files) if files else "")


def reasons(result: Mapping[str, Any]) -> str:
    """Why rows and records were rejected."""
    rows = [["read", reason, count] for reason, count in result["unread"].items()]
    rows += [[row["name"], reason, count] for row in result["stages"] for reason, count in row["reasons"].items()]
    return table(["stage", "reason", "records"], rows) if rows else "Nothing was rejected."


def counted(counts: Mapping[str, int], what: str, *, unknown: str) -> str:
    """A table of values and how many records have them."""
    rows = [[name or unknown, count] for name, count in counts.items()]
    if len(rows) > SHOWN:
        rows = [*rows[:SHOWN], [f"{len(rows) - SHOWN} more", sum(count for _, count in rows[SHOWN:])]]
    return table([what, "records"], rows) if rows else "There are no records."


def lengths(result: Mapping[str, Any]) -> str:
    """Lengths of prompts and answers that were kept."""
    after = result["after"]
    names = sorted({*after["prompt"], *after["answer"]}, key=lambda name: int(name.split()[0].replace(",", "")))
    rows = [[name, after["prompt"].get(name, 0), after["answer"].get(name, 0)] for name in names]
    return table(["characters", "prompts", "answers"], rows) if rows else "There are no records."


def limits(result: Mapping[str, Any]) -> list[str]:
    """What the card cannot vouch for."""
    ran = {row["name"] for row in result["stages"]}
    found = [text for name, text in LIMITS.items() if name in ran]
    found += [f"{name} did not run: {what}" for name, what in (
        ("decontaminate", "overlap with test sets was not looked for."), ("pii", "personal data was not looked for."))
        if name not in ran]
    return [*found, "Lengths are in characters. Licences are as the sources say them; nobody has checked them."]


def table(headers: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table of Markdown."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else line(cell) for cell in row) + " |"
                     for row in lines)


def line(text: Any) -> str:
    """A text as one line that neither ends a table's cell nor is taken for HTML or Markdown."""
    text = " ".join(str(text).split())
    return re.sub(r"([\\|<>`*_\[\]])", r"\\\1", text) if text.strip("-") else text
