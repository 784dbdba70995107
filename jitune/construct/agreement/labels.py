"""Labels that people gave to items: one at a time in, a table a question out, in memory that holds no texts of items.

    sheet = Sheet(scales={"": ("no", "yes")})
    sheet.add(Label("q1", "ann", "truthful", "yes"))
    sheet.add(Label("q1", "bo", "truthful", "no"))
    table = sheet.table("truthful")        # items ["q1"], annotators ["ann", "bo"], labels ["no", "yes"]
    counts(table)                          # [[1, 1]], [items, labels]

A label is its exact text: " Yes" and "yes" are two labels, and `Table.near` says so. A list of lists is a ranking, the
best first and ties together; any other list is a set.
"""

from __future__ import annotations

import json
import math
import unicodedata
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jitune.types import UserError

MOST, LONG = 1000, 200  # labels that differ, and letters of one, beyond which a question is one of free text


class Label(NamedTuple):
    """What an annotator said of an item. value: None unless the state is labelled; origin: file and row."""

    item: str
    annotator: str
    question: str
    value: Any
    state: str = "labelled"
    seconds: float | None = None
    origin: tuple[str, int] = ("", 0)


@dataclass(frozen=True)
class Table:
    """The labels of one question, sorted by item, then annotator; no annotator labels an item twice.

    Attributes:
      question: its name.
      items, annotators: names, in the order in which they came.
      labels: texts, in the order of the scale; of numbers, where no scale was given; else of the alphabet.
      item, annotator, code: [n] places in these three.
      seconds: [n] how long it took; NaN where that is not known.
      origins: [items] the file and row in which each item first stood.
      states: how many came labelled, empty and skipped.
      repeated: labels left out, which an annotator gave a second time to an item.
      conflicting: pairs of an item and an annotator with labels that differ.
      near: labels that differ in case, blanks or the writing of a number only.
      ballots: (place of the item, place of the annotator, tiers of names) of a question of rankings.
      free: texts that differ are so many that they are no labels; nothing of them is kept.
    """

    question: str
    items: list[str]
    annotators: list[str]
    labels: list[str]
    item: np.ndarray
    annotator: np.ndarray
    code: np.ndarray
    seconds: np.ndarray
    origins: list[tuple[str, int]]
    states: Mapping[str, int]
    repeated: int = 0
    conflicting: int = 0
    near: list[list[str]] = field(default_factory=list)
    ballots: list[tuple] = field(default_factory=list)
    free: bool = False


class Sheet:
    """Labels as they come.

    Args:
      scales: {question: labels in order}; that of "" is for all others.
      conflicts: what becomes of two labels of one annotator on one item that differ: error, or the first or last is
        kept, or both are dropped.
      empty: the label that an empty answer counts as; "" to count empty answers and leave them out.
    """

    def __init__(self, *, scales: Mapping[str, Sequence[str]] | None = None, conflicts: str = "error",
                 empty: str = ""):
        self.scales, self.conflicts, self.empty = scales or {}, conflicts, empty
        self.columns: dict[str, _Column] = {}
        self.files: dict[str, int] = {}

    def add(self, label: Label) -> None:
        """Takes one label.

        Raises:
          UserError: it is not on the scale of its question.
        """
        column = self.columns.get(label.question)
        if column is None:
            scale = self.scales.get(label.question, self.scales.get(""))
            column = self.columns[label.question] = _Column(label.question, scale)
        state, value = label.state, label.value
        column.states[state] += 1
        if state == "empty" and self.empty:
            state, value = "labelled", self.empty
        file = self.files.setdefault(label.origin[0], len(self.files))
        item = column.place(label, file)
        if state == "labelled":
            column.put(label, item, value, file)

    def questions(self) -> list[str]:
        """In the order in which they came."""
        return list(self.columns)

    def table(self, question: str) -> Table:
        """All labels of a question.

        Raises:
          UserError: an annotator labelled an item twice, differently, and `conflicts` is "error".
        """
        return self.columns[question].table(list(self.files), self.conflicts)


class _Column:
    """The labels of one question as they come."""

    def __init__(self, question: str, scale: Sequence[str] | None):
        self.question, self.scale = question, None if scale is None else list(scale)
        self.items, self.annotators = {}, {}
        self.labels = {label: i for i, label in enumerate(scale or ())}
        self.states = Counter()
        self.item, self.annotator, self.code = array("i"), array("i"), array("i")
        self.file, self.row, self.seconds = array("i"), array("q"), array("d")
        self.first = array("q")  # file and row of each item
        self.ranked, self.free = [], False

    def place(self, label: Label, file: int) -> int:
        if label.item not in self.items:
            self.first.extend((file, label.origin[1]))
        self.annotators.setdefault(label.annotator, len(self.annotators))
        return self.items.setdefault(label.item, len(self.items))

    def put(self, label: Label, item: int, value: Any, file: int) -> None:
        if is_ranking(value):
            self.ranked.append(tuple(tuple(map(text_of, tier)) for tier in value))
            code = len(self.ranked) - 1
        else:
            code = self._code(text_of(value), label)
        if code is not None:
            self.item.append(item)
            self.annotator.append(self.annotators[label.annotator])
            self.code.append(code)
            self.file.append(file)
            self.row.append(label.origin[1])
            self.seconds.append(math.nan if label.seconds is None else label.seconds)

    def _code(self, text: str, label: Label) -> int | None:
        if self.scale is not None and text not in self.labels:
            near = next((known for known in self.scale if near_key(known) == near_key(text)), None)
            hint = f"; it differs from {near!r} in case, blanks or the writing of a number only" if near else ""
            raise UserError(f"{label.origin[0]}:{label.origin[1]}: the label {text!r:.60} of {label.annotator} on "
                            f"{label.item!r:.60} ({self.question}) is not on the scale: {', '.join(self.scale)}{hint}")
        if self.free or (text not in self.labels and (len(self.labels) >= MOST or len(text) > LONG)):
            self.free = True
            return None
        return self.labels.setdefault(text, len(self.labels))

    def table(self, files: list[str], conflicts: str) -> Table:
        if self.ranked and self.labels and self.scale is None:
            raise UserError(f"{self.question}: some answers are rankings, and some are not, such as "
                            f"{next(iter(self.labels))!r:.60}")
        arrays = {name: np.array(getattr(self, name)) for name in ("item", "annotator", "code", "file", "row",
                                                                   "seconds")}
        if self.free:
            arrays = {name: values[:0] for name, values in arrays.items()}
        order = np.lexsort((np.arange(len(arrays["item"])), arrays["annotator"], arrays["item"]))
        arrays = {name: values[order] for name, values in arrays.items()}
        keep, repeated, conflicting = self._once(arrays, files, conflicts)
        item, annotator, code, seconds = (arrays[name][keep] for name in ("item", "annotator", "code", "seconds"))
        labels, code = (list(self.labels), code) if self.free or self.ranked else self._ordered(code)
        ballots = [(int(i), int(a), self.ranked[c]) for i, a, c in zip(item, annotator, code, strict=True)
                   ] if self.ranked else []
        origins = [(files[f], row) for f, row in zip(self.first[::2], self.first[1::2], strict=True)]
        return Table(self.question, list(self.items), list(self.annotators), labels, item, annotator, code, seconds,
                     origins, dict(self.states), repeated, conflicting, near(labels), ballots, self.free)

    def _once(self, arrays: dict, files: list[str], conflicts: str) -> tuple[np.ndarray, int, int]:
        """([n] which labels stay, repeats left out, pairs in conflict) of labels sorted by item and annotator."""
        item, annotator, code = (arrays[name] for name in ("item", "annotator", "code"))
        keep = np.ones(len(item), bool)
        again = np.flatnonzero((item[1:] == item[:-1]) & (annotator[1:] == annotator[:-1])) + 1
        repeated, clashing, start = 0, 0, 0
        while start < len(again):
            end = start + 1
            while end < len(again) and again[end] == again[end - 1] + 1:
                end += 1
            members = range(again[start] - 1, again[end - 1] + 1)
            said = {self.ranked[code[m]] if self.ranked else code[m] for m in members}
            kept = members[-1] if conflicts == "last" else members[0]
            keep[members.start : members.stop] = False
            if len(said) == 1 or conflicts in ("first", "last"):
                keep[kept] = True
            elif conflicts == "error":
                raise UserError(self._conflict(arrays, members, files))
            repeated, clashing, start = repeated + len(members) - 1, clashing + (len(said) > 1), end
        return keep, repeated, clashing

    def _conflict(self, arrays: dict, members: range, files: list[str]) -> str:
        texts = [in_words(tiers) for tiers in self.ranked] or list(self.labels)
        told = [(f"{files[arrays['file'][m]]}:{arrays['row'][m]}", texts[arrays["code"][m]]) for m in members]
        other = next(pair for pair in told if pair[1] != told[0][1])
        who, what = list(self.annotators)[arrays["annotator"][members[0]]], list(self.items)[arrays["item"][members[0]]]
        return (f"{other[0]}: {who} labels {what!r:.60} ({self.question}) {other[1]!r:.60}, and {told[0][1]!r:.60} in "
                f"{told[0][0]}; --conflicts first, last or drop lets one pass, counted")

    def _ordered(self, code: np.ndarray) -> tuple[list[str], np.ndarray]:
        """The labels in the order of the scale, and what they are in it."""
        labels = list(self.labels)
        if self.scale is not None:
            return labels, code
        by_number = all(value_of(label) is not None for label in labels)
        order = sorted(range(len(labels)), key=lambda i: (value_of(labels[i]) if by_number else 0, labels[i]))
        places = np.empty(len(labels), dtype=np.int64)
        places[order] = np.arange(len(labels))
        return [labels[i] for i in order], places[code] if len(code) else code


def counts(table: Table) -> np.ndarray:
    """[items, labels] how many annotators gave an item a label."""
    width = len(table.labels)
    found = np.bincount(table.item.astype(np.int64) * width + table.code, minlength=len(table.items) * width)
    return found.reshape(len(table.items), width)


def is_ranking(value: Any) -> bool:
    """Whether a value is a ranking: [["b"], ["a", "c"]], b before a and c, which tie."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(tier, list | tuple) for tier in value)


def in_words(tiers: Sequence[Sequence[str]]) -> str:
    """(("b",), ("a", "c")) -> "b > a = c"."""
    return " > ".join(" = ".join(tier) for tier in tiers)


def text_of(value: Any) -> str:
    """The label that a value is: 4.0 -> "4", True -> "true", ["b", "a"] -> "a + b"."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: ""}[value]
    if isinstance(value, int | float):
        return str(int(value)) if value == value and abs(value) < 1e15 and value == int(value) else repr(value)
    if isinstance(value, list | tuple):
        return " + ".join(sorted(map(text_of, value)))
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def value_of(label: str) -> float | None:
    """The number that a label is, or None."""
    try:
        value = float(label)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def near_key(label: str) -> str:
    """What labels have in common that differ in case, blanks, or the writing of a letter or number only."""
    value = value_of(label)
    return repr(value) if value is not None else "".join(unicodedata.normalize("NFKC", label).casefold().split())


def near(labels: Sequence[str]) -> list[list[str]]:
    """Groups of labels with one `near_key`."""
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(near_key(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]
