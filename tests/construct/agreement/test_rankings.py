"""Ranked pairs and strengths: published elections and games, cycles and ties, candidates that were never compared."""

import re
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.agreement.bradley_terry import fit
from jitune.construct.agreement.labels import Label, Sheet
from jitune.construct.agreement.ranked_pairs import ranked_pairs
from jitune.construct.agreement.rankings import pairs_table, strengths, study

TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
# American League East of 1987, home and away together (Agresti, "Categorical Data Analysis", section 10.6).
GAMES = [[0, 7, 9, 7, 7, 9, 11], [6, 0, 7, 5, 11, 9, 9], [4, 6, 0, 7, 7, 8, 12], [6, 8, 6, 0, 6, 7, 10],
         [6, 2, 6, 7, 0, 7, 12], [4, 4, 5, 6, 6, 0, 6], [2, 4, 1, 3, 1, 7, 0]]
# Ballots of 45 voters, an example in M. Schulze, "A New Monotonic, Clone-Independent ... Election Method" (2011).
SCHULZE = {"ACBED": 5, "ADECB": 5, "BEDAC": 8, "CABED": 3, "CAEBD": 7, "CBADE": 2, "DCEBA": 7, "EBADC": 8}


def ballots(votes):
    return [[[name] for name in order] for order, count in votes.items() for _ in range(count)]


def order(merged):
    return "".join("(" * (len(t) > 1) + "".join(t) + ")" * (len(t) > 1) for t in merged.tiers)


def test_the_capital_of_tennessee():
    found = ranked_pairs(ballots({"MNCK": 42, "NCKM": 26, "CKNM": 15, "KCNM": 17}))
    assert order(found) == "NCKM" and not found.cycle and found.ballots == 100
    assert found.margins["N", "M"] == 16 and found.margins["K", "M"] == 16 and found.margins["N", "K"] == 36


def test_an_election_with_a_cycle():
    # By hand: B>D 33, E>D 31, A>D 30, C>B 29 are locked; D>C 28 would close C>B>D; E>B 27, A>C 26 are locked; B>A 25
    # would close A>C>B; C>E 24 is locked; E>A 23 would close A>C>E.
    found = ranked_pairs(ballots(SCHULZE))
    assert order(found) == "ACEBD" and found.cycle


def test_a_cycle_of_equals_is_a_tie_and_what_stands_outside_is_not():
    found = ranked_pairs(ballots({"ABCD": 1, "BCAD": 1, "CABD": 1}))
    assert order(found) == "(ABC)D" and found.cycle
    # Majorities B>C 5, A>B 3, C>A 1: the smallest would close the cycle.
    found = ranked_pairs(ballots({"ABC": 4, "BCA": 3, "CAB": 2}))
    assert order(found) == "ABC" and found.cycle and found.margins == {("A", "B"): 3, ("B", "C"): 5, ("C", "A"): 1}
    # B>C 3, and A>B 1 with C>A 1: these two together would close it, and neither comes before the other.
    assert order(ranked_pairs(ballots({"ABC": 2, "BCA": 2, "CAB": 1}))) == "(AB)C"


def test_ties_are_kept():
    assert order(ranked_pairs([[["a"], ["b"]], [["b"], ["a"]]])) == "(ab)"
    assert order(ranked_pairs([[["a", "b"], ["c"]]])) == "(ab)c"
    assert order(ranked_pairs([[["a"], ["b"]], [["c"], ["b"]]])) == "(ac)b"  # a and c are never compared
    assert ranked_pairs([]).tiers == ()
    with pytest.raises(ValueError, match="names a candidate twice"):
        ranked_pairs([[["a"], ["b", "a"]]])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.permutations("abcd"), min_size=1, max_size=7), st.permutations(range(4)))
def test_neither_names_nor_the_order_of_ballots_decide(votes, renamed):
    """Whoever beats all others is first; other names, and ballots in another order, change nothing."""
    given_ballots = [[[name] for name in vote] for vote in votes]
    found = ranked_pairs(given_ballots)
    new = {name: "abcd"[renamed[i]] for i, name in enumerate("abcd")}
    other = ranked_pairs([[[new[n] for n in tier] for tier in vote] for vote in reversed(given_ballots)])
    assert [sorted(new[n] for n in tier) for tier in found.tiers] == [sorted(t) for t in other.tiers]
    for name in "abcd":
        if sum((name, rest) in found.margins for rest in "abcd") == 3:
            assert found.tiers[0] == (name,)
    if len(votes) == 1:
        assert found.tiers == tuple((name,) for name in votes[0])


def test_ranked_pairs_obeys_every_majority_where_none_contradict():
    for vote in permutations("abc"):
        assert order(ranked_pairs(ballots({"".join(vote): 3, "abc": 1}))) == "".join(vote)


def test_baseball():
    """The estimates of the book, Baltimore being 0."""
    found = fit(GAMES)
    assert found.scores - found.scores[-1] == pytest.approx([1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0], abs=5e-3)
    assert found.scores.mean() == pytest.approx(0, abs=1e-12)


def test_the_fit_solves_the_likelihood_equations():
    """At the maximum everyone wins as often as the model says (Hunter 2004, equation 2)."""
    wins = np.array(GAMES, float)
    p = 1 / (1 + np.exp(-(fit(wins).scores[:, None] - fit(wins).scores[None])))
    np.testing.assert_allclose(((wins + wins.T) * p).sum(1), wins.sum(1), atol=1e-6)
    assert fit([[0, 3], [1, 0]]).scores == pytest.approx([np.log(3) / 2, -np.log(3) / 2])


@pytest.mark.parametrize("wins, says, groups", [
    ([[0, 2], [0, 0]], "a never lost to any of the others", [[0], [1]]),
    ([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], r"never compared with each other: a, b \| c, d",
     [[0, 1], [2, 3]]),
    ([[0, 1, 0], [1, 0, 0], [2, 2, 0]], "a, b never beat any of the others", [[0, 1], [2]]),
    ([[0]], "fewer than two candidates", [[0]]),
])
def test_no_finite_strengths_is_said_with_names(wins, says, groups):
    found = fit(wins, "abcd"[: len(wins)])
    assert found.scores is None and found.groups == groups
    assert re.search(says, found.reason)


def test_strengths_of_rankings():
    items = [[[["m"], ["n"]], [["n"], ["m"]]], [[["m"], ["n"]]], [[["m"], ["n"]], [["m", "n"]]]]
    found = strengths(items, replicates=200)
    # m won 3 and lost 1, and one tie is half for each: 3.5 to 1.5.
    assert [r["name"] for r in found["strengths"]] == ["m", "n"]
    assert found["strengths"][0]["score"] == pytest.approx(np.log(3.5 / 1.5) / 2)
    assert (found["strengths"][0]["wins"], found["strengths"][0]["games"]) == (3.5, 5)
    assert strengths([[[["m"], ["n"]]]])["reason"].startswith("m never lost to")
    many = strengths([[[[f"c{i}"] for i in range(99)]]])
    assert many["strengths"] is None and many["reason"].startswith("99 candidates differ")


def test_rankings_as_pairs_and_merged():
    sheet = Sheet()
    for item, who, tiers in (("x", "p", [["a"], ["b"], ["c"]]), ("x", "q", [["b"], ["a"], ["c"]]),
                             ("x", "r", [["a", "b"], ["c"]]), ("y", "p", [["a"], ["b"]])):
        sheet.add(Label(item, who, "rank", tiers))
    pairs, owners = pairs_table(sheet.table("rank"))
    assert pairs.items == ["x: a | b", "x: a | c", "x: b | c", "y: a | b"] and owners == [0, 0, 0, 1]
    assert [pairs.labels[c] for c in pairs.code[:3]] == ["first", "second", "tie"]
    found = study(sheet.table("rank"), replicates=10)
    assert found["merged"] == [{"item": "x", "ranking": [["a", "b"], ["c"]], "ballots": 3, "cycle": False},
                               {"item": "y", "ranking": [["a"], ["b"]], "ballots": 1, "cycle": False}]
    assert found["strengths"] is None and found["reason"].startswith("a, b never lost to")
