"""Evol-Instruct: rounds, lots, elimination, teachers that do badly, and going on after a kill."""

import re

import pytest

from jitune.construct.distill import evolve
from jitune.construct.distill import evolve_prompts as prompts
from jitune.generators.call import Lost, Reply
from jitune.generators.replay import Replay
from jitune.types import UserError
from tests.construct.distill.teachers import ask_record, given, reasons, run_all

SEEDS = [ask_record(f"Name the colour of object {i}.", i) for i in range(1, 6)]


def asked_of(call) -> str:
    return call.prompt if isinstance(call.prompt, str) else call.prompt[-1][1]


def kind(call) -> str:
    text = asked_of(call)
    return "evolve" if "Prompt#:\n" in text else "judge" if "Equal or Not Equal" in text else "answer"


def parent_in(call) -> str:
    return re.search(r"#Given Prompt#:\n(.*?)\n\n#(?:Rewritten|Created) Prompt#:", asked_of(call), re.DOTALL)[1]


def good(call):
    """Makes every instruction longer by one word."""
    if kind(call) == "evolve":
        return parent_in(call) + " Explain."
    return "Not Equal" if kind(call) == "judge" else f"An answer to: {asked_of(call)}"


def but(part, reply):
    """A good teacher that says one thing wherever a part is asked for."""
    return lambda call: reply if kind(call) == part else good(call)


def options(**more):
    return evolve.defaults() | more


def test_four_rounds_of_a_good_teacher():
    kept, rejected, state = run_all(evolve, given(good, SEEDS, options()))
    assert rejected == [] and len(kept) == 4 * len(SEEDS)
    last = [r for r in kept if r.meta["evolved"]["round"] == 4]
    assert [r.messages[0]["content"] for r in last] == [
        f"Name the colour of object {i}." + " Explain." * 4 for i in range(1, 6)]
    assert last[0].messages[1]["content"] == "An answer to: " + last[0].messages[0]["content"]
    before = next(r for r in kept if r.meta["evolved"] | {"operation": ""} == {"round": 3, "row": 0, "operation": ""})
    assert last[0].provenance.parents == (before.id,)
    assert last[0].provenance.method == "evol_instruct" and last[0].provenance.source == "seeds.jsonl:1"
    assert last[0].provenance.license == "CC0-1.0" and last[0].provenance.model == "replay"
    assert last[0].provenance.sampling == {"max_tokens": 2048, "temperature": 1.0, "top_p": 0.9}


def test_all_six_operations_are_drawn_alike_and_by_the_seed():
    many = [ask_record(f"Question number {i}?", i) for i in range(600)]
    drawn = {}
    for seed in (0, 1):
        kept, *_ = run_all(evolve, given(good, many, options(rounds=1), seed=seed))
        drawn[seed] = [r.meta["evolved"]["operation"] for r in kept]
    counts = {name: drawn[0].count(name) for name in prompts.OPERATIONS}
    assert sum(counts.values()) == 600 and all(60 < count < 140 for count in counts.values()), counts  # 4.4 sigma
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("operation", prompts.OPERATIONS)
def test_each_operation_asks_in_its_way(operation):
    teacher = Replay(good)
    run_all(evolve, given(teacher, SEEDS[:1], options(rounds=1, operations=operation)))
    text = asked_of(teacher.asked[0])
    assert "Name the colour of object 1." in text
    assert ("#Created Prompt#" in text) == (operation == "breadth")
    assert ("10 to 20 words" in text) == (operation != "breadth")
    assert any(format in text for format in prompts.FORMATS) == (operation == "complicate")
    assert "{" not in text


@pytest.mark.parametrize(("part", "reply", "reason"), [
    ("evolve", Reply("Name it", "length", None, 9), "cut"),
    ("evolve", "", "empty_answer"),
    ("evolve", "?!…", "only_punctuation"),
    ("evolve", "I'm sorry, but I can't help with that.", "refusal"),
    ("evolve", "抱歉，我无法协助完成这个请求。", "refusal"),
    ("evolve", "Name it and name it again. " * 30, "loop"),
    ("evolve", "#Rewritten Prompt#: Name two.", "leaked_prompt"),
    ("evolve", "Make the given prompt harder.", "leaked_prompt"),
    ("evolve", Lost("failed", "HTTP 500"), "failed"),
    ("evolve", Lost("filtered"), "filtered"),
    ("judge", "Equal", "no_gain"),
    ("judge", "I like both of them.", "unjudged"),
    ("judge", "", "unjudged"),
    ("judge", Lost("failed"), "failed"),
    ("answer", "Sorry, no idea.", "sorry"),
    ("answer", "I'm sorry, but I can't help with that.", "sorry"),
    ("answer", "Lo siento, pero no puedo ayudarte con eso.", "refusal"),
    ("answer", "It is what it is.", "only_stop_words"),
    ("answer", "。。。！", "only_stop_words"),
    ("answer", "", "only_stop_words"),
    ("answer", "Blue and blue and blue. " * 40, "loop"),
    ("answer", Reply("It is blue, beca", "length"), "cut"),
    ("answer", Lost("too_long"), "too_long"),
])
def test_bad_teachers_are_counted_rejections(part, reply, reason):
    kept, rejected, _ = run_all(evolve, given(but(part, reply), SEEDS, options(rounds=2)))
    assert kept == [] and reasons(rejected) == {reason: 10}
    assert {one.source for one in rejected} == {f"seeds.jsonl:{i}" for i in range(1, 6)}


def test_a_parent_that_was_not_evolved_is_tried_again():
    answers = []

    def fails_at_first(call):
        if kind(call) == "answer":
            answers.append(call)
            if len(answers) == 1:
                return "Sorry."
        return good(call)

    kept, rejected, _ = run_all(evolve, given(fails_at_first, SEEDS[:1], options(rounds=3)))
    assert reasons(rejected) == {"sorry": 1}
    assert [r.meta["evolved"]["round"] for r in kept] == [2, 3]
    assert kept[0].provenance.parents == (SEEDS[0].id,) and kept[1].provenance.parents == (kept[0].id,)
    assert answers[0].seed != answers[1].seed  # the second round asks anew, not out of the cache


HOMES = [a + b for a in "north south east west up down in out".split() for b in "ward gate hill side port town way "
         "land wood ford well mill".split()]


def test_sorry_in_a_long_answer_is_no_elimination():
    long = "I am sorry to hear that your boat sank. " + " ".join(HOMES[:80])
    kept, rejected, _ = run_all(evolve, given(but("answer", long), SEEDS, options(rounds=1, filters="empty")))
    assert len(kept) == 5 and rejected == []
    short = "I am sorry to hear that. " + " ".join(HOMES[:73])
    assert len(short.split()) == 79
    _, rejected, _ = run_all(evolve, given(but("answer", short), SEEDS, options(rounds=1, filters="empty")))
    assert reasons(rejected) == {"sorry": 5}


def test_an_instruction_about_prompts_may_say_what_its_parent_says():
    seed = ask_record("What does the words 'given prompt' mean to a writer?")
    kept, rejected, _ = run_all(evolve, given(good, [seed], options(rounds=1)))
    assert len(kept) == 1 and rejected == []


def test_without_elimination_as_the_released_script():
    said = {"evolve": "Rewrite the given prompt {}.", "answer": "Sorry."}
    count = iter(range(100))
    teacher = Replay(lambda call: said[kind(call)].format(next(count)))
    plain = options(rounds=1, eliminate=False, filters="empty",
                    operations="constraints,deepen,concretise,reasoning,breadth")
    kept, rejected, _ = run_all(evolve, given(teacher, SEEDS, plain))
    assert len(kept) == 5 and rejected == [] and len(teacher.asked) == 10
    assert all(r.meta["evolved"]["operation"] != "complicate" for r in kept)


def test_the_same_instruction_twice_is_kept_once():
    kept, rejected, _ = run_all(evolve, given(but("evolve", "Name all  rivers."), SEEDS, options(rounds=1)))
    assert len(kept) == 1 and reasons(rejected) == {"duplicate": 4}
    teacher = Replay(but("evolve", "Name all  rivers."))
    kept, rejected, _ = run_all(evolve, given(teacher, SEEDS, options(rounds=1, step=1)))
    assert len(kept) == 1 and reasons(rejected) == {"duplicate": 4}
    assert len(teacher.asked) == 5 + 2  # what is there already is neither judged nor answered


def test_records_without_one_instruction_are_counted():
    two = evolve.named(evolve.Record("", tuple({"role": "user", "content": c} for c in "ab")))
    none = evolve.named(evolve.Record("", text=(("plain", 1.0),)))
    kept, rejected, _ = run_all(evolve, given(good, [two, none, *SEEDS], options(rounds=1)))
    assert len(kept) == 5 and reasons(rejected) == {"several_turns": 1, "no_instruction": 1}


def test_the_system_message_stays():
    teacher = Replay(good)
    kept, *_ = run_all(evolve, given(teacher, [ask_record("Who?", system="Be brief.")], options(rounds=1)))
    assert [m["role"] for m in kept[0].messages] == ["system", "user", "assistant"]
    assert teacher.asked[-1].prompt[0] == ("system", "Be brief.")


def test_a_teacher_that_only_continues_texts():
    teacher = Replay(good)
    kept, *_ = run_all(evolve, given(teacher, SEEDS, options(rounds=1, form="raw", eliminate=False)))
    assert all(isinstance(call.prompt, str) and call.prompt.endswith("### Response:\n") for call in teacher.asked)
    assert len(kept) == 5 and teacher.asked[0].stop == ("\n### ",)


@pytest.mark.parametrize("steps", range(1, 14))
def test_a_run_that_was_killed_goes_on_to_the_same_end(steps):
    def moody(call):
        if kind(call) == "judge" and len(asked_of(call)) % 3 == 0:
            return "Equal"
        return good(call)

    plan = options(step=2)
    whole = run_all(evolve, given(moody, SEEDS, plan, seed=5))
    kept, rejected, state = run_all(evolve, given(moody, SEEDS, plan, seed=5), steps=steps)
    kept, more, state = run_all(evolve, given(moody, SEEDS, plan, seed=5, kept=kept, state=state))
    assert (kept, rejected + more, state) == whole


def test_what_the_budget_left_out_is_counted():
    """The runner stops there, and asks for the step again when there is more."""
    kept, rejected, _ = run_all(evolve, given(but("answer", Lost("budget", "$1 of $1")), SEEDS, options(rounds=1)))
    assert kept == [] and reasons(rejected) == {"budget": 5}


@pytest.mark.parametrize(("more", "said"), [
    ({"operations": "deepen,harder"}, "constraints, deepen"), ({"operations": " "}, "at least one"),
    ({"rounds": 0}, "rounds=0"), ({"form": "text"}, "chat, raw"), ({"stop_words": "/none.txt"}, "stop_words"),
])
def test_options_that_cannot_work(more, said):
    with pytest.raises(UserError, match=said):
        run_all(evolve, given(good, SEEDS, options(**more)))


@pytest.mark.parametrize(("text", "verdict"), [
    ("Equal", True), ("equal.", True), ("Not Equal", False), ("**Not Equal**", False), ("not-equal", False),
    ("They aren't equal", False), ("Unequal", False), ("Equal or Not Equal", None), ("equally deep", None), ("", None),
])
def test_verdicts_are_read(text, verdict):
    assert prompts.read_equal(text) is verdict


def test_stop_words_of_another_language(tmp_path):
    (tmp_path / "de.txt").write_text("ja\nDoch\n")
    plan = options(rounds=1, filters="empty")
    _, rejected, _ = run_all(evolve, given(but("answer", "Ja, doch!"), SEEDS, plan))
    assert rejected == []
    _, rejected, _ = run_all(evolve, given(but("answer", "Ja, doch!"), SEEDS,
                                           plan | {"stop_words": str(tmp_path / "de.txt")}))
    assert reasons(rejected) == {"only_stop_words": 5}
