"""What comes out: records of texts, preferences and rankings, and tasks of Label Studio."""

import json
from collections import Counter

import pytest

from jitune.construct.annotate import command
from jitune.construct.reading import read_records
from jitune.data.record_rows import from_row
from jitune.types import UserError
from tests.construct.annotate.made import answer, desk_of, rows


def exported(path, **options):
    """The records of an export, and the line that it says."""
    out = path.with_name("out.jsonl")
    line = command.export(str(path), f"{path}.annotations.jsonl", str(out), **options)
    return [from_row(json.loads(text)) for text in out.read_text().split("\n")[:-1]], line


def originals(path):
    """What an export of `exported` keeps of the items that texts were written for."""
    return list(read_records([str(path.with_name("out.originals.jsonl"))]))


def said(record):
    return [(a.annotator, a.question, a.value, a.state) for a in record.annotations]


def test_corrections_become_records_with_parents_and_nothing_is_lost(tmp_path):
    path = rows(tmp_path / "a.jsonl", 5)
    with desk_of(path, tasks=["rate,correct"]) as desk:
        ids = list(desk.items.ids)
        for event in (answer(desk, "ann", 0, rating=2, correction="Better."),
                      answer(desk, "bo", 0, rating=5, correction="Better."),
                      answer(desk, "cy", 0, correction="Best \u2028 <b>."), answer(desk, "ann", 1, rating=3),
                      answer(desk, "ann", 2, state="skipped"), answer(desk, "ann", 3),
                      answer(desk, "ann", 4, rating=1), answer(desk, "ann", 4, rating=4)):
            desk.take(event)
        desk.take({"kind": "undo", "event": "undo-undo", "annotator": "ann", "item": ids[4]})
    (better, best, rated, skipped, empty, last), line = exported(path)
    assert [m["content"] for m in better.messages] == ["Question 0? <script>alert(1)</script>", "Better."]
    assert better.provenance.parents == (ids[0],) and better.provenance.annotators == ("ann", "bo")
    assert better.provenance.method == "annotation" and better.provenance.source == f"{path}:1"
    assert better.meta["original"] == "Answer 0." and best.messages[-1]["content"] == "Best \u2028 <b>."
    assert said(better) == [("ann", "correction", "Better.", "labelled"), ("bo", "correction", "Better.", "labelled")]
    assert said(best) == [("cy", "correction", "Best \u2028 <b>.", "labelled")]
    assert (rated.id, said(rated)) == (ids[1], [("ann", "rating", 3, "labelled"), ("ann", "correction", None, "empty")])
    assert {a.state for a in skipped.annotations} == {"skipped"} and {a.state for a in empty.annotations} == {"empty"}
    assert (last.id, said(last)[0]) == (ids[4], ("ann", "rating", 1, "labelled"))  # as before the undone answer
    assert line.splitlines() == [
        f"{tmp_path / 'out.jsonl'}: 6 records of 5 items and 7 answers (2 texts)",
        f"{tmp_path / 'out.originals.jsonl'}: 1 item that texts were written for, with what was said of it besides"]
    [first] = originals(path)  # ratings are of the text that was rated, and not of what came in its place
    assert (first.id, first.messages[-1]["content"]) == (ids[0], "Answer 0.")
    assert said(first) == [("ann", "rating", 2, "labelled"), ("bo", "rating", 5, "labelled"),
                           ("cy", "rating", None, "empty")]
    assert list(read_records([str(tmp_path / "out.jsonl")])) == [better, best, rated, skipped, empty, last]


def test_a_correction_that_changes_nothing_is_a_word_for_the_item(tmp_path):
    path = rows(tmp_path / "a.jsonl", 3)
    with desk_of(path, tasks=["rate,correct"]) as desk:
        ids = list(desk.items.ids)
        for event in (answer(desk, "ann", 0, correction="Answer 0."), answer(desk, "bo", 0, rating=4),
                      answer(desk, "ann", 1, rating=5, correction="Answer 1."), answer(desk, "bo", 1, correction="No."),
                      answer(desk, "ann", 2, correction="Yes.")):
            desk.take(event)
        assert desk.status("ann")["states"] == "lll"
    (same, as_it_is, changed, new), line = exported(path)
    assert (same.id, same.provenance.annotators, same.provenance.parents) == (ids[0], (), ())
    assert said(same) == [("ann", "rating", None, "empty"), ("ann", "correction", "Answer 0.", "labelled"),
                          ("bo", "rating", 4, "labelled"), ("bo", "correction", None, "empty")]
    assert as_it_is.id == ids[1] and said(as_it_is)[:2] == [
        ("ann", "rating", 5, "labelled"), ("ann", "correction", "Answer 1.", "labelled")]
    assert (changed.messages[-1]["content"], changed.provenance.annotators) == ("No.", ("bo",))
    assert said(changed) == [("bo", "correction", "No.", "labelled")] and new.provenance.annotators == ("ann",)
    assert "(2 texts, 2 items that needed no correction)" in line
    assert [record.id for record in originals(path)] == [ids[2]]  # the others stand in the export


def test_originals_that_are_no_more_are_removed_and_none_is_read(tmp_path):
    path = rows(tmp_path / "a.jsonl", 2)
    with desk_of(path, tasks=["rate,correct"]) as desk:
        desk.take(answer(desk, "ann", 0, rating=2, correction="Better."))
        exported(path)
        assert len(originals(path)) == 1
        desk.take(answer(desk, "ann", 0, rating=2, correction="Answer 0."))
    exported(path)
    assert not path.with_name("out.originals.jsonl").exists()
    source = path.rename(tmp_path / "b.originals.jsonl")
    with pytest.raises(UserError, match="would overwrite what it is made of"):
        command.export(str(source), f"{path}.annotations.jsonl", str(tmp_path / "b.jsonl"))


PAIR = {"prompt": "2 and 3?", "chosen": "5", "rejected": "6"}


def test_preferences_that_agree_are_chosen_and_others_stay_annotations(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(PAIR | {"prompt": f"{i} and 3?"}) + "\n" for i in range(3)))
    with desk_of(path, tasks=["pair"]) as desk:
        for i, votes in enumerate((("rejected", "rejected"), ("rejected", "chosen"), ("tie", "tie"))):
            for name, vote in zip(("ann", "bo"), votes, strict=True):
                shown = desk.item(name, i)["answers"]
                desk.take(answer(desk, name, i, preference=vote if vote == "tie" else shown.index(PAIR[vote])))
        ids = list(desk.items.ids)
    (turned, differ, tie), line = exported(path)
    assert (turned.chosen[0]["content"], turned.rejected[0]["content"]) == ("6", "5")
    assert turned.provenance.parents == (ids[0],) and turned.provenance.annotators == ("ann", "bo")
    assert (differ.id, differ.chosen[0]["content"]) == (ids[1], "5") and tie.id == ids[2]
    assert [value for _, _, value, _ in said(differ)] == ["rejected", "chosen"]  # both stay
    assert "(2 preferences, 1 difference)" in line


def test_rankings_become_ranks(tmp_path):
    path = tmp_path / "r.jsonl"
    texts = ["five", "six", "seven"]
    path.write_text(json.dumps({"prompt": "2 and 3?", "answers": [{"text": t, "score": 0} for t in texts]}) + "\n")
    with desk_of(path, tasks=["rank"]) as desk:
        shown = desk.item("ann", 0)["answers"]
        desk.take(answer(desk, "ann", 0, ranking=[[shown.index("six")], [shown.index("five"), shown.index("seven")]]))
        assert desk.item("ann", 0)["answer"]["values"]["ranking"][0] == [shown.index("six")]
    [record], _ = exported(path)
    assert {c.messages[0]["content"]: c.rank for c in record.candidates} == {"five": 1, "six": 0, "seven": 1}
    command.export(str(path), f"{path}.annotations.jsonl", str(tmp_path / "out.json"), to="label_studio")
    [again] = read_records([str(tmp_path / "out.json")])
    texts = {c.id: c.messages[0]["content"] for c in again.candidates}
    [ranked] = [a.value for a in again.annotations if a.question == "ranking"]
    assert [sorted(texts[name] for name in tier) for tier in ranked] == [["six"], ["five", "seven"]]


def test_written_answers_stand_after_the_question(tmp_path):
    path = tmp_path / "w.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "2 and 3?"}]}\n{"text": "Once upon"}\n')
    with desk_of(path, tasks=["write"]) as desk:
        for i in range(2):
            desk.take(answer(desk, "ann", i, answer="five"))
    (talk, text), _ = exported(path)
    assert talk.messages == ({"role": "user", "content": "2 and 3?"}, {"role": "assistant", "content": "five"})
    assert text.text == (("Once upon", 0.0), ("five", 1.0))


def test_label_studio_tells_skipped_from_empty_and_our_reader_takes_it(tmp_path):
    path = rows(tmp_path / "a.jsonl", 3)
    with desk_of(path, tasks=["rate,flag,correct"], reasons=["wrong,rude"]) as desk:
        desk.take(answer(desk, "ann", 0, rating=2, flags=["rude", "wrong"], correction="Better"))
        desk.take(answer(desk, "ann", 1, state="skipped"))
        desk.take(answer(desk, "ann", 2))
        desk.take(answer(desk, "bo", 2, rating=4))
    out = tmp_path / "out.json"
    command.export(str(path), f"{path}.annotations.jsonl", str(out), to="label_studio")
    tasks = json.loads(out.read_text())
    assert [[a["was_cancelled"] for a in t["annotations"]] for t in tasks] == [[False], [True], [False, False]]
    assert [(r["type"], r["value"]) for r in tasks[0]["annotations"][0]["result"]] == [
        ("number", {"number": 2}), ("choices", {"choices": ["wrong", "rude"]}), ("textarea", {"text": ["Better"]})]
    assert tasks[2]["annotations"][0]["result"] == [] and tasks[1]["cancelled_annotations"] == 1
    xml = (tmp_path / "out.interface.xml").read_text()
    assert all(f'name="{name}"' in xml for name in ("messages", "rating", "flags", "correction"))
    records = list(read_records([str(out)]))
    states = Counter((a.annotator, a.state) for r in records for a in r.annotations if a.question == "rating")
    assert states == {("ann", "labelled"): 1, ("ann", "empty"): 1, ("bo", "labelled"): 1} | {
        key: 1 for key in states if key[1] == "skipped"}
    assert records[0].messages[0]["content"] == "Question 0? <script>alert(1)</script>"


def test_what_nobody_annotated_is_not_exported(tmp_path):
    path = rows(tmp_path / "a.jsonl", 3)
    with desk_of(path, tasks=["rate"]) as desk:
        desk.take(answer(desk, "ann", 0, rating=2))
        desk.take(answer(desk, "ann", 0, rating=2) | {"kind": "undo"})
    with pytest.raises(UserError, match="annotations.jsonl: nobody annotated anything yet"):
        exported(path)
    assert not (tmp_path / "out.jsonl").exists()


def test_an_export_is_of_its_own_file_and_overwrites_nothing_else(tmp_path):
    path = rows(tmp_path / "a.jsonl", 3)
    with desk_of(path, tasks=["rate"]) as desk:
        desk.take(answer(desk, "ann", 0, rating=2))
    first, _ = exported(path)
    assert exported(path)[0] == first  # of log and file alone
    rows(path, 4)
    (tmp_path / "out.jsonl").write_text("kept")
    with pytest.raises(UserError, match="is not the one that was annotated"):
        exported(path)
    assert (tmp_path / "out.jsonl").read_text() == "kept"
    with pytest.raises(UserError, match="would overwrite what it is made of"):
        command.export(str(path), f"{path}.annotations.jsonl", str(path))
    with pytest.raises(UserError, match="the log cannot be read"):
        command.export(str(path), str(tmp_path / "none"), str(tmp_path / "x.jsonl"))
