"""A data card of a curation, in Markdown with a YAML head as dataset cards of the Hugging Face hub have it.

    card(funnel)         # "---\\nlicense: mit\\nlanguage:\\n- en\\n..."

Everything in it comes from funnel.json: what the records' provenance said, and what the run counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jitune.evals.pages.shown import clean, numbered, short

# The licences that the hub knows, by these words (https://huggingface.co/docs/hub/repositories-licenses).
HUB_LICENSES = frozenset("""
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gemma gfdl
    gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit
    mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail openrail++ osl-3.0 pddl postgresql unlicense wtfpl zlib""".split())
SPDX = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl"}  # which SPDX and the hub write otherwise
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
         (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"))  # fmt: skip
COMMON = 0.01  # the least share of a language that the head names: rarer ones may be errors of telling them apart
SHOWN = 25  # rows of a table of languages, licences and the like
# Options that say what a stage did, even as they are by default.
MATTER = frozenset("action against embedder function inputs languages method model of preset rule threshold variant "
                   "weights".split())
LIMITS = {
    "language": "Languages were told by a program, which errs on short and mixed texts, and takes a language that is "
                "not among its candidates for one that is.",
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
    counts, name = result["records"], pretty_name(result)
    parts = [front(result), f"# {line(name)}", opening(result)]
    parts += [f"> **{line(warning)}**" for warning in license_warnings(result)]
    rows, malformed, left = numbered(counts["read"], "row"), counts["malformed"], counts["left_out"]
    parts += ["## Sources", sources(result), "## How it was made", made(result), "## Curation",
              f"Of {rows} {malformed:,} could not be read, {left:,} were left out by their reader, "
              f"{counts['rejected']:,} were rejected, and {counts['kept']:,} kept. "
              "Every rejection is in `rejected.jsonl` with its reason.", stages(result), reasons(result)]
    parts += ["## Languages", counted(result["after"]["language"], "language", unknown="not told")]
    parts += ["## Lengths", lengths(result), "## Known limits", "\n".join(f"- {text}" for text in limits(result))]
    parts += [f"Made by jitune {result['jitune']}; `funnel.json` holds all counts, `report.html` shows them."]
    return "\n\n".join(filter(None, parts)) + "\n"


def title(result: Mapping[str, Any]) -> str:
    """The data's name: as it was given, or those of its files."""
    if result["name"]:
        return result["name"]
    names = list(dict.fromkeys(stem(one["input"]) for one in result["inputs"]))
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if len(names) <= 3 else numbered(
        len(names), "source")


def pretty_name(result: Mapping[str, Any]) -> str:
    """The name of what came out."""
    return result["name"] or f"{title(result)}, curated"


def stem(name: str) -> str:
    """The bare name of a file or dataset: "data/hh.jsonl.gz" and "org/hh[test]" are both "hh"."""
    return re.sub(r"(\[.*\]|(\.(jsonl?|ndjson|parquet|csv|tsv|txt|arrow|gz|zst|bz2|xz))+)$", "",
                  name.rstrip("/").rpartition("/")[2]) or name


def places(names: Sequence[str]) -> list[str]:
    """Names as a card may tell them: of a path of this machine its end, as long as is needed to tell it from others."""
    parts = [name.rstrip("/").split("/") for name in names]
    taken = [1 if name.startswith(("/", "~/")) else len(part) for name, part in zip(names, parts, strict=True)]
    while True:
        found = ["/".join(part[-count:]) for part, count in zip(parts, taken, strict=True)]
        alike = [i for i, name in enumerate(found) if found.count(name) > 1 and taken[i] < len(parts[i])]
        if not alike:
            return found
        for i in alike:
            taken[i] += 1


def without_places(text: Any) -> Any:
    """An option's value with the ends of paths of this machine."""
    words = [word.strip() for word in text.split(",")] if isinstance(text, str) else []
    return ",".join(places(words)) if any(word.startswith(("/", "~/")) for word in words) else text


def front(result: Mapping[str, Any]) -> str:
    """The YAML head; texts are written as JSON, which is YAML."""
    kept = result["records"]["kept"]
    size = next((word for most, word in SIZES if kept < most), "n>1T" if kept >= 10**12 else "100M<n<1B")
    rows: dict[str, Any] = {"pretty_name": pretty_name(result)} | license_fields(result["after"]["license"])
    languages = [code for code, count in result["after"]["language"].items()
                 if re.fullmatch(r"[a-z]{2,3}", code) and code != "und" and count >= max(1, COMMON * kept)]
    rows |= {"language": sorted(languages)} if languages else {}
    rows |= {"size_categories": [size], "task_categories": ["text-generation"],
             "tags": ["instruction-tuning", "jitune"]}  # fmt: skip
    text = "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in rows.items())
    data = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: kept.jsonl\n"
    return f"---\n{text}{data}---"


def license_fields(licenses: Mapping[str, int]) -> dict[str, Any]:
    """license of the head: one or several that the hub knows, "unknown", or "other" with an id of its own."""
    if not any(licenses):
        return {"license": "unknown"}
    ids = [hub_license(name) for name in licenses]
    if all(ids):
        known = list(dict.fromkeys(ids))
        return {"license": known[0] if len(known) == 1 else known}
    words = [name or "unknown" for name in licenses]
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", "-".join(words).lower()).strip("-.")[:80]
            or "other", "license_details": ", ".join(words)}


def hub_license(name: str) -> str:
    """The hub's word for a licence, such as gpl-3.0 for GPL-3.0-or-later; "unknown" for none, "" where it has none."""
    word = re.sub(r"-(only|or-later)$", "", name.strip().lower())
    word = SPDX.get(word, word)
    return word if word in HUB_LICENSES else "" if word else "unknown"


def license_warnings(result: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the licences before using the data."""
    licenses, kept = result["after"]["license"], result["records"]["kept"]
    missing, known = licenses.get("", 0), [name for name in licenses if name]
    have = "has" if missing == 1 else "have"
    found = [f"{missing:,} of {numbered(kept, 'record')} {have} no licence."] if missing else []
    if len(known) > 1:
        found.append(f"The records are under {len(known)} licences ({', '.join(known[:8])}); what is made of all of "
                     "them must heed all of them.")
    return found


def opening(result: Mapping[str, Any]) -> str:
    """What it is, in a sentence."""
    inputs, kept = result["inputs"], result["records"]["kept"]
    return (f"{numbered(kept, 'record')} of instruction data, curated from {numbered(len(inputs), 'source')} by "
            f"{numbered(len(result['stages']), 'stage')}.")


def sources(result: Mapping[str, Any]) -> str:
    """The inputs with their digests and licences."""
    names = places([one["input"] for one in result["inputs"]])
    rows = [[name, one["read"], one["kept"], ", ".join(
        f"{name or 'none'} ({count:,})" for name, count in list(one["licenses"].items())[:SHOWN]) or "-",
        one["sha256"]] for name, one in zip(names, result["inputs"], strict=True)]
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
        f"{key}={short(without_places(value), 120)}" for key, value in telling(row)) or "-"]
        for row in result["stages"]]
    text = table(["stage", "in", "rejected", "out", "options"], rows)
    files = [[row["name"], name, digest] for row in result["stages"]
             for name, digest in zip(places(list(row["files"])), row["files"].values(), strict=True)]
    return text + ("\n\n" + table(["stage", "file, model or code", "digest"], files) if files else "")


def telling(row: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The options of a stage that are not as they are by default, and those that matter as they are."""
    return [(key, value) for key, value in row["options"].items() if value not in ("", None) and (
        key in row["chosen"] or (key in MATTER and value))]


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
