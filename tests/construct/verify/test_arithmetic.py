"""Arithmetic: hand-made values, Python's own on random expressions, and whatever must not run."""

import math
import re
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.verify.arithmetic import check_equations, equation_list, evaluate, show


@pytest.mark.parametrize("text, value", [
    ("2+3*4", 14), ("(2+3)*4", 20), ("7/2", Fraction(7, 2)), ("7//2", 3), ("7%4", 3), ("2**10", 1024),
    ("-3**2", -9), ("0.1+0.2", Fraction(3, 10)), (".5*4", 2), ("1e-3", Fraction(1, 1000)), ("5.", 5),
    ("2**-1", Fraction(1, 2)),    (" 1 + 1 ", 2), ("--2", 2),
])  # fmt: skip
def test_values_are_exact(text, value):
    assert evaluate(text) == value


@pytest.mark.parametrize("text", [
    "", "x", "1 2", "1+", "(1", "1/0", "0**-1", "2**0.5", "9**9**9", "2**99999999", "10**300*10**999", "1e999999",
    "05+1", "__import__('os')", "open('x')", "1if 1else 2", "[1]", "1<2", "1,000", "a"*500, "("*300 + "1" + ")"*300,
    "1j", "1_0", "9"*401, "1e5.real", "(1).__class__", "0x10", "e", "1e", "1e0.5",
])  # fmt: skip
def test_anything_else_has_no_value(text):
    start = time.process_time()
    assert evaluate(text) is None
    assert time.process_time() - start < 0.2


EXPRESSIONS = st.recursive(
    st.integers(0, 999).map(str) | st.decimals(0, 99, places=2).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]}{t[1]}{t[2]})"), max_leaves=8)


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS)
def test_values_are_those_of_floating_point(text):
    try:
        floating = eval(text, {"__builtins__": {}})  # what the lines above wrote
    except ZeroDivisionError:
        floating = None
    exact = evaluate(text)
    if exact is None:
        # What is zero exactly may be almost zero in floating point, and is divided by.
        assert floating is None or "/" in text
    elif floating is not None:
        assert math.isclose(exact, floating, rel_tol=1e-6, abs_tol=1e-6)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789.e+-*/%() =<>x", max_size=60))
def test_rubbish_is_judged_quickly(text):
    evaluate(text)
    for equation in check_equations(f"<<{text}>>"):
        assert equation.right in (True, False) and bool(equation.detail) != equation.right


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="1+=<> ", max_size=30))
def test_annotations_are_those_of_the_pattern(text):
    assert [e.text for e in check_equations(text)] == re.findall(r"<<([^>]*)>>", text)


@pytest.mark.parametrize("piece", ["<<", "<<1+1=2>", ">>", "<", "<<1+1=2>> "])
def test_a_model_in_a_loop_takes_no_time(piece):
    start = time.process_time()
    check_equations(piece * 20_000)
    assert time.process_time() - start < 5


def test_equations():
    text = "He has 2*3=<<2*3=6>>6, and 7 <<6+1=8>>. <<x+1=3>> <<5>> <<10/3=3.33>> <<10/3=3.3333>> <<4=2=4>> <<1=a>>"
    assert [(e.text, e.right, e.detail) for e in check_equations(text)] == [
        ("2*3=6", True, ""), ("6+1=8", False, "6+1 is 7"), ("x+1=3", False, "'x+1' cannot be worked out"),
        ("5", False, "is no equation"), ("10/3=3.33", False, "10/3 is 10/3"), ("10/3=3.3333", True, ""),
        ("4=2=4", False, "4 is 4"), ("1=a", False, "'a' is no number"),
    ]  # fmt: skip
    assert check_equations("no annotations: 2+2=5") == []
    assert [e.right for e in check_equations("<<10/3=3.33>>", tolerance=0.01)] == [True]
    assert equation_list("<<2 * 3=6>> and <<6+1=7>>") == "2*3=6|6+1=7"


def test_large_numbers_are_shown_short():
    assert show(Fraction(5, 2)) == "2.5" and show(Fraction(10) ** 1000) == "a number of 3322 bits"
    [equation] = check_equations("<<2**2000+0.5=1>>")
    assert equation.detail == "2**2000+0.5 is a number of 2002 bits"
