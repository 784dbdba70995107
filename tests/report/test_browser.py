"""The page of a real run in a real browser: nothing is complained about, nothing loaded, nothing wider than a phone."""

import json
import re
import shutil
import subprocess
from html import escape

import pytest

from jitune.report.run import write_report
from tests.conftest import make_toy_model, once, toy_rows
from tests.report.made_run import make_run
from tests.report.test_charts import values
from tests.report.test_page import parse
from tests.report.test_run import figure, tile

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (320, 360, 768, 1280)
# A window of a browser may not be narrow; a frame may, and one of srcdoc may be measured from outside.
MEASURE = """<!DOCTYPE html><body><script>
onload = () => document.body.dataset.found = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {
  const d = frame.contentDocument, e = d.documentElement;
  d.querySelectorAll("details").forEach(x => x.open = true);
  return {width: e.clientWidth, needed: e.scrollWidth, title: d.title, sections: d.querySelectorAll("h2").length};
}))
</script>%s</body>"""


def look(path, *pages: str) -> tuple[list[dict], list[str]]:
    """Opens each page at every width; returns what was measured, and what the console says."""
    if not CHROMIUM:
        pytest.skip("no chromium is installed")
    frame = '<iframe style="width:{}px;height:500px;border:0" srcdoc="{}"></iframe>'
    path.write_text(MEASURE % "".join(frame.format(width, escape(html)) for html in pages for width in WIDTHS))
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
         f"--user-data-dir={path.parent / 'browser'}", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=300,
    )
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return json.loads(found[1].replace("&quot;", '"')), console


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run of six steps with evaluation and samples."""

    def make(folder):
        from jitune.config import defaults
        from jitune.train import train

        (folder / "toy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toy_rows()))
        config = defaults()
        config.model.path = str(make_toy_model(folder / "model", "qwen3", folder / "toy.jsonl"))
        config.data.train = config.data.eval = str(folder / "toy.jsonl")
        config.output_dir = str(folder / "run")
        config.update({"seq_len": 64, "batch_size": 8, "steps": 6, "loggers": "", "loss_chunk": 128, "eval_every": 3,
                       "eval_batches": 2, "sample_every": 3, "samples": 2, "sample_tokens": 4})
        train(config)

    return once(tmp_path_factory, "report", make) / "run"


def test_a_real_run_has_a_page_that_equals_its_metrics(trained, tmp_path):
    html = write_report(trained, tmp_path / "page.html")[0].read_text()
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    parse(html)
    assert values(figure(html, "Loss")) == [
        *((str(r["step"]), json.dumps(r["loss"])) for r in rows),
        *((str(r["step"]), json.dumps(r["eval_loss"])) for r in rows if "eval_loss" in r)]
    assert tile(html, "Training loss") == json.dumps(rows[-1]["loss"])
    assert "toy.jsonl: 6 steps of 8 x 64 tokens, finished." in html
    assert len(re.findall('<figure class="sample">', html)) == 2 and "Answers while training" in html


def test_a_browser_shows_pages_without_complaint_and_without_scrolling_sideways(trained, tmp_path):
    pages = [write_report(run, tmp_path / "page.html")[0].read_text()
             for run in (trained, make_run(tmp_path / "made"))]
    found, console = look(tmp_path / "look.html", *pages)
    assert console == []
    assert [f["width"] for f in found] == [*WIDTHS] * 2 and all(f["needed"] == f["width"] for f in found), found
    assert [f["sections"] for f in found[-4:]] == [5] * 4


def test_a_browser_that_complains_is_heard(tmp_path):
    """What the test above relies on: width and console tell of a page that is wrong."""
    wrong = '<img src="https://example.com/a.png"><div style="width: 900px">wide</div>'
    html = write_report(make_run(tmp_path / "made"))[0].read_text().replace("</main>", f"{wrong}</main>")
    found, console = look(tmp_path / "look.html", html)
    assert len(console) == len(WIDTHS) and "Content Security Policy" in console[0]  # refused before it is asked for
    assert [f["needed"] > f["width"] for f in found] == [True, True, True, False]
