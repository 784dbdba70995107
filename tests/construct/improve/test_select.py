"""Which of a model's own answers are kept: hand-made cases of every rule, and GSM8K's marked solutions."""

import json
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.improve import select
from jitune.construct.improve.select import Sample
from jitune.construct.verify.math import build, parser
from jitune.construct.verify.verifier import Checked
from jitune.data.record import Provenance, Record
from jitune.data.record_rows import from_row, to_row
from jitune.types import UserError

PROBLEM = Record("p1", ({"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "It is 5."}),
                 meta={"answer": "5"}, provenance=Provenance(source="sums.jsonl:7", license="MIT"))  # fmt: skip
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


def samples(*texts, right=True, **fields):
    return [Sample(PROBLEM, text, Checked(right, "" if right else "4, not 5"), seed=i, **fields)
            for i, text in enumerate(texts)]  # fmt: skip


def texts(chosen):
    return [record.messages[-1]["content"] for record in chosen.kept]


def reasons(chosen):
    return [r.reason for r in chosen.rejected]


def test_what_is_kept_says_where_it_comes_from_and_can_be_written():
    made = Provenance(model="m", model_digest="d", prompt_hash="h", sampling={"temperature": 0.7}, seed=4)
    [kept] = select.rft(samples("<<2+3=5>>5", provenance=made)).kept
    assert kept.messages == (PROBLEM.messages[0], {"role": "assistant", "content": "<<2+3=5>>5"})
    assert kept.meta == PROBLEM.meta and kept.id and kept.id != PROBLEM.id
    assert kept.provenance == Provenance(
        source="sums.jsonl:7", method="self_improvement", parents=("p1",), model="m", model_digest="d", prompt_hash="h",
        sampling={"temperature": 0.7}, seed=4, license="MIT", steps=("rft",))
    assert from_row(json.loads(json.dumps(to_row(kept)))) == kept


def test_a_system_prompt_stays_and_raw_prompts_are_answered_raw():
    asked = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+3?"})
    [kept] = select.star([Sample(Record("c", asked), "5", Checked(True))]).kept
    assert kept.messages == (*asked, {"role": "assistant", "content": "5"})
    [raw] = select.star([Sample(Record("t", text=(("2+3=", 0.0), ("5", 1.0))), "6", Checked(True))]).kept
    assert raw.text == (("2+3=", 0.0), ("6", 1.0)) and not raw.messages


def test_rft_drops_what_is_wrong_cut_empty_or_unchecked():
    given = [
        *samples("<<2+3=5>>"), *samples("<<2+3=6>> 5", "<<2+x=5>>"), *samples("4", right=False),
        *samples("?", right=None), *samples("<<3+2=5>>", finish_reason="length"), *samples(" \n"),
    ]  # fmt: skip
    chosen = select.rft(given)
    assert texts(chosen) == ["<<2+3=5>>"]
    assert chosen.counts == {"kept": 1, "wrong_arithmetic": 2, "wrong_answer": 1, "unchecked": 1, "cut_by_length": 1,
                             "empty": 1}  # fmt: skip
    details = {r.reason: r.detail for r in chosen.rejected}
    assert details["wrong_answer"] == "4, not 5" and "'2+x' cannot be worked out" in details["wrong_arithmetic"]
    assert {r.source for r in chosen.rejected} == {"sums.jsonl:7"} and chosen.rejected[0].text


def test_rft_keeps_one_path_a_list_of_equations():
    given = samples("a <<2+3=5>>", "b <<2 + 3=5>>", "<<3+2=5>>", "<<2+3=5>> <<5*1=5>>", "five", "q" * 60)
    chosen = select.rft(given)
    assert texts(chosen)[2:] == ["<<2+3=5>> <<5*1=5>>", "q" * 60]  # farther from the others than "five" is
    assert chosen.counts == {"kept": 4, "duplicate_path": 2}


def test_rft_takes_the_path_that_is_farther_from_the_others():
    """The first has no others yet, so it stays; distances to "zzzz <<1*5=5>>" decide for the second."""
    same, far = "zzzz <<2+3=5>>", "completely different words <<2+3=5>>"
    assert texts(select.rft(samples(same, far))) == [same]
    assert texts(select.rft(samples("zzzz <<1*5=5>>", same, far))) == ["zzzz <<1*5=5>>", far]
    assert texts(select.rft(samples("zzzz <<1*5=5>>", far, same))) == ["zzzz <<1*5=5>>", far]


def value(text):
    """Floating-point arithmetic by recursive descent; ValueError for anything else."""
    tokens = re.findall(r"[0-9]+\.?[0-9]*|\.[0-9]+|\*\*|//|[-+*/()]", text)
    if "".join(tokens) != text.replace(" ", "") or any(re.fullmatch("0[0-9]+", t) for t in tokens):
        raise ValueError(text)

    def factor():
        token = tokens.pop(0)
        if token in "+-":
            return factor() * (-1 if token == "-" else 1)
        found = total() if token == "(" else float(token)
        if token == "(" and tokens.pop(0) != ")":
            raise ValueError(text)
        return found ** factor() if tokens[:1] == ["**"] and tokens.pop(0) else found

    def product():
        found = factor()
        while tokens[:1] in (["*"], ["/"], ["//"]):
            sign, other = tokens.pop(0), factor()
            found = found * other if sign == "*" else found / other if sign == "/" else found // other
        return found

    def total():
        found = product()
        while tokens[:1] in (["+"], ["-"]):
            sign, other = tokens.pop(0), product()
            found = found + other if sign == "+" else found - other
        return found

    found = total()
    if tokens:
        raise ValueError(text)
    return found


def holds(equation):
    try:
        left, right = equation.split("=")[:2]
        return abs(value(left) - float(right)) < 1e-3
    except (ValueError, IndexError, ZeroDivisionError):
        return False


def test_rft_of_gsm8k_marked_solutions(shared):
    """Four models' solutions as samples, against counts by the file's own marks and arithmetic of the test's."""
    path = shared / "data" / "self_improvement" / "gsm8k_example_model_solutions.jsonl"
    verify, counts, paths, wrong, solved, annotations = build(), Counter(), 0, 0, 0, 0
    for i, row in enumerate(map(json.loads, path.read_text().splitlines())):
        record = Record(str(i), ({"role": "user", "content": row["question"]},
                                 {"role": "assistant", "content": row["ground_truth"]}))  # fmt: skip
        said = [row[model]["solution"] for model in MODELS]
        chosen = select.rft([Sample(record, text, verify(record, text)) for text in said])
        counts.update(chosen.counts)
        equations = [re.findall("<<([^>]*)>>", row[m]["solution"]) for m in MODELS if row[m]["is_correct"]]
        sound = [found for found in equations if all(map(holds, found))]
        distinct = {tuple(e.replace(" ", "") for e in found) for found in sound}
        assert len(chosen.kept) == len(distinct)
        paths, wrong = paths + len(distinct), wrong + len(equations) - len(sound)
        solved, annotations = solved + bool(distinct), annotations + sum(map(len, equations))
    assert (paths, wrong, solved, annotations) == (1457, 3, 885, 5897)
    assert counts == {"kept": 1457, "wrong_arithmetic": 3, "duplicate_path": 541, "wrong_answer": 3273, "unchecked": 2}


def test_star_keeps_the_greedy_answer_or_a_rationalized_one_without_its_hint():
    right, wrong, helped = samples("5"), samples("4", right=False), samples("so 5", "thus 5")
    assert texts(select.star(right, helped)) == ["5"] and reasons(select.star(right, helped)) == ["over_limit"] * 2
    chosen = select.star(wrong, helped)
    assert texts(chosen) == ["so 5"] and reasons(chosen) == ["wrong_answer", "over_limit"]
    assert chosen.kept[0].messages[:-1] == PROBLEM.messages[:1]
    assert chosen.kept[0].provenance.steps == ("star", "rationalized")
    telling = samples("The hint says 5", "so 5")
    assert texts(select.star(wrong, telling)) == ["so 5"]
    assert select.star(wrong, telling[:1]).counts == {"kept": 0, "wrong_answer": 1, "mentions_hint": 1}
    assert texts(select.star(wrong, telling, mentions="")) == ["The hint says 5"]
    assert select.star(wrong, samples("7", right=False)).counts == {"kept": 0, "wrong_answer": 2}


def test_rest_em_draws_by_seed_and_keeps_the_order():
    given = samples(*map(str, range(25)))
    chosen = select.rest_em(given, most=10, seed=1)
    found = list(map(int, texts(chosen)))
    assert len(found) == 10 and found == sorted(found) and chosen.counts["over_limit"] == 15
    assert texts(select.rest_em(given, most=10, seed=1)) == texts(chosen) != texts(select.rest_em(given, seed=2))
    assert len(select.rest_em(given[:10]).kept) == 10
    with pytest.raises(UserError, match="most=0"):
        select.rest_em(given, most=0)


def test_majority_keeps_what_leads_to_the_answer_of_most():
    given = samples("#### 5", "so 5.0", r"\boxed{6}", "no idea", right=None)
    chosen = select.majority(given, read=parser())
    assert texts(chosen) == ["#### 5", "so 5.0"] and reasons(chosen) == ["unchecked", "minority"]
    assert [record.scores for record in chosen.kept] == [{"confidence": 0.5}] * 2
    assert select.majority(given, read=parser(), threshold=0.5).counts["kept"] == 2
    assert select.majority(given, read=parser(), threshold=0.51).counts == {
        "kept": 0, "unchecked": 1, "low_confidence": 3}
    assert select.majority(samples("5", "6"), read=parser()).counts == {"kept": 0, "tie": 2}
    assert select.majority(samples("well"), read=parser()).counts == {"kept": 0, "unchecked": 1}
    with pytest.raises(UserError, match="threshold=2"):
        select.majority(given, read=parser(), threshold=2)


def test_spin_pairs_the_real_answer_with_the_models():
    chosen = select.spin(samples("It is 6.", " It  is 5.\n", ""))
    [pair] = chosen.kept
    assert pair.messages == PROBLEM.messages[:1]
    assert pair.chosen == ({"role": "assistant", "content": "It is 5."},)
    assert pair.rejected == ({"role": "assistant", "content": "It is 6."},)
    assert reasons(chosen) == ["equal_sides", "empty"]
    assert from_row(json.loads(json.dumps(to_row(pair)))) == pair
    nobody = Record("q", PROBLEM.messages[:1])
    assert reasons(select.spin([Sample(nobody, "5")])) == ["no_answer"]
    cut = samples("It is", finish_reason="length")
    assert len(select.spin(cut).kept) == 1 and reasons(select.spin(cut, keep_cut=False)) == ["cut_by_length"]


def test_the_best_is_paired_with_the_worst():
    scored = [s._replace(score=x) for s, x in zip(samples(*"abcd"), (3.0, 4.5, 1.0, 4.5), strict=True)]
    chosen = select.best_and_worst(scored)
    [pair] = chosen.kept
    assert (pair.chosen[0]["content"], pair.rejected[0]["content"]) == ("b", "c")
    assert pair.scores == {"chosen_score": 4.5, "rejected_score": 1.0} and reasons(chosen) == ["between"] * 2
    level = [s._replace(score=3.0) for s in samples("a", "b")]
    assert select.best_and_worst(level).counts == {"kept": 0, "tie": 2}
    assert select.best_and_worst([*level[:1], *samples("b")]).counts == {"kept": 0, "unscored": 2}
    same = [s._replace(score=float(i)) for i, s in enumerate(samples("a", "a "))]
    assert select.best_and_worst(same).counts == {"kept": 0, "equal_sides": 2}


SAID = st.sampled_from(["5", "<<2+3=5>>5", "<<2+3=6>>5", "", "6"])
ROW = st.tuples(SAID, st.sampled_from([True, False, None]), st.sampled_from(["stop", "length"]),
                st.sampled_from([None, 0.0, 1.0, 2.0]))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=8))
def test_every_sample_is_kept_or_rejected_and_nothing_depends_on_chance(rows):
    given = [Sample(PROBLEM, t, Checked(r), s, i, f) for i, (t, r, f, s) in enumerate(rows)]
    for choose in (select.rft, select.star, select.rest_em, select.spin,
                   lambda given: select.majority(given, read=parser())):  # fmt: skip
        assert sum(choose(given).counts.values()) == len(given)
        assert choose(given) == choose(given)
    pairs = select.best_and_worst(given)
    assert 2 * len(pairs.kept) + len(pairs.rejected) == len(given)
