"""A teacher's responses: prompts as they were, who was drawn, and a reason for what is not kept."""

import json
from collections import Counter

import pytest

from jitune.construct.distill.run import distill
from jitune.generators.call import Lost, Reply
from jitune.generators.replay import Replay
from jitune.types import UserError
from tests.construct.distill.made import config, read, write

TOOLS = [{"type": "function", "function": {"name": "look_up", "description": "", "parameters": {"type": "object"}}}]


def run(tmp_path, rows, answer, **options):
    """(kept, rejected, the teacher) of a run over rows."""
    data, teacher = write(tmp_path / "in.jsonl", rows), Replay(answer)
    folder = distill(config("respond", tmp_path / "out", input=data, **options), teacher=teacher)
    return read(folder / "kept.jsonl"), read(folder / "rejected.jsonl"), teacher


def test_all_before_the_last_answer_is_the_prompt(tmp_path):
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi!"}, {"role": "user", "content": "Name a prime."},
            {"role": "assistant", "content": "8"}]
    call = {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "look_up", "arguments": {"what": "primes"}}}]}
    tooled = [{"role": "user", "content": "Name a prime."}, call, {"role": "tool", "content": "7"}]
    kept, rejected, teacher = run(tmp_path, [{"messages": talk}, {"messages": tooled, "tools": TOOLS}],
                                  lambda call: "It is 7.", respond__temperature=0.3, respond__max_tokens=9)
    assert not rejected and len(teacher.asked) == 2
    assert teacher.asked[0].prompt == (("system", "Be kind."), ("user", "Hello"), ("assistant", "Hi!"),
                                       ("user", "Name a prime."))
    assert kept[0]["messages"] == [*talk[:-1], {"role": "assistant", "content": "It is 7."}]
    assert kept[1]["messages"][:-1] == tooled and kept[1]["tools"] == TOOLS
    assert kept[1]["provenance"]["steps"] == ["tools_unseen", "respond"]
    said = kept[0]["provenance"]
    assert said["method"] == "respond" and said["source"].endswith("in.jsonl:1") and len(said["parents"]) == 1
    assert said["sampling"] == {"max_tokens": 9, "temperature": 0.3} and said["model"] == "replay"
    assert (said["seed"], len(said["prompt_hash"]), said["steps"]) == (0, 16, ["respond"])


def test_every_fault_has_its_reason(tmp_path):
    said = {
        "a": "I'm sorry, but I can't help with that.", "b": "the same again and " * 30, "c": "",
        "d": "caf\u00c3\u00a9 cr\u00c3\u00a8me",
        "e": Reply("It goes on and", "length"), "f": Lost("too_long", "9,000 tokens"), "g": Lost("failed", "500"),
        "h": "half of a pair \ud83d", "i": "N/A", "j": "A fine answer."}  # fmt: skip
    rows = [{"prompt": f"Question {name}"} for name in said]
    kept, rejected, _ = run(tmp_path, [*rows, {"text": "no prompt"}], lambda call: said[call.prompt[-1][1][-1]])
    assert [row["messages"][-1]["content"] for row in kept] == ["A fine answer."]
    reasons = {row["source"].rpartition(":")[2]: row["reason"] for row in rejected}
    assert reasons == {"1": "refusal", "2": "loop", "3": "empty_answer", "4": "mojibake", "5": "cut", "6": "too_long",
                       "7": "failed", "8": "encoding", "9": "not_available", "11": "no_prompt"}
    cut = next(row for row in rejected if row["reason"] == "cut")
    assert cut["text"] == "It goes on and"


def test_no_answer_is_no_answer_without_filters_too(tmp_path):
    said = {"A": " \n", "B": "N/A"}
    kept, rejected, _ = run(tmp_path, [{"prompt": "A"}, {"prompt": "B"}], lambda call: said[call.prompt[-1][1]],
                            respond__filters="")
    assert [row["messages"][-1]["content"] for row in kept] == ["N/A"]
    assert [(row["reason"], row["source"][-1]) for row in rejected] == [("empty_answer", "1")]


def test_who_was_drawn_before_is_not_who_is_drawn_now(tmp_path):
    """The records of one run are the prompts of another."""
    people = {"respond__personas": "a cook", "respond__systems": "Be brief."}
    rows = [{"prompt": "Name a soup."}]
    (tmp_path / "first").mkdir()
    [first], _, _ = run(tmp_path / "first", rows, lambda call: f"Said to {call.prompt[-1][1][:3]}.", **people)
    assert first["meta"] == {"persona": "a cook", "system": "Be brief."}
    [second], _, teacher = run(tmp_path, [first], lambda call: "A better one.", respond__keep_system=False)
    assert second["provenance"]["parents"] == [first["id"]]
    assert second["messages"][0] == {"role": "system", "content": "Be brief."} and len(teacher.asked) == 1


def test_an_earlier_turn_is_not_the_teachers(tmp_path):
    talk = [{"role": "user", "content": "A"}, {"role": "user", "content": "B"}]
    talk.insert(1, {"role": "assistant", "content": "I'm sorry, but I can't help with that."})
    kept, rejected, _ = run(tmp_path, [{"messages": talk}], lambda call: "A fine answer.")
    assert len(kept) == 1 and not rejected


def test_several_samples_differ_by_their_seed(tmp_path):
    kept, rejected, teacher = run(tmp_path, [{"prompt": "Name a prime."}, {"prompt": "Name a square."}],
                                  lambda call: f"It is {call.seed % 2}.", respond__n=3, seed=5)
    assert [call.seed for call in teacher.asked] == [15, 16, 17] * 2
    assert len(kept) == 4 and Counter(row["reason"] for row in rejected) == {"duplicate": 2}
    assert len({row["id"] for row in kept}) == 4


def test_a_raw_prompt_is_continued_where_it_can_be(tmp_path):
    row = {"id": "1", "prompt": "Once upon", "completion": " a time", "provenance": {}}
    kept, _, teacher = run(tmp_path, [row], lambda call: " a mattress.")
    assert teacher.asked[0].prompt == "Once upon"
    assert (kept[0]["prompt"], kept[0]["completion"]) == ("Once upon", " a mattress.")
    chat = Replay(lambda call: "There was a mattress.")
    chat.raw = False
    distill(config("respond", tmp_path / "chat", input=tmp_path / "in.jsonl"), teacher=chat)
    assert chat.asked[0].prompt == (("user", "Once upon"),)


def test_systems_are_drawn_by_seed(tmp_path):
    own = {"messages": [{"role": "system", "content": "Mine."}, {"role": "user", "content": "Question"}]}
    rows = [own, *({"prompt": f"Question {i}"} for i in range(30))]
    options = {"respond__systems": "Be brief.|Be thorough.", "seed": 1}
    kept, _, teacher = run(tmp_path, rows, lambda call: f"Answer to {call.prompt}.", **options)
    drawn = [row["messages"][0]["content"] for row in kept]
    assert drawn[0] == "Mine." and 5 < drawn.count("Be brief.") < 25 and set(drawn[1:]) == {"Be brief.", "Be thorough."}
    assert [row["meta"]["system"] for row in kept[1:]] == drawn[1:]
    assert [call.prompt[0] for call in teacher.asked] == [("system", text) for text in drawn]
    (tmp_path / "again").mkdir()
    again, _, _ = run(tmp_path / "again", rows, lambda call: f"Answer to {call.prompt}.", respond__keep_system=False,
                      **options)
    assert [row.get("meta", {}).get("system") for row in again[1:]] == drawn[1:]  # the same draw
    assert [row["messages"][0]["role"] for row in again] == ["system"] + ["user"] * 30


def test_personas_ask(tmp_path):
    people = write(tmp_path / "people.jsonl", [{"persona": "a baker in Lyon"}, {"persona": "a retired pilot"}])

    def answer(call):
        text = call.prompt[-1][1]
        if "Think of this person" in text:
            task = f"Task {call.seed} of {text[text.index(':') + 2:][:9]}"
            return Reply("never ends", "length") if call.seed == 3 else task
        return f"Done: {text}."

    teacher = Replay(answer)
    folder = distill(config("respond", tmp_path / "out", respond__personas=people, respond__count=6), teacher=teacher)
    kept, rejected = read(folder / "kept.jsonl"), read(folder / "rejected.jsonl")
    assert len(kept) + len(rejected) == 6 and {row["meta"]["persona"] for row in kept} == {
        "a baker in Lyon", "a retired pilot"}
    first = kept[0]
    assert first["messages"][0]["content"].startswith("Task 0 of a ")
    assert first["messages"][1]["content"] == f"Done: {first['messages'][0]['content']}."
    assert [step.partition(":")[0] for step in first["provenance"]["steps"]] == ["task", "respond"]
    assert teacher.asked[0].temperature == 1.0 and "parents" not in first["provenance"]
    # With records, each shows what kind of task is wanted, and is its parent.
    data = write(tmp_path / "in.jsonl", [{"prompt": "Convert 3 cups to litres."}])
    teacher = Replay(answer)
    folder = distill(config("respond", tmp_path / "two", input=data, respond__personas="a cook"), teacher=teacher)
    assert "Convert 3 cups to litres." in teacher.asked[0].prompt[0][1] and "a cook" in teacher.asked[0].prompt[0][1]
    assert len(read(folder / "kept.jsonl")[0]["provenance"]["parents"]) == 1


@pytest.mark.parametrize("options, message", [
    ({}, "respond: there is no prompt; give config.input"),
    ({"respond__personas": "a cook"}, "respond: there is no prompt"),
    ({"respond__systems": "nowhere.txt"}, "config.respond.systems=nowhere.txt: no such file"),
    ({"respond__filters": "minhash"}, "config.respond.filters=minhash: minhash looks at more than one answer"),
    ({"respond__filters": "emty"}, "there is no stage 'emty'; the nearest are empty"),
    ({"respond__n": 0}, "config.respond.n=0 must be at least 1"),
])
def test_what_cannot_be(tmp_path, options, message):
    with pytest.raises(UserError) as error:
        distill(config("respond", tmp_path / "out", **options), teacher=Replay(lambda call: "x"))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_lists_of_texts_that_cannot_be_read(tmp_path):
    bad = write(tmp_path / "people.jsonl", [{"persona": "a cook"}, {"name": "Ann"}])
    with pytest.raises(UserError, match=r"people.jsonl:2: has no text under 'persona'"):
        distill(config("respond", tmp_path / "out", respond__personas=bad, respond__count=1),
                teacher=Replay(lambda call: "x"))


def test_davincis_outputs_through_the_filters(tmp_path, shared):
    """A base model's continuations of the 252 user-oriented tasks, and those of the model that Self-Instruct tuned."""
    found = {}
    for name in ("davinci_predictions", "davinci_self_instruct_predictions"):
        rows = [json.loads(line) for line in open(shared / f"data/self_improvement/{name}.jsonl", encoding="utf-8")]
        said = {row["prompt"]: row["response"] for row in rows}
        (tmp_path / name).mkdir()
        kept, rejected, _ = run(tmp_path / name, [{"prompt": prompt} for prompt in said],
                                lambda call, said=said: said[call.prompt[-1][1]])
        found[name] = {"kept": len(kept), **Counter(row["reason"] for row in rejected)}
        assert sum(found[name].values()) == 252
    assert found == {
        "davinci_predictions": {"kept": 1, "loop": 225, "repeated_lines": 22, "repeated_n_grams": 4},
        "davinci_self_instruct_predictions": {"kept": 233, "loop": 12, "only_punctuation": 1, "repeated_lines": 3,
                                              "repeated_n_grams": 3}}


def test_samples_that_would_all_be_the_same_are_refused(tmp_path):
    with pytest.raises(UserError, match="respond.n=3 at temperature=0 would all be the same"):
        run(tmp_path, [{"prompt": "Hi"}], lambda call: "Hello.", respond__n=3, respond__temperature=0.0)


def test_a_prompt_without_words_is_not_paid_for(tmp_path):
    rows = [{"messages": [{"role": "user", "content": said}]} for said in ("", " \n", "Hi")]
    kept, rejected, teacher = run(tmp_path, rows, lambda call: "Hello there.")
    assert len(kept) == 1 and [row["reason"] for row in rejected] == ["no_prompt"] * 2 and len(teacher.asked) == 1
