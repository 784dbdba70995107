"""Repetition: answers that say the same over and over, as base models do that do not stop.

    judge(answer "The cat sat. " * 50)      # Reject("loop", '"The cat sat. " 50 times at the end')
    judge(answer of many equal lines)       # Reject("repeated_lines", "0.62 of the characters, at most 0.40")

Ratios and thresholds are those of Gopher (Rae et al. 2021, table A1), which RefinedWeb (Penedo et al. 2023) takes
over: the share of lines, paragraphs, top 2- to 4-grams, and all 5- to 10-grams that are repeated. They were found on
web pages of 50 words and more, so shorter answers are only looked at for loops, and answers, which are short beside
such pages and sing choruses and define their terms, are given `slack`: thresholds are twice the published ones. Those
(slack 1) reject 0.9 % of GPT-4's English answers to Alpaca, 1.1 % of its Chinese ones and 6.7 % of a tool-calling set,
nearly all of them fine; twice the values reject 0.2 %, 0.2 % and 0.7 %, and as many of davinci's raw continuations.
Of scripts without spaces, n-grams are of as many characters as n words have: two a word of Han and kana, four of Thai,
Lao, Khmer and Burmese.

Code repeats itself by nature: fenced blocks are left out, and lines without a letter count for nothing. What is
compressed to fewer than `min_compressed` bytes a character is rejected too; prose of any script has over 0.3.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from functools import partial
from typing import NamedTuple

from jitune.construct.curate.filters import parts, units
from jitune.construct.curate.stage import Filter, Keep, Reject, Verdict
from jitune.data.record import Record

# Gopher's thresholds: of lines, of the characters in repeated lines, and by n of the characters in n-grams.
LINES, LINE_CHARACTERS = 0.30, 0.20
TOP = {2: 0.20, 3: 0.18, 4: 0.16}
REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
# Looked at of a long answer: its beginning and its end.
PART = 6000
# How often, and over how many characters, an ending must come again to be a loop.
TIMES, OVER, TAIL = 4, 60, 4000
NUMBER = re.compile(r"\d+")


class Loop(NamedTuple):
    """What a text ends in: `unit`, `times` in a row."""

    unit: str
    times: int


def loop(text: str) -> Loop | None:
    """The shortest unit that the end of a text repeats at least 4 times, over 60 characters or more.

    Example: loop("a " + "one two " * 20) is Loop("one two ", 20).
    """
    tail = text.strip()[-TAIL:]
    size = len(tail)
    if size < OVER:
        return None
    # Periods to try: where the last characters stood before. Each trial is one comparison of strings.
    for suffix in (8, 40):
        end = size - 1
        for _ in range(8):
            at = tail.rfind(tail[-suffix:], 0, end)
            if at < 0 or (period := size - suffix - at) > size // TIMES:
                break
            covered = _covered(tail, period)
            if covered >= max(OVER, TIMES * period):
                return Loop(tail[-period:], covered // period)
            end = at + suffix - 1
    return None


def _covered(tail: str, period: int) -> int:
    """Characters at the end that are equal to those one period before them, and the period before these."""
    low, high = 0, len(tail) - period  # by bisection: the longest n with tail[-n:] == tail[-n - period:-period]
    while low < high:
        middle = (low + high + 1) // 2
        if tail[-middle:] == tail[-middle - period:-period]:
            low = middle
        else:
            high = middle - 1
    return low + period if low else 0


def compressed(text: str) -> float:
    """Bytes a character after zlib; characters are coded in one byte where they all can be, else in two."""
    try:
        coded = text.encode("latin-1")
    except UnicodeEncodeError:
        coded = text.encode("utf-16-le", "surrogatepass")
    return len(zlib.compress(coded, 1)) / max(1, len(text))


def lines(text: str, slack: float = 1.0) -> Reject | None:
    """Gopher's ratios over lines that have a letter or digit; `slack` times the thresholds."""
    found = [line for line in map(str.strip, text.splitlines()) if any(c.isalnum() for c in line)]
    if len(found) < 4:
        return None
    counts = Counter(found)
    again = len(found) - len(counts)
    if not again:
        return None
    total = sum(map(len, found))
    characters = sum((times - 1) * len(line) for line, times in counts.items())
    if characters > LINE_CHARACTERS * slack * total:
        return Reject("repeated_lines",
                      f"{characters / total:.2f} of the characters, at most {LINE_CHARACTERS * slack:.2f}",
                      (counts.most_common(1)[0][0][:200],))
    # A short line such as "}" or "Yes" may come often.
    if again > LINES * slack * len(found) and characters > total / 10:
        return Reject("repeated_lines", f"{again / len(found):.2f} of the lines, at most {LINES * slack:.2f}")
    return None


def n_grams(pieces: list[str], slack: float = 1.0) -> Reject | None:
    """Gopher's ratios over n-grams; `slack` times the thresholds. Of scripts without spaces, n is larger."""
    scale = units.pieces_a_word(pieces)
    unspaced = scale > 1
    total = sum(map(len, pieces))
    pairs = Counter(zip(pieces, pieces[1:], strict=False))
    # An n-gram comes no more often than each of its pairs, so that it covers no more than half of n, rounded up, times
    # the pair that covers most.
    widest = max((times * (len(one) + len(other)) for (one, other), times in pairs.items() if times > 2), default=0)
    for n, most in TOP.items():
        if (n * scale + 1) // 2 * widest < most * slack * total:
            continue
        top, times = Counter(_grams(pieces, n * scale)).most_common(1)[0]
        if times < 3:
            break  # a longer one comes no more often
        share = times * sum(map(len, top)) / total
        if share > most * slack:  # of those that overlap, over 1 may come out
            return _rejected(f"top_{n}_gram", min(share, 1.0), most * slack, top, unspaced)
    runs = _repeated_pairs(pieces) if len(pieces) - 1 - len(pairs) >= min(REPEATED) - 1 else []
    for n, most in REPEATED.items():
        if sum(size for pairs, size in runs if pairs >= n * scale - 1) <= most * slack * total:
            continue
        grams = _grams(pieces, n * scale)
        share, longest = _repeated(pieces, grams, n * scale)
        if share > most * slack * total:
            return _rejected(f"repeated_{n}_grams", share / total, most * slack, longest, unspaced)
    return None


def _grams(pieces: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(pieces[start:] for start in range(n)), strict=False))


def _repeated_pairs(pieces: list[str]) -> list[tuple[int, int]]:
    """(pairs, characters of their pieces) of every run of pairs that all came before.

    An n-gram that comes again lies in a run of n - 1 pairs or more, so that these bound what n-grams cover.
    """
    seen, runs, length = set(), [], 0
    for at, pair in enumerate(zip(pieces, (*pieces[1:], None), strict=True)):
        if pair in seen:
            length += 1
            continue
        seen.add(pair)
        if length:
            runs.append((length, sum(map(len, pieces[at - length:at + 1]))))
            length = 0
    return runs


def _repeated(pieces: list[str], grams: list, n: int) -> tuple[int, tuple[str, ...]]:
    """Characters of the pieces that stand in an n-gram that came before, each piece once; and such an n-gram."""
    seen, covered, last, example = set(), 0, 0, ()
    for start, gram in enumerate(grams):
        if gram in seen:
            covered += sum(map(len, pieces[max(start, last):start + n]))
            last, example = start + n, example or gram
        seen.add(gram)
    return covered, example


def _rejected(reason: str, share: float, most: float, gram: tuple[str, ...], unspaced: bool) -> Reject:
    passage = ("" if unspaced else " ").join(gram)
    return Reject("repeated_n_grams", f"{reason}: {share:.2f} of the characters, at most {most:.2f}", (passage[:300],))


def judge(record: Record, *, min_words: int, slack: float, min_compressed: float, checks: tuple[str, ...]) -> Verdict:
    """Rejects as loop, repeated_lines, repeated_n_grams or compressible, if any answer is so."""
    for text in parts.of(record).answers:
        text = units.prose(text)
        text = text if len(text) <= 2 * PART else f"{text[:PART]}\n{text[-PART:]}"
        rejected = _judge(text, min_words, slack, min_compressed, checks)
        if rejected:
            return rejected
    return Keep(record)


def _judge(text: str, min_words: int, slack: float, min_compressed: float, checks: tuple[str, ...]) -> Reject | None:
    found = _loop(text) if "loop" in checks else None
    if found:
        return Reject("loop", f"{parts.shown(found.unit)} {found.times} times at the end", (found.unit[:300],))
    if len(text) < 2 * min_words:
        return None
    pieces = units.pieces(text)
    if (len(pieces) if text.isascii() else units.words(text)) < min_words:
        return None
    rejected = lines(text, slack) if "lines" in checks else None
    if "lines" in checks:
        there = text.splitlines()
        once = dict.fromkeys(there)  # a chorus has been counted
        text = "\n".join(once)
        pieces = pieces if len(once) == len(there) else units.pieces(text)
    if "n_grams" in checks and not rejected and len(pieces) > 40:
        rejected = n_grams(pieces, slack)
    if rejected is None and text and "compression" in checks:
        share = compressed(text)
        if share < min_compressed:
            return Reject("compressible", f"{share:.2f} bytes a character, at least {min_compressed:.2f}")
    return rejected


def _loop(text: str) -> Loop | None:
    """A loop of words or emoji (lines that are drawn are none), or of twenty units that differ by their numbers."""
    found = loop(text)
    if found and any(c.isalnum() or c > "\u2600" for c in found.unit):
        return found
    tail = text[-TAIL:]
    # Without numbers it is the loop that was found, of no letters, or none.
    counted = loop(NUMBER.sub("0", tail)) if len(text) > 200 and units.has_digit(tail) else None
    return counted if counted and counted.times >= 20 and sum(map(str.isalpha, counted.unit)) > 2 else None


CHECKS = ("loop", "lines", "n_grams", "compression")


def build(*, min_words: int = 50, slack: float = 2.0, min_compressed: float = 0.15,
          checks: str = ",".join(CHECKS)) -> Filter:
    """The filter.

    Args:
      min_words: answers of fewer are only looked at for loops.
      slack: times Gopher's thresholds; 1 for the published ones.
      min_compressed: bytes a character after compression, in [0, 1].
      checks: out of loop, lines, n_grams and compression, by commas.

    Raises:
      UserError: another check, or a number out of range.
    """
    chosen = parts.names(checks, CHECKS, "repetition: checks")
    return Filter("repetition", partial(
        judge, min_words=int(parts.number(min_words, "repetition: min_words")), checks=chosen,
        slack=parts.number(slack, "repetition: slack", 0.1),
        min_compressed=parts.number(min_compressed, "repetition: min_compressed", 0, 1)))
