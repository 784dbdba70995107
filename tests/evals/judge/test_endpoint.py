"""A judge behind an endpoint that is down, slow, full, broken or wrong; what it costs; that nothing is paid twice."""

import datetime
import email.utils
import json
import socket
import subprocess
import sys
import time
from contextlib import closing

import pytest

from jitune.evals.judge.judge import open_judge
from jitune.evals.task import Ask
from jitune.generators import endpoint
from jitune.types import UserError
from tests.evals.judge.fake import reply, serve

KEY = "sk-secret-4711"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def asks(count, words="question"):
    return [Ask((("system", "Judge."), ("user", f"{words} {i}")), 50) for i in range(count)]


def opened(fake, **options):
    naps = []
    judge = open_judge(f"judge@{fake.url}", sleep=naps.append, chance=lambda: 1.0, **options)
    return judge, naps


def test_answers_come_in_order_and_the_protocol_is_kept():
    with serve(lambda body: body["messages"][1]["content"].upper()) as fake:
        judge, _ = opened(fake, concurrency=4)
        verdicts = judge.answer(asks(9))
    assert [v.value for v in verdicts] == [f"QUESTION {i}" for i in range(9)]
    body, headers = fake.requests[0], fake.headers[0]
    assert body == {"model": "judge", "temperature": 0.0, "max_tokens": 50, "messages": [
        {"role": "system", "content": "Judge."}, {"role": "user", "content": "question 0"}]}
    assert headers["path"] == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    account = judge.account
    assert (account["calls"], account["input_tokens"], account["output_tokens"]) == (9, 900, 180)
    assert account["answered_by"] == ["judge-2024"] and account["cost"] is None


def test_no_key_is_sent_where_none_is_set(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with serve() as fake:
        opened(fake)[0].answer(asks(1))
    assert "Authorization" not in fake.headers[0]


def test_calls_run_beside_each_other_up_to_the_limit():
    def slow(body):
        time.sleep(0.05)
        return "[[A]]"

    with serve(slow) as fake:
        opened(fake, concurrency=3)[0].answer(asks(12))
    assert fake.most == 3


def late(handler):
    handler.connection.settimeout(5)
    time.sleep(0.5)
    return 200, {}, reply("late")


def hang_up(handler):
    return None, {}, b""


def http_date(seconds):
    return email.utils.format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds))


TROUBLE = {
    "server error": ((500, {}, b"oops"), 1.0),
    "overloaded": ((503, {"Retry-After": "7"}, b"{}"), 7.0),
    "rate limit": ((429, {"Retry-After": "3"}, b'{"error": {"message": "slow down", "code": "rate_limit"}}'), 3.0),
    "rate limit without a time": ((429, {}, b""), 1.0),
    "html": ((200, {}, b"<html><body>Bad gateway</body></html>"), 1.0),
    "empty": ((200, {}, b""), 1.0),
    "half a reply": ((200, {}, b'{"choices": [{"mess'), 1.0),
    "no choices": ((200, {}, b'{"choices": []}'), 1.0),
    "an error in a reply": ((200, {}, b'{"error": {"message": "upstream"}}'), 1.0),
    "no text": ((200, {}, json.dumps(reply(None)).encode()), 1.0),
    "only spaces": ((200, {}, json.dumps(reply("  \n")).encode()), 1.0),
    "a list": ((200, {}, b"[1]"), 1.0),
    "hung up": (hang_up, 1.0),
    "too late": (late, 1.0),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_that_passes_is_waited_for(name):
    step, wait = TROUBLE[name]
    with serve(script=[step]) as fake:
        judge, naps = opened(fake, timeout=0.25)
        verdict = judge.answer(asks(1))[0]
    assert verdict.value == "[[A]]" and naps == [wait] and len(fake.requests) == 2


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_that_stays_is_a_counted_failure(name):
    step, _ = TROUBLE[name]
    with serve(script=[(200, {}, "[[B]]"), step, step]) as fake:
        judge, naps = opened(fake, timeout=0.25, tries=2, concurrency=1)
        good, bad, after = judge.answer(asks(3))
    assert (good.value, after.value) == ("[[B]]", "[[A]]")
    assert bad.value is None and bad.failure.startswith("endpoint: ") and len(naps) == 1
    assert judge.account["failed"] == 1 and judge.account["calls"] == 2


def test_pauses_double_and_a_date_is_a_time_to_wait_for():
    with serve(script=[(500, {}, b"")] * 4 + [(429, {"Retry-After": http_date(30)}, b"")]) as fake:
        judge, naps = opened(fake)
        assert judge.answer(asks(1))[0].value == "[[A]]"
    assert naps[:4] == [1, 2, 4, 8] and 28 < naps[4] <= 30
    with serve(script=[(500, {}, b"")]) as fake:
        judge = open_judge(f"judge@{fake.url}", sleep=naps.append, chance=lambda: 0.0)
        judge.answer(asks(1))
    assert naps[-1] == 0.5


def test_an_hour_is_not_waited_for():
    with serve(script=[(200, {}, "[[A]]"), (429, {"Retry-After": "3600"}, b"")]) as fake:
        judge, naps = opened(fake, concurrency=1)
        assert judge.answer(asks(2))[1].failure == "endpoint: HTTP 429; asks to wait for 3,600 s" and naps == []


def test_a_server_that_drips_is_left():
    def drip(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(20):
            handler.wfile.write(b" ")
            time.sleep(0.05)
        return None, {}, b""

    with serve(script=[drip]) as fake:
        judge, _ = opened(fake, timeout=0.2, tries=1)
        start = time.monotonic()
        assert "no answer within 0.2 s" in judge.answer(asks(1))[0].failure
        assert time.monotonic() - start < 0.8


def says(message, code=""):
    return json.dumps({"error": {"message": message, "code": code}}).encode()


WRONG = {
    401: (says(f"Incorrect API key provided: {KEY}"), "does not accept the key in OPENAI_API_KEY"),
    403: (says(f"no access for {KEY}"), "refuses the key in OPENAI_API_KEY, or the model"),
    404: (says("The model `judge` does not exist"), "has no model 'judge', or is not the base URL"),
    402: (b"", "quota is used up"),
    429: (says("You exceeded your quota", "insufficient_quota"), "quota is used up"),
    307: (b"", "redirects"),
}


@pytest.mark.parametrize("status", WRONG)
def test_what_can_never_work_is_one_error_after_one_call(status):
    raw, expected = WRONG[status]
    with serve(script=[(status, {"Location": "http://127.0.0.1:1/"}, raw)]) as fake:
        judge, naps = opened(fake)
        with pytest.raises(UserError, match=expected) as caught:
            judge.answer(asks(5))
    assert len(fake.requests) == 1 and naps == []
    assert KEY not in str(caught.value) and "\n" not in str(caught.value)


def test_a_key_that_is_not_set_is_said(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with serve(script=[(401, {}, b"")]) as fake, pytest.raises(UserError, match="OPENAI_API_KEY is not set"):
        opened(fake)[0].answer(asks(1))


def test_a_key_that_is_taken_back_stops_the_run_and_keeps_what_was_paid(tmp_path):
    script = [(200, {}, "[[A]]")] * 3 + [(401, {}, b"")]
    with serve(script=script) as fake:
        judge, _ = opened(fake, concurrency=1, cache=tmp_path / "c.jsonl")
        with pytest.raises(UserError, match="401"):
            judge.answer(asks(6))
    assert len(fake.requests) == 4 and len(judge.store.values) == 3


def test_one_refused_question_later_on_is_only_its_own_failure():
    script = [(200, {}, "[[A]]"), (403, {}, b'{"error": {"message": "flagged by moderation"}}'),
              (400, {}, b'{"error": {"message": "too long"}}')]
    with serve(script=script) as fake:
        judge, naps = opened(fake, concurrency=1)
        found = judge.answer(asks(4))
    assert [v.value for v in found] == ["[[A]]", None, None, "[[A]]"] and naps == []
    assert found[1].failure == "endpoint: HTTP 403 (flagged by moderation)"
    assert found[2].failure == "endpoint: HTTP 400 (too long)"


def test_an_endpoint_that_is_down_is_one_error_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    naps = []
    judge = open_judge(f"judge@http://127.0.0.1:{port}/v1", sleep=naps.append)
    with pytest.raises(UserError, match="cannot be reached: .*refused; is the endpoint running"):
        judge.answer(asks(3))
    assert naps == []


def test_after_ten_failures_in_a_row_no_more_is_sent():
    with serve(script=[(200, {}, "[[A]]")] + [(400, {}, b"no")] * 99) as fake:
        judge, _ = opened(fake, concurrency=1)
        found = judge.answer(asks(40))
    assert [v.value for v in found].count("[[A]]") == 1 and len(fake.requests) < 20
    assert "not asked after 10 failures in a row" in found[-1].failure and "HTTP 400 (no)" in found[-1].failure
    with serve(script=[(400, {}, b"unknown parameter max_tokens")] * 99) as fake:
        with pytest.raises(UserError, match="10 calls failed and none worked.*unknown parameter max_tokens"):
            opened(fake, concurrency=1)[0].answer(asks(40))


def test_parameters_are_added_and_taken_out():
    with serve() as fake:
        parameters = {"temperature": None, "max_tokens": None, "max_completion_tokens": 900, "reasoning_effort": "low"}
        opened(fake, parameters=parameters)[0].answer(asks(1))
    assert fake.requests[0] == {"model": "judge", "messages": fake.requests[0]["messages"],
                                "max_completion_tokens": 900, "reasoning_effort": "low"}


def test_an_answer_that_was_cut_off_is_no_verdict(tmp_path):
    with serve(lambda body: reply("[[A]] if it were", finish="length")) as fake:
        judge, _ = opened(fake, cache=tmp_path / "c.jsonl")
        for _ in range(2):  # paid for, and so kept
            assert judge.answer(asks(1))[0].failure == "judge: the answer was cut off at 20 tokens"
    assert len(fake.requests) == 1 and judge.account["cut_off"] == 2


def test_the_preference_of_the_first_token():
    def answer(body):
        assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)
        top = [{"token": "A", "logprob": -0.5}, {"token": "B", "logprob": -1.5}, {"token": "x", "logprob": -3}]
        return reply("A", logprobs={"content": [{"token": "A", "logprob": -0.5, "top_logprobs": top}]})

    with serve(answer) as fake:
        judge, _ = opened(fake)
        assert judge.prefer(asks(1))[0].value == pytest.approx(1 / (1 + 2.718281828 ** -1))
        assert judge.prefer(asks(1), options=("Y", "N"))[0].failure == "judge: neither option is a likely token"
    with serve() as fake, pytest.raises(UserError, match="no log-probabilities"):
        opened(fake)[0].prefer(asks(1))


def test_what_is_kept_is_not_asked_again(tmp_path):
    cache = tmp_path / "c.jsonl"
    with serve(script=[(200, {}, "[[A]]"), (400, {}, b"")]) as fake:
        judge, _ = opened(fake, cache=cache, concurrency=1)
        first = judge.answer(asks(4) + asks(2))  # two of them twice
        judge.close()
        assert len(fake.requests) == 4 and first[0] == first[4] and first[1].value is None
        again, _ = opened(fake, cache=cache)
        seen = []
        found = again.answer(asks(4), on_done=seen.extend)
        assert len(fake.requests) == 5  # the failure only
        assert all(v.value == "[[A]]" for v in found) and sorted(i for i, _ in seen) == [0, 1, 2, 3]
        assert (again.account["cached"], again.account["calls"]) == (3, 1)
        again.close()
        # Another judge, another parameter, another length: none of them takes these answers.
        for other in ({"parameters": {"seed": 1}}, {"max_tokens": 51}, {"base_url": fake.url.replace("/v1", "/v2")}):
            spec = "judge" if "base_url" in other else f"judge@{fake.url}"
            with closing(open_judge(spec, cache=cache, **other)) as judge:
                judge.answer(asks(1))
        with closing(open_judge(f"other@{fake.url}", cache=cache)) as judge:
            judge.answer(asks(1))
    assert len(fake.requests) == 9


PROGRAM = """
import sys
from jitune.evals.judge.judge import open_judge
from jitune.evals.task import Ask
judge = open_judge("judge@" + sys.argv[1], cache=sys.argv[2], concurrency=1)
judge.answer([Ask((("user", f"question {i}"),), 50) for i in range(20)])
"""


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path):
    cache = tmp_path / "c.jsonl"

    def slow(body):
        time.sleep(0.05)
        return "[[A]]"

    with serve(slow) as fake:
        run = subprocess.Popen([sys.executable, "-c", PROGRAM, fake.url, str(cache)])
        while len(fake.requests) < 6:
            time.sleep(0.01)
        run.kill()
        run.wait()
        kept = cache.read_bytes().count(b"\n") - 1
        cache.write_bytes(cache.read_bytes() + b'{"key": "abc", "val')  # as if it died while writing
        before = len(fake.requests)
        assert 4 <= kept <= before < 20
        subprocess.run([sys.executable, "-c", PROGRAM, fake.url, str(cache)], check=True)
        assert len(fake.requests) - before == 20 - kept
    assert cache.read_bytes().count(b"\n") == 21


def test_a_budget_is_estimated_before_and_kept_while_asking():
    prices = (1000.0, 10_000.0)  # a call: 100 tokens in, 20 out = 0.1 + 0.2
    with serve() as fake:
        judge, _ = opened(fake, prices=prices, budget=1.0)
        estimate = judge.estimate(asks(10))
        assert (estimate["calls"], estimate["output_tokens"]) == (10, 500)
        assert estimate["cost"] == pytest.approx((estimate["input_tokens"] * 1000 + 500 * 10_000) / 1e6)
        with pytest.raises(UserError, match="--judge_budget 1: 10 calls may cost up to 5"):
            judge.answer(asks(10))
        assert fake.requests == []
        judge, _ = opened(fake, prices=prices, budget=1.5, partial=True, concurrency=4)
        found = judge.answer(asks(10))
        # The last call starts where its 50 tokens still fit: 0.3 a call, and 0.513 at most.
        assert [v.failure for v in found].count("budget") == judge.account["not_asked"] == 10 - len(fake.requests)
        assert 1 <= len(fake.requests) <= 4 and judge.account["cost"] == pytest.approx(0.3 * len(fake.requests))
        assert judge.account["cost"] <= 1.5 and judge.account["failed"] == 0


def test_a_budget_needs_prices():
    with pytest.raises(UserError, match="--judge_prices"):
        open_judge("judge@http://localhost/v1", budget=1.0)


def test_tokens_that_are_not_counted_are_estimated_and_said():
    with serve(lambda body: reply("[[A]]", usage=None)) as fake:
        judge, _ = opened(fake, prices=(1.0, 1.0))
        judge.answer(asks(1))
    account = judge.account
    assert (account["uncounted"], account["output_tokens"]) == (1, 50) and account["input_tokens"] == 4 + 2 + 4 + 3


def test_the_key_is_nowhere(tmp_path, capfd):
    echo = (b'{"error": {"message": "you sent %s"}}' % KEY.encode())
    script = [(200, {}, "[[A]]"), (400, {}, echo), (200, {}, echo), (500, {}, f"<p>{KEY}</p>".encode())]
    with serve(script=script) as fake:
        judge, _ = opened(fake, cache=tmp_path / "c.jsonl", concurrency=1, tries=1)
        found = judge.answer(asks(5))
        judge.close()
    said = capfd.readouterr()
    everything = [repr(found), repr(judge.account), repr(vars(judge)), (tmp_path / "c.jsonl").read_text(), said.out,
                  said.err]
    assert not any(KEY in text for text in everything)
    assert sum("***" in v.failure for v in found) == 3


@pytest.mark.parametrize("bad", ["sk-ä", "a\nb", "a b"])
def test_a_key_that_no_header_takes_is_not_shown(bad, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", bad)
    with serve() as fake, pytest.raises(UserError, match="OPENAI_API_KEY holds characters") as caught:
        opened(fake)[0].answer(asks(1))
    assert bad not in str(caught.value)


def test_bad_specs_say_what_is_needed(tmp_path):
    for spec, options, expected in (
        ("judge@ftp://host/v1", {}, "MODEL@http"), ("judge@https://", {}, "http://HOST/v1"),
        ("@https://host/v1", {}, "names no model"), ("judge@https://u:sk-secret@host/v1", {}, "user or password"),
        ("judge", {"base_url": "host/v1"}, "http://HOST/v1"), ("nowhere", {}, "no such directory"),
        ("judge@https://host/v1", {"base_url": "https://other/v1"}, "names its endpoint"),
        ("judge@https://host/v1", {"key_env": "sk-secret-1"}, "its name is needed"),
        ("judge@https://host/v1", {"concurrency": 0}, "1 or more"),
    ):
        with pytest.raises(UserError, match=expected) as caught:
            open_judge(spec, **options)
        assert "sk-secret" not in str(caught.value)


def test_a_query_is_sent_and_not_shown():
    with serve() as fake:
        judge = open_judge("judge", base_url=fake.url + "?api-version=2&token=secret")
        judge.answer(asks(1))
    assert fake.headers[0]["path"] == "/v1/chat/completions?api-version=2&token=secret"
    assert "secret" not in repr(judge.account) and "secret" not in repr(judge.identity)


def test_seconds_of_retry_after():
    assert endpoint._seconds("2.5") == 2.5 and endpoint._seconds(None) == 0 and endpoint._seconds("soon") == 0
    assert endpoint._seconds(http_date(-100)) == 0
