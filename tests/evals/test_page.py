"""The page of an evaluation: its numbers are those of results.json, models' texts stay texts, and it stays small."""

import copy
import json
import re

import pytest

from jitune.evals.pages import examples
from jitune.evals.pages.evaluation import render, write_page
from jitune.evals.results import read, read_samples
from jitune.types import UserError
from tests.conftest import once
from tests.evals.made_eval import HOSTILE, make_eval
from tests.report.test_browser import WIDTHS, look
from tests.report.test_page import parse

NASTY = HOSTILE + "</p></main></body>\x00\x07\u202e\u2066שלום\ud800 \U000e0041<!-- <style> " + "]]> 年" * 40
MOST = 1_500_000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An evaluation of all tasks."""
    return once(tmp_path_factory, "evaluation", lambda folder: make_eval(folder / "tuned", gain=0.1)) / "tuned"


def everything(directory) -> tuple[dict, dict]:
    run = read(directory)
    return run.header, {name: read_samples(run, name) for name in run.header["tasks"]}


def rows(html: str, section: str) -> dict[str, str]:
    """The rows of a section's first table, by the text of their first cell."""
    part = html.split(f'<section id="{section}">')[1].split("</table>")[0]
    return {re.sub("<[^>]*>", "", row.split("</th>")[0]): row for row in part.split("<tr>")[2:]}


def nasty(tree):
    """The same tree with every text replaced, but for those that say what a thing is."""
    if isinstance(tree, dict):
        kept = ("axis", "headline", "unit", "better", "format")
        return {k: v if k in kept else nasty(v) for k, v in tree.items()}
    if isinstance(tree, list):
        return [nasty(v) for v in tree]
    return NASTY if isinstance(tree, str) else tree


def test_every_headline_stands_with_its_interval_and_what_is_not_scored(made):
    results, samples = everything(made)
    html = render(results, samples)
    parse(html)
    for axis in ("utility", "faithfulness", "safety"):
        tasks = {n: e for n, e in results["tasks"].items() if e["axis"] == axis}
        table = rows(html, axis)
        assert list(table) == list(tasks)
        for name, entry in tasks.items():
            h, row = entry["metrics"][entry["headline"]], table[name]
            wanted = [h[k] for k in ("value", "strict", "chance", "n", "unscored")] + [entry["extraction_failures"]]
            shown = [json.loads(v) for v in re.findall(r'data-value="([^"]*)"', row)]
            assert shown == wanted, name
            assert f'data-low="{json.dumps(h["low"])}" data-high="{json.dumps(h["high"])}"' in row
            assert ("\N{DOWNWARDS ARROW}" in row) == (h["better"] == "lower")
        shares = [n for n, e in tasks.items() if e["metrics"][e["headline"]]["unit"] == "share"]
        figure = html.split(f"<figcaption>{axis.capitalize()}: headlines")[1].split("</figure>")[0]
        assert figure.count("data-low") == len(shares)


def test_an_axis_is_the_mean_of_its_shares_turned_so_that_more_is_better(made):
    results, samples = everything(made)
    safety = [e["metrics"][e["headline"]] for e in results["tasks"].values() if e["axis"] == "safety"]
    wanted = sum(1 - h["value"] if h["better"] == "lower" else h["value"] for h in safety) / len(safety)
    error = sum(h["se"] ** 2 for h in safety) ** 0.5 / len(safety)
    tile = re.search(r"<dt>Safety</dt>.*", render(results, samples))[0]
    assert float(re.search('data-value="([^"]*)"', tile)[1]) == pytest.approx(wanted)
    assert f"{100 * wanted:.1f}%" in tile and f"{196 * error:.1f}%" in tile
    assert "mean of 7 headlines, 5 turned so that more is better" in tile
    utility = re.search(r"<dt>Utility</dt>.*", render(results, samples))[0]
    assert "mean of 10 headlines; 1 task in other units" in utility


def test_languages_domains_slices_and_what_was_left_out_are_there(made):
    html = render(*everything(made))
    assert [s for s in re.findall('<section id="([^"]*)"', html)] == [
        "utility", "faithfulness", "safety", "by-language", "by-domain", "tasks", "left-out", "how-it-was-measured"]
    language = html.split('id="by-language"')[1].split("</section>")[0]
    assert re.findall("<figcaption>([a-z]+):", language) == ["mgsm", "xcopa", "xstest", "multijail"]
    domain = html.split('id="by-domain"')[1].split("</section>")[0]
    assert re.findall("<figcaption>([A-Z][a-z]+)<", domain) == ["Code", "Finance", "General", "Law", "Medicine"]
    medicine = [row for row in domain.split("<tr>") if row.startswith('<th scope="row">medicine</th>')]
    assert [re.search("<td>([a-z_]+)</td>", row)[1] for row in medicine] == ["pubmedqa", "grounded_qa"]
    assert ">By kind<" in html and ">snarks<" in html  # a tag of one task
    left = html.split('id="left-out"')[1]
    assert "no files medmcqa*.jsonl" in left and "<td>judged</td>" in left
    measured = html.split('id="how-it-was-measured"')[1]
    assert all(word in measured for word in ("5b3f0c9a7d1e2f48", "judge.model", "compiles", "0.42", "2026-05-01T"))
    assert "not scored in bbh" in html and "context in tatqa (3)" in html


def test_harm_is_folded_away_and_the_rest_is_not(made):
    html = render(*everything(made))
    blocks = re.split(r'<p id="task-', html)[1:]
    assert len(blocks) == 25
    for block in blocks:
        name = block.split('"')[0]
        before = block.split('<figure class="sample">')[0]
        assert ("which may be harmful</summary>" in before) == (name in (
            "xstest", "advbench", "harmbench", "strongreject", "multijail", "bbq", "toxicity")), name


def test_texts_of_models_and_files_stay_texts(made):
    results, samples = everything(made)
    samples = {n: [{**nasty(row), "scores": row["scores"]} for row in rows[:9]] for n, rows in samples.items()}
    results = nasty(results) | {"tasks": {n: nasty(e) | {"title": NASTY} for n, e in results["tasks"].items()}}
    results["tasks"][NASTY] = copy.deepcopy(results["tasks"]["gsm8k"])
    html = render(results, samples)
    elements = parse(html)
    assert not {"script", "b", "style"} & {tag for tag, _ in elements[10:]}
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html) and "\\u202e" in html
    html.encode()  # no surrogate is left


def test_the_page_is_whole_and_its_links_lead_somewhere(made):
    html = render(*everything(made))
    elements = parse(html)
    links = [a["href"] for _, a in elements if "href" in a]
    ids = {a["id"] for _, a in elements if "id" in a}
    assert not [a for _, a in elements if "src" in a] and "http:" not in html and "https:" not in html
    assert {h for h in links if not h.startswith("#")} == {"data:,"}
    assert {h[1:] for h in links if h.startswith("#")} <= ids and len(links) > 25
    assert len(ids) == len([1 for _, a in elements if "id" in a])


@pytest.mark.parametrize("text", ["<" * 50_000, "年" * 50_000, "word " * 10_000])
@pytest.mark.parametrize("times", [1, 5])
def test_the_page_stays_small(made, text, times):
    results, _ = everything(made)
    long = {"id": text, "prompt": text, "target": text, "answer": text, "tags": {text: text}, "failure": "",
            "verdicts": [{"value": text}] * 9, "responses": [{"text": text, "finish_reason": "length"}] * 9}
    results["tasks"] = {n + "x" * i: e for n, e in results["tasks"].items() for i in range(times)}
    samples = {n: [{**long, "scores": dict.fromkeys(e["metrics"], 0.5)}] * 2000 for n, e in results["tasks"].items()}
    assert len(render(results, samples).encode()) < MOST


def test_the_worst_are_chosen():
    entry = {"headline": "a", "metrics": {"a": {"unit": "share", "better": "higher"}, "w": {"unit": ""}}}

    def row(i, score, failure=""):
        return {"id": i, "scores": {"a": score}, "failure": failure}

    rows = [row(0, 1.0), row(1, 0.5), row(2, 0.0), row(3, None, "extraction"), row(4, None, "extraction"), row(5, 0.2),
            row(6, None, "judge"), row(7, 0.0)]
    chosen = examples.choose(rows, entry)
    assert [r["id"] for r in chosen] == [2, 7, 3, 6] and examples.choose(chosen, entry) == chosen
    assert [r["id"] for r in examples.choose(rows[:4], entry)] == [2, 1, 3]  # what is right is not shown
    assert [r["id"] for r in examples.choose(rows, entry, most=1)] == [2]
    lower = {"headline": "a", "metrics": {"a": {"unit": "share", "better": "lower"}}}
    assert [r["id"] for r in examples.choose(rows, lower)] == [0, 1, 3, 6]
    corpus = {"headline": "f", "metrics": {"f": {"unit": "share"}, "a": entry["metrics"]["a"]}}
    assert examples.judged_by(rows, corpus) == "a" and examples.choose([], entry) == []
    assert [examples.budget(n) for n in (0, 1, 25, 60, 100, 500)] == [4, 4, 4, 1, 1, 0]


def test_a_page_is_written_where_the_evaluation_lies(made, tmp_path):
    page = write_page(made)
    assert page == made / "report.html" and page.read_text(encoding="utf-8") == render(*everything(made))
    assert page.stat().st_size < MOST
    with pytest.raises(UserError, match="holds no evaluation"):
        write_page(tmp_path)
    with pytest.raises(UserError, match="there is no directory"):
        write_page(made, tmp_path / "none" / "page.html")
    few = make_eval(tmp_path / "few", count=3, only="gsm8k")
    (few / "samples" / "gsm8k.jsonl").unlink()
    assert "gsm8k" in write_page(few, tmp_path / "few.html").read_text()  # without samples, no examples


def test_an_evaluation_of_nothing_has_a_page(made):
    results, _ = everything(made)
    bare = {"format": 1, "tasks": {}, "model": {}, "settings": {}}
    assert "0 documents of 0 tasks" in render(bare, {}) and parse(render(bare, {}))
    entry = {**results["tasks"]["gsm8k"], "headline": None, "metrics": {}, "left_out": ["accuracy"], "slices": {}}
    assert "Every metric was left out" in render(bare | {"tasks": {"gsm8k": entry}}, {})


def test_a_browser_shows_it_without_complaint_and_without_scrolling_sideways(made, tmp_path):
    results, samples = everything(made)
    long = "x" * 3000
    samples["gsm8k"] = [{**row, "id": long, "tags": {"kind": long}, "prompt": long, "target": long} for row in
                        samples["gsm8k"]]
    results["tasks"]["gsm8k"]["title"] = results["skipped"][long] = results["settings"][long] = long
    found, console = look(tmp_path / "look.html", render(results, samples))
    assert console == []
    assert [f["width"] for f in found] == [*WIDTHS] and all(f["needed"] == f["width"] for f in found), found
    assert [f["sections"] for f in found] == [8] * 4


def test_choices_are_named_beside_their_log_likelihoods():
    row = {"responses": [{"continuation": "<b>ja</b>", "logprob": -1.5, "greedy": True, "tokens": 2},
                         {"logprob": -2.0, "greedy": False, "tokens": 1}]}
    ((label, block, _),) = examples.spoken(row, "a.jsonl")
    assert label == "log-likelihoods" and "2 tokens, greedy: &lt;b&gt;ja&lt;/b&gt;" in block and "<b>" not in block
    assert "nats, 1 tokens" in block
