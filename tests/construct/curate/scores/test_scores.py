"""Stages that score: what is asked of the model, what has no score and why, any mesh, any batch."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from jitune.construct.curate.scores import deita, ifd, own, perplexity
from jitune.construct.curate.scores.model import open_scorer
from jitune.construct.curate.scores.texts import exchanges, write
from jitune.construct.curate.stage import Head
from jitune.data.formats import to_example
from jitune.data.record import Record, from_example
from jitune.evals.engine.engine import open_engine
from jitune.types import UserError
from tests.evals import twin

ATOL = 1e-4
CHAT = [("user", "Name a colour."), ("assistant", "red"), ("user", "Another?"), ("assistant", "It is blue.")]


def record(number=1, **row):
    row = row or {"instruction": "Name the colour of the house.", "output": "The house is red."}
    return from_example(to_example(row, ("a.json", number)))


def talk(*pairs):
    return from_example(to_example({"messages": [{"role": r, "content": c} for r, c in pairs]}, ("talk.json", 3)))


def many(count=14):
    rng = np.random.default_rng(0)
    words = "red green blue the house is tall and old".split()
    rows = [{"instruction": " ".join(rng.choice(words, int(rng.integers(2, 40)))),
             "output": " ".join(rng.choice(words, int(rng.integers(1, 40))))} for _ in range(count)]  # fmt: skip
    return [record(i, **row) for i, row in enumerate(rows, 1)]


NOTHING = {
    "no answer": [record(instruction="x", output=""), record(instruction="x", output=" \n"), talk(CHAT[0])],
    "nothing was asked": [record(text="a text alone"), talk(("assistant", "hello"))],
    "fills max_length": [record(instruction="house " * 300, output="red")],
}


@pytest.fixture(scope="module")
def engine():
    return open_engine(twin.pretrained(), max_length=twin.LIMIT)


def loss(given, front, answer, plain=True):
    """The mean loss of an answer by the twin that scores one text at a time."""
    ids = [given.tokenizer(t, add_special_tokens=plain)["input_ids"] for t in (front, front + answer)]
    answer = ids[1][len(ids[0]) :]
    return -twin.score_one(given, ids[1][: len(ids[0])], answer)[0] / len(answer)


@pytest.mark.core
def test_a_chat_template_and_every_turn(engine):
    given, header = twin.pretrained(), "<|im_start|>assistant\n"
    first = "<bos><|im_start|>user\nName a colour.<|im_end|>\n" + header
    second = first + "red<|im_end|>\n<|im_start|>user\nAnother?<|im_end|>\n" + header
    alone, answers = "<bos>" + header, ("red", "It is blue.")
    expected = np.array([[loss(given, front, answer, False) for front in (context, alone)]
                         for context, answer in zip((first, second), answers, strict=True)])
    counts = np.array([len(given.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in answers])
    (last,) = ifd.measure(engine, [talk(*CHAT)], prompt="chat", max_length=256)
    np.testing.assert_allclose(last, [*expected[1], counts[1], counts[1], 0, 0], atol=ATOL)
    (both,) = ifd.measure(engine, [talk(*CHAT)], prompt="chat", turns="all", max_length=256)
    np.testing.assert_allclose(both[:2], (expected * counts[:, None]).sum(axis=0) / counts.sum(), atol=ATOL)
    assert both[2] == both[3] == counts.sum()


def test_prompts_of_one_instruction():
    text = write(exchanges(talk(("system", "Be brief."), *CHAT))[0], "plain")
    assert text.context == "Be brief.\n\nName a colour.\n\nred\n\nAnother?\n" and text.direct == ""
    row = record(instruction="Add.", input="2, 3", output="5")
    assert "### Input" not in write(exchanges(row)[0], "alpaca").context
    known = exchanges(replace(row, meta={"input": "2, 3"}))[0]
    assert write(known, "alpaca").context.endswith("### Instruction:\nAdd.\n\n### Input:\n2, 3\n\n### Response:")
    assert write(known, "plain").context == "Add.\n2, 3\n"
    question, chosen = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    preferred = Record("x", messages=(question,), chosen=(chosen,))
    assert exchanges(preferred)[0].answer == "a"


@pytest.mark.parametrize("why", NOTHING)
def test_what_has_no_score_has_a_reason(engine, why):
    stage = ifd.build(model=engine, prompt="plain", max=None)
    measured = stage.measure(NOTHING[why] + [record()])
    found = stage.choose([Head(r.id, "") for r in [*NOTHING[why], record()]], measured)
    assert [f and f.reason for f in found] == ["no_score"] * (len(found) - 1) + [None]
    assert all(why in f.detail for f in found[:-1])
    for one, row in zip(NOTHING[why], measured, strict=False):
        assert stage.note(one, row) is one, "no score is written, not even a zero"


def test_a_template_that_refuses(engine):
    template = "{{ raise_exception('no system') if messages[0].role == 'system' }}" + twin.CHAT
    tokenizer = type(engine.pretrained.tokenizer)(tokenizer_object=engine.pretrained.tokenizer.backend_tokenizer,
                                                  bos_token="<bos>", eos_token="<|endoftext|>", chat_template=template)
    other = open_engine(engine.pretrained._replace(tokenizer=tokenizer), max_length=twin.LIMIT)
    stage = ifd.build(model=other, prompt="chat", max=None)
    found = stage.choose([], stage.measure([talk(("system", "Be brief."), *CHAT), talk(*CHAT)]))
    assert found[0].detail.endswith("the chat template refuses the messages") and found[1] is None
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="talk.json:3: record .*no chat template"):
        stage.measure([talk(*CHAT)])


def test_a_short_context_cuts_the_answer_and_never_the_prompt(engine):
    front, words = "tell a story\n", "the quick brown fox " * 100
    ids = [engine.pretrained.tokenizer(t)["input_ids"] for t in (front, front + words)]
    start, kept = len(ids[0]), ids[1][: twin.LIMIT]
    expected = -twin.score_one(engine.pretrained, kept[:start], kept[start:])[0] / (len(kept) - start)
    records = [record(instruction="tell a story", output=words)]
    for row in (*ifd.measure(engine, records, prompt="plain", max_length=4096), *perplexity.measure(engine, records)):
        np.testing.assert_allclose(row[[0, 2]], [expected, len(kept) - start], atol=ATOL)
        assert row[4] == len(ids[1]) - len(kept)
    assert deita.measure(engine, records)[0, 5] == 0


def test_notes_and_both_variants(engine):
    records = many(6)
    one, two = (ifd.build(model=engine, prompt="plain", variant=v, max=None) for v in ("ifd", "ifd_ppl"))
    assert (one.name, two.name) == ("ifd", "ifd_ppl") and ifd.build_ppl(model=engine).name == "ifd_ppl"
    for row, first, second in zip(records, one.measure(records), two.measure(records), strict=True):
        noted = two.note(one.note(row, first), second).scores
        assert noted["ifd"] == pytest.approx(noted["ifd_loss"] / noted["ifd_loss_alone"])
        assert noted["ifd_ppl"] == pytest.approx(math.exp(noted["ifd_loss"] - noted["ifd_loss_alone"]), rel=1e-5)
        json.dumps(noted)
    assert "ifd_cut" in one.note(records[0], np.array([1, 2, 3, 3, 9, 0], np.float32)).scores


@pytest.mark.parametrize("build", [
    lambda m: ifd.build(model=m, prompt="plain"), lambda m: perplexity.build(model=m), lambda m: deita.build(model=m)])
def test_batches_and_order_change_nothing(engine, build):
    stage, records = build(engine), many()
    whole = stage.measure(records)
    assert whole.dtype == np.float32 and whole.shape == (len(records), stage.width)
    order = np.random.default_rng(0).permutation(len(records))
    np.testing.assert_allclose(stage.measure([records[i] for i in order]), whole[order], rtol=1e-5, atol=1e-5)
    parts = [stage.measure(records[i : i + 4]) for i in range(0, len(records), 4)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=1e-5)
    assert stage.measure([]).shape == (0, stage.width)


def test_eight_devices_give_the_same(toy_model):
    records = many(5)
    for build in (ifd.build, perplexity.build, deita.build):
        one, eight = (build(model=str(toy_model), mesh=mesh, max_length=512).measure(records) if mesh else
                      build(model=open_engine(open_one(toy_model), max_length=512)).measure(records)
                      for mesh in (None, (2, 2, 2)))  # fmt: skip
        np.testing.assert_allclose(one, eight, rtol=2e-5, atol=2e-5)


def open_one(path):
    import jitune

    return jitune.load(path, dtype="float32")


def test_bfloat16_is_near(toy_model):
    full, half = (ifd.build(model=str(toy_model), dtype=dtype, max_length=512).measure(many(5))
                  for dtype in ("float32", "bfloat16"))  # fmt: skip
    np.testing.assert_allclose(half, full, rtol=5e-3)
    assert (half[:, :2] != full[:, :2]).any()
    with pytest.raises(UserError, match="dtype 'int8' is not supported"):
        ifd.build(model=str(toy_model), dtype="int8").measure([record()])


def test_stages_share_a_model(toy_model):
    first, second = (open_scorer(str(toy_model), max_length=n) for n in (512, 256))
    assert first is not second and first.pretrained is second.pretrained
    assert open_scorer(str(toy_model)).limit == 2048, "the model's own context is less than usual"
    with pytest.raises(UserError, match="more than the model's context of 2048"):
        ifd.build(model=str(toy_model), max_length=4096).measure([record()])


def test_broken_weights_are_an_error_that_names_the_record():
    given = twin.pretrained()
    broken = given._replace(params={**given.params, "norm": {"scale": given.params["norm"]["scale"] * np.nan}})
    for build in (ifd.build, perplexity.build, deita.build):
        with pytest.raises(UserError, match=f"a.json:7: record {record(7).id}.* nan"):
            build(model=open_engine(broken, max_length=512)).measure([record(7)])


def test_expected_values():
    found = deita.expected(np.log(np.array([[1e-30, 0.5, 1e-30, 0.5, 1e-30, 1e-30], [1 / 6] * 6])) - 50)
    np.testing.assert_allclose(found, [3.0, 3.5], atol=1e-12)


def test_deita_reads_turns_and_keeps_braces():
    pairs = [("system", "s"), ("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d"), ("user", "e")]
    assert deita.exchanges(talk(*pairs)) == [("a\n\nb", "c\n\nd")]
    assert deita.fill("{instruction}|{output}|{x}", {"instruction": "{output}", "output": "{}"}) == "{output}|{}|{x}"


def test_deita_cuts_texts_and_not_the_prompt(engine):
    long = record(instruction="tell a story", output="house " * 600)
    prompts = {"quality": "Q {instruction} A {output} quality: ", "complexity": "{instruction} score: "}
    stage = deita.build(model=engine, **prompts)
    row = stage.measure([long])[0]
    assert row[4] > 300 and row[5] == 0 and 1 <= row[1] <= 6
    noted = stage.note(long, row).scores
    assert noted["deita"] == pytest.approx(noted["deita_complexity"] * noted["deita_quality"]) and noted["deita_cut"]
    question = deita.Question("A {output} quality: ", {"instruction": "", "output": "house " * 600})
    ids, _ = deita._fit(engine.pretrained.tokenizer, question, 100)
    text = engine.pretrained.tokenizer.decode(ids[1:])
    assert text.startswith("A house house") and text.endswith("house quality: ") and 90 <= len(ids) <= 100
    (none,) = deita.build(model=engine, quality="frame " * 300 + "{output}").measure([long])
    assert deita.build(model=engine).choose([], none[None])[0].reason == "no_score"


def test_deita_without_an_answer(engine):
    stage = deita.build(model=engine, top=1)
    found = stage.choose([], stage.measure([talk(CHAT[0]), talk(*CHAT[:2]), talk(*CHAT)]))
    assert [f and f.reason for f in found] == ["no_score", "deita_not_top", None], "two turns have the higher sum"


def lengths(records):
    return [len(r.messages[-1]["content"]) or None for r in records]


def broken(records):
    return [1.0, float("nan")][: len(records)]


def short(records):
    return [1.0]


def words(records):
    return ["many"] * len(records)


OWN = "tests.construct.curate.scores.test_scores"


def test_a_score_of_ones_own():
    stage = own.build(function=f"{OWN}:lengths", min=2, top=1)
    records = [record(instruction="x", output=text) for text in ("abc", "", "a", "abcd")]
    measured = stage.measure(records)
    reasons = [f and f.reason for f in stage.choose([], measured)]
    assert reasons == ["lengths_not_top", "no_score", "lengths_below", None]
    assert stage.note(records[0], measured[0]).scores == {"lengths": 3.0}
    assert stage.note(records[1], measured[1]).scores == {}


@pytest.mark.parametrize("name, message", [("broken", "the score of a.json:2: record .* is nan"),
                                           ("short", "gave 1 scores for 2 records"), ("words", "is 'many'"),
                                           ("absent", "no function")])  # fmt: skip
def test_scores_of_ones_own_that_are_wrong(name, message):
    with pytest.raises(UserError, match=message):
        own.build(function=f"{OWN}:{name}").measure([record(1), record(2)])


@pytest.mark.parametrize("build, options, message", [
    (ifd.build, {}, "ifd: needs a model"), (ifd.build, {"model": "./absent"}, "no directory of a model"),
    (ifd.build, {"variant": "x"}, "variant='x'"), (ifd.build_ppl, {"prompt": "x"}, "ifd_ppl: prompt='x'"),
    (perplexity.build, {"of": "x"}, "of='x'"), (deita.build, {"quality": "x"}, "has no {output}"),
    (own.build, {"function": "x"}, "must be module:function"), (deita.build, {"model": "./absent"}, "deita: model="),
])  # fmt: skip
def test_options_that_cannot_be(build, options, message):
    with pytest.raises(UserError, match=message):
        build(**options)
