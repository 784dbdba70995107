"""Instances out of texts, and each rule by which one is dropped."""

import pytest

from jitune.construct.distill.instances import instances
from jitune.construct.distill.seeds import Instance

PAIR = "Example 1\nInput: 2, 3\nOutput: 5\n\nExample 2\nNumbers: 1, 1\nOutput: 2"


def reasons(found) -> list[str]:
    return [reason for reason, *_ in found.dropped]


def test_inputs_first():
    found = instances(PAIR, classification=False, cut=False)
    assert found.kept == [Instance("2, 3", "5"), Instance("Numbers: 1, 1", "2")] and not found.dropped
    assert instances("Output: Early to bed.", classification=False, cut=False).kept == [Instance("", "Early to bed.")]
    assert instances("Example 1\nUp early.", classification=False, cut=False).kept == [Instance("", "Up early.")]
    one = instances("Input: a\nOutput: b\nInput: c\nOutput: d", classification=False, cut=False)
    assert one.kept == [Instance("a", "b")]  # without numbers one pair is read


def test_outputs_first():
    text = " Class label: good\nText: Fine.\nReally.\nClass label: bad\nText: No.\nClass label: neither"
    assert instances(text, classification=True, cut=False).kept == [
        Instance("Text: Fine.\nReally.", "good"), Instance("Text: No.", "bad"), Instance("", "neither")]


@pytest.mark.parametrize("classification", [True, False])
def test_a_text_of_something_else_has_no_instance(classification):
    found = instances("I would rather not.", classification=classification, cut=False)
    assert not found.kept and reasons(found) == ["no_instance"]


def test_of_a_text_that_was_cut_the_last_one_goes():
    found = instances(PAIR, classification=False, cut=True)
    assert found.kept == [Instance("2, 3", "5")] and reasons(found) == ["cut"]
    assert instances("Output: Early to", classification=False, cut=True).kept == []


@pytest.mark.parametrize("text, reason", [
    ("Input: same\nOutput: same", "same_as_input"),
    ("Input: a\nOutput:", "empty_output"),
    ("Output:", "empty_output"),
    ("Input: a\nOutput: these are:", "colon"),
    ("Input: as follows:\nOutput: b", "colon"),
])
def test_instances_that_cannot_be_right(text, reason):
    found = instances(text, classification=False, cut=False)
    assert not found.kept and reasons(found) == [reason]


def test_one_input_with_two_outputs_drops_the_whole_task():
    text = "Example 1\nInput: x\nOutput: 1\nExample 2\nInput: y\nOutput: 2\nExample 3\nInput: x\nOutput: 3"
    found = instances(text, classification=False, cut=False)
    assert not found.kept and reasons(found) == ["conflicting"] * 3
    # What was cut or is no instance does not conflict; several outputs without any input do not either.
    assert instances(text, classification=False, cut=True).kept == [Instance("x", "1"), Instance("y", "2")]
    text = "Example 1\nOutput: 1\nExample 2\nOutput: 2\nExample 3\nOutput: 1"
    free = instances(text, classification=False, cut=False)
    assert free.kept == [Instance("", "1"), Instance("", "2")] and reasons(free) == ["repeated"]
