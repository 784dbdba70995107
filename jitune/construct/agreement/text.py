"""What `jitune data agreement` prints: results in, lines of at most 80 columns out."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from rich.cells import cell_len

from jitune.evals.comparison.text import shorten
from jitune.evals.pages.shown import numbered

WIDTH = 80
MOST = 12  # rows of a table on the screen
SHAPES = {"wide": "a row an item, a column an annotator", "long": "a row a label", "files": "a file an annotator",
          "pattern": "a row several items of an annotator", "records": "records with annotations"}


def lines(results: Mapping[str, Any]) -> Iterator[str]:
    """The summary of all questions."""
    yield from fold(f"{', '.join(results['files'])}: {SHAPES[results['shape']]}")
    if results["read"]:
        yield from fold("read besides: " + ", ".join(f"{n:,} {word.replace('_', ' ')}" for word, n in
                                                     results["read"].items()))
    for column, count in results["other_texts"].items():
        yield from fold(f"note: {numbered(count, 'item')} with another {column} in another file: people may have "
                        "judged different texts")
    for what, names in results["not_applied"].items():
        yield from fold(f"note: {what} cannot be applied to {', '.join(names)}")
    for found in results["questions"]:
        yield ""
        yield from question(found)


def question(found: Mapping[str, Any]) -> Iterator[str]:
    """The summary of one."""
    yield from fold(head(found))
    for note in found["notes"]:
        yield from (f"  {line}" for line in fold(f"note: {note}", WIDTH - 2))
    if found["kind"] not in ("labels", "rankings"):
        return
    figures = found["figures"]
    if figures["twice"]:
        yield f"  {'':<34}{'value':>8}   95 % interval"
        for name, what in measures(found):
            yield f"  {pad(name)}{number(what['value']):>8}   {ends(what)}"
        yield from by_label(found)
        yield from pairs(figures["pairs"], figures["pairs_in_all"])
    yield from annotators(found["annotators"])
    yield from together(found)
    if found["queue"]:
        yield from (f"  {line}" for line in fold(f"disagreed most: {', '.join(r['item'] for r in found['queue'][:5])}"
                                                 + " ..." * (len(found["queue"]) > 5), WIDTH - 2))


def head(found: Mapping[str, Any]) -> str:
    """A question and how much was said on it."""
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(found["states"].items()) if state != "labelled")
    if "figures" not in found:
        return found["question"] + (f" ({states})" if states else "")
    figures, people = found["figures"], len(found["annotators"])
    what = numbered(figures["items"], "item" if found["kind"] == "labels" else "pair")
    what += " of ranked answers" * (found["kind"] == "rankings")
    return (f"{found['question']}: {what}, {figures['twice']:,} with two labels or more; "
            f"{numbered(figures['labels'], 'label')} of {numbered(people, 'annotator')}{states and f'; {states}'}")


def measures(found: Mapping[str, Any]) -> list[tuple[str, Mapping]]:
    """(name, figure) of what is told of a question as a whole."""
    figures, level = found["figures"], found["level"]
    rows = [("agreement", figures["percent"])]
    if len(figures["pairs"]) == 1:
        pair = figures["pairs"][0]
        rows += [(name, pair[key]) for name, key in (("Cohen's kappa", "kappa"), ("linear weights", "linear"),
                                                     ("quadratic weights", "quadratic"))
                 if key == "kappa" or level != "nominal"]
    else:
        rows.append(("Cohen's kappa, mean", {"value": figures["kappa"], "low": None, "high": None}))
    rows += [("Fleiss' kappa", figures["fleiss"]), (f"alpha, {level}", figures["alpha"])]
    return rows + ([("alpha, nominal", figures["nominal"])] if "nominal" in figures else [])


def by_label(found: Mapping[str, Any]) -> Iterator[str]:
    """A row a label."""
    yield f"  {'label':<34}{'labels':>8}   share  again   alpha"
    rows = found["figures"]["by_label"]
    for row in rows[:MOST]:
        yield (f"  {pad(row['label'])}{row['n']:>8,}  {percent(row['share']):>6} "
               f"{percent(row['specific']):>6}  {number(row['alpha']['value']):>6}")
    yield from more(rows)


def pairs(rows: list, count: int) -> Iterator[str]:
    """A row a pair of annotators, those with the most items first."""
    if len(rows) < 2:
        return
    yield f"  {'annotators':<34}{'items':>8}   agree   kappa   95 % interval"
    for row in sorted(rows, key=lambda r: -r["n"])[:MOST]:
        yield (f"  {pad(shorten(row['a'], 15) + ', ' + shorten(row['b'], 15))}{row['n']:>8,}  "
               f"{percent(row['percent']['value']):>6}  {number(row['kappa']['value']):>6}   {ends(row['kappa'])}")
    yield from more(rows, count)


def annotators(rows: list) -> Iterator[str]:
    """A row an annotator."""
    yield f"  {'annotator':<34}{'labels':>8}  others   kappa   right  seconds"
    for row in rows[:MOST]:
        seconds = "-" if row["seconds"] is None else f"{row['seconds']:.1f}"
        yield (f"  {pad(row['annotator'])}{row['n']:>8,}  {percent(row['others']):>6}  "
               f"{number(row['kappa']):>6}  {percent(row['accuracy']):>6}  {seconds:>7}")
    yield from more(rows)


def together(found: Mapping[str, Any]) -> Iterator[str]:
    """What people say together."""
    if found["kind"] == "rankings":
        yield from ranked(found["rankings"])
        return
    majority, fitted = found["majority"], found["dawid_skene"]
    decided = ", ".join(f"{label}: {n:,}" for label, n in majority["labels"].items() if n) or "none"
    yield from _set_in(f"majority: {decided}; {numbered(majority['ties'], 'tie')}")
    if fitted:
        ended = f"{fitted['steps']} steps" if fitted["converged"] else "not at rest yet"
        yield from _set_in("Dawid-Skene: " + ", ".join(f"{label}: {n:,}" for label, n in fitted["labels"].items() if n)
                           + f"; {fitted['other_than_majority']:,} other than the majority ({ended})")
    for name, what in (found["accepted"] or {}).items():
        if name != "rule":
            told = {"labels": "of the labels", "majority": "of items, by majority", "mean": "of items, by their mean",
                    "dawid_skene": "of items, by Dawid-Skene"}[name]
            undecided = f"; {what['undecided']:,} undecided" if what["undecided"] else ""
            yield from _set_in(f"accepted ({found['accepted']['rule']}), {told}: {percent(what['value'])} "
                               f"({ends(what, share=True)}; {what['n']:,}{undecided})")


def ranked(found: Mapping[str, Any]) -> Iterator[str]:
    """What rankings say together."""
    yield from _set_in(f"ranked pairs: {numbered(len(found['merged']), 'item')} merged, {found['cycles']:,} with a "
                       "cycle")
    if found["strengths"] is None:
        yield from _set_in(f"Bradley-Terry: none, {found['reason']}")
        return
    yield f"  {'Bradley-Terry':<34}{'games':>8}    wins   score   95 % interval"
    for row in found["strengths"][:MOST]:
        yield (f"  {pad(row['name'])}{row['games']:>8,.0f}  {row['wins']:>6g}  {row['score']:>6.2f}   "
               f"{ends(row, digits=2)}")
    yield from more(found["strengths"])


def more(rows: list, count: int = 0) -> Iterator[str]:
    """How many rows are left out, of `count` or all of them."""
    if len(rows) > MOST:
        yield f"  and {(count or len(rows)) - MOST:,} more"


def pad(text: str) -> str:
    """A name in a column of 34, as wide as a terminal draws it, with tabs and line breaks as blanks."""
    text = shorten(" ".join(text.split()), 33)
    return text + " " * (34 - cell_len(text))


def number(x: float | None) -> str:
    """0.7421 -> "0.742"; None -> "-"."""
    return "-" if x is None else f"{x:.3f}"


def percent(x: float | None) -> str:
    """0.7421 -> "74.2%"; None -> "-"."""
    return "-" if x is None else f"{100 * x:.1f}%"


def ends(what: Mapping[str, Any], *, share: bool = False, digits: int = 3) -> str:
    """The ends of an interval."""
    if what["low"] is None:
        return "-"
    show = percent if share else (lambda x: f"{x:.{digits}f}")
    return f"{show(what['low'])} to {show(what['high'])}"


def fold(text: str, width: int = WIDTH) -> list[str]:
    """A text on lines of at most `width` columns."""
    return textwrap.wrap(text, width, subsequent_indent="  ")


def _set_in(text: str) -> Iterator[str]:
    yield from (f"  {line}" for line in fold(text, WIDTH - 2))
