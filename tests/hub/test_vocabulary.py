"""Vocabularies that are the same, and the first difference of those that are not."""

from types import SimpleNamespace

import pytest

from jitune.hub.vocabulary import check_vocabulary, eos_note, vocabulary_digest
from jitune.types import UserError

pytestmark = pytest.mark.core


def tokens(*words):
    return SimpleNamespace(get_vocab=lambda: {word: i for i, word in enumerate(words)})


def sizes(count):
    return SimpleNamespace(vocab_size=count)


def test_padding_does_not_count():
    assert check_vocabulary(tokens("a", "b"), tokens("a", "b"), sizes(2), sizes(128)) == 2
    assert vocabulary_digest(tokens("a", "b")) == vocabulary_digest(tokens("a", "b")) != vocabulary_digest(
        tokens("b", "a"))  # fmt: skip


@pytest.mark.parametrize("student, teacher, message", [
    (tokens("a", "b"), tokens("a", "c"), "first difference is id 1: 'c' of the teacher, 'b' of the student"),
    (tokens("a", "b"), tokens("a"), "has 1 tokens, the student 2; the first difference is id 1: no token of the"),
    (tokens("a", "b"), tokens("a", "b", "<eos>"), "id 2: '<eos>' of the teacher, no token of the student"),
    (tokens("a"), None, "the teacher has no tokenizer"),
    (None, tokens("a"), "the student has no tokenizer"),
])  # fmt: skip
def test_differences_are_named(student, teacher, message):
    with pytest.raises(UserError, match=message):
        check_vocabulary(student, teacher, sizes(4), sizes(4))


def test_too_few_logits():
    with pytest.raises(UserError, match="the teacher has logits of 1 tokens, its tokenizer has 2"):
        check_vocabulary(tokens("a", "b"), tokens("a", "b"), sizes(2), sizes(1))


def test_ends_of_texts_that_differ_are_a_note():
    plain, chat, none = (SimpleNamespace(eos_token=token, eos_token_id=i)
                         for token, i in (("<end>", 3), ("<turn>", 5), (None, None)))  # fmt: skip
    note = eos_note(plain, chat)
    assert "the teacher ends a text with '<turn>' (id 5), the student with '<end>' (id 3)" in note and "\n" not in note
    assert eos_note(plain, plain) == eos_note(plain, none) == eos_note(none, chat) == ""
