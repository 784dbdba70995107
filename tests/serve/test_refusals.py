"""Bad requests: each gets the error that OpenAI's API would give, naming what was wrong, and the server goes on."""

import json
import socket
import time

import httpx
import openai
import pytest

from jitune.serve.app import Options, make_app
from tests.serve.served import LIMIT, served

CHAT, TEXT = "chat/completions", "completions"
HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "f"}}
# (path, what is changed in a good request, status, field, words of the message)
BAD = [
    (CHAT, {"model": "nothing"}, 404, "model", "'nothing' does not exist; served are base, poems, broken"),
    (CHAT, {"model": None}, 400, "model", "must provide a model"),
    (CHAT, {"model": 3}, 400, "model", "model is 3; it must be a text"),
    (CHAT, {"max_tokens": -5}, 400, "max_tokens", "max_tokens is -5; it must be a whole number of at least 1"),
    (CHAT, {"max_tokens": 0}, 400, "max_tokens", "at least 1"),
    (CHAT, {"max_tokens": 1.5}, 400, "max_tokens", "whole number"),
    (CHAT, {"max_tokens": True}, 400, "max_tokens", "whole number"),
    (CHAT, {"max_tokens": 10**40}, 400, "max_tokens", "a number of more than 30 digits"),
    (CHAT, {"max_tokens": 1000}, 400, "max_tokens", f"maximum context length is {LIMIT} tokens"),
    (CHAT, {"max_tokens": 3, "max_completion_tokens": 4}, 400, "max_tokens", "give one of them"),
    (CHAT, {"n": 0}, 400, "n", "from 1 to 16"),
    (CHAT, {"n": 10**6}, 400, "n", "n is 1000000; it must be a whole number from 1 to 16"),
    (CHAT, {"temperature": -0.1}, 400, "temperature", "from 0 to 2"),
    (CHAT, {"temperature": "hot"}, 400, "temperature", "temperature is 'hot'; it must be a number from 0 to 2"),
    (CHAT, {"temperature": 10**400}, 400, "temperature", "from 0 to 2"),
    (CHAT, {"top_p": 1.01}, 400, "top_p", "from 0 to 1"),
    (CHAT, {"seed": 2**70}, 400, "seed", "64 bits"),
    (CHAT, {"frequency_penalty": 2.1}, 400, "frequency_penalty", "from -2 to 2"),
    (CHAT, {"repetition_penalty": 1e-9}, 400, "repetition_penalty", "from 0.01 to 10"),
    (CHAT, {"stop": ["x"] * 17}, 400, "stop", "stop is a list of 17; it must be a text or a list of at most 16"),
    (CHAT, {"stop": ""}, 400, "stop", "1 to 1000 characters"),
    (CHAT, {"stop": [3]}, 400, "stop", "a list of at most 16 texts"),
    (CHAT, {"logprobs": 3}, 400, "logprobs", "true or false"),
    (CHAT, {"top_logprobs": 3}, 400, "top_logprobs", "needs logprobs"),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs", "from 0 to 20"),
    (CHAT, {"logit_bias": {"x": 1}}, 400, "logit_bias", "token ids"),
    (CHAT, {"logit_bias": {"99999": 1}}, 400, "logit_bias", "must have token ids below"),
    (CHAT, {"logit_bias": {"3": 101}}, 400, "logit_bias", "from -100 to 100"),
    (CHAT, {"stream": "yes"}, 400, "stream", "true or false"),
    (CHAT, {"stream_options": {"include_usage": True}}, 400, "stream_options", "needs stream"),
    (CHAT, {"stream": True, "stream_options": {"what": 1}}, 400, "stream_options", "not known"),
    (CHAT, {"response_format": {"type": "json_object"}}, 400, "response_format", "not constrained"),
    (CHAT, {"tools": [TOOL], "tool_choice": "required"}, 400, "tool_choice", "only 'auto' and 'none'"),
    (CHAT, {"tools": [{"name": "f"}]}, 400, "tools[0]", "must be {'type': 'function'"),
    (CHAT, {"tools": [TOOL]}, 400, "tools", "takes no tools"),
    (CHAT, {"flavour": 1}, 400, "flavour", "Unrecognized request argument supplied: 'flavour'"),
    (CHAT, {"messages": []}, 400, "messages", "at least one message"),
    (CHAT, {"messages": "hi"}, 400, "messages", "a list"),
    (CHAT, {"messages": ["hi"]}, 400, "messages[0]", "an object"),
    (CHAT, {"messages": [{"role": "boss", "content": "x"}]}, 400, "messages[0].role", "must be one of system, dev"),
    (CHAT, {"messages": [{"role": "user"}]}, 400, "messages[0].content", "a text"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages[0].content[0]",
     "the model reads texts"),
    (CHAT, {"messages": [{"role": "user", "content": "\ud800"}]}, 400, "messages[0].content", "surrogate"),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "\udc00"}}]}, 400, "tools[0]", "surrogate"),
    (CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"function": {
        "name": "f", "arguments": '{"x": "\\ud800"}'}}]}]}, 400, "messages[0].tool_calls", "surrogate"),
    (CHAT, {"messages": [*HELLO, {"role": "assistant", "content": "x"}]}, 400, "messages", "nothing to answer"),
    (CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "["}}]}]}, 400,
     "messages[0].tool_calls", "function.arguments"),
    (CHAT, {"messages": [{"role": "user", "content": "the " * 400}]}, 400, "messages", "maximum context length is"),
    (TEXT, {"prompt": None}, 400, "prompt", "not be empty"),
    (TEXT, {"prompt": ""}, 400, "prompt", "not be empty"),
    (TEXT, {"prompt": [1, "x"]}, 400, "prompt", "prompt is 1; it must be"),
    (TEXT, {"prompt": [5, -1]}, 400, "prompt", "prompt is -1; it must have token ids below"),
    (TEXT, {"prompt": [True, 5]}, 400, "prompt", "token ids"),
    (TEXT, {"prompt": [[5, 6], []]}, 400, "prompt", "not be empty"),
    (TEXT, {"prompt": [5, 10**6]}, 400, "prompt", "prompt is 1000000; it must have token ids below"),
    (TEXT, {"prompt": ["x"] * 65}, 400, "prompt", "at most 64 prompts"),
    (TEXT, {"prompt": ["x"] * 30, "n": 16}, 400, "n", "asks for 480 answers, and this server takes 68 at a time"),
    (TEXT, {"logprobs": 6}, 400, "logprobs", "from 0 to 5"),
    (TEXT, {"best_of": 2}, 400, "best_of", "equal to n"),
    (TEXT, {"suffix": "x"}, 400, "suffix", "continued at their end"),
    (TEXT, {"messages": HELLO}, 400, "messages", "Unrecognized request argument"),
]  # fmt: skip
GOOD = {CHAT: {"model": "base", "messages": HELLO, "max_tokens": 4},
        TEXT: {"model": "base", "prompt": "hello", "max_tokens": 4}}


@pytest.mark.parametrize("path, change, status, param, words", BAD, ids=lambda x: str(x)[:40])
def test_fields_out_of_range(server, path, change, status, param, words):
    reply = httpx.post(f"{server.url}/{path}", content=json.dumps({**GOOD[path], **change}))
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (status, param), error
    assert words in error["message"] and error["type"] == "invalid_request_error", error
    assert len(error["message"]) < 400


def test_a_good_request_is_good(server):
    for path, body in GOOD.items():
        more = {"max_tokens": None, "stop": ["w", "x", "y", "z"], "user": None, "stream": False}
        assert httpx.post(f"{server.url}/{path}", json={**body, **more}).status_code == 200
    twice = b'{"model": "nothing", "model": "base", "prompt": [[5, 6], [7]], "max_tokens": 2}'
    reply = httpx.post(f"{server.url}/{TEXT}", content=twice, headers={"Content-Type": "text/plain"})
    assert (reply.status_code, reply.json()["model"]) == (200, "base"), "of two names the last one holds, as in Python"
    assert [choice["index"] for choice in reply.json()["choices"]] == [0, 1]


BODIES = [(b"{", 400, "not JSON"), (b"", 400, "not JSON"), (b"[]", 400, "an array; a JSON object is needed"),
          (b"\xff\xfe", 400, "not JSON"), (b"[" * 100_000, 400, "nested too deeply"), (b'{"n": NaN}', 400, "NaN"),
          (b'{"n": ' + b"1" * 5000 + b"}", 400, "huge numbers"), (b"null", 400, "null"),
          (b" " * (8 * 2**20 + 1), 413, "larger than 8 MiB")]  # fmt: skip


@pytest.mark.parametrize("body, status, words", BODIES, ids=range(len(BODIES)))
def test_bodies_that_are_no_requests(server, body, status, words):
    reply = httpx.post(f"{server.url}/{CHAT}", content=body)
    assert reply.status_code == status and words in reply.json()["error"]["message"]


@pytest.mark.parametrize("head, rest", [(b"", b" " * 2**20), (b"Expect: 100-continue\r\n", b"")])
def test_who_sends_too_much_slowly_reads_why_all_the_same(server, head, rest):
    with socket.create_connection(server.listener.getsockname()) as client:
        client.settimeout(30)
        client.sendall(b"POST /v1/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n"
                       % (CHAT.encode(), 9 * 2**20, head))
        for _ in range(9 if rest else 0):  # what is hung up on would be reset by these
            client.sendall(rest)
            time.sleep(0.02)
        found = b""
        while part := client.recv(4096):
            found += part
    assert found.startswith(b"HTTP/1.1 413") and b"larger than 8 MiB" in found


def test_a_body_without_a_length_is_counted_too(server):
    reply = httpx.post(f"{server.url}/{CHAT}", content=(b" " * 2**20 for _ in range(10)))
    assert reply.status_code == 413


@pytest.mark.parametrize("method, path, status, code", [
    ("GET", CHAT, 405, "method_not_allowed"), ("POST", "models", 405, "method_not_allowed"),
    ("POST", "embeddings", 404, "not_found"), ("GET", "models/x", 404, "model_not_found"),
    ("GET", "", 404, "not_found"),
])  # fmt: skip
def test_paths_that_are_not_there(server, method, path, status, code):
    reply = httpx.request(method, f"{server.url}/{path}")
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def test_pages_of_other_sites_are_not_answered(server):
    for headers, code in (({"Host": "evil.example"}, "forbidden_host"), ({"Origin": "null"}, "forbidden_origin"),
                          ({"Origin": "https://evil.example"}, "forbidden_origin")):
        reply = httpx.get(f"{server.url}/models", headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, code)
    assert httpx.get(f"{server.url}/models", headers={"Origin": "http://localhost:3000"}).status_code == 200


def test_nor_where_any_machine_may_ask(server):
    """Beyond loopback a network may have any name for the server; a page is its own if it comes from the same."""
    from starlette.testclient import TestClient

    client = TestClient(make_app(server.engine, {}, Options(host="0.0.0.0")), base_url="http://box:8000")
    assert client.get("/v1/models").status_code == 200
    assert client.get("/v1/models", headers={"Origin": "http://box:8000"}).status_code == 200
    reply = client.get("/v1/models", headers={"Origin": "https://evil.example"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden_origin")


def test_a_key(given):
    key = "sk-of-the-server"
    with served({"base": given["base"]}, key=key) as server:
        assert len(list(server.client(api_key=key).models.list())) == 1
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key"):
            server.client(api_key=key[:-1]).models.list()
        bare = httpx.post(f"{server.url}/{CHAT}", json=GOOD[CHAT])
        assert bare.status_code == 401 and bare.json()["error"]["code"] == "invalid_api_key"
        assert httpx.get(f"{server.url}/models", headers={"Authorization": f"Basic {key}"}).status_code == 401
        assert httpx.get(server.url.replace("/v1", "/health")).json() == {"status": "ok", "running": 0, "waiting": 0}
        assert key not in "".join(server.logged)


def test_a_model_without_a_template_answers_texts_only(given):
    import copy

    bare = copy.deepcopy(given["base"].tokenizer)
    bare.chat_template = None
    with served({"base": given["base"]._replace(tokenizer=bare)}) as server:
        reply = httpx.post(f"{server.url}/{CHAT}", json=GOOD[CHAT])
        assert reply.status_code == 400 and "has no chat template" in reply.json()["error"]["message"]
        assert httpx.post(f"{server.url}/{TEXT}", json=GOOD[TEXT]).status_code == 200
