"""Sources: every kind of file, every way it can be broken, and the real files of others."""

import ast
import gzip
import json
import pickle
import sys
from pathlib import Path

import pytest

from jitune.data import formats, sources
from jitune.data.sources import digest, read_rows, split_specs
from jitune.types import UserError

SFT = Path(__file__).parents[2].parent / "shared" / "data" / "sft"
A, B = {"text": "a"}, {"text": "b \u2028 ü"}


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name: str, data: bytes | str) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return name


def write_parquet(name: str, rows: list[dict], **options) -> str:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), name, **options)
    return name


def error_of(spec: str) -> str:
    with pytest.raises(UserError) as caught:
        read_rows(spec)
    return str(caught.value)


GOOD = [
    ("a.json", json.dumps([A, B]), [(A, 1), (B, 2)]),
    ("a.json", "\ufeff" + json.dumps([A, B], ensure_ascii=False), [(A, 1), (B, 2)]),
    ("a.json", json.dumps({"version": 1, "data": [A]}), [(A, 1)]),
    ("a.json", json.dumps({"train": [A, B]}, indent=2), [(A, 1), (B, 2)]),
    ("a.json", '{"text": "a"}\n\n{"text": "b"}\n', [(A, 1), ({"text": "b"}, 3)]),
    ("a.jsonl", '\n{"text": "a"}\r\n  \n{"text": "b \u2028 ü"}', [(A, 2), (B, 4)]),
    ("a.ndjson", '\ufeff{"text": "a"}\n', [(A, 1)]),
    ("A.JSONL", '{"text": "a"}\n', [(A, 1)]),
    ("a.json.gz", json.dumps([A]), [(A, 1)]),
    ("a.jsonl.gz", '{"text": "a"}\n', [(A, 1)]),
    ("a.csv", 'q,a\n"one, ""two""\nlines",5\n\nx,\n', [({"q": 'one, "two"\nlines', "a": "5"}, 1),
                                                       ({"q": "x", "a": ""}, 2)]),
    ("a.csv", "\ufeffq\n" + "x" * 200_000, [({"q": "x" * 200_000}, 1)]),
    ("a.tsv", "q\ta\r\none, two\t5\r\n", [({"q": "one, two", "a": "5"}, 1)]),
    ("a.txt", "one\n\ntwo\n", [({"text": "one\n\ntwo\n"}, 1)]),
    ("a, b.jsonl", '{"text": "a"}\n', [(A, 1)]),
    ("a[1].jsonl", '{"text": "a"}\n', [(A, 1)]),
]


@pytest.mark.parametrize(("name", "data", "expected"), GOOD)
def test_a_file_gives_its_rows(name, data, expected):
    rows = read_rows(write(name, data))
    assert list(rows) == [(row, (name, number)) for row, number in expected]
    assert [rows[i] for i in range(len(rows))] == list(rows)


BAD = [
    ("a.json", "[{},\n  {]", "a.json:2:4: not valid JSON: Expecting property name enclosed in double quotes"),
    ("a.json", '{"text": "a"}\n{"text"}\n', "a.json:2: not valid JSON: column 8: Expecting ':' delimiter"),
    ("a.json", '[{}, 5]', "a.json:2: expected an object, got 5"),
    ("a.json", '"text"', 'a.json: the top level is "text"; expected a list of objects'),
    ("a.json", '{"rows": [], "data": []}', "a.json: the top level is an object with keys ['rows', 'data']; "
     "expected a list of objects, or an object with one list under data, train, rows, examples, instances"),
    ("a.json", '{"q": "x"}', "a.json: the top level is an object with keys ['q']"),
    ("a.json", "[" * 100_000, "a.json: not valid JSON: maximum recursion depth exceeded"),
    ("a.json", b'[{"q":\n"\xff"}]', "a.json:2: not valid UTF-8: byte 0xff at position 2 of line 2"),
    ("a.jsonl", '{"q": 1}\n\n{"q": 1,}\n', "a.jsonl:3: not valid JSON: column 9: "),
    ("a.jsonl", '[\n{"q": 1}]', "a.jsonl:1: not valid JSON: column 2: Expecting value; a list of objects "
     "belongs in a .json file"),
    ("a.jsonl", '{"q": 1}\n[1, 2]\n', "a.jsonl:2: expected an object, got [1, 2]"),
    ("a.jsonl", '{"q": 1}\nnull\n', "a.jsonl:2: expected an object, got null"),
    ("a.jsonl", b'{}\n{"q": "\xe9"}\n', "a.jsonl:2: not valid UTF-8: byte 0xe9 at position 8 of line 2"),
    ("a.jsonl", '{"q": 1}'.encode("utf-16"), "a.jsonl:1: not valid UTF-8: byte 0xff at position 1 of line 1; "
     "the file looks like UTF-16"),
    ("a.csv", "q,a\n1,2\n1,2,3\n", "a.csv:2: 3 fields (the record ends in line 3); the header has 2: "
     "['q', 'a']"),
    ("a.csv", "q,a\n1\n", "a.csv:1: 1 fields"),
    ("a.csv", "q,q\n1,2\n", "a.csv: the header names a column twice: ['q', 'q']"),
    ("a.csv", 'q\n1\n"open\n2\n', "a.csv:2: broken record, line 4: unexpected end of data"),
    ("a.csv", b"q\n1\n\xff\n", "a.csv:3: not valid UTF-8: byte 0xff at position 1 of line 3"),
    ("a.txt", b"\xff", "a.txt:1: not valid UTF-8"),
    ("a.parquet", "PAR1", "a.parquet: not a readable parquet file: "),
    ("b.tar", "x", "b.tar: cannot read this kind of file; supported are .json, .jsonl, .ndjson, .csv, .tsv, "
     ".txt, .parquet"),
    *[(name, "", f"{name}: is empty") for name in ("a.json", "a.jsonl", "a.csv", "a.txt", "a.jsonl.gz")],
    ("a.json", "[]", "a.json: is empty"),
    ("a.json", "\ufeff \n", "a.json: is empty"),
    ("a.csv", "q,a\n", "a.csv: is empty"),
    *[(f"a{ending}", "", f"a{ending}: refused: {ending} files can hold pickles, which run code when opened; "
       "convert the data to .jsonl or .parquet") for ending in (".pkl", ".pickle", ".pt", ".bin")],
]


@pytest.mark.parametrize(("name", "data", "message"), BAD)
def test_a_broken_file_is_an_error_that_says_where(name, data, message):
    assert error_of(write(name, data)).startswith(message)


def test_a_broken_gzip_file_is_an_error():
    Path("a.jsonl.gz").write_bytes(b"plain")
    Path("b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 99)[:-9])
    assert error_of("a.jsonl.gz").startswith("a.jsonl.gz: not a valid gzip file: ")
    assert error_of("b.jsonl.gz").startswith("b.jsonl.gz: not a valid gzip file: ")


def test_a_path_that_does_not_exist_names_the_nearest():
    write("data/alpaca.json", "[{}]")
    assert error_of("data/alpca.json") == ("data/alpca.json: no such file; the nearest names in data are "
                                           "alpaca.json")
    assert error_of("./alpaca") == "./alpaca: no such file"
    assert error_of("nowhere/a.json") == "nowhere/a.json: no such file; the folder nowhere does not exist"
    assert error_of("alpaca") == "alpaca: no such file, nor the name org/name of a hub dataset"
    assert error_of("data/alpaca.json[test]") == ("data/alpaca.json[test]: a [split] belongs to a dataset; "
                                                  "data/alpaca.json holds plain files")


def test_what_commands_leave_beside_data_is_not_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("hh.jsonl.bad", ".hh.jsonl.part", ".hh.jsonl.ledger", "hh.jsonl.annotations.jsonl"):
        (tmp_path / name).touch()
    assert error_of("hh.json") == "hh.json: no such file"
    (tmp_path / "hh.jsonl.gz").touch()
    assert error_of("hh.jsonl") == "hh.jsonl: no such file; the nearest names in this folder are hh.jsonl.gz"


def test_a_folder_is_its_files_in_order():
    write("d/b.jsonl", '{"n": 2}\n{"n": 3}')
    write("d/a.json", '[{"n": 1}]')
    write("d/sub/c.jsonl.gz", '{"n": 4}')
    for ignored in ("d/.hidden.json", "d/.git/x.json", "d/README.md", "d/x.pkl"):
        write(ignored, "{")
    rows = read_rows("d")
    expected = [({"n": 1}, ("d/a.json", 1)), ({"n": 2}, ("d/b.jsonl", 1)), ({"n": 3}, ("d/b.jsonl", 2)),
                ({"n": 4}, ("d/sub/c.jsonl.gz", 1))]
    assert len(rows) == 4 and list(rows) == expected == [rows[i] for i in range(4)]
    assert rows[-1] == expected[3] and rows[1:3] == expected[1:3]
    with pytest.raises(IndexError):
        rows[4]
    write("empty/README.md", "")
    assert error_of("empty").startswith("empty: no data files in this folder; supported are .json")


def test_parquet_rows_are_converted_when_asked_for():
    made = [{"messages": [{"role": "user", "content": "hi"}], "id": 1, "note": None},
            {"messages": [{"role": "tool", "content": "x", "name": "f"}], "id": 2, "note": "n"}]
    rows = read_rows(write_parquet("a.parquet", made, row_group_size=1))
    # Arrow gives the first message a null name; the column `note` stays.
    assert list(rows) == [(made[0], ("a.parquet", 1)), (made[1], ("a.parquet", 2))]
    assert list(pickle.loads(pickle.dumps(rows))) == list(rows)
    assert isinstance(rows.parts[0].rows, sources.ArrowRows)


def test_parquet_with_broken_text_names_the_row():
    import pyarrow
    import pyarrow.parquet

    cells = pyarrow.Array.from_buffers(pyarrow.string(), 2, pyarrow.array([b"good", b"\xff"]).buffers())
    pyarrow.parquet.write_table(pyarrow.table({"text": cells}), "a.parquet")
    with pytest.raises(UserError, match="^a.parquet:2: not valid UTF-8"):
        list(read_rows("a.parquet"))


def test_saved_datasets():
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    train, test = datasets.Dataset.from_list([A, B]), datasets.Dataset.from_list([{"text": "t"}])
    train.save_to_disk("one")
    datasets.DatasetDict(train=train, test=test).save_to_disk("many")
    assert list(read_rows("one")) == [(A, ("one", 1)), (B, ("one", 2))]
    assert list(read_rows("many")) == [(A, ("many", 1)), (B, ("many", 2))]
    assert list(read_rows("many[test]")) == [({"text": "t"}, ("many[test]", 1))]
    assert error_of("many[dev]") == "many[dev]: no split 'dev'; the splits are train, test"
    write("torn/dataset_info.json", "{"), write("torn/state.json", "{")
    assert error_of("torn").startswith("torn: the dataset cannot be loaded: ")
    assert error_of(".") == ".: ./many is a saved dataset; name that folder itself"
    assert digest(["many[train]"]) == digest(["many"]) != digest(["many[test]"])


def test_hub_names(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def load(*args, **options):
        asked.append((args, options))
        if args[0] == "org/gone":
            raise ConnectionError("Couldn't reach 'org/gone'\nmore\nlines")
        return datasets.Dataset.from_dict({"text": [] if args[0] == "org/empty" else ["a"]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert list(read_rows("org/name:main[test[:10]]")) == [(A, ("org/name:main[test[:10]]", 1))]
    assert len(read_rows("org/name")) == 1
    assert asked == [(("org/name", "main"), {"split": "test[:10]"}), (("org/name", None), {"split": "train"})]
    assert error_of("org/gone") == ("org/gone: no such local path, and the dataset cannot be loaded: "
                                    "Couldn't reach 'org/gone'")
    assert error_of("org/empty") == "org/empty: is empty"
    assert len(digest(["org/name"])) == 64
    write("org/name", "")
    assert error_of("org/name").startswith("org/name: cannot read this kind of file")


@pytest.mark.parametrize(("specs", "expected"), [
    ("a.json, b.jsonl", ["a.json", "b.jsonl"]),
    ("a.json", ["a.json"]),
    (" a.json ,,b.json, ", ["a.json", "b.json"]),
    ("", []),
    ("x, y.jsonl", ["x, y.jsonl"]),
    ("a.json, x, y.jsonl, d", ["a.json", "x, y.jsonl", "d"]),
    ("org/name[train[:10]], a.json", ["org/name[train[:10]]", "a.json"]),
])
def test_specs_are_split_at_commas(specs, expected):
    write("x, y.jsonl", "{}")
    assert split_specs(specs) == expected


def test_the_digest_is_of_the_data_and_its_order():
    one, two = write("d/a.jsonl", '{"n": 1}\n'), write("d/b.jsonl", '{"n": 2}\n')
    moved = [write("elsewhere/x.jsonl", '{"n": 1}\n'), write("y.jsonl", '{"n": 2}\n')]
    assert digest([one, two]) == digest(moved) == digest(["d"]) != digest([two, one])
    assert digest([one]) != digest([write("a.txt", '{"n": 1}\n')])
    before = digest(["d"])
    write("d/b.jsonl", '{"n": 3}\n')
    assert digest(["d"]) != before
    with pytest.raises(UserError, match="no such file"):
        digest(["d/c.jsonl"])


COUNTS = {
    "cherry_alpaca_5_percent.json": 3111, "alpaca_en_demo.json": 999, "alpaca_zh_demo.json": 1000,
    "glaive_toolcall_en_demo.json": 300, "openai_messages_v1_sft_demo.jsonl": 500,
    "reason_tool_use_demo_50.jsonl": 50, "identity.json": 91, "sharegpt_dummy_conversation.json": 500,
    "code_alpaca_2k.json": 2017, "llms_from_scratch_instruction_data.json": 1100,
}


@pytest.mark.skipif(not SFT.is_dir(), reason="the real data files are not there")
@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_real_files_have_the_published_number_of_rows(name, count):
    rows = read_rows(str(SFT / name))
    assert len(rows) == count
    assert [origin[1] for _, origin in rows] == list(range(1, count + 1))


def test_importing_starts_nothing_heavy():
    for module in (sources, formats):
        tree = ast.parse(Path(module.__file__).read_text())
        names = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
        names |= {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        assert {name.split(".")[0] for name in names} <= {*sys.stdlib_module_names, "jitune"}
