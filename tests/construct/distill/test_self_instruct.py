"""Self-Instruct as published: what is asked, what of it is shown, and what is dropped."""

import json
import re
from collections import Counter

import pytest

from jitune.construct.distill import classified, table
from jitune.construct.distill.run import distill
from jitune.generators.call import Lost, Reply
from jitune.generators.replay import Replay
from jitune.types import UserError
from tests.construct.distill.made import config, read, seeds, teacher, write

SEEDS = "data/seeds/self_instruct_seed_tasks.jsonl"


def shown(call) -> list[str]:
    """The tasks that a request shows."""
    return [line.partition(". ")[2] for line in call.prompt.split("\n")[1:-1]]


def run(tmp_path, answer, data=None, **options):
    """(kept, rejected, the calls) of a run over a few seeds."""
    data = data or write(tmp_path / "seeds.jsonl", seeds())
    replay = Replay(answer)
    folder = distill(config("self_instruct", tmp_path / "out", input=data, **options), teacher=replay)
    return read(folder / "kept.jsonl"), read(folder / "rejected.jsonl"), replay.asked


def test_the_defaults_are_the_published_parameters():
    found = table.load("self_instruct").defaults()
    assert {name: found[name] for name in found if name not in ("blacklist", "filters", "form", "policy", "patience")
            } == {"count": 100, "in_context": 8, "machine": 2, "requests": 5, "temperature": 0.7, "top_p": 0.5,
                  "presence_penalty": 2.0, "max_tokens": 1024, "stop": r"\n\n,\n16,16.,16 .", "threshold": 0.7,
                  "classification_seeds": False, "check_tokens": 3, "label_tokens": 300, "instance_tokens": 350,
                  "instance_presence_penalty": 1.5, "instances": 5}  # fmt: skip
    assert found["blacklist"] == "image,images,graph,graphs,picture,pictures,file,files,map,maps,draw,plot,go to"
    assert (len(classified.CLASSIFIED), sum(yes for _, yes in classified.CLASSIFIED)) == (31, 12)


def test_the_175_seeds_through_a_replay(tmp_path, shared):
    kept, rejected, asked = run(tmp_path, teacher, shared / SEEDS, self_instruct__policy="english",
                                self_instruct__count=60)
    tasks = [json.loads(line)["instruction"] for line in open(shared / SEEDS, encoding="utf-8")]
    tasks = {" ".join(text.split()).rstrip(":") for text in tasks}
    requests = [call for call in asked if call.prompt.startswith("Here is")]
    for number, call in enumerate(requests):
        assert (call.temperature, call.top_p, call.presence_penalty, call.max_tokens) == (0.7, 0.5, 2.0, 1024)
        assert call.stop == ("\n\n", "\n16", "16.", "16 .") and call.prompt.endswith("\n9.")
        assert len(shown(call)) == 8 and sum(text in tasks for text in shown(call)) == (8 if number < 5 else 6)
    checks = [call for call in asked if call.prompt.startswith("Is this")]
    assert {(c.temperature, c.max_tokens, c.stop) for c in checks} == {(0.0, 3, ("\n", "Task"))}
    made = [call for call in asked if call.prompt.startswith("For each")]
    assert len(checks) == len(made) >= 60
    assert {(c.temperature, c.max_tokens, c.presence_penalty, c.stop) for c in made} == {
        (0.0, 300, 1.5, ("Example 6", "Task:")), (0.0, 350, 1.5, ("Example 6", "Task:"))}
    memory = read(tmp_path / "out/memory.jsonl")
    assert len(memory) == len(set(memory)) == len(checks)
    assert all(text == text.capitalize() for text in memory)  # as the released code has it
    counts = Counter(row["reason"] for row in rejected)
    assert {"too_similar", "cut", "colon"} <= set(counts) and counts["too_similar"] > 5
    record = kept[0]
    assert record["provenance"]["method"] == "self_instruct" and len(record["provenance"]["parents"]) == 8
    assert [step.partition(":")[0] for step in record["provenance"]["steps"]] == ["instruction", "classification",
                                                                                 "instances"]
    assert record["messages"][0]["content"].startswith(memory[0])


def test_of_a_response_that_was_cut_no_instruction_is_taken(tmp_path):
    said = " Name the longest river.\n10. Name the highest mountain of all."
    kept, rejected, asked = run(
        tmp_path, lambda call: Reply(said, "length"), self_instruct__patience=10, self_instruct__requests=5)
    assert not kept and {row["reason"] for row in rejected} == {"cut"} and len(asked) == len(rejected) == 10
    result = json.loads((tmp_path / "out/funnel.json").read_text())
    assert result["ended"] == "10 requests brought no new instruction; 0 of 100 made" and not result["goes_on"]


def test_classifications_ask_for_labels_first(tmp_path):
    def answer(call):
        if call.prompt.startswith("Here is"):
            return f" Tell whether number {call.seed} {'xyz'[call.seed % 3] * 4} is even or odd."
        if call.prompt.startswith("Is this"):
            return " Yes"
        assert call.prompt.startswith("For each classification") and call.max_tokens == 300
        return "".join(f"Class label: {n}\nNumber: {n * n}\n" for n in range(7))

    kept, rejected, _ = run(tmp_path, answer, self_instruct__count=1, self_instruct__requests=1)
    assert len(kept) == 5 and [row["reason"] for row in rejected] == ["too_many"] * 2
    assert kept[0]["meta"]["is_classification"] is True
    assert kept[0]["messages"][0]["content"].endswith(f"\n\n{kept[0]['meta']['input']}")


def test_classification_seeds_alone_on_demand(tmp_path):
    *_, asked = run(tmp_path, teacher, write(tmp_path / "s.jsonl", seeds(30)), self_instruct__count=1,
                    self_instruct__classification_seeds=True)
    assert "few labels" in asked[0].prompt
    assert all(int(re.search(r"number (\d+)", text)[1]) % 3 == 0 for text in shown(asked[0]))


def test_a_chat_teacher_is_asked_in_messages(tmp_path):
    def answer(call):
        [(role, text)] = call.prompt
        assert role == "user" and not call.stop
        if "Go on with this list: write tasks 9 to 16" in text:
            return "Sure, here they are:\n9. Name the longest river.\n\n10. Count all the moons of Saturn."
        if "with Yes or No" in text:
            return "No."
        return "Example 1\nInput: Asia\nOutput: Yangtze"

    kept, rejected, _ = run(tmp_path, answer, self_instruct__form="chat", self_instruct__count=2)
    assert sorted({row["messages"][0]["content"] for row in kept}) == [
        "Count all the moons of Saturn.\n\nAsia", "Name the longest river.\n\nAsia"]
    assert {row["reason"] for row in rejected} == {"too_similar"}


def test_what_is_lost_is_counted_where_it_is(tmp_path):
    def answer(call):
        if call.prompt.startswith("Here is"):
            return Lost("failed", "500") if call.seed == 0 else (
                " Name the longest river.\n10. Count all the moons of Saturn.\n11. Sing me a song tonight.")
        if "longest river" in call.prompt.rpartition("Task: ")[2]:
            return Lost("filtered", "policy") if call.prompt.startswith("Is this") else "Output: x"
        if "moons of" in call.prompt.rpartition("Task: ")[2] and call.prompt.startswith("For"):
            return Lost("too_long")
        return " No" if call.prompt.startswith("Is this") else "Output: La la."

    kept, rejected, _ = run(tmp_path, answer, self_instruct__count=3, self_instruct__requests=2)
    assert [row["messages"][1]["content"] for row in kept] == ["La la."]
    assert Counter(row["reason"] for row in rejected) == {"failed": 1, "filtered": 1, "too_long": 1}


@pytest.mark.parametrize("rows, message", [
    ([{"instruction": "Name a prime.", "instances": []}] * 9, "seeds.jsonl:1: an instruction without an "
     "instance; none of 9 rows of config.input can be read"),
    ([{"prompt": f"Name prime number {i}."} for i in range(9)], "seeds.jsonl:1: is no seed task of self_instruct: it "
     "has no instance with an output"),
    (seeds(7), "a request shows 8 tasks (config.self_instruct.in_context), and there are 7 seeds"),
    (["{broken", *seeds(3)], "and there are 3 seeds"),
])
def test_seed_files_that_cannot_be_used(tmp_path, rows, message):
    with pytest.raises(UserError) as error:
        run(tmp_path, teacher, write(tmp_path / "seeds.jsonl", rows))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_malformed_seeds_among_good_ones_are_counted(tmp_path):
    rows = [*seeds(8), "{broken", {"instruction": "Name a prime.", "instances": []},
            {"instruction": "Name a prime.", "instances": "none"}]
    _, rejected, _ = run(tmp_path, teacher, write(tmp_path / "seeds.jsonl", rows), self_instruct__count=1)
    read_ = [row for row in rejected if row["stage"] == "read"]
    assert [(row["source"].rpartition(":")[2], row["reason"]) for row in read_][:2] == [("9", "json"),
                                                                                       ("10", "no_instance")]
    counts = json.loads((tmp_path / "out/funnel.json").read_text())["records"]
    assert (counts["read"], counts["malformed"] + counts["left_out"]) == (11, 3)


def test_the_175_seeds_through_a_local_model(tmp_path, shared, toy_model):
    """A tiny untrained model says rubbish; every word of it has a reason, and a second run asks for nothing."""
    given = config("self_instruct", tmp_path / "out", input=shared / SEEDS, teacher__model=toy_model,
                   self_instruct__max_tokens=16, self_instruct__patience=2, self_instruct__requests=2,
                   self_instruct__label_tokens=16, self_instruct__instance_tokens=16, teacher__batch_size=2)
    folder = distill(given)
    result = json.loads((folder / "funnel.json").read_text())
    account = result["generators"]["teacher"]["account"]
    assert result["records"]["read"] == 175 and account["calls"] >= 2 and account["output_tokens"] > 0
    assert result["records"]["rejected"] == len(read(folder / "rejected.jsonl")) > 0
    before = (folder / "kept.jsonl").read_bytes(), (folder / "rejected.jsonl").read_bytes()
    distill(given)
    assert before == ((folder / "kept.jsonl").read_bytes(), (folder / "rejected.jsonl").read_bytes())
    assert json.loads((folder / "funnel.json").read_text())["generators"]["teacher"]["account"]["calls"] == 0


def test_a_response_without_a_task_is_counted(tmp_path):
    kept, rejected, asked = run(tmp_path, lambda call: "", self_instruct__patience=4, self_instruct__requests=2)
    assert not kept and len(asked) == 4 and [row["reason"] for row in rejected] == ["no_task"] * 4
