"""Letters, labels and choices: what is read, and what is not."""

import math

import pytest

from jitune.evals.metrics import answers
from jitune.evals.task import LogLikelihood
from jitune.types import UserError


@pytest.mark.parametrize(("text", "letter"), [
    ("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), ("**B**", "B"), ("B. Paris, the capital", "B"),
    ("(C) because A is wrong", "C"), ("A) is wrong, so (B)", "A"),
    ("Answer: B", "B"), ("**Answer:** (D)", "D"), ("The answer is A.", "A"), ("the correct answer is option C.", "C"),
    ("I think (B) first, but the answer is (C).", "C"), ("Answer: A\nNo, wait.\nAnswer: B", "B"),
    (r"Answer: \boxed{D}", "D"), ("Option C", "C"), ("I would choose C", "C"), ("A cat is what C shows.", "C"),
    ("答案：B", "B"), ("正确答案是D。", "D"), ("答案是B选项", "B"), ("选C。", "C"), ("答え：C", "C"), ("정답: A", "A"),
    ("[正确答案]B<eoa>", "B"), ("Ответ: B", "B"), ("Respuesta: B", "B"),
])
def test_choice_letter(text, letter):
    assert answers.choice_letter(text, "ABCD") == letter


@pytest.mark.parametrize("text", [
    "", "I do not know.", "A dog sat.", "The answer is a number.", "Both A and B", "Answer: A and B", "答案：A、B",
    "Answers: (A) or (C)", "(A) or (C)", "A. or B.",
    "[正确答案]AB<eoa>", "E", "Answer: E", "It's between B and C.", "The answer is not B.",
])
def test_no_choice_letter(text):
    assert answers.choice_letter(text, "ABCD") is None


@pytest.mark.parametrize(("text", "labels", "label"), [
    ("yes", ("Yes", "No"), "Yes"), ("No, because yes is wrong.", ("Yes", "No"), "No"),
    ("Let me see. Yes or no?\nAnswer: No", ("Yes", "No"), "No"),
    ("It is irrelevant.", ("Relevant", "Irrelevant"), "Irrelevant"),
    ("The kind is limitation of liability.", ("Limitation of liability", "Liability"), "Limitation of liability"),
    ("Common law", ("UCC", "Common Law"), "Common Law"),
    ("是。", ("是", "否"), "是"),
    ("**Answer:** maybe", ("yes", "no", "maybe"), "maybe"),
])
def test_label_in(text, labels, label):
    assert answers.label_in(text, labels) == label


@pytest.mark.parametrize(("text", "labels"), [
    ("", ("Yes", "No")), ("Nothing", ("Yes", "No")), ("Some say yes, some say no.", ("Yes", "No")),
    ("It is not relevant.", ("Relevant", "Irrelevant")),
])
def test_no_label(text, labels):
    assert answers.label_in(text, labels) is None


def test_yes_no_maybe_in_languages():
    assert answers.yes_no_maybe("Ja, sicher.", "de") == "yes"
    assert answers.yes_no_maybe("Sí.", "es") == "yes"
    assert answers.yes_no_maybe("いいえ、違います", "ja") == "no"
    assert answers.yes_no_maybe("Yes.", "ja") == "yes"  # English answers count everywhere
    assert answers.yes_no_maybe("Maybe, maybe not") == "maybe"
    assert answers.yes_no_maybe("¿Quién sabe?", "es") is None


def test_marked_text():
    assert answers.marked_text("So two.\n**Answer:** red, blue.\nDone.") == "red, blue"
    assert answers.marked_text("The answer is 5.") == "5"
    assert answers.marked_text("答案：红色") == "红色"
    assert answers.marked_text("Answer: red,\nblue.") == "red,"
    assert answers.marked_text("Answer: red,\nblue.", to_end=True) == "red,\nblue"
    assert answers.marked_text("Red, blue.") is None and answers.marked_text("Answer:") is None


def likelihoods(*logprobs):
    return [LogLikelihood(value, False, 1) for value in logprobs]


def test_pick_by_hand():
    # -4/2 = -2 a character and -6/6 = -1; "äöü" has 3 characters and 6 bytes
    choice = answers.pick(likelihoods(-4.0, -6.0), ["ab", "abcdef"], 1)
    assert choice.scores == {"acc": 0.0, "acc_norm": 1.0, "acc_bytes": 1.0}
    assert choice.picked == {"acc": 0, "acc_norm": 1, "acc_bytes": 1}
    choice = answers.pick(likelihoods(-3.0, -4.2), ["abc", "äöü"], 1)
    assert choice.scores == {"acc": 0.0, "acc_norm": 0.0, "acc_bytes": 1.0}  # -1 < -0.7


@pytest.mark.parametrize("gold", range(4))
def test_ties_are_at_chance_wherever_the_gold_stands(gold):
    choice = answers.pick(likelihoods(-2.0, -2.0, -2.0, -2.0), list("abcd"), gold)
    assert choice.scores == {"acc": 0.25, "acc_norm": 0.25, "acc_bytes": 0.25}
    assert choice.picked["acc"] is None


def test_a_tie_of_others_is_wrong():
    assert answers.pick(likelihoods(-1.0, -1.0, -2.0), list("abc"), 2).scores["acc"] == 0.0
    assert answers.pick(likelihoods(-1.0, -1.0, -2.0), list("abc"), 0).scores["acc"] == 0.5


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_broken_numbers_are_an_error(value):
    with pytest.raises(UserError, match=r"^item 7: the log-likelihood of choice 2 is (nan|-?inf)"):
        answers.pick(likelihoods(-1.0, value), ["a", "b"], 0, where="item 7")
