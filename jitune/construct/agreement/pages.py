"""The page of a study of agreement: results and the texts of the most disagreed items in, HTML out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from jitune import __version__
from jitune.construct.agreement.text import SHAPES, head, measures
from jitune.evals.pages.shown import between, clean, long_text, numbered, short
from jitune.report import page
from jitune.report.heat import heat
from jitune.report.intervals import Point, intervals
from jitune.report.page import value
from jitune.report.run import tail

THREE = "{:.3f}".format
MOST = 200  # rows of a table of annotators
SHOWN = 20  # of the queue, and of confusion matrices
FIELDS, BRIEF = 5, 16  # texts of an item in the queue; letters of one that stands in a line with others
READ = ("Kappa and alpha are agreement beyond chance: 0 is what chance alone gives, 1 is perfect. Krippendorff takes "
        "0.8 for reliable, and 0.667 for the least from which tentative conclusions may be drawn. Bars are 95 % "
        "intervals of a bootstrap over items.")


def render(results: Mapping[str, Any], texts: Mapping[str, Mapping]) -> str:
    """The whole page. texts: {item: its row} of the most disagreed items."""
    found, texts = clean(results), clean(texts, most=20_000)
    questions = found["questions"]
    warn = [Markup("<strong>Note.</strong> {} with another text in another file, in the column {}: people may have "
                   "judged different texts.").format(numbered(count, "item"), column)
            for column, count in found["other_texts"].items()]
    warn += [Markup("<strong>Note.</strong> {} cannot be applied to {}.").format(what, ", ".join(names))
             for what, names in found["not_applied"].items()]
    if found["read"]:
        warn.append(Markup("Read besides: {}.").format(", ".join(f"{n:,} {word.replace('_', ' ')}" for word, n in
                                                                 found["read"].items())))
    lead = f"{', '.join(map(tail, found['files']))}: {SHAPES[found['shape']]}."
    return page.page("How far people agree", page.tiles(tile for q in questions for tile in headline(q)),
                     *map(page.paragraph, warn), *(section(q, texts) for q in questions), lead=lead,
                     footer=f"Made by jitune {__version__}.")


def headline(q: Mapping) -> list[tuple]:
    """The tiles of a question."""
    if "figures" not in q:
        return [(q["question"], None, q["notes"][0])]
    alpha, percent = q["figures"]["alpha"], q["figures"]["percent"]
    name = short(q["question"], 60)
    tiles = [(f"{name}: alpha", coefficient(alpha["value"]), ends(alpha) if alpha["low"] is not None else ""),
             (f"{name}: agreement", value(percent["value"], percent=True), numbered(q["figures"]["twice"], "item"))]
    if q.get("accepted"):
        what = q["accepted"].get("dawid_skene") or q["accepted"]["majority"]
        tiles.append((f"{name}: accepted", value(what["value"], percent=True), f"{q['accepted']['rule']}, of items"))
    return tiles


def section(q: Mapping, texts: Mapping) -> Markup:
    """All of a question."""
    notes = [Markup("<strong>Note.</strong> {}").format(note) for note in q["notes"]]
    blocks = [page.paragraph(head(q)), *map(page.paragraph, notes)]
    if "figures" in q:
        blocks += [charts(q), pairs_table(q["figures"]), annotators_table(q["annotators"]), together(q),
                   matrices(q), queue(q, texts)]
    return page.section(short(q["question"], 200), *blocks, note=READ if "figures" in q else "")


def charts(q: Mapping) -> Markup:
    """The measures, the labels, and every two annotators."""
    figures, drawn = q["figures"], []
    if not figures["twice"]:
        return Markup("")
    named = [(name, what) for name, what in measures(q) if what["value"] is not None]
    if named:
        drawn.append(intervals([n for n, _ in named], {"": [point(w) for _, w in named]}, span=(0, 1),
                               title="Agreement", show=THREE))
    rows = [r for r in figures["by_label"] if r["alpha"]["value"] is not None][:SHOWN]
    if rows:
        drawn.append(intervals([r["label"] for r in rows], {"": [point(r["alpha"]) for r in rows]}, span=(0, 1),
                               title="Alpha of each label against the rest", show=THREE))
    if len(figures["pairs"]) > 1:
        drawn.append(pairs_heat(figures["pairs"]))
    return page.join((page.grid(*drawn), labels_table(figures["by_label"])))


def point(what: Mapping) -> Point:
    """A figure as a point."""
    return Point(what["value"], what["low"], what["high"])


def labels_table(rows: list) -> Markup:
    """Each label."""
    table = page.table(["Label", "Labels", "Share", "Said again", "Alpha", "95 % interval"],
                       [[r["label"], r["n"], value(r["share"], percent=True), value(r["specific"], percent=True),
                         coefficient(r["alpha"]["value"]), ends(r["alpha"])] for r in rows], numeric=range(1, 6),
                       caption="By label")
    return page.join((note("Said again: where one says it, how often another does."), table))


def note(text: str) -> Markup:
    """How to read what follows."""
    return Markup('<p class="note">{}</p>').format(text)


def pairs_heat(pairs: list) -> Markup:
    """Cohen's kappa of every two annotators."""
    names = list(dict.fromkeys(name for p in pairs for name in (p["a"], p["b"])))
    place = {name: i for i, name in enumerate(names)}
    table: list[list[float | None]] = [[None] * len(names) for _ in names]
    for p in pairs:
        i, j = place[p["a"]], place[p["b"]]
        table[i][j] = table[j][i] = p["kappa"]["value"]
    return heat(names, table, title="Cohen's kappa of every two annotators", show=hundredths,
                top=1.0)


def hundredths(x: float) -> str:
    """0.974 -> ".97", 1.0 -> "1"."""
    return "1" if round(x, 2) == 1 else f"{x:.2f}".replace("0.", ".")


def pairs_table(figures: Mapping) -> Markup:
    """Every two annotators."""
    pairs, count = figures["pairs"], figures["pairs_in_all"]
    if not pairs:
        return Markup("")
    weighted = any(p["linear"]["value"] is not None for p in pairs)
    headers = ["Annotators", "Items", "Agreement", "Kappa", "95 % interval", *(["Linear", "Quadratic"] * weighted)]
    rows = [[f"{p['a']}, {p['b']}", p["n"], value(p["percent"]["value"], percent=True),
             coefficient(p["kappa"]["value"]), ends(p["kappa"]),
             *([coefficient(p["linear"]["value"]), coefficient(p["quadratic"]["value"])] if weighted else [])]
            for p in sorted(pairs, key=lambda p: -p["n"])]
    table = page.table(headers, rows[:MOST], numeric=range(1, len(headers)),
                       caption="Every two annotators; kappa is Cohen's")
    return table if len(rows) <= 12 else page.details(
        f"{count:,} pairs of annotators" + f"; the {MOST} with the most items" * (count > MOST), table)


def annotators_table(rows: list) -> Markup:
    """How far each annotator can be relied on."""
    timed, fitted = (any(r[key] is not None for r in rows) for key in ("seconds", "accuracy"))
    headers = ["Annotator", "Labels", "Shared", "As the others", "95 % interval", "Kappa", *(["Right"] * fitted),
               *(["Seconds"] * timed)]
    cells = [[r["annotator"], r["n"], r["shared"], value(r["others"], percent=True), share_between(r),
              coefficient(r["kappa"]), *([value(r["accuracy"], percent=True)] * fitted),
              *([value(r["seconds"])] * timed)] for r in rows[:MOST]]
    told = ("As the others: says what most of the others say, where they are not tied; kappa is with that."
            + " Right: by Dawid and Skene's model." * fitted + " Seconds: the median." * timed
            + f" {len(rows) - MOST:,} more annotators stand in agreement.json." * (len(rows) > MOST))
    return page.join((note(told), page.table(headers, cells, numeric=range(1, len(headers)), caption="Annotators")))


def coefficient(x: float | None) -> Markup:
    """Kappa, alpha and the like, to three digits behind the point."""
    return value(x, text="" if x is None else THREE(x))


def ends(what: Mapping) -> Markup:
    """The ends of an interval of such."""
    if what["low"] is None:
        return Markup(page.DASH)
    text = f"{THREE(what['low'])} {page.DASH} {THREE(what['high'])}".replace(" ", "\N{NO-BREAK SPACE}")
    return Markup('<span class="num" data-low="{}" data-high="{}">{}</span>').format(
        page.exact(what["low"]), page.exact(what["high"]), text)


def share_between(what: Mapping) -> Markup:
    """The ends of an interval of a share."""
    return between(what, "share")


def together(q: Mapping) -> Markup:
    """What people say together, and what of it is accepted."""
    if q["kind"] == "rankings":
        return ranked(q["rankings"])
    majority, fitted = q["majority"], q["dawid_skene"]
    total = sum(majority["labels"].values()) + majority["ties"]
    rows = [[label, value(n), value(n / total, percent=True),
             *([value(fitted["labels"][label]), value(fitted["prior"][label], percent=True)] if fitted else [])]
            for label, n in majority["labels"].items()]
    rows.append(["(tie)", value(majority["ties"]), value(majority["ties"] / total, percent=True),
                 *([None, None] if fitted else [])])
    headers = ["Label", "Items by majority", "Share", *(["Items by Dawid and Skene", "Share by the model"]
                                                       if fitted else [])]
    blocks = [page.table(headers, rows, numeric=range(1, len(headers)), caption="What people say together")]
    if fitted and not fitted["converged"]:
        blocks.append(page.paragraph(f"Dawid and Skene's model had not come to rest after {fitted['steps']} steps."))
    return page.join((*blocks, accepted(q["accepted"])))


def accepted(found: Mapping | None) -> Markup:
    """The accepted fraction."""
    if not found:
        return Markup("")
    names = {"labels": "single labels", "majority": "items, by majority", "dawid_skene": "items, by Dawid and Skene",
             "mean": "items, by the mean of their labels"}
    rows = [[names[key], value(what["value"], percent=True), share_between(what), what["n"], what["undecided"],
             what["method"] + (f"; {what['note']}" if what["note"] else "")]
            for key, what in found.items() if key != "rule"]
    return page.table(["Of", "Accepted", "95 % interval", "Number", "Undecided", "Interval by"], rows,
                      numeric=(1, 2, 3, 4), caption=f"The accepted fraction: {found['rule']}")


def ranked(found: Mapping) -> Markup:
    """What rankings say together."""
    head = page.paragraph(f"Ranked pairs: {numbered(len(found['merged']), 'item')} merged, {found['cycles']:,} with "
                          "majorities that contradict each other.")
    if found["strengths"] is None:
        return page.join((head, page.paragraph(f"Strengths by Bradley and Terry: none, {found['reason']}.")))
    rows = found["strengths"]
    chart = intervals([r["name"] for r in rows], {"": [Point(r["score"], r["low"], r["high"]) for r in rows]},
                      title="Strengths by Bradley and Terry", reference=0, label="log of strength", show=THREE)
    table = page.table(["Candidate", "Score", "95 % interval", "Wins", "Games"],
                       [[r["name"], coefficient(r["score"]), ends(r), r["wins"], r["games"]] for r in rows],
                       numeric=(1, 2, 3, 4), caption="A tie is half a win for each")
    return page.join((head, page.grid(chart), table))


def matrices(q: Mapping) -> Markup:
    """Who says what where another, or the model, says what."""
    rows = [r for r in q["annotators"] if r["confusion"]][:SHOWN]
    drawn = []
    if len(q["figures"]["pairs"]) == 1 and len(q["figures"]["pairs"][0]["labels"]) > 1:
        pair = q["figures"]["pairs"][0]
        title = f"{short(pair['a'], 60)} by {short(pair['b'], 60)}: items"
        drawn.append(heat(pair["labels"], pair["confusion"], title=title, rows=short(pair["a"], 20),
                          columns=short(pair["b"], 30), by_row=True))
    if q["kind"] == "labels" and len(q["labels"]) > 1:
        drawn += [heat(q["labels"], r["confusion"], title=f"{short(r['annotator'], 60)}: said of each true label",
                       rows="true", columns="said", show=hundredths, top=1.0) for r in rows]
    if not drawn:
        return Markup("")
    told = note("True labels are those of Dawid and Skene's model; a row sums to 1.") if rows else ""
    grid = page.join((page.grid(*drawn), told))
    return grid if len(drawn) <= 3 else page.details(f"Confusion matrices of {len(drawn)} annotators", grid)


def queue(q: Mapping, texts: Mapping) -> Markup:
    """The most disagreed items with their texts."""
    if not q["queue"]:
        return Markup("")
    shown = [item(row, texts.get(row["item"], {})) for row in q["queue"][:SHOWN]]
    left = len(q["queue"]) - len(shown)
    more = f" {left} more stand in queue.jsonl." if left else ""
    return page.join((page.paragraph(Markup("<strong>Most disagreed.</strong> {}").format(
        f"The items to judge again, the most disagreed first.{more}")), *shown))


def item(row: Mapping, texts: Mapping) -> Markup:
    """An item: its texts, and who said what of it."""
    fields = [(name, text) for name, text in fields_of(texts) if text != row["item"]]
    longest = sorted(range(len(fields)), key=lambda i: -len(fields[i][1]))[:FIELDS]
    long = [fields[i] for i in sorted(longest) if len(fields[i][1]) >= BRIEF or FIELDS >= len(fields)]
    brief = "; ".join(f"{name}: {text}" for name, text in fields if (name, text) not in long and len(text) < BRIEF)
    prompt = page.join((*(Markup('<div><p class="label">{}</p>{}</div>').format(
        name, long_text(text, shown=400, where="queue.jsonl")) for name, text in long),
        Markup('<p class="label">{}</p>').format(short(brief, 300)) if brief else ""))
    said: dict[str, list[str]] = {}
    for who, label in row["labels"].items():
        said.setdefault(label, []).append(who)
    answers = [(", ".join(who), short(label, 300)) for label, who in sorted(said.items(), key=lambda p: -len(p[1]))]
    return page.sample(prompt or row["item"], answers, label=f"{short(row['item'], 100)} ({tail(row['source'])})")


def fields_of(row: Mapping) -> list[tuple[str, str]]:
    """What of a row people read: its texts, or the messages of a record."""
    found = []
    for message in row.get("messages") or ():
        found.append((str(message.get("role")), str(message.get("content") or "")))
    for name, side in (("chosen", row.get("chosen")), ("rejected", row.get("rejected"))):
        found += [(name, str(m.get("content") or "")) for m in side or () if isinstance(m, Mapping)]
    if found:
        return found
    return [(name, str(text)) for name, text in row.items()
            if isinstance(text, str | int | float) and str(text).strip()]
