"""The page for people: blind, safe, usable in a browser; what votes say."""

import hashlib
import json
import re
import shutil
import subprocess
from base64 import b64encode
from html import escape, unescape
from html.parser import HTMLParser

import pytest

from jitune.evals.judge import human
from jitune.evals.judge.answers import Pair
from jitune.types import UserError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NASTY = '</script><script>document.title="taken"</script><img src=x onerror=alert(1)> <!-- & {title} \u2028 "'


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)


def pairs(count=6):
    return [Pair(f"id-{i}", f"question {i}", "R" if i == 2 else "", f"alpha answer {i}", f"beta answer {i}")
            for i in range(count)]


def exported(tmp_path, found=None, **options):
    page, key = tmp_path / "page.html", tmp_path / "page.key.json"
    record = human.export(found or pairs(), page, key, names=("model-tuned", "model-base"), **options)
    assert json.loads(key.read_text()) == record
    return page.read_text(), record, key


def data(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1])


def vote(tmp_path, record, name, votes, **changed):
    path = tmp_path / f"votes-{name}.json"
    path.write_text(json.dumps({"format": 1, "page": record["page"], "annotator": name, "votes": votes, **changed}))
    return path


def sides(record, wanted):
    """Votes (as on the page) for what is wanted: a, b or tie, one an item."""
    return {str(i): "tie" if w == "tie" else "first" if w == item["first"] else "second"
            for i, (item, w) in enumerate(zip(record["items"], wanted, strict=True)) if w}


def test_the_page_shows_every_pair_once_and_does_not_say_whose_is_which(tmp_path):
    html, record, _ = exported(tmp_path, seed=3)
    items = data(html)["items"]
    for shown, kept in zip(items, record["items"], strict=True):
        number = kept["id"].split("-")[1]
        first, second = ("alpha", "beta") if kept["first"] == "a" else ("beta", "alpha")
        assert shown["question"] == f"question {number}"
        assert (shown["first"], shown["second"]) == (f"{first} answer {number}", f"{second} answer {number}")
        assert set(shown) == {"question", "first", "second"} | ({"reference"} if number == "2" else set())
    assert sorted(i["id"] for i in record["items"]) == [f"id-{i}" for i in range(6)]
    assert not any(word in html for word in ("model-tuned", "model-base", "id-1", "seed"))
    assert {i["first"] for i in record["items"]} == {"a", "b"}
    assert [i["id"] for i in record["items"]] != [f"id-{i}" for i in range(6)]


def test_the_seed_decides_order_and_sides(tmp_path):
    found = [human.export(pairs(), tmp_path / f"{n}.html", tmp_path / f"{n}.json", seed=s)
             for n, s in enumerate((1, 1, 2))]
    assert found[0] == found[1] != found[2] and found[0]["page"] != found[2]["page"]


def test_nothing_a_model_writes_becomes_markup(tmp_path):
    html, record, _ = exported(tmp_path, [Pair("1", NASTY, NASTY, NASTY + "a", NASTY + "b")], title=NASTY)

    seen = Tags()
    seen.feed(html)
    assert seen.tags.count("script") == 2 and "img" not in seen.tags
    assert data(html)["items"][0]["question"] == NASTY
    script = re.search(r"<script>(.*?)</script>", html, re.S)[1]
    assert f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in html
    assert "default-src 'none'" in html and "http://" not in html and "https://" not in html


def test_answers_that_are_the_same_are_left_out_and_pages_are_not_overwritten(tmp_path):
    _, record, key = exported(tmp_path, [*pairs(2), Pair("s", "q", "", "same", "same")])
    assert len(record["items"]) == 2 and record["identical"] == 1
    with pytest.raises(UserError, match="page.html: is there already"):
        exported(tmp_path)
    with pytest.raises(UserError, match="nothing to compare"):
        human.export([Pair("s", "q", "", "x", "x")], tmp_path / "n.html", tmp_path / "n.json")


def test_votes_by_hand(tmp_path):
    _, record, key = exported(tmp_path)
    ann = vote(tmp_path, record, "Ann", sides(record, ["a", "a", "b", "tie", "a", None]))
    bo = vote(tmp_path, record, "Bo", sides(record, ["a", "b", "b", "tie", None, None]))
    found = human.collect(key, [ann, bo])
    assert (found["wins"], found["ties"], found["losses"]) == (4, 2, 3)
    assert found["win_rate"]["value"] == pytest.approx(5 / 9)
    # Clusters are questions: sums of deviations from 5/9 by hand.
    deviations = [2 - 10 / 9, 1 - 10 / 9, 0 - 10 / 9, 1 - 10 / 9, 1 - 5 / 9]
    expected = sum(x * x for x in deviations) ** 0.5 / 9
    assert found["win_rate"]["clusters"] == 5 and found["win_rate"]["se"] == pytest.approx(expected)
    assert (found["questions"], found["answered"]) == (6, 5) and found["annotators"] == {"Ann": 5, "Bo": 4}
    agreement = found["agreement"]
    assert (agreement["pairs"], agreement["share"]) == (4, 0.75)
    # Ann a a b tie, Bo a b b tie: observed 3/4, by chance (2*1 + 1*2 + 1*1)/16 = 5/16.
    assert agreement["kappa"] == pytest.approx((3 / 4 - 5 / 16) / (11 / 16))
    # Coincidences aa 2, ab and ba 1, bb 2, tt 2 of 8: alpha = 1 - 7 * 2 / (64 - 9 - 9 - 4).
    assert agreement["alpha"] == pytest.approx(1 - 7 * 2 / 42)
    assert found["first"] == sum(v == "first" for f in (ann, bo) for v in json.loads(f.read_text())["votes"].values()
                                 ) / 7


def test_one_annotator_has_no_agreement(tmp_path):
    _, record, key = exported(tmp_path)
    found = human.collect(key, [vote(tmp_path, record, "Ann", sides(record, ["a"] * 6))])
    assert found["win_rate"]["value"] == 1 and found["win_rate"]["low"] < 0.8
    assert found["agreement"] == {"pairs": 0, "share": None, "kappa": None, "alpha": None}


def test_votes_that_do_not_belong_are_refused(tmp_path):
    _, record, key = exported(tmp_path)
    good = vote(tmp_path, record, "Ann", {"0": "first"})
    again = tmp_path / "copy.json"
    again.write_text(good.read_text().replace('"Ann"', '" Ann "'))
    cases = (
        ([good, again], "copy.json: holds votes of 'Ann', and so does .*votes-Ann.json"),
        ([vote(tmp_path, record, "P", {}, page="0" * 16)], "votes on another page"),
        ([vote(tmp_path, record, "Q", {"6": "first"})], "question '6'; the page has 0 to 5"),
        ([vote(tmp_path, record, "R", {"-1": "first"})], "question '-1'"),
        ([vote(tmp_path, record, "S", {"0": "a"})], "the vote is 'a'; first, second or tie"),
        ([vote(tmp_path, record, "T", {})], "not one vote"),
        ([vote(tmp_path, record, " ", {})], "annotator and votes are needed"),
        ([tmp_path / "none.json"], "cannot be read"),
    )
    for files, says in cases:
        with pytest.raises(UserError, match=says):
            human.collect(key, files)
    with pytest.raises(UserError, match="is not the key of a page"):
        human.collect(good, [good])


# Clicks and keys in the real page; what comes out stands in the body's data. Its own policy would stop this script.
DRIVER = """<script>
try {
  const key = k => document.dispatchEvent(new KeyboardEvent("keydown", {key: k, bubbles: true}));
  document.querySelector("[data-vote=second]").click();
  key("1"); key("0"); key("ArrowLeft"); key("2"); key("ArrowRight");
  const counts = document.getElementById("voted").textContent;
  let saved = null, name = "";
  URL.createObjectURL = blob => { saved = blob; return "#"; };
  HTMLAnchorElement.prototype.click = function () { name = this.download; };
  document.getElementById("save").click();
  const refused = saved === null && !document.getElementById("unnamed").hidden;
  document.getElementById("name").value = " Zo\\u00eb / 1 ";
  document.getElementById("name").dispatchEvent(new Event("input"));
  document.getElementById("save").click();
  saved.text().then(text => {
    document.body.dataset.found = JSON.stringify({refused, counts, name, saved: JSON.parse(text),
      kept: localStorage.getItem("jitune-votes-" + data.page), title: document.title,
      images: document.images.length, question: document.getElementById("question").textContent});
  });
} catch (error) { document.body.dataset.found = JSON.stringify({error: String(error)}); }
</script></body>"""
FRAMES = """<!DOCTYPE html><body><script>
onload = () => document.body.dataset.found = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {
  const d = frame.contentDocument, e = d.documentElement;
  return {width: e.clientWidth, needed: e.scrollWidth, question: d.getElementById("question").textContent,
          small: [...d.querySelectorAll("button")].filter(b => b.getBoundingClientRect().height < 44).length};
}))
</script>%s</body>"""


def browse(path):
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
         "--virtual-time-budget=2000", f"--user-data-dir={path.parent / 'browser'}", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=300)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    return done.stdout, json.loads(unescape(found[1])) if found else None, console


@pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed")
def test_people_vote_in_a_browser(tmp_path):
    found = [Pair(str(i), f"q{i} {NASTY}", "", f"A{i} {NASTY}", f"B{i}") for i in range(3)]
    page, record, key = exported(tmp_path, found)
    shown, _, console = browse(tmp_path / "page.html")
    assert not console and "Question 1 of 3" in shown and "0 of 3 answered" in shown
    driven = tmp_path / "driven.html"
    loose = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", page)
    driven.write_text(loose.replace("</body>", DRIVER))
    _, seen, console = browse(driven)
    assert not console and "error" not in seen, seen
    assert seen["refused"] and seen["counts"] == "3 of 3 answered" and seen["name"] == "votes-Zoë_1.json"
    assert seen["saved"] == {"format": 1, "page": record["page"], "annotator": "Zoë / 1",
                             "votes": {"0": "second", "1": "second", "2": "tie"}}
    assert json.loads(seen["kept"])["votes"] == seen["saved"]["votes"]
    assert seen["title"] == "Which answer is better?" and seen["images"] == 0
    assert seen["question"].endswith(NASTY)
    votes = tmp_path / "votes.json"
    votes.write_text(json.dumps(seen["saved"]))
    assert human.collect(key, [votes])["annotators"] == {"Zoë / 1": 3}
    # What was voted is there again when the page is opened again.
    again, _, _ = browse(driven.with_name("page.html"))
    assert "3 of 3 answered" in again and "Question 3 of 3" in again


@pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed")
def test_the_page_fits_a_phone_and_buttons_are_large(tmp_path):
    page, _, _ = exported(tmp_path, [Pair("1", "w" * 300, "R" * 300, "x" * 500, "y y " * 200)])
    frame = '<iframe style="width:{}px;height:600px;border:0" srcdoc="{}"></iframe>'
    path = tmp_path / "frames.html"
    path.write_text(FRAMES % "".join(frame.format(w, escape(page)) for w in (320, 390, 768, 1280)))
    _, found, console = browse(path)
    assert not console
    assert [f["width"] for f in found] == [320, 390, 768, 1280]
    assert all(f["needed"] <= f["width"] and f["question"] and not f["small"] for f in found), found
