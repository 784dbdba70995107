"""What holds for every utility task: real files load, right answers score 1, empty ones are failures, never zeros."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from jitune.evals import catalogue, rows
from jitune.evals.task import Generate, Generated, LogLikelihood, Score
from jitune.types import UserError

# task -> documents and clusters of the real files
COUNTS = {
    "gsm8k": (1319, 0), "mgsm": (2750, 250), "bbh": (1937, 0), "humaneval": (164, 0), "pubmedqa": (500, 0),
    "legalbench": (1690, 1519), "lawbench": (1500, 0), "tatqa": (1668, 278), "xcopa": (5500, 500),
}
GENERATED = ("gsm8k", "mgsm", "bbh", "legalbench", "lawbench", "tatqa")
CHOSEN = ("pubmedqa", "xcopa")


@pytest.fixture(scope="module")
def loaded(shared):
    """Documents of a task's real files, each loaded once."""
    made = {}

    def load(name):
        if name not in made:
            task = catalogue.find_task(name)
            made[name] = task.load(rows.find(shared / "data", task.files))
        return made[name]

    return load


def right_text(document) -> str:
    """An answer that gives the target in words."""
    target = document.target
    return f"刑法第{'、'.join(map(str, target))}条" if isinstance(target, list) else target


@pytest.mark.parametrize("name", COUNTS)
def test_real_files_load(loaded, name):
    documents = loaded(name)
    assert (len(documents), len({d.cluster for d in documents} - {""})) == COUNTS[name]
    assert len({d.id for d in documents}) == len(documents)
    for document in documents:
        assert document.requests and document.target is not None and document.tags["domain"]
        json.dumps([document.row, document.target])


@pytest.mark.parametrize("name", ["mgsm", "xcopa"])
def test_all_eleven_languages_are_there(loaded, name):
    found = Counter(d.tags["language"] for d in loaded(name))
    assert len(found) == 11 and set(found.values()) == {COUNTS[name][1]}


@pytest.mark.parametrize("name", GENERATED)
def test_the_target_scores_one(loaded, name):
    task = catalogue.find_task(name)
    for document in loaded(name):
        for text in (right_text(document), f"Let me think.\n\nAnswer: {right_text(document)}"):
            outcome = task.score(document, (Generated(text, "stop", 9),), ())
            assert set(outcome.scores.values()) == {1.0}, (document.id, text, outcome)
            assert outcome.answer and not outcome.failure


@pytest.mark.parametrize("name", GENERATED)
def test_an_empty_answer_is_unscored(loaded, name):
    task = catalogue.find_task(name)
    scored = {m.name for m in task.metrics if m.corpus is None}
    for document in loaded(name)[::10]:
        outcome = task.score(document, (Generated("  ", "stop", 1),), ())
        assert outcome.scores == dict.fromkeys(scored) and outcome.failure == "extraction", document.id


@pytest.mark.parametrize("name", GENERATED)
def test_garbage_scores_nothing(loaded, name):
    task = catalogue.find_task(name)
    for document in loaded(name)[::10]:
        outcome = task.score(document, (Generated("zzz qqq xxx", "stop", 3),), ())
        assert not any(outcome.scores.values()), document.id


LOOPS = ("1" * 5000, "1,111" * 900, "\\frac{1}{0}" * 300, "Answer: " * 500, "(A) " * 900, "A, B and " * 500,
         "\n" * 4000, "```\n" * 900, "½" * 900, "#### " * 500, "[正确答案]A、" * 300,
         "十" * 4000 + "条", "$-" * 900, "**(" * 900)


@pytest.mark.parametrize("name", GENERATED)
def test_what_a_model_in_a_loop_writes_is_read(loaded, name):
    task = catalogue.find_task(name)
    for document in loaded(name)[::400]:
        for text in LOOPS:
            outcome = task.score(document, (Generated(text, "length", 512),), ())
            assert all(value is None or 0 <= value <= 1 for value in outcome.scores.values())
            json.dumps(outcome.answer)


@pytest.mark.parametrize("name", CHOSEN)
def test_the_right_choice_scores_one_and_ties_are_chance(loaded, name):
    task = catalogue.find_task(name)
    for document in loaded(name)[::10]:
        count = len(document.requests)
        words = ("yes", "no", "maybe")
        gold = document.target if isinstance(document.target, int) else words.index(document.target)
        assert all(isinstance(r, Score) and not r.prompt.endswith(" ") for r in document.requests)
        for i in range(count):
            values = tuple(LogLikelihood(-1.0 if i == j else -2.0, False, 1) for j in range(count))
            assert task.score(document, values, ()).scores == {"accuracy": float(i == gold)}
        tie = task.score(document, (LogLikelihood(-1.0, False, 1),) * count, ())
        assert tie.scores["accuracy"] == pytest.approx(1 / count) and tie.answer is None


@pytest.mark.parametrize("name", COUNTS)
def test_generation_is_greedy_and_from_a_conversation(loaded, name):
    for request in loaded(name)[0].requests:
        if isinstance(request, Generate):
            assert request.temperature == 0 and request.prompt[-1][0] == "user"


FIELDS = {
    "gsm8k": ("x.jsonl", {"question": "q", "answer": "#### 1"}), "bbh": ("x.jsonl", {"input": "q", "target": "No"}),
    "humaneval": ("x.jsonl", {"task_id": "a", "prompt": "p", "test": "t", "entry_point": "e"}),
    "xcopa": ("test.it.jsonl",
              {"premise": "p", "choice1": "a", "choice2": "b", "question": "cause", "label": 0, "idx": 0}),
    "lawbench": ("1-2.json", {"instruction": "i", "question": "q", "answer": "答案：A"}),
    "tatqa": ("x.jsonl", {"table": {"table": [["a"]]}, "paragraphs": [{"text": "t"}],
                          "questions": [{"uid": "u", "question": "q", "answer": "1", "answer_type": "span"}]}),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_named_with_its_place(tmp_path, name):
    file, row = FIELDS[name]
    task = catalogue.find_task(name)
    path = tmp_path / file
    lines = [json.dumps({k: v for k, v in row.items() if k != left}) for left in row]
    for left, line in zip(row, lines, strict=True):
        good = {**row, "task_id": "b"} if name == "humaneval" else row
        path.write_text(f"{json.dumps(good)}\n{line}\n")
        with pytest.raises(UserError, match=rf"{file}:2.*{left}"):
            task.load([str(path)])


@pytest.mark.parametrize("name", [*FIELDS, "mgsm", "pubmedqa", "legalbench"])
def test_an_empty_file_is_refused(tmp_path, name):
    file = FIELDS[name][0] if name in FIELDS else {"mgsm": "mgsm_de.tsv", "legalbench": "x.tsv"}.get(name, "x.json")
    (tmp_path / file).write_text("")
    with pytest.raises(UserError, match=file):
        catalogue.find_task(name).load([str(tmp_path / file)])


def test_no_task_imports_jax():
    names = ", ".join(f"jitune.evals.tasks.{name}" for name in (*COUNTS, *catalogue.OF_A_FILE))
    code = f"import sys, {names}\nassert not {{'jax', 'transformers', 'sacrebleu', 'torch'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
