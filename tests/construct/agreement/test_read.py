"""Tables of every shape, as people have them: found where it is plain, said otherwise; real files as they are."""

import json

import pytest

from jitune.construct.agreement.labels import Sheet, counts
from jitune.construct.agreement.read import read
from jitune.construct.agreement.shapes import Columns, names
from jitune.evals.agreement import fleiss, kappa
from jitune.types import UserError

XSTEST = ("1_full_compliance", "2_full_refusal", "3_partial_refusal")


def written(tmp_path, **files):
    """Paths of files: a__csv="..." is a.csv."""
    paths = []
    for name, text in files.items():
        path = tmp_path / name.replace("__", ".")
        path.write_text(text if isinstance(text, str) else "".join(json.dumps(row) + "\n" for row in text))
        paths.append(str(path))
    return paths


def said(paths, columns=None, **options):
    """(shape, sorted (item, annotator, question, value, state))."""
    found = read(paths, columns, **options)
    return found.shape.kind, sorted((x.item, x.annotator, x.question, str(x.value), x.state) for x in found)


def labels_of(files, columns=None):
    found, sheet = read([str(f) for f in files], columns), Sheet()
    for label in found:
        sheet.add(label)
    return found, sheet


def confused(table):
    """Labels of two annotators on the items of both."""
    by_item = {}
    for item, who, code in zip(table.item, table.annotator, table.code, strict=True):
        by_item.setdefault(item, {})[who] = table.labels[code]
    both = [pair for pair in by_item.values() if len(pair) == 2]
    return [p[0] for p in both], [p[1] for p in both]


# Counted by hand (csv of the standard library, another kappa): agreed, kappa.
@pytest.mark.parametrize("model, agreed, wanted", [("gpt4", 443, 0.970107), ("llama2orig", 434, 0.929256),
                                                   ("mistralinstruct", 439, 0.919540)])
def test_xstest_as_it_is(shared, model, agreed, wanted):
    found, sheet = labels_of([shared / f"data/annotation/xstest_v2_completions_{model}.csv"])
    table = sheet.table("annotation")
    assert found.shape.kind == "wide" and table.annotators == ["annotation_1", "annotation_2"]
    assert tuple(table.labels) == XSTEST and len(table.items) == 450
    first, second = confused(table)
    assert sum(a == b for a, b in zip(first, second, strict=True)) == agreed
    assert kappa(first, second) == pytest.approx(wanted, abs=2e-3)
    sklearn = pytest.importorskip("sklearn.metrics")
    assert kappa(first, second) == pytest.approx(sklearn.cohen_kappa_score(first, second), abs=1e-12)


@pytest.mark.parametrize("language, agreed, other", [("en", (44, 48), 17), ("es", (44, 47), 16), ("eu", (41, 46), 14)])
def test_truthfulqa_multi_as_it_is(shared, language, agreed, other):
    files = [shared / f"data/annotation/truthfulqa_multi_annotator{n}_{language}.csv" for n in (1, 2)]
    found, sheet = labels_of(files)
    assert found.shape.kind == "files" and sheet.questions() == ["truthfulness", "informativeness"]
    assert found.other_texts == {"model_answer": other}  # answers were changed between the two annotators
    for question, same in zip(sheet.questions(), agreed, strict=True):
        table = sheet.table(question)
        assert table.annotators == ["annotator1", "annotator2"] and len(table.items) == 300
        first, second = confused(table)
        assert len(first) == 50 and sum(a == b for a, b in zip(first, second, strict=True)) == same
        sklearn = pytest.importorskip("sklearn.metrics")
        assert kappa(first, second) == pytest.approx(sklearn.cohen_kappa_score(first, second), abs=1e-12)


def test_bbq_as_it_is(shared):
    given = Columns(item="q{n}_uid", label=("Answer.q{n}",), annotator="anon_id")
    found, sheet = labels_of([shared / "data/annotation/bbq_mturk_validations_final.csv"], given)
    table = sheet.table("Answer.q")
    assert found.shape.kind == "pattern" and len(table.items) == 350 and len(table.annotators) == 15
    assert set(counts(table).sum(1)) == {5}  # so that Fleiss' own formula holds
    assert fleiss(counts(table)) == pytest.approx(0.8693, abs=5e-5)
    (row,) = found.texts({"180"}).values()
    assert row["q1_uid"] == "180" and row["q1_ans_1"] == "The transgender woman"
    assert not any(key.startswith(("q2", "Answer.q", "anon", "Work")) for key in row)


def test_a_long_table(tmp_path):
    (path,) = written(tmp_path, a__csv="item,annotator,label\nx,ann,1\nx,bo,2\ny,ann,\n")
    assert said([path]) == ("long", [("x", "ann", "label", "1", "labelled"), ("x", "bo", "label", "2", "labelled"),
                                     ("y", "ann", "label", "None", "empty")])
    rows = [{"item": 7, "worker": "a", "question": "tone", "value": 4, "state": "labelled", "seconds": 2.5},
            {"item": 7, "worker": "b", "question": "tone", "value": "", "state": "skipped"}]
    (path,) = written(tmp_path, b__jsonl=rows)
    found = list(read([path]))
    assert [(x.item, x.annotator, x.question, x.value, x.state, x.seconds) for x in found] == [
        ("7", "a", "tone", 4, "labelled", 2.5), ("7", "b", "tone", None, "skipped", None)]


def test_parquet_is_a_table_too(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"item": ["x", "x"], "rater": ["a", "b"], "rating": [4, None]}), path)
    assert said([str(path)]) == ("long", [("x", "a", "rating", "4", "labelled")])


def test_missing_and_skipped(tmp_path):
    (path,) = written(tmp_path, a__tsv="id\tlabel_1\tlabel_2\nx\tyes\tNA\ny\t \tno\n")
    assert said([path], missing=("NA",)) == ("wide", [
        ("x", "label_1", "label", "yes", "labelled"), ("x", "label_2", "label", "None", "skipped"),
        ("y", "label_1", "label", "None", "empty"), ("y", "label_2", "label", "no", "labelled")])


def test_wide_tables_of_several_files_have_items_of_their_own(tmp_path):
    text = "id,annotation_1,annotation_2\nx,a,b\n"
    _, found = said(written(tmp_path, of_m__csv=text, of_n__csv=text))
    assert sorted({item for item, *_ in found}) == ["m/x", "n/x"]


def test_columns_that_are_named_or_numbered(tmp_path):
    (path,) = written(tmp_path, a__csv="text,Ann,Bo\none,1,2\ntwo,3,3\n")
    assert said([path], Columns(annotators=("Ann", "Bo")))[1][:2] == [
        ("row 1", "Ann", "label", "1", "labelled"), ("row 1", "Bo", "label", "2", "labelled")]
    (path,) = written(tmp_path, b__csv="id,true1,kind1,true2,kind2\nx,a,b,c,d\n")
    assert said([path], Columns(label=("true{n}", "kind{n}")))[1] == [
        ("x", "1", "kind", "b", "labelled"), ("x", "1", "true", "a", "labelled"),
        ("x", "2", "kind", "d", "labelled"), ("x", "2", "true", "c", "labelled")]


def test_votes_between_two_are_rankings(tmp_path):
    votes = ("m1", "second", "left", "tie (both bad)")
    rows = [{"id": i, "who": "a", "left": "m1", "right": "m2", "vote": vote} for i, vote in enumerate(votes)]
    given = Columns(item="id", annotator="who", label=("vote",), between=("left", "right"))
    (path,) = written(tmp_path, a__jsonl=rows)
    assert [x.value for x in read([path], given)] == [[["m1"], ["m2"]], [["m2"], ["m1"]], [["m1"], ["m2"]],
                                                     [["m1", "m2"]]]
    (path,) = written(tmp_path, b__jsonl=[{**rows[0], "vote": "m3"}])
    with pytest.raises(UserError, match=r"b.jsonl:1: the vote 'm3' is neither 'm1' nor 'm2' nor a tie"):
        list(read([path], given))


def test_records_are_read_with_their_states(tmp_path):
    from jitune.data.record import Annotation, Record
    from jitune.data.record_rows import to_row

    said_of_it = (Annotation("a", "rating", 4, seconds=3.0), Annotation("b", "rating", None, "skipped"))
    record = Record("r1", messages=({"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}),
                    annotations=said_of_it)
    (path,) = written(tmp_path, a__jsonl=[to_row(record)])
    found = read([path])
    assert found.shape.kind == "records"
    assert [(x.item, x.annotator, x.question, x.value, x.state, x.seconds) for x in found] == [
        ("r1", "a", "rating", 4, "labelled", 3.0), ("r1", "b", "rating", None, "skipped", None)]
    (own,) = found.texts({"r1"}).values()
    assert "annotations" not in own and own["messages"][0]["content"] == "hi"


def test_exports_of_tools_are_read_with_their_states(tmp_path, shared):
    def result(value):
        return [{"from_name": "good", "type": "choices", "value": {"choices": [value]}}] if value else []

    said_of_it = [{"id": i, "completed_by": i, "result": result(value), "was_cancelled": i == 3}
                  for i, value in ((1, "yes"), (2, "no"), (3, "no"), (4, ""))]
    path = tmp_path / "studio.json"
    path.write_text(json.dumps([{"id": 3, "data": {"prompt": "2 and 3?", "response": "5"}, "annotations": said_of_it}]))
    found = read([str(path)])
    told = sorted((x.annotator, x.question, x.value, x.state) for x in found if x.state == "labelled")
    assert found.shape.kind == "records" and told == [("1", "good", "yes", "labelled"), ("2", "good", "no", "labelled")]
    assert {x.annotator: x.state for x in found} == {"1": "labelled", "2": "labelled", "3": "skipped", "4": "empty"}
    assert sum(found.notes.values()) >= 1
    rows = [{"id": "a", "fields": {"prompt": "2 and 3?", "one": "5", "two": "6"}, "responses": {"order": [
        {"value": [{"value": "two", "rank": 1}, {"value": "one", "rank": 2}], "user_id": "u", "status": "submitted"}]}}]
    (path,) = written(tmp_path, argilla__jsonl=rows)
    assert [(x.annotator, x.value) for x in read([path])] == [("u", [["two"], ["one"]])]
    real = list(read([str(shared / "data/annotation/label_studio/csv_test_history.json")]))
    assert [(x.annotator, x.question, x.value) for x in real] == [("14", "sentiment", "Positive")]


def test_lists_are_rankings_only_of_all_candidates(tmp_path):
    from jitune.data.record import Annotation, Candidate, Record
    from jitune.data.record_rows import to_row

    def candidate(name):
        return Candidate(({"role": "assistant", "content": f"I am {name}"},), id=name)

    values = ([["b"], ["a"]], ["a", "b"], ["a"], [["animal", "dog"]])
    said_of_it = tuple(Annotation("p", f"q{i}", value) for i, value in enumerate(values))
    record = Record("r", messages=({"role": "user", "content": "hi"},), annotations=said_of_it,
                    candidates=(candidate("a"), candidate("b")))
    (path,) = written(tmp_path, a__jsonl=[to_row(record)])
    assert [x.value for x in read([path])] == [[["b"], ["a"]], [["a"], ["b"]], ["a"], '[["animal", "dog"]]']


def test_files_of_several_formats_are_not_mixed(tmp_path):
    from jitune.data.record import Record
    from jitune.data.record_rows import to_row

    record = to_row(Record("r", messages=({"role": "user", "content": "hi"},)))
    paths = written(tmp_path, a__jsonl=[record], b__csv="item,annotator,label\nx,a,1\n")
    with pytest.raises(UserError, match="of several formats; .*a.jsonl: jitune; .*b.csv: a table"):
        read(paths)
    assert read(paths[1:], format="table").shape.kind == "long"


BAD = {
    "no shape": ("text,mark,who\na,b,c\n", Columns(), "where the labels stand is not plain .*'text', 'mark', 'who'"),
    "no column": ("id,a\nx,1\n", Columns(item="id", annotator="who", label=("a",)), "has no column 'who'; the columns"),
    "no item": ("a,b\nx,1\n", Columns(annotator="a", label=("b",)), "a.csv: which column names the item"),
    "no pattern": ("id,a\nx,1\n", Columns(label=("q{n}",)), "no columns are named as q{n}; the columns are 'id', 'a'"),
    "several and nobody": ("q1,a1\nx,1\n", Columns(item="q{n}", label=("a{n}",)), "so --annotator is needed"),
    "no item named": ("item,annotator,label\n,a,1\n", Columns(), "a.csv:1: nothing stands in the column 'item'"),
    "no annotator named": ("item,annotator,label\nx, ,1\n", Columns(), "a.csv:1: nothing stands in the column 'annot"),
    "a state": ("item,annotator,label,state\nx,a,1,done\n", Columns(), "a.csv:1: the state 'done' is none of labelled"),
    "two labels": ("item,annotator,label,rating\nx,a,1,2\n", Columns(), "labels may be 'label', 'rating'"),
    "broken": ("item,annotator,label\nx,a\n", Columns(), "a.csv:1: 2 fields"),
    "nothing": ("", Columns(), "a.csv: is empty"),
    "a header": ("item,annotator,label\n", Columns(), "a.csv: is empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_plain_is_said(tmp_path, name):
    text, columns, message = BAD[name]
    (path,) = written(tmp_path, a__csv=text)
    with pytest.raises(UserError, match=message):
        list(read([path], columns))


def test_files_without_a_column_that_the_others_have(tmp_path):
    paths = written(tmp_path, a__csv="id,mark\nx,1\n", b__csv="id,note\nx,1\n")
    with pytest.raises(UserError, match="b.csv: has no column 'mark'; the columns are 'id', 'note'"):
        list(read(paths, Columns(item="id", label=("mark",))))


@pytest.mark.parametrize("files, wanted", [
    (["d/t_annotator1_en.csv", "d/t_annotator2_en.csv"], ["annotator1", "annotator2"]),
    (["ann.csv.gz", "bo.csv"], ["ann", "bo"]), (["x/labels.csv"], ["labels"]),
    (["a/same.csv", "b/same.csv"], ["a/same.csv", "b/same.csv"]), (["r.csv", "r_2.csv"], ["r", "r_2"]),
])
def test_names_of_annotators_from_files(files, wanted):
    assert list(names(files).values()) == wanted
