"""Generators behind an endpoint that is slow, full, broken or wrong: nothing is paid twice, and no key is shown."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from jitune.generators.account import line
from jitune.generators.call import Call, Lost, Reply
from jitune.generators.endpoint import Endpoint
from jitune.generators.open import open_generator
from jitune.generators.purse import Purse
from jitune.types import UserError
from tests.evals.judge.fake import continuation, reply, serve

KEY = "sk-secret-4711"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def opened(fake, *, cache=None, **section):
    naps = []
    given = {"model": "teacher", "base_url": fake.url, **section}
    return open_generator(given, cache=cache, sleep=naps.append, chance=lambda: 1.0), naps


def chats(count, **options):
    return [Call((("user", f"question {i}"),), **{"max_tokens": 50, **options}) for i in range(count)]


def asked(fake):
    return [body["messages"][-1]["content"] for body in fake.requests]


def test_all_parameters_of_a_call_are_sent():
    call = Call((("system", "Be brief."), ("user", "Hi")), 9, 0.7, top_p=0.5, top_k=3, presence_penalty=2,
                frequency_penalty=-1, stop=("\n\n", "16."), seed=5)
    with serve() as fake:
        opened(fake)[0].answer([call, Call((("user", "Hi"),), 9)])
        parameters = '{"seed": null, "top_p": null, "max_tokens": null, "max_completion_tokens": 9}'
        opened(fake, parameters=parameters)[0].answer([call])
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    whole = {"model": "teacher", "messages": messages, "max_tokens": 9, "temperature": 0.7, "top_p": 0.5, "top_k": 3,
             "presence_penalty": 2.0, "frequency_penalty": -1.0, "stop": ["\n\n", "16."], "seed": 5}
    assert fake.requests[0] == whole
    assert fake.requests[1] == {"model": "teacher", "messages": messages[1:], "max_tokens": 9, "temperature": 0.0}
    taken = {k: v for k, v in whole.items() if k not in ("seed", "top_p", "max_tokens")}
    assert fake.requests[2] == {**taken, "max_completion_tokens": 9}


def test_a_text_is_continued_by_a_completion_api():
    with serve(lambda body: continuation(body["prompt"][::-1], finish="length")) as fake:
        generator, _ = opened(fake, api="completion")
        assert generator.raw
        assert generator.answer([Call("<|im_start|>user\n", 4, stop=("x",))]) == [
            Reply("\nresu>|trats_mi|<", "length", 10, 5, "base-2024")]
        with pytest.raises(UserError, match="no template for conversations; give chat_template"):
            generator.answer(chats(1))
        templated, _ = opened(fake, api="completion", chat_template="chatml")
        templated.answer([Call((("user", "a<|im_end|>b"),), 4)])
    assert fake.headers[0]["path"] == "/v1/completions"
    assert fake.requests[0] == {"model": "teacher", "prompt": "<|im_start|>user\n", "max_tokens": 4,
                                "temperature": 0.0, "stop": ["x"]}
    assert fake.requests[1]["prompt"] == ("<|im_start|>user\na< |im_end|>b<|im_end|>\n<|im_start|>assistant\n")


def test_a_rendered_conversation_warns_of_no_missing_torch():
    code = ("from jitune.generators.call import Call\n"
            "from jitune.generators.wire import render\n"
            "print(render('{{ messages[0].content }}', Call((('user', 'hi'),), 1)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("hi\n", "")


def test_a_chat_api_cannot_continue_a_text():
    with serve() as fake, pytest.raises(UserError, match="api=completion"):
        generator, _ = opened(fake)
        assert not generator.raw
        generator.answer([*chats(1), Call("a text")])
    assert fake.requests == []


def refused(message, code="", status=400):
    return status, {}, json.dumps({"error": {"message": message, "code": code}}).encode()


OUTCOMES = {
    "empty": (reply(""), Reply("", "stop", 100, 20, "judge-2024")),
    "cut": (reply("so", finish="length"), Reply("so", "length", 100, 20, "judge-2024")),
    "thought all its tokens away": (reply(None, finish="length"), Reply("", "length", 100, 20, "judge-2024")),
    "filtered": (reply("", finish="content_filter"), Lost("filtered", "the answer was filtered")),
    "filtered before": (refused("no", "content_filter"), Lost("filtered", "HTTP 400 (content_filter no)")),
    "too long": (refused("This model's maximum context length is 8 tokens"),
                 Lost("too_long", "HTTP 400 (This model's maximum context length is 8 tokens)")),
    "another refusal": (refused("bad parameter"), Lost("failed", "HTTP 400 (bad parameter)")),
    "half a surrogate": (reply("a\ud800b"), Reply("a?b", "stop", 100, 20, "judge-2024")),
    "the key": (reply(f"it is {KEY}"), Reply("it is ***", "stop", 100, 20, "judge-2024")),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_how_answers_end(name, tmp_path):
    said, expected = OUTCOMES[name]
    step = said if isinstance(said, tuple) else (200, {}, json.dumps(said).encode())
    with serve(script=[(200, {}, "first"), step]) as fake:
        generator, naps = opened(fake, cache=tmp_path / "c.jsonl", prices="1,1")
        found = generator.answer([Call((("user", "before"),)), Call((("user", "Hi"),))])
        assert found[1] == expected and naps == []
        assert generator.account["output_tokens"] == (20 if isinstance(said, tuple) else 40), "filtered ones cost too"
        generator.close()
        again, _ = opened(fake, cache=tmp_path / "c.jsonl")
        again.answer([Call((("user", "Hi"),))])
        assert len(fake.requests) == (2 if isinstance(expected, Reply) else 3), "only answers are kept"


def hang_up(handler):
    return None, {}, b""


def late(handler):
    time.sleep(0.5)
    return 200, {}, reply("late")


def drip(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(12):
        handler.wfile.write(b" ")
        time.sleep(0.05)
    return None, {}, b""


def truncated(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(json.dumps(reply("half")).encode()[:40])
    return None, {}, b""


TROUBLE = {
    "429": ((429, {"Retry-After": "3"}, b""), 3.0), "500": ((500, {}, b"oops"), 1.0), "hung up": (hang_up, 1.0),
    "late": (late, 1.0), "drips": (drip, 1.0), "truncated": (truncated, 1.0),
    "html": ((200, {"Content-Type": "text/html"}, b"<html>Bad gateway</html>"), 1.0),
    "another shape": ((200, {}, b'{"choices": [{"message": "text"}]}'), 1.0),
    "no text": ((200, {}, json.dumps(reply(None)).encode()), 1.0),
    "broken off": ((200, {}, json.dumps(reply("ha", finish="abort")).encode()), 1.0),
    "rubbish": ((200, {}, b"\xff\xfe\x00"), 1.0), "too deep": ((200, {}, b"[" * 100_000), 1.0),
}


def test_trouble_that_passes_is_waited_for_and_counted():
    script = [(200, {}, "first")]
    for step, _ in TROUBLE.values():
        script += [step, (200, {}, "then")]
    with serve(script=script) as fake:
        generator, naps = opened(fake, timeout=0.25, concurrency=1)
        found = generator.answer(chats(1 + len(TROUBLE)))
    assert [r.text for r in found] == ["first"] + ["then"] * len(TROUBLE)
    assert naps == [wait for _, wait in TROUBLE.values()] and generator.account["retries"] == len(TROUBLE)
    assert f"{len(TROUBLE)} retries" in line(generator.account)


def test_a_job_that_fails_half_way_keeps_what_was_answered(tmp_path):
    cache = tmp_path / "c.jsonl"
    script = [(200, {}, "good")] * 7 + [(500, {}, b"")] * 1000
    with serve(script=script) as fake:
        generator, _ = opened(fake, cache=cache, tries=1, concurrency=2)
        seen = []
        found = generator.answer(chats(40), seen.extend)
        generator.close()
        assert sorted(i for i, _ in seen) == list(range(40)) and [found[i] for i, _ in seen] == [r for _, r in seen]
        assert sum(isinstance(r, Reply) for r in found) == 7 and len(fake.requests) < 25
        assert {r.reason for r in found if isinstance(r, Lost)} == {"failed"}
        fake.script.clear()
        before = len(fake.requests)
        again, _ = opened(fake, cache=cache)
        again.answer(chats(40) + chats(3))
        assert len(fake.requests) == before + 33 and again.account["cached"] == 7 + 3
        again.close()
        last, _ = opened(fake, cache=cache)
        assert all(isinstance(r, Reply) for r in last.answer(chats(40)))
        assert len(fake.requests) == before + 33 and last.account["calls"] == 0


def test_a_key_that_is_taken_back_is_one_error_and_what_was_paid_is_kept(tmp_path):
    with serve(script=[(200, {}, "good")] * 3 + [(401, {}, b"")]) as fake:
        generator, _ = opened(fake, cache=tmp_path / "c.jsonl", concurrency=1)
        with pytest.raises(UserError, match="does not accept the key in OPENAI_API_KEY"):
            generator.answer(chats(9))
    assert len(fake.requests) == 4 and len(generator.store.values) == 1 + 3  # and who answered


def test_calls_at_a_time_are_bounded_and_equal_ones_are_one():
    def slow(body):
        time.sleep(0.02)
        return "x"

    with serve(slow) as fake:
        generator, _ = opened(fake, concurrency=3)
        hot = [Call((("user", "again"),), 8, 1.0, seed=s) for s in (1, 2, 1)]
        cold = [Call((("user", "cold"),), 8, seed=s) for s in (1, 2)]
        generator.answer([*chats(12), *hot, *cold])
        assert fake.most == 3 and len(fake.requests) == 12 + 2 + 1
        generator.answer([*hot, *cold])
        assert len(fake.requests) == 15, "kept in memory without a file"


@pytest.mark.parametrize("concurrency", [1, 6])
def test_the_budget_is_used_up_and_never_passed(tmp_path, concurrency):
    """A call has 100 tokens in and 20 out, where 50 were asked for: 0.1 + 0.2, and 0.1 + 0.5 at most."""
    cache, section = tmp_path / "c.jsonl", {"prices": "1000,10000", "budget": 2.0, "concurrency": concurrency}
    with serve(lambda body: (time.sleep(0.01), "x")[1]) as fake:
        generator, _ = opened(fake, cache=cache, **section)
        assert generator.estimate(chats(20))["output_tokens"] == 1000
        found = generator.answer(chats(20))
        assert found.count(Lost("budget")) == 15 == generator.account["not_asked"] and len(fake.requests) == 5
        assert generator.account["cost"] == pytest.approx(1.5)
        generator.close()
        again, _ = opened(fake, cache=cache, **section)
        assert again.answer(chats(20)).count(Lost("budget")) == 15, "what was spent before counts"
        assert len(fake.requests) == 5 and again.account["earlier_cost"] == pytest.approx(1.5)
        assert "cost 1.5 of 2 (earlier runs 1.5)" in line(again.account)
        again.close()
        more, _ = opened(fake, cache=cache, **{**section, "budget": 2.5})
        more.answer(chats(20))
        assert len(fake.requests) == 7
        assert more.account["cost"] + more.account["earlier_cost"] <= 2.5


def test_tokens_may_be_capped_without_prices():
    with serve() as fake:
        generator, _ = opened(fake, token_budget=500)
        found = generator.answer(chats(9))
    assert len(fake.requests) == 3 and found.count(Lost("budget")) == 6  # 120 a call, and 150 at most


PROGRAM = """
import functools, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in a shell's background would ignore it
from jitune.generators.call import Call
from jitune.generators.open import open_generator
generator = open_generator({"model": "teacher@" + sys.argv[1], "concurrency": 3}, cache=sys.argv[2],
                           say=functools.partial(print, file=sys.stderr))
generator.answer([Call((("user", f"question {i % 30}"),), 50, 0.5, seed=i % 30) for i in range(60)])
print(generator.account["calls"], generator.account["cached"])
"""


def start(fake, cache):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, fake.url, str(cache)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()})


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_pays_for_nothing_twice(tmp_path, how):
    cache = tmp_path / "c.jsonl"
    with serve(lambda body: (time.sleep(0.05), "x" * 3000)[1]) as fake:
        run = start(fake, cache)
        while len(fake.requests) < 12:
            time.sleep(0.005)
        run.send_signal(how)
        told = run.communicate()[1]
        assert (how == signal.SIGINT) == bool(re.search("[123] calls are under way and may be paid for", told))
        at_most = 3 if how == signal.SIGKILL else 0  # those under way
        again = start(fake, cache)
        calls, cached = map(int, again.communicate()[0].split())
        assert again.returncode == 0 and 30 <= len(fake.requests) <= 30 + at_most
        assert calls + cached // 2 == 30 and calls == 30 - (cached // 2)


def test_the_first_call_is_kept_too_where_a_run_is_stopped(tmp_path):
    cache, hold = tmp_path / "c.jsonl", threading.Event()
    with serve(lambda body: hold.wait(60) and "x") as fake:
        run = start(fake, cache)
        while not fake.requests:
            time.sleep(0.005)
        run.send_signal(signal.SIGINT)
        assert "1 calls are under way" in run.stderr.readline()
        hold.set()
        run.communicate(timeout=20)
        assert len(fake.requests) == 1 and cache.read_bytes().count(b"\n") == 3  # header, identity, the answer


def test_whoever_stops_a_run_twice_waits_for_nothing(tmp_path):
    cache, hold = tmp_path / "c.jsonl", threading.Event()

    def answer(body):
        if int(body["messages"][0]["content"].split()[1]) >= 6:
            hold.wait(60)
        return "x"

    with serve(answer) as fake:
        run = start(fake, cache)
        while len(fake.requests) < 9 or cache.read_bytes().count(b"\n") < 8:  # header, identity, six answers
            time.sleep(0.005)
        try:
            run.send_signal(signal.SIGINT)
            assert "3 calls are under way" in run.stderr.readline()
            run.send_signal(signal.SIGINT)
            _, told = run.communicate(timeout=20)
        finally:
            hold.set()
            run.kill()
        assert "KeyboardInterrupt" in told and "Fatal" not in told and "Exception in thread" not in told
        calls, cached = map(int, start(fake, cache).communicate()[0].split())
    assert (calls, cached) == (24, 12)  # six answers, each asked for twice


def test_the_second_stop_is_heard_while_the_first_one_is_told():
    hold, said = threading.Event(), []

    def say(what):
        said.append(what)
        raise KeyboardInterrupt

    def tell(i, _):
        while i and len(fake.requests) < 3:
            time.sleep(0.005)
        if i:
            raise KeyboardInterrupt

    with serve(lambda body: (body["messages"][0]["content"] in ("question 0", "question 1") or hold.wait(60)) and "x"
               ) as fake:  # fmt: skip
        source = open_generator({"model": "teacher", "base_url": fake.url, "concurrency": 1}, say=say).source
        began = time.monotonic()
        try:
            with pytest.raises(KeyboardInterrupt):
                source.ask(chats(9), Purse(), lambda *_: None, tell)
            assert time.monotonic() - began < 30, "question 2 is not waited for"
        finally:
            hold.set()
    assert "1 calls are under way" in said[0] and len(fake.requests) == 3


@pytest.mark.parametrize("proven", [False, True])
def test_what_goes_wrong_with_keeping_ends_it(proven):
    def keep(i, reply):
        if i == int(proven):
            raise OSError("disk full")

    told = []
    with serve() as fake:
        source = opened(fake, concurrency=2)[0].source
        with pytest.raises(OSError, match="disk full"):
            source.ask(chats(40), Purse(), keep, lambda i, reply: told.append(i), proven)
        assert len(fake.requests) < 10 and int(proven) not in told


def test_a_word_in_place_of_a_key_stays_in_answers(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")  # as vLLM's documentation has it
    with serve(lambda body: "The set is EMPTY.") as fake:
        [found] = opened(fake)[0].answer(chats(1))
    assert found.text == "The set is EMPTY." and fake.headers[0]["Authorization"] == "Bearer EMPTY"


def test_the_key_is_nowhere(tmp_path, capfd):
    echo = (b'{"error": {"message": "you sent %s"}}' % KEY.encode())
    script = [(200, {}, f"you sent {KEY}"), (400, {}, echo), (200, {}, echo), (500, {}, f"<p>{KEY}</p>".encode())]
    said = []
    with serve(script=script) as fake:
        generator = open_generator({"model": f"teacher@{fake.url}", "concurrency": 1, "tries": 1}, say=said.append,
                                   cache=tmp_path / "c.jsonl")
        found = generator.answer(chats(5))
        generator.close()
        fake.script[:] = [(401, {}, echo)]
        with pytest.raises(UserError) as caught:
            opened(fake)[0].answer(chats(1))
    shown = capfd.readouterr()
    files = [p.read_text() for p in tmp_path.rglob("*") if p.is_file()]
    everything = [repr(found), repr(generator.account), repr(vars(generator)), repr(vars(generator.source)), *files,
                  str(caught.value), *said, shown.out, shown.err]
    assert files and not any(KEY in text for text in everything)


def test_first_tokens_of_both_apis():
    call = Call((("user", "A or B?"),), 1, options=("A", "B"))
    top = [{"token": "A", "logprob": -0.5}, {"token": "B", "logprob": -1.5}]
    with serve(lambda body: reply("A", logprobs={"content": [{"top_logprobs": top}]})) as fake:
        assert opened(fake)[0].answer([call])[0].choices == {"A": -0.5, "B": -1.5}
    with serve(lambda body: continuation("A", logprobs={"top_logprobs": [{"A": -0.5, "B": -1.5}]})) as fake:
        found = opened(fake, api="completion")[0].answer([Call("A or B? ", 1, options=("A", "B"))])
        assert found[0].choices == {"A": -0.5, "B": -1.5} and fake.requests[0]["logprobs"] == 5


def test_bad_sections_say_what_is_needed(tmp_path):
    for section, expected in (
        ({}, "names no model"), ({"model": "x@https://h/v1", "apis": 1}, "there is no option 'apis'"),
        ({"model": "x@https://h/v1", "api": "chats"}, "not one of chat, completion"),
        ({"model": "x@https://h/v1", "base_url": "https://h/v1"}, "names its endpoint"),
        ({"model": "x@ftp://h/v1"}, "MODEL@http"), ({"base_url": "https://h/v1"}, "names no model"),
        ({"model": "x@https://h/v1", "budget": 1.0}, "needs the prices"),
        ({"model": "x@https://h/v1", "prices": "1"}, "two numbers are needed"),
        ({"model": "x@https://h/v1", "parameters": "{"}, "is no JSON"),
        ({"model": "x@https://h/v1", "parameters": '{"prompt": 1}'}, "without"),
        ({"model": "x@https://h/v1", "adapter": "a"}, "an endpoint has none"),
        ({"model": "x@https://h/v1", "key_env": "sk-secret-1"}, "its name is needed"),
        ({"model": "nowhere"}, "no such directory"), ({"replay": str(tmp_path / "no.jsonl")}, "cannot be read"),
    ):
        with pytest.raises(UserError, match=expected) as caught:
            open_generator(section)
        assert "sk-secret" not in str(caught.value)


def test_an_endpoint_that_never_works_says_what_came_back():
    with serve(script=[(200, {}, b"<html>log in</html>")] * 100) as fake:
        generator, _ = opened(fake, concurrency=8)
        with pytest.raises(UserError, match="none worked; the last: a reply that is no JSON: <html>"):
            generator.answer(chats(40))


def test_a_wait_that_is_too_long_is_told():
    with serve(script=[(429, {"Retry-After": "9999"}, b"{}")] * 20) as fake:
        generator, naps = opened(fake)
        [lost] = generator.answer(chats(1))
        assert lost.detail.endswith("asks to wait for 9,999 s") and naps == [] and len(fake.requests) == 1


@pytest.mark.parametrize("timeout", [float("inf"), float("nan"), 1e12, 0, -1])
def test_times_that_no_socket_takes(timeout):
    with pytest.raises(UserError, match="its timeout above 0 and at most 86,400 seconds"):
        Endpoint("http://localhost:1/v1", "m", timeout=timeout)


def test_what_is_kept_is_counted_and_progress_goes_up(tmp_path, monkeypatch):
    monkeypatch.setattr("jitune.generators.cached.SAY_EVERY", -1.0)
    with serve() as fake:
        for model, told in (("a", ["1 of 3", "2 of 3", "3 of 3"]), ("b", ["3 answers are kept", "1 of 3"])):
            said = []
            generator = open_generator({"model": model, "base_url": fake.url}, cache=tmp_path / "c.jsonl",
                                       say=said.append)
            generator.answer(chats(3))
            generator.close()
            assert [words in line for words, line in zip(told, said, strict=False)] == [True] * len(told)


def test_who_answered_before_a_run_was_stopped_is_not_forgotten(tmp_path):
    with serve(lambda body: reply("Yes.") | {"model": body["messages"][-1]["content"][-1]}) as fake:
        for count, who in ((2, ["0", "1"]), (3, ["0", "1", "2"]), (0, ["0", "1", "2"])):
            generator, _ = opened(fake, cache=tmp_path / "c.jsonl")
            generator.answer(chats(count))
            assert generator.account["answered_by"] == who
            generator.close()


@pytest.mark.parametrize("section", [{"batch_size": 0}, {"batch_size": -1}, {"max_length": -4}])
def test_sizes_that_a_model_cannot_have(section):
    with pytest.raises(UserError, match=f"generator: {next(iter(section))}=.* must be at least"):
        open_generator({"model": "nowhere", **section})
