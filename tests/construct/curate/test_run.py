"""A run over files is what `sift` says, whoever does the work."""

import json

import pytest

from jitune.construct.curate import config as options
from jitune.construct.curate import ids, table
from jitune.construct.curate.run import curate
from jitune.construct.curate.sift import sift
from jitune.construct.reading import read_records
from jitune.data.record import Record
from jitune.data.record_rows import from_row, to_row
from jitune.types import UserError
from tests.construct.curate.made import FILES, TOYS, config, counts, outputs, read, write_inputs

OPTIONS = {"longest__keep": 8, "again__at_least": 4}
STEADY = f"{TOYS}:words,{TOYS}:tongue,{TOYS}:redact,{TOYS}:same,{TOYS}:longest,again={TOYS}:words"


def test_files_say_what_sift_says(tmp_path):
    inputs = write_inputs(tmp_path)
    folder = curate(config(inputs, tmp_path / "out", STEADY, **OPTIONS))
    specs = options.specs(config(inputs, tmp_path / "out", STEADY, **OPTIONS))
    stages = [ids.build(), *(table.build(spec)._replace(name=spec.name) for spec in specs)]
    items = list(read_records(list(map(str, inputs)), bad="give"))
    records = [item for item in items if isinstance(item, Record)]
    found = list(sift(records, stages))
    assert len(found) == len(records) == 60
    kept = [to_row(one.record) for one in found if one.reject is None]
    assert read(folder / "kept.jsonl") == kept and 0 < len(kept) <= 8
    rejected = {(row["stage"], row["id"]): row for row in read(folder / "rejected.jsonl") if row["stage"] != "read"}
    assert {key: (row["reason"], row["detail"], row["record"]) for key, row in rejected.items()} == {
        (one.stage, one.record.id): (one.reject.reason, one.reject.detail, to_row(one.record))
        for one in found if one.reject}
    # Every kind of stage did something, or this compares nothing.
    assert {stage for stage, _ in rejected} == {"words", "tongue", "same", "longest", "again"}
    assert any("redact" in row["provenance"].get("steps", ()) for row in kept)
    assert all(from_row(row).scores["length"] for row in kept)


def test_the_funnel_adds_up(tmp_path):
    inputs = write_inputs(tmp_path)
    folder = curate(config(inputs, tmp_path / "out", mix__weights="0.5,0.5", longest__keep=30))
    found, rejected = counts(folder), read(folder / "rejected.jsonl")
    assert found["records"] == {"read": 63, "malformed": 3, "left_out": 0, "rejected": len(rejected) - 3,
                                "kept": len(read(folder / "kept.jsonl"))}
    assert 60 == found["records"]["rejected"] + found["records"]["kept"]
    came = 60
    for row in found["stages"]:
        mine = [r["reason"] for r in rejected if r["stage"] == row["name"]]
        assert row["in"] == came and row["reasons"] == {name: mine.count(name) for name in set(mine)}
        came = row["out"] = row["in"] - len(mine)
    assert came == found["records"]["kept"]
    assert sum(found["before"]["answer"].values()) == 60
    assert sum(found["after"]["answer"].values()) == sum(found["after"]["language"].values()) == came
    assert came > 2 and [row["kept"] for row in found["inputs"]] == [came / 2, came / 2]
    assert not (folder / "work").exists()


def test_a_limit_is_of_each_input(tmp_path):
    folder = curate(config(write_inputs(tmp_path), tmp_path / "out", f"{TOYS}:words", limit=7))
    assert [row["read"] for row in counts(folder)["inputs"]] == [7, 7]
    assert len(read(folder / "kept.jsonl")) + len(read(folder / "rejected.jsonl")) == 14


def test_broken_rows_are_kept_as_they_were(tmp_path):
    a, b = write_inputs(tmp_path)
    folder = curate(config([a, b], tmp_path / "out", f"{TOYS}:words"))
    bad = [row for row in read(folder / "rejected.jsonl") if row["stage"] == "read"]
    assert [row["source"] for row in bad] == [f"{a}:4", f"{a}:5", f"{a}:6"]
    lines = a.read_text().splitlines()
    assert bad[0]["raw"] == lines[3] and '\\ud800' in bad[1]["raw"]
    assert sum(json.loads((folder / "funnel.json").read_text())["unread"].values()) == 3


def test_a_record_of_a_megabyte_makes_a_small_page(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"instruction": "Q en", "output": "word " * 200_000}, {"instruction": "Q fr", "output": "<x> " * 250_000}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = curate(config([path], tmp_path / "out", f"{TOYS}:words,{TOYS}:tongue", workers=1))
    assert [len((folder / name).read_bytes()) > 1_000_000 for name in FILES] == [True, True]
    assert len((folder / "report.html").read_bytes()) < 40_000


def test_workers_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("jitune.construct.curate.workers.CHUNK", 7)
    inputs = write_inputs(tmp_path)
    alone = curate(config(inputs, tmp_path / "alone", **OPTIONS))
    together = curate(config(inputs, tmp_path / "together", workers=2, **OPTIONS))
    assert outputs(alone) == outputs(together) and counts(alone) == counts(together)


def test_a_finished_run_says_so_again_and_another_is_refused(tmp_path):
    inputs = write_inputs(tmp_path)
    folder = curate(config(inputs, tmp_path / "out", **OPTIONS))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    curate(config(inputs, tmp_path / "out", **OPTIONS))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(UserError, match=r"config\.again\.at_least 4 there, 3 here"):
        curate(config(inputs, tmp_path / "out", **(OPTIONS | {"again__at_least": 3})))
    inputs[1].write_text(inputs[1].read_text().replace("Question", "Frage"))
    with pytest.raises(UserError, match="digest of the input"):
        curate(config(inputs, tmp_path / "out", **OPTIONS))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stage_that_fails_names_the_record(tmp_path, workers):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"instruction": f"Q{i}", "output": o}) + "\n"
                            for i, o in enumerate(("good", "boom"))))
    with pytest.raises(UserError, match=r"a\.jsonl:2: record \w{24}: the stage fails failed: ZeroDivisionError"):
        curate(config([path], tmp_path / "out", f"{TOYS}:fails", workers=workers))
    with pytest.raises(UserError, match=r"the stage fails gave NoneType, not Keep\(record\)"):
        curate(config([path], tmp_path / "none", f"{TOYS}:fails", workers=workers, fails__how="nothing"))


@pytest.mark.parametrize("where", ["measure", "choose", "note", "tell", "verdict"])
def test_a_choice_of_ones_own_that_fails_is_named(tmp_path, where):
    a, _ = write_inputs(tmp_path)
    message = "chose 'yes'; None or Reject" if where == "verdict" else (
        r"failed: ZeroDivisionError: division by zero \(.*toy_stages\.py:\d+\)")
    with pytest.raises(UserError, match=f"the stage breaks {message}"):
        curate(config([a], tmp_path / "out", f"{TOYS}:breaks", breaks__where=where))


def test_a_score_of_ones_own_that_fails_is_named(tmp_path):
    a, _ = write_inputs(tmp_path)
    with pytest.raises(UserError, match=rf"score: {TOYS}:no_number failed: ZeroDivisionError"):
        curate(config([a], tmp_path / "out", "score", score__function=f"{TOYS}:no_number"))
    with pytest.raises(UserError, match=rf"embedder: {TOYS}:no_number failed: ZeroDivisionError"):
        curate(config([a], tmp_path / "near", "embedding_duplicates", embedding_duplicates__width=2,
                      embedding_duplicates__embedder=f"{TOYS}:no_number"))


def test_a_choice_of_jitunes_that_fails_is_a_bug(tmp_path, monkeypatch):
    """It keeps its traceback."""
    monkeypatch.setattr("jitune.construct.curate.mix.draw", lambda *_: 1 / 0)
    a, _ = write_inputs(tmp_path)
    with pytest.raises(ZeroDivisionError):
        curate(config([a], tmp_path / "out", "mix", mix__total=3))


def test_ids_that_are_used_twice(tmp_path):
    """Another content under a known id is rejected; the same record again is left to the stages for duplicates."""
    def row(id, text):
        return json.dumps({"id": id, "messages": [{"role": "user", "content": "Q"}, {"role": "assistant",
                           "content": text}], "provenance": {"source": "made:1"}}) + "\n"

    path = tmp_path / "a.jsonl"
    path.write_text(row("a", "one") + row("b", "one") + row("a", "two") + row("a", "one"))
    folder = curate(config([path], tmp_path / "out", f"{TOYS}:words", words__at_least=1))
    assert [row["id"] for row in read(folder / "kept.jsonl")] == ["a", "b", "a"]
    (rejected,) = read(folder / "rejected.jsonl")
    assert (rejected["stage"], rejected["reason"]) == ("ids", "duplicate_id")
    assert rejected["record"]["messages"][1]["content"] == "two"


def test_the_config_that_comes_with_jitune_on_real_data(shared, tmp_path):
    """Records that other tools read as the same rows: each is kept or has a reason, in its own file's row."""
    pytest.importorskip("lingua")
    pytest.importorskip("datasketch")
    file = shared / "data" / "sft" / "llms_from_scratch_instruction_data.json"
    folder = curate(options.from_words("curate", [f"--config.input={file}", f"--config.output_dir={tmp_path / 'out'}",
                                                  "--config.workers=0", "--config.parquet=true"]))
    kept, rejected = read(folder / "kept.jsonl"), read(folder / "rejected.jsonl")
    count = len(json.loads(file.read_text()))
    numbers = [int(row["provenance"]["source"].rpartition(":")[2]) for row in kept]
    numbers += [int(row["source"].rpartition(":")[2]) for row in rejected]
    assert sorted(numbers) == list(range(1, count + 1)) and len(kept) > count / 2
    assert all(row["reason"] and row["stage"] for row in rejected)
    assert {row["meta"]["language"] for row in kept} >= {"en"}
    again = read_records([str(folder / "kept.parquet")])
    assert [to_row(record) for record in again] == kept
