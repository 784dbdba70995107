"""The page of a comparison: what `compare` found in, one self-contained page out.

    Path("compare.html").write_text(render(compare("eval/base", "eval/tuned")))

It says what became better, what became worse and what cannot be told; the three axes against each other; every task
before and after with p-values and the smallest change that would have been found; the same by language and domain;
and answers that flipped, side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from markupsafe import Markup

from jitune import __version__
from jitune.evals.pages.flips import flips_section
from jitune.evals.pages.shown import between, clean, doubtful, figure, missing, points, said_p, signed
from jitune.evals.task import AXES
from jitune.report import page
from jitune.report.intervals import Point, intervals
from jitune.report.page import value
from jitune.report.run import flatten, setting, tail

ALPHA = 0.05
MOST_ROWS = 40  # of a figure
DOWN = "\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}"
WORDS = {1: "better", -1: "worse", 0: "cannot be told"}


def render(comparison: Mapping) -> str:
    """The page. comparison: what `jitune.evals.comparison.compare.compare` returns."""
    found = clean(comparison, most=20_000)
    tasks = found["tasks"]
    return page.page(
        "What changed", page.tiles(axis_tile(axis, c) for axis, c in found["axes"].items()), *notes(found),
        changed_section(tasks), tradeoff_section(found),
        *(axis_section(axis, {n: t for n, t in tasks.items() if t["axis"] == axis}, note=NOTE * (i == 0))
          for i, axis in enumerate(found["axes"])),
        *(slices_section(tag, found) for tag in ("language", "domain")), flips_section(tasks), metrics_section(tasks),
        left_out(found), measured(found), lead=lead(found), footer=f"Made by jitune {__version__}.",
    )


def lead(found: Mapping) -> str:
    """Which runs, and the verdict."""
    verdict = str(found.get("verdict") or "nothing could be compared")
    return f"From {name_of(found['a'])} to {name_of(found['b'])}: {verdict}."


def name_of(run: Mapping) -> str:
    """A run's model and folder."""
    model = run.get("model") or {}
    adapter = f" with {tail(str(model['adapter']))}" if model.get("adapter") else ""
    return f"{tail(str(model.get('path') or 'a model'))}{adapter} ({run.get('directory')})"


def axis_tile(axis: str, change: Mapping) -> tuple:
    """The change of an axis; more is better."""
    unit = "points" if change.get("unit") == "points" else "standard deviations"
    tasks = f"mean of {len(change['tasks'])} task{'s' * (len(change['tasks']) != 1)}"
    left = f"; {len(change['left_out'])} left out" if change.get("left_out") else ""
    if change.get("value") is None:
        return axis.capitalize(), None, f"{tasks}{left}"
    half = None if change.get("low") is None else (change["high"] - change["low"]) / 2
    digits = 1 if unit == "points" else 2
    bar = "" if half is None else Markup("<small>\N{NO-BREAK SPACE}\N{PLUS-MINUS SIGN}\N{NO-BREAK SPACE}{}</small>"
                                         ).format(f"{half:.{digits}f}")
    shown = value(change["value"], text=plus(digits)(change["value"]))
    return axis.capitalize(), shown + bar, f"{unit}, {WORDS[direction(change)]}; {tasks}{left}"


def direction(change: Mapping) -> int:
    """1 where the interval of a change lies above 0, -1 where it lies below, else 0."""
    if change.get("low") is None or change.get("high") is None:
        return 0
    return (change["low"] > 0) - (change["high"] < 0)


def turned(comparison: Mapping) -> dict:
    """The change with its interval, turned so that positive is better; shares in points."""
    scale = 100.0 if comparison.get("unit") == "share" else 1.0
    low, high = (comparison.get(k) for k in ("low", "high"))
    if comparison.get("better") == "lower":
        low, high = (None if high is None else -high), (None if low is None else -low)
    elif comparison.get("better") == "zero":
        low = high = None  # an interval of the difference is none of the distance to 0
    return {k: None if v is None else scale * v for k, v in
            (("value", comparison.get("change")), ("low", low), ("high", high))}


def headline(task: Mapping) -> dict:
    """The comparison of a task's headline."""
    return task["metrics"][task["headline"]]


def state(comparison: Mapping) -> tuple[int, str]:
    """Whether a headline changed: 1, -1 or 0, and in words; it takes the interval and Holm's p-value."""
    way, p = direction(turned(comparison)), comparison.get("p_holm")
    if way and p is None:
        return 0, f"{WORDS[way]} by the interval, no test"
    if way and p >= ALPHA:
        return 0, f"{WORDS[way]} alone"
    return way, WORDS[way]


def notes(found: Mapping) -> list[Markup]:
    """What the reader must not miss."""
    told = list(found.get("warnings") or [])
    doubted = [n for n, t in found["tasks"].items() if any(map(doubtful, sides(headline(t))))]
    if doubted:
        told.append(f"More than 5 % of the documents have no score in {', '.join(doubted)}: only pairs with both "
                    "scores are compared, which may be the easier ones. They are drawn as rings.")
    other = [n for n, t in found["tasks"].items() if reversed_by_strict(headline(t))]
    if other:
        told.append(f"Where no answer was found and that counts as the worst, {', '.join(other)} changed the other "
                    "way: see the column strict.")
    return [page.paragraph(Markup("<strong>Note.</strong> {}").format(text)) for text in told]


def reversed_by_strict(c: Mapping) -> bool:
    """Whether the stricter reading changes the other way than the scored answers."""
    strict, delta = (c.get("a_strict"), c.get("b_strict")), c.get("delta")
    return None not in (*strict, delta) and (strict[1] - strict[0]) * delta < 0


def sides(c: Mapping) -> tuple[dict, dict]:
    """What is unscored before and after, of all documents."""
    pairs, a, b = (c.get(k) or 0 for k in ("pairs", "unscored_a", "unscored_b"))
    whole = max(pairs + max(a, b), 1)
    return {"n": whole - a, "unscored": a}, {"n": whole - b, "unscored": b}


def changed_section(tasks: Mapping) -> Markup:
    """Plain words: what became better, what worse, what cannot be told."""
    if not tasks:
        return page.section("In words", "No task could be compared.")
    groups: dict[str, list[str]] = {"better": [], "worse": [], "alone": [], "unknown": []}
    for name, task in tasks.items():
        c = headline(task)
        way, words = state(c)
        change = words_of(turned(c)["value"], c)
        if way:
            groups[words].append(f"{name} {change}")
        elif direction(turned(c)):
            groups["alone"].append(f"{name} {change}")
        else:
            found = "" if c.get("mde") is None else f" (found from {points(c['mde'], c.get('unit')).striptags()})"
            groups["unknown"].append(f"{name} {change}{found}")
    told = (("Better", "better", "No task, by more than chance allows."),
            ("Worse", "worse", "No task, by more than chance allows."),
            ("It would be told if the task stood alone, not among so many", "alone", ""),
            ("Cannot be told", "unknown", ""))
    lines = [Markup("<strong>{}.</strong> {}").format(label, "; ".join(groups[key]) + "." if groups[key] else nothing)
             for label, key, nothing in told if groups[key] or nothing]
    return page.section("In words", *map(page.paragraph, lines), note=(
        "Changes of the headlines, turned so that + is better. To be told, the 95 % interval must lie on one side of "
        "0, and the p-value that is adjusted for the number of tasks (Holm) below 0.05. What cannot be told is not the "
        "same as no change: in brackets stands the smallest change that would be found four times in five."))


def words_of(change: float | None, c: Mapping) -> str:
    """A turned change as text; shares in points."""
    if change is None:
        return "has no scored pair"
    return plus(1)(change) + " points" if c.get("unit") == "share" else f"{float(f'{change:.4g}') + 0.0:+.4g}"


def tradeoff_section(found: Mapping) -> Markup:
    """The axes against each other, and every task."""
    axes = {a: c for a, c in found["axes"].items() if c.get("value") is not None}
    drawn = [intervals([a.capitalize() for a in held], {"": [Point(c["value"], c.get("low"), c.get("high")) for c in
             held.values()]}, title=f"Change of each axis, in {name}", reference=0, show=show, label="right is better")
             for unit, name, show in (("points", "points", plus(1)), ("sd", "standard deviations", plus(2)))
             for held in [{a: c for a, c in axes.items() if c.get("unit") == unit}] if held]
    shares = {n: t for n, t in found["tasks"].items() if headline(t).get("unit") == "share"}
    drawn += [by_axis([(n, t["axis"], headline(t)) for n, t in shares.items()], "Change of each task, in points")
              ] if shares else []
    return page.section("Utility, faithfulness, safety", page.grid(*drawn), note=(
        "Changes are turned so that right is better. An axis is the mean of its tasks; its interval tells of their "
        "documents, not of other tasks."))


def plus(digits: int):
    """Numbers with their sign."""
    return lambda x: f"{round(x, digits) + 0.0:+.{digits}f}"


def by_axis(rows: list[tuple[str, str, Mapping]], title: str) -> Markup:
    """(name, axis, comparison) as points in the colour of their axis, for comparisons of shares."""
    names = list(dict.fromkeys(n for n, _, _ in rows))[:MOST_ROWS]
    used = {axis for _, axis, _ in rows}
    axes = [*AXES, *sorted(used - {*AXES})]
    held = {(n, axis): c for n, axis, c in rows}
    series = {a: [drawn_point(held.get((n, a))) for n in names] for a in axes if a in used}
    return intervals(names, series, title=title, reference=0, show=plus(1), label="right is better")


def drawn_point(c: Mapping | None) -> Point | None:
    """A comparison, or the change of an axis, as it is drawn."""
    if c is None:
        return None
    if "change" not in c:
        return Point(c.get("value"), c.get("low"), c.get("high"))
    return Point(**turned(c), hollow=any(map(doubtful, sides(c))))


def axis_section(axis: str, tasks: Mapping, *, note: str = "") -> Markup:
    """Before and after of an axis' headlines."""
    if not tasks:
        return Markup("")
    rows = [[name, t["headline"] + DOWN * (headline(t).get("better") == "lower"), state(headline(t))[1],
             *cells(headline(t))] for name, t in tasks.items()]
    return page.section(axis.capitalize(), page.table(["task", "headline", "verdict", *HEADS], rows,
                                                      numeric=range(3, 3 + len(HEADS))), note=note)


NOTE = ("Alone: so it would be told if the task were the only one. Would be found: the smallest change that would be. "
        "Strict: all that a run answered, and the worst where no answer was found. A star stands where something is "
        "to be doubted; All metrics says what.")
HOLM = "Holm's p"
HEADS = ("before", "after", "change", "95 % interval", "p", HOLM, "would be found", "pairs", "better : worse",
         "not scored", "strict")


def cells(c: Mapping) -> list:
    """A comparison in a table: HEADS."""
    unit = c.get("unit")
    low_high = {"low": c.get("low"), "high": c.get("high")}
    a, b = sides(c)
    star = Markup('<abbr title="{}">*</abbr>').format(c["note"]) if c.get("note") else ""
    return [figure(c.get("a"), unit), figure(c.get("b"), unit), signed(c.get("delta"), unit) + star,
            between(low_high, unit, change=True), said_p(c.get("p")), said_p(c.get("p_holm")),
            points(c.get("mde"), unit, named=False), value(c.get("pairs")),
            Markup("{} : {}").format(value(c.get("better_pairs")), value(c.get("worse_pairs"))),
            arrow(missing(a), missing(b)),
            arrow(figure(c["a_strict"], unit), figure(c["b_strict"], unit)) if c.get("a_strict") is not None else None]


def arrow(before, after) -> Markup:
    """before -> after"""
    return Markup("{} \N{RIGHTWARDS ARROW} {}").format(before, after)


def slices_section(tag: str, found: Mapping) -> Markup:
    """By language or domain: the axes' changes, and every task's."""
    values = (found.get("slices") or {}).get(tag) or {}
    if len(values) < 2:
        return Markup("")
    rows = [(v, axis, c) for v, axes in values.items() for axis, c in axes.items() if c.get("unit") == "points"]
    drawn = [by_axis(rows, f"Change by {tag}, in points")] if rows else []
    table = [[v, name, t["headline"] + DOWN * (c.get("better") == "lower"), *cells(c)] for v in values
             for name, t in found["tasks"].items() for c in optional((t.get("slices") or {}).get(tag, {}).get(v))]
    table = [[*row[:8], *row[9:]] for row in table]  # Holm's p is of whole tasks
    heads = [tag, "task", "headline", *(h for h in HEADS if h != HOLM)]
    return page.section(f"By {tag}", *drawn, page.details(
        f"All numbers by {tag}", page.table(heads, table, numeric=range(3, len(heads)))),
        note="The mean change of an axis' tasks over their documents there; few documents, wide intervals.")


def optional(what) -> list:
    """[what], or nothing."""
    return [] if what is None else [what]


def metrics_section(tasks: Mapping) -> Markup:
    """All metrics of all tasks, folded."""
    rows = [[name, metric + DOWN * (c.get("better") == "lower"), *cells(c), c.get("method"), note_of(c)]
            for name, t in tasks.items() for metric, c in t["metrics"].items()]
    if not rows:
        return Markup("")
    heads = ["task", "metric", *HEADS, "test", "meaning"]
    return page.section("All metrics", page.details(numbers_of(rows), page.table(
        heads, rows, numeric=range(2, 2 + len(HEADS)))), note="Holm's p is of the headlines only.")


def numbers_of(rows: list) -> str:
    """A label for a table."""
    return f"{len(rows):,} metrics of all tasks"


def note_of(c: Mapping) -> str:
    """What a metric is, and what to doubt."""
    return "; ".join(filter(None, (c.get("meaning"), c.get("note"))))


def left_out(found: Mapping) -> Markup:
    """Tasks that are in one run only, and what an axis leaves out."""
    rows = [[n, reason] for n, reason in (found.get("left_out") or {}).items()]
    rows += [[n, f"not in the mean of {axis}: {reason}"] for axis, c in found["axes"].items()
             for n, reason in (c.get("left_out") or {}).items()]
    return page.section("Left out", page.table(["task", "why"], rows)) if rows else Markup("")


def measured(found: Mapping) -> Markup:
    """How to read the numbers, and what the runs are."""
    differ = [[k, shown(a), shown(b)] for k, (a, b) in (found.get("settings") or {}).items()]
    runs = [flatten({"directory": r.get("directory"), "created": r.get("created"), "model": r.get("model") or {}})
            for r in (found["a"], found["b"])]
    rows = [[k, shown(runs[0].get(k)), shown(runs[1].get(k))] for k in merged(runs)]
    return page.section(
        "How it was compared",
        page.paragraph("Every number is paired: a document counts where both runs scored it, and the change is what "
                       "came after less what was before. Shares change in percentage points."),
        page.paragraph("p is two-sided: McNemar's test for right and wrong, a t-test of paired differences that is "
                       "clustered where documents belong together, or a bootstrap for metrics that are no mean. "
                       "What would be found is the smallest true change that 80 % of such comparisons would find."),
        page.table(["", "before", "after"], rows, caption="The two runs", numeric=()),
        page.table(["", "before", "after"], differ, caption="Settings that differ", numeric=()) if differ else "")


def shown(what) -> Markup | str | None:
    """A setting as it would be typed; nothing is a dash."""
    return None if what is None else setting(what)


def merged(runs: Iterable[Mapping]) -> list[str]:
    """The keys of all, in order."""
    return list(dict.fromkeys(k for r in runs for k in r))
