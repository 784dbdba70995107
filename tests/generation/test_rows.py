"""Rows that choose their model: adapters over one base, answers in the rows' order, and each as if it were alone."""

import json

import jax
import numpy as np
import pytest

import jitune
from jitune.cli import main
from jitune.generation.generate import generate, generate_file
from jitune.generation.prompts import default_stop_ids, encode_prompt
from jitune.generation.rows import choose, generate_each
from jitune.generation.sampling import Sampling
from jitune.hub import peft
from jitune.transforms.lora import lora
from jitune.transforms.prefix import prefix
from jitune.types import Pretrained, UserError


@pytest.fixture(scope="module")
def adapters(toy_model, tmp_path_factory):
    """(the base, {name: directory}) of two LoRA adapters and a prefix."""
    base, where = jitune.load(toy_model, dtype="float32"), tmp_path_factory.mktemp("adapters")
    small = lora(2, 16, select="q_proj/kernel")
    for name, transform in (("first", small), ("second", small), ("front", prefix(3, model=base.model))):
        frozen, trainable = jax.jit(transform.init)(jax.random.key(0), base.params)
        rng = np.random.default_rng(len(name))
        trainable = jax.tree.map(lambda x, rng=rng: rng.standard_normal(x.shape, np.float32), trainable)
        peft.save(where / name, base, transform, trainable, frozen=frozen, base=str(toy_model))
    return base, {name: where / name for name in ("first", "second", "front")}


@pytest.fixture(scope="module")
def opened(adapters, toy_model):
    return peft.open_adapters(*adapters, base=toy_model)


@pytest.mark.core
def test_which_model_a_row_asks_for():
    base, one, two = (Pretrained(name, None, None, None) for name in ("base", "one", "two"))
    given = {"one": one, "two": two}
    assert choose({}, base, {}, "f:1") is base and choose({"adapter": None}, base, {}, "f:1") is base
    assert choose({}, base, given, "f:1") is one and choose({"adapter": None}, base, given, "f:1") is base
    assert choose({"adapter": "two"}, base, given, "f:1") is two
    for name in ("three", 2, ["one"]):
        with pytest.raises(UserError, match=r"f:7: there is no adapter .*; given are one, two, and null for the base"):
            choose({"adapter": name}, base, given, "f:7")
    with pytest.raises(UserError, match=r"f:7: there is no adapter 'one'; none was given \(--adapter\)"):
        choose({"adapter": "one"}, base, {}, "f:7")


@pytest.mark.core
def test_one_base_and_one_compiled_model(adapters, opened):
    base = adapters[0]
    for model in opened.values():
        assert model.params[0]["base"] is base.params and model.config == base.config
    assert opened["first"].model is opened["second"].model  # so that it is compiled once
    assert opened["first"].tokenizer.chat_template == base.tokenizer.chat_template


def test_every_row_is_answered_as_its_model_does_alone(adapters, opened, tmp_path):
    base = adapters[0]
    names = ["second", None, "front", "first", "second", ...]
    rows = [{"prompt": "Name the colour of the " + "boat " * (i + 1)} | ({} if n is ... else {"adapter": n})
            for i, n in enumerate(names)]  # fmt: skip
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sampling = Sampling(temperature=1.0, seed=3)
    options = {"max_new_tokens": 5, "sampling": sampling, "batch_size": 1}
    answers = generate_file(base, tmp_path / "in.jsonl", tmp_path / "out.jsonl", adapters=opened, **options)
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [{k: row[k] for k in given} for row, given in zip(written, rows, strict=True)] == rows
    for i, (row, name) in enumerate(zip(rows, names, strict=True)):
        model, params, tokenizer, config = base if name is None else opened["first" if name is ... else name]
        (alone,) = generate(model, params, tokenizer, [encode_prompt(tokenizer, row)], row_ids=[i],
                            stop_ids=default_stop_ids(tokenizer, config), **options)  # fmt: skip
        assert answers[i].tokens == alone.tokens == written[i]["tokens"]
    assert len({tuple(a.tokens) for a in answers}) > 3


@pytest.mark.core
def test_answers_come_back_in_order():
    """`generate` is called once for each model, with the places of its rows."""
    calls = []

    class Config:
        eos_token_ids = ()

    def answer(model, params, tokenizer, prompts, *, row_ids, max_positions, stop_ids):
        calls.append((model, row_ids, max_positions, stop_ids))
        return [f"{model}:{p}" for p in prompts]

    a, b = (Pretrained(name, None, None, Config()) for name in "ab")
    a.config.max_positions, b.config.max_positions = 7, 9
    assert generate_each(answer, [a, b, a], ["x", "y", "z"], stop_ids=(5,)) == ["a:x", "b:y", "a:z"]
    assert calls == [("a", [0, 2], 7, (5,)), ("b", [1], 9, (5,))]


def test_the_command(adapters, toy_model, tmp_path, capfd):
    paths = adapters[1]
    rows = tmp_path / "in.jsonl"
    rows.write_text('{"prompt": "A boat"}\n{"prompt": "A boat", "adapter": "x"}\n')
    out = ["--prompts", str(rows), "--out", str(tmp_path / "out.jsonl"), "--max_new_tokens", "3"]
    for given, more, message in (
        ([f"y={paths['first']}"], out, "in.jsonl:2: there is no adapter 'x'; given are y, and null for the base"),
        ([paths["first"], paths["first"]], out, "there is an adapter 'first' already; name them"),
        ([paths["first"], paths["front"]], [], "--prompt and chat take one adapter; given are first, front"),
        ([toy_model], out, "adapter_config.json: no such file"),
    ):
        words = [word for path in given for word in ("--adapter", str(path))]
        assert main(["generate", "--model", str(toy_model), *words, *more]) == 2
        assert message in capfd.readouterr().err
    config = json.loads((paths["first"] / "adapter_config.json").read_text())
    lost = tmp_path / "lost"
    lost.mkdir()
    (lost / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(tmp_path / "gone")}))
    assert main(["generate", "--model", str(lost), "--prompt", "x"]) == 2
    assert "is an adapter, and its base is not there; give it, as in --model BASE" in capfd.readouterr().err
    assert main(["generate", "--model", str(paths["front"]), "--prompt", "A boat", "--max_new_tokens", "3"]) == 0
    assert capfd.readouterr().out.endswith("\n")
