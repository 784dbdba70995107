"""Two evaluations of the same questions side by side: two folders in, a dict (JSON) of paired differences out.

    found = compare("eval/base", "eval/tuned")
    found["verdict"]     # "utility +3.1 (±1.2) points, safety -8.0 (±3.0) points: utility gained at the cost of safety"

Everything is paired: a document counts where both runs scored it, and a delta is b - a. `change` is the delta turned
so that positive is better (the metric's `better`). What is None could not be computed; notes say why.

    found = {
      "format": 1, "jitune": version,
      "a": {"directory", "created", "model", "settings"}, "b": the same,    # as in results.json
      "settings": {name: [a's, b's]},          # settings that differ and hinder nothing (dtype, ...)
      "warnings": [text],                      # what `force` let pass, and what else to know
      "left_out": {task: reason},              # tasks that only one of the runs has
      "tasks": {name: {
        "axis", "title", "domain", "languages": [...], "headline": metric,
        "documents": those in both runs,
        "metrics": {metric: comparison},       # the headline first
        "flips": {"metric", "better": count, "worse": count, "same": count, "unscored": count,
                  "examples": {"worse": [example], "better": [example]}},   # of the headline, largest change first
        "slices": {tag: {value: comparison}}}},           # of the headline; tags: language, domain
      "axes": {axis: change},                  # only axes with a task; in the order utility, faithfulness, safety
      "slices": {"language": {value: {axis: change}}, "domain": the same},
      "verdict": one line}

    comparison = {
      "a", "b": means over the pairs (shares as in results.json, 0 to 1), "delta", "change",
      "se", "low", "high": of the delta (95 %),
      "p": two-sided, "p_holm": adjusted over the tasks' headlines (None elsewhere),
      "method": "mcnemar" | "t" | "bootstrap" | "none",          # of p; see `paired`
      "sd": of one document's score, both runs pooled; of a metric of the whole, its error x sqrt(documents),
      "mde": the smallest true delta that would be found with 80 % power at 5 %,
      "pairs": documents scored in both, "clusters": independent groups among them,
      "unscored_a", "unscored_b": documents without a score in each, "better_pairs", "worse_pairs": counts,
      "a_own", "b_own": what each run reports over all that it scored itself,
      "a_strict", "b_strict": with failed extractions as the worst; None where neither run has such a reading,
      "better": "higher" | "lower" | "zero", "unit": "share" | "", "meaning", "chance", "note": text, "" as a rule}

    change = {"value", "se", "low", "high", "unit": "points" | "sd", "tasks": [names], "left_out": {name: reason}}
      points: mean over the axis' tasks of 100 x the headline's change; of shares only.
      sd: where no headline is a share, changes over standard deviations of the scores, instead.

    example = {"document", "id", "prompt", "target", "tags", "a": side, "b": side}
    side = {"score", "answer", "text": the first generated text or None, "failure"}
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jitune import __version__
from jitune.evals import stats
from jitune.evals.comparison import pairs as pairing
from jitune.evals.comparison import tradeoff
from jitune.evals.comparison.pairs import Pair
from jitune.evals.results import Run, read

FORMAT = 1
TAGS = ("language", "domain")
WORDS = ("unit", "better", "chance", "meaning")
# Unscored shares of the two runs that lie further apart than this are told: what is left may be the easier part.
IMBALANCE = 0.05


def compare(a: str | Path, b: str | Path, *, force: bool = False, examples: int = 5) -> dict:
    """The differences between two evaluations; see the module's docstring.

    Args:
      a: the folder of the first evaluation (before), `b` that of the second (after).
      force: compare runs of other documents, prompts, limits or judges too, by what they share, with warnings.
      examples: flips kept in each direction.

    Raises:
      UserError: one line saying what differs, with the task and the first document.
    """
    one, two = read(a), read(b)
    warnings = pairing.check_settings(one, two, force=force)
    common, left_out = pairing.common_tasks(one, two)
    tasks, headlines, by_slice = {}, {}, {tag: {} for tag in TAGS}
    for name in common:
        pairs, told = pairing.align(one, two, name, force=force)
        warnings += told
        entries = one.header["tasks"][name], two.header["tasks"][name]
        found = compare_task(entries, pairs, examples=examples)
        if found is None:
            left_out[name] = "no metric in common"
            continue
        tasks[name] = found
        if not entries[0].get("requests", 1):  # the same whatever the model
            continue
        headlines[name] = found["axis"], found["metrics"][found["headline"]]
        for tag, values in found["slices"].items():
            for value, comparison in values.items():
                by_slice[tag].setdefault(value, {})[name] = found["axis"], comparison
    adjust(tasks)
    axes = tradeoff.by_axis(headlines)
    return {
        "format": FORMAT, "jitune": __version__, "a": describe(one), "b": describe(two),
        "settings": pairing.differing(one, two), "warnings": warnings, "left_out": left_out, "tasks": tasks,
        "axes": axes, "slices": {tag: {v: tradeoff.by_axis(by_slice[tag][v]) for v in sorted(by_slice[tag])}
                                 for tag in TAGS},
        "verdict": tradeoff.verdict(axes),
    }


def describe(run: Run) -> dict:
    """Which run it is."""
    kept = {k: run.header.get(k) for k in ("created", "model", "settings")}
    return {"directory": str(run.directory), **kept}


def adjust(tasks: dict[str, dict]) -> None:
    """Writes Holm's p-values into the headlines' comparisons."""
    headlines = [t["metrics"][t["headline"]] for t in tasks.values()]
    for comparison, p in zip(headlines, stats.holm([c["p"] for c in headlines]), strict=True):
        comparison["p_holm"] = p


def compare_task(entries: tuple[dict, dict], pairs: Sequence[Pair], *, examples: int) -> dict | None:
    """One task: its two entries of results.json and its samples in pairs; None where no metric is in both."""
    a, b = entries
    metrics = [m for m in a["metrics"] if m in b["metrics"]]
    if not metrics:
        return None
    headline = next((h for h in (a.get("headline"), b.get("headline")) if h in metrics), metrics[0])
    metrics.sort(key=lambda m: m != headline)
    same = a["documents"] == b["documents"]
    return {
        "axis": a["axis"], "title": a.get("title", ""), "domain": a.get("domain", "general"),
        "languages": a.get("languages", []), "headline": headline, "documents": len(pairs),
        "metrics": {m: compare_metric(m, a["metrics"][m], (a["metrics"][m], b["metrics"][m]), pairs, same=same)
                    for m in metrics},
        "flips": flips(headline, a["metrics"][headline], pairs, examples=examples),
        "slices": slices(headline, entries, pairs, same=same),
    }


def compare_metric(metric: str, words: dict, estimates: tuple[dict | None, dict | None], pairs: Sequence[Pair], *,
                   same: bool) -> dict:
    """One metric over some pairs.

    Args:
      words: the metric's estimate in results.json, for its unit, better, chance, meaning and corpus.
      estimates: what the runs report over the same documents; None where they do not.
      same: the runs' documents are the same, so that bootstraps' replicates belong together.
    """
    own = [e["value"] if e else None for e in estimates]
    strict = [e.get("strict") if e else None for e in estimates]
    if strict != [None, None]:
        strict = [o if s is None else s for s, o in zip(strict, own, strict=True)]
    named = [p for p in pairs if any(metric in s["scores"] for s in p)]
    unscored = [sum(p[side]["scores"].get(metric) is None for p in named) for side in (0, 1)]
    better, worse = changed(metric, words["better"], named)
    if words.get("corpus"):
        numbers = of_the_whole(words, estimates, pairs, same=same)
        unscored = [e["unscored"] if e else 0 for e in estimates]
    else:
        numbers = of_means(metric, named)
    if named and abs(unscored[0] - unscored[1]) > IMBALANCE * len(named):
        numbers["note"] = "; ".join(filter(None, (
            numbers["note"], f"unscored: {unscored[0]} before, {unscored[1]} after; the pairs may be the easier ones")))
    change = None if numbers["delta"] is None else gain(words["better"], numbers["a"], numbers["b"])
    return {**numbers, "change": change, "p_holm": None, "unscored_a": unscored[0], "unscored_b": unscored[1],
            "better_pairs": len(better), "worse_pairs": len(worse), "a_own": own[0], "b_own": own[1],
            "a_strict": strict[0], "b_strict": strict[1], **{w: words.get(w) for w in WORDS}}


def scored(metric: str, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with a score on both sides."""
    return [p for p in pairs if all(s["scores"].get(metric) is not None for s in p)]


def of_means(metric: str, pairs: Sequence[Pair]) -> dict:
    """The paired difference of means."""
    both = scored(metric, pairs)
    before, after = (np.array([p[side]["scores"][metric] for p in both], dtype=np.float64) for side in (0, 1))
    found = stats.paired(before, after, [p[0].get("cluster", "") for p in both])
    spread = float(np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / 2)) if len(both) > 1 else None
    return {"a": float(before.mean()) if both else None, "b": float(after.mean()) if both else None,
            "delta": found.delta, "se": found.se, "low": found.low, "high": found.high, "p": found.p,
            "method": found.method, "sd": spread, "mde": found.mde, "pairs": found.n, "clusters": found.clusters,
            "note": found.note}


def of_the_whole(words: dict, estimates: tuple[dict | None, dict | None], pairs: Sequence[Pair], *, same: bool
                 ) -> dict:
    """The difference of a metric that is no mean: replicate by replicate, since both runs drew the same resamples."""
    a, b = (e or {} for e in estimates)
    found = {"a": a.get("value"), "b": b.get("value"), "delta": None, "se": None, "low": None, "high": None,
             "p": None, "method": "none", "sd": None, "mde": None, "pairs": len(pairs),
             "clusters": a.get("clusters", 0), "note": a.get("note", "")}
    if found["a"] is None or found["b"] is None:
        return found
    found["delta"] = found["b"] - found["a"]
    one, two = a.get("replicates"), b.get("replicates")
    if not one or not two or not same or a.get("resamples") != b.get("resamples"):
        return {**found, "note": "no resamples that belong together: no error can be told"}
    differences = [None if x is None or y is None else y - x for x, y in zip(one, two, strict=True)]
    interval = stats.percentile(differences)
    if interval is None:
        return {**found, "note": "most resamples have no value"}
    se, low, high = interval
    if not se and found["delta"]:
        return {**found, "note": "every resample has this difference, so that no error can be told"}
    if not se and words["unit"] == "share":
        se, low, high = stats.unchanged(found["clusters"], [0.0, 1.0])
        found["note"] = ""
    spread = [(e["se"] or 0.0) ** 2 * len(pairs) for e in (a, b)]
    return {**found, "sd": math.sqrt(sum(spread) / 2), "se": se, "low": low, "high": high,
            "p": stats.bootstrap_p(differences),
            "method": "bootstrap", "mde": stats.detectable(se) if se else None}


def changed(metric: str, better: str, pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """The pairs that became better, and those that became worse, the largest change first."""
    gains = [(gain(better, *(side["scores"][metric] for side in p)), p) for p in scored(metric, pairs)]
    ordered = sorted(gains, key=lambda g: (-abs(g[0]), g[1][0]["id"]))
    return [p for g, p in ordered if g > 0], [p for g, p in ordered if g < 0]


def gain(better: str, a: float, b: float) -> float:
    """From a to b, turned so that positive is better: `higher`, `lower`, or nearer to `zero`."""
    return {"higher": b - a, "lower": a - b, "zero": abs(a) - abs(b)}[better] + 0.0


def flips(metric: str, words: dict, pairs: Sequence[Pair], *, examples: int) -> dict:
    """How many documents became better and worse, with the largest changes."""
    better, worse = changed(metric, words["better"], pairs)
    both = len(scored(metric, pairs))
    named = sum(any(metric in s["scores"] for s in p) for p in pairs)
    return {"metric": metric, "better": len(better), "worse": len(worse), "same": both - len(better) - len(worse),
            "unscored": named - both,
            "examples": {"worse": [example(metric, p) for p in worse[:examples]],
                         "better": [example(metric, p) for p in better[:examples]]}}


def example(metric: str, pair: Pair) -> dict:
    """One document with what both runs answered."""
    first = pair[0]
    return {"document": first["document"], "id": first["id"], "prompt": first.get("prompt"),
            "target": first.get("target"), "tags": first.get("tags") or {},
            "a": side(metric, pair[0]), "b": side(metric, pair[1])}


def side(metric: str, sample: dict) -> dict:
    """What one run answered."""
    texts = [r["text"] for r in sample.get("responses") or [] if isinstance(r, dict) and "text" in r]
    return {"score": sample["scores"].get(metric), "answer": sample.get("answer"),
            "text": texts[0] if texts else None, "failure": sample.get("failure") or ""}


def slices(metric: str, entries: tuple[dict, dict], pairs: Sequence[Pair], *, same: bool) -> dict[str, dict]:
    """The headline by language and domain; the domain is the task's where a document has none."""
    found, words = {}, entries[0]["metrics"][metric]
    for tag in TAGS:
        default = entries[0].get("domain", "") if tag == "domain" else ""
        groups: dict[str, list[Pair]] = {}
        for pair in pairs:
            groups.setdefault((pair[0].get("tags") or {}).get(tag) or default, []).append(pair)
        groups.pop("", None)
        if groups:
            found[tag] = {v: compare_metric(metric, words, tuple(
                e.get("slices", {}).get(tag, {}).get(v, {}).get(metric) for e in entries), groups[v], same=same)
                for v in sorted(groups)}
    return found
