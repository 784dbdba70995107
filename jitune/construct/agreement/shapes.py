"""Where a table keeps its labels: headers, a few rows and what the user says in, cells to read in every row out.

    plan({"a.csv": ["id", "annotation_1", "annotation_2"]}, {"a.csv": rows}, Columns())
    # Shape("wide", (Cell("id", "annotation_1", name="annotation_1", question="annotation"), ...))

| shape   | a row is                   | such as                                                            |
|---------|----------------------------|--------------------------------------------------------------------|
| wide    | an item                    | `id, annotation_1, annotation_2`; --label "annotation_{n}"         |
| long    | what one says of one item  | `item, annotator, label`; --item, --annotator, --label             |
| files   | an item, a file a person   | `id, truthful` in two files or more; --item, --label               |
| pattern | several items of a person  | `q1_uid, Answer.q1, q2_uid, ...`; --item "q{n}_uid" --annotator ID |

In a wide table each file has items of its own; in the others, items of one name are one item.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jitune.construct.agreement.labels import text_of
from jitune.types import UserError

ITEMS = ("item", "item_id", "id", "uid", "unit", "unit_id", "example_id", "task_id", "sample_id", "record_id",
         "prompt_id", "hitid")
ANNOTATORS = ("annotator", "annotator_id", "worker", "worker_id", "workerid", "rater", "rater_id", "coder", "coder_id",
              "judge", "judge_id", "user_id", "anon_id", "labeller", "labeler", "completed_by")
LABELS = ("label", "value", "annotation", "rating", "answer", "judgment", "judgement", "vote", "score", "choice")
SECONDS = ("seconds", "duration_seconds", "lead_time", "worktimeinseconds")
PLAIN = {"question", "state", "at", "note", *SECONDS}
NUMBERED = re.compile(r"(.*(?:annot|label|rat(?:er|ing)|coder|judg|vote|worker).*?)(\d+)", re.IGNORECASE)
MOST = 30  # columns that an error lists
FEW, SHORT = 10, 60  # labels that differ, and letters of one, where columns of labels are looked for


class Columns(NamedTuple):
    """What the user says of a table; "{n}" stands for a number. Empty: to be found.

    item, annotator, question, seconds, state: a column. label: columns, a question each. annotators: columns of one
    question, an annotator each. between: two columns that name what a label compares.
    """

    item: str = ""
    label: tuple[str, ...] = ()
    annotator: str = ""
    annotators: tuple[str, ...] = ()
    question: str = ""
    seconds: str = ""
    state: str = ""
    between: tuple[str, ...] = ()


class Cell(NamedTuple):
    """Where one label stands in a row. item: column, "" for the row's number. annotator: column, "" for `name`; both
    "" for the name of the file."""

    item: str
    label: str
    annotator: str = ""
    name: str = ""
    question: str = "label"


class Shape(NamedTuple):
    """kind: of the table above. cells: of every row. question, seconds, state, between: as in `Columns`. shared: the
    columns of every file; what stands in one of several only is its annotator's."""

    kind: str
    cells: tuple[Cell, ...]
    question: str = ""
    seconds: str = ""
    state: str = ""
    between: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    def columns(self) -> set[str]:
        """All columns that hold labels and who gave them; an item's own are the others."""
        cells = {column for cell in self.cells for column in (cell.label, cell.annotator)}
        return (cells | {self.question, self.seconds, self.state}) - {""}


def plan(headers: Mapping[str, Sequence[str]], samples: Mapping[str, Sequence[Mapping]], given: Columns) -> Shape:
    """The shape of all files together.

    Args:
      headers: {file: columns}; samples: {file: its first rows}.

    Raises:
      UserError: it is not plain, or a file lacks a column.
    """
    shared = [c for c in next(iter(headers.values())) if all(c in header for header in headers.values())]
    if given.label and any("{n}" in label for label in given.label):
        shape = _numbered(headers, shared, given)
    elif given.annotators:
        shape = Shape("wide", tuple(Cell(_item(shared, given), c, name=c) for c in given.annotators))
    elif given.label:
        item = _item(shared, given)
        if not item:
            raise UserError(f"{_first(headers)}: which column names the item? --item is needed; {_listed(shared)}")
        kind = "long" if given.annotator else "files"
        shape = Shape(kind, tuple(Cell(item, c, given.annotator, question=c) for c in given.label))
    else:
        shape = _found(headers, shared, samples, given)
    shape = shape._replace(question=given.question or shape.question, seconds=given.seconds or _seconds(shared, shape),
                           state=given.state or shape.state, between=given.between, shared=tuple(shared))
    _check(headers, shape)
    return shape


def _found(headers: Mapping, shared: list[str], samples: Mapping, given: Columns) -> Shape:
    """The shape of files of which the user says no label."""
    who, what = given.annotator or _one(shared, ANNOTATORS), [c for c in shared if _plain(c) in LABELS]
    item = _item(shared, given)
    if who and item and len(what) == 1:
        alone = {_plain(c) for c in shared} <= {_plain(c) for c in (who, item, *what)} | PLAIN
        question, state = (_one(shared, (name,)) if alone else "" for name in ("question", "state"))
        return Shape("long", (Cell(item, what[0], who, question=what[0]),), question, "", state)
    groups: dict[str, list[str]] = {}
    for column in shared:
        if (match := NUMBERED.fullmatch(column)) and not who:
            groups.setdefault(match[1], []).append(column)
    groups = {stem: columns for stem, columns in groups.items() if len(columns) > 1}
    if len(groups) == 1:
        (stem, columns), = groups.items()
        return Shape("wide", tuple(Cell(item, c, name=c, question=stem.strip("_-. ")) for c in columns))
    if len(headers) > 1 and item and not groups and not who:
        found = [c for c in shared if c not in (item, "") and all(_labels(rows, c) for rows in samples.values())]
        if found:
            return Shape("files", tuple(Cell(item, c, question=c) for c in found))
    told = [f"{name} may be {', '.join(map(repr, c))}" for name, c in (
        ("items", [item] if item else []), ("annotators", [who] if who else []), ("labels", what),
        ("columns of annotators", [c for columns in groups.values() for c in columns])) if c]
    raise UserError(f"{_first(headers)}: where the labels stand is not plain ({'; '.join(told) or 'no known name'}); "
                    "give --item, --annotator and --label of a table with a label a row, --annotators of a table with "
                    "a column each, --item and --label of files with an annotator each, or "
                    f"--label with {{n}} for numbered columns; {_listed(shared)}")


def _numbered(headers: Mapping, shared: list[str], given: Columns) -> Shape:
    """The shape where labels stand in numbered columns."""
    patterns = [re.compile(r"(\d+)".join(map(re.escape, label.split("{n}")))) for label in given.label]
    found = [[m[1] for column in shared if (m := pattern.fullmatch(column))] for pattern in patterns]
    numbers = sorted(set.intersection(*map(set, found)), key=int)
    if not numbers:
        raise UserError(f"{_first(headers)}: no columns are named as {', '.join(given.label)}; {_listed(shared)}")
    inside = "{n}" in given.item
    if inside and not given.annotator:
        raise UserError(f"{_first(headers)}: --item {given.item} names several items in a row, so --annotator is "
                        f"needed; {_listed(shared)}")
    item = given.item if inside else _item(shared, given)
    cells = []
    for label in given.label:
        question = label.replace("{n}", "").strip("_-. ") or "label"
        for n in numbers:
            column = label.replace("{n}", n)
            name = "" if inside else column if len(given.label) == 1 else n
            cells.append(Cell(item.replace("{n}", n), column, given.annotator if inside else "", name, question))
    return Shape("pattern" if inside else "wide", tuple(cells))


def _check(headers: Mapping, shape: Shape) -> None:
    """Every column that is read stands in every file."""
    needed = {column for cell in shape.cells for column in (cell.item, cell.label, cell.annotator)}
    needed |= {shape.question, shape.seconds, shape.state, *shape.between}
    for file, header in headers.items():
        for column in sorted(needed - {""}):
            if column not in header:
                near = difflib.get_close_matches(column, header, n=1)
                hint = f", perhaps {near[0]!r}" if near else ""
                raise UserError(f"{file}: has no column {column!r}{hint}; {_listed(header)}")


def names(files: Sequence[str]) -> dict[str, str]:
    """What stands apart in the names of files: a_ann_en.csv, a_bo_en.csv -> ann, bo; one alone keeps its name."""
    stems = [re.sub(r"\.gz$", "", os.path.basename(file), flags=re.IGNORECASE).rsplit(".", 1)[0] for file in files]
    parts = [re.split(r"[_\-. ]", stem) for stem in stems]
    if len(files) < 2:
        return dict(zip(files, stems, strict=True))
    front = len(os.path.commonprefix(parts))
    back = len(os.path.commonprefix([part[front:][::-1] for part in parts]))
    short = ["_".join(part[front : len(part) - back]) for part in parts]
    if not all(short) or len(set(short)) < len(files):
        short = stems if len(set(stems)) == len(files) else list(files)
    return dict(zip(files, short, strict=True))


def _item(shared: Sequence[str], given: Columns) -> str:
    return given.item or _one(shared, ITEMS)


def _one(shared: Sequence[str], known: Sequence[str]) -> str:
    """The column whose name stands first among those known, or ""."""
    plain = {_plain(column): column for column in reversed(shared)}
    return next((plain[name] for name in known if name in plain), "")


def _seconds(shared: Sequence[str], shape: Shape) -> str:
    return _one(shared, SECONDS) if shape.kind in ("long", "pattern") else ""


def _plain(column: str) -> str:
    return re.sub(r"[\s.-]+", "_", column.strip().casefold())


def _labels(rows: Sequence[Mapping], column: str) -> bool:
    """Whether a column looks like one of labels: few and short values that come again, and more of them than blanks."""
    values: list[Any] = [row.get(column) for row in rows]
    texts = [text_of(v) for v in values if v not in (None, "")]
    return (len(texts) * 2 > len(values) and len(set(texts)) <= FEW and len(set(texts)) * 2 <= len(texts)
            and max(map(len, texts)) <= SHORT)


def _first(headers: Mapping) -> str:
    return next(iter(headers)) + (f" and {len(headers) - 1} more" if len(headers) > 1 else "")


def _listed(header: Sequence[str]) -> str:
    more = f" and {len(header) - MOST:,} more" if len(header) > MOST else ""
    return f"the columns are {', '.join(map(repr, header[:MOST]))}{more}"
