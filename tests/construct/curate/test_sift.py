"""Stages over streams without files."""

import pytest

from jitune.construct.curate import ids
from jitune.construct.curate.sift import kept, sift
from jitune.construct.curate.stage import Choice, Filter, Keep, Reject
from jitune.data.record import Provenance, Record
from jitune.types import UserError
from tests.construct.curate import toy_stages as toys


def record(id, text, question="Q en"):
    return Record(id, ({"role": "user", "content": question}, {"role": "assistant", "content": text}),
                  provenance=Provenance("made.jsonl:1"))


def test_a_record_comes_out_once_with_its_reason_and_as_it_was_then():
    records = [record("a", "one two"), record("b", "one"), record("c", "one two"), record("d", "a secret here"),
               record("e", "un deux", "Q fr"), record("f", "a much longer answer")]
    found = list(sift(records, [toys.words(), toys.tongue(), toys.redact(), toys.same(), toys.longest(keep=1)]))
    # Rejections before a choice come first, then those that it has seen, in their order.
    assert [(one.record.id, one.stage, one.reject and one.reject.reason) for one in found] == [
        ("b", "words", "too_short"), ("c", "same", "duplicate"), ("e", "tongue", "wrong_language"),
        ("a", "longest", "not_long"), ("d", "longest", "not_long"), ("f", "", None)]
    by_id = {one.record.id: one.record for one in found}
    assert by_id["e"].meta == {"language": "fr"} and by_id["b"].meta == {}  # what a rejecting stage noted stays
    assert by_id["d"].messages[1]["content"] == "a [...] here" and by_id["d"].provenance.steps == ("redact",)
    assert by_id["f"].scores == {"length": 20.0} and found[3].reject.detail == "rank 3"
    assert list(kept(records, [toys.words(at_least=4)])) == [records[5]]


def test_streams_are_not_held():
    """A filter sees a record before the next one is asked for; only a choice waits for all."""
    seen = []

    def stream():
        for i in range(3):
            seen.append(i)
            yield record(str(i), "one two")

    first = next(sift(stream(), [toys.words(), toys.same()]))
    assert first.record.id == "0" and seen == [0]
    next(sift(stream(), [toys.longest()]))
    assert seen == [0, 0, 1, 2]


@pytest.mark.parametrize(("stage", "message"), [
    (toys.fails(), "made.jsonl:1: record a: the stage fails failed: ZeroDivisionError: division by zero"),
    (toys.fails(how="none"), r"gave NoneType, not Keep\(record\) or Reject\(reason\)"),
    (Filter("plain", lambda r: True), "the stage plain gave bool"),
    (Choice("wide", 2, lambda rs: [[1.0]] * len(rs), None), r"measured \[1, 1\] of 1 records; \[1, 2\] was said"),
    (Choice("few", 0, None, lambda heads, _: []), "chose among 1 records and gave 0 verdicts"),
])
def test_a_stage_that_breaks_its_word(stage, message):
    with pytest.raises(UserError, match=message):
        list(sift([record("a", "boom")], [stage]))


def test_ids():
    stage, one, other = ids.build(), record("a", "one"), record("a", "two")
    memory = stage.memory()
    assert memory.admit(stage.key(one), "a") is None and memory.admit(stage.key(one), "a") is None
    assert memory.admit(stage.key(other), "a").reason == "duplicate_id"
    again = stage.memory()
    again.restore(stage.key(one), "a")
    assert again.admit(stage.key(other), "a").reason == "duplicate_id"
    assert len(stage.key(one)) == len(stage.key(other)) == 24
    assert isinstance(Keep(one).record, Record) and Reject("x").record is None
