"""Mathematical answers against hand-made tables, properties of writing numbers, and GSM8K's marked solutions."""

import json
import time
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.verify.math import build, parser
from jitune.data.record import Record
from jitune.types import UserError

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")

STYLES = ("plain", "grouped", "full", "latex", "bengali", "money")


def problem(answer) -> Record:
    return Record("r", ({"role": "user", "content": "?"},), meta={"answer": answer})


RIGHT = [
    # Where the answer stands.
    ("18", "3*6 = 18\n#### 18"), ("18", "A: 18"), ("18", "The answer is 18."), ("18", "Total: 3 + 15 = 18"),
    ("18", r"so \boxed{18} in 2 steps"), ("18", r"\boxed{17}, no: \boxed{18}"), ("18", "#### 17\nNo.\n#### 18"),
    ("18", "The answer is clear. 9 + 9 makes 18"), ("18", "The answer is 9 + 9 = 18 eggs, of 20."),
    ("18", r"\boxed{x = 18}"), ("18", "**Answer:** 18"), ("18", "答案是18。"), ("18", "উত্তর: ১৮"),
    ("18", r"$\boxed{18}$"),
    ("The total is 3*6=<<3*6=18>>18\n#### 18", "18"), (18, "18"), (2.5, "2.5"), ("18", "The answer is $18$."),
    ("18", "The answer is 18!"), ("18", "The answer is 18 (eighteen)."), ("18", "It is the 18th."),
    ("18", "The answer is 6 * 3"), ("18", "The answer is 18, a number."), ("18", "She has 18 a day."),
    # Signs.
    ("-5", "−5"), ("-5", "It is -5."), ("-5", "－５"), ("5", "+5"), ("-1/2", r"\boxed{-\frac{1}{2}}"), ("-5", "-$5"),
    ("5", "A 5-minute walk"),
    # Fractions, mixed numbers.
    ("0.5", "1/2"), ("1/2", "½"), ("2.5", "2½"), ("2.5", "2 1/2"), ("5/2", r"2\frac{1}{2}"), ("1/2", r"\frac12"),
    ("1/2", r"\boxed{\dfrac{2}{4}}"), ("3/4", r"\boxed{\frac{\frac{3}{2}}{2}}"), ("7/3", r"\boxed{7 / 3}"),
    ("3", r"\boxed{\frac{1+2}{1}}"), ("12", r"\boxed{3 \times 4}"), ("8", r"\boxed{2^{3}}"), ("2.5", "2 and 1/2"),
    # Thousands and decimals.
    ("1234567", "1,234,567"), ("1234567", r"1{,}234{,}567"), ("1234567", r"1,\!234,\!567"), ("1234567", "1.234.567"),
    ("1234.5", "1.234,5"), ("1234.5", "1,234.5"), ("1234567", "12,34,567"), ("1234567", "1 234 567"),
    ("1234567", "1'234'567"), ("0.5", ".5"), ("18", "18.00"), ("18", "18.0"),
    ("27000", "2万7000"), ("2000000", "2 million"),
    # Scientific.
    ("1500", "1.5e3"), ("1500", r"1.5 \times 10^3"), ("1500", "1.5×10³"), ("0.0015", r"1.5 \cdot 10^{-3}"),
    ("1500", "1.5 x 10^3"),
    # Percent.
    ("25%", "25"), ("25", "25%"), ("25", r"25\%"), ("0.25", "25%"), ("25%", "0.25"), ("25%", "25 percent"),
    ("25", "２５％"),
    # Currencies and units.
    ("18", "$18"), ("18", r"\$18"), ("$18", "18 dollars"), ("$0.50", "50 cents"), ("$18", "$18 every day"),
    ("$18", "18 dollars a day"), ("18", "€18"), ("18", "18 €"), ("18", "Rs. 18"),
    ("1500 m", "1.5 km"), ("90 min", "1.5 hours"),
    ("2 kg", "2000 grams"), ("2 kg", "2"), ("2", "2 kg"), ("2 feet", "24 inches"), ("60 mph", "1 mile per minute"),
    ("36 km/h", "10 m/s"), ("10000 cm^2", "1 square meter"), ("1 L", "1000 cm³"), ("2 years", "24 months"),
    ("90°", r"90^\circ"), ("5 apples", "5 eggs"), ("5", "5 in total"), ("5 cm", r"5\text{ cm}"), ("£5", "5 pounds"),
    # Several.
    ("(1, 2)", r"\boxed{(1, 2)}"), ("(1, 2)", r"\left(1, \frac{4}{2}\right)"), ("{1, 2}", r"\boxed{\{2, 1\}}"),
    ("1, 2", "2 and 1"), ("3-5", "3 to 5"), ("3-5", "3–5"), ("[3, 5]", "The answer is [3, 5]."), ("3-5", "[3, 5]"),
    ("(1,2)", "The answer is (1,2)."),
    # What is no number is compared as it is written.
    (r"2\sqrt{3}", r"\boxed{2 \sqrt{3}}"), ("2√3", r"\boxed{2\sqrt{3}}"), ("x + 1", r"\boxed{x+1}"),
]  # fmt: skip
WRONG = [
    ("18", "17"), ("18", "#### 180"), ("5", "-5"), ("1/2", "0.51"), ("1/3", "0.333"), ("1234", "1.234"),
    ("5 kg", "5 km"), ("1500 m", "1.5 m"), ("$18", "18 cents"), ("$18", "€18"), ("20 °C", "20 °F"),
    ("(1, 2)", r"\boxed{(2, 1)}"), ("(1, 2)", r"\boxed{[1, 2]}"), ("{1, 2}", r"\boxed{\{1, 2, 3\}}"),
    ("25%", "0.25%"), ("18", r"18 + 2 = 20, so \boxed{20}"), ("7", "The answer is 3 * 5"), ("3-5", "3 to 6"),
]  # fmt: skip
UNTOLD = [
    ("18", "I do not know.", "no number"), ("18", "", "no number"), ("18", r"\boxed{3\sqrt{36}}", "cannot be read"),
    ("18", r"\boxed{x + 1}", "cannot be read"), ("5", "The answer is 5-10.", "cannot be read"),
    (r"2\sqrt{3}", r"\boxed{\sqrt{12}}", "the reference"), ("", "18", "no answer to compare"),
    ("5", "The answer is 5x.", "cannot be read"), ("1", "The answer is 1/0.", "cannot be read"),
    ("5", r"\boxed{5 \pm 1}", "cannot be read"), ("5", "The answer is 5 - 10", "cannot be read"),
    ("5", "The answer is 5 x 3", "cannot be read"), ("5", "The answer is $5 + $3", "cannot be read"),
    ("5", "The answer is 5:30 pm", "cannot be read"), ("3.5", r"\boxed{3,5,7}", "cannot be read"),
]


@pytest.mark.parametrize("reference, text", RIGHT)
def test_right(reference, text):
    assert build()(problem(reference), text) == (True, "")


@pytest.mark.parametrize("reference, text", WRONG)
def test_wrong(reference, text):
    said = build()(problem(reference), text)
    assert said.right is False and ", not " in said.detail


@pytest.mark.parametrize("reference, text, why", UNTOLD)
def test_untold(reference, text, why):
    said = build()(problem(reference), text)
    assert said.right is not True and why in said.detail


def test_separators_follow_the_language():
    assert build(language="de")(problem("1234"), "1.234").right is True
    assert build(language="de")(problem("3.5"), "3.5").right is True
    assert build(language="de")(problem(3.5), "Antwort: 3,5 km").right is True


def test_a_tolerance_is_relative_and_off_by_default():
    assert build(tolerance=0.01)(problem("8.33"), "8.333333").right is True
    assert build()(problem("8.33"), "8.333333").right is False
    with pytest.raises(UserError, match="tolerance=2"):
        build(tolerance=2)


def test_the_record_answers_where_meta_says_nothing():
    record = Record("r", ({"role": "user", "content": "?"}, {"role": "assistant", "content": "9*2=18\n#### 18"}))
    assert build()(record, "18") == (True, "")
    assert build()(record, "19") == (False, "19, not 18")


def test_the_parser_gives_one_form_for_one_number():
    parse = parser()
    assert {parse(t) for t in ("#### 18", "$18.00", r"\boxed{\frac{36}{2}}", "18 dollars a day")} == {"18"}
    assert parse("no idea") is None
    assert parse(r"\boxed{x+1}") == parse(r"\boxed{x + 1}")


@settings(max_examples=150, deadline=None)
@given(st.integers(-10**9, 10**9), st.integers(0, 999), st.sampled_from(STYLES))
def test_numbers_come_back_however_they_are_written(whole, thousandths, style):
    number = Fraction(whole) + (Fraction(thousandths, 1000) if whole >= 0 else -Fraction(thousandths, 1000))
    digits = f"{'-' if whole < 0 else ''}{abs(whole)}.{thousandths:03d}"
    grouped = f"{'-' if whole < 0 else ''}{abs(whole):,}.{thousandths:03d}"
    text = {
        "plain": f"#### {digits}",
        "grouped": f"#### {grouped}",
        "full": "#### " + digits.translate(str.maketrans("0123456789-", "０１２３４５６７８９－")),
        "bengali": "#### " + digits.translate(str.maketrans("0123456789", "০১২৩৪৫৬৭৮৯")),
        "money": "#### " + (grouped.replace("-", "-$") if whole < 0 else f"${grouped}"),
        "latex": rf"\boxed{{\frac{{{int(number * 1000)}}}{{1000}}}}",
    }[style]
    assert parser()(f"So {text}") == str(number)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="0123456789.,/ -+*^(){}[]\\$%=#e boxedfrac√", max_size=300))
def test_rubbish_is_a_verdict_and_no_error(text):
    assert build()(problem("18"), text).right in (True, False, None)
    assert build()(problem("(1, 2)"), text).right in (True, False, None)


PIECES = ("1,", "1 ", "(", r"\frac{", "1/", "{", r"\boxed{", "$", "9", "1 1/1 ", "-", "^{", ".", "a", "1-", "=", "ab ")


@pytest.mark.parametrize("piece", PIECES)
def test_a_model_in_a_loop_takes_no_time(piece):
    loop = piece * 20_000
    start = time.process_time()
    for reference in ("18", "(1, 2)", "x"):
        build()(problem(reference), loop)
        build()(problem(reference), rf"\boxed{{{loop[:15_000]}_ 5}}")
        build()(problem(reference), r"\boxed{" * 2_000 + loop[:1000] + "}" * 2_000)
    build()(problem(loop), "18")
    assert time.process_time() - start < 5


def test_gsm8k_marked_solutions(shared):
    """The file's marks and the verdicts: equal but for two texts that were cut off before any answer."""
    path = shared / "data" / "self_improvement" / "gsm8k_example_model_solutions.jsonl"
    verify, counts, other = build(), Counter(), []
    for row in map(json.loads, path.read_text().splitlines()):
        record = Record("r", ({"role": "user", "content": row["question"]},
                              {"role": "assistant", "content": row["ground_truth"]}))  # fmt: skip
        for model in MODELS:
            said, marked = verify(record, row[model]["solution"]), row[model]["is_correct"]
            counts[said.right, marked] += 1
            other += [(row[model]["solution"][-9:], said.detail)] if said.right != marked else []
    assert counts == {(True, True): 2001, (False, False): 3273, (None, False): 2}
    assert other == [("pay 5 * 1", "no number"), ("from both", "no number")]
