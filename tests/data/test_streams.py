"""Streams give the rows that `read_rows` gives, point at what is malformed, and hold one row in memory."""

import csv
import gzip
import io
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.data import file_rows, json_rows
from jitune.data.sources import read_rows
from jitune.data.streams import Bad, stream
from jitune.types import UserError
from tests.data.test_sources import BAD, GOOD, write, write_parquet


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def given_by(spec: str) -> list:
    return [tuple(item)[1:3] if isinstance(item, Bad) else item[0] for item in stream([spec], bad="give")]


@pytest.mark.parametrize(("name", "data", "expected"), GOOD)
@pytest.mark.parametrize("bad", ["raise", "give"])
def test_a_file_gives_its_rows_and_its_bytes(name, data, expected, bad):
    rows = stream([write(name, data)], bad=bad)
    assert list(rows) == [(row, (name, number)) for row, number in expected] == list(rows)
    assert rows.read == rows.total == Path(name).stat().st_size


@pytest.mark.parametrize(("name", "data", "message"), BAD)
def test_a_broken_file_is_the_same_error(name, data, message):
    with pytest.raises(UserError) as caught:
        list(stream([write(name, data)]))
    assert str(caught.value).startswith(message)


def folder_of_all_kinds() -> str:
    write("d/a.jsonl", '{"n": 1}\n{"n": 2}\n')
    write("d/b.csv.gz", "n\n3\n4\n")
    write_parquet("d/c.parquet", [{"n": n, "m": [{"x": None, "y": 1}]} for n in range(700)], row_group_size=300)
    write("d/e.json", '{"version": 1, "data": [{"n": 5}]}')
    return "d"


def test_several_sources_one_after_the_other():
    folder = folder_of_all_kinds()
    rows = stream([folder, "d/a.jsonl"])
    found, places = [], []
    for item in rows:
        found.append(item)
        places.append(rows.read)
    assert found == [*read_rows("d"), *read_rows("d/a.jsonl")]
    assert places == sorted(places) and rows.read == rows.total
    assert found[-4] == ({"n": 699, "m": [{"y": 1}]}, ("d/c.parquet", 700))
    with pytest.raises(UserError, match="no such file"):
        stream(["d", "d/missing.jsonl"])
    with pytest.raises(UserError, match="refused: .pkl"):
        stream([write("x.pkl", "")])


def test_saved_datasets():
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}]).save_to_disk("saved")
    rows = stream(["saved"])
    assert list(rows) == list(read_rows("saved")) and rows.read == rows.total > 0


MALFORMED = [
    ("a.jsonl", '{"n": 1}\n{\n[1]\n\nnull\n{"n": 2}', [{"n": 1}, (2, "json"), (3, "object"), (5, "object"), {"n": 2}]),
    ("a.jsonl", b'{"n": 1}\n{"n": "\xff"}\n{"n": 2}\n', [{"n": 1}, (2, "encoding"), {"n": 2}]),
    ("a.jsonl", '{"n": "\\ud83d"}\n{"n": "\\ud83d\\ude00"}\n{"\\udc00": 1}\n{"n": [{"m": "x\\udfff"}]}\n'
     '{"n": "\\\\ud83d"}', [(1, "surrogate"), {"n": "😀"}, (3, "surrogate"), (4, "surrogate"), {"n": "\\ud83d"}]),
    ("a.json", '[{"n": 1}, 5, {"n": "\\uD83D"}, [], {"n": 2}]',
     [{"n": 1}, (2, "object"), (3, "surrogate"), (4, "object"), {"n": 2}]),
    ("a.json", '{"n": 1}\n{"n": \n{"n": 2}\n', [{"n": 1}, (2, "json"), {"n": 2}]),
    ("a.csv", "n,m\n1,2\n3\n4,5,6\n7,8\n", [{"n": "1", "m": "2"}, (2, "fields"), (3, "fields"), {"n": "7", "m": "8"}]),
    ("a.csv", b'n,m\n1,"\xff\n\xe9"\n3,"4\n5"\n', [(1, "encoding"), {"n": "3", "m": "4\n5"}]),
    ("a.csv", 'n,m\n"1"x,2\n3,4\n', [(1, "record"), {"n": "3", "m": "4"}]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "expected"), MALFORMED)
def test_malformed_rows_are_given_in_their_place(name, data, expected):
    assert given_by(write(name, data)) == expected


def test_what_is_given_says_what_the_error_says_and_what_stood_there():
    write("a.jsonl", b'{"n": 1,}\n\xff"x"\n"\\ud83d"\n')
    first, second, third = stream(["a.jsonl"], bad="give")
    assert first.message == "a.jsonl:1: not valid JSON: column 9: Expecting property name enclosed in double quotes"
    assert first.raw == '{"n": 1,}'
    assert second.message == "a.jsonl:2: not valid UTF-8: byte 0xff at position 1 of line 2"
    assert second.raw == '\\xff"x"'
    assert third.raw == '"\\ud83d"'
    write("a.csv", b'n,m\n1,2\n\xff,"3\n4",5\n')
    _, broken = stream(["a.csv"], bad="give")
    assert broken[:3] == ("a.csv", 2, "encoding") and broken.raw == '\\xff,"3\n4",5'
    assert broken.message == "a.csv:2: not valid UTF-8: byte 0xff at position 1 of line 3"


def test_parquet_with_broken_text_gives_the_other_rows():
    import pyarrow
    import pyarrow.parquet

    cells = pyarrow.Array.from_buffers(pyarrow.string(), 2, pyarrow.array([b"\xff", b"good"]).buffers())
    pyarrow.parquet.write_table(pyarrow.table({"text": cells}), "a.parquet")
    assert given_by("a.parquet") == [(1, "encoding"), {"text": "good"}]
    with pytest.raises(UserError, match="^a.parquet:1: not valid UTF-8"):
        list(stream(["a.parquet"]))


@pytest.mark.parametrize(("name", "data", "before", "message"), [
    ("a.json", '[{"n": 1}, {"n": 2}, {"n" 3}]', 2, "a.json:1:27: not valid JSON: Expecting ':' delimiter"),
    ("a.json", '[{"n": 1}\n {"n": 2}]', 1, "a.json:2:2: not valid JSON: Expecting ',' delimiter"),
    ("a.json", '[{"n": 1}, {"n": "2', 1, "a.json:1:18: not valid JSON: Unterminated string starting at"),
    ("a.json", '[{"n": 1}', 1, "a.json:1:10: not valid JSON: Expecting ',' delimiter"),
    ("a.json", '[{"n": 1}]\n]', 1, "a.json:2:1: not valid JSON: Extra data"),
    ("a.json", '[{"n": ' + "9" * 5000 + "}]", 0, "a.json: not valid JSON: Exceeds the limit"),
    ("a.json", '{"data": [{"n": 1}],\n "train": []}', 1, "a.json: the top level is an object with keys ['data', 'tr"),
    ("a.json", '{"data": [{"n": 1}]\n', 1, "a.json:2:1: not valid JSON: Expecting ',' delimiter"),
    ("a.json", '{"data":\n [{"n": 1}], 5', 1, "a.json:2:14: not valid JSON: Expecting property name enclosed in"),
    ("a.json", b'[{"n": 1},\n{"n": "\xe4"}]', 0, "a.json:2: not valid UTF-8: byte 0xe4 at position 8 of line 2"),
    ("a.csv", 'n\n1\n"2\n3\n', 1, "a.csv:2: broken record, line 4: unexpected end of data"),
])  # fmt: skip
def test_a_file_that_nobody_can_go_on_with_is_an_error(name, data, before, message):
    rows, found = iter(stream([write(name, data)], bad="give")), []
    with pytest.raises(UserError) as caught:
        found.extend(iter(lambda: next(rows), None))
    assert str(caught.value).startswith(message) and len(found) == before


def test_a_gzip_file_that_is_cut_off_is_an_error_after_its_rows():
    lines = "".join(f'{{"n": {n}}}\n' for n in range(50_000)).encode()
    Path("a.jsonl.gz").write_bytes(gzip.compress(lines)[:-9])
    found = []
    with pytest.raises(UserError, match=r"^a.jsonl.gz: not a valid gzip file: "):
        found.extend(stream(["a.jsonl.gz"], bad="give"))
    assert len(found) > 10_000


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
                    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=3), one, max_size=3))


@settings(max_examples=50, deadline=None)
@given(st.lists(JSON, max_size=5), st.sampled_from([None, 1, "\t"]), st.booleans(), st.integers(1, 9))
def test_any_list_in_any_blocks_is_what_json_reads(value, indent, ascii_only, size):
    if not ascii_only:
        value = json.loads(json.dumps(value).replace("\\ud", "\\\\ud"))  # halves of pairs have no UTF-8
    data = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    blocks = [data[at:at + size] for at in range(0, len(data), size)]
    chunk, json_rows.CHUNK = json_rows.CHUNK, size
    try:
        found = list(json_rows.rows("a.json", blocks))
    finally:
        json_rows.CHUNK = chunk
    assert [one for one, _ in found] == value == [json.loads(raw) for _, raw in found]


@settings(max_examples=100, deadline=None)
@given(st.lists(JSON, min_size=1, max_size=3), st.integers(0, 60), st.sampled_from('x"{}[],:\\ 1'), st.integers(1, 40))
def test_broken_json_is_broken_at_the_same_place(value, at, put, size):
    text = json.dumps(value, indent=1)
    text = text[:at % len(text)] + put + text[at % len(text) + 1:]
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        whole = f"a.json:{error.lineno}:{error.colno}: not valid JSON: {error.msg}"
    data = text.encode()
    try:
        found = [one for one, _ in json_rows.rows("a.json", [data[i:i + size] for i in range(0, len(data), size)])]
    except UserError as error:
        found = str(error)
    if isinstance(whole, (list, str)):
        assert found == whole or "the top level is an object" in found


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "b.json", "a.csv", "a.parquet", "a.jsonl.gz"])
def test_memory_does_not_grow_with_the_file(name, monkeypatch):
    monkeypatch.setattr(file_rows, "LOOK", 1 << 18)

    def most(count: int) -> int:
        rows = [{"text": f"{n} " + "word " * 200} for n in range(count)]
        lines = [json.dumps(row) for row in rows]
        if name == "a.parquet":
            write_parquet(name, rows, row_group_size=500)
        elif name == "a.csv":
            write(name, "text\n" + "\n".join(row["text"] for row in rows))
        else:
            text = {"a.json": f"[{', '.join(lines)}]", "b.json": f'{{"data": [{", ".join(lines)}]}}'}
            write(name, text.get(name, "\n".join(lines)))
        del rows, lines
        tracemalloc.start()
        try:
            assert sum(1 for _ in stream([name])) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = most(1_000), most(5_000)  # 1 MB and 5 MB
    assert large < small + 200_000


def test_a_row_of_a_megabyte_takes_linear_time(monkeypatch):
    """Decoding starts again at most as often as the buffer doubles."""
    rows = [{"text": "x" * 4_000_000}, {"text": "y"}]
    write("a.json", json.dumps(rows))
    tried = []
    decode = json_rows.DECODER.raw_decode
    monkeypatch.setattr(json_rows, "DECODER", type("Counting", (), {"raw_decode": staticmethod(
        lambda text, at: (tried.append(len(text) - at), decode(text, at))[1])}))
    assert [row for row, _ in stream(["a.json"])] == rows
    assert sum(tried) < 4 * 4_000_000


def test_real_files_give_the_rows_that_python_reads(shared):
    """json and csv are asked directly, since `read_rows` shares its code with streams."""
    seen = 0
    for path in sorted((shared / "data").rglob("*")):
        if path.suffix not in (".json", ".jsonl", ".csv", ".tsv") or path.stat().st_size > 500_000:
            continue
        try:
            found = [row for row, _ in stream([str(path)])]
        except UserError:
            continue  # no list of objects; what is wrong with such files is tested above
        seen += 1
        assert found == read_plainly(path), path
    assert seen > 100


def read_plainly(path: Path) -> list[dict]:
    text = path.read_bytes().decode("utf-8-sig")
    if path.suffix in (".csv", ".tsv"):
        return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ","))
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    if isinstance(whole, list):
        return whole
    (lists,) = [value for value in whole.values() if isinstance(value, list)] or [[whole]]
    return lists
