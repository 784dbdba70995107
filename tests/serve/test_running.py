"""Too many requests, clients that hang up, time that is over, logits that are no numbers: the others never notice."""

import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from jitune.serve import run
from tests.serve.served import BROKEN_TOKEN, served
from tests.serve.test_answers import alone

LONG = {"model": "base", "prompt": "the quick", "max_tokens": 200, "temperature": 0, "logit_bias": {"0": -100}}


@pytest.fixture(scope="module")
def small(given):
    """Two rows, and two requests may wait."""
    with served({"base": given["base"]}, rows=2, queue=2, timeout=30) as found:
        yield found


def idle(engine):
    return engine.waiting == engine.running == 0


def crowd(server, ask):
    """What each of twelve clients is told that come at once: no turn ends before eight of them have their reply."""
    with ThreadPoolExecutor(12) as pool, server.held():
        asked = [pool.submit(ask) for _ in range(12)]
        end = time.monotonic() + 60
        while sum(one.done() for one in asked) < 8:
            assert time.monotonic() < end
            time.sleep(0.01)
        server.wait(lambda engine: engine.running + engine.waiting == 4)
    return asked


def test_beyond_the_queue_clients_are_told_to_come_again(small, given):
    asked = crowd(small, lambda: httpx.post(f"{small.url}/completions", json=LONG, timeout=60))
    replies = [one.result() for one in asked]
    refused = [reply for reply in replies if reply.status_code == 429]
    assert len(refused) == 8
    for reply in refused:
        assert reply.json()["error"]["code"] == "queue_full" and 1 <= int(reply.headers["retry-after"]) <= 60
    texts = {reply.json()["choices"][0]["text"] for reply in replies if reply.status_code == 200}
    assert len(texts) == 1 and len(texts.pop()) > 100, "those that were taken are answered in full"
    create = small.client().completions.create
    assert create(**LONG).usage.completion_tokens == 200
    errors = [one.exception() for one in crowd(small, lambda: create(**LONG))]
    assert sum(isinstance(error, openai.RateLimitError) for error in errors) == 8 and errors.count(None) == 4


def test_a_prompt_after_shorter_ones_is_whole(small, given):
    """Rows that end within a block leave the device at an earlier slot than the host had asked for."""
    prompt = "the user asks and the assistant answers in full. " * 2
    (expected,) = alone(given["base"], prompt, 20)
    for new in (2, 3, 5, 9):
        small.client().completions.create(model="base", prompt="a", max_tokens=new, temperature=0)
        found = small.client().completions.create(model="base", prompt=prompt, max_tokens=20, temperature=0)
        assert found.choices[0].text == expected.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_its_rows(small, stream):
    body = {**LONG, "stream": stream, "n": 2}
    with small.held(turns=2) as release:
        with small.post(body) as client:
            small.wait(lambda engine: engine.running == 2)
            rows = small.rows()
            if stream:
                assert client.recv(99).startswith(b"HTTP/1.1 200")
        small.wait(lambda engine: all(row.dropped for row in rows))
        release()
        small.wait(idle)
        assert all(len(row.tokens) < 20 for row in rows), "the turn that ran was the last"
    assert small.client().completions.create(**{**LONG, "max_tokens": 3}).usage.completion_tokens == 3


def test_a_request_that_waits_and_is_given_up_leaves_the_queue(small):
    with ThreadPoolExecutor(2) as pool, small.held():
        first = pool.submit(httpx.post, f"{small.url}/completions", json={**LONG, "n": 2}, timeout=60)
        small.wait(lambda engine: engine.running == engine.waiting == 1)
        with small.post(LONG):
            small.wait(lambda engine: engine.waiting == 2)
        small.wait(lambda engine: engine.waiting == 1)
    assert first.result().status_code == 200


def test_connections_that_stand_still(small, monkeypatch):
    """Heads and bodies that never end, and streams that nobody reads, are cut and hold nobody up."""
    monkeypatch.setattr(run, "STALLED", 0.3)
    address = small.listener.getsockname()
    with socket.create_connection(address) as head, socket.create_connection(address) as body:
        head.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n")
        body.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
        head.settimeout(20)
        with contextlib.suppress(ConnectionResetError):
            assert head.recv(9) == b"", "closed"
        body.sendall(b" ")  # a request has begun: its own time holds
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        deaf.connect(address)
        raw = json.dumps({**LONG, "stream": True, "n": 2, "logprobs": 5}).encode()
        deaf.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(raw) + raw)
        with small.held():
            small.wait(lambda engine: engine.running)
        assert small.client().completions.create(**LONG).usage.completion_tokens == 200
        small.wait(idle)
    time.sleep(0.1)
    assert small.logged == [], "nor does the log tell of clients that went"


def test_time_that_is_over(given):
    with served({"base": given["base"]}, rows=2, timeout=1.5) as server:
        with server.held():
            reply = httpx.post(f"{server.url}/completions", json=LONG, timeout=60)
            assert reply.status_code == 504 and reply.json()["error"]["code"] == "timeout"
            assert "within 1.5 s" in reply.json()["error"]["message"]
        server.wait(idle)
        with server.held(turns=1):
            with pytest.raises(openai.APIError, match="within 1.5 s"):
                list(server.client().completions.create(**LONG, stream=True))
        server.wait(idle)
        assert server.client().completions.create(**{**LONG, "max_tokens": 2}).usage.completion_tokens == 2


def test_logits_that_are_no_numbers_fail_their_own_request(server, given):
    found, create = [], server.client().completions.create
    good = threading.Thread(target=lambda: found.append(create(**{**LONG, "model": "broken"})))
    good.start()
    broken = {"model": "broken", "prompt": [5, BROKEN_TOKEN], "max_tokens": 20}
    for stream in (False, True):
        reply = httpx.post(f"{server.url}/completions", json={**broken, "stream": stream})
        assert reply.status_code == 500 and "logits are not finite" in reply.json()["error"]["message"]
    good.join()
    assert found[0].usage.completion_tokens == 200
    again = server.client().completions.create(model="broken", prompt="the quick", max_tokens=20, temperature=0)
    assert again.choices[0].text == alone(given["broken"], "the quick", 20)[0].text


def test_a_turn_that_fails_is_said_and_the_next_one_is_as_always(small, monkeypatch):
    lane = small.engine.lanes["base"]

    def broken(*_):
        raise RuntimeError("the device is full")

    with monkeypatch.context() as patch:
        patch.setattr(lane.device, "decode", broken)
        reply = httpx.post(f"{small.url}/completions", json=LONG, timeout=30)
    assert reply.status_code == 500 and "in its log" in reply.json()["error"]["message"]
    assert "the device is full" not in reply.text and "the device is full" in small.logged.pop()
    assert small.client().completions.create(**LONG).usage.completion_tokens == 200


def test_short_answers_without_end_do_not_hold_up_a_long_one(small):
    short = {"model": "base", "prompt": "a", "max_tokens": 1}
    stop = threading.Event()

    def flood():
        while not stop.is_set():
            httpx.post(f"{small.url}/completions", json=short)

    threads = [threading.Thread(target=flood) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert small.client(timeout=20).completions.create(**LONG).usage.completion_tokens == 200
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_server_that_ends_takes_nothing_more_and_tells_the_rest(given):
    with served({"base": given["base"]}, rows=2) as server, ThreadPoolExecutor(2) as pool, server.held() as release:
        late = pool.submit(httpx.post, f"{server.url}/completions", json=LONG, timeout=30)
        server.wait(lambda engine: engine.running == 1)
        server.app.state.stopping = True
        refused = httpx.post(f"{server.url}/completions", json=LONG)
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "shutting_down"
        assert httpx.get(server.url.replace("/v1", "/health")).status_code == 503
        server.engine.stop()
        release()
        assert late.result().status_code == 503 and json.loads(late.result().text)["error"]["code"] == "shutting_down"
