"""What pages show of models' texts: nothing unseen, nothing too long, nothing that is not there."""

import json
import re
from html import unescape

import pytest
from markupsafe import escape

from jitune.evals.pages import shown

pytestmark = pytest.mark.core


def test_what_cannot_be_seen_is_written_out():
    given = {"a\x00": ["\u202ebad\u2066", "\ud800", "tab\tnew\nline\r\nend\r", None, 1.5, float("nan")]}
    assert shown.clean(given) == {
        "a\\u0000": ["\\u202ebad\\u2066", "\\ud800", "tab\tnew\nline\nend\\u000d", None, 1.5, None]}
    json.dumps(shown.clean(given), ensure_ascii=False).encode()  # no surrogate is left
    assert shown.clean("xyz", most=2) == "xy…" and shown.clean("שלום 你好 👩‍👩‍👧") == "שלום 你好 👩‍👩‍👧"


@pytest.mark.parametrize("text", ["a" * 5000, "<&>" * 5000, "年" * 5000, "a b " * 3000, "👩" * 2000])
def test_long_texts_take_no_more_than_their_bytes_and_say_what_is_left_out(text):
    block = shown.long_text(text, where="samples/x.jsonl", shown=700, folded=1500)
    assert 1500 < len(block.encode()) < 700 + 1500 + 300
    kept = "".join(unescape(part) for part in re.findall(r'<p class="text">(.*?)</p>', block)).replace("…", "")
    assert text.startswith(kept)
    assert f">{len(text) - len(kept):,} more characters in samples/x.jsonl.<" in block


def test_texts_that_fit_are_whole():
    assert shown.long_text("a\nb") == '<p class="text">a\nb</p>' and shown.long_text(None) == ""
    assert shown.long_text({"a": 1}) == f'<p class="text">{escape(json.dumps({"a": 1}))}</p>'
    block = shown.long_text("word " * 200, shown=700)
    start, rest = re.findall(r'<p class="text">(.*?)</p>', block)
    assert start == "word " * 140 + "…" and rest == "word " * 60 and "<summary>300 more characters</summary>" in block


def test_numbers_have_their_unit():
    assert shown.figure(0.4321, "share").striptags() == "43.2%" and shown.figure(0.4321, "").striptags() == "0.4321"
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 90, "unscored": 10}
    assert shown.between(estimate, "share").striptags().split() == ["40.0%", "–", "60.0%"]
    assert shown.between({"low": -0.01, "high": 0.032}, "share", change=True).striptags().split() == [
        "-1.0", "to", "+3.2"]
    assert shown.between({"low": None, "high": 1.0}, "") == "–"
    assert shown.missing(estimate).striptags().split() == ["10", "(10.0%)"] and shown.missing({"n": 3}) == 0
    assert shown.doubtful(estimate) and not shown.doubtful({"n": 95, "unscored": 5}) and not shown.doubtful({})
    assert shown.signed(0.0213, "share").striptags().split() == ["+2.1", "points"]
    assert shown.signed(-0.00001, "share").striptags().split() == ["+0.0", "points"]
    assert shown.signed(None, "share").striptags() == "–" and shown.signed(-1.2345, "").striptags() == "-1.23"
    assert [shown.said_p(p).striptags() for p in (None, 0.0004, 0.0312)] == ["–", "<0.001", "0.031"]
