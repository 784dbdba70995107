"""Exact answers, and constraints that a program can check."""

import json
import time

import pytest

from jitune.construct.verify import constraints, exact
from jitune.construct.verify.table import open_parser, open_verifier
from jitune.data.record import Record
from jitune.types import UserError

PARIS = Record("p", meta={"answers": ["Paris", "City of Paris"]})


@pytest.mark.parametrize("record, text, options, right", [
    (PARIS, "paris.", {}, True), (PARIS, " City  of PARIS!", {}, True), (PARIS, "Lyon", {}, False),
    (PARIS, "Ｐａｒｉｓ", {}, True), (PARIS, "Ｐａｒｉｓ", {"nfkc": False}, False),
    (PARIS, "paris", {"casefold": False}, False),
    (PARIS, "Paris.", {"punctuation": False}, False), (PARIS, "the city of Paris", {}, False),
    (PARIS, "the City of Paris", {"articles": "en"}, True), (PARIS, "The answer is: Paris.", {}, False),
    (PARIS, "The answer is Paris.", {"marked": True}, True), (PARIS, "Paris", {"marked": True}, None),
    (PARIS, "A: Lyon\nA: Paris", {"pattern": "A: (.*)"}, True), (PARIS, "A: Paris", {"pattern": "[A-Z]\\w+$"}, True),
    (PARIS, "Paris", {"pattern": "A: (.*)"}, None), (PARIS, "A:", {"pattern": "A:( .*)?"}, None),
    (Record("n", meta={"answer": -5}), "-5", {}, True), (Record("n", meta={"answer": -5}), "5", {}, False),
    (Record("n", meta={"answer": "3.5"}), "35", {}, False), (Record("n", meta={"answer": "3.5"}), "3.5.", {}, True),
    (Record("n", meta={"answer": "?!"}), "!?", {}, False),
    (Record("n", meta={"answer": "Straße"}), "STRASSE", {}, True),
    (Record("n", ({"role": "user", "content": "?"}, {"role": "assistant", "content": "Hm. A: Rome"})), "A: rome",
     {"pattern": "A: (.*)"}, True),
    (Record("n"), "Paris", {}, None),
])  # fmt: skip
def test_exact(record, text, options, right):
    said = exact.build(**options)(record, text)
    assert said.right is right and (said.detail == "") == (right is True)


def test_the_parser_normalises():
    parse = open_parser("exact", pattern="A: (.*)", articles="en")
    assert parse("A: The Cat!") == parse("A: cat") == "cat" and parse("cat") is None


def test_a_pattern_that_takes_for_ever_stops_nothing():
    """(a+)+$ against a's and an end that does not match takes longer than anybody lives."""
    with open_verifier("exact", pattern="(a+)+$", time_limit=1.5) as verify:
        start = time.monotonic()
        said = verify.check_all([(PARIS, "a" * 64 + "!"), (PARIS, "Paris a")])
        assert time.monotonic() - start < 30
    assert said[0] == (None, "no verdict within 1.5 s") and said[1].right is False


@pytest.mark.parametrize("options, why", [
    ({"pattern": "("}, "no regular expression"), ({"pattern": "a", "marked": True}, "give one of them"),
    ({"articles": "xx"}, "articles='xx'"), ({"casfold": True}, "no option 'casfold'"),
])  # fmt: skip
def test_bad_options_of_exact(options, why):
    with pytest.raises(UserError, match="verifier exact") as error:
        open_verifier("exact", **options)
    assert why in str(error.value)


COMMAS = {"instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
          "kwargs": [{}, {"relation": "at least", "num_words": 3, "language": None}]}  # fmt: skip


def test_constraints_are_all_followed_or_named():
    record = Record("c", meta=COMMAS)
    verify = constraints.build()
    assert verify(record, "red green blue") == (True, "")
    assert verify(record, "red, green, blue") == (False, "not followed: punctuation:no_comma")
    assert verify(record, "red, green") == (
        False, "not followed: punctuation:no_comma, length_constraints:number_words")
    loose = constraints.build(loose=True)
    assert verify(record, "Sure, here:\nred green blue").right is False
    assert loose(record, "Sure, here:\nred green blue") == (True, "")
    renamed = Record("c", meta={"instructions": COMMAS["instruction_id_list"], "arguments": COMMAS["kwargs"]})
    assert verify(renamed, "red green blue") == (True, "")
    assert verify(record, " ").right is False


@pytest.mark.parametrize("meta, why", [
    ({}, "no constraints"), ({"instructions": []}, "no constraints"),
    ({"instructions": ["punctuation:no_coma"]}, "nearest are"), ({**COMMAS, "kwargs": [{}]}, "2 constraints need"),
    ({**COMMAS, "kwargs": [{}, {"num_words": "3"}]}, "num_words"),
    ({**COMMAS, "kwargs": [{}, 3]}, "2 constraints need"),
])  # fmt: skip
def test_constraints_that_are_none_are_untold(meta, why):
    said = constraints.build()(Record("c", meta=meta), "red green blue")
    assert said.right is None and why in said.detail


def test_ifeval_answers_of_gpt4(shared):
    """The paper's shares of prompts: 76.89 % strict, 79.30 % loose; one prompt may differ by language detection."""
    folder = shared / "data" / "eval_utility"
    rows = [json.loads(line) for line in (folder / "ifeval_input_data.jsonl").read_text().splitlines()]
    said = [json.loads(line) for line in (folder / "ifeval_gpt4_responses.jsonl").read_text().splitlines()]
    pairs = [(Record(str(row["key"]), meta=row), one["response"]) for row, one in zip(rows, said, strict=True)]
    for loose, share in ((False, 0.7689), (True, 0.7930)):
        with open_verifier("constraints", loose=loose) as verify:
            found = [checked.right for checked in verify.check_all(pairs)]
        assert None not in found and abs(sum(found) / len(found) - share) < 1.5 / 541


def test_what_was_answered_to_an_earlier_question_is_no_reference():
    turns = (("user", "The capital of Peru?"), ("assistant", "Lima"), ("user", "And of Chile?"))
    record = Record("c", tuple({"role": role, "content": text} for role, text in turns))
    assert exact.build()(record, "Lima") == (None, "the record has no answer to compare with")
