"""Preferences as documents: every shape that files have, what is trained, what is dropped and why, and real files."""

import gzip
import json
import time

import numpy as np
import pytest
from ml_collections import ConfigDict

from jitune.data import pairs, pipeline
from jitune.data.record import Candidate, Provenance, Record
from jitune.data.record_rows import to_row
from jitune.types import MISMATCHED, UserError
from tests.data import toy

ASK, GOOD, BAD = "what is two plus two?", "it is four.", "I am fine"


def config(**given):
    defaults = {
        "train": "", "eval": "", "weights": "", "format": "auto", "fields": "", "chat_template": "chatml",
        "train_on": "assistant", "split_turns": False, "overlong": "truncate",
    }  # fmt: skip
    return ConfigDict({**defaults, **given})


@pytest.fixture(scope="module")
def tokenizer():
    return toy.make_tokenizer()


@pytest.fixture
def prepare(tokenizer, tmp_path):
    """`prepare(rows, seq_len, objective=..., **options of the data) -> Prepared`."""

    def make(rows, seq_len=512, *, objective="dpo", **options):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows))
        return pairs.prepare_pairs(config(train=str(path), **options), tokenizer, seq_len, objective=objective)

    return make


def chatml(*turns):
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)


def texts(prepared, tokenizer):
    """(side, the whole text, what of it is trained) of every document."""
    for source in prepared.sources:
        for unit in (source[i] for i in range(len(source))):
            for side in dict.fromkeys(unit["sides"].tolist()):
                inside = unit["sides"] == side
                tokens, trained = unit["tokens"][inside], unit["loss_weights"][inside] > 0
                yield side, tokenizer.decode(tokens), tokenizer.decode(tokens[trained])


def user(text):
    return [{"role": "user", "content": text}]


def assistant(text):
    return [{"role": "assistant", "content": text}]


HUMAN = {"from": "human", "value": ASK}
SHAPES = {
    "standard": {"prompt": ASK, "chosen": GOOD, "rejected": BAD},
    "conversational": {"prompt": user(ASK), "chosen": assistant(GOOD), "rejected": assistant(BAD)},
    "implicit prompt": {"chosen": user(ASK) + assistant(GOOD), "rejected": user(ASK) + assistant(BAD)},
    "implicit prompt beside explicit": {"prompt": user(ASK), "chosen": user(ASK) + assistant(GOOD),
                                        "rejected": user(ASK) + assistant(BAD)},
    "standard, implicit": {"chosen": f"{ASK} {GOOD}", "rejected": f"{ASK} {BAD}"},
    "sharegpt": {"conversations": [HUMAN], "chosen": {"from": "gpt", "value": GOOD},
                 "rejected": {"from": "gpt", "value": BAD}},
    "HH": {"chosen": f"\n\nHuman: {ASK}\n\nAssistant: {GOOD}", "rejected": f"\n\nHuman: {ASK}\n\nAssistant: {BAD}"},
    "two outputs": {"input": ASK, "output_1": BAD, "output_2": GOOD, "label": 2},
    "ranking": {"prompt": ASK, "answers": [BAD, "hello", GOOD], "ranks": [3, 2, 1]},
    "record": to_row(Record("1", tuple(user(ASK)), chosen=tuple(assistant(GOOD)), rejected=tuple(assistant(BAD)))),
    "candidates": to_row(Record("1", tuple(user(ASK)), candidates=tuple(
        Candidate(tuple(assistant(text)), score=score)
        for text, score in (("hello", 2.0), (GOOD, 5.0), (BAD, 1.0), ("you", None))))),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_pairs(shape, prepare, tokenizer):
    prepared = prepare([SHAPES[shape]])
    begin = chatml(("user", ASK))
    expected = [(side, begin + chatml(("assistant", text)), f"{text}<|im_end|>")
                for side, text in ((1, GOOD), (-1, BAD))]  # fmt: skip
    found = [(side, text.replace("\n ", "\n"), trained.strip()) for side, text, trained in texts(prepared, tokenizer)]
    assert found == expected
    assert prepared.stats.examples == 1 and prepared.stats.tokens == len(prepared.sources[0].tokens)
    assert prepared.stats.supervised_tokens == np.count_nonzero(prepared.sources[0].loss_weights)


LABELLED = {
    "standard": {"prompt": f"{ASK} ", "completion": GOOD, "label": True},
    "conversational": {"prompt": user(ASK), "completion": assistant(GOOD), "label": True},
    "messages": {"messages": user(ASK) + assistant(GOOD), "label": True},
    "record": to_row(Record("1", tuple(user(ASK) + assistant(GOOD)), label=True, provenance=Provenance())),
}  # fmt: skip


@pytest.mark.parametrize("shape", LABELLED)
def test_shapes_of_labels(shape, prepare, tokenizer):
    other = {"prompt": "hello world", "completion": BAD, "label": False}
    if shape != "standard":
        other = {"messages": user("hello world") + assistant(BAD), "label": False}
    found = list(texts(prepare([LABELLED[shape], other], objective="kto"), tokenizer))
    if shape == "standard":  # raw text, as everywhere, without a template
        whole = [f"{ASK} {GOOD}<|endoftext|>", f"{ASK} {BAD}<|endoftext|>", f"hello world{BAD}<|endoftext|>",
                 f"hello world{GOOD}<|endoftext|>"]  # fmt: skip
    else:
        whole = [chatml(("user", ask), ("assistant", text)) for ask, text in
                 ((ASK, GOOD), (ASK, BAD), ("hello world", BAD), ("hello world", GOOD))]  # fmt: skip
    end = "<|endoftext|>" if shape == "standard" else "<|im_end|>"
    trained = [text + end for text in (GOOD, BAD, BAD, GOOD)]
    assert found == list(zip((1, MISMATCHED, -1, MISMATCHED), whole, trained, strict=True))


def test_only_what_follows_the_common_prompt_is_trained(prepare, tokenizer):
    before = [*user("hello"), *assistant("hello world"), *user(ASK)]
    longer = [*assistant(GOOD), *user("and you?"), *assistant("fine")]
    row = {"prompt": before, "chosen": longer, "rejected": assistant(BAD)}
    found = [trained for _, _, trained in texts(prepare([row]), tokenizer)]
    assert found == [f"{GOOD}<|im_end|>fine<|im_end|>", f"{BAD}<|im_end|>"]
    assert [trained for *_, trained in texts(prepare([row], train_on="last"), tokenizer)][0] == "fine<|im_end|>"
    row = {"messages": [*before, *assistant(GOOD)], "label": False}
    other = {"messages": [*user("who?"), *assistant("you")], "label": True}
    found = [trained for _, _, trained in texts(prepare([row, other], objective="kto"), tokenizer)]
    assert found[0] == f"{GOOD}<|im_end|>"


def test_tools_are_rendered(prepare, tokenizer):
    tools = [{"type": "function", "function": {"name": "add", "description": "adds", "parameters": {}}}]
    found = [text for _, text, _ in texts(prepare([{**SHAPES["conversational"], "tools": tools}], 2000), tokenizer)]
    assert len(found) == 2 and all('"name": "add"' in text for text in found)


def test_pairs_serve_kto(prepare, tokenizer):
    rows = [{"prompt": f"question {i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(3)]
    found = list(texts(prepare(rows, objective="kto"), tokenizer))
    assert [side for side, *_ in found] == [1, MISMATCHED, -1, MISMATCHED] * 3
    trained = [text.removesuffix("<|im_end|>") for *_, text in found]
    # Never an answer to the same prompt: that of the last example before it with another one.
    assert trained == ["good 0", "bad 2", "bad 0", "bad 2", "good 1", "bad 0", "bad 1", "bad 0", "good 2", "bad 1",
                       "bad 2", "bad 1"]  # fmt: skip


def test_find_others_are_the_nearest_before_with_another_prompt_and_answer():
    rng = np.random.default_rng(0)
    for _ in range(50):
        count = int(rng.integers(1, 40))
        prompts, endings = rng.integers(0, rng.integers(1, 5), count), rng.integers(0, rng.integers(1, 5), count)
        prompts = np.sort(prompts) if rng.random() < 0.5 else prompts
        for i, other in enumerate(pairs.find_others(prompts, endings)):
            order = [(i - step) % count for step in range(1, count)]
            fitting = [j for j in order if prompts[j] != prompts[i] and endings[j] != endings[i]]
            assert other == (fitting[0] if fitting else None)


def test_many_answers_to_one_prompt_take_no_square_of_their_number():
    """A hundred samples of each problem lie together: looked at one by one they would be 2.5e9 comparisons."""
    prompts, endings = np.repeat(np.arange(3000), 100), np.arange(300_000) // 7
    began = time.process_time()
    found = list(pairs.find_others(prompts, endings))
    assert time.process_time() - began < 10
    assert found[:2] == [299_999, 299_999] and found[1234] == 1199 and found[202] == 195  # the next ends alike


# What is dropped.

GOOD_ROW = SHAPES["standard"]
DROPPED = {
    "both answers are the same": {"prompt": ASK, "chosen": GOOD, "rejected": GOOD},
    "an answer is empty": {"prompt": ASK, "chosen": GOOD, "rejected": " "},
    "there is no prompt in common": {"chosen": user("a") + assistant(GOOD), "rejected": user("b") + assistant(BAD)},
    "an answer is missing or not the assistant's": {"prompt": user(ASK), "rejected": assistant(BAD),
                                                    "chosen": assistant(GOOD) + user("no")},
    "a tie": {"input": ASK, "output_1": BAD, "output_2": GOOD, "label": 0},
    "there are neither two answers nor a label": {"messages": user(ASK) + assistant(GOOD)},
    "a label alone makes no pair": LABELLED["messages"],
    "fewer than two candidates have ranks or scores": to_row(Record("1", tuple(user(ASK)), candidates=(
        Candidate(tuple(assistant(GOOD)), rank=0), Candidate(tuple(assistant(BAD)))))),
    # One token of white space that the template strips makes no difference.
    "both answers have the same tokens": {"prompt": user(ASK), "chosen": [{**assistant(GOOD)[0], "name": "a"}],
                                          "rejected": [{**assistant(GOOD)[0], "name": "b"}]},
}  # fmt: skip


@pytest.mark.parametrize("reason", DROPPED)
def test_pairs_that_say_nothing_are_counted(reason, prepare):
    prepared = prepare([GOOD_ROW, DROPPED[reason], GOOD_ROW])
    assert len(prepared.sources[0]) == 2
    assert prepared.stats.examples == 3 and prepared.stats.dropped_examples == 1
    assert f"dropped because {reason}: 1" in pipeline.summary(prepared.stats)


def test_answers_without_a_label_or_another_prompt_are_counted(prepare):
    rows = [LABELLED["messages"], {**LABELLED["messages"], "label": None}]
    with pytest.raises(UserError, match="leaves nothing to train on") as error:
        prepare(rows, objective="kto")
    assert "neither two answers nor a label: 1" in str(error.value)
    assert "no other prompt's answer to compare with: 1" in str(error.value)


def test_long_pairs(prepare, tokenizer):
    rows = [{"prompt": ASK, "chosen": "five " * chosen, "rejected": "two " * rejected}
            for chosen, rejected in ((3, 3), (3, 60), (60, 60))]  # fmt: skip
    rows.append({"prompt": ASK * 9, "chosen": "yes", "rejected": "no"})
    whole = prepare(rows, 10_000)
    lengths = [[int((whole.sources[0][i]["sides"] == side).sum()) for side in (1, -1)] for i in range(4)]
    room = sum(lengths[0]) + 9
    cut = prepare(rows, room)
    assert (cut.stats.examples, cut.stats.truncated_examples, cut.stats.dropped_examples) == (4, 2, 1)
    assert "dropped because nothing of what fits is trained: 1" in pipeline.summary(cut.stats)
    found = [[int((unit["sides"] == side).sum()) for side in (1, -1)] for unit in (cut.sources[0][i] for i in range(3))]
    assert found == [lengths[0], [lengths[1][0], room - lengths[1][0]], [room // 2, room // 2]]
    assert cut.stats.truncated_tokens == sum(sum(pair) for pair in lengths[:3]) - sum(map(sum, found))
    for i in range(3):  # what is left is the beginning
        for side in (1, -1):
            one, other = (source.sources[0][i] for source in (cut, whole))
            kept = one["tokens"][one["sides"] == side]
            np.testing.assert_array_equal(kept, other["tokens"][other["sides"] == side][: len(kept)])
    dropped = prepare(rows, room, overlong="drop")
    assert len(dropped.sources[0]) == 1 and dropped.stats.dropped_tokens == sum(sum(pair) for pair in lengths[1:])
    assert "dropped because the two answers do not fit a row: 3" in pipeline.summary(dropped.stats)


def test_a_mismatched_answer_is_cut_before_the_labelled_one(prepare):
    rows = [{"messages": user(ASK) + assistant("yes"), "label": True},
            {"messages": user("who?") + assistant("five " * 40), "label": False}]  # fmt: skip
    whole, cut = (prepare(rows, size, objective="kto", overlong="drop") for size in (1000, 110))
    first, second = (source.sources[0][0] for source in (whole, cut))
    assert (first["sides"] == 1).sum() == (second["sides"] == 1).sum()
    assert len(second["tokens"]) == 110 < len(first["tokens"])


def one_record(row):
    """A format of one's own."""
    if row["a"] == "bad":
        return [row]
    return Record("", tuple(user(row["q"])), chosen=tuple(assistant(row["a"])), rejected=tuple(assistant(row["b"])))


def test_formats(prepare, tokenizer):
    rows = [{"q": ASK, "a": GOOD, "b": BAD}]
    expected = list(texts(prepare([SHAPES["conversational"]]), tokenizer))
    assert list(texts(prepare(rows, format="tests.data.test_pairs:one_record"), tokenizer)) == expected
    assert list(texts(prepare(rows, format="pairs", fields="prompt=q,chosen=a,rejected=b"), tokenizer)) == expected
    for options, message in [
        ({"format": "sharegpt"}, "unknown format 'sharegpt' of preferences; known: auto, jitune, two_outputs, pairs"),
        ({"format": "kto"}, r"jsonl:1: is no row of the format kto"),
        ({}, r"jsonl:1: no known format of preferences: the row has keys \['q', 'a', 'b'\]; .*answers with ranks"),
        ({"overlong": "split"}, "overlong='split' has no meaning for dpo; it takes drop or truncate"),
        ({"train_on": "all"}, "train_on='all' has no meaning"),
        ({"split_turns": True}, "split_turns=True has no meaning"),
        ({"objective": "sft"}, "'sft' does not learn from preferences; dpo, simpo, orpo, kto do"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=message):
            prepare(rows, **options)
    with pytest.raises(UserError, match="returned dict, not a Record"):
        prepare([{"a": "bad"}], format="tests.data.test_pairs:one_record")
    with pytest.raises(UserError, match=r"jsonl:2: 'chosen'"):
        prepare([GOOD_ROW, {"prompt": ASK, "chosen": [{"role": "nobody", "content": "x"}], "rejected": BAD}])
    with pytest.raises(UserError, match=r"--config.data.train names no data"):
        pairs.prepare_pairs(config(), tokenizer, 64)


def test_eval_data_and_weights(tokenizer, tmp_path):
    for name, count in (("a", 2), ("b", 3)):
        rows = [{"prompt": f"{name} {i}", "chosen": "yes", "rejected": "no"} for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = config(train=f"{tmp_path}/a.jsonl,{tmp_path}/b.jsonl", eval=f"{tmp_path}/b.jsonl", weights="0.5,0.5")
    prepared = pairs.prepare_pairs(given, tokenizer, 64, objective="orpo")
    assert [len(source) for source in prepared.sources] == [2, 3] and prepared.weights == (0.5, 0.5)
    judged = pairs.prepare_pairs(given, tokenizer, 64, objective="orpo", eval=True)
    assert [len(source) for source in judged.sources] == [3] and judged.weights is None


# Real files, with what they hold counted here.


def real(shared, name, tokenizer, objective, seq_len=100_000):
    path = str(shared / "data" / "preference" / name)
    return pairs.prepare_pairs(config(train=path), tokenizer, seq_len, objective=objective)


def test_sharegpt_pairs(shared, tokenizer):
    rows = json.loads((shared / "data" / "preference" / "dpo_en_demo.json").read_text())
    prepared = real(shared, "dpo_en_demo.json", tokenizer, "dpo")
    assert prepared.stats.examples == len(prepared.sources[0]) == len(rows) == 300
    found = iter(texts(prepared, tokenizer))
    roles = {"human": "user", "gpt": "assistant", "system": "system"}
    for row in rows:
        before = [(roles[turn["from"]], turn["value"]) for turn in row["conversations"]]
        for side, key in ((1, "chosen"), (-1, "rejected")):
            expected = chatml(*before, ("assistant", row[key]["value"]))
            assert next(found) == (side, expected, row[key]["value"] + "<|im_end|>")
    assert next(found, None) is None


def test_labelled_answers(shared, tokenizer):
    rows = json.loads((shared / "data" / "preference" / "kto_en_demo.json").read_text())
    prepared = real(shared, "kto_en_demo.json", tokenizer, "kto")
    assert prepared.stats.examples == len(prepared.sources[0]) == len(rows) == 300
    found = list(texts(prepared, tokenizer))
    assert [side for side, *_ in found[0::2]] == [1 if row["label"] else -1 for row in rows]
    asked = [[(m["role"], m["content"]) for m in row["messages"][:-1]] for row in rows]
    said = [row["messages"][-1]["content"] for row in rows]
    for i in range(300):
        before = ((i - step) % 300 for step in range(1, 300))
        other = next(j for j in before if asked[j] != asked[i] and said[j] != said[i])
        for (side, text, trained), j in ((found[2 * i], i), (found[2 * i + 1], other)):
            assert text == chatml(*asked[i], ("assistant", said[j])) and trained == said[j] + "<|im_end|>"
            assert (side == MISMATCHED) == (j != i)


def test_hh(shared, tokenizer):
    path = shared / "data" / "preference" / "hh_rlhf_harmless_base_test.jsonl.gz"
    rows = [json.loads(line) for line in gzip.open(path, "rt", encoding="utf-8")]
    answers = [[row[key].rsplit("\n\nAssistant:", 1)[1].strip() for key in ("chosen", "rejected")] for row in rows]
    kept = [pair for pair in answers if all(pair)]
    prepared = real(shared, path.name, tokenizer, "dpo")
    assert prepared.stats.examples == len(rows) == 2312 and len(prepared.sources[0]) == len(kept)
    assert prepared.stats.dropped_examples == len(rows) - len(kept) == 4
    trained = [text for *_, text in texts(prepared, tokenizer)]
    ends = [f"{text}<|im_end|>" for pair in kept for text in pair]
    assert all(one.endswith(end) for one, end in zip(trained, ends, strict=True))
    # All but the few whose dialogues part earlier are the last answer alone.
    assert sum(one != end for one, end in zip(trained, ends, strict=True)) <= 2 * 5
    assert prepared.stats.notes["answers of more than one message"] == 5


def test_llmbar(shared, tokenizer):
    rows = json.loads((shared / "data" / "preference" / "llmbar_natural.json").read_text())
    found = [text for *_, text in texts(real(shared, "llmbar_natural.json", tokenizer, "simpo"), tokenizer)]
    wanted = [f"{row[f'output_{n}']}<|im_end|>" for row in rows for n in (row["label"], 3 - row["label"])]
    assert found == wanted
