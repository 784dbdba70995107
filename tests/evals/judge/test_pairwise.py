"""Two games a question, by scripted judges whose result is known; the win rate at equal length."""

import json
import math
import random

import numpy as np
import pytest

from jitune.evals.judge import length, pairwise, validate
from jitune.evals.judge.answers import Answer, Pair, match, read_answers
from jitune.evals.judge.judge import open_judge
from jitune.evals.task import Verdict
from jitune.types import UserError
from tests.evals.judge.fake import serve


class Scripted:
    """A judge that says what a function of (first answer, second answer) says."""

    def __init__(self, decide):
        self.decide, self.asked = decide, 0

    def answer(self, asks, on_done=None):
        self.asked += len(asks)
        found = [self.decide(*sides(ask.messages[1][1])) for ask in asks]
        return [v if isinstance(v, Verdict) else Verdict(v) for v in found]


def sides(body):
    """The two answers of a comparison, as they stand between their marks."""
    mark = body.split(">", 1)[0].split()[-1]
    return [body.split(f"<answer {x} {mark}>\n")[1].split(f"\n</answer {x} {mark}>")[0] for x in "AB"]


def longer(first, second):
    return "[[A]]" if len(first) > len(second) else "[[B]]" if len(second) > len(first) else "[[C]]"


def made(*texts):
    return [Pair(str(i), f"question {i}", "", a, b) for i, (a, b) in enumerate(texts)]


def test_wins_ties_and_losses_by_hand():
    judge = Scripted(longer)
    summary = pairwise.summarize(pairwise.play(made(("aaa", "b"), ("aa", "b"), ("a", "bb"), ("a", "b")), judge))
    assert (summary["wins"], summary["ties"], summary["losses"], judge.asked) == (2, 1, 1, 8)
    assert summary["win_rate"]["value"] == 0.625 and summary["unscored"] == 0
    assert summary["position_bias"] == {"n": 4, "disagreement": 0, "first": 0, "second": 0}
    assert summary["length"] == {"a": 7 / 4, "b": 5 / 4}


@pytest.mark.parametrize(("says", "side"), [("[[A]]", "first"), ("[[B]]", "second")])
def test_a_judge_that_goes_by_position_gives_ties_only_and_is_found_out(says, side):
    games = pairwise.play(made(("aaa", "b"), ("aa", "b"), ("a", "bb")), Scripted(lambda *_: says))
    summary = pairwise.summarize(games)
    assert (summary["ties"], summary["win_rate"]["value"]) == (3, 0.5)
    assert summary["win_rate"]["low"] is None and "nothing but ties" in summary["win_rate"]["note"]
    bias = summary["position_bias"]
    assert bias["disagreement"] == bias[side] == 1 and bias["first"] + bias["second"] == 1


def test_a_verdict_and_a_tie_is_a_tie_but_not_for_a_position():
    games = pairwise.play(made(("aaa", "b")), Scripted(lambda a, b: "[[A]]" if a == "aaa" else "[[C]]"))
    assert games[0].score == 0.5 and games[0].winners == ("a", "tie")
    assert pairwise.position_bias(games) == {"n": 1, "disagreement": 1, "first": 0, "second": 0}


def test_failures_are_in_no_mean():
    def decide(first, second):
        if "x" in first:
            return Verdict(None, "endpoint: HTTP 500")
        return "I cannot decide." if "y" in first else longer(first, second)

    games = pairwise.play(made(("aaa", "b"), ("x", "bb"), ("a", "yyy")), Scripted(decide))
    summary = pairwise.summarize(games)
    assert [g.score for g in games] == [1, None, None]
    assert summary["win_rate"]["value"] == 1 and summary["win_rate"]["n"] == 1
    assert summary["unscored"] == 2 and summary["failures"] == {"endpoint": 1, "judge": 1}
    assert pairwise.line(games[1])["games"][0] == {"first": "a", "winner": None, "text": None,
                                                   "failure": "endpoint: HTTP 500"}


def test_the_same_text_twice_is_a_tie_without_a_game():
    judge = Scripted(lambda *_: "[[A]]")
    summary = pairwise.summarize(pairwise.play(made(("same", "same"), ("aa", "b")), judge))
    assert judge.asked == 2 and summary["identical"] == 1 and summary["ties"] == 2
    assert summary["position_bias"]["n"] == 1
    nothing = pairwise.summarize([])
    assert nothing["win_rate"]["value"] is None and nothing["length_controlled"]["value"] is None


def test_swapping_the_models_gives_one_minus_the_rate():
    rng = random.Random(0)
    pairs = [Pair(str(i), "q", "", "a" * rng.randint(1, 60), "b" * rng.randint(1, 40)) for i in range(60)]
    swapped = [p._replace(a=p.b, b=p.a) for p in pairs]
    one, other = (pairwise.summarize(pairwise.play(x, Scripted(noisy))) for x in (pairs, swapped))
    for name in ("win_rate", "length_controlled"):
        assert one[name]["value"] == pytest.approx(1 - other[name]["value"], abs=1e-6)
        assert one[name]["low"] == pytest.approx(1 - other[name]["high"], abs=1e-6)
    assert 0.5 < one["win_rate"]["value"] < 1


def noisy(first, second):
    """Prefers the longer one, but not always; the same in both orders."""
    x = random.Random("".join(sorted((first, second)))).gauss(0, 20)
    a, b = sorted((first, second))
    better = a if len(a) - len(b) + x > 0 else b
    return "[[A]]" if better == first else "[[B]]"


def test_equal_lengths_give_the_raw_rate():
    y = [1, 1, 0.5, 0, 1, 0.5, 0]
    found = length.controlled(y, [10] * 7, [10] * 7)
    assert found["value"] == pytest.approx(np.mean(y), abs=1e-9) and found["phi"] == pytest.approx(0, abs=1e-9)
    # Without lengths the sandwich is the standard error of a mean, taken through the logistic function.
    p, se = np.mean(y), np.std(y, ddof=1) / math.sqrt(7)
    from scipy import stats

    half = stats.t.ppf(0.975, 6) * se / (p * (1 - p))
    assert found["low"] == pytest.approx(1 / (1 + math.exp(half - math.log(p / (1 - p)))), abs=1e-9)


def test_the_fit_is_the_best_of_a_fine_grid():
    rng = np.random.default_rng(0)
    x = np.tanh(rng.normal(size=50))
    y = rng.choice([0, 0.5, 1], size=50)

    def loss(theta, phi):
        z = theta + phi * x
        return np.sum(np.log1p(np.exp(z)) - y * z) + phi**2 / 2

    theta, phi = length.fit(y, x)
    grid = [(loss(a, b), a, b) for a in theta + np.linspace(-.1, .1, 41) for b in phi + np.linspace(-.1, .1, 41)]
    best = min(grid)
    assert best[1:] == pytest.approx((theta, phi), abs=1e-9)


def test_a_known_preference_for_length_is_taken_out():
    rng = np.random.default_rng(1)
    a, b = rng.integers(200, 1200, size=(2, 20_000))
    a += 300  # a talks more, and is better by nothing else
    d = a - b
    p = 1 / (1 + np.exp(-1.5 * np.tanh(d / d.std())))
    y = (rng.random(20_000) < p).astype(float)
    found = length.controlled(y, a, b)
    assert y.mean() > 0.6 and found["low"] < 0.5 < found["high"] and found["high"] - found["low"] < 0.03
    assert found["phi"] == pytest.approx(1.5, abs=0.1)


def test_what_cannot_be_told_of_lengths_is_said():
    assert length.controlled([1, 1], [5, 9], [1, 2]) | {"note": ""} == {
        "value": 1.0, "low": None, "high": None, "theta": None, "phi": None, "n": 2, "note": ""}
    found = length.controlled([1, 0], [5, 6], [1, 2])
    assert found["value"] is None and "differ in length by 4" in found["note"]


def test_answers_of_files_meet_by_id_or_by_question(tmp_path):
    def file(name, *rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_answers(path)

    a = file("a.jsonl", {"instruction": "Q1", "output": "x"}, {"instruction": "Q2", "input": "I", "output": "y"})
    b = file("b.jsonl", {"prompt": "Q2\n\nI", "text": "z", "reference": "R"}, {"prompt": "Q3", "text": "w"})
    assert match(a, b) == ([Pair("Q2\n\nI", "Q2\n\nI", "R", "y", "z")], {"only_a": 1, "only_b": 1})
    sample = {"id": "t-1", "document": "d1", "prompt_hash": "p", "prompt": "<|user|>Q", "scores": {}, "cluster": "c",
              "responses": [{"text": "one"}], "details": {"question": "Q", "reference": "R"}}
    c = file("c.jsonl", sample)
    d = file("d.jsonl", sample | {"prompt": "[INST] Q", "responses": [{"text": "two"}]})
    assert match(c, d)[0] == [Pair("t-1", "Q", "R", "one", "two", "c")]
    (tmp_path / "run" / "samples").mkdir(parents=True)
    (tmp_path / "run" / "samples" / "open_ended.jsonl").write_text(json.dumps(sample) + "\n")
    assert read_answers(tmp_path / "run")[0].text == "one"
    for other, says in ((file("e.jsonl", sample | {"document": "d2"}), "another question"),
                        ([Answer("t-9", "Q9", "x", where="f:1")], "no id in common")):
        with pytest.raises(UserError, match=says):
            match(c, other)
    for rows, says in (([{"prompt": "Q"}], "bad.jsonl:1: has none of text, output"),
                       ([{"prompt": "Q", "text": "x"}] * 2, "bad.jsonl:2: answers 'Q' again, after .*bad.jsonl:1"),
                       ([sample | {"responses": [{"logprob": -1}]}], "generates no text")):
        with pytest.raises(UserError, match=says):
            file("bad.jsonl", *rows)
    with pytest.raises(UserError, match="no samples of 'gsm8k'; there are open_ended"):
        read_answers(tmp_path / "run", task="gsm8k")


def test_llmbar_by_an_oracle_a_coin_and_a_fixed_side(shared, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    names = ("natural", "adv_neighbor", "adv_manual")
    files = [str(shared / "data" / "preference" / f"llmbar_{name}.json") for name in names]
    rows = validate.read_labelled(files)
    assert len(rows) == 100 + 134 + 46
    from jitune.evals.judge.prompts import defuse

    best = {(defuse(r.pair.question), defuse(r.pair.a if r.better == "a" else r.pair.b)) for r in rows}

    def oracle(body):
        text = body["messages"][1]["content"]
        mark = text.split(">", 1)[0].split()[-1]
        question = text.split(f"<question {mark}>\n")[1].split(f"\n</question {mark}>")[0]
        return "[[A]]" if (question, sides(text)[0]) in best else "[[B]]"

    with serve(oracle) as fake:
        games = pairwise.play([r.pair for r in rows], open_judge(f"oracle@{fake.url}"))
    found = validate.report(rows, games)
    assert set(found) == {"all", "llmbar_natural", "llmbar_adv_neighbor", "llmbar_adv_manual"}
    for part in found.values():
        assert part["accuracy"]["value"] == part["verdicts"]["value"] == part["agreement"] == 1
        assert part["unscored"] == 0 and part["accuracy"]["low"] > 0.9
    rng = random.Random(0)
    coin = validate.report(rows, pairwise.play([r.pair for r in rows], Scripted(lambda *_: rng.choice(
        ("[[A]]", "[[B]]")))))["all"]
    assert coin["accuracy"]["low"] < 0.5 < coin["accuracy"]["high"] and 0.4 < coin["agreement"] < 0.6
    fixed = validate.report(rows, pairwise.play([r.pair for r in rows], Scripted(lambda *_: "[[A]]")))["all"]
    assert fixed["accuracy"]["value"] == fixed["verdicts"]["value"] == 0.5 and fixed["agreement"] == 0


def test_labels_that_are_none_are_refused(tmp_path):
    path = tmp_path / "l.json"
    path.write_text(json.dumps([{"input": "q", "output_1": "a", "output_2": "b", "label": 0}]))
    with pytest.raises(UserError, match="l.json:1: label is 0; 1 or 2"):
        validate.read_labelled([str(path)])
