"""What each method asks for and makes, with answers that are known; nothing is trained."""

from types import SimpleNamespace

import pytest

from jitune.construct.improve import config as configs
from jitune.construct.improve import makers, methods, select
from jitune.construct.improve.constitution import PRINCIPLES
from jitune.construct.improve.makers import Asked, Given
from jitune.construct.improve.problems import read_problems, reference
from jitune.construct.verify.table import open_parser, open_verifier
from jitune.data.record import answer, changed
from jitune.generators.call import Call, Lost, Reply
from jitune.generators.replay import Replay
from jitune.types import UserError
from tests.construct.improve.made import SUMS, write


@pytest.fixture
def problems(tmp_path):
    return read_problems(str(write(tmp_path / "sums.jsonl", SUMS[:2])), option="prompts").problems  # 2 + 3, 2 + 4


@pytest.fixture
def verify():
    with open_verifier("math") as found:
        yield found


def given(name, answer_one, **options):
    """(Given, the replay of its model): seeds are the numbers of samples."""
    replay = Replay(answer_one)
    more = {"judging": SimpleNamespace(times=3, temperature=1.0, max_tokens=9), "principles": PRINCIPLES}
    judge = options.pop("judge", None)
    recipe = methods.find(name)
    recipe = recipe._replace(**{k: options.pop(k) for k in list(options) if k in recipe._fields})
    return Given(Asked(replay.answer, replay.identity), recipe, lambda k: k, max_tokens=16,
                 judge=judge and Asked(judge.answer, judge.identity), **(more | options)), replay


def reasons(found):
    return {k: v for k, v in found.counts.items() if k != "kept"}


def test_published_parameters():
    for name, expected in {
        "rft": (100, 0.7, 0, 0, "base", "all", True, "sft"), "star": (1, 0.0, 0, 0, "base", "none", False, "sft"),
        "rest_em": (32, 0.7, 40, 10, "base", "none", False, "sft"),
        "spin": (1, 1.0, 0, 0, "last", "previous", False, "dpo"),
        "self_rewarding": (4, 0.7, 0, 0, "last", "none", False, "dpo"),
    }.items():
        r = methods.METHODS[name]
        assert (r.samples, r.temperature, r.top_k, r.keep, r.start, r.pool, r.own_answers, r.objective) == expected
    assert methods.METHODS["spin"].learning_rate == 5e-7 and configs.defaults().train.objective.beta == 0.1
    assert configs.defaults().judging.times == 3


def test_what_a_config_says_goes_before_what_is_published():
    config = configs.defaults()
    config.update({"method": "rest_em", "verifier": {"name": "math"}, "pool": "all", "start": "last",
                   "sampling": {"samples": 8, "temperature": 0.2, "top_k": 0, "top_p": 0.5, "keep": 3}})
    config.train.optimizer.learning_rate = 1e-4
    r = methods.resolve(config)
    assert (r.samples, r.temperature, r.top_k, r.top_p, r.keep) == (8, 0.2, 0, 0.5, 3)
    assert (r.pool, r.start, r.learning_rate) == ("all", "last", 1e-4)


def test_rft_keeps_one_path_a_list_of_equations(problems, verify):
    said = ["2+3=<<2+3=5>>5\n#### 5", "I say 2+3=<<2+3=5>>5\n#### 5", "3+2=<<3+2=5>>5\n#### 5",
            "2+3=<<2+3=6>>5\n#### 5", "#### 6", ""]
    g, replay = given("rft", lambda call: said[call.seed], samples=6, verify=verify)
    found = makers.rft(g, problems[:1])
    assert len(found.kept) == 2
    assert reasons(found) == {"duplicate_path": 1, "wrong_arithmetic": 1, "wrong_answer": 1, "empty": 1}
    assert replay.asked == [Call((("user", "What is 2 plus 3?"),), 16, 0.7, seed=k) for k in range(6)]
    assert found.kept[0].provenance.parents == (problems[0].id,) and found.kept[0].provenance.model == "replay"


def test_star_hints_where_it_missed_and_keeps_no_hint(problems, verify):
    def one(call):
        words = call.prompt[-1][1]
        told = "Hint: the right answer is 6" in words
        return "#### 5" if "plus 3" in words else "as you say, #### 6" if told else "#### 7"

    g, replay = given("star", one, verify=verify, read=open_parser("math"))
    found = makers.star(g, problems)
    assert [answer(r) for r in found.kept] == ["#### 5", "as you say, #### 6"] and len(replay.asked) == 3
    assert "Hint" not in str(found.kept[1].messages) and reasons(found) == {"wrong_answer": 1}
    assert all(call.temperature == 0 for call in replay.asked)


def test_rest_em_and_lmsi(problems, verify):
    right = lambda call: f"way {call.seed}: #### {5 if call.seed else 4}"  # noqa: E731
    g, replay = given("rest_em", right, samples=5, keep=2, verify=verify)
    found = makers.rest_em(g, problems[:1])
    assert len(found.kept) == 2 and reasons(found) == {"wrong_answer": 1, "over_limit": 2}
    assert {call.top_k for call in replay.asked} == {40}
    g, _ = given("lmsi", lambda call: f"#### {[8, 8, 9][call.seed]}", samples=3, read=open_parser("math"))
    found = makers.lmsi(g, problems[:1])  # wrong, and nobody tells
    assert [answer(r) for r in found.kept] == ["#### 8"] * 2 and reasons(found) == {"minority": 1}


def test_spin_pairs_the_own_answer_with_the_models(problems):
    g, _ = given("spin", lambda call: "no idea" if "plus 3" in call.prompt[-1][1] else answer(problems[1]))
    found = makers.spin(g, problems)
    (pair,) = found.kept
    assert (pair.chosen[0]["content"], pair.rejected[0]["content"]) == (answer(problems[0]), "no idea")
    assert reasons(found) == {"equal_sides": 1}


def test_self_rewarding_takes_the_mean_of_three_judgements(problems):
    points = {"a": (5, 4, 3), "b": (1, 1, 4), "c": (3, 3, "?"), "d": ("?", "?", "?")}

    def judge(call):
        which = call.prompt[-1][1].partition("<reply>\n")[2][0]
        return f"So so.\nScore: {points[which][call.seed]}"

    judging = Replay(judge, name="judge")
    g, _ = given("self_rewarding", lambda call: "abcd"[call.seed], judge=judging)
    found = makers.self_rewarding(g, problems[:1])
    (pair,) = found.kept
    assert (pair.chosen[0]["content"], pair.rejected[0]["content"]) == ("a", "b")
    assert dict(pair.scores) == {"chosen_score": 4, "rejected_score": 2} and len(judging.asked) == 12
    assert reasons(found) == {"between": 1, "unscored": 1}
    assert "0 of 3 replies gave points" in [r.detail for r in found.rejected]
    g, _ = given("self_rewarding", lambda call: "abcd"[call.seed], judge=Replay(lambda call: Lost("failed", "503")))
    assert {r.detail for r in makers.self_rewarding(g, problems[:1]).rejected} == {
        "0 of 3 replies gave points; failed 503"}


def test_constitutional_answers_are_criticised_and_written_anew(problems):
    def one(call):
        words = call.prompt[-1][1]
        if "Criticise the answer" in words:
            return "No problem." if "plus 4" in words else "It is rude."
        return "Revision: Five, my friend." if "It is rude." in words else "Count yourself."

    g, replay = given("constitutional", one)
    found = makers.constitutional(g, problems)
    (record,) = found.kept
    assert answer(record) == "Five, my friend." and record.messages[0]["content"] == "What is 2 plus 3?"
    assert record.provenance.steps[0] == "constitutional" and reasons(found) == {"no_problem": 1}
    assert len(replay.asked) == 5 and record.provenance.prompt_hash
    twice, _ = given("constitutional", one, revisions=2)
    assert len(makers.constitutional(twice, problems[:1]).kept[0].provenance.steps) == 3


@pytest.mark.parametrize("name", ["rft", "star", "rest_em", "lmsi", "spin", "self_rewarding", "constitutional",
                                  "tests.construct.improve.test_makers:last"])
def test_nothing_that_is_lost_or_cut_is_kept_and_all_of_it_is_counted(name, problems, verify):
    broken = [Lost("failed", "503"), Reply("cut", "length"), Lost("budget"), Reply("  ", "stop")]
    g, _ = given(name, lambda call: broken[call.seed % 4], samples=4, keep=2, temperature=0.7, verify=verify,
                 read=open_parser("math"), judge=Replay(lambda call: "?"))  # fmt: skip
    found = g.recipe.make(g, problems)
    counts = reasons(found)
    if name != "spin":  # for which a cut answer is what the model says
        assert not found.kept
    assert counts["failed"] >= 2 and counts["budget"] >= 2


def last(problem, answers):
    """A method of one's own: the last answer."""
    return answers[-1]


def shout(problem, answers, ask):
    """A method that asks again."""
    if "plus 4" in problem.messages[0]["content"]:
        raise ValueError("four")
    return [text.upper() for text in ask([[("user", f"Again: {answers[0]}")]])]


def test_a_method_of_ones_own_may_ask_and_may_fail(problems):
    g, replay = given("tests.construct.improve.test_makers:shout", lambda call: f"<{call.prompt[-1][1]}>")
    found = g.recipe.make(g, problems)
    assert [answer(r) for r in found.kept] == ["<AGAIN: <WHAT IS 2 PLUS 3?>>"]
    assert [(r.reason, r.detail) for r in found.rejected] == [("method_failed", "ValueError: four")]
    assert len(replay.asked) == 3 and found.kept[0].provenance.parents == (problems[0].id,)
    with pytest.raises(UserError, match="cannot be imported"):
        methods.find("tests.construct.improve.test_makers:nowhere")


def strange(problem, answers):
    """A method that gives what no record can be made of."""
    return 17


def broken(problem, answers):
    """A method that fails behind its first record."""
    yield answers[0]
    raise ValueError("then")


def compare(problem, answers):
    """A method that makes pairs."""
    return select.as_pair(select.Sample(problem, ""), "yes", "no")


def test_what_a_method_of_ones_own_gives_must_fit_its_training(problems):
    name = "tests.construct.improve.test_makers"
    for function, words in (("strange", "gave int; None, a text"), ("compare", "pairs of answers.* must be dpo")):
        g, _ = given(f"{name}:{function}", lambda call: "x")
        with pytest.raises(UserError, match=words):
            g.recipe.make(g, problems)
    g, _ = given(f"{name}:broken", lambda call: "x")
    assert {r.detail for r in g.recipe.make(g, problems).rejected} == {"ValueError: then"}
    g, _ = given(f"{name}:compare", lambda call: "x")
    found = g.recipe.make(g._replace(recipe=g.recipe._replace(objective="dpo")), problems)
    assert len(found.kept) == len(problems) and found.kept[0].chosen


def test_problems_that_cannot_be_asked_are_counted(tmp_path):
    path = tmp_path / "mixed.jsonl"
    path.write_text('{"instruction": "Add 2 and 3.", "output": "5"}\n'
                    '{"instruction": "Add 2 and 3.", "output": "five"}\n'
                    '{"instruction": "Add 1 and 1.", "output": "2"}\n{"what": 1}\n'
                    '{"messages": [{"role": "assistant", "content": "Hello!"}]}\n{"prompt": "Add 2 and 2."}\n')
    held = tmp_path / "held.jsonl"
    held.write_text('{"instruction": "Add 1 and 1.", "output": "2"}\n')
    without = read_problems(str(held), option="heldout")
    found = read_problems(str(path), option="prompts", answered=reference, without=without)
    assert [answer(p) for p in found.problems] == ["5"]
    assert found.reasons == {"duplicate": 1, "in_heldout": 1, "malformed": 1, "no_answer": 1, "no_question": 1}
    with pytest.raises(UserError, match="config.prompts=.*leaves nothing to ask .1 in_heldout"):
        read_problems(str(held), option="prompts", without=without)


def test_a_problem_without_a_result_gets_no_hint(problems, verify):
    """An empty box, blanks: one such row does not end the round."""
    said = [{"role": "assistant", "content": text} for text in ("\\boxed{}", " ")]
    odd = [changed(p, messages=(p.messages[0], s)) for p, s in zip(problems, said, strict=True)]
    g, replay = given("star", lambda call: "#### 0", verify=verify)
    found = g.recipe.make(g, [*odd, problems[0]])
    assert reasons(found) == {"unchecked": 2, "wrong_answer": 2} and len(replay.asked) == 3 + 1


def test_a_judge_is_not_asked_about_answers_that_are_dropped(problems):
    """Those that were cut or are empty."""
    replies = [Reply("cut", "length"), Reply("  ", "stop"), Reply("a", "stop"), Reply("bb", "stop")]
    judge = Replay(lambda call: f"Score: {len(call.prompt[0][1].partition('<reply>')[2].split()[0])}")
    g, _ = given("self_rewarding", lambda call: replies[call.seed], samples=4, judge=judge)
    found = g.recipe.make(g, problems[:1])
    assert len(judge.asked) == 2 * 3 and [answer(r) for r in found.kept] == ["bb"]
    assert reasons(found) == {"cut_by_length": 1, "empty": 1}
