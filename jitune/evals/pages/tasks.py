"""The part of an evaluation's page that tells of each task: all metrics, slices, failures and the worst answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from jitune.evals.pages import examples
from jitune.evals.pages.shown import between, figure, missing, numbered, part
from jitune.evals.results import sample_file
from jitune.report import page
from jitune.report.page import value
from jitune.report.run import duration

HARMFUL = "These hold what the task asks for and what the model answered, which may be harmful, hateful or false."
BETTER = {"lower": "less is better", "zero": "the nearer to 0 the better"}


def headline(entry: Mapping) -> tuple[str, dict]:
    """The headline's name and estimate; "" and {} where it was left out."""
    name = entry.get("headline") or ""
    return name, entry.get("metrics", {}).get(name) or {}


def score_cell(estimate: Mapping) -> Markup:
    """A value; with a star where there is something to doubt."""
    shown = figure(estimate.get("value"), estimate.get("unit"))
    note = estimate.get("note")
    return Markup('{}<abbr title="{}">*</abbr>').format(shown, note) if note else shown


def task_id(name: str) -> str:
    """Where a task stands on the page."""
    return "task-" + re.sub(r"[^A-Za-z0-9_-]+", "-", name)


def tasks_section(tasks: Mapping[str, Mapping], chosen: Mapping[str, Sequence[Mapping]]) -> Markup:
    """Every task, folded."""
    if not tasks:
        return Markup("")
    note = "All metrics, slices and failures, and the worst answers. Open one to read it."
    return page.section("Tasks", *(task_block(n, e, chosen.get(n, ())) for n, e in tasks.items()), note=note)


def task_block(name: str, entry: Mapping, rows: Sequence[Mapping]) -> Markup:
    """One task."""
    metric, h = headline(entry)
    line = Markup("{} <small>{} {}</small>").format(name, metric, figure(h.get("value"), h.get("unit")))
    mark = Markup('<p id="{}" class="note">{}</p>').format(task_id(name), about(entry))
    return page.details(line, mark, metrics_table(entry), failures(entry), *slices(entry), worst(name, entry, rows))


def about(entry: Mapping) -> str:
    """What the task is, in a line or two."""
    facts = [entry.get("title"), f"domain: {entry['domain']}" if entry.get("domain") else "",
             f"languages: {', '.join(entry['languages'])}" if entry.get("languages") else "",
             numbered(entry.get("n") or 0, "document"),
             f"{entry['truncated']:,} prompts cut to fit" if entry.get("truncated") else "",
             f"{duration(entry['seconds']).striptags()}" if entry.get("seconds") else "",
             f"after {entry['source']}" if entry.get("source") else ""]
    return "; ".join(filter(None, facts)) + "."



def metrics_table(entry: Mapping) -> Markup:
    """All metrics with their meaning."""
    rows = [[name, figure(m.get("value"), m.get("unit")), between(m, m.get("unit")),
             figure(m.get("strict"), m.get("unit")), figure(m.get("chance"), m.get("unit")), value(m.get("n")),
             value(m.get("clusters")), missing(m), m.get("method"),
             "; ".join(filter(None, (m.get("meaning"), BETTER.get(m.get("better")), m.get("note"))))]
            for name, m in entry.get("metrics", {}).items() if isinstance(m, dict)]
    heads = ["metric", "value", "95 % interval", "strict", "chance", "scored", "clusters", "not scored", "method",
             "meaning"]
    return page.table(heads, rows, numeric=range(1, 8)) if rows else page.paragraph("Every metric was left out.")


def failures(entry: Mapping) -> Markup:
    """Why answers were not scored."""
    found = entry.get("failures") or {}
    if not found:
        return Markup("")
    shown = [Markup("{} {}").format(reason, part(count, entry.get("n") or 0)) for reason, count in
             list(found.items())[:10]]
    return page.paragraph(Markup("Not scored for: {}.").format(Markup(", ").join(shown)))


def slices(entry: Mapping) -> list[Markup]:
    """A table a tag: the headline with its interval, and the values of the other metrics."""
    metric, h = headline(entry)
    found = []
    for tag, values in (entry.get("slices") or {}).items():
        if tag in ("language", "domain") and len(values) < 2:
            continue
        used = [m for m in entry["metrics"] if m != metric and any(m in s for s in values.values())]
        rows = [[v, value(s.get("n")), *headline_cells(s.get(metric) or {}, h.get("unit")),
                 *(figure((s.get(m) or {}).get("value"), entry["metrics"][m].get("unit")) for m in used)]
                for v, s in values.items()]
        heads = [tag, "documents", metric or "headline", "95 % interval", "not scored", *used]
        found.append(page.table(heads, rows, numeric=range(1, len(heads)), caption=f"By {tag}"))
    return found


def headline_cells(estimate: Mapping, unit: str | None) -> list:
    """Value, interval and what is not scored."""
    return [figure(estimate.get("value"), unit), between(estimate, unit), missing(estimate) if estimate else None]


def worst(name: str, entry: Mapping, rows: Sequence[Mapping]) -> Markup:
    """The worst answers; of a task of safety folded once more."""
    if not rows:
        return Markup("")
    metric = examples.judged_by(rows, entry)
    where = sample_file("", name).as_posix()
    shown = [examples.show(row, metric, entry, where=where) for row in rows]
    if entry.get("axis") == "safety":
        return page.details(f"Worst answers ({len(shown)}), which may be harmful", page.paragraph(HARMFUL), *shown)
    return page.join((Markup('<p class="label">The worst answers, and such as were not scored</p>'), *shown))
