"""Figures of rounds against values computed by hand, and loops that collapse."""

import math
import random
import time

import pytest

from jitune.construct.improve import collapse
from jitune.construct.improve.collapse import LIMITS, heldout, judge_drift, measure, stop_reason
from jitune.construct.improve.stopping import CHECKS
from jitune.data.record import Record, named
from jitune.types import UserError

NOUNS = [a + b for a in "bel cor dan fal gor hin jul kel lom mar nor pel quin ros sul tam ul ver wen yor".split()
         for b in "a e in on us ard eth ilm ost und".split()]


def one(question: str, answer: str) -> Record:
    return named(Record("", ({"role": "user", "content": question}, {"role": "assistant", "content": answer})))


def varied(count: int, length: int = 30, seed: int = 0, words=NOUNS) -> list[Record]:
    """Records of words drawn alike."""
    lot = random.Random(seed)
    return [one(" ".join(lot.choices(words, k=8)), " ".join(lot.choices(words, k=length))) for _ in range(count)]


def test_figures_by_hand():
    found = measure([one("Name a prime.", "a b a b")])
    assert [found[f"distinct_{n}"] for n in (1, 2, 3, 4)] == [2 / 4, 2 / 3, 2 / 2, 1 / 1]
    assert found["entropy"] == pytest.approx(math.log2(3))  # three words, once each
    assert found["bigram_entropy"] == pytest.approx(1.0)  # name a, a prime
    assert found["opening_entropy"] == 0.0
    assert (found["length_mean"], found["length_median"], found["records"]) == (4, 4, 1)
    assert (found["near_duplicates"], found["near_duplicates_of_previous"]) == (0.0, None)
    assert (found["repeated_answers"], found["top_answer"], found["looping"]) == (0.0, 1.0, 0.0)


def test_grams_stay_within_a_text_and_samples_end_at_their_size():
    texts = [["a", "b"], ["b", "a", "b"], ["c"]]
    found = collapse.profile(texts, sizes=(4, 5, 100))
    assert list(found) == ["4", "5", "6"]
    assert found["4"]["distinct"] == [2 / 4, 2 / 2, None, None]  # ab, ba: nothing over the edge
    assert found["5"]["distinct"] == [2 / 5, 2 / 3, 1.0, None]  # ab, ba, ab; bab
    assert found["6"]["distinct"][0] == 3 / 6
    assert found["6"]["entropy"] == pytest.approx(-(2 / 6 * math.log2(2 / 6) + 3 / 6 * math.log2(3 / 6)
                                                    + 1 / 6 * math.log2(1 / 6)))
    assert collapse.entropy({"a": 2, "b": 1, "c": 1}) == 1.5 and collapse.entropy({}) == 0.0


def test_words_are_those_of_any_script():
    found = measure([one("写一首诗", "春眠不觉晓春眠")])
    assert found["length_mean"] == 7 and found["distinct_1"] == 5 / 7 and found["distinct_2"] == 5 / 6
    assert found["entropy"] == 2.0


def test_shares_of_answers():
    loop = "the same again and then " * 30
    found = measure([one(f"q {i}", text) for i, text in enumerate(["Yes", "yes ", "no", loop, "perhaps not"])])
    assert found["top_answer"] == 2 / 5 and found["repeated_answers"] == 1 / 5 and found["looping"] == 1 / 5


def test_near_duplicates_within_and_of_the_round_before():
    first = varied(20, seed=1)
    copies = [one(r.messages[0]["content"], r.messages[1]["content"] + " indeed") for r in first[:5]]
    new = varied(10, seed=2)
    found = measure([*copies, *new, *new[:3]], first)
    assert found["near_duplicates"] == 3 / 18
    assert found["near_duplicates_of_previous"] == 5 / 18
    assert measure(first, first)["near_duplicates_of_previous"] == 1.0
    # A duplicate within the round is none of the round before.
    assert measure([*new, *new], first)["near_duplicates_of_previous"] == 0.0


def test_the_order_of_records_changes_nothing():
    records = varied(50) + varied(5, seed=9) * 2
    shuffled = records[:]
    random.Random(3).shuffle(shuffled)
    assert measure(records) == measure(shuffled)


def test_a_larger_round_of_the_same_kind_is_no_collapse():
    """distinct-n of all words falls with their number; at one size it does not."""
    few, many = measure(varied(20, words=NOUNS[:60])), measure(varied(2000, seed=4, words=NOUNS[:60]))
    assert many["distinct_2"] < 0.6 * few["distinct_2"]
    assert stop_reason([few, many]) == ""
    assert few["at"]["answers"]["300"]["distinct"][1] == pytest.approx(many["at"]["answers"]["300"]["distinct"][1],
                                                                       abs=0.05)


def test_rounds_that_go_on_well():
    history = [measure(varied(200, seed=s)) | {"accuracy": 0.4 + s / 50, "accuracy_se": 0.05} for s in range(4)]
    assert [stop_reason(history[: n + 1]) for n in range(4)] == [""] * 4
    assert stop_reason([]) == ""


@pytest.mark.parametrize(("change", "limit", "says"), [
    (lambda: varied(200, words=NOUNS[:6]), "distinct_2", "distinct-2 of answers fell from"),
    (lambda: [one(f"{NOUNS[i % 3]} please", r.messages[1]["content"]) for i, r in enumerate(varied(200))], "entropy",
     "the entropy of instructions fell from"),
    (lambda: varied(200, length=90), "length", "went from 30 words in round 0 to 90 in round 1, more than 2 times"),
    (lambda: varied(200, length=9), "length", "went from 30 words in round 0 to 9 in round 1, less than 1/2"),
    (lambda: varied(40, seed=5) * 5, "near_duplicates", "went from 0.000 in round 0 to 0.800 in round 1, above 0.5"),
    (lambda: [one(r.messages[0]["content"], "and so it goes on " * 7 if i % 2 else r.messages[1]["content"])
              for i, r in enumerate(varied(200))], "looping", "answers that repeat themselves went from 0.000"),
    (lambda: [one(r.messages[0]["content"], " ".join(NOUNS[:30])) for r in varied(200)], "top_answer",
     "the most frequent answer's share went from 0.005 in round 0 to 1.000"),
    (lambda: [], "records", "round 1 kept 0 records, and at least 1"),
])
def test_collapses_are_named_with_then_and_now(change, limit, says):
    history = [measure(varied(200)), measure(change())]
    why = stop_reason(history)
    assert says in why and f"(limits.{limit})" in why
    assert says not in stop_reason(history, {limit: -1.0})


def test_a_loop_that_trains_on_its_own_samples_collapses():
    """Words drawn from the counts of the round before, sharpened: the classic way into one answer."""
    from collections import Counter

    history, records, why = [], varied(150), ""
    for _ in range(8):
        history.append(measure(records, None))
        why = stop_reason(history)
        if why:
            break
        counts = Counter(w for r in records for w in r.messages[1]["content"].split())
        lot, words = random.Random(7), list(counts)
        weights = [counts[w] ** 2.0 for w in words]
        records = [one(r.messages[0]["content"], " ".join(lot.choices(words, weights, k=30))) for r in records]
    assert "distinct-2 of answers fell" in why and 2 <= len(history) <= 8


def test_what_was_so_in_the_first_round_stops_nothing():
    doubled = varied(20) * 5
    assert measure(doubled)["near_duplicates"] == 0.8
    assert stop_reason([measure(doubled), measure(doubled)]) == ""


def test_accuracy_falls_by_more_than_its_error():
    rounds = [heldout([1] * 60 + [0] * 40), heldout([1] * 70 + [0] * 30), heldout([1] * 62 + [0] * 38)]
    assert rounds[1]["accuracy"] == 0.7 and rounds[1]["accuracy_se"] == pytest.approx(math.sqrt(0.21 / 99))
    assert stop_reason(rounds) == ""  # 0.08 is less than twice 0.067
    why = stop_reason([*rounds, heldout([1] * 40 + [0] * 60)])
    assert why == ("held-out accuracy fell from 0.700 in round 1 to 0.400 in round 3, by more than 2 standard errors "
                   "of 0.067 (limits.accuracy)")
    assert stop_reason([*rounds, {"accuracy": None}]) == ""
    assert stop_reason([{"accuracy": 0.9}, {"accuracy": 0.1}]) == ""  # without errors nothing can be told


def test_judge_drift_by_hand_and_by_its_interval():
    still = judge_drift([3, 4, 5, 2], [3, 4, 5, 2])
    assert (still["shift"], still["low"], still["high"], still["drifted"]) == (0, 0, 0, False)
    kinder = judge_drift([3.0, 4.0, 2.0, 3.0, None, 1.0] * 5, [4.0, 4.5, 3.0, 4.0, 3.0, None] * 5)
    assert kinder["n"] == 20 and kinder["unscored"] == 10
    assert kinder["then"] == 3.0 and kinder["now"] == 3.875 and kinder["shift"] == 0.875
    assert 0.7 < kinder["low"] < 0.875 < kinder["high"] <= 1.0 and kinder["drifted"]
    assert judge_drift([1, 5, 1, 5], [5, 1, 5, 1])["drifted"] is False
    assert judge_drift([2], [4])["drifted"] is None and judge_drift([], [])["shift"] is None
    why = stop_reason([{}, {"judge_drift": kinder}])
    assert "from 3.000 to 3.875 in round 1: by +0.875" in why and "(limits.judge_drift)" in why
    assert stop_reason([{}, {"judge_drift": kinder}], {"judge_drift": 1.0}) == ""
    with pytest.raises(ValueError, match="shorter"):
        judge_drift([1, 2], [1])


def test_the_bootstrap_interval_is_that_of_the_mean():
    lot = random.Random(0)
    before = [lot.gauss(3, 1) for _ in range(400)]
    found = judge_drift(before, [b + lot.gauss(0.1, 0.5) for b in before])
    half = (found["high"] - found["low"]) / 2
    assert half == pytest.approx(1.96 * 0.5 / math.sqrt(400), rel=0.15)


def test_unknown_limits_and_numbered_rounds():
    with pytest.raises(UserError, match=r"limits\.distinct_9 is not known; there are records"):
        stop_reason([{}], {"distinct_9": 1.0})
    assert set(CHECKS) == set(LIMITS) and all(isinstance(value, float) for value in LIMITS.values())
    assert "round 3 kept 0" in stop_reason([{"round": 2, "records": 5}, {"round": 3, "records": 0}])


def test_empty_rounds_and_records_without_answers():
    found = measure([])
    assert found["records"] == 0 and found["distinct_1"] is found["near_duplicates"] is found["length_mean"] is None
    questions = measure([named(Record("", ({"role": "user", "content": "Who?"},)))])
    assert questions["top_answer"] is None and questions["entropy"] == 0.0


def test_ten_thousand_records_take_seconds():
    records = varied(10_000, length=150)
    began = time.process_time()
    measure(records, records[:5000])
    assert time.process_time() - began < 10
