"""Answers as `jitune generate` writes them to conversations."""

import json

import pytest

from jitune.evals.judge.answers import read_answers
from jitune.types import UserError


def test_the_question_of_a_conversation_is_the_users_last_word(tmp_path):
    rows = [{"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "2 + 2?"}],
             "text": "4"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [(a.question, a.text) for a in read_answers(tmp_path / "a.jsonl")] == [("2 + 2?", "4")]
    (tmp_path / "b.jsonl").write_text(json.dumps({"messages": [], "text": "4"}) + "\n")
    with pytest.raises(UserError, match="b.jsonl:1"):
        read_answers(tmp_path / "b.jsonl")
