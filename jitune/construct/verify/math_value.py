"""Values of mathematical answers: numbers with units, and several of them. In: plain text (`math_text.plain`).

    whole("3 1/2 km")              # Number(Fraction(7, 2), km)
    first("5 apples, not 6")       # Number(Fraction(5), None)
    several("(1, 2)")              # Several("()", (Number(1), Number(2)))
    equal(whole("$0.50"), whole("50 cents"))    # True
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from jitune.construct.verify.arithmetic import evaluate, show
from jitune.construct.verify.units import BEFORE, Unit, ratio, sign, unit_at
from jitune.evals.metrics.numbers import DECIMAL_COMMA, DIGITS, NAMED, SPACED, find_numbers

LONGEST = 400  # characters of a value
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SPACED_WHOLE = re.compile(r"[-+]?[0-9]{1,3}(?: [0-9]{3})+(?:[.,][0-9]+)?")
SCALED = re.compile(rf"\s*({'|'.join(SCALES)})s?\b", re.IGNORECASE)
RANGE = re.compile(r"(.*\d[^-]*?)\s*(?:-|\bto\b)\s*(\d.*)")
CLOSES = {"(": ")]", "[": "])", "{": "}"}
# What, right behind a number, makes it a part of something larger.
GOES_ON = re.compile(rf"\s*[√π∞±^\\]|\s*[-*/+x]\s*[\d(.{BEFORE}]|:\d|[A-Za-z](?![A-Za-z])")
BEHIND = re.compile(r"[√^\\]\(?$|[\d)]\s*[*/^]\s*$")


class Number(NamedTuple):
    """An exact number and its unit, or None."""

    value: Fraction
    unit: Unit | None = None


class Several(NamedTuple):
    """brackets: as they were written, "" for none, "-" for a range."""

    brackets: str
    values: tuple[Number, ...]


Value = Number | Several


def numbers(text: str, language: str = "en") -> Iterator[tuple[Number | None, int, int]]:
    """Every number of a text with its unit, where it begins and ends; None for one that is part of an expression."""
    pattern, end = _pattern(language in DECIMAL_COMMA), 0
    while match := pattern.search(text, end):
        value, end = _value(match, language), match.end()
        scale = SCALED.match(text, end)
        if scale and value is not None:
            value, end = value * SCALES[scale[1].lower()], scale.end()
        unit, end = unit_at(text, end)
        front = text[max(0, match.start() - 8):match.start("body")]
        before = re.search(rf"([{BEFORE}])\s*[-+]?\s*$|\bRs\.?\s*$", front)
        unit = unit or (sign(before[1] or "Rs") if before else None)
        part = BEHIND.search(text[max(0, match.start() - 4):match.start()]) or (
            GOES_ON.match(text, end) if unit is None or before else None)
        yield (None if part or value is None else Number(value, unit)), match.start(), end


@functools.cache
def _pattern(comma: bool) -> re.Pattern:
    d = rf"(?:{SPACED}|{DIGITS})" if comma else DIGITS
    named = f"[{''.join(NAMED)}]"
    return re.compile(
        rf"(?P<sign>(?<![0-9A-Za-z).])[-+](?:\s*[{BEFORE}])?\s?|(?<=[{BEFORE}])[-+])?"
        rf"(?P<body>(?:{d}|(?<![0-9])\.[0-9]+)(?:\s*[*x]\s*10\s*\^\s*\(?|[eE](?=[-+]?[0-9]))(?P<power>[-+]?[0-9]{{1,3}})\)?"
        rf"|(?<![0-9/])[0-9]+(?:\s+and)?\s+[0-9]+/[0-9]+(?![0-9/])"
        rf"|(?<![0-9/])(?P<over>{d})\s*/\s*(?P<under>{d})(?![0-9/])"
        rf"|(?:{d}{named})+(?:{d})?|{d}|(?<![0-9])\.[0-9]+)"
    )


def _value(match: re.Match, language: str) -> Fraction | None:
    """The number of a match; None where it has no one value."""
    body, negative = match["body"], (match["sign"] or "").startswith("-")
    if match["power"]:
        found, power = _one(re.split(r"\s*[*x]|[eE]", body)[0], language), int(match["power"])
        value = None if found is None or abs(power) > 300 else found * Fraction(10) ** power
    elif match["over"]:
        over, under = _one(match["over"], language), _one(match["under"], language)
        value = over / under if over is not None and under else None
    else:
        value = _one(re.sub(r" +(?:and +)?", " ", body), language)
    return value if value is None or not negative else -value


def _one(text: str, language: str) -> Fraction | None:
    found = find_numbers(text, language=language)
    return found[0] if len(found) == 1 else None


def whole(text: str, language: str = "en") -> Number | None:
    """The number that a short text is: with its unit and words behind it, or an expression of plain arithmetic."""
    if len(text) > LONGEST:
        return None
    text = text.rpartition("=")[2].strip().rstrip(".,;:*_ ").lstrip(",;:*_ ")
    if SPACED_WHOLE.fullmatch(text):
        text = text.replace(" ", "\u00a0")
    if text[:1] == "(" and text[-1:] == ")" and text.count("(") == 1:
        text = text[1:-1]
    found = list(numbers(text, language))
    if len(found) == 1 and found[0][0] is not None:
        number, start, end = found[0]
        front, rest = text[:start].strip(f" {BEFORE}"), text[end:]
        if re.fullmatch(r"(?:[^\W\d_]{2,}(?:\W+|$))*|Rs\.?", front) and not re.search(r"[\d*/^=√π∞±!\\<>|]", rest):
            return number
    value = evaluate(re.sub(r"(?<=\d),(?=\d{3}\b)", "", text).replace("^", "**"))
    return None if value is None else Number(value)


def first(text: str, language: str = "en") -> Number | None:
    """The first number of a line that goes on as prose may: behind its last "=", or of all of it."""
    for part in (text.rpartition("=")[2], text):
        for number, start, _ in numbers(part, language):
            if number is not None:
                return number
            run = re.match(r"([\d.+*/^() ]++)(?![√π∞±\\:-]|\w(?!\w))", part[start:])  # 5 * 3 is 15; but 5-10 is a range
            value = evaluate(run[1].strip(" .").replace("^", "**")) if run else None
            return None if value is None else Number(value)
    return None


def last(text: str, language: str = "en") -> Number | None:
    """The last number of a text."""
    found = None
    for found, *_ in numbers(text, language):  # noqa: B007
        pass
    return found


def several(text: str, language: str = "en") -> Several | None:
    """A tuple, list, set, interval or range, or numbers with commas or "and" between them; None for anything else."""
    text = text.rpartition("=")[2].strip().strip(".;: ")
    if len(text) > LONGEST:
        return None
    between = RANGE.fullmatch(text)
    if between:
        return _all(between.groups(), "-", language)
    if text[:1] in CLOSES and text[:1] and text[-1] in CLOSES[text[0]]:
        return _all(re.split(r"[,;]", text[1:-1]), text[0] + text[-1], language)
    return _all(re.split(r",\s+(?:(?:and|or)\s+)?|;|\s+(?:and|or)\s+", text), "", language)


def _all(parts, brackets: str, language: str) -> Several | None:
    found = [whole(part, language) for part in parts]
    return Several(brackets, tuple(found)) if len(found) > 1 and None not in found else None


def bracketed(text: str, language: str = "en") -> Several | None:
    """The last group in brackets of a text that is several numbers, or all of the text."""
    for group in reversed(re.findall(r"[(\[{][^()\[\]{}]*[)\]}]", text)):
        found = several(group, language)
        if found:
            return found
    return several(text, language)


def equal(a: Value, b: Value, *, tolerance: float = 0.0) -> bool:
    """Whether two values are the same; units count where both have one. tolerance: relative, of numbers."""
    if isinstance(a, Several) and isinstance(b, Several):
        return _equal_several(a, b, tolerance)
    if isinstance(a, Several) or isinstance(b, Several):
        return False
    x, y = a.value, b.value
    if a.unit and b.unit:
        factor = ratio(a.unit, b.unit)
        return factor is not None and _near(x * factor, y, tolerance)
    share = [n.value / 100 if n.unit and n.unit.measures == "share" else n.value for n in (a, b)]
    return _near(x, y, tolerance) or _near(*share, tolerance)


def _near(x: Fraction, y: Fraction, tolerance: float) -> bool:
    return x == y or (tolerance > 0 and abs(x - y) <= Fraction(tolerance) * max(abs(x), abs(y)))


def _equal_several(a: Several, b: Several, tolerance: float) -> bool:
    """Sets, and lists without brackets among each other, in any order; intervals with their brackets."""
    kinds = {a.brackets, b.brackets}
    if "{}" in kinds or kinds == {""}:
        if not kinds <= {"{}", ""}:
            return False
        return all(any(equal(x, y, tolerance=tolerance) for y in other.values)
                   for one, other in ((a, b), (b, a)) for x in one.values)
    if len(kinds - {""}) > 1 and kinds != {"-", "[]"}:
        return False
    return len(a.values) == len(b.values) and all(
        equal(x, y, tolerance=tolerance) for x, y in zip(a.values, b.values, strict=True))


def show_value(value: Value) -> str:
    """For people."""
    if isinstance(value, Several):
        inner = (" - " if value.brackets == "-" else ", ").join(map(show_value, value.values))
        return inner if len(value.brackets) < 2 else f"{value.brackets[0]}{inner}{value.brackets[1]}"
    return show(value.value) + (f" {value.unit.name}" if value.unit else "")
