"""What is asked of a record, and what is known of its answer."""

import pytest

from jitune.construct.improve.problems import is_answered, question, reference
from jitune.data.record import Record

ASK, SAID = {"role": "user", "content": "What is 2 + 3?"}, {"role": "assistant", "content": "2+3=5, so 5"}
MORE = {"role": "user", "content": "And 4 more?"}


@pytest.mark.core
@pytest.mark.parametrize("record, asked, known, answered", [
    (Record("a", (ASK, SAID)), 1, "2+3=5, so 5", True),
    (Record("a", (ASK,), meta={"answer": 5}), 1, "5", False),
    (Record("a", (ASK, SAID), meta={"answer": "6"}), 1, "2+3=5, so 5", True),
    (Record("a", (ASK, SAID, MORE), meta={"answer": 9}), 3, "9", False),  # the answer of an earlier turn is none
    (Record("a", (ASK, SAID, MORE)), 3, "", False),
    (Record("a", (ASK,), chosen=(SAID,)), 1, "2+3=5, so 5", False),
])  # fmt: skip
def test_an_answer_stands_behind_the_question_or_is_known_besides(record, asked, known, answered):
    assert len(question(record)) == asked and reference(record) == known and is_answered(record) == answered


@pytest.mark.core
def test_a_text_and_its_completion():
    record = Record("a", text=(("2 + 3 =", 0.0), (" 5", 1.0)))
    assert question(record) == "2 + 3 =" and reference(record) == " 5" and is_answered(record)
    assert question(Record("a", text=(("2 + 3 = 5", 1.0),))) == ""
