"""What OpenAI's own client gets from the server: the answers of `generate`, in OpenAI's words."""

import asyncio

import numpy as np
import openai
import pytest

from jitune.generation.generate import generate
from jitune.generation.prompt_logprobs import prompt_logprobs
from jitune.generation.prompts import default_stop_ids, encode_prompt
from jitune.generation.sampling import Sampling
from jitune.generators.call import Call, Reply
from jitune.generators.open import open_generator
from tests.serve.served import BROKEN_TOKEN, LIMIT

HELLO = [{"role": "user", "content": "hello world, how are you?"}]


def alone(model, prompt, new, *, sampling=None, stop=(), n=1, top=0):
    """What `generate` says, n times."""
    ids = encode_prompt(model.tokenizer, {"prompt": prompt} if isinstance(prompt, str) else {"messages": prompt})
    return generate(model.model, model.params, model.tokenizer, [ids] * n, max_new_tokens=new, stop_strings=stop,
                    stop_ids=default_stop_ids(model.tokenizer, model.config), max_positions=LIMIT,
                    sampling=sampling or Sampling(), batch_size=4, top_logprobs=top)  # fmt: skip


def test_a_chat(server, given):
    reply = server.client().chat.completions.create(model="base", messages=HELLO, max_tokens=20, temperature=0)
    (expected,) = alone(given["base"], HELLO, 20)
    (choice,) = reply.choices
    assert (choice.message.role, choice.message.content) == ("assistant", expected.text)
    assert choice.finish_reason == expected.finish_reason and choice.logprobs is None
    prompt = encode_prompt(given["base"].tokenizer, {"messages": HELLO})
    assert reply.usage.prompt_tokens == len(prompt) and reply.usage.completion_tokens == len(expected.tokens)
    assert reply.usage.total_tokens == len(prompt) + len(expected.tokens)
    assert reply.id.startswith("chatcmpl-") and reply.object == "chat.completion" and reply.model == "base"
    assert reply.system_fingerprint == "fp_base" and reply.created > 1_700_000_000


def test_a_chat_in_parts_of_text(server):
    create = server.client().chat.completions.create
    parts = [{"type": "text", "text": "hello world, "}, {"type": "text", "text": "how are you?"}]
    developer = [{"role": "developer", "content": "be"}, *HELLO]
    same = {"model": "base", "max_completion_tokens": 9, "temperature": 0, "user": "me"}
    assert create(messages=[{"role": "user", "content": parts}], **same).choices == create(
        messages=HELLO, **same).choices
    assert create(messages=developer, **same).choices == create(
        messages=[{"role": "system", "content": "be"}, *HELLO], **same).choices


@pytest.mark.parametrize("name", ["base", "poems"])
def test_completions_of_the_base_and_of_an_adapter(server, given, name):
    prompts = ["the quick", "two plus two is", "世界"]
    reply = server.client().completions.create(model=name, prompt=prompts, max_tokens=18, temperature=0)
    expected = [alone(given[name], prompt, 18)[0] for prompt in prompts]
    assert [choice.text for choice in reply.choices] == [g.text for g in expected]
    assert [choice.index for choice in reply.choices] == [0, 1, 2] and reply.object == "text_completion"
    assert reply.usage.completion_tokens == sum(len(g.tokens) for g in expected) and reply.model == name
    ids = encode_prompt(given[name].tokenizer, {"prompt": prompts[0]})
    again = server.client().completions.create(model=name, prompt=ids, max_tokens=18, temperature=0, echo=True)
    assert again.choices[0].text == prompts[0] + expected[0].text


def test_the_adapter_says_something_else(given):
    assert alone(given["base"], HELLO, 20) != alone(given["poems"], HELLO, 20)


def test_models_are_listed(server):
    client = server.client()
    assert [model.id for model in client.models.list()] == ["base", "poems", "broken"]
    assert client.models.retrieve("poems").owned_by == "jitune"
    with pytest.raises(openai.NotFoundError, match="served are base, poems, broken"):
        client.models.retrieve("nothing")


def test_samples_are_those_of_their_seed_and_settings(server, given):
    """n answers are those of n equal prompts; every control is the Sampling's of the same name."""
    client = server.client()
    asked = {"model": "base", "max_tokens": 24, "temperature": 0.9, "seed": 11, "n": 3, "top_p": 0.8,
             "presence_penalty": 0.5, "frequency_penalty": 0.25}
    extra = {"top_k": 50, "min_p": 0.01, "repetition_penalty": 1.1}
    names = ("temperature", "seed", "top_p", "presence_penalty", "frequency_penalty")
    sampling = Sampling(**{name: asked[name] for name in names}, **extra)
    expected = [g.text for g in alone(given["base"], HELLO, 24, sampling=sampling, n=3)]
    reply = client.chat.completions.create(messages=HELLO, extra_body=extra, **asked)
    assert [choice.message.content for choice in reply.choices] == expected and len(set(expected)) == 3
    cold = client.completions.create(model="base", prompt="the quick", max_tokens=9, temperature=1e-40)
    assert cold.choices[0].text == alone(given["base"], "the quick", 9)[0].text
    long = {"model": "base", "prompt": "the", "max_tokens": 16, "logit_bias": {"0": -100}}  # never an early end
    free = [client.completions.create(**long).choices[0].text for _ in range(2)]
    assert free[0] != free[1], "without a seed every request has another"


def test_a_bias_rules_a_token_out_and_another_in(server, given):
    create = server.client().completions.create
    ids = alone(given["base"], "the quick", 4)[0].tokens
    reply = create(model="base", prompt="the quick", max_tokens=4, temperature=0, logit_bias={str(ids[0]): -100})
    assert reply.choices[0].text != given["base"].tokenizer.decode(ids)
    forced = given["base"].tokenizer.convert_tokens_to_ids("x")
    reply = create(model="base", prompt="the quick", max_tokens=3, temperature=0, logit_bias={str(forced): 100})
    assert reply.choices[0].text == "xxx"


def test_what_stops_an_answer(server, given):
    whole = alone(given["base"], HELLO, 40)[0]
    stop = whole.text[9:11]
    (expected,) = alone(given["base"], HELLO, 40, stop=[stop])
    create = server.client().chat.completions.create
    reply = create(model="base", messages=HELLO, max_tokens=40, temperature=0, stop=stop)
    assert reply.choices[0].message.content == expected.text == whole.text[: whole.text.index(stop)]
    assert reply.choices[0].finish_reason == "stop" and reply.usage.completion_tokens == len(expected.tokens)
    tokenizer = given["base"].tokenizer
    for special in ("<|im_end|>", "<|eot_id|>"):  # the template's own, and one that ends nothing but by `stop`
        token = tokenizer.convert_tokens_to_ids(special)
        reply = create(model="base", messages=HELLO, max_tokens=9, temperature=0, logit_bias={str(token): 100},
                       stop=["zzz", "<|eot_id|>"])  # fmt: skip
        assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("", "stop")
        assert reply.usage.completion_tokens == 1


def test_log_probabilities(server, given):
    (expected,) = alone(given["base"], HELLO, 12, top=4)
    tokenizer = given["base"].tokenizer
    asked = {"model": "base", "max_tokens": 12, "temperature": 0}
    reply = server.client().chat.completions.create(messages=HELLO, logprobs=True, top_logprobs=4, **asked)
    content = reply.choices[0].logprobs.content
    np.testing.assert_allclose([entry.logprob for entry in content], expected.logprobs, rtol=1e-4, atol=1e-4)
    assert bytes(b for entry in content for b in entry.bytes).decode(errors="replace") == expected.text
    for entry, best in zip(content, expected.top_logprobs, strict=True):
        assert [t.token for t in entry.top_logprobs] == [tokenizer.decode([i]) for i, _ in best]
        np.testing.assert_allclose([t.logprob for t in entry.top_logprobs], [x for _, x in best], rtol=1e-4, atol=1e-4)
    none = server.client().chat.completions.create(messages=HELLO, logprobs=True, **asked).choices[0].logprobs.content
    assert [entry.token for entry in none] == [entry.token for entry in content]
    assert all(entry.top_logprobs == [] for entry in none)


def test_log_probabilities_of_completions(server, given):
    (expected,) = alone(given["base"], "the quick", 8, top=2)
    create = server.client().completions.create
    asked = {"model": "base", "prompt": "the quick", "max_tokens": 8, "temperature": 0, "logprobs": 2}
    found = create(**asked).choices[0].logprobs
    np.testing.assert_allclose(found.token_logprobs, expected.logprobs, rtol=1e-4, atol=1e-4)
    decode = given["base"].tokenizer.decode
    assert found.tokens == [decode([i]) for i in expected.tokens]
    assert found.text_offset[0] == 0 and found.text_offset[-1] <= len(expected.text)
    for told, best in zip(found.top_logprobs, expected.top_logprobs, strict=True):
        assert list(told) == [decode([i]) for i, _ in reversed(best)]
    parts = [part.choices[0] for part in create(**asked, stream=True)]
    assert [t for part in parts if part.logprobs for t in part.logprobs.tokens] == found.tokens
    assert [t for part in parts if part.logprobs for t in part.logprobs.text_offset] == found.text_offset


def test_an_echoed_prompt_has_log_probabilities_too(server, given):
    """Those of `prompt_logprobs`, in front of the answer's; texts begin where the offsets say."""
    base, create = given["base"], server.client().completions.create
    prompt, asked = "the quick 世界 is the quick", {"model": "base", "max_tokens": 24, "temperature": 0, "logprobs": 3}
    ids = encode_prompt(base.tokenizer, {"prompt": prompt})
    (expected,) = prompt_logprobs(base.model, base.params, [ids], top=3)
    plain = create(**asked, prompt=prompt).choices[0].logprobs
    choice = create(**asked, prompt=prompt, echo=True).choices[0]
    found, n = choice.logprobs, len(ids)
    assert found.token_logprobs[0] is None and found.top_logprobs[0] is None
    np.testing.assert_allclose(found.token_logprobs[1:n], expected.logprobs[1:], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.token_logprobs[n:], plain.token_logprobs, rtol=1e-4, atol=1e-4)
    for told, best in zip(found.top_logprobs[1:n], expected.top_logprobs[1:], strict=True):
        assert list(told) == list(dict.fromkeys(base.tokenizer.decode([i]) for i, _ in reversed(best)))
    assert found.text_offset == sorted(found.text_offset) and found.text_offset[n] == len(prompt)
    special = {token.content for token in base.tokenizer.added_tokens_decoder.values()}
    for token, at in zip(found.tokens, found.text_offset, strict=True):
        assert "\ufffd" in token or token in special or choice.text.startswith(token, at), (token, at)
    parts = [part.choices[0].logprobs for part in create(**asked, prompt=ids, echo=True, stream=True)]
    assert [t for part in parts if part for t in part.tokens] == found.tokens
    assert [t for part in parts if part for t in part.text_offset] == found.text_offset
    broken = {"model": "broken", "prompt": [5, BROKEN_TOKEN], "max_tokens": 2, "logprobs": 0, "echo": True}
    with pytest.raises(openai.InternalServerError, match="logits are not finite"):
        create(**broken)


def test_a_stream_is_the_whole_in_pieces(server, given):
    """No piece ends in a character, none shows what a stop string begins with, and the last one has the usage."""
    client = server.client()
    asked = {"model": "base", "messages": HELLO, "max_tokens": 60, "temperature": 1.5, "seed": 3}
    whole = client.chat.completions.create(**asked)
    text = whole.choices[0].message.content
    stream = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert stream[-1].choices == [] and stream[-1].usage == whole.usage
    assert all(part.usage is None for part in stream[:-1])
    pieces = [part.choices[0].delta.content or "" for part in stream[:-1]]
    assert "".join(pieces) == text and len([p for p in pieces if p]) > 3
    assert stream[0].choices[0].delta.role == "assistant" and stream[1].choices[0].delta.role is None
    assert [part.choices[0].finish_reason for part in stream[-3:-1]] == [None, "length"]
    stop = text[20:24]
    cut = [part.choices[0] for part in client.chat.completions.create(**asked, stream=True, stop=[stop])]
    assert "".join(c.delta.content or "" for c in cut) == text[: text.index(stop)]
    assert cut[-1].finish_reason == "stop"


def test_a_stream_of_several_answers_with_log_probabilities(server):
    client = server.client()
    asked = {"model": "poems", "messages": HELLO, "max_tokens": 30, "temperature": 1, "seed": 5, "n": 2,
             "logprobs": True, "top_logprobs": 1}
    whole = client.chat.completions.create(**asked)
    texts, logprobs = ["", ""], [[], []]
    for part in client.chat.completions.create(**asked, stream=True):
        (choice,) = part.choices
        texts[choice.index] += choice.delta.content or ""
        logprobs[choice.index] += choice.logprobs.content if choice.logprobs else []
    assert texts == [choice.message.content for choice in whole.choices]
    for told, choice in zip(logprobs, whole.choices, strict=True):
        assert [entry.token for entry in told] == [entry.token for entry in choice.logprobs.content]
        np.testing.assert_allclose([entry.top_logprobs[0].logprob for entry in told],
                                   [entry.top_logprobs[0].logprob for entry in choice.logprobs.content], atol=1e-4)


def test_tools_go_into_a_template_that_takes_them(server, given):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    asked = {"model": "base", "messages": HELLO, "max_tokens": 4, "temperature": 0}
    with pytest.raises(openai.BadRequestError, match="chat template takes no tools"):
        server.client().chat.completions.create(**asked, tools=tools)
    tokenizer = server.app.routes[0].endpoint and given["base"].tokenizer
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}" + template
        found = server.client().chat.completions.create(**asked, tools=tools)
        none = server.client().chat.completions.create(**asked, tools=tools, tool_choice="none")
        called = [*HELLO, {"role": "assistant", "content": "", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}]},
            {"role": "tool", "tool_call_id": "1", "content": "rain"}]
        server.client().chat.completions.create(**{**asked, "messages": called}, tools=tools)
    finally:
        tokenizer.chat_template = template
    assert found.usage.prompt_tokens > none.usage.prompt_tokens


def test_fifty_at_once_are_each_as_if_alone(server, given):
    """Chats and texts, streams and not, of all lengths, at two models: greedy answers do not depend on the others."""
    rng = np.random.default_rng(7)
    asks = []
    for i in range(50):
        words = "the quick brown fox jumps over the lazy dog and the user asks".split()
        prompt = " ".join(rng.choice(words, rng.integers(1, 40)))
        asks.append((("base", "poems")[i % 2], prompt, int(rng.integers(1, 60)), i % 3 == 0, i % 4 < 2))

    async def ask(client, model, prompt, new, stream, chat):
        same = {"model": model, "max_tokens": new, "temperature": 0, "stream": stream}
        made = await (client.chat.completions.create(messages=[{"role": "user", "content": prompt}], **same) if chat
                      else client.completions.create(prompt=prompt, **same))  # fmt: skip
        if not stream:
            return made.choices[0].message.content if chat else made.choices[0].text
        return "".join([(part.choices[0].delta.content or "") if chat else part.choices[0].text async for part in made])

    async def ask_all():
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=120) as client:
            return await asyncio.gather(*(ask(client, *each) for each in asks))

    found = asyncio.run(ask_all())
    for (model, prompt, new, _, chat), text in zip(asks, found, strict=True):
        (expected,) = alone(given[model], [{"role": "user", "content": prompt}] if chat else prompt, new)
        assert text == expected.text, (model, prompt)
    assert server.engine.running == server.engine.waiting == 0


def test_a_generator_asks_it(server, given, monkeypatch):
    """`jitune data distill` and judges take it as any endpoint."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    generator = open_generator({"model": "base", "base_url": server.url})
    calls = [Call((("user", HELLO[0]["content"]),), max_tokens=15), Call((("user", "x"),), 8, options=("a", "b"))]
    long = Call((("user", "the " * 300),), max_tokens=15)
    replies = generator.answer([*calls, long])
    prompt = encode_prompt(given["base"].tokenizer, {"messages": HELLO})
    (expected,) = alone(given["base"], HELLO, 15)
    assert replies[0] == Reply(expected.text, expected.finish_reason, len(prompt), len(expected.tokens), "base")
    assert len(replies[1].choices) > 9 and replies[2].reason == "too_long"
    raw = open_generator({"model": "base", "base_url": server.url, "api": "completion"})
    assert raw.answer([Call("the quick", 8)])[0].text == alone(given["base"], "the quick", 8)[0].text
