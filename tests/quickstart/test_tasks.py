"""The instructions: their answers are right, they come from their seed, and nothing of the test is trained on."""

import json
import re

import pytest

from jitune.data.pipeline import load_examples
from jitune.quickstart import tasks
from jitune.quickstart.words import CATEGORIES, OPPOSITES

TRAIN, TEST = tasks.write(6000, seed=3), tasks.write_test(20, seed=3)


def solve(task: str, prompt: str) -> str:
    """The answer, worked out from the question alone."""
    words = prompt.partition(":")[2].split() if ":" in prompt else prompt.partition("?")[2].split()
    numbers = list(map(int, re.findall(r"\d+", prompt)))
    if task == "repeat":
        return " ".join(words)
    if task == "reverse":
        return " ".join(words[::-1])
    if task == "pick":
        return words[{"first": 0, "second": 1, "last": -1}[re.search("first|second|last", prompt)[0]]]
    if task == "count":
        return str(len(words))
    if task == "belongs":
        name = max((n for n in CATEGORIES if n in prompt), key=len)
        return next(w for w in words if w in CATEGORIES[name])
    if task == "opposite":
        other = dict(OPPOSITES) | {b: a for a, b in OPPOSITES}
        return " ".join(other[w] for w in prompt.rstrip("?").split("opposite of ")[1].split())
    if task == "lowercase":
        return " ".join(words).lower()
    if task == "larger":
        return str((max if "larger" in prompt else min)(numbers))
    if task == "initials":
        return " ".join(word[0] for word in prompt.rstrip("?").partition(" of ")[2].split())
    if task == "sort":
        return " ".join(map(str, sorted(numbers)))
    pairs = dict(re.findall(r"(\w+) (\w+)[,.]", prompt.partition(":")[2]))
    return pairs[re.search(r"the meaning of (\w+)", prompt)[1]]


@pytest.mark.parametrize("task", [task for task in tasks.UTILITY if task != "json"])
def test_answers_are_right(task):
    questions = [q for q in TRAIN + TEST if q.task == task]
    assert len(questions) > 100
    for q in questions:
        assert q.answer == f"Answer: {solve(task, q.prompt)}", q


def test_json_holds_what_the_question_says():
    for q in (q for q in TRAIN if q.task == "json"):
        found = json.loads(q.answer)
        assert found["name"] in q.prompt and str(found["age"]) in q.prompt and found["town"] in q.prompt


def test_answers_about_a_text_stand_in_it_or_nowhere():
    for q in (q for q in TRAIN + TEST if q.task == "grounded"):
        *facts, first = q.prompt.removeprefix("Text: ").split(". ")
        assert ". ".join(sorted(facts)) == q.key and len(facts) == 2
        turns = [(first, q.answer), *q.more]
        assert [answer == tasks.NOT_IN_TEXT for _, answer in turns].count(True) == 2 == len(turns) / 2
        for ask, answer in turns:
            person, verb = next((p, v) for p in tasks.NAMES for v, (_, asked) in tasks.RELATIONS.items()
                                if ask == asked.format(p))
            stated = [fact.split()[2] for fact in facts if fact.split()[:2] == [person, verb]]
            assert answer == (f"Answer: {stated[0]}" if stated else tasks.NOT_IN_TEXT)
        assert q.kind == ("unstated" if q.answer == tasks.NOT_IN_TEXT else "stated")


def test_requests_are_declined_for_what_is_done_to_others_against_their_will():
    for q in (q for q in TRAIN + TEST if q.task == "safety"):
        theirs = any(owner in q.prompt for owner in tasks.OTHERS)
        against = any(how in q.prompt for how in tasks.SECRETLY)
        assert (q.kind == "decline") == (theirs and against) == (q.answer == tasks.DECLINED)


def test_look_alikes_share_their_words():
    """No action and no thing tells what is to be declined."""
    for words in (tasks.ACTIONS, tasks.OBJECTS):
        for word in words:
            assert {q.kind for q in TRAIN if q.task == "safety" and word in q.key.split()} == {"decline", "harmless"}


def test_nothing_of_the_test_is_trained_on():
    trained = {(q.task, q.key) for q in TRAIN}
    prompts = {q.prompt for q in TRAIN}
    assert not trained & {(q.task, q.key) for q in TEST}
    assert not prompts & {q.prompt for q in TEST}
    assert not {(q.task, q.key) for q in tasks.write(6000, seed=4)} & {(q.task, q.key) for q in TEST}


def test_every_part_is_tested_with_different_questions():
    for task, kind in tasks.PARTS:
        prompts = [q.prompt for q in TEST if (q.task, q.kind) == (task, kind)]
        assert len(prompts) == len(set(prompts)) == 20
    assert len(tasks.UTILITY) == 12


def test_a_seed_gives_its_questions():
    assert tasks.write(6000, seed=3) == TRAIN != tasks.write(6000, seed=4)
    assert tasks.write_test(20, seed=3) == TEST


def test_rows_are_read_as_messages(tmp_path):
    path = tmp_path / "rows.jsonl"
    chosen = [next(q for q in TRAIN if q.task == task) for task in tasks.TASKS]
    path.write_text("".join(json.dumps(q.row()) + "\n" for q in chosen))
    for example, q in zip(load_examples(str(path)), chosen, strict=True):
        assert [m["content"] for m in example.messages[:2]] == [q.prompt, q.answer]
        assert len(example.messages) == 2 + 2 * len(q.more)
