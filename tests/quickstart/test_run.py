"""The quickstart as a user runs it, short: what it writes, what it prints, and what it refuses."""

import fcntl
import json
import re
from collections import Counter

import pytest

from jitune.data.sources import read_rows
from jitune.hub import weights
from jitune.quickstart import grade, page, run, screen, tasks
from jitune.types import UserError
from tests.conftest import once, run_cli
from tests.report.test_browser import look

OPTIONS = ("--steps", 4, "--questions", 2)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder with a finished quickstart in q/, and what it printed."""

    def make(folder):
        done = run_cli("quickstart", "--out", folder / "q", *OPTIONS, devices=2, timeout=600)
        (folder / "stdout").write_text(done.stdout)
        (folder / "stderr").write_text(done.stderr)
        assert done.returncode == 0, done.stderr

    return once(tmp_path_factory, "quickstart", make)


def read(folder):
    return json.loads((folder / "q" / "summary.json").read_text())


def test_the_summary_counts_the_answers(made):
    summary = read(made)
    answers = [row for row, _ in read_rows(str(made / "q" / "answers.jsonl"))]
    assert len(answers) == summary["data"]["test"] == 2 * len(tasks.PARTS)
    for when in ("before", "after"):
        counts = Counter((a["task"], a["kind"], a[f"outcome_{when}"]) for a in answers)
        for task in tasks.UTILITY:
            assert summary[when]["utility"][task]["correct"] == counts[task, "utility", "right"]
        for area, task in (("faithfulness", "grounded"), ("safety", "safety")):
            for name, kind, goal, _ in grade.SHARES[area]:
                assert summary[when][area][name]["correct"] == counts[task, kind, goal]
    training = summary["training"]
    assert training["loss_last"] < training["loss_first"] and training["tokens"] > 4 * 8 * 128 * 0.8


def test_before_and_after_are_compared(made):
    """The comparison is that of the two evaluations, and agrees with the answers."""
    from jitune.evals.comparison.compare import compare

    out, summary = made / "q", read(made)
    found = json.loads((out / "comparison.json").read_text())
    assert found == json.loads(json.dumps(compare(out / "eval" / "before", out / "eval" / "after")))
    answers = [row for row, _ in read_rows(str(out / "answers.jsonl"))]
    kinds = {"utility": ("utility",), "faithfulness": ("stated", "unstated"), "safety": ("decline", "harmless")}
    for area, of in kinds.items():
        both = [(a["outcome_before"], a["outcome_after"], grade.GOAL[a["kind"]]) for a in answers if a["kind"] in of]
        both = [(before == goal, after == goal) for before, after, goal in both if None not in (before, after)]
        change = summary["comparison"]["areas"][area]
        assert change["pairs"] == len(both)
        assert change["better"] == sum(after > before for before, after in both)
        assert change["worse"] == sum(after < before for before, after in both)
        if both:
            assert change["delta"] == pytest.approx(sum(after - before for before, after in both) / len(both))
    assert found["verdict"] in (out / "report.html").read_text().replace("&#39;", "'")
    assert (out / "comparison.html").stat().st_size > 10_000


def test_nothing_of_the_test_is_trained_on(made):
    rows = {name: [r["messages"] for r, _ in read_rows(str(made / "q" / "data" / f"{name}.jsonl"))]
            for name in ("train", "eval")}
    trained = {messages[0]["content"] for messages in rows["train"]}
    assert len(rows["eval"]) == 2 * len(tasks.PARTS)
    assert not trained & {messages[0]["content"] for messages in rows["eval"]}
    assert read(made)["data"]["shared_keys"] == 0
    assert "truncated" not in (made / "stderr").read_text()


def test_what_is_printed_is_plain_and_fits(made):
    text = (made / "stdout").read_text()
    assert all(heading in text for heading in screen.PHASES.values())
    assert "\x1b" not in text and "Traceback" not in (made / "stderr").read_text()
    where = str(made / "q")
    assert all(len(line.replace(where, "q")) <= 80 for line in text.splitlines())
    commands = text.partition("Type next\n")[2]
    for name in ("model", "data/train.jsonl", "run"):
        assert f"{where}/{name}" in commands and (made / "q" / name).exists()


def test_the_model_is_the_tuned_one(made):
    before, after = (weights.load(made / "q" / name, dtype="float32") for name in ("base", "model"))
    assert before.tokenizer.get_vocab() == after.tokenizer.get_vocab()
    assert abs(before.params["norm"]["scale"] - after.params["norm"]["scale"]).max() > 0


def test_the_page_shows_the_figures_of_the_summary(made, tmp_path):
    summary, html = read(made), (made / "q" / "report.html").read_text()
    for area in ("utility", "faithfulness", "safety"):
        part = re.search(rf'<section id="{area}">(.*?)</section>', html, re.S)[1]
        rows = re.findall(r"<tr><th scope=\"row\".*?</tr>", part)
        assert len(rows) == len(summary["after"][area])
        for row, (name, after) in zip(rows, summary["after"][area].items(), strict=True):
            shown = [json.loads(x) for x in re.findall(r'data-value="([^"]*)"', row)]
            keys = ("share", "low", "high", "correct", "n", "unscored")
            assert shown == [summary["before"][area][name]["share"], *(after[k] for k in keys)]
    frames, console = look(tmp_path / "frames.html", html)
    assert not console and all(f["needed"] <= f["width"] and f["sections"] == 8 for f in frames)


def test_the_same_seed_gives_the_same_summary(made, tmp_path):
    done = run_cli("quickstart", "--out", tmp_path / "q", *OPTIONS, devices=2, timeout=600)
    assert done.returncode == 0, done.stderr
    first, second = read(made), read(tmp_path)
    for summary in (first, second):
        del summary["seconds"], summary["training"]["tokens_per_second"]
    assert first == second


def refusal(out, **options):
    with pytest.raises(UserError) as error:
        run.quickstart(out, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter").write_text("dear")
    assert "is not empty and holds no quickstart" in refusal(tmp_path, overwrite=True)
    assert "is not a directory" in refusal(tmp_path / "letter")
    assert [p.name for p in tmp_path.iterdir()] == ["letter"]


def test_an_earlier_quickstart_is_kept_unless_overwrite_is_given(tmp_path):
    (tmp_path / run.MARK).touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "letter").write_text("dear")
    assert "--overwrite replaces it" in refusal(tmp_path)
    assert (tmp_path / "data").exists()
    with run.claim(tmp_path, True):
        assert not (tmp_path / "data").exists() and (tmp_path / "letter").exists()
        assert "another quickstart is writing here" in refusal(tmp_path, overwrite=True)
    with (tmp_path / run.MARK).open() as file:  # free again
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_cannot_work_is_refused_first(tmp_path, monkeypatch):
    assert "--steps 0" in refusal(tmp_path, steps=0)
    assert "--questions -1" in refusal(tmp_path, questions=-1)
    assert "a comma" in refusal(tmp_path / "a,b")
    monkeypatch.setattr(run.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 5 << 20}))
    assert "5 MiB are free" in refusal(tmp_path / "full")


def test_samples_show_a_failure_of_every_part_that_has_one():
    questions = tasks.write_test(3, seed=0)
    judged = [run.Answer(q.answer, grade.GOAL[q.kind]) for q in questions]
    judged[1] = run.Answer("Answer: no", "wrong")
    pairs = [run.pair(q, a, a) for q, a in zip(questions, judged, strict=True)]
    chosen = run.choose_samples(pairs)
    assert len(chosen) == len(tasks.PARTS) + 1 and chosen[:2] == pairs[:2]
    assert page.verdict("right", "right") is True and page.verdict(None, "right") == "not scored"
