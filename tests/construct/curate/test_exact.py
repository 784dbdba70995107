"""Exact duplicates: what counts as the same, and the properties of the memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.curate.exact import build
from jitune.data.record import Record
from jitune.types import UserError


def record(prompt, answer="Yes.", id="a", **fields):
    messages = ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})
    return Record(id, messages, **fields)


def kept(sieve, records):
    memory = sieve.memory()
    return [r for r in records if memory.admit(sieve.key(r), r.id) is None]


@pytest.mark.parametrize("of, same", [
    ("conversation", (False, False, True)), ("prompt", (True, False, True)), ("answer", (False, True, True)),
    ("both", (False, False, True)),
])  # fmt: skip
def test_what_must_be_the_same(of, same):
    key = build(of=of).key
    first = key(record("Is it so?", "Yes."))
    others = (record("Is it so?", "No."), record("Is it not?", "Yes."), record("IS  it\nso?", "yes. "))
    assert tuple(key(other) == first for other in others) == same


def test_case_and_spaces_can_matter():
    key = build(fold_case=False, fold_space=False).key
    assert key(record("A b")) == key(record("A b"))
    assert key(record("A b")) != key(record("a b"))
    assert key(record("A b")) != key(record("A  b"))
    assert key(record("e\u0301")) == key(record("é"))


def test_a_conversation_is_more_than_its_texts():
    key = build().key
    assert key(record("Q", label=True)) != key(record("Q", label=False))
    assert key(record("Q", chosen=({"role": "assistant", "content": "x"},))) != key(record("Q"))
    turned = Record("a", tuple({**m, "role": "user"} for m in record("Q").messages))
    assert key(turned) != key(record("Q"))


def test_a_rejection_names_the_first():
    sieve = build(of="both")
    memory = sieve.memory()
    assert memory.admit(sieve.key(record("Q")), "a") is None
    for id in ("b", "a"):  # a record whose id is that of the first is a duplicate all the same
        reject = memory.admit(sieve.key(record("Q")), id)
        assert (reject.reason, reject.detail) == ("duplicate", "same prompt and answer as a")


def test_a_record_without_the_text_passes():
    assert build(of="answer").key(Record("a", ({"role": "user", "content": "Q"},))) is None
    assert len(build().key(Record("a", ({"role": "user", "content": "Q"},)))) == 16


def test_an_unknown_part():
    with pytest.raises(UserError, match="of = 'all' is not known; there are conversation, both, prompt, answer"):
        build(of="all")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from("aAéb 北\n"), max_size=4), max_size=12))
def test_idempotent_and_restored(texts):
    sieve = build()
    records = [record(text, id=str(i)) for i, text in enumerate(texts)]
    once = kept(sieve, records)
    assert kept(sieve, once) == once
    assert {sieve.key(r) for r in once} == {sieve.key(r) for r in records}
    # A memory that is restored says of every record what one that went through them says.
    through, restored = sieve.memory(), sieve.memory()
    for r in records:
        through.admit(sieve.key(r), r.id)
    for r in once:
        restored.restore(sieve.key(r), r.id)
    for r in [*records, record("something else", id="z")]:
        assert through.admit(sieve.key(r), r.id) == restored.admit(sieve.key(r), r.id)
