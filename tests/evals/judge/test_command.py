"""`jitune judge` from end to end, against an endpoint in a thread."""

import json

import pytest

from jitune.cli import main
from tests.evals.judge.fake import serve
from tests.evals.judge.test_pairwise import longer, sides


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-4711")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def answers(tmp_path):
    for name, texts in (("a", ["long answer", "mid answer", "x"]), ("b", ["short", "mid answer", "longer"])):
        rows = [{"prompt": f"Q{i}", "text": text} for i, text in enumerate(texts)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")


def judged(body):
    return longer(*sides(body["messages"][1]["content"]))


def test_pairs_writes_what_it_says_and_a_rerun_asks_nothing(answers, tmp_path, capsys):
    out = tmp_path / "out"
    with serve(judged) as fake:
        command = ["judge", "pairs", *answers, "--out", str(out), "--judge", f"j@{fake.url}", "--judge_prices", "1,2",
                   "--judge_budget", "1"]
        assert main(command) == 0
        said = capsys.readouterr()
        assert len(fake.requests) == 4
        assert main(command) == 0
        assert len(fake.requests) == 4
    summary = json.loads((out / "summary.json").read_text())
    games = [json.loads(line) for line in (out / "games.jsonl").read_text().splitlines()]
    assert (summary["wins"], summary["ties"], summary["losses"], summary["identical"]) == (1, 1, 1, 1)
    assert [g["score"] for g in games] == [1, 0.5, 0] and games[0]["games"][1]["winner"] == "a"
    assert summary["judge"]["cached"] == 4 and summary["judge"]["cost"] == 0
    assert "50.0%" in said.out and "4 calls" in said.out and "cost 0.00056" in said.out
    everything = said.out + said.err + "".join(p.read_text() for p in out.iterdir())
    assert "sk-secret" not in everything


def test_single_grades_and_counts_what_was_no_grade(answers, tmp_path, capsys):
    def grade(body):
        return "I would rather not." if "Q1" in body["messages"][1]["content"] else "Fine. [[8]]"

    with serve(grade) as fake:
        assert main(["judge", "single", answers[0], "--out", str(tmp_path / "o"), "--judge", "j", "--judge_base_url",
                     fake.url]) == 0
    assert "8.00" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "o" / "grades.jsonl").read_text().splitlines()]
    assert [line["grade"] for line in lines] == [8, None, 8]
    assert lines[1]["failure"] == "judge: no grade in its answer"
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["unscored"] == 1


def test_validate_tells_right_from_wrong(tmp_path, capsys):
    rows = [{"input": "q", "output_1": "the long one", "output_2": "short", "label": label} for label in (1, 1, 1, 2)]
    for i, row in enumerate(rows):
        row["input"] += str(i)
    (tmp_path / "bar.json").write_text(json.dumps(rows))
    with serve(judged) as fake:
        assert main(["judge", "validate", "--data", str(tmp_path / "bar.json"), "--out", str(tmp_path / "o"),
                     "--judge", f"j@{fake.url}"]) == 0
    found = json.loads((tmp_path / "o" / "summary.json").read_text())["data"]
    assert found["all"]["accuracy"]["value"] == 0.75 and found["bar"]["agreement"] == 1
    assert "75.0%" in capsys.readouterr().out


def test_export_and_collect(answers, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["judge", "export", *answers, "--out", str(page)]) == 0
    key = json.loads((tmp_path / "page.key.json").read_text())
    votes = {str(i): "first" if item["first"] == "a" else "second" for i, item in enumerate(key["items"])}
    (tmp_path / "v.json").write_text(json.dumps({"page": key["page"], "annotator": "Ann", "votes": votes}))
    out = tmp_path / "found.json"
    assert main(["judge", "collect", str(tmp_path / "page.key.json"), str(tmp_path / "v.json"), "--out", str(out)]) == 0
    assert json.loads(out.read_text())["win_rate"]["value"] == 1 and len(votes) == 2
    assert "votes: Ann 2" in capsys.readouterr().out


def test_mistakes_are_one_line_and_nothing_is_asked(answers, tmp_path, capsys):
    out = ["--out", str(tmp_path / "o")]
    with serve(judged) as fake:
        endpoint = f"j@{fake.url}"
        for arguments, says in (
            (["pairs", *answers, *out, "--judge", endpoint, "--judge_budget", "1"], "--judge_prices"),
            (["pairs", *answers, *out, "--judge", endpoint, "--judge_prices", "1"], "two numbers are needed"),
            (["pairs", *answers, *out, "--judge", endpoint, "--judge_prices", "900,900", "--judge_budget", "0.1"],
             "may cost up to"),
            (["pairs", *answers, *out, "--judge", endpoint, "--judge_parameters", "{"], "is no JSON"),
            (["pairs", *answers, *out, "--judge", endpoint, "--judge_parameters", '{"n": 2}'], "without messages"),
            (["pairs", answers[0], str(tmp_path / "none.jsonl"), *out, "--judge", endpoint], "no such file"),
            (["pairs", *answers, *out, "--judge", "nowhere"], "no such directory"),
        ):
            assert main(["judge", *arguments]) == 2
            said = capsys.readouterr().err
            assert says in said and said.count("\n") == 1, said
        assert fake.requests == []


def test_a_judge_that_answers_nothing_is_an_error(answers, tmp_path, capsys):
    with serve(script=[(500, {}, b"")] * 9) as fake:
        assert main(["judge", "pairs", *answers, "--out", str(tmp_path / "o"), "--judge", f"j@{fake.url}",
                     "--judge_tries", "1"]) == 2
    assert "the judge answered nothing" in capsys.readouterr().err
