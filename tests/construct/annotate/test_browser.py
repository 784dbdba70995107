"""The page in a real browser: by keyboard, through the death of the server and of the tab, for two annotators."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from jitune.construct.annotate.log import load
from tests.construct.annotate.chromium import browser
from tests.construct.annotate.made import rows

ROOT = Path(__file__).parents[3]
CONTROL = 2  # the modifier, in the protocol's bits
WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@contextmanager
def server(path, *options, port=0):
    """The command in a process of its own; gives (process, address)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jitune", "data", "annotate", str(path), "--no-browser", "--port", str(port), *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), address + process.stdout.read()
        yield process, address
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def kept(path):
    """{(annotator, place in the file): latest answer} of the log, by its lines."""
    lines = [json.loads(line) for line in Path(f"{path}.annotations.jsonl").read_bytes().split(b"\n")[1:] if line]
    order = list(dict.fromkeys(line["item"] for line in lines))
    return {(line["annotator"], order.index(line["item"])): line for line in lines if line["kind"] == "answer"}


async def at(page, number):
    """Waits until the page shows an item, counted from 1, with all of its questions."""
    await page.until(f"location.hash === '#{number}' && !document.querySelector('#item').hasAttribute('aria-busy') && "
                     "document.querySelector('.question')")


async def saved(page):
    await page.until("document.getElementById('saved').textContent === 'Saved'")


def test_nothing_is_lost_when_server_and_tab_die(tmp_path):
    asyncio.run(_die_and_go_on(rows(tmp_path / "a.jsonl", 5), tmp_path))


async def _die_and_go_on(path, folder):
    async with browser(folder) as open_page:
        with server(path, "--annotator", "ann", "--task", "rate,correct") as (process, address):
            port = address.split(":")[2].split("/")[0]
            page = await open_page(address)
            await at(page, 1)
            await page.press("4", "e")
            await page.until("document.activeElement.tagName === 'TEXTAREA'")
            await page.type(" <b>1</b> \u2028é")
            await page.press("Enter", modifiers=CONTROL)
            await at(page, 2)
            await page.press("s")
            await at(page, 3)
            await page.press("2", "e")
            await page.type(" draft")
            log = Path(f"{path}.annotations.jsonl")
            for _ in range(1500):
                if b"Answer 2. draft" in log.read_bytes():
                    break
                await asyncio.sleep(0.02)
            assert b"Answer 2. draft" in log.read_bytes()
            await saved(page)
            process.send_signal(signal.SIGKILL)
            process.wait()
        await page.press("Enter", modifiers=CONTROL)  # an answer that no server is there to take
        await page.until("document.getElementById('banner').textContent.includes('1 answer is kept in this browser')")
        assert len(load(log)[1].answers["ann"]) == 2
        await page.call("Page.navigate", url="about:blank")  # the tab dies too, with the answer
        with server(path, "--annotator", "ann", port=int(port)) as (process, address):
            await page.call("Page.navigate", url=address)
            await page.until("document.getElementById('count').textContent.includes('2 answered')")
            await saved(page)
            await at(page, 4)
            await page.press("5", "Enter")
            await at(page, 5)
            await page.press("Enter")  # nothing is said yet
            await page.until("document.getElementById('missing').textContent.includes('Not answered')")
            await page.press("u")
            await at(page, 4)
            await page.until("document.querySelector('[aria-pressed=true]').textContent.includes('5')")
            await saved(page)
            await page.press("1", "Enter")
            await at(page, 5)
            await saved(page)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
            assert "ann: 4 of 5 done (3 answered, 0 left empty, 1 skipped)" in process.stdout.read()
        assert [text for text in page.console if "ERR_CONNECTION" not in text] == []
    found = [kept(path)["ann", i] for i in range(4)]
    assert [entry["state"] for entry in found] == ["done", "skipped", "done", "done"]
    assert found[0]["answers"] == {"rating": {"state": "labelled", "value": 4}, "correction": {
        "state": "labelled", "value": "Answer 0. <b>1</b> \u2028é", "original": "Answer 0."}}
    assert found[2]["answers"]["correction"]["value"] == "Answer 2. draft"
    assert [entry["answers"]["rating"]["value"] for entry in (found[0], *found[2:])] == [4, 2, 1]


def test_two_annotators_rank_and_compare_on_one_server(tmp_path):
    path = tmp_path / "p.jsonl"
    made = [{"prompt": f"Question {i}?", "chosen": "<img src=x onerror=alert(1)> good " + "word " * 400,
             "rejected": "نص عربي " * 30} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    asyncio.run(_two(path, tmp_path))
    ranked = kept(tmp_path / "r.jsonl")["ann", 0]  # by keyboard: the second first, then the other two together
    assert ranked["answers"]["ranking"]["value"] == [[ranked["shown"][1]], sorted(ranked["shown"][::2])]
    found = kept(path)
    assert [found["ann", i]["answers"]["preference"]["value"] for i in range(3)] == [
        found["ann", 0]["shown"][0], "tie", found["ann", 2]["shown"][1]]
    assert {name for name, _ in found} == {"ann", "bo"} and found["bo", 0]["state"] == "skipped"


async def _two(path, folder):
    options = ("--annotators", "ann,bo", "--task", "pair")
    async with browser(folder) as open_page:
        with server(path, *options) as (_, address):
            page = await open_page(address)
            await page.until("document.querySelectorAll('#names button').length === 2")
            await page.value("document.querySelector('#names button').click()")
            await at(page, 1)
            await page.call("Emulation.setDeviceMetricsOverride", width=360, height=700, deviceScaleFactor=1,
                            mobile=True)
            assert not await page.value(WIDE) and await page.value("document.querySelectorAll('img').length") == 0
            await page.press("1")
            await at(page, 2)
            other = await open_page(address + "?annotator=bo")
            await at(other, 1)
            assert "0 answered" in await other.value("document.getElementById('count').textContent")
            await other.press("s")
            await at(other, 2)
            await page.press("0")
            await at(page, 3)
            await page.press("2")
            await page.until("document.getElementById('count').textContent.startsWith('All 3 items are done')")
            for tab in (page, other):
                await saved(tab)
                assert tab.console == []
        (folder / "r.jsonl").write_text(json.dumps({"prompt": "Which?", "answers": [
            {"text": text, "score": 0} for text in ("one", "<b>two</b>", "three")]}) + "\n")
        with server(folder / "r.jsonl", "--annotator", "ann", "--task", "rank") as (_, address):
            await _rank(await open_page(address))


REFUSED = """window.sent = fetch; window.fetch = (url, how) => {
  const body = how && how.body ? JSON.parse(how.body) : {};
  if (body.kind === "answer") body.answers.ranking = [[7]];
  return window.sent(url, how && how.body ? {...how, body: JSON.stringify(body)} : how);
}; true"""
PRESSED = "[...document.querySelectorAll('.rank[aria-pressed=true]')].map(button => button.textContent).join('')"


async def _rank(page):
    """By keyboard; an answer that the server refuses becomes a draft again, with the reason."""
    await at(page, 1)
    await page.value(REFUSED)
    await page.press("2", "1", "1", "2", "Enter")  # the last answer is set twice
    await page.until("document.getElementById('banner').textContent.startsWith('Item 1 was not saved: ranking: [[7]]')")
    await at(page, 1)
    assert await page.value(PRESSED) == "212"
    await page.value("window.fetch = window.sent; true")
    await page.press("Enter")
    await page.until("document.getElementById('count').textContent.startsWith('All 1 items are done')")
    await saved(page)
    assert await page.value("document.getElementById('banner').hidden")
