"""The page and the card say what funnel.json says, whatever people and models wrote."""

import json
import re
import subprocess
from html import escape, unescape

import pytest

from jitune.construct.curate import card, report
from jitune.construct.curate.examples import marked, shown_row
from jitune.construct.curate.run import curate
from tests.construct.curate.made import TOYS, config, read, write_inputs
from tests.report.test_browser import CHROMIUM, look
from tests.report.test_page import parse
from tests.report.test_run import figure, tile

HOSTILE = '<script>alert("1")</script>&\u202e| `x` </table>'


@pytest.fixture
def folder(tmp_path):
    inputs = write_inputs(tmp_path)
    stages = f"{TOYS}:words,{TOYS}:tongue,{TOYS}:redact,{TOYS}:same,{TOYS}:longest,mix"
    return curate(config(inputs, tmp_path / "out", stages, mix__weights="0.2,0.8", mix__total=12, longest__keep=30,
                         license="CC-BY-4.0"))


def heights(chart: str) -> list[int]:
    """The values of a chart's bars."""
    return [int(v) for v in re.findall('<rect[^>]* data-value="([^"]*)"', chart)]


def cells(html: str, name: str, column: int = 0) -> list[list[str]]:
    """The rows of a table whose first header is `name`: numbers by their data-value, texts as they stand."""
    tables = re.findall(r"<table>.*?</table>", html, re.S)
    (found,) = [t for t in tables if f'<th scope="col">{name}</th>' in t.partition("</tr>")[0]][column : column + 1]
    rows = re.findall(r"<tr>(.*?)</tr>", found.partition("<tbody>")[2], re.S)
    return [[(re.search('data-value="([^"]*)"', cell) or re.search(r"^([^<]*)", cell))[1]
             for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)] for row in rows]


def test_the_page_equals_funnel_json(folder):
    html, found = (folder / "report.html").read_text(), json.loads((folder / "funnel.json").read_text())
    parse(html)
    counts = found["records"]
    assert [tile(html, name) for name in ("Read", "Kept", "Rejected", "Not read")] == [
        str(n) for n in (counts["read"], counts["kept"], counts["rejected"], counts["malformed"] + counts["left_out"])]
    assert heights(figure(html, "Records left after each stage")) == [
        counts["read"], *(row["out"] for row in found["stages"])]
    rows = cells(html, "stage")
    assert [(r[0], *map(int, (r[2], r[3], r[5], r[6]))) for r in rows] == [
        (s["name"], s["in"], s["rejected"], s["out"], s["changed"]) for s in found["stages"]]
    reasons = {(r[0], r[1]): int(r[2]) for r in cells(html, "stage", 1)}
    assert reasons == {("read", k): v for k, v in found["unread"].items()} | {
        (s["name"], k): v for s in found["stages"] for k, v in s["reasons"].items()}
    before, after = found["before"]["answer"], found["after"]["answer"]
    assert heights(figure(html, "Records by characters of the answer")) == [
        n for name in before for n in (before[name], after.get(name, 0))]
    before, after = found["before"]["language"], found["after"]["language"]
    assert set(before) == {"", "en", "fr", "zh"} and set(after) == {"en", "zh"}
    assert heights(figure(html, "Languages")) == [
        n for name in before for n in (before[name], after.get(name, 0))]
    told = found["stages"][-1]["told"]["sources"]
    assert [row[1:] for row in cells(html, "source")] == [[str(v) for v in list(one.values())[1:]] for one in told]
    assert told[1]["too small by"] and "is too small for the mixture" in html


def test_examples_are_few_and_drawn_by_hash(folder):
    html, rejected = (folder / "report.html").read_text(), read(folder / "rejected.jsonl")
    shown = re.findall(r"<details><summary>(.*?)</summary>(.*?)</details>", html, re.S)
    short = next(body for title, body in shown if title.startswith("words: too_short"))
    ids = re.findall(r"\b[0-9a-f]{24}\b", short)
    of_stage = {row["id"] for row in rejected if row["stage"] == "words"}
    assert len(ids) == len(set(ids)) == 3 and set(ids) <= of_stage and len(of_stage) > 3
    assert "1 words, at least 2" in short


def test_everything_on_the_page_and_the_card_is_escaped(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"instruction": HOSTILE, "output": HOSTILE}, {"instruction": HOSTILE + " fr", "output": "secret"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"<script>": 1}\n')
    folder = curate(config([path], tmp_path / "out", f"{TOYS}:redact,{TOYS}:tongue", name=HOSTILE, license=HOSTILE,
                           redact__by=HOSTILE))
    html, text = (folder / "report.html").read_text(), (folder / "card.md").read_text()
    parse(html)
    assert "<script" not in html and "&lt;script" in html and "\u202e" not in html
    assert '<mark title="secret">secret</mark>' in html
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert not re.search(r"(?<!\\)<", body) and "\\<script\\>" in body and "\u202e" not in text
    assert all(line.count(" | ") <= 6 for line in body.splitlines() if line.startswith("|"))
    assert 'pretty_name: "<script>alert(\\"1\\")</script>&\\\\u202e| `x` </table>"' in front


def test_spans_are_marked_and_long_texts_are_cut_around_them():
    assert marked("a <b> a", [("<b>", 'x"y')]) == ('<p class="text">a <mark title="x&#34;y">&lt;b&gt;</mark> a</p>')
    assert marked("aab", [("a", ""), ("aa", "")]) == '<p class="text"><mark>aa</mark>b</p>'  # the longest first
    long = marked("x" * 5000 + " here " + "y" * 5000, [("here", "why")])
    assert '<mark title="why">here</mark>' in long and len(long) < 1500 and "9,106 more characters" in long
    assert marked("abc", [("abcdef" * 1000, "")]) == '<p class="text">abc</p>'
    huge = marked("z" * 3000, [("z" * 3000, "")])
    assert huge.startswith('<p class="text"><mark>zzz') and "2,100 more characters" in huge
    assert marked("", []) == ""
    row = {"reason": "opening", "detail": '"Sure! Here is ..."', "record": {"messages": [
        {"role": "user", "content": "Q"}, {"role": "assistant", "content": "Sure! Here is <it>"}]}}
    assert "<mark>Sure! Here is</mark> &lt;it&gt;" in shown_row(row)  # what a detail quotes is found in the text


def test_the_card_says_where_everything_comes_from(folder):
    text, found = (folder / "card.md").read_text(), json.loads((folder / "funnel.json").read_text())
    front = text.partition("\n---\n")[0]
    assert front.startswith('---\npretty_name: "a and b, curated"\nlicense: "cc-by-4.0"\nlanguage: ["en", "zh"]\n')
    assert 'size_categories: ["n<1K"]' in front and "    path: kept.jsonl" in front
    for one in found["inputs"]:
        assert f"{one['read']} | {one['kept']} | CC-BY-4.0 ({one['kept']}) | {one['sha256']} |" in text
    for row in found["stages"]:
        assert f"| {row['name']} | {row['in']} | {row['rejected']} | {row['out']} | " in text
    assert "pii did not run: personal data was not looked for." in text and "no licence" not in text


def test_the_head_is_yaml_and_licences_are_warned_of(folder):
    yaml = pytest.importorskip("yaml")
    found = json.loads((folder / "funnel.json").read_text())
    found["after"]["license"] = {"MIT": 3, "my own: words": 2, "": 1}
    found["records"]["kept"] = 6
    text = card.card(found)
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["license"] == "other" and head["license_name"] == "mit-my-own-words-unknown"
    assert head["license_details"] == "MIT, my own: words, unknown"
    assert head["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "kept.jsonl"}]}]
    assert "1 of 6 records has no licence." in text and "under 2 licences (MIT, my own: words)" in text
    html = report.page_of(found, {})
    assert "1 of 6 records has no licence." in html and "under 2 licences" in html


def test_the_head_has_the_words_of_the_hub():
    assert card.license_fields({"Apache-2.0": 3}) == {"license": "apache-2.0"}
    assert card.license_fields({"ODC-By-1.0": 3}) == {"license": "odc-by"}
    assert card.license_fields({"GPL-3.0-or-later": 1, "MIT": 2, "": 1}) == {"license": ["gpl-3.0", "mit", "unknown"]}
    assert card.license_fields({"": 3}) == card.license_fields({}) == {"license": "unknown"}
    assert card.license_fields({"All mine!": 3}) == {
        "license": "other", "license_name": "all-mine", "license_details": "All mine!"}


def test_languages_of_the_head_have_a_hundredth_of_the_records(folder):
    found = json.loads((folder / "funnel.json").read_text())
    found["records"]["kept"] = 1000
    found["after"]["language"] = {"en": 900, "zh": 50, "und": 32, "de": 10, "nl": 8}
    assert 'language: ["de", "en", "zh"]\n' in card.card(found)
    found["records"]["kept"], found["after"]["language"] = 0, {}
    assert "language:" not in card.front(found)


def test_a_card_names_files_and_no_places_of_this_machine(folder):
    found = json.loads((folder / "funnel.json").read_text())
    where = str(folder.parent)
    found["stages"][1] |= {"options": {"against": f"{where}/test.jsonl, allenai/x"}, "chosen": ["against"],
                           "files": {f"{where}/test.jsonl": "5" * 64}}
    text = card.card(found)
    assert where not in text and "| a.jsonl | " in text and "against=test.jsonl,allenai/x" in text
    assert f"| test.jsonl | {'5' * 64} |" in text
    assert "\n\n\n" not in text and text.startswith("---\n") and text.endswith("\n") and text[-2] != "\n"
    assert card.places(["/a/x/t.jsonl", "/a/y/t.jsonl", "/b/u.csv", "d/v.csv", "org/hh"]) == [
        "x/t.jsonl", "y/t.jsonl", "u.csv", "d/v.csv", "org/hh"]


@pytest.mark.parametrize(("names", "title"), [
    (["/data/hh_test.jsonl.gz"], "hh_test"), (["tatsu-lab/alpaca[train]", "b/dolly.parquet"], "alpaca and dolly"),
    (["a/1.jsonl", "b/2.json", "c/v1.5.csv"], "1, 2 and v1.5"), (list("abcd"), "4 sources")])
def test_the_name_is_that_of_the_files(names, title):
    result = {"name": "", "inputs": [{"input": name} for name in names]}
    assert card.title(result) == title and card.pretty_name(result) == f"{title}, curated"
    assert card.pretty_name(result | {"name": "Mine"}) == "Mine"


def test_options_are_those_that_differ_or_matter(tmp_path):
    folder = curate(config(write_inputs(tmp_path), tmp_path / "out", "empty,length,exact", length__max_answer_words=9))
    text, html = (folder / "card.md").read_text(), (folder / "report.html").read_text()
    rows = dict(re.findall(r"^\| (\w+) \| [\d,]+ \| [\d,]+ \| [\d,]+ \| (.*) \|$", text, re.MULTILINE))
    assert rows == {"ids": "-", "empty": "-", "length": "max\\_answer\\_words=9", "exact": "of=conversation"}
    assert "fold_case" not in html.partition("All of the config")[0]


def test_a_run_that_keeps_nothing_has_its_pages(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("{broken\n")
    folder = curate(config([path], tmp_path / "out", f"{TOYS}:words"))
    found = json.loads((folder / "funnel.json").read_text())
    assert found["records"] == {"read": 1, "malformed": 1, "left_out": 0, "rejected": 0, "kept": 0}
    parse((folder / "report.html").read_text())
    assert "There are no records." in (folder / "card.md").read_text()


def test_a_browser_shows_the_page_without_complaint(folder, tmp_path):
    found, console = look(tmp_path / "look.html", (folder / "report.html").read_text())
    assert console == [] and all(f["needed"] == f["width"] for f in found), found
    assert {f["sections"] for f in found} == {8}


PLACES = """<!DOCTYPE html><body><script>
onload = () => document.body.dataset.found = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {
  const rows = (what) => Object.values(Object.groupBy(frame.contentDocument.querySelectorAll(what), e => e.offsetTop));
  const first = frame.contentDocument.querySelector(".grid").children;
  return {tiles: rows(".tiles > div").map(row => row.length), left: [...first].map(chart => chart.offsetLeft)};
}))
</script>%s</body>"""


def test_no_tile_and_no_chart_stands_alone(folder, tmp_path):
    if not CHROMIUM:
        pytest.skip("no chromium is installed")
    html, page = escape((folder / "report.html").read_text()), tmp_path / "places.html"
    page.write_text(PLACES % "".join(f'<iframe style="width:{width}px;height:500px;border:0" srcdoc="{html}"></iframe>'
                                     for width in (390, 900, 1280)))
    done = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
                           f"--user-data-dir={tmp_path / 'browser'}", page.as_uri()],
                          capture_output=True, text=True, timeout=300)
    phone, tablet, screen = json.loads(unescape(re.search('data-found="([^"]*)"', done.stdout)[1]))
    assert (phone["tiles"], tablet["tiles"], screen["tiles"]) == ([2, 2, 2], [3, 3], [6])
    assert len(set(phone["left"])) == 1 and len(set(screen["left"])) == 3
    first, *others = tablet["left"]
    assert len(set(others)) == 1 and first < others[0]  # the first chart, and the others beside it
