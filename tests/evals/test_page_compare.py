"""The page of a comparison: its numbers are those of `compare`, its words follow them, models' texts stay texts."""

import json
import re

import pytest

from jitune.evals.comparison.compare import compare
from jitune.evals.pages.comparison import direction, render, state, turned
from tests.conftest import once
from tests.evals.made_eval import make_eval
from tests.evals.test_page import MOST, NASTY, rows
from tests.report.test_browser import WIDTHS, look
from tests.report.test_page import parse


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A comparison of all tasks, before and after."""

    def make(folder):
        make_eval(folder / "base")
        make_eval(folder / "tuned", gain=0.12)

    folder = once(tmp_path_factory, "comparison", make)
    return compare(folder / "base", folder / "tuned")


def headline(task):
    return task["metrics"][task["headline"]]


def comparison(**given):
    """What `compare` says of a metric, with some of it changed."""
    usual = {"a": 0.5, "b": 0.6, "delta": 0.1, "change": 0.1, "se": 0.01, "low": 0.08, "high": 0.12, "p": 0.001,
             "p_holm": 0.01, "method": "t", "mde": 0.03, "pairs": 100, "clusters": 100, "unscored_a": 0,
             "unscored_b": 0, "better_pairs": 20, "worse_pairs": 10, "a_own": 0.5, "b_own": 0.6, "better": "higher",
             "unit": "share", "meaning": "", "chance": None, "note": ""}
    return usual | given


def test_every_headline_stands_with_both_values_its_change_and_p_values(found):
    html = render(found)
    parse(html)
    for axis in found["axes"]:
        tasks = {n: t for n, t in found["tasks"].items() if t["axis"] == axis}
        table = rows(html, axis)
        assert list(table) == list(tasks)
        for name, task in tasks.items():
            c = headline(task)
            shown = [json.loads(v) for v in re.findall(r'data-value="([^"]*)"', table[name])]
            keys = ("a", "b", "delta", "p", "p_holm", "mde", "pairs", "better_pairs", "worse_pairs")
            assert shown[:9] == [c[k] for k in keys], name
            assert f'data-low="{json.dumps(c["low"])}" data-high="{json.dumps(c["high"])}"' in table[name]
            assert f"<td>{state(c)[1]}</td>" in table[name]


def test_axes_are_drawn_and_told(found):
    html = render(found)
    for axis, change in found["axes"].items():
        tile = re.search(f"<dt>{axis.capitalize()}</dt>.*", html)[0]
        assert f'data-value="{json.dumps(change["value"])}"' in tile and f"{change['value']:+.1f}" in tile
        word = {1: "better", -1: "worse", 0: "cannot be told"}[direction(change)]
        assert f"points, {word};" in tile
    figure = html.split("<figcaption>Change of each axis, in points")[1].split("</figure>")[0]
    assert [float(v) for v in re.findall(r'data-value="([^"]*)"', figure)] == [
        c["value"] for c in found["axes"].values()]
    tasks = html.split("<figcaption>Change of each task, in points")[1].split("</figure>")[0]
    assert tasks.count("data-value") == 24 and "utility" in tasks  # open_ended's grade is no share
    assert found["verdict"] in html


def test_the_words_follow_interval_and_adjusted_p():
    assert state(comparison()) == (1, "better") and state(comparison(change=-0.1, better="lower")) == (-1, "worse")
    assert state(comparison(p_holm=0.05)) == (0, "better alone")
    assert state(comparison(p_holm=None, low=-0.3, high=-0.1)) == (0, "worse by the interval, no test")
    assert state(comparison(low=-0.01, p_holm=0.01)) == (0, "cannot be told")
    assert state(comparison(low=None, high=None, p_holm=None)) == (0, "cannot be told")


def test_a_change_is_turned_so_that_more_is_better():
    c = comparison(delta=0.1, change=-0.1, low=0.08, high=0.12, better="lower")
    assert turned(c) == {"value": pytest.approx(-10), "low": pytest.approx(-12), "high": pytest.approx(-8)}
    assert turned(comparison(unit="", change=2.0, low=None, high=None)) == {"value": 2.0, "low": None, "high": None}


def test_what_cannot_be_told_stands_with_the_smallest_change_that_would_be_found(found):
    tasks = {n: found["tasks"]["gsm8k"] | {"metrics": {"accuracy": c}, "flips": {}} for n, c in {
        "up": comparison(), "down": comparison(change=-0.1, low=-0.12, high=-0.08), "alone": comparison(p_holm=0.2),
        "open": comparison(low=-0.02, p_holm=0.3, change=0.05, mde=0.085)}.items()}
    html = render(found | {"tasks": tasks, "axes": {}, "slices": {}})
    words = html.split('id="in-words"')[1].split("</section>")[0]
    said = dict(re.findall("<p><strong>([^<]*)\\.</strong> (.*)</p>", words))
    assert said["Better"] == "up +10.0 points." and said["Worse"] == "down -10.0 points."
    assert said["It would be told if the task stood alone, not among so many"] == "alone +10.0 points."
    assert said["Cannot be told"].replace("\N{NO-BREAK SPACE}", " ") == "open +5.0 points (found from 8.5 points)."


def test_a_stricter_reading_that_goes_the_other_way_is_told(found):
    def page(a, b):
        task = found["tasks"]["gsm8k"] | {"metrics": {"accuracy": comparison(a_strict=a, b_strict=b)}}
        return render(found | {"tasks": {"gsm8k": task}, "axes": found["axes"], "slices": {}})

    assert "gsm8k changed the other way" in page(0.45, 0.4) and re.search(
        '>45.0%</span> \N{RIGHTWARDS ARROW} <span class="num" data-value="0.4">40.0%<', page(0.45, 0.4))
    assert "the other way" not in page(0.4, 0.45) and "the other way" not in page(None, None)


def test_flips_stand_side_by_side_and_harm_is_folded_away(found):
    html = render(found).split('id="flips"')[1].split("</section>")[0]
    counts = rows('<section id="flips">' + html, "flips")
    for name, task in found["tasks"].items():
        shown = [json.loads(v) for v in re.findall(r'data-value="([^"]*)"', counts[name])]
        assert shown == [task["flips"][k] for k in ("better", "worse", "same", "unscored")]
    blocks = {b.split(":")[0]: b for b in html.split("<details><summary>")[1:] if "that became" in b[:80]}
    assert "which may be harmful" in blocks["advbench"] and "harmful" not in blocks["gsm8k"][:200]
    some = found["tasks"]["gsm8k"]["flips"]["examples"]["better"][0]
    figure = next(f for f in re.split('<figure class="sample">', html) if f"{some['id']} " in f)
    assert re.findall('class="label">(before|after|expected)', figure) == ["before", "after", "expected"]
    assert re.findall("(accuracy .)</span>", figure) == ["accuracy 0", "accuracy 1"]
    assert f"read as: {some['b']['answer']}" in figure


def test_texts_of_models_stay_texts_and_the_page_stays_small(found):
    long = NASTY + "<" * 50_000
    side = {"score": 0.0, "answer": long, "text": long, "failure": long}
    example = {"document": "d", "id": long, "prompt": long, "target": long, "tags": {long: long}, "a": side, "b": side}
    tasks = {n: t | {"flips": t["flips"] | {"examples": {"worse": [example] * 5, "better": [example] * 5}}}
             for n, t in found["tasks"].items()}
    html = render(found | {"tasks": tasks | {NASTY: tasks["gsm8k"]}, "warnings": [NASTY], "left_out": {NASTY: NASTY}})
    elements = parse(html)
    assert not {"script", "b", "style"} & {tag for tag, _ in elements[10:]} and len(html.encode()) < MOST
    assert not [a for _, a in elements if "src" in a] and "http:" not in html and "https:" not in html
    assert [a["href"] for _, a in elements if "href" in a] == ["data:,"]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)


def test_a_comparison_of_nothing_has_a_page(found):
    html = render(found | {"tasks": {}, "axes": {}, "slices": {}, "left_out": {"gsm8k": "only in one"}, "verdict": ""})
    parse(html)
    assert "No task could be compared." in html and "only in one" in html
    odd = {"utility": {"value": None, "se": None, "low": None, "high": None, "unit": "points", "tasks": [],
                       "left_out": {"gsm8k": "no pair was scored"}}}
    none = comparison(**dict.fromkeys(("a", "b", "delta", "change", "se", "low", "high", "p", "p_holm", "mde")))
    task = found["tasks"]["gsm8k"] | {"metrics": {"accuracy": none | {"pairs": 0, "method": "none"}}, "slices": {}}
    html = render(found | {"tasks": {"gsm8k": task}, "axes": odd, "slices": {}})
    parse(html)
    assert "gsm8k has no scored pair" in html and "not in the mean of utility: no pair was scored" in html


def test_a_browser_shows_it_without_complaint_and_without_scrolling_sideways(found, tmp_path):
    found_in_browser, console = look(tmp_path / "look.html", render(found))
    assert console == []
    assert [f["width"] for f in found_in_browser] == [*WIDTHS]
    assert all(f["needed"] == f["width"] for f in found_in_browser), found_in_browser
