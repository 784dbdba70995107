"""A chart of a square table, darker where values are larger, as inline SVG.

    heat(["no", "yes"], [[20, 5], [10, 15]], title="ann by bo")
    heat(["ann", "bo"], [[None, 0.4], [0.4, None]], title="Kappa", show="{:.2f}".format, top=1.0)

Rows and columns have the same names. Columns carry their numbers where a name does not fit over its cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from jitune.report.axes import WIDTH, figure, fits, put
from jitune.report.intervals import LETTER, width
from jitune.report.page import exact, number

MOST = 24  # names that are drawn
TALL, WIDEST, ROOM = 30, 64, 17  # of a cell, at most; letters of a name beside its row
DARK = 0.55  # how much of the colour the largest value takes, so that texts on it stay readable


def heat(names: Sequence[str], values: Sequence[Sequence[float | None]], *, title: str, rows: str = "",
         columns: str = "", show: Callable[[float], str] = number, top: float | None = None,
         by_row: bool = False) -> Markup:
    """Draws the table.

    Args:
      names: of the rows, and of the columns.
      values: [rows, columns]; None is an empty cell.
      rows, columns: what they are, such as "true" and "given".
      show: writes a value in its cell, where there is room.
      top: the value that is darkest; the largest by default. Values below 0 are blank.
      by_row: a value is as dark as its share of its row.

    Raises:
      ValueError: the table is not square.
    """
    if len(values) != len(names) or any(len(row) != len(names) for row in values):
        raise ValueError(f"heat {title!r}: {len(names)} rows and columns are needed")
    short, numbered = _short(names[:MOST])
    left = min(max(map(width, short), default=0), ROOM + 4) * LETTER + 8
    size = min((WIDTH - left) / max(1, len(short)), WIDEST)
    tall = min(size, TALL)
    axes = f"{rows} \N{DOWNWARDS ARROW} by {columns} \N{RIGHTWARDS ARROW}" if rows and columns else ""
    y = 30 if axes else 16
    parts, told = [put(0, 11, axes)], []
    parts += [put(left + size * (i + 0.5), y - 5, str(i + 1) if numbered else name, "middle", "group")
              for i, name in enumerate(short)]
    largest = top or max((v for row in values for v in row if fits(v)), default=1) or 1
    for i, (name, row) in enumerate(zip(short, values, strict=False)):
        total = sum(v for v in row if fits(v)) if by_row else largest
        parts.append(put(0, y + tall / 2 + 4, name, kind="group"))
        for j, v in enumerate(row[:MOST]):
            if fits(v):
                told.append(f"{names[i]}, {names[j]}: {show(v)}")
                parts.append(_cell(left + size * j, y, size, tall, v, v / total if total else 0, told[-1], show(v)))
        y += tall
    more = f"; {len(names) - MOST} more are not drawn" if len(names) > MOST else ""
    return figure(title + more, [], "".join(parts), f"{title}. {'; '.join(told)}", round(y + 4))


def _short(names: Sequence[str]) -> tuple[list[str], bool]:
    """Names that fit beside their rows, and whether they carry numbers since they do not fit over their columns."""
    short = [_cut(name) for name in names]
    room = (WIDTH - LETTER * max(map(width, short), default=0) - 8) / max(1, len(short))
    numbered = any(width(name) * LETTER > min(room, WIDEST) - 4 for name in short)
    return [f"{i}. {name}" for i, name in enumerate(short, 1)] if numbered else short, numbered


def _cell(x, y, size, tall, v, share, told, text) -> str:
    """A square with its value, if that fits into it."""
    dark = DARK * min(1.0, max(0.0, share))
    inside = put(x + size / 2, y + tall / 2 + 4, text, "middle", "figure") if width(text) * 6 < size - 1 else ""
    return (f'<g><title>{escape(told)}</title><rect x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{size - 1:.1f}" '
            f'height="{tall - 1:.1f}" fill="var(--c1)" fill-opacity="{dark:.3f}" stroke="var(--grid)" '
            f'data-value="{exact(v)}"/>{inside}</g>')


def _cut(name: str) -> str:
    """A name no wider than `ROOM`."""
    while width(name) > ROOM:
        name = name.removesuffix("\N{HORIZONTAL ELLIPSIS}")[:-1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return name
