"""Alpaca's calls as published, and tasks out of what comes back."""

from collections import Counter

import pytest

from jitune.construct.distill import table
from jitune.construct.distill.alpaca import Written, written
from jitune.construct.distill.run import distill
from jitune.generators.replay import Replay
from jitune.types import UserError
from tests.construct.distill.made import config, read, seeds, teacher, write

TWO = (" Name the longest river.\n4. Input:\n<noInput>\n4. Output:\nThe Nile.\n###\n"
       "5. Instruction: Sort these four now.\n5. Input:\nb, a\n5. Output:\na, b")  # fmt: skip


def run(tmp_path, answer, **options):
    """(kept, rejected, the calls) of a run over a few seeds."""
    replay = Replay(answer)
    folder = distill(config("alpaca", tmp_path / "out", input=write(tmp_path / "seeds.jsonl", seeds()), **options),
                     teacher=replay)
    return read(folder / "kept.jsonl"), read(folder / "rejected.jsonl"), replay.asked


def test_the_defaults_are_the_published_parameters():
    found = table.load("alpaca").defaults()
    assert {name: found[name] for name in ("in_context", "tasks", "requests", "temperature", "top_p", "max_tokens",
                                           "threshold", "stop")} == {
        "in_context": 3, "tasks": 20, "requests": 5, "temperature": 1.0, "top_p": 1.0, "max_tokens": 3072,
        "threshold": 0.7, "stop": r"\n20,20."}  # fmt: skip
    assert found["blacklist"].endswith("draw,plot,go to,video,audio,music,flowchart,diagram")


def test_tasks_of_a_text():
    first, second = Written("Name the longest river.", "", "The Nile."), Written("Sort these four now.", "b, a", "a, b")
    assert list(written(TWO, shown=3, cut=False)) == [first, second]
    # A chat model begins with the number once more, with the marks before it, or with words of its own.
    assert list(written(f"4. Instruction:{TWO}", shown=3, cut=False)) == [first, second]
    assert list(written(f"###\n4. Instruction:{TWO}", shown=3, cut=False)) == [first, second]
    said = f"Sure! Here are 17 more:\n\n###\n4. Instruction:{TWO}"
    assert list(written(said, shown=3, cut=False)) == [first, second]
    assert [one.problem and one.problem[0] for one in written(said, shown=3, cut=True)] == [None, "cut"]
    cut = list(written(TWO, shown=3, cut=True))
    assert cut[0] == first and [one.problem and one.problem[0] for one in cut] == [None, "cut"]
    # Under another number than its own, or without an input, a task is not read; those behind it are.
    odd = TWO.replace("4. Input:\n<noInput>\n", "")
    assert [one.problem and one.problem[0] for one in written(odd, shown=3, cut=False)] == ["unreadable", None]


def test_seeds_alone_are_shown(tmp_path):
    kept, rejected, asked = run(tmp_path, teacher, alpaca__count=40)
    inside = {row["instruction"] for row in seeds()}
    for number, call in enumerate(asked):
        lines = call.prompt.splitlines()
        tasks = [line.partition("Instruction: ")[2] for line in lines if "Instruction: " in line]
        assert len(tasks) == 3 and set(tasks) <= inside and lines[-1] == "4. Instruction:" and lines[-2] == "###"
        assert lines[0].startswith("Write 20 varied tasks") and call.seed == number
        assert (call.temperature, call.top_p, call.max_tokens, call.stop) == (1.0, 1.0, 3072, ("\n20", "20."))
    assert len(asked) > 5 and len(read(tmp_path / "out/memory.jsonl")) == len(kept) >= 40
    counts = Counter(row["reason"] for row in rejected)
    assert set(counts) == {"too_similar", "cut"}
    assert {len(row["provenance"]["parents"]) for row in kept} == {3}
    assert {row["meta"]["input"] for row in kept} == {"", "salt"}


def test_a_task_without_an_output_is_rejected(tmp_path):
    kept, rejected, _ = run(tmp_path, lambda call: TWO.replace("The Nile.", "") + f"{call.seed}", alpaca__count=1,
                            alpaca__requests=1)
    assert [row["messages"][1]["content"] for row in kept] == ["a, b0"]
    assert [row["reason"] for row in rejected] == ["empty_output"]


@pytest.mark.parametrize("options, message", [
    ({"alpaca__in_context": 11}, "a request shows 11 tasks (config.alpaca.in_context), and there are 10 seeds"),
    ({"alpaca__form": "text"}, "config.alpaca.form='text' is not one of auto, completion, chat"),
    ({"alpaca__policy": "latin"}, "config.alpaca.policy='latin' is not one of unicode, english"),
])
def test_what_cannot_be(tmp_path, options, message):
    with pytest.raises(UserError) as error:
        run(tmp_path, teacher, **options)
    assert message in str(error.value)
