"""Questions and answers: what a command line asks, what is allowed, and what is shown of a record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitune.construct.annotate.guidelines import block
from jitune.construct.annotate.items import gather
from jitune.construct.annotate.questions import applies, check, order, parse, shown_value
from jitune.construct.annotate.shown import view
from jitune.data.record import Candidate, Provenance, Record
from jitune.types import UserError


def say(role, text):
    return ({"role": role, "content": text},)


PLAIN = Record("p", say("user", "2 and 3?") + say("assistant", "6"), provenance=Provenance("a.jsonl:1"))
PAIR = Record("q", say("user", "2 and 3?"), chosen=say("assistant", "5"), rejected=say("assistant", "6"))
LIST = Record("l", say("user", "2 and 3?"), candidates=tuple(Candidate(say("assistant", t), id=t) for t in "567"))


def test_a_command_line_says_what_is_asked():
    help_, tone, flags = parse(["rate:help,rate:tone", "flag"], scales=["help:1=bad,2,3=good", "yes,no"],
                               reasons=["wrong, rude"], asks=["tone=Is it polite?"])
    assert help_.points == ((1, "bad"), (2, ""), (3, "good")) and tone.points == (("yes", ""), ("no", ""))
    assert tone.ask == "Is it polite?" and flags.points == (("wrong", ""), ("rude", ""))
    assert [p for p, _ in parse(["rate"], scales=["-2-2"])[0].points] == [-2, -1, 0, 1, 2]


@pytest.mark.parametrize(("given", "what"), [
    (dict(tasks=["judge"]), "unknown task 'judge'; known are write, rate, pair"),
    (dict(tasks=["rate,rate"]), "'rating' is asked twice"),
    (dict(tasks=["rate"], scales=["1"]), "needs 2 to 20 different points"),
    (dict(tasks=["rate"], scales=["a,a"]), "needs 2 to 20 different points"),
    (dict(tasks=["rate"], scales=["help:1-5"]), "names no question; they are rating"),
    (dict(tasks=["pair"], scales=["1-5"]), "nothing is rated"),
    (dict(tasks=["rate:<b>"]), "is not a name"),
])
def test_what_cannot_be_asked_is_said(given, what):
    with pytest.raises(UserError, match=what):
        parse(**given)


RATE, PREFER, RANK, FLAG, CORRECT = parse(["rate,pair,rank,flag,correct"], scales=["1-3"], reasons=["wrong,rude"])


@pytest.mark.parametrize(("question", "value", "kept"), [
    (RATE, 3, 3), (PREFER, 0, "b"), (PREFER, "tie", "tie"), (RANK, [[2], [1, 0]], [["c"], ["a", "b"]]),
    (FLAG, ["rude", "wrong"], ["wrong", "rude"]), (CORRECT, "\u2028<b>", "\u2028<b>"),
])
def test_values_are_kept_by_the_answers_own_names(question, value, kept):
    assert check(question, value, ["b", "a", "c"]) == kept


@pytest.mark.parametrize(("question", "value"), [
    (RATE, 4), (RATE, "3"), (RATE, True), (RATE, 1.0), (RATE, None), (PREFER, 3), (PREFER, True), (PREFER, "a"),
    (RANK, [[0], [1]]), (RANK, [[0, 0], [1], [2]]), (RANK, [0, 1, 2]), (RANK, "abc"), (RANK, [[0], [1], [2], []]),
    (FLAG, ["mean"]), (FLAG, "wrong"), (CORRECT, 5), (CORRECT, "half \ud83d"),
])
def test_what_is_not_allowed_is_refused(question, value):
    with pytest.raises(UserError, match=question.name):
        check(question, value, ["b", "a", "c"])


@given(st.permutations(range(4)), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_rankings_come_back_as_they_were_given(places, ranks):
    names = [f"n{place}" for place in places]
    tiers = [[p for p in range(4) if ranks[p] == rank] for rank in sorted(set(ranks))]
    found = shown_value(RANK, check(RANK, tiers, names), names)
    assert [sorted(tier) for tier in found] == tiers


def test_questions_are_asked_of_records_that_they_fit():
    fits = {record.id: [q.kind for q in (RATE, PREFER, RANK, FLAG, CORRECT) if not applies(q, record)]
            for record in (PLAIN, PAIR, LIST)}
    assert fits == {"p": ["rate", "flag", "correct"], "q": ["rate", "pair", "rank", "flag"],
                    "l": ["rate", "rank", "flag"]}


def test_the_order_of_answers_is_by_lot_and_stays():
    orders = {name: order(PAIR, annotator=name, seed=0) for name in map(str, range(200))}
    first = sum(found[0] == "chosen" for found in orders.values())
    assert 70 < first < 130 and all(order(PAIR, annotator=name, seed=0) == found for name, found in orders.items())


def test_an_answer_does_not_lead_who_writes_one():
    write, correct = parse(["write,correct"])
    assert [m["text"] for m in view(PLAIN, [write], [])["messages"]] == ["2 and 3?"]
    shown = view(PLAIN, [write, correct], [])
    assert [m["text"] for m in shown["messages"]] == ["2 and 3?", "6"] and shown["original"] == "6"
    assert view(PAIR, [PREFER], ["rejected", "chosen"])["answers"] == ["6", "5"]
    assert "chosen" not in str(view(PAIR, [PREFER], ["rejected", "chosen"]))  # blind


def test_items_are_unique_and_those_without_a_question_are_counted():
    items = gather([PLAIN, PAIR, PLAIN, LIST], [PREFER])
    assert items.ids == ["q"] and items[0] == PAIR and items.repeated == 1 and items.left_out.total() == 2
    assert gather([PAIR, PLAIN], [RATE]).digest != gather([PLAIN, PAIR], [RATE]).digest
    with pytest.raises(UserError, match="of 1 record none can be annotated: a pair needs two answers"):
        gather([PLAIN], [PREFER], what="a.jsonl")
    other = Record("p", say("user", "other"), provenance=Provenance("a.jsonl:9"))
    with pytest.raises(UserError, match="a.jsonl:9: id 'p' is that of another record before it"):
        gather([PLAIN, other], [RATE])


def test_guidelines_are_markdown_without_markup_of_their_own():
    html = block("# A\n\n<script>x</script> **b** [c](javascript:d) [e](https://f.g) ![h](https://i.j/k.png)\n\n"
                 "<img src=x>")
    assert "<h3>A</h3>" in html and "<strong>b</strong>" in html and 'href="https://f.g"' in html
    assert "<script" not in html and "<img" not in html and 'href="javascript' not in html and "&lt;script&gt;" in html
