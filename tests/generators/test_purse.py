"""Prices, caps and what is set aside, by hand."""

import threading

import pytest

from jitune.generators.account import line
from jitune.generators.call import Call
from jitune.generators.purse import Purse, count_tokens
from jitune.types import UserError


def test_tokens_are_guessed_from_bytes():
    assert count_tokens("") == 0 and count_tokens("abcde") == 2 and count_tokens("\u4e2d\u6587") == 2
    assert count_tokens((("system", "abcd"), ("user", ""))) == 4 + 1 + 4
    purse = Purse(longest=900)
    assert purse.expected(Call("abcd", 5)) == (1, 900) and purse.expected(Call("abcd", 5, options=("A",))) == (1, 1)


def test_what_is_set_aside_counts_until_it_is_settled():
    purse = Purse((1.0, 10.0), 1.0)
    assert purse.cost(1e6, 1e6) == 11.0
    assert purse.reserve(400_000, 30_000)  # 0.4 + 0.3
    assert not purse.reserve(200_000, 20_000, wait=False)
    purse.settle(400_000, 30_000, used=(400_000, 10_000))
    assert purse.spent == 0.5 and purse.reserve(200_000, 20_000, wait=False) and not purse.reserve(600_000, 0)
    purse.settle(200_000, 20_000, used=None)
    assert purse.spent == 0.5 and purse.uncounted == 0 and purse.reserve(500_000, 0)


def test_a_call_that_may_fit_later_waits_for_those_before_it():
    purse, found = Purse((0.0, 1.0), 1.0), []
    assert purse.reserve(0, 900_000)
    later = threading.Thread(target=lambda: found.append(purse.reserve(0, 500_000)))
    later.start()
    later.join(0.05)
    assert later.is_alive() and not found
    purse.settle(0, 900_000, used=(0, 100_000))
    later.join(5)
    assert found == [True]


def test_prompts_that_were_longer_than_guessed_make_the_next_ones_count_for_more():
    purse = Purse((1.0, 0.0), 1.0)
    assert purse.reserve(100_000, 0)
    purse.settle(100_000, 0, used=(300_000, 0))
    assert purse.reserve(200_000, 0, wait=False) and not purse.reserve(100_000, 0, wait=False)


def test_earlier_runs_and_tokens_count():
    purse = Purse((1.0, 1.0), 1.0, tokens=1_000_000)
    purse.earlier, purse.earlier_tokens = 0.5, 200_000
    assert not purse.reserve(600_000, 0) and purse.reserve(400_000, 0)
    free = Purse(tokens=100)
    assert free.reserve(60, 40) and not free.reserve(1, 0, wait=False) and free.spent is None


def test_uncounted_tokens_are_those_that_were_expected():
    purse = Purse((1.0, 1.0))
    purse.reserve(10, 20)
    purse.settle(10, 20, used=(None, 7))
    assert (purse.input_tokens, purse.output_tokens, purse.uncounted) == (10, 7, 1)


def test_what_cannot_be():
    for given in ({"budget": 1.0}, {"prices": (-1, 0)}, {"prices": (1, 1), "budget": -1.0}, {"tokens": -1},
                  {"prices": (float("inf"), 1.0)},
                  {"prices": (1, 1), "budget": float("nan")}, {"prices": (1, 1), "budget": float("inf")}):
        with pytest.raises(UserError):
            Purse(**given)


def test_the_account_as_a_line():
    assert line({"kind": "local", "model": "m", "calls": 1200, "input_tokens": 5, "output_tokens": 4000,
                 "tokens_per_second": 61.4}) == "m: 1,200 answers; 5 tokens in, 4,000 out, 61 a second"
    assert line({"model": "m", "calls": 0, "cached": 3, "failed": 1, "not_asked": 2, "cost": 0.01, "budget": 5.0}) == (
        "m: 0 answers, 3 kept from before, 1 failed, 2 not asked for the budget; cost 0.01 of 5")
    assert line({"model": "m", "calls": 2, "output_tokens": 9, "uncounted": 2}) == (
        "m: 2 answers; 0 tokens in, 9 out (at most: the endpoint did not count 2 of them)")
