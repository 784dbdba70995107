"""Generation: the cached decode loop against plain forwards, and what ends, cuts and orders the answers."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune import sharding
from jitune.generation import batches, decode_loop
from jitune.generation.detokenize import decode, settled
from jitune.generation.generate import generate, generate_file, stream
from jitune.generation.prompts import default_stop_ids, encode_prompt
from jitune.generation.sampling import Sampling
from jitune.hub.tokenizer import import_transformers
from jitune.transforms.full import full
from jitune.types import Pretrained, UserError
from tests.data import toy
from tests.generation import scripted as toys

LENGTHS = (1, 2, 7, 31, 70, 33, 50, 5)
ATOL = 2e-5
MIXED = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@partial(jax.jit, static_argnames="model")
def forward(model, params, tokens):
    return model.unembed(params, model.hidden(params, {"tokens": tokens})[0])


def full_logits(model, params, tokens, width):
    """Logits [len(tokens), vocab] of one forward without a cache, padded on the right to `width`."""
    padded = jnp.asarray([tokens + [0] * (width - len(tokens))])
    return np.asarray(forward(model, params, padded))[0, : len(tokens)]


def check_greedy(model, params, prompt, answer, width):
    """By induction over the tokens, one forward stands for the loop that runs one for each of them."""
    logits = full_logits(model, params, prompt + answer.tokens, width)[len(prompt) - 1 : -1]
    assert answer.tokens == logits.argmax(-1).tolist()
    chosen = logits[np.arange(len(logits)), answer.tokens]
    expected = chosen - np.log(np.exp(logits.astype(np.float64)).sum(-1))
    np.testing.assert_allclose(answer.logprobs, expected, atol=ATOL)


@pytest.fixture(scope="module")
def llama():
    return toys.tiny()


@pytest.fixture(scope="module")
def prompts():
    return toys.prompts_of(LENGTHS)


@pytest.fixture(scope="module")
def greedy(llama, prompts):
    return generate(*llama[:2], None, prompts, max_new_tokens=20)


@pytest.fixture(scope="module")
def tokenizer():
    return toy.make_tokenizer(chat_template=CHAT, bos="<bos>")


def say(tokenizer, text, **options):
    """Generates from a model that says `text`, a list of ids or a string, and then EOS for ever."""
    ids = text if isinstance(text, list) else tokenizer.encode(text)
    model = toys.scripted(3, len(tokenizer))
    options = {"max_new_tokens": 64, "stop_ids": [tokenizer.eos_token_id], **options}
    return model, jnp.asarray(ids + [tokenizer.eos_token_id]), options


# The decode loop against its slow twin.


def test_cached_greedy_is_the_naive_loop(llama, prompts, greedy):
    model, params, _ = llama
    for prompt, answer in zip(prompts[:3], greedy, strict=False):
        tokens = list(prompt)
        for _ in range(20):
            tokens.append(int(full_logits(model, params, tokens, 96)[-1].argmax()))
        assert answer.tokens == tokens[len(prompt) :]
    assert len({tuple(a.tokens) for a in greedy}) == len(greedy), "the model says the same to everything"


@pytest.mark.parametrize("name, changes", [
    ("mistral", {"sliding_window": 6}),
    ("qwen3", MIXED),
], ids=str)  # fmt: skip
def test_cached_greedy_equals_a_full_forward(name, changes, prompts):
    model, params, _ = toys.tiny(name, **changes)
    for prompt, answer in zip(prompts, generate(model, params, None, prompts, max_new_tokens=9), strict=True):
        assert len(answer.tokens) == 9 and answer.finish_reason == "length" and answer.text == ""
        check_greedy(model, params, prompt, answer, 96)


def test_the_batch_does_not_matter(llama, prompts, greedy):
    answers = generate(*llama[:2], None, prompts, max_new_tokens=20, batch_size=1)
    assert [a.tokens for a in answers] == [a.tokens for a in greedy]
    for answer, whole in zip(answers, greedy, strict=True):
        np.testing.assert_allclose(answer.logprobs, whole.logprobs, atol=ATOL)


def test_a_prompt_of_several_chunks():
    model, params, _ = toys.tiny("mistral", sliding_window=700)
    prompts = toys.prompts_of((2 * decode_loop.CHUNK + 30, 40))
    answers = generate(model, params, None, prompts, max_new_tokens=5)
    for prompt, answer in zip(prompts, answers, strict=True):
        check_greedy(model, params, prompt, answer, 1100)


def test_a_cache_that_grows(llama, monkeypatch):
    monkeypatch.setattr(batches, "AT_ONCE", 0)
    model, params, _ = llama
    prompts = toys.prompts_of((40, 3))
    answers = generate(model, params, None, prompts, max_new_tokens=300)
    for prompt, answer in zip(prompts, answers, strict=True):
        assert len(answer.tokens) == 300
        check_greedy(model, params, prompt, answer, 340)


def test_nothing_is_compiled_twice(llama, prompts, greedy):
    before = decode_loop.prefill._cache_size(), decode_loop.decode._cache_size()
    again = generate(*llama[:2], None, prompts[::-1], max_new_tokens=20, stop_ids=[-2], row_ids=range(8, 16))
    longer = generate(*llama[:2], None, prompts, max_new_tokens=50, sampling=Sampling(seed=3))
    assert (decode_loop.prefill._cache_size(), decode_loop.decode._cache_size()) == before
    assert [a.tokens for a in again[::-1]] == [a.tokens for a in greedy]
    assert [a.tokens[:20] for a in longer] == [a.tokens for a in greedy]


def test_a_transformed_model(llama, prompts, greedy):
    transform, (model, params, _) = full(), llama
    pair = transform.init(jax.random.key(0), params)
    answers = generate(transform.apply(model), pair, None, prompts[:2], max_new_tokens=5)
    assert [a.tokens for a in answers] == [a.tokens[:5] for a in greedy[:2]]


@pytest.mark.parametrize("sizes", [{"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 2, "context": 2, "tensor": 2}])
def test_on_a_mesh(llama, prompts, greedy, sizes):
    model, params, _ = llama
    mesh = sharding.make_mesh(**sizes)
    placed = jax.device_put(params, sharding.shardings(params, mesh))
    answers = generate(model, placed, None, prompts, max_new_tokens=20, batch_size=3)
    assert [a.tokens for a in answers] == [a.tokens for a in greedy]


def test_sampling_on_a_mesh(llama, prompts):
    model, params, _ = llama
    mesh, sampling = sharding.make_mesh(8, 1, 1), Sampling(temperature=0.8, seed=1, repetition_penalty=1.2)
    placed = jax.device_put(params, sharding.shardings(params, mesh))
    with jax.set_mesh(mesh):
        sharded = generate(model, placed, None, prompts, max_new_tokens=6, sampling=sampling)
        assert list(stream(model, placed, None, prompts[2], max_new_tokens=6, sampling=sampling)) == []
    single = generate(model, params, None, prompts, max_new_tokens=6, sampling=sampling)
    assert [a.tokens for a in sharded] == [a.tokens for a in single]


def test_samples_depend_on_seed_and_row_alone(llama, prompts):
    def draw(prompts, **options):
        options = {"sampling": Sampling(temperature=1.0, seed=7), **options}
        return [a.tokens for a in generate(*llama[:2], None, prompts, max_new_tokens=8, **options)]

    first = draw(prompts)
    assert draw(prompts) == first
    assert draw(prompts[::-1], row_ids=range(7, -1, -1)) == first[::-1]
    assert draw(prompts[3:6], row_ids=[3, 4, 5], batch_size=1) == first[3:6]
    assert draw(prompts, sampling=Sampling(temperature=1.0, seed=8)) != first
    assert len({tuple(t) for t in draw([prompts[0]] * 8)}) > 4, "rows of one prompt draw their own tokens"


@pytest.mark.parametrize("penalty", [1e6, 1e-6])
def test_repetition_penalty_counts_prompt_and_answer_but_no_padding(llama, penalty):
    prompts = toys.prompts_of((30, 4, 1, 2, 1, 3, 1, 1), vocab_size=300)
    sampling = Sampling(repetition_penalty=penalty)
    answers = generate(*llama[:2], None, prompts, max_new_tokens=25, sampling=sampling)
    for prompt, answer in zip(prompts, answers, strict=True):
        logits = full_logits(*llama[:2], prompt + answer.tokens, 96)
        for i, token in enumerate(answer.tokens):
            row, seen = logits[len(prompt) - 1 + i], prompt + answer.tokens[:i]
            penalized = row.copy()
            penalized[seen] = np.where(row[seen] < 0, row[seen] * penalty, row[seen] / penalty)
            assert token == penalized.argmax()


@pytest.mark.parametrize(("presence", "frequency"), [(4.0, 0.0), (0.0, 3.0), (1.5, 0.75), (-2.0, 1.0)])
def test_presence_and_frequency_penalties_count_the_answer_alone(llama, presence, frequency):
    prompts = toys.prompts_of((30, 4, 1, 2), vocab_size=300)
    sampling = Sampling(presence_penalty=presence, frequency_penalty=frequency)
    answers = generate(*llama[:2], None, prompts, max_new_tokens=25, sampling=sampling)
    plain = generate(*llama[:2], None, prompts, max_new_tokens=25)
    assert [a.tokens for a in answers] != [a.tokens for a in plain]
    for prompt, answer in zip(prompts, answers, strict=True):
        logits = full_logits(*llama[:2], prompt + answer.tokens, 96)
        for i, token in enumerate(answer.tokens):
            row = logits[len(prompt) - 1 + i].copy()
            for other in set(answer.tokens[:i]):
                row[other] -= presence + frequency * answer.tokens[:i].count(other)
            assert token == row.argmax()


# What ends an answer, and its text.


def test_stop_ids(tokenizer):
    model, params, options = say(tokenizer, "the quick fox")
    (answer,) = generate(model, params, tokenizer, [[1, 2, 3]], **options)
    assert answer.tokens == [*tokenizer.encode("the quick fox"), tokenizer.eos_token_id]
    n = len(answer.tokens)
    assert (answer.text, answer.finish_reason, len(answer.logprobs)) == ("the quick fox", "stop", n)
    for most, reason in ((n, "stop"), (n - 1, "length"), (1, "length")):
        (cut,) = generate(model, params, tokenizer, [[1, 2, 3]], **{**options, "max_new_tokens": most})
        assert (cut.tokens, cut.finish_reason) == (answer.tokens[:most], reason)
    (early,) = generate(model, params, tokenizer, [[1, 2, 3]], max_new_tokens=40, stop_ids=answer.tokens[:2])
    assert (early.tokens, early.finish_reason) == (answer.tokens[:1], "stop")


def test_stop_strings_that_tokens_split(tokenizer):
    text = "hello world, the fox\njumps over the lazy dog and the assistant answers in full"
    text += 8 * ", thank you"
    model, params, options = say(tokenizer, text)
    (whole,) = generate(model, params, tokenizer, [[1, 2, 3]], **options)
    assert len(whole.tokens) > decode_loop.BLOCK
    for stop in ("rld, t", "ox\nju", "hello", "h", "you, thank you, thank", "in full,", "dog"):
        (answer,) = generate(model, params, tokenizer, [[1, 2, 3]], stop_strings=["absent", stop], **options)
        assert (answer.text, answer.finish_reason) == (text[: text.index(stop)], "stop")
        n = next(n for n in range(1, 99) if stop in tokenizer.decode(whole.tokens[:n]))
        assert answer.tokens == whole.tokens[:n]
        assert answer.logprobs == whole.logprobs[:n]
        pieces = stream(model, params, tokenizer, [1, 2, 3], stop_strings=[stop], **options)
        assert "".join(pieces) == answer.text
    both = generate(model, params, tokenizer, [[1, 2, 3]] * 3, stop_strings=["lazy", "the "], **options)
    assert {a.text for a in both} == {"hello world, "}


def test_a_stop_string_that_is_a_special_token(tokenizer):
    ids = [*tokenizer.encode("the fox"), tokenizer.convert_tokens_to_ids("<|im_end|>")]
    model, params, options = say(tokenizer, [*ids, *tokenizer.encode("no")])
    (answer,) = generate(model, params, tokenizer, [[1, 2, 3]], stop_strings=["<|im_end|>"], **options)
    assert (answer.tokens, answer.text, answer.finish_reason) == (ids, "the fox", "stop")


@pytest.mark.parametrize("block", [1, 3, 8])
def test_stream_never_breaks_a_character(tokenizer, block):
    text = "écoute 🙂🙂 你好 x 日本語 👩‍👩‍👧 ok�! " + 4 * "🙂"
    model, params, options = say(tokenizer, text)
    options["max_new_tokens"] = 200
    pieces = stream(model, params, tokenizer, [1, 2, 3], block=block, **options)
    found = []
    while True:
        try:
            found.append(next(pieces))
        except StopIteration as end:
            answer = end.value
            break
    assert "".join(found) == text == answer.text
    assert sum(piece.count("�") for piece in found) == 1
    assert len(found) > 10 if block == 1 else len(found) > 3


def test_stream_ends_inside_a_character(tokenizer):
    ids = tokenizer.encode("ok 🙂")
    model, params, options = say(tokenizer, ids)
    options = {**options, "max_new_tokens": len(ids) - 1}
    (answer,) = generate(model, params, tokenizer, [[1, 2, 3]], **options)
    assert answer.text == "ok �" == "".join(stream(model, params, tokenizer, [1, 2, 3], **options))


def test_settled():
    assert settled("It is 4\nUs", ["\nUser:"]) == "It is 4"
    assert settled("It is 4\nus", ["\nUser:"]) == "It is 4\nus"
    assert settled("aab", ["abc", "b"]) == "a"
    assert settled("caf�") == "caf"


def test_sentencepiece_spaces_survive():
    from tokenizers import Tokenizer, decoders, models

    words = {"<s>": 0, "</s>": 1, "<0xC3>": 2, "<0xA9>": 3, "▁the": 4, "▁sky": 5, "s": 6}
    backend = Tokenizer(models.BPE(vocab=words, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                         decoders.Strip(" ", 1, 0)])  # fmt: skip
    transformers = import_transformers()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    assert decode(tokenizer, [5, 6], [0, 4]) == " skys"
    assert decode(tokenizer, [5, 6], [0]) == "skys"
    assert decode(tokenizer, [3, 6], [4, 2]) == "�s", "a prompt that ends inside a character"


def test_the_context_is_a_limit(llama, prompts):
    answers = generate(*llama[:2], None, [*prompts[:4], prompts[6]] * 2, max_new_tokens=20, max_positions=54)
    assert [len(a.tokens) for a in answers] == [20, 20, 20, 20, 4] * 2
    assert {a.finish_reason for a in answers} == {"length"}
    with pytest.raises(UserError, match="prompt 2 of 2: the prompt has 31 tokens, .* context of 31"):
        generate(*llama[:2], None, [prompts[0], prompts[3]], max_new_tokens=5, max_positions=31)


def test_errors(llama, tokenizer):
    model, params, _ = llama
    for options, message in (
        ({"prompts": [[1], []]}, "prompt 2 of 2: the prompt is empty"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"stop_strings": "ab"}, "must be a list"),
        ({"stop_strings": [""]}, "not empty"),
        ({"tokenizer": None, "stop_strings": ["a"]}, "need a tokenizer"),
    ):
        given = {"tokenizer": tokenizer, "prompts": [[1]], "max_new_tokens": 3, **options}
        with pytest.raises(UserError, match=message):
            generate(model, params, **given)
    assert generate(model, params, tokenizer, [], max_new_tokens=3) == []
    silent, script, options = say(tokenizer, [5, 6, -1])
    with pytest.raises(UserError, match="not finite"):
        generate(silent, script, tokenizer, [[1, 2, 3]], **options)


# Prompts and files.


def test_encode_prompt_and_bos():
    plain, bos = toy.make_tokenizer(), toy.make_tokenizer(bos="<bos>", add_bos=True, chat_template=CHAT)
    text = plain.encode("hello", add_special_tokens=False)
    assert encode_prompt(plain, {"prompt": "hello"}) == text
    assert encode_prompt(bos, {"prompt": "hello"}) == [bos.bos_token_id, *text]
    assert encode_prompt(bos, {"prompt": "<bos>hello"}) == [bos.bos_token_id, *text]
    row = {"messages": [{"role": "user", "content": "hello"}]}
    with_bos = "{{ bos_token }}" + CHAT
    assert encode_prompt(bos, row, chat_template=with_bos).count(bos.bos_token_id) == 1
    assert encode_prompt(bos, row).count(bos.bos_token_id) == 0
    assert bos.decode(encode_prompt(bos, row)) == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    tools = {**row, "tools": [{"type": "function", "function": {"name": "add"}}]}
    assert encode_prompt(bos, tools, chat_template="{{ tools[0].function.name }}") == bos.encode(
        "add", add_special_tokens=False)  # fmt: skip


USER = {"role": "user", "content": "hi"}
BAD_ROWS = [
    ({}, "no fields"),
    ({"text": "hi"}, "has text"),
    ({"prompt": "hi", "messages": [USER]}, "either prompt or messages"),
    ({"prompt": ""}, "not empty"),
    ({"prompt": 5}, "prompt is 5"),
    ({"messages": []}, "a list of messages"),
    ({"messages": "hi"}, "a list of messages"),
    ({"messages": ["hi"]}, "message 1"),
    ({"messages": [{"content": "hi"}]}, "message 1"),
    ({"messages": [USER, {"role": "tool", "content": [1]}]}, r"message 2 \(tool\): content is \[1\]"),
    ({"messages": [USER, {"role": "assistant", "content": "yo"}]}, "nothing to answer"),
    ({"messages": [{"role": "user", "tool_calls": [{}]}]}, "the chat template failed"),
    ({"prompt": "hi", "tokens": [1]}, "has tokens already"),
    ({"prompt": "x" * 3000}, "leaves no room"),
]


@pytest.mark.parametrize("row, message", BAD_ROWS, ids=[m for _, m in BAD_ROWS])
def test_a_bad_row_stops_before_anything_is_generated(tmp_path, tokenizer, llama, row, message):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"prompt": "fine"}) + "\n\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError, match=rf"in\.jsonl:3: .*{message}"):
        generate_file(Pretrained(None, None, tokenizer, llama[2]), source, out, max_new_tokens=4)
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_generate_file(tmp_path, tokenizer, capfd):
    model, params, config = toys.tiny(vocab_size=len(tokenizer))
    rows = [{"id": i, "prompt": "the quick brown fox " * (i + 1), "nothing": None} for i in range(5)]
    rows.append({"messages": [USER], "note": "é"})
    source, out = tmp_path / "in.jsonl", tmp_path / "deep" / "out.jsonl"
    source.write_text("".join(json.dumps(r) + "\n" for r in rows))
    pretrained = Pretrained(model, params, tokenizer, config)
    answers = generate_file(pretrained, source, out, max_new_tokens=6, batch_size=4)
    captured = capfd.readouterr()
    assert captured.out == "" and "6/6" in captured.err
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [{k: r[k] for k in row} for r, row in zip(written, rows, strict=True)] == rows
    prompts = [encode_prompt(tokenizer, row) for row in rows]
    expected = generate(model, params, tokenizer, prompts, max_new_tokens=6, batch_size=4,
                        stop_ids=default_stop_ids(tokenizer, config))  # fmt: skip
    assert [a.tokens for a in answers] == [r["tokens"] for r in written] == [a.tokens for a in expected]
    for row, answer in zip(written, answers, strict=True):
        assert list(row)[-4:] == ["tokens", "text", "logprobs", "finish_reason"]
        assert (row["text"], row["finish_reason"]) == (answer.text, answer.finish_reason)
        np.testing.assert_allclose(row["logprobs"], answer.logprobs, atol=1e-6)
    assert [p.name for p in out.parent.iterdir()] == ["out.jsonl"]


def test_a_failed_run_leaves_the_old_output(tmp_path, tokenizer, llama):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "hi"}\n')
    out.write_text("old")
    model, script, _ = say(tokenizer, [-1])
    with pytest.raises(UserError, match="not finite"):
        generate_file(Pretrained(model, script, tokenizer, llama[2].replace(vocab_size=999)),
                      source, out, max_new_tokens=4, progress=False)  # fmt: skip
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]
    with pytest.raises(UserError, match="cannot be written"):
        generate_file(Pretrained(model, script, tokenizer, llama[2].replace(vocab_size=999)), source,
                      tmp_path / "in.jsonl" / "out.jsonl", max_new_tokens=4, progress=False)  # fmt: skip


def test_default_stop_ids(tokenizer):
    config = toys.tiny()[2]
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert default_stop_ids(tokenizer, config.replace(hf='{"eos_token_id": [7, 9]}')) == (
        7, 9, tokenizer.eos_token_id, end)  # fmt: skip
    assert default_stop_ids(None, config.replace(hf='{"eos_token_id": 7}')) == (7,)
