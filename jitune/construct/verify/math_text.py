"""Mathematical notation to plain characters, and the place where a solution states its answer.

    plain(r"\\frac{1}{2}\\text{ km} \\times 10^{3}")    # "1/2 km * 10^3"
    stated("... so \\\\boxed{42}.")                      # ("42", True)
    stated("2+3=5. The answer is 5 apples.")            # ("5 apples.", False)
"""

from __future__ import annotations

import re

from jitune.evals.metrics.numbers import MARKERS, plain_digits

LONGEST = 20_000  # characters from the end of a text in which its answer is looked for
MARKER = re.compile("|".join(m for m in MARKERS if "boxed" not in m), re.IGNORECASE)
MINUS = str.maketrans(dict.fromkeys("−－﹣‐‑–—", "-"))
SIGNS = str.maketrans("×·⋅∙÷＄％٪＋（）［］｛｝＝￥／∕，、\u00a0\u2009\u202f", "****/$%%+()[]{}=¥//,,   ")
SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
BRACED = r"\{([^{}]*)\}"
LATEX = (
    (r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox|operatorname|rm)\s*\{([^{}]*)\}", r"\1"),
    (r"\\(?:left|right|big|Big|bigl|bigr|displaystyle|limits)(?![a-zA-Z])", ""),
    (r"(?<=[0-9}])\s*,\\!\s*(?=[0-9])|\{,\}", ","), (r"\{\.\}", "."), (r"\\!", ""), (r"\\[,;: ]|~|\\quad|\\qquad", " "),
    (r"\\(?:times|cdot|ast)(?![a-zA-Z])", "*"), (r"\\div(?![a-zA-Z])", "/"), (r"\\pm(?![a-zA-Z])", "±"),
    (r"\\(?:dollar|textdollar)(?![a-zA-Z])", "$"), (r"\\(?:percent)(?![a-zA-Z])", "%"),
    (r"\^\s*(?:\{\s*)?\\circ\s*\}?", "°"), (r"\\(?:degree|textdegree)(?![a-zA-Z])", "°"),
    (r"\\(?:lbrace|\{)", "{"), (r"\\(?:rbrace|\})", "}"),
    (r"\\sqrt\s*\{(\w+)\}", r"√\1"), (r"\\sqrt(?![a-zA-Z])", "√"),
    (r"\\pi(?![a-zA-Z])", "π"), (r"\\infty(?![a-zA-Z])", "∞"),
)
FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|([0-9]))\s*(?:\{([^{}]*)\}|([0-9]))")


def plain(text: str) -> str:
    """The text with ASCII digits, operators and signs, without LaTeX; what has no plain form keeps its backslash."""
    text = text.translate(MINUS)
    text = text.replace(r"\$", "＄").replace("$$", "")  # a $ that is escaped is money; two are a formula's
    text = re.sub(r"\$([^$\n]+)\$(?![0-9])", r"\1", text)
    text = re.sub(r"\\([%#&_])", r"\1", re.sub(r"\\[()\[\]]", "", text))
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda m: "^" + m[0].translate(SUPER), text)
    for pattern, new in LATEX:
        text = re.sub(pattern, new, text)
    for _ in range(4):  # from within
        text, count = FRACTION.subn(_fraction, text)
        if not count:
            break
    text = re.sub(rf"\^{BRACED}", lambda m: "^" + m[1].strip(), text)
    return _digits(text).translate(SIGNS)


def _fraction(match: re.Match) -> str:
    """a/b; in brackets what is more than a number, and behind a number as its fraction."""
    over, under = ((match[i] if match[i] is not None else match[i + 1]).strip() for i in (1, 3))
    parts = [p if re.fullmatch(r"\d+(?:\.\d+)?", p) else f"({p})" for p in (over, under)]
    before = " " if match.start() and match.string[match.start() - 1].isdigit() else ""
    return f"{before}{parts[0]}/{parts[1]}"


def _digits(text: str) -> str:
    """As `plain_digits`, which would take every backslash away."""
    return "\\".join(map(plain_digits, text.split("\\")))


def stated(text: str) -> tuple[str, bool] | None:
    """What a solution states as its answer, and whether that is all of it (in a box) or goes on as prose may.

    The last \\boxed{...}; else the rest of the line behind the last marker ("####", "The answer is", "A:"), where
    something stands there; else None.
    """
    text = text[-LONGEST:]
    boxed = _last_box(text)
    if boxed is not None:
        return boxed, True
    ends = [match.end() for match in MARKER.finditer(text)]
    for end in reversed(ends):
        line = text[end:].lstrip(" *_:：\n").partition("\n")[0]
        if line.strip():
            return line, False
    return None


def _last_box(text: str) -> str | None:
    """What stands in the last box that is closed, braces within it matched."""
    closes, opened = {}, []
    for match in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        if match[0] == "{":
            opened.append(match.end())
        elif match[0] == "}" and opened:
            closes[opened.pop()] = match.start()
    found = None
    for match in re.finditer(r"\\f?boxed\s*(?:\{|\s([^\s{}$\\]+))", text):
        if match[1]:
            found = match[1]
        elif match.end() in closes:
            found = text[match.end():closes[match.end()]]
    return found
