"""Arithmetic that a model wrote, worked out exactly and safely. In: a text. Out: a Fraction, or None.

    evaluate("2*(3+4)/4")                          # Fraction(7, 2)
    evaluate("9**9**9"), evaluate("open('x')")     # None, None
    check_equations("He has 2*3=<<2*3=6>>6, then <<6+1=8>>8.")
    # [Equation("2*3=6", True, ""), Equation("6+1=8", False, "6+1 is 7")]

Nothing is evaluated by Python: its parser gives a tree, of which numbers and + - * / // % ** are followed with
Fractions; whatever else there is, or a number that grows too large, is None.
"""

from __future__ import annotations

import ast
import re
import warnings
from fractions import Fraction
from typing import NamedTuple

from jitune.evals.metrics.numbers import show_number

LONGEST = 400  # characters of an expression
BITS = 4096  # of a numerator or denominator
NUMBER = re.compile(r"\s*[+-]?(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,2})?\s*")


class Equation(NamedTuple):
    """A calculator annotation. right: whether it holds. detail: why not."""

    text: str
    right: bool
    detail: str = ""


def check_equations(text: str, *, tolerance: float = 1e-3) -> list[Equation]:
    """The annotations `<<a+b=c>>` of a text in order, each right or wrong.

    As RFT has it (arXiv 2308.01825 and its code): the sides of the first "=" differ by less than `tolerance`; an
    annotation that is no equation of plain numbers is wrong.
    """
    return [_check(found, tolerance) for found in _annotations(text)]


def equation_list(text: str) -> str:
    """The annotations of a text in order without spaces: what tells two paths apart. Example: "2*3=6|6+1=7"."""
    return "|".join(_annotations(text)).replace(" ", "")


def _annotations(text: str) -> list[str]:
    """All that `<<([^>]*)>>` finds; the pattern takes the square of the time on what a model in a loop writes."""
    parts = text.split(">")
    return [part.partition("<<")[2] for part, between in zip(parts, parts[1:-1], strict=False)
            if "<<" in part and not between]


def _check(equation: str, tolerance: float) -> Equation:
    left, *others = equation.split("=")
    if not others:
        return Equation(equation, False, "is no equation")
    found = evaluate(left)
    if found is None:
        return Equation(equation, False, f"{left.strip()[:40]!r} cannot be worked out")
    if not NUMBER.fullmatch(others[0]):
        return Equation(equation, False, f"{others[0].strip()[:40]!r} is no number")
    holds = abs(found - Fraction(others[0])) < Fraction(tolerance)
    return Equation(equation, holds, "" if holds else f"{left.strip()[:80]} is {show(found)}")


def show(value: Fraction) -> str:
    """For people: at most some 40 characters."""
    return show_number(value) if _bits(value) < 128 else f"a number of {_bits(value)} bits"


def evaluate(text: str) -> Fraction | None:
    """The exact value of an arithmetic expression in Python's notation; None where it is none, or has no value."""
    text = text.strip()
    if len(text) > LONGEST or not re.fullmatch(r"[0-9.eE+\-*/%() \t]+", text):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval")
        return _value(tree.body, text)
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr, text: str) -> Fraction:
    """ValueError for whatever is not plain arithmetic, or grows too large."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        written = ast.get_source_segment(text, node)
        if "e" in written.lower() and abs(int(re.split("[eE]", written)[1])) > 300:
            raise ValueError("too large")
        return _bounded(Fraction(written))  # as it is written: 0.1 is a tenth
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        value = _value(node.operand, text)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        return _bounded(_apply(node.op, _value(node.left, text), _value(node.right, text)))
    raise ValueError(f"{type(node).__name__} is no arithmetic")


def _apply(operator: ast.operator, left: Fraction, right: Fraction) -> Fraction:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
        case ast.FloorDiv():
            return Fraction(left // right)
        case ast.Mod():
            return left % right
        case ast.Pow() if right.denominator == 1 and abs(right) * max(_bits(left), 1) <= BITS:
            return left ** int(right)
    raise ValueError("no such operator, or too large")


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _bounded(value: Fraction) -> Fraction:
    if _bits(value) > BITS:
        raise ValueError("too large")
    return value
