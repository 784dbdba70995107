"""Numbers as people and models write them, in many languages."""

from fractions import Fraction

import pytest

from jitune.evals.metrics import numbers

CASES = [
    ("She has 3 boxes of 1,234.5 kg.", "en", "1234.5"),
    ("Das sind 1.234,5 kg.", "de", "1234.5"),
    ("1.234", "en", "1.234"),
    ("1.234", "de", "1234"),
    ("1,234", "en", "1234"),
    ("1,234", "es", "1234"),  # three digits behind one separator are thousands there, whichever it is
    ("0,125", "fr", "0.125"),
    ("3,5", "it", "3.5"),
    ("from 3,5 to 7,1,2", "en", "2"),  # lists
    ("1.234.567,8", "pt", "1234567.8"),
    ("1,234,567.8", "en", "1234567.8"),
    ("276 000 рублей", "ru", "276000"),
    ("276\u202f000 €", "fr", "276000"),
    ("276 000", "en", "0"),
    ("1'234'567", "en", "1234567"),
    ("উত্তর হল ২,৭৬,০০০ টাকা", "bn", "276000"),  # Indian grouping
    ("౧౨౩", "te", "123"),
    ("คำตอบคือ ๑๒.๕ บาท", "th", "12.5"),
    ("１２３個", "ja", "123"),
    ("٣٫٥ و ١٬٢٣٤", "ar", "1234"),
    ("27万6000円", "ja", "276000"),
    ("27.6万美元", "zh", "276000"),
    ("一共 3亿 元", "zh", "300000000"),
    ("It fell to -5 degrees.", "en", "-5"),
    ("It fell to −5.5", "en", "-5.5"),
    ("x = -$1,200", "en", "-1200"),
    ("$-12", "en", "-12"),
    ("20-5", "en", "5"),  # minus, not a sign
    ("pages 3-5", "en", "5"),
    ("3/4 of it", "en", "3/4"),
    ("-3/4", "en", "-3/4"),
    ("2 1/2 cups", "en", "5/2"),
    ("2½ cups", "en", "5/2"),
    (r"\frac{7}{8}", "en", "7/8"), (r"-\frac{7}{8}", "en", "-7/8"),
    (r"$\boxed{2{,}125}$", "en", "2125"),
    ("5/6/2020", "en", "2020"),  # a date
    ("1/0", "en", "0"),
    ("25%", "en", "25"),
    ("25 kg.", "en", "25"),
    (".5", "en", "0.5"),
    ("$1,000.00.", "en", "1000"),
    ("It is 7.", "en", "7"),
]


@pytest.mark.parametrize(("text", "language", "number"), CASES)
def test_last_number(text, language, number):
    assert numbers.last_number(text, language=language) == Fraction(number)


@pytest.mark.parametrize("text", ["", "I do not know.", "nineteen", "十九", "- , . / %", "1" * 10_000])
def test_no_number(text):
    assert numbers.last_number(text) is None and numbers.answer_number(text) is None


@pytest.mark.parametrize(("text", "language", "number"), [
    ("2 + 3 = 5\n#### 5\nI used 2 steps.", "en", 5),
    ("#### 4\n#### 5 of 7", "en", 5),  # the last marker, its first number
    ("The answer is 3 x 5 = $15 per 7 days.\n9", "en", 15),  # behind the line's last "="
    ("Answer: **1,200** of 30", "en", 1200),
    (r"so \boxed{42}. Checked 2 times.", "en", 42),
    ("A: 26\n", "en", 26),
    ("Es sind 3.\nAntwort: 1.200 Euro in 5 Tagen", "de", 1200),
    ("答案：18美元，共3天", "zh", 18),
    ("答え: 18ドル\n2", "ja", 18),
    ("Réponse : 18 (en 3 jours)", "fr", 18),
    ("Ответ: 276 000 за 2 года", "ru", 276000),
    ("উত্তর: ১৮\n২", "bn", 18),
    ("సమాధానం: 18, 3", "te", 18),
    ("คำตอบ: 18 บาท 3 วัน", "th", 18),
    ("Jibu: 18 kwa siku 3", "sw", 18),
    ("Respuesta: 18 en 3", "es", 18),
    ("The answer is unknown; 3 of 8", "en", 3),  # still the marked line
    ("The answer is clear.\nIt is 8", "en", 8),  # nothing marked: the last number
])
def test_answer_number(text, language, number):
    assert numbers.answer_number(text, language=language) == number


@pytest.mark.parametrize(("number", "text"), [
    (Fraction(18), "18"), (Fraction(5, 2), "2.5"), (Fraction(1, 3), "1/3"), (Fraction(-7), "-7"),
])
def test_shown_numbers_are_read_back(number, text):
    assert numbers.show_number(number) == text
    assert numbers.last_number(text) == number
