"""Inputs of many kinds at once: each with its own format, and nothing is lost of any of them."""

import json
from collections import Counter

import pytest

from jitune.construct.curate import config as options
from jitune.construct.curate import minhash, table
from jitune.construct.curate.run import curate
from jitune.construct.curate.sift import sift
from jitune.data.record import Candidate, Record, all_texts
from jitune.data.record_rows import from_row, to_row
from jitune.types import UserError
from tests.construct.curate.made import TOYS, config, read

LONG = "The harbour froze in the winter of that year, and the ships lay still until the ice broke up in April."
MAIL = "Write to ann.lee@acme-mail.com for more."


def said(text):
    return ({"role": "assistant", "content": text},)


QUESTION = ({"role": "user", "content": f"Why did the ships not sail? {MAIL}"},)


def shipped(tmp_path, path, **given):
    """The stages of the config that comes with jitune, and what they said of a file's rows."""
    words = {"input": path, "output_dir": tmp_path / "out", "workers": 0, **given}
    return curate(options.from_words("curate", [f"--config.{k.replace('__', '.')}={v}" for k, v in words.items()]))


def test_each_input_has_its_own_format_licence_and_method(tmp_path):
    a, b, c = (tmp_path / name for name in ("a.jsonl", "b.csv", "c.json"))
    a.write_text(json.dumps({"q": "Add 2 and 3.", "a": "It is five."}) + "\n")
    b.write_text("prompt,completion\nName a sea.,The Baltic Sea\n")
    talk = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hi you"}]
    c.write_text(json.dumps([{"conversations": talk}]))
    given = {"format": "alpaca;prompt_completion;", "fields": "instruction=q,output=a;;", "license": "MIT;CC0-1.0;",
             "method": "annotation"}
    folder = curate(config([a, b, c], tmp_path / "out", f"{TOYS}:words", **given))
    rows = read(folder / "kept.jsonl")
    assert [(row["provenance"].get("license"), row["provenance"]["method"]) for row in rows] == [
        ("MIT", "annotation"), ("CC0-1.0", "annotation"), (None, "annotation")]
    assert json.loads((folder / "funnel.json").read_text())["after"]["license"] == {"": 1, "CC0-1.0": 1, "MIT": 1}
    with pytest.raises(UserError, match="config.license='MIT;MIT' has 2 values, and there are 3 inputs"):
        curate(config([a, b, c], tmp_path / "two", f"{TOYS}:words", license="MIT;MIT"))


def test_rows_left_out_on_purpose_are_not_malformed(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"prompt": "q", "chosen": good, "rejected": bad} for good, bad in (("good one", "bad"), ("one", "one"))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    folder = curate(config([path], tmp_path / "out", f"{TOYS}:words"))
    found = json.loads((folder / "funnel.json").read_text())
    assert found["records"] == {"read": 3, "malformed": 1, "left_out": 1, "rejected": 0, "kept": 1}
    assert [row["reason"] for row in read(folder / "rejected.jsonl")] == ["same_answers", "json"]
    assert "1 malformed, 1 left out by their reader" in (folder / "report.html").read_text()


EVERY_KIND = (
    Record("pair", QUESTION, chosen=said(f"Ice. {LONG}"), rejected=said(f"They had no wind. {MAIL}")),
    Record("ranked", QUESTION, candidates=(Candidate(said(LONG), 0, 0.9), Candidate(said(MAIL), 1, 0.1))),
    Record("good", (*QUESTION, *said(f"The ice held them. {LONG}")), label=True),
    Record("bad", (*QUESTION, *said(f"Because, {MAIL}")), label=False),
    Record("raw", text=((f"{LONG} {MAIL}", 1.0),)),
    Record("completed", text=((f"Why? {MAIL}", 0.0), (f"Ice, they say. {LONG}", 1.0))),
)


def test_nothing_of_a_preference_is_lost(tmp_path):
    """Every kind of record through every stage of the shipped config: kept whole, with addresses redacted in all."""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(to_row(record)) + "\n" for record in EVERY_KIND))
    folder = shipped(tmp_path, path, minhash__threshold=0.95)
    found = {row["id"]: from_row(row) for row in read(folder / "kept.jsonl")}
    assert sorted(found) == sorted(record.id for record in EVERY_KIND), read(folder / "rejected.jsonl")
    for record in EVERY_KIND:
        texts = list(all_texts(found[record.id]))
        assert texts == [text.replace("ann.lee@acme-mail.com", "[EMAIL]") for text in all_texts(record)]
        assert (found[record.id].label, [c.rank for c in found[record.id].candidates]) == (
            record.label, [c.rank for c in record.candidates])
        assert "redact_pii" in found[record.id].provenance.steps


def test_pairs_that_differ_in_one_answer_are_no_duplicates():
    other = "A strike of the dockers kept every crew ashore that spring, so the papers of the town reported in May."
    pairs = [Record("a", QUESTION, chosen=said(LONG), rejected=said(MAIL)),
             Record("b", QUESTION, chosen=said(LONG), rejected=said(other)),
             Record("c", QUESTION, chosen=said(LONG), rejected=said(MAIL + " ")),
             Record("d", QUESTION, candidates=(Candidate(said("The owner had died and his sons went to court."), 0),)),
             Record("e", QUESTION, candidates=(Candidate(said("By land. " + other)), Candidate(said("No one knows.")))),
             Record("f", (*QUESTION, {"role": "assistant", "tool_calls": [{"function": {"name": "ice", "arguments": {
                 "harbour": "north", "year": 1880, "months": "January to April"}}}]})),
             Record("g", (*QUESTION, {"role": "assistant", "tool_calls": [{"function": {"name": "wind", "arguments": {
                 "coast": "west", "strength": "in knots, hour by hour"}}}]}))]  # fmt: skip
    found = {one.record.id: one.reject for one in sift(pairs, [minhash.build()])}
    assert [id for id, reject in found.items() if reject] == ["c"]
    found = {one.record.id: one.reject for one in sift(pairs, [minhash.build(of="answer")])}
    assert found["b"], "one preferred answer is one answer"


REAL = {"dpo_en_demo.json": 300, "kto_en_demo.json": 300, "hh_rlhf_harmless_base_test.jsonl.gz": 2312,
        "llmbar_processed_mt_bench.json": 200, "llmbar_natural.json": 100}


@pytest.mark.parametrize("name", REAL)
def test_every_row_of_real_preferences_is_somewhere(shared, tmp_path, name):
    pytest.importorskip("lingua")
    folder = shipped(tmp_path, shared / "data" / "preference" / name)
    kept, rejected = read(folder / "kept.jsonl"), read(folder / "rejected.jsonl")
    rows = Counter(row["provenance"]["source"] for row in kept) + Counter(row["source"] for row in rejected)
    funnel = json.loads((folder / "funnel.json").read_text())
    assert len(kept) + len(rejected) == REAL[name] == funnel["records"]["read"]
    assert len(rows) == REAL[name] and len(kept) > REAL[name] * 0.7
    assert all(from_row(row).chosen or from_row(row).label is not None for row in kept)


def test_davincis_raw_continuations_have_reasons(shared, tmp_path):
    """Of 252 continuations nearly all go round and round; what was made of instructions is mostly fine."""
    folder = shared / "data" / "self_improvement"
    found = {}
    for name in ("davinci_predictions", "davinci_self_instruct_predictions"):
        (tmp_path / name).mkdir()
        out = shipped(tmp_path / name, folder / f"{name}.jsonl")
        funnel = json.loads((out / "funnel.json").read_text())
        assert funnel["records"]["read"] == 252 and funnel["records"]["malformed"] == 0
        found[name] = sum((Counter(stage["reasons"]) for stage in funnel["stages"]), Counter())
    raw, tuned = found.values()
    assert raw["loop"] > 200 and raw["repeated_lines"] > 10 and raw.total() > 245
    assert tuned["loop"] > 5 and tuned.total() < 40
    assert set(raw) | set(tuned) <= {"loop", "repeated_lines", "repeated_n_grams", "goes_on", "only_punctuation"}


def test_the_shipped_stages_are_those_of_the_table():
    config = options.from_words("curate", ["--config.input=a"])
    names = [name for name, _ in table.parse(config.stages)]
    filters = [name for name, target in table.STAGES.items() if ".filters." in target]
    assert names == [*filters, "exact", "minhash"]
