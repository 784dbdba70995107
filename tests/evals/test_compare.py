"""Two evaluations side by side: differences by hand, refusals, and what the command prints."""

import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from jitune.cli import main
from jitune.evals import stats
from jitune.evals.comparison import tradeoff
from jitune.evals.comparison.compare import compare, gain
from jitune.evals.results import read, read_samples, sample_file
from jitune.evals.task import Document, Metric, Outcome
from jitune.types import UserError
from tests.evals.made_runs import ACCURACY, RATING, REFUSED, YES, make_documents, make_task, outcomes, write_run

COLOURS = make_task()
DOCUMENTS = make_documents(12, language=lambda i: "en" if i < 8 else "sw")
BEFORE = [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0, None]
AFTER = [1, 1, 0, 1, 1, 1, 1, 0, 0, None, 0, 1]


def two_runs(tmp_path, before=BEFORE, after=AFTER, documents=DOCUMENTS, task=COLOURS, **settings):
    metric = task.metrics[0].name
    return [write_run(tmp_path / name, [(task, documents, outcomes(scores, metric))], **settings)
            for name, scores in (("base", before), ("tuned", after))]


def everything(rng, shift=0.0):
    """Three tasks of the three axes, in the state that the shift makes."""
    safety, faith = make_task("harm", "safety", (REFUSED, ACCURACY)), make_task("yes", "faithfulness", (YES,))
    clusters = make_documents(40, cluster=lambda i: f"t{i // 4}", domain=lambda i: ("law", "care")[i % 2])
    return [
        (COLOURS, DOCUMENTS, outcomes(BEFORE)),
        (safety, clusters, [Outcome({"refused": float(v), "accuracy": float(1 - v)})
                            for v in np.clip(rng.random(40) + shift, 0, 1)]),
        (faith, clusters, [Outcome({}, answer="yes" if rng.random() > 0.4 + shift else "no") for _ in range(40)]),
    ]


def test_a_comparison_by_hand(tmp_path):
    found = compare(*two_runs(tmp_path))
    c = found["tasks"]["colours"]["metrics"]["accuracy"]
    # Ten pairs; 0 -> 1 for d4, d5, d6; 1 -> 0 for d2, d8.
    assert (c["pairs"], c["unscored_a"], c["unscored_b"]) == (10, 1, 1)
    assert (c["a"], c["b"], c["delta"], c["change"]) == (0.5, 0.6, pytest.approx(0.1), pytest.approx(0.1))
    assert (c["better_pairs"], c["worse_pairs"], c["method"], c["p"]) == (3, 2, "mcnemar", 1.0)
    differences = [0, 0, -1, 0, 1, 1, 1, 0, -1, 0]
    assert c["se"] == pytest.approx(np.std(differences, ddof=1) / math.sqrt(10))
    assert c["high"] - c["delta"] == pytest.approx(stats.t_of(9) * c["se"])
    assert c["mde"] == pytest.approx(2.801585 * c["se"], rel=1e-6)
    assert (c["a_own"], c["b_own"]) == (pytest.approx(6 / 11), pytest.approx(7 / 11))
    assert (c["a_strict"], c["b_strict"]) == (0.5, pytest.approx(7 / 12))
    flips = found["tasks"]["colours"]["flips"]
    assert {k: flips[k] for k in ("better", "worse", "same", "unscored")} == {
        "better": 3, "worse": 2, "same": 5, "unscored": 2}
    assert [e["id"] for e in flips["examples"]["worse"]] == ["d2", "d8"]
    example = flips["examples"]["better"][0]
    assert (example["id"], example["prompt"], example["target"], example["tags"]) == (
        "d4", "q4", "red", {"language": "en"})
    assert (example["a"]["score"], example["b"]["score"], example["a"]["text"]) == (0, 1, "It is None.")
    assert {v: s["pairs"] for v, s in found["tasks"]["colours"]["slices"]["language"].items()} == {"en": 8, "sw": 2}
    assert found["slices"]["language"]["en"]["utility"]["value"] == pytest.approx(100 * 2 / 8)
    assert found["axes"]["utility"]["value"] == pytest.approx(10)
    assert found["verdict"].startswith("utility +10.0 (±")
    assert found["verdict"].endswith("points: no change shows; faithfulness and safety not measured")
    json.dumps(found, allow_nan=False)


def test_identical_runs_do_not_differ(tmp_path):
    tasks = everything(np.random.default_rng(0))
    found = compare(write_run(tmp_path / "a", tasks), write_run(tmp_path / "b", tasks))
    seen = [c for t in found["tasks"].values() for c in t["metrics"].values()]
    seen += [c for t in found["tasks"].values() for values in t["slices"].values() for c in values.values()]
    assert len(seen) == 4 + 3 + 4 and {c["method"] for c in seen} == {"mcnemar", "t", "bootstrap"}
    for c in seen:
        assert (c["delta"], c["change"], c["p"], c["p_holm"] or 1) == (0, 0, 1, 1)
        assert (c["better_pairs"], c["worse_pairs"]) == (0, 0)
        assert c["low"] == -c["high"] and (c["high"] > 0 or c["unit"] == ""), "a few documents are no proof"
    assert {a: c["value"] for a, c in found["axes"].items()} == {"utility": 0, "faithfulness": 0, "safety": 0}
    assert found["axes"]["faithfulness"]["unit"] == "sd", "its headline is no share"
    assert found["verdict"].endswith(": no change shows")


def test_turning_the_order_turns_the_signs(tmp_path):
    rng = np.random.default_rng(1)
    one, two = write_run(tmp_path / "a", everything(rng)), write_run(tmp_path / "b", everything(rng, 0.2))
    there, back = compare(one, two), compare(two, one)
    for name, task in there["tasks"].items():
        for metric, c in task["metrics"].items():
            other = back["tasks"][name]["metrics"][metric]
            assert other["delta"] == pytest.approx(-c["delta"]) and other["p"] == pytest.approx(c["p"])
            assert (other["low"], other["high"]) == pytest.approx((-c["high"], -c["low"]))
            assert (other["better_pairs"], other["worse_pairs"]) == (c["worse_pairs"], c["better_pairs"])


def test_what_is_better_lower_changes_in_the_other_direction(tmp_path):
    task = make_task("harmless", "safety", (REFUSED,))
    found = compare(*two_runs(tmp_path, [0] * 12, [1] * 6 + [0] * 6, task=task))
    c = found["tasks"]["harmless"]["metrics"]["refused"]
    assert (c["delta"], c["change"], c["better_pairs"], c["worse_pairs"], c["p"]) == (0.5, -0.5, 0, 6, 2 / 2**6)
    assert found["axes"]["safety"]["value"] == -50 and found["axes"]["safety"]["high"] < 0
    assert "safety lost, no gain shows" in found["verdict"]


def test_clusters_make_it_a_t_test(tmp_path):
    documents = make_documents(12, cluster=lambda i: f"text {i // 3}")
    before, after = [1, 0, 1] * 4, [1, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1]
    found = compare(*two_runs(tmp_path, before, after, documents))["tasks"]["colours"]["metrics"]["accuracy"]
    expected = stats.paired(before, after, [d.cluster for d in documents])
    assert (found["method"], found["clusters"]) == ("t", 4)
    assert (found["delta"], found["se"], found["p"]) == pytest.approx((expected.delta, expected.se, expected.p))
    assert "4 clusters" in found["note"]


def test_corpus_metrics_are_paired_by_their_resamples(tmp_path):
    task, documents = make_task(metrics=(YES,)), make_documents(200)
    rng = np.random.default_rng(2)
    before = rng.random(200) < 0.5
    after = before | (rng.random(200) < 0.1)
    runs = [write_run(tmp_path / n, [(task, documents, [Outcome({}, answer="yes" if v else "no") for v in values])])
            for n, values in (("a", before), ("b", after))]
    found = compare(*runs)["tasks"]["colours"]["metrics"]["yes"]
    twin = stats.paired(before.astype(float), after.astype(float), None)
    assert found["delta"] == pytest.approx(twin.delta)
    assert found["sd"] == pytest.approx(np.sqrt((before.var() + after.var()) / 2), rel=0.1)
    assert found["se"] == pytest.approx(twin.se, rel=0.1), "far below the error of two runs that are not paired"
    assert found["p"] < 0.01 and found["method"] == "bootstrap"
    assert 0 < found["low"] < found["delta"] < found["high"]
    others = [*documents[:-1], Document("new", {"question": "new"}, ())]
    c = write_run(tmp_path / "c", [(task, others, [Outcome({}, answer="yes" if v else "no") for v in after])])
    forced = compare(runs[0], c, force=True)["tasks"]["colours"]["metrics"]["yes"]
    assert (forced["pairs"], forced["se"], forced["method"]) == (199, None, "none"), "resamples of other documents"
    header = json.loads((runs[1] / "results.json").read_text())
    header["tasks"]["colours"]["metrics"]["yes"]["resamples"] = "others"
    (runs[1] / "results.json").write_text(json.dumps(header))
    alone = compare(*runs)["tasks"]["colours"]["metrics"]["yes"]
    assert (alone["delta"], alone["se"], alone["p"], alone["method"]) == (found["delta"], None, None, "none")
    assert "no error can be told" in alone["note"]


def test_headlines_are_adjusted_for_their_number(tmp_path):
    tasks = [make_task(n, metrics=(ACCURACY, REFUSED)) for n in ("one", "two", "three")]
    documents, gains = make_documents(10), {"one": 6, "two": 8, "three": 1}

    def scores(count):
        return [Outcome({"accuracy": float(i < count), "refused": 0.5}) for i in range(10)]

    a = write_run(tmp_path / "a", [(t, documents, scores(0)) for t in tasks])
    b = write_run(tmp_path / "b", [(t, documents, scores(gains[t.name])) for t in tasks])
    found = {n: t["metrics"] for n, t in compare(a, b)["tasks"].items()}
    assert {n: m["accuracy"]["p"] for n, m in found.items()} == {"one": 2 / 64, "two": 2 / 256, "three": 1}
    assert {n: m["accuracy"]["p_holm"] for n, m in found.items()} == {"one": 4 / 64, "two": 6 / 256, "three": 1}
    assert {m["refused"]["p_holm"] for m in found.values()} == {None}


def test_gained_at_the_cost_of_what(tmp_path):
    safety, documents = make_task("harm", "safety"), make_documents(50)
    states = {"a": ([0] * 50, [1] * 50), "b": ([1] * 25 + [0] * 25, [0] * 10 + [1] * 40)}
    runs = [write_run(tmp_path / n, [(COLOURS, documents, outcomes(u)), (safety, documents, outcomes(s))])
            for n, (u, s) in states.items()]
    found = compare(*runs)
    # sd of 25 ones in 50 is 0.5051, of 10 is 0.4041; over sqrt(50), times 1.96: 14.0 and 11.2 points.
    assert found["verdict"] == ("utility +50.0 (±14.0) points, safety -20.0 (±11.2) points: utility gained at the "
                                "cost of safety; faithfulness not measured")


def test_an_axis_is_the_mean_of_its_shares():
    def headline(change, se, unit="share", sd=0.5):
        return "utility", {"change": change, "se": se, "unit": unit, "sd": sd}

    tasks = {"a": headline(0.1, 0.03), "b": headline(0.2, 0.04), "c": headline(2.0, 1.0, "", 4.0),
             "d": headline(0.9, None), "e": headline(None, None)}
    found = tradeoff.by_axis(tasks)["utility"]
    assert (found["value"], found["se"]) == (pytest.approx(15), pytest.approx(2.5)), "100 x sqrt(.03^2 + .04^2) / 2"
    assert found["tasks"] == ["a", "b"] and found["low"] == pytest.approx(15 - 1.959964 * 2.5)
    assert found["left_out"] == {"c": "is no share", "d": "its error cannot be told", "e": "no pair was scored"}
    others = tradeoff.by_axis({"c": headline(2.0, 1.0, "", 4.0), "f": headline(1.0, 1.0, "", 2.0)})["utility"]
    assert (others["unit"], others["value"]) == ("sd", 0.5)
    assert others["se"] == pytest.approx(math.hypot(0.25, 0.5) / 2)
    assert tradeoff.by_axis({"d": headline(0.9, None)})["utility"]["low"] is None
    unknown = tradeoff.by_axis({"e": headline(None, None)})
    assert tradeoff.verdict(unknown) == (
        "utility unknown: no change shows; utility, faithfulness and safety not measured")


def test_a_run_that_scores_less_is_told(tmp_path):
    found = compare(*two_runs(tmp_path, [1] * 6 + [0] * 6, [1] * 6 + [None] * 6))
    c = found["tasks"]["colours"]["metrics"]["accuracy"]
    assert (c["pairs"], c["a"], c["delta"]) == (6, 1, 0)
    assert "unscored: 0 before, 6 after" in c["note"]


def test_other_documents_are_refused(tmp_path):
    a, b = two_runs(tmp_path)
    changed = [*DOCUMENTS[:5], Document("d5", {"question": "q5"}, (), tags={"language": "en"}, target="green"),
               *DOCUMENTS[6:]]
    c = write_run(tmp_path / "other", [(COLOURS, changed, outcomes(AFTER))])
    with pytest.raises(UserError, match="^colours: document d5 is only in .*base, or had another text or target"):
        compare(a, c)
    fewer = write_run(tmp_path / "fewer", [(COLOURS, DOCUMENTS[:10], outcomes(AFTER[:10]))])
    with pytest.raises(UserError, match="^colours: document d10 and 1 more are only in .*base"):
        compare(a, fewer)
    with pytest.raises(UserError, match="^colours: document d10 and 1 more are only in .*base"):
        compare(fewer, a)
    found = compare(a, c, force=True)
    assert found["tasks"]["colours"]["documents"] == 11 and len(found["warnings"]) == 2
    assert "d5" in found["warnings"][0]
    nothing = write_run(tmp_path / "none", [(COLOURS, [Document("x", {"question": ""}, ())], outcomes([1]))])
    with pytest.raises(UserError, match="no document in common"):
        compare(a, nothing, force=True)


def test_other_prompts_are_refused(tmp_path):
    a = write_run(tmp_path / "a", [(COLOURS, DOCUMENTS, outcomes(BEFORE))])
    b = write_run(tmp_path / "b", [(COLOURS, DOCUMENTS, outcomes(AFTER))], prompt="User: ")
    with pytest.raises(UserError, match="^colours: the prompt of document d0 and of 11 more is another in .*templates"):
        compare(a, b)
    assert "colours: the prompt of document d0" in compare(a, b, force=True)["warnings"][0]
    header = json.loads((a / "results.json").read_text())
    header["tasks"]["colours"]["prompts"] = "of more requests than the first"
    (tmp_path / "c" / "samples").mkdir(parents=True)
    (tmp_path / "c" / "results.json").write_text(json.dumps(header))
    sample_file(tmp_path / "c", "colours").write_text(sample_file(a, "colours").read_text())
    with pytest.raises(UserError, match="^colours: the runs' prompts differ"):
        compare(a, tmp_path / "c")


def test_other_clusters_are_told(tmp_path):
    a = write_run(tmp_path / "a", [(COLOURS, make_documents(12, cluster=lambda i: f"t{i // 6}"), outcomes(BEFORE))])
    b = write_run(tmp_path / "b", [(COLOURS, make_documents(12), outcomes(AFTER))])
    found = compare(a, b)
    assert found["tasks"]["colours"]["metrics"]["accuracy"]["clusters"] == 2
    assert "other clusters" in found["warnings"][0]


@pytest.mark.parametrize("first, second, message", [
    ({"limit": 10}, {"limit": None}, "was evaluated with 10 documents a task"),
    ({"judge": {"model": "j", "t": 0}}, {"judge": {"model": "k", "t": 0}}, "had other judges: model 'j' and 'k'"),
])
def test_other_settings_are_refused(tmp_path, first, second, message):
    a = write_run(tmp_path / "a", [(COLOURS, DOCUMENTS, outcomes(BEFORE))], **first)
    b = write_run(tmp_path / "b", [(COLOURS, DOCUMENTS, outcomes(BEFORE))], **second)
    with pytest.raises(UserError, match=message) as error:
        compare(a, b)
    assert "\n" not in str(error.value) and "--force" in str(error.value)
    assert message in compare(a, b, force=True)["warnings"][0]


def test_settings_that_hinder_nothing_are_shown(tmp_path):
    task, found = make_task(metrics=(RATING, ACCURACY)), [Outcome({"rating": 7, "accuracy": 1})] * 12
    a = write_run(tmp_path / "a", [(task, DOCUMENTS, found)], available={"judge"}, judge={"model": "j"}, dtype="f4")
    b = write_run(tmp_path / "b", [(task, DOCUMENTS, found)], dtype="bf16")
    there = compare(a, b)
    assert there["settings"] == {"dtype": ["f4", "bf16"]} and "only" in there["warnings"][0]
    assert list(there["tasks"]["colours"]["metrics"]) == ["accuracy"]


def test_runs_without_a_common_task_are_refused(tmp_path):
    one, two = make_task("one"), make_task("two")
    a = write_run(tmp_path / "a", [(one, DOCUMENTS, outcomes(BEFORE))])
    b = write_run(tmp_path / "b", [(two, DOCUMENTS, outcomes(BEFORE))])
    with pytest.raises(UserError, match="have no task in common: one and two"):
        compare(a, b)
    c = write_run(tmp_path / "c", [(t, DOCUMENTS, outcomes(BEFORE)) for t in (one, two)])
    assert compare(a, c)["left_out"] == {"two": f"only in {c}"}


def test_equal_documents_are_told_apart(tmp_path):
    twice = [Document(f"d{i}", {"question": "the same"}, ()) for i in range(3)]
    a, b = two_runs(tmp_path, [1, 0, 0], [1, 1, 0], twice)
    file = sample_file(b, "colours")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[::-1]))
    found = compare(a, b)
    assert found["tasks"]["colours"]["metrics"]["accuracy"]["pairs"] == 3
    assert [e["id"] for e in found["tasks"]["colours"]["flips"]["examples"]["better"]] == ["d1"]


def damage(file, text):
    def do(run):
        path = run / "results.json" if file == "results" else sample_file(run, "colours")
        path.write_text(text(path.read_text()) if callable(text) else text)
    return do


@pytest.mark.parametrize("broken, message", [
    (lambda run: (run / "results.json").unlink(), "holds no evaluation: no results.json"),
    (damage("results", "{"), "results.json: is not readable as JSON"),
    (damage("results", "[]"), "is of format 'list'"),
    (damage("results", '{"format": 2}'), "is of format 2; this version reads format 1"),
    (damage("results", '{"format": 1, "model": {}, "settings": {}}'), "tasks is None; dict is needed"),
    (damage("results", lambda t: t.replace('"axis": "utility"', '"axis": 3')), "task colours: axis is 3"),
    (lambda run: sample_file(run, "colours").unlink(), "colours.jsonl: no such file"),
    (damage("samples", lambda t: t + "{oops\n"), "colours.jsonl:13: is not readable as JSON"),
    (damage("samples", lambda t: t.replace('{"accuracy": 1}', '{"accuracy": NaN}', 1)), "jsonl:1: holds NaN"),
    (damage("samples", lambda t: t.replace('{"accuracy": 1}', '{"accuracy": 1e999}', 1)), "jsonl:1: the score"),
    (damage("samples", lambda t: t.replace('{"accuracy": 1}', '{"accuracy": "1"}', 1)), "jsonl:1: the score accuracy"),
    (damage("samples", lambda t: "".join(t.splitlines(True)[:-1])), "holds other documents than results.json"),
])
def test_broken_folders(tmp_path, broken, message, capsys):
    a, b = two_runs(tmp_path)
    broken(a)
    assert main(["report", "compare", str(a), str(b)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error


def test_samples_are_read_back(tmp_path):
    a, _ = two_runs(tmp_path)
    assert [s["scores"]["accuracy"] for s in read_samples(read(a), "colours")] == BEFORE
    assert sample_file("out", "generation:data/my file.jsonl").name == "generation_data_my_file.jsonl.jsonl"


def test_the_command_prints_80_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    rng = np.random.default_rng(3)
    a, b = write_run(tmp_path / "a", everything(rng)), write_run(tmp_path / "b", everything(rng, 0.2))
    out = tmp_path / "new" / "compare.json"
    assert main(["report", "compare", str(a), str(b), "--json", str(out)]) == 0
    text = capsys.readouterr().out
    tables = [line for line in text.splitlines() if str(tmp_path) not in line and ": " not in line]
    assert len(tables) > 10 and max(map(len, tables)) <= 80
    found = json.loads(out.read_text())
    assert found == json.loads(json.dumps(compare(a, b)))
    assert found["verdict"] in " ".join(text.split())
    row = next(line for line in text.splitlines() if line.startswith("harm: refused")).split()
    c = found["tasks"]["harm"]["metrics"]["refused"]
    assert row[2:5] == ["40", f"{100 * c['a']:.1f}", f"{100 * c['b']:.1f}"]
    assert row[5:7] == [f"{100 * c['delta']:+.1f}", f"±{50 * (c['high'] - c['low']):.1f}"]


@pytest.mark.parametrize("words, message", [
    (["compare", "a"], "takes two folders of evaluations; 1 were given"),
    (["compare", "a", "b", "c"], "takes two folders of evaluations; 3 were given"),
    ([], "report takes one folder"), (["a", "b"], "report takes one folder"), (["a", "--force"], "report takes one"),
    (["compare", "no", "where"], "no: no such directory"),
])
def test_the_command_refuses(words, message, capsys):
    assert main(["report", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_solutions_of_two_models_to_real_questions(tmp_path, shared):
    lines = (shared / "data" / "self_improvement" / "gsm8k_example_model_solutions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    documents = [Document(f"q{i}", {"question": r["question"]}, (), target=r["ground_truth"])
                 for i, r in enumerate(rows)]
    right = {m: [int(r[f"{m}_finetuning"]["is_correct"]) for r in rows] for m in ("6b", "175b")}
    runs = [write_run(tmp_path / m, [(COLOURS, documents, outcomes(right[m]))]) for m in right]
    c = compare(*runs)["tasks"]["colours"]["metrics"]["accuracy"]
    assert (round(100 * c["a"], 1), round(100 * c["b"], 1), c["pairs"]) == (21.7, 34.7, 1319)
    both = np.array([right["6b"], right["175b"]])
    better, worse = int((both[1] > both[0]).sum()), int((both[1] < both[0]).sum())
    assert c["p"] == pytest.approx(binomtest(better, better + worse).pvalue, rel=1e-9) and c["p"] < 1e-15
    # The error of two shares that are not paired is larger: easy questions are easy for both.
    alone = math.sqrt(sum(p * (1 - p) / 1319 for p in (c["a"], c["b"])))
    assert c["se"] == pytest.approx(math.sqrt((better + worse) / 1319 - c["delta"] ** 2) / math.sqrt(1318))
    assert c["se"] < 0.93 * alone


@pytest.mark.parametrize("better, a, b, wanted", [
    ("higher", 1, 3, 2), ("lower", 1, 3, -2), ("zero", -3, 1, 2), ("zero", 1, -3, -2), ("zero", 2, -2, 0)])
def test_gains_are_positive_where_it_became_better(better, a, b, wanted):
    assert gain(better, a, b) == wanted


def test_the_table_fits_80_columns_whatever_the_names_and_numbers(tmp_path, capsys):
    task = make_task("a_name_that_is_much_too_long_for_a_table", metrics=(Metric("mean", "a mean", unit=""),))
    one, two = ([2.5e11 + 1e9 * (i % 2) for i in range(12)], [1.5e11 - 1e9 * i for i in range(12)])
    assert main(["report", "compare", *map(str, two_runs(tmp_path, one, two, task=task))]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if line.startswith("task"))
    row = lines[lines.index(header) + 1]
    assert max(map(len, lines[lines.index(header):])) <= 80 and header.split()[-2:] == ["worse", "p"]
    assert "2.50e+11" in row and "-1.06e+11 ±" in row and row.split()[-1] == "<.001*"
