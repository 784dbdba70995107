"""Which tasks and documents are chosen, and what is refused."""

import json
from collections import Counter

import pytest

from jitune.evals import choose
from jitune.evals.choose import Chosen
from jitune.evals.task import Document, Metric, Outcome, Task
from jitune.types import UserError


def documents(languages=("en", "de", "sw"), each=20) -> list[Document]:
    return [Document(f"{language}-{i}", {"i": i}, (), tags={"language": language}, cluster=str(i))
            for language in languages for i in range(each)]


def make_task(found=(), **options) -> Task:
    return Task("toy", axis="utility", title="Toy", load=lambda specs: list(found), score=lambda *_: Outcome({}),
                metrics=(Metric("accuracy", "right"),), **options)


def test_a_limit_is_spread_over_languages_and_keeps_translations_together():
    drawn = choose.limit(documents(), 12, seed=3)
    assert Counter(d.tags["language"] for d in drawn) == {"en": 4, "de": 4, "sw": 4}
    assert set(Counter(d.cluster for d in drawn).values()) == {3}


def test_a_limit_draws_the_same_again_and_others_for_another_seed():
    first, again, other = ([d.id for d in choose.limit(documents(), 12, seed=s)] for s in (0, 0, 1))
    assert first == again != other
    assert first == [d.id for d in documents() if d.id in set(first)]  # in the order of the files


def test_no_limit_and_one_beyond_the_end_take_all():
    assert len(choose.limit(documents(), 0)) == len(choose.limit(documents(), 1000)) == 60


def test_languages_leave_documents_without_one():
    plain = Document("x", {}, ())
    kept = choose.limit([*documents(), plain], 0, languages=["de"])
    assert Counter(d.tags.get("language") for d in kept) == {"de": 20, None: 1}


def test_files_are_found_at_any_depth(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("toy_a.jsonl", "other.jsonl"):
        (tmp_path / "deep" / "er" / name).write_text("{}\n")
    task = make_task(files=("toy*.jsonl",), hub=("org/toy",))
    assert choose.find_specs(task, [tmp_path], hub=False) == (str(tmp_path / "deep/er/toy_a.jsonl"),)
    assert choose.find_specs(task, [], hub=False) == ()
    assert choose.find_specs(task, [], hub=True) == ("org/toy",)


def test_an_empty_task_and_double_ids_are_errors():
    with pytest.raises(UserError, match="toy: is empty: there is no document in a.jsonl"):
        choose.load(Chosen(make_task(), ("a.jsonl",)))
    with pytest.raises(UserError, match="toy: 2 documents have the id 'en-0'"):
        choose.load(Chosen(make_task([*documents(), documents()[0]]), ("a.jsonl",)))


def test_a_data_folder_that_is_not_there_and_unknown_names(tmp_path):
    with pytest.raises(UserError, match="--data /nowhere: is not there"):
        choose.choose(suite="utility", data=["/nowhere"])
    with pytest.raises(UserError, match="--suite utilty: there is no such suite; there are utility"):
        choose.choose(suite="utilty", data=[str(tmp_path)])
    with pytest.raises(UserError, match="--tasks gsm9k: there is no such task; the nearest are gsm8k"):
        choose.choose(tasks=["gsm9k"], data=[str(tmp_path)])
    with pytest.raises(UserError, match="there is nothing to evaluate: give --suite or --tasks"):
        choose.choose(data=[str(tmp_path)])


def test_a_suite_skips_what_has_no_files_and_a_name_does_not(tmp_path):
    (tmp_path / "gsm8k_test.jsonl").write_text(json.dumps({"question": "1 + 1?", "answer": "It is 2.\n#### 2"}) + "\n")
    chosen, skipped = choose.choose(suite="utility", data=[str(tmp_path)])
    assert [c.task.name for c in chosen] == ["gsm8k"] and "no HumanEval" in skipped["humaneval"]
    with pytest.raises(UserError, match="--tasks bbh: no .* in "):
        choose.choose(tasks=["bbh"], data=[str(tmp_path)])


def test_a_task_of_yours_by_its_import_path(tmp_path, monkeypatch):
    (tmp_path / "my_tasks.py").write_text(
        "from jitune.evals.task import *\n"
        "FRUIT = Task('fruit', axis='utility', title='Fruit', load=lambda s: [Document('1', {}, ())],\n"
        "             score=lambda *_: Outcome({'n': 1.0}), metrics=(Metric('n', 'n'),))\nNOT = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [c.task.name for c in choose.choose(tasks=["my_tasks:FRUIT"])[0]] == ["fruit"]
    with pytest.raises(UserError, match="my_tasks:NOT: is int, not a jitune.evals.task.Task"):
        choose.choose(tasks=["my_tasks:NOT"])
    with pytest.raises(UserError, match="my_tasks:GONE: cannot be imported"):
        choose.choose(tasks=["my_tasks:GONE"])
