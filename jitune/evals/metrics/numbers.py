"""Numbers in texts, in any script and in the ways of writing of any language.

    last_number("She has 3 boxes of 1,234.5 kg.")             # Fraction(2469, 2)
    last_number("Das sind 1.234,5 kg.", language="de")        # the same
    last_number("উত্তর হল ২,৭৬,০০০ টাকা")                      # Fraction(276000)
    answer_number("2 + 3 = 5\n#### 5\nI used 2 steps.")       # Fraction(5)
    last_number("I do not know.")                             # None

A number is taken as it is written: units and currencies go, 25 % is 25, 3/4 and ¾ are three quarters, 2 1/2 is
two and a half, 27万6000 is 276000. Numbers in words (nineteen, 十九) are not read. A single separator with three
digits behind it is read by the language: 1.234 is a bit more than one in English, and 1234 in German.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction

# Languages that write 1.234,5; where others write 1,234.5.
DECIMAL_COMMA = frozenset(
    "af az be bg bs ca cs da de el es et eu fi fr gl hr hu id is it ka kk lt lv mk nl no pl pt ro ru sk sl sq sr sv tr "
    "uk vi".split())
NAMED = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
SPACE = "\u00a0\u2009\u202f"
# The digits of one number with what may stand between them; `read_digits` tells what the separators mean.
DIGITS = rf"[0-9]+(?:[.,'’{SPACE}][0-9]+)*"
SPACED = r"[0-9]{1,3}(?: [0-9]{3})+(?![0-9])(?:,[0-9]+)?"
CURRENCY = r"[$€£¥₹₽฿৳₫₺]"
MARKERS = (
    r"####", r"\\boxed\s*\{", r"\banswer(?:\s+is|\s*:)", r"(?m:^[ \t]*A\s*:)", r"\bantwort(?:\s+ist|\s*:)",
    r"\brespuesta(?:\s+final)?(?:\s+es|\s*:)", r"\bréponse(?:\s+finale)?(?:\s+est|\s*:)",
    r"\bответ(?:\s+равен|\s*[:—-])",
    r"答案(?:是|为|為|\s*[:：])", r"答え(?:は|\s*[:：])", r"\bjibu(?:\s+ni|\s*:)", r"উত্তর(?:\s*হল|\s*হলো|\s*[:：])",
    r"సమాధానం\s*[:：]", r"คำตอบ(?:คือ|\s*[:：])",
)


def last_number(text: str, *, language: str = "en") -> Fraction | None:
    """The last number of a text, or None where it has none. language: ISO 639-1, for separators."""
    found = find_numbers(text, language=language)
    return found[-1] if found else None


def answer_number(text: str, *, language: str = "en", markers: Sequence[str] = MARKERS) -> Fraction | None:
    """The number that a worked solution gives as its answer, or None where it has none.

    Behind the last marker ("####", "The answer is", ...) it is the first number of that line, or the first one behind
    the line's last "="; without a marker that a number follows, it is the last number of the text.
    """
    marked = marked_number(text, language=language, markers=markers)
    return last_number(text, language=language) if marked is None else marked


def marked_number(text: str, *, language: str = "en", markers: Sequence[str] = MARKERS) -> Fraction | None:
    """As `answer_number`, and None where no number follows the last marker.

    markers: regular expressions, matched whatever the case.
    """
    ends = [m.end() for marker in markers for m in re.finditer(marker, text, re.IGNORECASE)]
    if not ends:
        return None
    line = text[max(ends):].lstrip(" *:：\n").partition("\n")[0]
    for part in (line.rpartition("=")[2], line):
        found = find_numbers(part, language=language)
        if found:
            return found[0]
    return None


def find_numbers(text: str, *, language: str = "en") -> list[Fraction]:
    """All numbers of a text in order; see the module's docstring. Runs of 100 digits and more are none."""
    comma = language in DECIMAL_COMMA
    digits = f"(?:{SPACED}|{DIGITS})" if comma else DIGITS
    named = f"[{''.join(NAMED)}]"
    pattern = (
        rf"(?P<sign>(?<![0-9A-Za-z).])[-−－]{CURRENCY}?|(?<=[$€£¥₹])[-−])?"
        rf"(?:(?<![0-9/])(?P<over>[0-9]+)/(?P<under>[0-9]+)(?![0-9/])"
        rf"|(?<![0-9/])(?P<whole>[0-9]+) (?P<up>[0-9]+)/(?P<down>[0-9]+)(?![0-9/])"
        rf"|(?P<lead>(?:{digits}{named})+)(?P<rest>{DIGITS})?"
        rf"|(?P<plain>{digits}|(?<![0-9])\.[0-9]+))"
    )
    found = []
    for match in re.finditer(pattern, plain_digits(text)):
        values = _values(match, comma)
        found += [-values[0], *values[1:]] if match["sign"] and values else values
    return found


def _values(match: re.Match, comma: bool) -> list[Fraction]:
    """The numbers of one match, without its sign."""
    if match["over"]:
        under = int(match["under"])
        return [Fraction(int(match["over"]), under)] if under else [Fraction(int(match["over"])), Fraction(0)]
    if match["whole"]:
        whole, up, down = (int(match[k]) for k in ("whole", "up", "down"))
        return [whole + Fraction(up, down)] if up < down else [Fraction(whole), Fraction(up, down or 1)]
    if match["lead"]:
        pieces = re.findall(rf"([^{''.join(NAMED)}]+)([{''.join(NAMED)}])", match["lead"])
        total = sum(read_digits(d, decimal_comma=comma)[-1] * NAMED[n] for d, n in pieces)
        rest = read_digits(match["rest"], decimal_comma=comma)[-1] if match["rest"] else 0
        return [total + rest]
    return read_digits(match["plain"], decimal_comma=comma)


def read_digits(text: str, *, decimal_comma: bool = False) -> list[Fraction]:
    """ASCII digits with separators between them to a number; to several where they are a list or a date.

    Example: "1,234.5" -> [1234.5]; "1,14,200" -> [114200]; "1,2,3" -> [1, 2, 3]; "3,5" -> [3, 5], and [3.5] with
    `decimal_comma`.
    """
    text = re.sub(f"[{SPACE}’ ]", "'", text)  # spaces and apostrophes only ever group
    kinds = [k for k in ".,'" if k in text]
    last = max(kinds, key=text.rfind) if kinds else ""
    whole, fraction = text, ""
    if last and last != "'" and text.count(last) == 1:
        head, _, tail = text.rpartition(last)
        grouping = len(kinds) == 1 and _groups(text, last) and (last == "," or decimal_comma)
        if not grouping and (last == "." or decimal_comma or len(kinds) > 1):
            whole, fraction = head, tail
    separators = [k for k in ".,'" if k in whole]
    if len(separators) > 1 or (separators and not _groups(whole, separators[0])):
        return [Fraction(n) for n in re.findall("[0-9]+", text)]
    number = whole.replace(separators[0], "") if separators else whole
    return [Fraction(f"{number or 0}.{fraction}" if fraction else number)]


def _groups(text: str, separator: str) -> bool:
    """Whether a separator stands between thousands (1,234,567), or as in India (12,34,567)."""
    s = re.escape(separator)
    return bool(re.fullmatch(rf"[1-9][0-9]{{0,2}}(?:{s}[0-9]{{3}})+|[1-9][0-9]?(?:{s}[0-9]{{2}})+{s}[0-9]{{3}}", text))


def plain_digits(text: str) -> str:
    """Digits of any script as ASCII ones, Arabic separators as Latin ones, vulgar fractions spelt out, LaTeX undone.

    Example: "১২½" -> "12 1/2"; r"\\frac{1}{2}" -> "1/2"; "2{,}125" -> "2,125".
    """
    text = re.sub(r"([0-9])?\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}",
                  lambda m: (f"{m[1]} " if m[1] else "") + f"{m[2]}/{m[3]}", text)  # fmt: skip
    text = re.sub(r"\d{100,}", " ", text)  # what a model in a loop writes is no number
    text = re.sub(r"\{([.,])\}|\\[,!;](?=[0-9])", lambda m: m[1] or "", text).replace("\\", "")
    out = []
    for c in text:
        kind = unicodedata.category(c)
        if kind == "Nd":
            out.append(str(unicodedata.decimal(c)))
        elif kind == "No" and "⁄" in unicodedata.normalize("NFKC", c):
            before = " " if out and out[-1][-1].isdigit() else ""
            out.append(before + unicodedata.normalize("NFKC", c).replace("⁄", "/"))
        else:
            out.append({"٫": ".", "٬": ",", "，": ",", "．": ".", "⁄": "/"}.get(c, c))
    return "".join(out)


def show_number(number: Fraction) -> str:
    """For reports: an integer, a decimal where it ends, else a fraction. Example: Fraction(5, 2) -> "2.5"."""
    if number.denominator == 1:
        return str(number.numerator)
    rest = number.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return f"{number.numerator}/{number.denominator}" if rest > 1 else format(float(number), ".10g")
