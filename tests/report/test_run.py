"""The page of a run: its figures are those of the files; what is not there leaves its part out."""

import json
import os
import re
import statistics

import pytest

from jitune.cli import main
from jitune.report.records import read
from jitune.report.run import write_report
from tests.report.made_run import make_run, row, write_lines
from tests.report.test_charts import values
from tests.report.test_page import parse


def figure(html: str, title: str) -> str:
    """The chart of that title."""
    return re.search(rf'<figure class="chart"><figcaption>{re.escape(title)}.*?</figure>', html, re.S)[0]


def tile(html: str, label: str) -> str:
    """The exact figure of a headline tile."""
    return re.search(rf'<dt>{label}</dt><dd class="value"><span class="num" data-value="([^"]*)"', html)[1]


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


def test_figures_are_those_of_the_files(run):
    path, steps = write_report(run)
    html, rows = path.read_text(), [row(step) for step in range(1, 31)]
    assert path == run / "report.html" and steps == 30
    parse(html)
    losses = [(str(r["step"]), json.dumps(r["loss"])) for r in rows if r["loss"] is not None]
    evaluations = [(str(r["step"]), json.dumps(r["eval_loss"])) for r in rows if "eval_loss" in r]
    assert values(figure(html, "Loss")) == losses + evaluations
    for title, key in (("Gradient norm", "grad_norm"), ("Learning rate", "learning_rate"),
                       ("Tokens per second", "tokens_per_second"), ("Model FLOPs utilization", "mfu")):
        assert values(figure(html, title)) == [(str(r["step"]), json.dumps(r[key])) for r in rows]
    assert tile(html, "Training loss") == json.dumps(rows[-1]["loss"])
    assert tile(html, "Evaluation loss") == json.dumps(rows[-1]["eval_loss"])
    assert float(tile(html, "Tokens per second")) == statistics.median(r["tokens_per_second"] for r in rows)
    assert float(tile(html, "Time in steps")) == sum(r["step_seconds"] for r in rows)
    assert float(tile(html, "Tokens seen")) == 30 * 512 and "33.4% of them supervised" in html
    assert tile(html, "Time to first step") == "9.9" and tile(html, "Memory") == str(3 * 2**29)
    assert "1.5<small>\N{NO-BREAK SPACE}GiB" in html
    assert "median; of 7.92 PFLOP/s (data sheet)" in html
    counts = re.findall(r'<rect [^>]*data-value="([^"]*)"', figure(html, "Tokens in a document, train data"))
    assert counts == ["120", "4"] and "16,385\N{EN DASH}32,768" in html  # the bin after them is empty
    assert "The loss of 1 step is not finite, first that of step 7." in html
    assert "3 of 200 examples of the train data were truncated (120 tokens)." in html
    assert '<th scope="row">data.train</th><td>data/toy.jsonl,data/b.jsonl</td><td>&#34;&#34;</td>' in html


def test_answers_stand_side_by_side_and_in_order(run):
    html = write_report(run)[0].read_text()
    shown = html[html.index("Answers while training"):html.index('<section id="data">')]
    assert re.findall(r"step (\d+)[< ]", shown)[:10] == ["1", "11", "16", "26", "1", "6", "11", "16", "21", "26"]
    assert shown.count("cut off") == 4 and shown.count("All 6 answers") == 2  # of step 1, twice for each prompt


def test_what_is_not_there_is_left_out(tmp_path):
    run = make_run(tmp_path, finished=False)
    for name in ("samples.jsonl", "data.json", "startup.json"):
        (run / name).unlink()
    write_lines(run / "metrics.jsonl", [{"step": 1, "loss": 2.5}])
    html = write_report(run)[0].read_text()
    assert re.findall("<h2>([^<]*)</h2>", html) == ["Training", "Configuration"]
    assert html.count('<figure class="chart">') == 1 and "1 of 30 steps of 8" in html
    assert "not finished" in html and re.findall("<dt>([^<]*)</dt>", html) == ["Training loss"]


def test_a_run_that_goes_on_has_an_unfinished_line(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "lo')
    assert len(read(run).rows) == 30


BAD = {
    "no directory": (lambda run: run.rename(run.with_name("gone")), (), "run: holds no run"),
    "no config": (lambda run: (run / "config.json").unlink(), (), "holds no run, there is no config.json"),
    "no step": (lambda run: (run / "metrics.jsonl").write_text(""), (), "no step is finished"),
    "no metrics": (lambda run: (run / "metrics.jsonl").unlink(), (), "no step is finished"),
    "broken metrics": (lambda run: (run / "metrics.jsonl").write_text('{"step": 1}\n{oops\n{"step": 3}\n'), (),
                       "metrics.jsonl:2: is not JSON"),
    "other lines": (lambda run: (run / "metrics.jsonl").write_text("[1]\n"), (), 'an object with a "step" is needed'),
    "broken config": (lambda run: (run / "config.json").write_text("{"), (), "config.json: is not JSON"),
    "no such directory": (lambda run: None, ("--out", "{run}/none/a.html"), "there is no directory"),
    "a directory": (lambda run: None, ("--out", "{run}"), "Is a directory"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name, run, capsys):
    break_it, words, message = BAD[name]
    break_it(run)
    assert main(["report", "--run", str(run), *(w.format(run=run) for w in words)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (run / "report.html").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_is_one_line(run, capsys):
    run.chmod(0o500)
    assert main(["report", "--run", str(run)]) == 2
    run.chmod(0o700)
    assert "Permission denied" in capsys.readouterr().err


def test_the_command_says_what_it_wrote(run, tmp_path, capsys):
    assert main(["report", "--run", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert re.fullmatch(r".*/page\.html: 30 steps, \d+ KiB\n", capsys.readouterr().out)
    assert not (run / "report.html").exists() and "<h1>" in (tmp_path / "page.html").read_text()
    assert main(["report", str(run)]) == 0, "the folder without --run"
    assert "<h1>" in (run / "report.html").read_text()
