"""HTML pages of a report: blocks of text, figures and tables in, one document that needs nothing else out.

    page("A run", tiles([("loss", 0.25, "at the last step")]), section("Data", table(["source", "rows"], [["a", 3]])))

Each function takes values and gives a block, an escaped string; a plain string where a block stands becomes a
paragraph. The page has no script, and its policy forbids a browser to load anything. Numbers are written in one
place, `number`; what is shown of a number carries all its digits in `data-value`, so that a page can be compared
with the files it is made of.
"""

from __future__ import annotations

import json
import math
import numbers
import re
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup, escape

from jitune.report.style import CSS

DASH = "\N{EN DASH}"
DOCUMENT = Markup("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<header>
<h1>{title}</h1>
{lead}</header>
{body}
{footer}</main>
</body>
</html>
""")


def number(x: Any, *, percent: bool = False) -> str:
    """A number as readers see it, to four digits: 1234567 -> "1,234,567", 2e-05 -> "2e-5", None and NaN -> a dash.

    percent: 0.4312 -> "43.1%". Whole numbers keep all their digits; bool gives yes or no.
    """
    if isinstance(x, bool):
        return "yes" if x else "no"
    if x is None or not math.isfinite(x):
        return DASH
    if percent:
        return f"{100 * x:.1f}%"
    if x == int(x) and abs(x) < 1e15 or 1000 <= abs(x) < 1e15:
        return f"{x:,.0f}"
    if 1e-3 <= abs(x) < 1000:
        return f"{x:.4g}"
    mantissa, exponent = f"{x:.3e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def exact(x: Any) -> str:
    """A number with all its digits, as JSON writes it; "null" where it is None or not finite."""
    x = x.item() if hasattr(x, "item") else x
    return json.dumps(None if isinstance(x, float) and not math.isfinite(x) else x)


def value(x: Any, *, percent: bool = False, unit: str = "", plus_minus: float | None = None, text: str = "") -> Markup:
    """A number to stand in a cell or a tile: `number(x)` and its unit.

    plus_minus adds an error bar; text stands in place of `number(x)`, such as "1.5 h" for 5400 seconds.
    """
    text, more = text or number(x, percent=percent), ""
    if plus_minus is not None:
        more = f"\N{NO-BREAK SPACE}\N{PLUS-MINUS SIGN}\N{NO-BREAK SPACE}{number(plus_minus, percent=percent)}"
    more += f"\N{NO-BREAK SPACE}{unit}" if unit and text != DASH else ""
    more = Markup("<small>{}</small>").format(more) if more else ""
    return Markup('<span class="num" data-value="{}">{}{}</span>').format(exact(x), text, more)


def page(title: str, *blocks: str, lead: str = "", footer: str = "") -> str:
    """The whole document. lead: a sentence or two under the title. footer: where the figures come from."""
    lead = Markup('<p class="lead">{}</p>\n').format(lead) if lead else ""
    footer = Markup("<footer>{}</footer>\n").format(footer) if footer else ""
    return str(DOCUMENT.format(title=title, style=Markup(CSS), lead=lead, body=join(blocks), footer=footer))


def section(heading: str, *blocks: str, note: str = "") -> Markup:
    """A heading with what stands under it. note: how to read it."""
    name = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")
    note = Markup('<p class="note">{}</p>\n').format(note) if note else ""
    return Markup('<section id="{}">\n<h2>{}</h2>\n{}{}\n</section>').format(name, heading, note, join(blocks))


def paragraph(text: str) -> Markup:
    """Running text; a Markup stays as it is inside."""
    return Markup("<p>{}</p>").format(text)


def code(text: str) -> Markup:
    """Commands or files, as they are."""
    return Markup('<div class="scroll" tabindex="0"><pre><code>{}</code></pre></div>').format(text)


def details(summary: str, *blocks: str) -> Markup:
    """What is shown only where the reader opens it."""
    return Markup("<details><summary>{}</summary>\n{}\n</details>").format(summary, join(blocks))


def grid(*figures: str) -> Markup:
    """Charts beside each other: three in a row on a wide screen, one on a phone."""
    return Markup('<div class="grid">\n{}\n</div>').format(join(figures))


def tiles(items: Iterable[Sequence]) -> Markup:
    """Headline figures, each (label, value) or (label, value, note); a value is a number, a `value()` or text."""
    shown = []
    for label, what, *note in items:
        note = Markup('<dd class="note">{}</dd>').format(note[0]) if note and note[0] else ""
        shown.append(Markup('<div><dt>{}</dt><dd class="value">{}</dd>{}</div>').format(label, cell(what), note))
    return Markup('<dl class="tiles">\n{}\n</dl>').format(Markup("\n").join(shown))


def table(headers: Sequence[str], rows: Iterable[Sequence], *, caption: str = "",
          numeric: Iterable[int] | None = None) -> Markup:
    """A table; the first cell of a row heads it.

    Args:
      headers: one a column.
      rows: cells are numbers, `value()`s or text; None is a dash.
      numeric: the columns, counted from 0, that are set to the right; by default those that hold numbers only.

    Raises:
      ValueError: a row has more or fewer cells than there are headers.
    """
    rows = [list(row) for row in rows]
    if any(len(row) != len(headers) for row in rows):
        raise ValueError(f"table {caption!r}: each row must have {len(headers)} cells")
    right = _numeric(rows, len(headers)) if numeric is None else set(numeric)
    side = [Markup(' class="right"') if i in right else "" for i in range(len(headers))]
    head = Markup("").join(Markup('<th scope="col"{}>{}</th>').format(s, h) for s, h in zip(side, headers, strict=True))
    body = Markup("\n").join(Markup("<tr>{}</tr>").format(_row(row, side)) for row in rows)
    title = Markup("<caption>{}</caption>\n").format(caption) if caption else ""
    label = Markup(' role="region" aria-label="{}"').format(caption) if caption else ""
    return Markup('<div class="scroll" tabindex="0"{}><table>\n{}<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n'
                  '</table></div>').format(label, title, head, body)


def _row(cells: list, side: list) -> Markup:
    first = Markup('<th scope="row"{}>{}</th>').format(side[0], cell(cells[0]))
    rest = (Markup("<td{}>{}</td>").format(s, cell(c)) for s, c in zip(side[1:], cells[1:], strict=True))
    return Markup("").join((first, *rest))


def _numeric(rows: list[list], columns: int) -> set[int]:
    def is_number(what):
        return isinstance(what, numbers.Number) or str(what).startswith('<span class="num"')

    given = [[row[i] for row in rows if row[i] is not None] for i in range(columns)]
    return {i for i, cells in enumerate(given) if cells and all(map(is_number, cells))}


def cell(what: Any) -> Markup:
    """A number becomes a `value`, a block stays, anything else is text; None is a dash."""
    if isinstance(what, numbers.Number):
        return value(what)
    return escape(DASH if what is None else what)


def sample(prompt: str, answers: Iterable[Sequence], *, label: str = "", wide: bool = False) -> Markup:
    """A prompt and answers to it, side by side.

    Args:
      prompt: as the model was asked; text, or a block.
      answers: each (label, text) or (label, text, verdict); True and False read right and wrong, another verdict
        stands as it is. A text may be a block too.
      label: of the prompt, such as its number.
      wide: the first answer takes twice the room of another, where there is room.
    """
    title = Markup('<p class="label">{}</p>').format(label) if label else ""
    shown = Markup("\n").join(_answer(*answer) for answer in answers)
    return Markup('<figure class="sample"><figcaption>{}{}</figcaption>\n'
                  '<div class="answers{}">\n{}\n</div></figure>').format(title, said(prompt), " wide" * wide, shown)


def _answer(label: str, text: str, verdict: Any = None) -> Markup:
    words = {True: ("good", "\N{CHECK MARK} right"), False: ("bad", "\N{MULTIPLICATION SIGN} wrong")}
    kind, word = words[verdict] if isinstance(verdict, bool) else ("", verdict)
    mark = Markup(' <span class="verdict {}">{}</span>').format(kind, word) if word else ""
    shown = said(text) if text else Markup('<p class="note">(nothing)</p>')
    return Markup('<div class="answer"><p class="label">{}{}</p>{}</div>').format(label, mark, shown)


def said(text: str) -> Markup:
    """A text with its line breaks, each line in the direction of its script; a block stays as it is."""
    return text if isinstance(text, Markup) else Markup('<p class="text">{}</p>').format(text)


def join(blocks: Iterable[str]) -> Markup:
    """Blocks one after the other; plain strings become paragraphs, empty ones are left out."""
    return Markup("\n").join(block if isinstance(block, Markup) else paragraph(block) for block in blocks if block)
