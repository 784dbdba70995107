"""The command: real and made files, what is printed and written, the accepted fraction, and what cannot be told."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jitune.cli import main
from jitune.commands import data_agreement as command
from jitune.construct.agreement import files
from jitune.construct.agreement.accepted import Rule, fraction, parse
from jitune.data.record import Annotation, Record
from jitune.data.record_rows import is_record, to_row
from jitune.evals.stats import wilson
from jitune.types import UserError
from tests.report.made_run import HOSTILE
from tests.report.test_browser import look
from tests.report.test_page import parse as parse_html


def agreement(tmp_path, capsys, *words, **files):
    """(what is printed, agreement.json, page, aggregated rows, queue) of `jitune data agreement`."""
    paths = []
    for name, text in files.items():
        path = tmp_path / name.replace("__", ".")
        path.write_text(text if isinstance(text, str) else "".join(json.dumps(row) + "\n" for row in text))
        paths.append(str(path))
    out = tmp_path / "out"
    code = main(["data", "agreement", *paths, *map(str, words), "--out", str(out), "--replicates", "50"])
    told = capsys.readouterr()
    assert code == 0, told.err
    rows = [[json.loads(line) for line in (out / name).read_text().split("\n") if line]
            for name in ("aggregated.jsonl", "queue.jsonl")]
    return told.out, json.loads((out / "agreement.json").read_text()), (out / "agreement.html").read_text(), *rows


def refused(tmp_path, capsys, *words, **files) -> str:
    paths = [str(tmp_path / name.replace("__", ".")) for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        with open(path, "w") as file:
            file.write(text)
    assert main(["data", "agreement", *paths, *map(str, words), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not (tmp_path / "out").exists()
    return line


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(str.strip)
LONG = "item,annotator,label\n"
THREE = LONG + "x,a,yes\nx,b,yes\nx,c,no\ny,a,no\ny,b,no\ny,c,no\nz,a,yes\nz,b,no\n"


def test_a_long_table_from_file_to_files(tmp_path, capsys):
    printed, found, page, rows, queue = agreement(tmp_path, capsys, a__csv=THREE)
    (question,) = found["questions"]
    # Alike: 1 of 3 pairs of x, 3 of 3 of y, 0 of 1 of z.
    assert question["figures"]["percent"]["value"] == pytest.approx(4 / 7)
    assert question["majority"] == {"decided": 2, "ties": 1, "labels": {"no": 1, "yes": 1}}
    assert [(r["item"], r["majority"], r.get("tie")) for r in rows] == [
        ("x", "yes", None), ("y", "no", None), ("z", None, ["no", "yes"])]
    for row in rows:
        assert sum(row["posterior"].values()) == pytest.approx(1) and row["label"] in row["posterior"]
        assert row["probability"] == max(row["posterior"].values())
    assert [(r["id"], r["disagreement"]["questions"]) for r in queue] == [("z", ["label"]), ("x", ["label"])]
    assert all(set(r) == {"item", "id", "disagreement"} for r in queue)
    assert [r["labels"] for r in question["queue"]] == [{"a": "yes", "b": "no"}, {"a": "yes", "b": "yes", "c": "no"}]
    assert "alpha, nominal" in printed and "Dawid-Skene" in printed and "1 tie\n" in printed
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    parse_html(page)
    assert "Confusion" in page or "said of each true label" in page


def test_xstest_by_the_command(shared, tmp_path, capsys):
    path = shared / "data/annotation/xstest_v2_completions_llama2orig.csv"
    printed, found, page, rows, queue = agreement(tmp_path, capsys, path)
    pair = found["questions"][0]["figures"]["pairs"][0]
    assert pair["kappa"]["value"] == pytest.approx(0.9293, abs=5e-5) and "0.929" in printed
    assert sum(map(sum, pair["confusion"])) == 450 and len(rows) == 450 and len(queue) == 16
    # Neither the annotators' labels nor the final one, which a person would see who judges again.
    assert all(not {"annotation_1", "annotation_2", "final_label"} & set(row) for row in queue)
    assert queue[0]["prompt"] and queue[0]["completion"] and queue[0]["prompt"][:20] in page
    assert found["questions"][0]["dawid_skene"] is None  # of two people, none is right
    seen, console = look(tmp_path / "look.html", page)
    assert console == [] and all(f["needed"] == f["width"] for f in seen), seen


def test_everything_shown_is_escaped_and_seen(tmp_path, capsys):
    rows = [{"item": HOSTILE, "annotator": f"{HOSTILE}{i}", "label": f"{HOSTILE}{i % 2}", "text": HOSTILE}
            for i in range(3)]
    _, _, page, _, queue = agreement(tmp_path, capsys, a__jsonl=rows)
    seen = parse_html(page)
    assert not {"script", "img", "iframe"} & {tag for tag, _ in seen}
    assert not any(name.startswith("on") for _, attributes in seen for name in attributes)
    assert queue[0]["text"] == HOSTILE


def test_records_of_a_round_go_to_the_next(tmp_path, capsys):
    def record(name, *ratings):
        said = tuple(Annotation(f"p{i}", "rating", r, seconds=float(i)) for i, r in enumerate(ratings))
        return to_row(Record(name, messages=({"role": "user", "content": f"Ask {name}"},
                                             {"role": "assistant", "content": "Answer"}), annotations=said))

    rows = [record("r1", 1, 5, 4), record("r2", 4, 4, 4), record("r3", 4, 5, 5)]
    printed, found, page, merged, queue = agreement(tmp_path, capsys, "--level", "ordinal", "--accept", ">=4",
                                                    a__jsonl=rows)
    (question,) = found["questions"]
    assert [row["id"] for row in queue] == ["r1", "r3"] and all(map(is_record, queue))
    assert "annotations" not in queue[0] and queue[0]["meta"]["disagreement"]["questions"] == ["rating"]
    assert "Ask r1" in page and "Ask r2" not in page
    assert [row["mean"] for row in merged] == pytest.approx([10 / 3, 4, 14 / 3])
    accepted = question["accepted"]
    assert accepted["labels"]["value"] == pytest.approx(8 / 9) and accepted["labels"]["method"] == "clustered"
    # By majority r1 is a tie; r2 and r3 are accepted. By the mean r1 is not.
    assert (accepted["majority"]["value"], accepted["majority"]["n"], accepted["majority"]["undecided"]) == (1, 2, 1)
    assert accepted["mean"]["value"] == pytest.approx(2 / 3)
    assert (accepted["mean"]["low"], accepted["mean"]["high"]) == pytest.approx(wilson(2, 3))
    assert [a["seconds"] for a in question["annotators"]] == [0, 1, 2]
    assert "accepted (>=4), of items, by their mean: 66.7%" in " ".join(printed.split())


def test_rankings(tmp_path, capsys):
    rows = [{"item": i, "annotator": who, "label": tiers} for i, who, tiers in (
        ("x", "a", [["m"], ["n"], ["o"]]), ("x", "b", [["n"], ["m"], ["o"]]), ("x", "c", [["m"], ["n"], ["o"]]),
        ("y", "a", [["o"], ["n", "m"]]), ("y", "b", [["m"], ["n"], ["o"]]))]
    printed, found, page, merged, queue = agreement(tmp_path, capsys, a__jsonl=rows)
    (question,) = found["questions"]
    assert question["kind"] == "rankings" and question["figures"]["items"] == 6
    assert [(r["item"], r["ranking"]) for r in merged] == [("x", [["m"], ["n"], ["o"]]), ("y", [["m", "o"], ["n"]])]
    assert [r["id"] for r in queue] == ["y", "x"]
    assert {r["name"] for r in question["rankings"]["strengths"]} == {"m", "n", "o"}
    assert "Bradley-Terry" in printed and "Strengths by Bradley and Terry" in page


ODD = {
    "one annotator": (LONG + "x,a,1\ny,a,2\n", "one annotator only, a: there is nobody to agree with"),
    "nobody overlaps": (LONG + "x,a,1\ny,b,2\n", "the 2 annotators have no item in common"),
    "two groups": (LONG + "x,a,1\nx,b,1\ny,c,2\ny,d,1\n", "2 groups of annotators have no item in common: a, b | c, d"),
    "one label": (LONG + "x,a,1\nx,b,1\n", "all labels are the same, so that chance alone agrees on everything ('1')"),
    "one label twice": (LONG + "x,a,1\ny,a,2\ny,b,2\n", "chance alone agrees on everything ('2')"),
    "nothing": (LONG + "x,a,\nx,b,\n", "no labels (2 empty)"),
    "near": (LONG + "x,a,yes\nx,b,Yes\ny,a,no\n", "differ in case, blanks or writing only, kept apart: 'Yes', 'yes'"),
    "again": (LONG + "x,a,1\nx,a,1\nx,b,2\n", "1 label given again by the same annotator to the same item"),
    "texts": (LONG + f"x,a,{'long ' * 50}\nx,b,short\n", "texts rather than labels"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_cannot_be_told_is_one_clear_line(tmp_path, capsys, name):
    text, says = ODD[name]
    printed, found, page, _, _ = agreement(tmp_path, capsys, a__csv=text)
    (question,) = found["questions"]
    (note,) = [note for note in question["notes"] if says in note]
    assert says in " ".join(printed.replace("\n    ", " ").split()) or name == "texts"
    parse_html(page)
    if name in ("one annotator", "nobody overlaps", "one label"):
        assert question["figures"]["alpha"] == {"value": None, "low": None, "high": None}


WRONG = {
    "conflict": (LONG + "x,a,1\nx,a,2\n", [], "a.csv:2: a labels 'x' (label) '2', and '1' in"),
    "scale": (LONG + "x,a,3\n", ["--scale", "1,2"], "a.csv:1: the label '3' of a on 'x' (label) is not on the scale"),
    "no such question": (LONG + "x,a,1\n", ["--scale", "tone=1,2"], "no question 'tone'; there are label"),
    "no such level": (LONG + "x,a,1\n", ["--level", "ratio"], "nominal, ordinal, interval are known"),
    "words as numbers": (LONG + "x,a,good\n", ["--level", "interval"], "'good' is no number, as --level interval"),
    "words in no order": (LONG + "x,a,good\n", ["--level", "ordinal"], "--level ordinal needs --scale"),
    "two writings": (LONG + "x,a,4\nx,b,4.0\n", ["--level", "ordinal"], "--level ordinal needs --scale"),
    "a bound": (LONG + "x,a,good\n", ["--accept", ">=4"], "'4' is not on an ordered scale"),
    "a label": (LONG + "x,a,good\n", ["--accept", "great"], "'great' is none of the labels: good"),
    "no rule": (LONG + "x,a,good\n", ["--accept", " , "], "a bound such as '>=4' or labels"),
    "a name that is near": (LONG + "x,a,1\n", ["--label", "lable", "--item", "item"], "'lable', perhaps 'label'; the"),
    "a column twice": ("id,a,b\n1,x,y\n", ["--annotators", "a,b,a"], "--annotators: 'a' is given twice"),
    "no label": ('{"id": 1, "data": {"text": "x"}, "annotations": []}\n', [], "a.jsonl: no label is in it; read bes"),
    "no such tool": (LONG + "x,a,1\n", ["--format", "argilla"], "a.csv:1: is no row of the format argilla"),
    "many columns": (",".join(f"c{n}" for n in range(40)) + "\n" + ",".join("x" * 40), [], "'c29' and 10 more"),
    "half a pair": ('{"item": "x\\ud800", "annotator": "a", "label": "1"}\n', [], "a.jsonl:1"),
    "two ways": (LONG + "x,a,1\n", ["--format", "argilla", "--item", "item"], "leave the columns out"),
    "no such format": (LONG + "x,a,1\n", ["--format", "cvat"], "unknown format 'cvat'"),
    "negative": (LONG + "x,a,1\n", ["--queue", "-1"], "must not be negative"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_was_given_wrong_is_one_line(tmp_path, capsys, name):
    text, words, says = WRONG[name]
    line = refused(tmp_path, capsys, *words, **{"a__jsonl" if text.startswith("{") else "a__csv": text})
    assert says in line


def test_conflicts_can_be_let_pass_and_are_counted(tmp_path, capsys):
    text = LONG + "x,a,1\nx,a,2\nx,b,2\ny,a,1\ny,b,1\n"
    printed, found, *_ = agreement(tmp_path, capsys, "--conflicts", "drop", a__csv=text)
    assert found["questions"][0]["conflicting"] == 1 and found["questions"][0]["figures"]["twice"] == 1
    assert "1 time an annotator gave an item labels that differ" in printed


def test_a_failure_leaves_all_that_was_there(tmp_path, capsys, monkeypatch):
    agreement(tmp_path, capsys, a__csv=THREE)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "render", full)  # the last of the four to be made
    assert main(["data", "agreement", str(tmp_path / "a.csv"), "--out", str(tmp_path / "out"), "--seed", "1"]) == 1
    assert "space" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before and len(before) == 4


def test_what_is_read_is_not_written_over(tmp_path, capsys):
    agreement(tmp_path, capsys, a__csv=THREE)
    queue = tmp_path / "out" / "queue.jsonl"
    kept = queue.read_bytes()
    assert main(["data", "agreement", str(queue), "--item", "id", "--label", "id", "--out", str(queue.parent)]) == 2
    assert "queue.jsonl there is one of the files that are read" in capsys.readouterr().err
    assert queue.read_bytes() == kept


def test_a_large_file_is_read_twice_with_a_bar(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "LARGE", 10)
    (tmp_path / "a.csv").write_text(THREE)
    assert main(["data", "agreement", str(tmp_path / "a.csv"), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    # The second time it stops where it has the texts that it needs.
    assert [line.split(" in ")[0] for line in told.splitlines()] == ["reading: 80 bytes", "texts: 29 bytes of 80 bytes"]


def test_rules():
    assert parse(">=4", ["1", "4", "10"]) == [False, True, True] and parse("<4", ["1", "4"]) == [True, False]
    assert parse(">fair", ["poor", "fair", "good"]) == [False, False, True]
    assert parse("good, fair", ["poor", "fair", "good"]) == [False, True, True]
    assert Rule("<=2").number(1.5) is True and Rule("good").number(3.0) is None
    with pytest.raises(UserError, match="not on an ordered scale"):
        Rule(">fair").of(["fair", "good"], ordered=False)


def test_the_accepted_fraction_by_hand():
    found = fraction([True, True, False, None])
    assert found["value"] == pytest.approx(2 / 3) and (found["n"], found["undecided"]) == (3, 1)
    assert (found["low"], found["high"]) == pytest.approx(wilson(2, 3)) and found["method"] == "wilson"
    # Clusters x (2 of 2), y (0 of 1): deviations 2/3 and -2/3.
    clustered = fraction([True, True, False], ["x", "x", "y"])
    assert clustered["se"] == pytest.approx(np.sqrt(2 * (2 / 3) ** 2) / 3) and clustered["clusters"] == 2
    assert fraction([None])["value"] is None


def test_a_name_takes_one_line_of_the_screen(tmp_path, capsys):
    rows = [{"item": "q", "annotator": a, "label": v} for a, v in (("a\tb", "x\ty"), ("c\nd", "x\nz"))]
    printed, *_ = agreement(tmp_path, capsys, a__jsonl=rows)
    assert [line.split()[:3] for line in printed.splitlines() if line.startswith(("  a ", "  c ", "  x "))] == [
        ["x", "y", "1"], ["x", "z", "1"], ["a", "b", "1"], ["c", "d", "1"]]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(NAMES, NAMES, NAMES), min_size=1, max_size=12))
def test_any_names_and_labels_pass_from_file_to_files(tmp_path, capsys, rows):
    given_rows = [{"item": i, "annotator": a, "label": v} for i, a, v in rows]
    printed, found, page, merged, _ = agreement(tmp_path, capsys, "--conflicts", "first", a__jsonl=given_rows)
    parse_html(page)
    assert not set(printed) & {chr(c) for c in range(32) if chr(c) != "\n"}
    kept = {}
    for i, a, v in rows:
        kept.setdefault((i, a), v)
    votes = {(row["item"], label): n for row in merged for label, n in row["votes"].items()}
    assert votes == Counter((i, v) for (i, _), v in kept.items())
