"""The page of an evaluation, from the files that it wrote (see `results`).

    write_page("eval/tuned")  ->  eval/tuned/report.html

Per axis a figure and a table of the tasks' headlines, the same by language and by domain, every task with all its
metrics and its worst answers, what was left out, and how it was measured. Beside each number stands how much of its
set was not scored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from jitune import __version__
from jitune.evals.pages import examples
from jitune.evals.pages.shown import between, clean, doubtful, figure, missing, numbered, part, point
from jitune.evals.pages.tasks import headline, score_cell, task_id, tasks_section
from jitune.evals.results import Run, read, read_samples, sample_file
from jitune.evals.task import AXES
from jitune.report import page
from jitune.report.intervals import intervals
from jitune.report.page import value
from jitune.report.run import flatten, setting, short, tail
from jitune.types import UserError

KEPT = 2000  # characters of any text of results.json
MOST_ROWS = 40  # of a figure
DOWN = "\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}"
ASKS = {"utility": "Does it do what is asked?", "faithfulness": "Is what it says so, and in its sources?",
        "safety": "Does it decline harm, and only harm?"}


def write_page(directory: str | Path, out: str | Path | None = None) -> Path:
    """Writes the page of the evaluation in `directory` to `out` (DIR/report.html); returns its path.

    Raises UserError where there is no evaluation, a file is broken, or there is no directory for `out`.
    """
    run = read(directory)
    path = Path(out).expanduser() if out else run.directory / "report.html"
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no directory {path.parent}")
    tasks = run.header["tasks"]
    most = examples.budget(len(tasks))
    chosen = {name: examples.choose(held(run, name), entry, most=most) for name, entry in tasks.items()}
    path.write_text(render(run.header, chosen), encoding="utf-8")
    return path


def held(run: Run, name: str) -> list[dict]:
    """The samples of a task; none where the file was not kept."""
    return read_samples(run, name) if sample_file(run.directory, name).is_file() else []


def render(results: Mapping, samples: Mapping[str, Sequence[Mapping]]) -> str:
    """The page. results: what results.json holds; samples: of each task all lines, or those to choose from."""
    found = clean(results, most=KEPT)
    tasks = {name: entry for name, entry in found["tasks"].items() if isinstance(entry, dict)}
    most = examples.budget(len(tasks))
    names = {clean(name, most=KEPT): name for name in results["tasks"]}
    chosen = {name: examples.choose(samples.get(names[name]) or (), entry, most=most) for name, entry in tasks.items()}
    chosen = {name: [clean(row) for row in rows] for name, rows in chosen.items()}
    axes = {axis: {n: e for n, e in tasks.items() if e.get("axis") == axis} for axis in axes_of(tasks)}
    return page.page(
        title(found), page.tiles(tiles(axes, tasks)), *notes(found, tasks),
        *(axis_section(axis, held) for axis, held in axes.items()),
        by_language(tasks), by_domain(tasks), tasks_section(tasks, chosen), left_out(found, tasks), measured(found),
        lead=lead(found, axes), footer=f"Made by jitune {__version__} from results.json and samples.",
    )


def axes_of(tasks: Mapping) -> list[str]:
    """The axes that have a task, the known ones first."""
    there = {e.get("axis") for e in tasks.values()}
    return [*(a for a in AXES if a in there), *sorted(there - {*AXES, None})]


def title(found: Mapping) -> str:
    """Which model."""
    return f"{tail(str(found.get('model', {}).get('path') or 'a model'))}: evaluation"


def lead(found: Mapping, axes: Mapping) -> str:
    """What was measured on what."""
    model = found.get("model") or {}
    adapter = f", with the adapter {tail(str(model['adapter']))}" if model.get("adapter") else ""
    documents = sum(e.get("n") or 0 for tasks in axes.values() for e in tasks.values())
    parts = ", ".join(f"{len(tasks)} of {axis}" for axis, tasks in axes.items())
    size = f" ({short(model['parameters']).striptags()} parameters)" if model.get("parameters") else ""
    count = sum(map(len, axes.values()))
    return (f"{tail(str(model.get('path') or 'a model'))}{size}{adapter}, on {numbered(documents, 'document')} of "
            f"{numbered(count, 'task')}{': ' + parts if count else ''}. Intervals hold 95\N{NO-BREAK SPACE}%.")


def tiles(axes: Mapping, tasks: Mapping) -> list[tuple]:
    """An axis each, and how much was not scored."""
    items = [axis_tile(axis, held) for axis, held in axes.items()]
    documents = sum(e.get("n") or 0 for e in tasks.values())
    unscored = sum(e.get("unscored") or 0 for e in tasks.values())
    failed = sum(e.get("extraction_failures") or 0 for e in tasks.values())
    return [*items, ("Not scored", value(unscored), f"{share(unscored, documents)} documents; in no mean"),
            ("No answer found", value(failed), f"{share(failed, documents)} documents; the strict reading counts them")]


def share(count: int, of: int) -> str:
    """1.2% of 3,000"""
    return f"{page.number(count / of if of else None, percent=True)} of {of:,}"


def axis_tile(axis: str, tasks: Mapping) -> tuple:
    """The mean of an axis' headlines that are shares, turned so that more is better."""
    tasks = {name: task for name, task in tasks.items() if task.get("requests", 1)}  # others measure measures
    shares = [h for _, h in map(headline, tasks.values()) if h.get("unit") == "share" and h.get("value") is not None]
    if not shares:
        return axis.capitalize(), None, f"{numbered(len(tasks), 'task')}; no headline is a share with a value"
    turned = [h["value"] if h.get("better") != "lower" else 1 - h["value"] for h in shares]
    errors = [error_of(h) for h in shares]
    half = None if None in errors else 1.96 * math.sqrt(math.fsum(e * e for e in errors)) / len(shares)
    less = sum(h.get("better") == "lower" for h in shares)
    note = f"mean of {numbered(len(shares), 'headline')}" + (f", {less} turned so that more is better" if less else "")
    blank = sum(h.get("value") is None for _, h in map(headline, tasks.values()))
    note += f"; {numbered(blank, 'task')} without a value" if blank else ""
    other = len(tasks) - len(shares) - blank
    note += f"; {numbered(other, 'task')} in other units" if other else ""
    return axis.capitalize(), value(math.fsum(turned) / len(turned), percent=True, plus_minus=half), note


def error_of(estimate: Mapping) -> float | None:
    """The standard error; of a share of 0 or 1, whose error would be 0, that which its interval stands for."""
    if estimate.get("se") == 0 and estimate.get("low") is not None:
        return (estimate["high"] - estimate["low"]) / 2 / 1.96
    return estimate.get("se")


def notes(found: Mapping, tasks: Mapping) -> list[Markup]:
    """What the reader must not miss."""
    told = []
    doubted = [n for n, e in tasks.items() if doubtful(headline(e)[1])]
    if doubted:
        told.append(f"More than 5 % of the documents are not scored in {', '.join(doubted)}: what is scored may be the "
                    "easier part. Such values are drawn as rings.")
    cut = [f"{n} ({e['truncated']:,})" for n, e in tasks.items() if e.get("truncated")]
    if cut:
        told.append(f"Prompts were cut on the left to fit the model's context in {', '.join(cut)}.")
    if found.get("skipped") or any(e.get("left_out") for e in tasks.values()):
        told.append(Markup('Tasks or metrics were left out; see <a href="#left-out">why</a>.'))
    return [page.paragraph(Markup("<strong>Note.</strong> {}").format(text)) for text in told]


def axis_section(axis: str, tasks: Mapping) -> Markup:
    """The headlines of an axis."""
    note = (f"{ASKS.get(axis, '')} The headline metric of each task; more is better, but less where an arrow points "
            "down. Strict counts an answer in which none was found as the worst.")
    shares = {n: e for n, e in tasks.items() if headline(e)[1].get("unit") == "share"}
    drawn = []
    if shares:
        drawn = [forest({n: headline(e)[1] for n, e in shares.items()}, title=f"{axis.capitalize()}: headlines")]
    rows = []
    for name, entry in tasks.items():
        metric, h = headline(entry)
        link = Markup('<a href="#{}">{}</a>').format(task_id(name), name)
        rows.append([link, f"{metric or 'left out'}{DOWN * (h.get('better') == 'lower')}", score_cell(h),
                     between(h, h.get("unit")), figure(h.get("strict"), h.get("unit")),
                     figure(h.get("chance"), h.get("unit")), value(h.get("n")), missing(h),
                     part(entry.get("extraction_failures") or 0, entry.get("n") or 0)])
    heads = ["task", "headline", "value", "95 % interval", "strict", "chance", "scored", "not scored", "no answer"]
    return page.section(
        axis.capitalize(), *drawn,
        page.table(heads, rows, numeric=range(2, 9), caption=f"Headlines of {axis}"), note=note.strip())


def forest(estimates: Mapping[str, Mapping], *, title: str, chance: bool = True) -> Markup:
    """Estimates of one unit on one axis."""
    rows = list(estimates.items())
    if len(rows) > MOST_ROWS:
        kept = sorted(sorted(range(len(rows)), key=lambda i: -(rows[i][1].get("n") or 0))[:MOST_ROWS])
        title, rows = f"{title} (the {MOST_ROWS} of {len(rows)} with most documents)", [rows[i] for i in kept]
    percent = all(e.get("unit") == "share" for _, e in rows)
    lower = [e.get("better") == "lower" for _, e in rows]
    title += DOWN * all(lower)
    names = [n + DOWN * (less and not all(lower)) for (n, _), less in zip(rows, lower, strict=True)]
    inside = percent and all(v is None or 0 <= v <= 1 for _, e in rows for v in (e.get("low"), e.get("value")))
    return intervals(names, {"": [point(e) for _, e in rows]}, title=title, percent=percent,
                     span=(0, 1) if inside else None, marks=[e.get("chance") for _, e in rows] if chance else None)


def sliced(tasks: Mapping, tag: str) -> dict[str, dict[str, dict]]:
    """{task: {value: estimate of the headline}}, with the words that slices lack."""
    found = {}
    for name, entry in tasks.items():
        metric, whole = headline(entry)
        words = {w: whole.get(w) for w in ("unit", "better", "chance")}
        values = (entry.get("slices") or {}).get(tag) or {}
        found[name] = {v: words | s[metric] for v, s in values.items() if isinstance(s.get(metric), dict)}
    return {name: values for name, values in found.items() if values}


def by_language(tasks: Mapping) -> Markup:
    """A figure for each task that has several languages, and all the numbers."""
    found = sliced(tasks, "language")
    several = {n: values for n, values in found.items() if len(values) > 1}
    if not several:
        return Markup("")
    drawn = [forest(values, title=f"{n}: {headline(tasks[n])[0]}") for n, values in several.items()]
    return page.section("By language", page.grid(*drawn), slices_table("language", found, tasks),
                        note="The headline of each task that has more than one language.")


def by_domain(tasks: Mapping) -> Markup:
    """A figure for each domain over the tasks in it, and all the numbers."""
    found = sliced(tasks, "domain")
    domains = sorted({v for values in found.values() for v in values})
    if len(domains) < 2:
        return Markup("")
    drawn = []
    for domain in domains:
        held = {n: values[domain] for n, values in found.items() if domain in values}
        held = {n: e for n, e in held.items() if e.get("unit") == "share"}
        drawn += [forest(held, title=domain.capitalize())] if held else []
    return page.section("By domain", page.grid(*drawn), slices_table("domain", found, tasks),
                        note="The headline of each task over its documents in a domain.")


def slices_table(tag: str, found: Mapping, tasks: Mapping) -> Markup:
    """Every slice's number, by the slice's value."""
    rows = [[v, name, headline(tasks[name])[0] + DOWN * (e.get("better") == "lower"), score_cell(e),
             between(e, e.get("unit")), value(e.get("n")), missing(e)]
            for v in sorted({v for values in found.values() for v in values})
            for name, values in found.items() for e in ([values[v]] if v in values else [])]
    heads = [tag, "task", "headline", "value", "95 % interval", "scored", "not scored"]
    return page.details(f"All numbers by {tag}", page.table(heads, rows, numeric=range(3, 7)))


def left_out(found: Mapping, tasks: Mapping) -> Markup:
    """Skipped tasks and metrics, with reasons."""
    skipped = [[name, reason] for name, reason in (found.get("skipped") or {}).items()]
    metrics = [[name, ", ".join(map(str, e["left_out"]))] for name, e in tasks.items() if e.get("left_out")]
    if not skipped and not metrics:
        return Markup("")
    return page.section(
        "Left out", page.table(["task", "why"], skipped, caption="Tasks") if skipped else "",
        page.table(["task", "metrics"], metrics, caption="Metrics") if metrics else "",
        note="A metric is left out where its assessor (judge, classifier or sandbox) is not there.")


def measured(found: Mapping) -> Markup:
    """How to read the numbers; settings, and what it took."""
    parts = [("The model", found.get("model")), ("Settings", found.get("settings")),
             ("The engine", found.get("engine")), ("The judge", found.get("judge"))]
    made = {"jitune": found.get("jitune"), "created": found.get("created")}
    tables = [page.table(["", ""], [[k, shown(v)] for k, v in flatten(held).items()], caption=name, numeric=())
              for name, held in [*parts, ("Made by", made)] if isinstance(held, dict) and held]
    return page.section(
        "How it was measured",
        page.paragraph("An answer that could not be scored is counted and is in no mean. Where a text held no answer, "
                       "the strict reading beside the value takes the metric's worst score instead."),
        page.paragraph("Intervals are Wilson's for shares of independent documents; clustered where documents belong "
                       "together, such as translations of one problem; and a bootstrap's over clusters for metrics "
                       "that are no mean. They tell of the choice of documents, not of another prompt or seed."),
        page.grid(*tables))


def shown(what) -> Markup | str | None:
    """A setting as it would be typed; nothing is a dash."""
    return None if what is None else setting(what)
