"""Two rounds on small sums: what each leaves, what is paid for, what stops them, and what is refused."""

import json
from collections import Counter

import pytest

from jitune.construct.improve import report
from jitune.construct.improve.run import improve
from jitune.construct.improve.summary import table
from jitune.data.record import answer
from jitune.data.record_rows import from_row
from jitune.generators.call import Lost
from jitune.types import UserError
from tests.construct.improve.made import SUMS, Told, config, row, solve


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def records(path):
    return [from_row(r, (str(path), i)) for i, r in enumerate(rows(path), 1)]


@pytest.fixture(scope="module")
def rft(toy_model, tmp_path_factory):
    """(folder, config, log of what was paid for) of two rounds of RFT."""
    folder = tmp_path_factory.mktemp("improve")
    options = config(toy_model, folder, folder / "out")
    log = folder / "log"
    return improve(options, models=Told(options, log=log)), options, log


def test_two_rounds_of_rft_have_the_counts_of_their_seeds(rft):
    """Every problem has four samples, those of odd seeds wrong, the others one of two paths."""
    out, options, log = rft
    from jitune.construct.improve.frame import seeds

    for number in (1, 2):
        drawn = [seeds(0, number)(k) for k in range(4)]
        right = [seed for seed in drawn if seed % 2 == 0]
        paths = {seed % 4 for seed in right}
        folder = out / f"round-{number}"
        alike = sum(a == b for a, b in SUMS[:8])  # where both paths are one
        made = 8 * len(paths) - (alike if len(paths) == 2 else 0)
        assert len(rows(folder / "made.jsonl")) == len(rows(folder / "kept.jsonl")) == made
        reasons = Counter(r["reason"] for r in rows(folder / "rejected.jsonl"))
        assert reasons == {"wrong_answer": 8 * (4 - len(right)), "duplicate_path": 8 * len(right) - made}
    found = json.loads((out / "summary.json").read_text())
    assert [r["kept"] for r in found["rounds"][1:]] == [len(rows(out / f"round-{t}" / "kept.jsonl")) for t in (1, 2)]
    assert found["stopped"] == "all 2 rounds are done" and found["last"] == found["final"] == 2
    assert found["rounds"][0]["accuracy"]["value"] == 1.0 and found["rounds"][2]["gain"]["delta"] == 0
    assert len(log.read_text().splitlines()) == 2 * 8 * 4 + 3 * len(SUMS[8:])


def test_the_pool_is_the_data_and_the_paths_of_all_rounds_with_their_origin(rft):
    out, options, _ = rft
    pooled = records(out / "data.jsonl")
    parts = [records(out / f"round-{t}" / "kept.jsonl") for t in (1, 2)]
    assert pooled[:8] == records(out / "round-1" / "pool.jsonl")[:8]
    assert [answer(r) for r in pooled[:8]] == [row(a, b)["messages"][1]["content"] for a, b in SUMS[:8]]
    assert pooled[8:] == parts[0] + parts[1]
    digests = [json.loads((out / f"round-{t}" / "state.json").read_text())["train"]["digest"] for t in (1, 2)]
    for number, part in enumerate(parts, 1):
        for record in part:
            p = record.provenance
            assert record.meta["round"] == number and p.method == "self_improvement" and p.seed % 2 == 0
            assert p.parents[0] in {r.id for r in pooled[:8]} and p.source.startswith(options.prompts)
            assert (p.model_digest == digests[0]) == (number == 2)
    assert (out / "final").resolve() == (out / "round-2" / "train" / "final").resolve()
    assert "path: data.jsonl" in (out / "card.md").read_text()
    trained = [json.loads((out / f"round-{t}" / "train" / "config.json").read_text()) for t in (1, 2)]
    assert {t["model"]["path"] for t in trained} == {options.model.path}  # from the base, each
    assert {t["optimizer"]["learning_rate"] for t in trained} == {2e-5}


def test_a_run_that_is_done_pays_for_nothing_again_and_another_is_refused(rft):
    out, options, log = rft
    before, paid = {p: p.read_bytes() for p in out.rglob("*.json*") if "train" not in p.parts}, log.read_text()
    improve(options, models=Told(options, log=log))
    assert log.read_text() == paid and {p: p.read_bytes() for p in before} == before
    other = options.copy_and_resolve_references()
    other.sampling.temperature = 0.5
    with pytest.raises(UserError, match=r"config.sampling.temperature -1.0 there, 0.5 here"):
        improve(other, models=Told(other))
    (out.parent / "full").mkdir()
    (out.parent / "full" / "thesis.txt").touch()
    other.output_dir = str(out.parent / "full")
    with pytest.raises(UserError, match="is not empty"):
        improve(other, models=Told(other))


def test_one_of_several_processes_is_refused(toy_model, tmp_path, monkeypatch):
    options = config(toy_model, tmp_path, tmp_path / "out")
    monkeypatch.setattr("jax.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    with pytest.raises(UserError, match="self-improvement runs in one process, .*; this is one of 2"):
        improve(options, models=Told(options))
    assert not (tmp_path / "out").exists()


def test_the_report_shows_every_round(rft):
    out, _, _ = rft
    page = (out / "report.html").read_text()
    found = json.loads((out / "summary.json").read_text())
    assert "Stopped: all 2 rounds are done" in page and "<script" not in page
    for name in ("round 1", "round 2", "before", "wrong_answer", "duplicate_path", "distinct 2", "seed"):
        assert name in page
    lines = table(found)
    assert max(map(len, lines)) <= 80 and lines[-1] == "stopped: all 2 rounds are done"
    assert [line.split()[0] for line in lines[1:4]] == ["0", "1", "2"]


def test_the_page_of_a_run_whose_answers_none_could_judge(rft):
    """Accuracies without a value: neither compared nor an error."""
    found = json.loads((rft[0] / "summary.json").read_text())
    for one in found["rounds"]:
        one["accuracy"] |= {"value": None, "low": None, "high": None, "se": None, "n": 0}
        one["gain"] = None
    assert "No round is better" not in report.render(found)
    assert table(found)


def test_a_first_round_without_data_is_one_error_with_counts(toy_model, tmp_path):
    options = config(toy_model, tmp_path, tmp_path / "out")
    lost = iter([Lost("failed", "503")] * 8)

    def answer_one(call, made):
        return next(lost, "It is 0.\n#### 0") if call.temperature else solve(call, made)

    with pytest.raises(UserError, match=r"round 1: nothing was kept of the answers to 8 prompts \(24 wrong_answer, "
                                        r"8 failed\); nothing was trained"):
        improve(options, models=Told(options, answer_one))
    assert not (tmp_path / "out" / "final").exists() and not (tmp_path / "out" / "round-1" / "train").exists()
    assert "nothing was kept" in (tmp_path / "out" / "report.html").read_text()
    log = tmp_path / "log"
    out = improve(options, models=Told(options, log=log))  # what was lost is asked again, and nothing else
    again = [line for line in log.read_text().splitlines() if "round" not in line]
    assert 0 < len(again) <= 8 and len(rows(out / "round-1" / "kept.jsonl")) > 0


def test_a_training_that_failed_is_mended_without_asking_again(toy_model, tmp_path):
    options = config(toy_model, tmp_path, tmp_path / "out", rounds=1, train__seq_len=2, train__data__overlong="drop")
    log = tmp_path / "log"
    with pytest.raises(UserError, match="leaves nothing to train on"):
        improve(options, models=Told(options, log=log))
    paid = log.read_text()
    options.train.seq_len = 96
    options.curate.stages = "exact"
    out = improve(options, models=Told(options, log=log))
    asked = log.read_text()[len(paid):].splitlines()
    assert len(asked) == len(SUMS[8:]) and all("round 1" in line for line in asked)  # the trained model alone
    assert (out / "final" / "config.json").exists() and (out / "round-1" / "curated").exists()
    options.train.seq_len = 64
    with pytest.raises(UserError, match="config.train.seq_len 96 there, 64 here"):
        improve(options, models=Told(options, log=log))


def wrong(record, text):
    """A verifier that somebody has yet to mend."""
    raise ValueError("not like this")


def test_a_verifier_that_failed_is_mended_and_a_budget_raised_without_asking_again(toy_model, tmp_path):
    options = config(toy_model, tmp_path, tmp_path / "out", rounds=1, verifier__name=f"{__name__}:wrong")
    options.generator.base_url = "http://localhost/v1?key=secret"
    log = tmp_path / "log"
    with pytest.raises(UserError, match=r"\(32 unchecked\); .* The first unchecked: ValueError: not like this\."):
        improve(options, models=Asking(options, log=log))
    assert "secret" not in (tmp_path / "out" / "run.json").read_text()
    paid = log.read_text()
    options.verifier.name, options.generator.budget = "math", 2.0
    out = improve(options, models=Asking(options, log=log))
    asked = log.read_text()[len(paid):].splitlines()
    assert len(asked) == len(SUMS[8:]) and all("round 1" in line for line in asked)  # the trained model alone
    accuracy = [row["accuracy"]["value"] for row in json.loads((out / "summary.json").read_text())["rounds"]]
    assert accuracy == [1.0, 1.0]  # the first model's answers were checked anew


class Asking(Told):
    """Where an endpoint is named, the function answers in its place."""

    def open(self, path, *, name, cache, spent=0.0):
        return self.open_own(path, name=name, cache=cache)


def test_a_round_may_ask_a_part_of_the_prompts(toy_model, tmp_path):
    options = config(toy_model, tmp_path, tmp_path / "out", rounds=1, per_round=3, heldout="", pool="none")
    log = tmp_path / "log"
    out = improve(options, models=Told(options, log=log))
    assert len(log.read_text().splitlines()) == 3 * 4
    assert len({r.provenance.parents for r in records(out / "round-1" / "kept.jsonl")}) == 3


def test_a_later_round_without_data_stops_and_leaves_the_last_model(toy_model, tmp_path):
    options = config(toy_model, tmp_path, tmp_path / "one, two [3]", rounds=3, curate__stages="length",
                     curate__length__min_answer_words=3)  # fmt: skip

    def answer_one(call, made):
        return solve(call, made) if "round" not in made or not call.temperature else "It is 0.\n#### 0"

    out = improve(options, models=Told(options, answer_one))
    found = json.loads((out / "summary.json").read_text())
    assert found["stopped"] == "round 2: nothing was kept of the answers to 8 prompts (32 wrong_answer)"
    assert found["last"] == found["final"] == 1 and [r["round"] for r in found["rounds"]] == [0, 1, 2]
    assert (out / "final").resolve() == (out / "round-1" / "train" / "final").resolve()
    assert (out / "round-1" / "curated" / "funnel.json").exists()


def test_a_fall_in_accuracy_stops_the_rounds_and_the_best_model_is_final(toy_model, tmp_path):
    options = config(toy_model, tmp_path, tmp_path / "out", rounds=3, export="best", own_answers="no")

    def answer_one(call, made):
        return solve(call, made) if call.temperature or "round" not in made else "It is 0.\n#### 0"

    out = improve(options, models=Told(options, answer_one))
    found = json.loads((out / "summary.json").read_text())
    assert found["stopped"].startswith("round 1: held-out accuracy fell from 1.000 in round 0 to 0.000 in round 1")
    assert found["final"] == 0 and (out / "final").resolve() == toy_model.resolve()
    assert "No round is better" in (out / "report.html").read_text()


@pytest.mark.parametrize("given, words", [
    ({"method": "rtf"}, "config.method='rtf' is not known"),
    ({"method": "tests.construct.improve.made:nowhere"}, "cannot be imported"),
    ({"verifier__name": ""}, "config.heldout needs config.verifier.name"),
    ({"verifier__name": "", "heldout": ""}, "config.method=rft needs config.verifier.name"),
    ({"train__objective__name": "dpo"}, "rft makes answers, for sft"),
    ({"train__objective__name": "kto"}, "rft makes answers, for sft"),
    ({"method": "spin", "own_answers": "yes"}, "config.own_answers=yes"),
    ({"sampling__temperature": 0.0}, "greedy answers are all alike"),
    ({"train__model__path": "x"}, "config.train.model.path='x': each round sets it itself"),
    ({"train__batch_size": 0}, "config.train.batch_size=0 must be at least 1"),
    ({"prompts": "unanswered.jsonl"}, r"leaves nothing to ask \(1 no_answer\)"),
    ({"heldout": "unanswered.jsonl"}, r"config.heldout=.*leaves nothing to ask \(1 no_answer\)"),
    ({"model__path": "adapter"}, "is an adapter, and rounds train a whole model"),
    ({"train__batch_size": 3}, "config.train.batch_size=3 does not divide by the mesh"),
    ({"train__objective__name": "distill", "method": f"{__name__}:wrong"},
     "config.train.objective.name=distill needs one of config.train.objective.teacher"),
    ({"start": "first"}, "config.start='first' is not known; known are base, last"),
    ({"export": "best", "heldout": ""}, "config.export=best needs config.heldout"),
    ({"method": "spin", "train__transform__name": "prefix"}, "cannot be merged"),
    ({"curate__stages": "lenth"}, "config.curate.stages: there is no stage 'lenth'; the nearest are length"),
    ({"curate__stages": "repetition", "curate__repetition__checks": "rhyme"}, "config.curate.repetition"),
    ({"verifier__math__tolerance": -1.0}, "verifier"),
    ({"verifier__name": "options"}, "there is no verifier 'options'"),
    ({"limits__length": 0.0}, "config.limits.length=0.0 must be at least 1, or negative"),
    ({"generator__adapter": "x"}, "config.generator.adapter=x: is of config.generator.model, which is not set"),
    ({"sampling__keep": 2}, "config.sampling.keep=2: rft keeps all that it chooses; rest_em draws of them"),
    ({"method": "constitutional", "revisions": 9}, "config.revisions=9: each is by another principle, of which .* 7"),
])  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_asked(toy_model, tmp_path, given, words):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "unanswered.jsonl").write_text('{"messages": [{"role": "user", "content": "What is 2 plus 3?"}]}\n')
    given = {name: str(tmp_path / value) if value in ("adapter", "unanswered.jsonl") else value
             for name, value in given.items()}
    with pytest.raises((UserError, KeyError), match=words):
        options = config(toy_model, tmp_path, tmp_path / "out", **given)
        improve(options, models=Told(options))
    assert not (tmp_path / "out").exists()
