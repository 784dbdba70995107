"""What is asked of a record, and what is known of its answer."""

import json

import pytest

from jitune.construct.improve import select
from jitune.construct.improve.problems import is_answered, question, read_problems, reference
from jitune.data.record import Record, own_answer

ASK, SAID = {"role": "user", "content": "What is 2 + 3?"}, {"role": "assistant", "content": "2+3=5, so 5"}
MORE = {"role": "user", "content": "And 4 more?"}


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


def test_a_text_and_its_completion():
    record = Record("a", text=(("2 + 3 =", 0.0), (" 5", 1.0)))
    assert question(record) == "2 + 3 =" and reference(record) == " 5" and is_answered(record)
    assert question(Record("a", text=(("2 + 3 = 5", 1.0),))) == ""


def test_spin_prefers_the_answer_behind_the_question_and_no_other(tmp_path):
    """What an assistant said before, or a result in the meta, is nothing to prefer: it is not asked."""
    earlier = Record("a", (ASK, SAID, MORE), meta={"answer": 9})
    assert own_answer(earlier) == "" and own_answer(Record("a", (ASK, SAID))) == SAID["content"]
    assert own_answer(Record("a", (ASK,), chosen=(SAID,))) == SAID["content"]
    chosen = select.spin([select.Sample(earlier, "It is 7.")])
    assert not chosen.kept and chosen.counts["no_answer"] == 1
    path = tmp_path / "rows.jsonl"
    rows = ([ASK, SAID, MORE], [ASK, SAID], [MORE, SAID | {"content": " "}])
    path.write_text("".join(json.dumps({"id": f"r{i}", "messages": m, "provenance": {},
                                        "meta": {"answer": "9"} if len(m) == 3 else {}}) + "\n"
                            for i, m in enumerate(rows)))  # fmt: skip
    found = read_problems(str(path), option="prompts", answered=own_answer)
    assert [len(p.messages) for p in found.problems] == [2] and found.reasons == {"no_answer": 2}
    assert len(read_problems(str(path), option="prompts", answered=reference).problems) == 2
