"""Exact n-grams of a fixed set of texts: which of them a text shares a passage with, and where.

    index = build_index([Item("test.jsonl:1", "Natalia sold clips to 48 of her friends in April")], length=8)
    find(index, ["He said: Natalia sold clips to 48 of her friends in May"])
    # {0: Match(covered={0, ..., 8}, passages={(0, 2, 11)})}         text 0, tokens 2 to 10 of it

Hashes find candidates, the tokens themselves decide. The length is in words: in Chinese, Japanese, Thai and the like,
where tokens are characters, a gram has as many of them as so many words have (`words.per_word`, in halves: 12
characters of Chinese for 8 words, 24 or 28 of Thai). A text that is shorter is one gram as a whole: with at least
`short` words it is found anywhere in a text, with fewer only as a whole text ("Who are you?" is in many).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from jitune.construct.curate.words import hash_grams, hash_tokens, per_word, tokens


class Item(NamedTuple):
    """A text of an evaluation, and what it is called in reports."""

    name: str
    text: str


class Table(NamedTuple):
    """All grams of one length in tokens. whole: they are looked for as whole texts only.

    hashes: sorted, uint64. items, places: of which item a gram is, and from which token on.
    """

    length: int
    whole: bool
    hashes: np.ndarray
    items: np.ndarray
    places: np.ndarray


class Index(NamedTuple):
    """What `find` looks in. words: the tokens of each item."""

    items: tuple[Item, ...]
    words: tuple[list[str], ...]
    tables: tuple[Table, ...]
    mode: str


@dataclass
class Match:
    """What one item shares with some texts.

    covered: positions of the item's tokens that are in a shared gram.
    passages: (text, first token, token after the last) of every shared gram, in the texts that were searched.
    """

    covered: set[int] = field(default_factory=set)
    passages: set[tuple[int, int, int]] = field(default_factory=set)


def build_index(items: Iterable[Item], length: int, *, short: int = 5, mode: str = "script") -> Index:
    """Indexes the grams of `length` words of items; items without a token are in it, and are never found."""
    items = tuple(items)
    words = tuple(tokens(item.text, mode=mode) for item in items)
    found: dict[tuple[int, bool], list[tuple[np.ndarray, int]]] = {}
    for number, own in enumerate(words):
        if own:
            many = round(2 * per_word(own)) / 2 if mode == "script" else 1
            size = min(round(length * many), len(own))
            grams = hash_grams(hash_tokens(own), size)
            found.setdefault((size, size < min(short, length) * many), []).append((grams, number))
    return Index(items, words, tuple(_table(*key, found[key]) for key in sorted(found)), mode)


def _table(length: int, whole: bool, found: Sequence[tuple[np.ndarray, int]]) -> Table:
    hashes = np.concatenate([values for values, _ in found])
    items = np.repeat([number for _, number in found], [len(values) for values, _ in found])
    places = np.concatenate([np.arange(len(values)) for values, _ in found])
    order = np.argsort(hashes, kind="stable")
    return Table(length, whole, hashes[order], items[order], places[order])


def find(index: Index, texts: Sequence[str]) -> dict[int, Match]:
    """Items that share a gram with one of the texts, by number. No gram goes from one text into the next."""
    matches: dict[int, Match] = {}
    for which, text in enumerate(texts):
        own = tokens(text, mode=index.mode)
        if not own:
            continue
        values = hash_tokens(own)
        for table in index.tables:
            if len(own) == table.length or (len(own) > table.length and not table.whole):
                _search(index, table, own, values, which, matches)
    return matches


def _search(index: Index, table: Table, own: list[str], values: np.ndarray, which: int, matches: dict) -> None:
    size = table.length
    hashes = hash_grams(values, size)
    starts = np.searchsorted(table.hashes, hashes)
    there = table.hashes[np.minimum(starts, len(table.hashes) - 1)] == hashes
    for at in np.flatnonzero(there).tolist():
        row = int(starts[at])
        while row < len(table.hashes) and table.hashes[row] == hashes[at]:
            item, place = int(table.items[row]), int(table.places[row])
            if index.words[item][place : place + size] == own[at : at + size]:
                match = matches.setdefault(item, Match())
                match.covered.update(range(place, place + size))
                match.passages.add((which, at, at + size))
            row += 1


def merged(passages: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Passages that overlap or touch become one: {(0, 2, 10), (0, 3, 11)} -> [(0, 2, 11)]."""
    runs: list[tuple[int, int, int]] = []
    for which, start, end in sorted(passages):
        if runs and runs[-1][0] == which and start <= runs[-1][2]:
            runs[-1] = (which, runs[-1][1], max(end, runs[-1][2]))
        else:
            runs.append((which, start, end))
    return runs
