"""LawBench: what is read between the marks, and without them."""

import json

import pytest

from jitune.evals.task import Generated
from jitune.evals.tasks import lawbench
from jitune.types import UserError


@pytest.mark.parametrize(("text", "letter"), [
    ("[正确答案]B<eoa>", "B"), ("[正确答案] B <eoa>", "B"), ("[正确答案]AB<eoa>", "AB"), ("[正确答案]A、C<eoa>", "AC"),
    ("A错误，故[正确答案]D<eoa>", "D"), ("正确答案：C。", "C"), ("答案是B选项", "B"), ("C", "C"), ("我不知道", None),
])
def test_read_choice(text, letter):
    assert lawbench.read_choice(text) == letter


@pytest.mark.parametrize(("text", "articles"), [
    ("法条:刑法第264条", {264}), ("法条:刑法第266、385、383、386条", {266, 383, 385, 386}),
    ("[法条]刑法第128条、刑法第341条<eoa>，不是第5条", {128, 341}),
    ("《刑法》第二百六十四条、第六十七条第一款", {264, 67}),
    ("刑法第一百三十三条之一", {133}), ("第十条", {10}), ("第一百零三条和第二三四条", {103, 234}),
    ("第1条及第２条", {1, 2}), ("[法条]234、275<eoa>", {234, 275}), ("266", {266}), ("盗窃罪", set()),
])
def test_article_numbers(text, articles):
    assert lawbench.article_numbers(text) == articles


@pytest.mark.parametrize(("text", "number"), [
    ("二百六十四", 264), ("十", 10), ("十五", 15), ("二十", 20), ("一百零三", 103), ("一千零八十", 1080), ("两百", 200),
    ("二六四", 264), ("264", 264), ("２６４", 264),
])
def test_read_numeral(text, number):
    assert lawbench.read_numeral(text) == number


def test_scores(tmp_path):
    for name, answer in (("1-2.json", "正确答案：B。"), ("3-1.json", "法条:刑法第234、275条")):
        (tmp_path / name).write_text(json.dumps([{"instruction": "i", "question": "q", "answer": answer}]))
    choice, articles = lawbench.load([str(tmp_path / "1-2.json"), str(tmp_path / "3-1.json")])

    def value(document, text):
        return lawbench.score(document, (Generated(text, "stop", 1),), ()).scores["score"]

    assert [value(choice, t) for t in ("[正确答案]B<eoa>", "[正确答案]AB<eoa>", "无")] == [1.0, 0.0, None]
    # two named, one right, one missing: 2 * 1 / (2 + 2)
    for text, expected in (("B对", None), ("答案：B。因为", 1.0), ("[正确答案]B", 1.0)):
        outcome = lawbench.score(choice, (Generated(text, "length", 512),), ())
        assert outcome.scores["score"] == expected
    assert [value(articles, t) for t in ("第234条、第1条", "第275、234条", "第2条", "无")] == [0.5, 1.0, 0.0, None]


def test_what_is_refused(tmp_path):
    (tmp_path / "1-2.json").write_text(json.dumps([{"instruction": "i", "question": "q", "answer": "?"}]))
    (tmp_path / "2-1.json").write_text("[]")
    for name, message in (("1-2.json", r"1-2.json:1: answer is '\?'; a letter"), ("2-1.json", "must end in one of")):
        with pytest.raises(UserError, match=message):
            lawbench.load([str(tmp_path / name)])
