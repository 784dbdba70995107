"""The server: what it keeps, whom it answers, and what it says where it cannot."""

import asyncio
import errno
import json
import os
import socket
from urllib.parse import urlsplit

import pytest
from aiohttp import CookieJar
from aiohttp.test_utils import TestClient, TestServer

from jitune.construct.annotate.command import make_tokens, summary
from jitune.construct.annotate.page import make
from jitune.construct.annotate.server import MAX_BODY, addresses, allowed, host_is_ours, make_app
from jitune.types import UserError
from tests.construct.annotate.made import answer, desk_of, rows


def visit(desk, work, *, host="127.0.0.1", tokens=None, title="a.jsonl"):
    """Runs `await work(client)` against a server of the desk; the client sends an Origin as the page does."""
    async def go():
        server = TestServer(make_app(desk, make(title, names=desk.plan.annotators), host=host, tokens=tokens))
        async with TestClient(server, cookie_jar=CookieJar(unsafe=True)) as client:
            client.origin = {"Origin": f"http://{client.host}:{client.port}"}
            return await work(client)

    return asyncio.run(go())


async def post(client, event, **headers):
    reply = await client.post("/api/event", json=event, headers=client.origin | headers)
    return reply.status, await reply.json()


@pytest.fixture
def desk(tmp_path):
    with desk_of(rows(tmp_path / "a.jsonl"), tasks=["rate,correct"]) as desk:
        yield desk


def test_an_answer_is_on_disk_before_it_is_said_to_be_and_counts_once(desk):
    async def work(client):
        event = answer(desk, "ann", 1, rating=4, correction="Better \u2028 <b>")
        assert await post(client, event) == (200, {"saved": True, "state": "l"})
        before = desk.log.path.read_bytes()
        assert await post(client, event) == (200, {"saved": True, "state": "l"})
        assert desk.log.path.read_bytes() == before and len(before.splitlines()) == 2
        kept = json.loads(before.splitlines()[1])
        assert kept["answers"] == {"rating": {"state": "labelled", "value": 4}, "correction": {
            "state": "labelled", "value": "Better \u2028 <b>", "original": "Answer 1."}}
        item = await (await client.get("/api/item?annotator=ann&number=1")).json()
        assert item["answer"]["values"] == {"rating": 4, "correction": "Better \u2028 <b>"}
        return await (await client.get("/api/status?annotator=ann")).json()

    assert visit(desk, work)["states"] == ".l...."


def test_three_states_and_undo(desk):
    async def work(client):
        await post(client, answer(desk, "ann", 0, rating=1))
        await post(client, answer(desk, "ann", 1))
        await post(client, answer(desk, "ann", 2, state="skipped"))
        status = await (await client.get("/api/status?annotator=ann")).json()
        assert status["states"] == "les..." and status["recent"] == [0, 1, 2]
        undo = {"kind": "undo", "event": "undo-undo", "annotator": "ann", "item": desk.items.ids[2]}
        assert await post(client, undo) == (200, {"saved": True, "state": "."})
        assert await post(client, undo) == (200, {"saved": True, "state": "."})
        code, found = await post(client, {**undo, "event": "another-one"})
        assert code == 400 and "no answer to take back" in found["error"]

    visit(desk, work)
    assert summary(desk) == ["ann: 2 of 6 done (1 answered, 1 left empty, 0 skipped)"]


def test_annotators_see_their_own_items_and_answers_only(tmp_path):
    with desk_of(rows(tmp_path / "a.jsonl"), annotators=("ann", "bo", "cy"), overlap=2) as desk:
        both = sorted(set(desk.places("ann")) & set(desk.places("bo")))[0]

        async def work(client):
            await post(client, answer(desk, "ann", desk.places("ann").index(both), rating=5))
            item = await (await client.get(f"/api/item?annotator=bo&number={desk.places('bo').index(both)}")).json()
            assert item["item"] == desk.items.ids[both] and item["answer"] is None and item["draft"] is None
            other = next(p for p in range(6) if p not in desk.places("cy"))
            code, found = await post(client, answer(desk, "cy", 0, rating=5) | {"item": desk.items.ids[other]})
            assert code == 400 and "is not an item of cy" in found["error"]
            reply = await client.get("/api/status?annotator=dan")
            assert reply.status == 400 and "is not one of the annotators: ann, bo, cy" in (await reply.json())["error"]

        visit(desk, work)
        assert [len(desk.places(name)) for name in desk.plan.annotators] == [4, 4, 4]
    with desk_of(tmp_path / "a.jsonl") as again:  # the log says who gets what
        assert again.plan == desk.plan and again.status("ann")["states"].count("l") == 1
    with pytest.raises(UserError, match="its overlap is 2, and here it is 3\\)"), \
            desk_of(tmp_path / "a.jsonl", annotators=("ann", "bo", "cy"), overlap=3):
        pass


@pytest.mark.parametrize(("change", "what"), [
    ({"answers": {"rating": 6}}, "rating: 6 is not on the scale: 1, 2, 3, 4, 5"),
    ({"answers": {"tone": 1}}, "answers to rating, correction are needed"),
    ({"answers": {"correction": "half \ud83d"}}, "half of a surrogate pair at character 6"),
    ({"state": "maybe"}, "or that the item is skipped"),
    ({"event": 5}, "an event needs a kind and an id"),
    ({"event": "\ud83d" * 8}, "half of a surrogate pair"),
    ({"item": "x"}, "is not an item of ann"),
    ({"item": ["x"]}, "is not an item of ann"),
    ({"annotator": "a\u0000b"}, "a name of 1 to 80 letters"),
    ({"kind": "draft", "draft": {"rating": "\udc00"}}, "half of a surrogate pair"),
])
def test_what_cannot_be_kept_is_refused_and_leaves_no_trace(desk, change, what):
    before = desk.log.path.read_bytes()
    code, found = visit(desk, lambda client: post(client, answer(desk, "ann", 0) | change))
    assert code == 400 and found["saved"] is False and what in found["error"]
    assert desk.log.path.read_bytes() == before


def test_a_full_disk_is_told_and_the_server_stays(desk, monkeypatch, capsys):
    async def work(client):
        with monkeypatch.context() as m:
            def full(entry):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            m.setattr(desk.log, "append", full)
            for _ in range(3):
                code, found = await post(client, answer(desk, "ann", 0, rating=1))
                assert (code, found) == (507, {"saved": False, "error": "not saved: No space left on device"})
        assert (await post(client, answer(desk, "ann", 0, rating=1)))[0] == 200

    visit(desk, work)
    assert capsys.readouterr().err.splitlines() == [
        "jitune: an answer could not be saved, its browser keeps it: No space left on device"]


def test_long_texts_are_kept_and_endless_ones_refused(desk):
    async def work(client):
        assert (await post(client, answer(desk, "ann", 0, correction="é" * 2**20)))[0] == 200
        code, found = await post(client, answer(desk, "ann", 1, correction="x" * (MAX_BODY + 1)))
        assert code == 413 and "more than 16 MB" in found["error"]

    visit(desk, work)
    assert desk.log.latest("ann", desk.items.ids[0])["answers"]["correction"]["value"] == "é" * 2**20


@pytest.mark.parametrize(("method", "path", "headers", "code"), [
    ("GET", "/", {"Host": "evil.example"}, 403),
    ("GET", "/api/status?annotator=ann", {"Host": "evil.example:8765"}, 403),
    ("GET", "/", {"Host": "[::1"}, 403),
    ("GET", "/", {"Host": "localhost:9999"}, 200),  # as through a tunnel
    ("POST", "/api/event", {}, 403),
    ("POST", "/api/event", {"Origin": "http://evil.example"}, 403),
    ("POST", "/api/event", {"Origin": "null"}, 403),
    ("GET", "/api/item?annotator=ann&number=99", {}, 400),
    ("GET", "/api/item?annotator=ann&number=-1", {}, 400),
    ("GET", "/api/status", {}, 400),
    ("GET", "/nothing", {}, 404),
    ("DELETE", "/api/event", {}, 403),
])
def test_who_is_answered(desk, method, path, headers, code):
    async def work(client):
        reply = await client.request(method, path, headers=headers, json={} if method == "POST" else None)
        assert reply.headers["X-Frame-Options"] == "DENY" and reply.headers["X-Content-Type-Options"] == "nosniff"
        return reply.status

    assert visit(desk, work) == code


def test_a_post_that_is_no_json_is_refused(desk):
    async def work(client):
        for data, kind in ((b"{", "application/json"), (b"{}", "text/plain"), (b"\xff", "application/json")):
            reply = await client.post("/api/event", data=data, headers=client.origin | {"Content-Type": kind})
            assert reply.status == 400

    visit(desk, work)


def test_a_token_opens_one_annotators_pages(tmp_path):
    with desk_of(rows(tmp_path / "a.jsonl"), annotators=("ann", "bo")) as desk:
        tokens = make_tokens(tmp_path / "t", desk.plan.annotators)
        assert make_tokens(tmp_path / "t", desk.plan.annotators) == tokens  # links outlive the server
        assert (tmp_path / "t").stat().st_mode & 0o77 == 0

        async def work(client):
            assert (await client.get("/")).status == 403
            assert (await client.get("/?token=wrong")).status == 403
            assert (await client.get(f"/api/status?annotator=ann&token={tokens['ann']}")).status == 403
            reply = await client.get(f"/?token={tokens['ann']}&annotator=ann", allow_redirects=False)
            cookie = reply.cookies["jitune-annotate"]
            assert reply.status == 303 and reply.headers["Location"] == "/?annotator=ann"
            assert cookie["httponly"] and cookie["samesite"] == "Strict"
            assert (await client.get("/api/status?annotator=ann")).status == 200
            assert (await client.get("/api/status?annotator=bo")).status == 403
            assert (await post(client, answer(desk, "bo", 0, rating=1)))[0] == 403
            assert (await post(client, answer(desk, "ann", 0, rating=1)))[0] == 200

        visit(desk, work, host="0.0.0.0", tokens=tokens)
    assert allowed("", tokens) is None and allowed(tokens["bo"], tokens) == "bo" and allowed("x", {}) is None
    assert addresses("::1", 1, {}) == ["http://[::1]:1/"]


def test_a_machine_without_a_network_is_known_by_its_name(monkeypatch):
    def none(*_):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", none)
    assert addresses("0.0.0.0", 1, {}) == [f"http://{socket.gethostname()}:1/"]


def test_names_of_the_server():
    for host in ("0.0.0.0", "::", ""):  # one link, by a name that others can use and that is let in
        [link] = addresses(host, 8765, {})
        assert urlsplit(link).hostname not in ("localhost", "127.0.0.1", host) and urlsplit(link).port == 8765
        assert host_is_ours(urlsplit(link).netloc, host)
    assert host_is_ours("10.0.0.5:80", "0.0.0.0") and host_is_ours("lab.example", "lab.example")
    assert not host_is_ours("evil.example", "0.0.0.0") and not host_is_ours("10.0.0.5", "127.0.0.1")
    assert host_is_ours("[::1]:8765", "127.0.0.1") and not host_is_ours("", "127.0.0.1")


def test_the_page_holds_no_markup_of_its_texts():
    page = make("</title><script>x</script>", guidelines="<i>g</i>", names=["</script><b>\u2028"])
    assert page.html.count("<script") == 2 and page.html.count("</script>") == 2 and "<i>g" not in page.html
    assert "\u2028" not in page.html and "&lt;/title&gt;" in page.html
    assert "unsafe" not in page.policy and "default-src 'none'" in page.policy
