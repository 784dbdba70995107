"""The store: what is on disk after a kill, and what it refuses."""

import json
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from jitune.evals.store import Store
from jitune.types import UserError

HEADER = {"model": "abc", "max_length": 128}


def test_values_come_back(tmp_path):
    with Store(tmp_path / "new" / "store.jsonl", HEADER) as store:
        store.put("a", {"text": "höher\n"})
        store.put("b", 2)
    with Store(tmp_path / "new" / "store.jsonl", HEADER) as store:
        assert store.get("a") == {"text": "höher\n"} and store.get("b") == 2 and store.get("c") is None


@pytest.mark.parametrize("lost", [1, 7, 20])
def test_a_last_line_that_was_cut_off_is_dropped_and_written_anew(tmp_path, lost):
    path = tmp_path / "store.jsonl"
    with Store(path, HEADER) as store:
        store.put("a", 1)
        store.put("b", "x" * 30)
    path.write_bytes(path.read_bytes()[:-lost])
    with Store(path, HEADER) as store:
        assert store.values == {"a": 1}
        store.put("b", 2)
    assert [json.loads(line) for line in path.read_text().splitlines()][1:] == [
        {"key": "a", "value": 1}, {"key": "b", "value": 2}]


def test_values_are_on_disk_before_the_store_is_closed(tmp_path):
    store = Store(tmp_path / "store.jsonl", HEADER)
    store.put("a", 1)
    assert json.loads((tmp_path / "store.jsonl").read_text().splitlines()[-1]) == {"key": "a", "value": 1}
    store.close()


def test_a_store_that_another_one_writes_to_is_refused(tmp_path):
    with Store(tmp_path / "store.jsonl", HEADER) as store:
        with pytest.raises(UserError, match="store.jsonl: is in use by another process"):
            Store(tmp_path / "store.jsonl", HEADER)
        store.put("a", 1)
    with Store(tmp_path / "store.jsonl", HEADER) as store:
        assert store.values == {"a": 1}


@pytest.mark.parametrize("text", ["my notes\n", "my notes", '{"prompt": "Hi"}\n', '{"header": {"model": "abc"}'])
def test_a_file_of_something_else_is_left_alone(tmp_path, text):
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(UserError, match="notes.txt:1: is not a line of a cache"):
        Store(path, HEADER)
    assert path.read_text() == text


def test_a_header_that_was_cut_off_is_written_anew(tmp_path):
    path = tmp_path / "store.jsonl"
    Store(path, HEADER).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    Store(path, HEADER).close()
    assert path.read_bytes() == whole


def test_a_store_of_another_model_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "store.jsonl"
    with Store(path, HEADER) as store:
        store.put("a", 1)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"written for something else \(model 'abc' there, 'xyz' here\)"):
        Store(path, {**HEADER, "model": "xyz"})
    assert path.read_bytes() == before


def test_rubbish_in_the_middle_is_an_error_that_names_the_line(tmp_path):
    path = tmp_path / "store.jsonl"
    with Store(path, HEADER) as store:
        store.put("a", 1)
    with path.open("a") as file:
        file.write("not json\n" + json.dumps({"key": "b", "value": 2}) + "\n")
    with pytest.raises(UserError, match="store.jsonl:3: is not a line of a cache"):
        Store(path, HEADER)


def test_values_may_stay_in_the_file(tmp_path):
    path, entries = tmp_path / "store.jsonl", {f"k{i}": {"text": "ü" * i} for i in range(50)}
    with Store(path, HEADER, offsets=True) as store:
        for key, value in entries.items():
            store.put(key, value)
            assert store.get(key) == value and store.get("k0") == entries["k0"]
        assert store.get("absent") is None and len(store.values) == 50
    seen = {}
    with Store(path, HEADER, offsets=True, each=seen.__setitem__) as store:
        assert dict(store.values) == entries == seen
        store.put("k1", "anew")  # after reads have moved about in the file
        assert store.get("k1") == "anew"
    with Store(path, HEADER) as store:
        assert store.values == {**entries, "k1": "anew"}


@pytest.mark.parametrize("offsets", [False, True])
def test_what_a_kill_cut_off_is_dropped(tmp_path, offsets):
    path = tmp_path / "store.jsonl"
    with Store(path, HEADER) as store:
        store.put("a", 1)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "b", "va')
    with Store(path, HEADER, offsets=offsets) as store:
        assert dict(store.values) == {"a": 1} and path.read_bytes() == whole
        store.put("b", 2)
    with Store(path, HEADER, offsets=offsets) as store:
        assert dict(store.values) == {"a": 1, "b": 2}


def test_places_in_a_large_file_take_little_memory(tmp_path):
    path, count = tmp_path / "store.jsonl", 20_000
    with Store(path, HEADER, offsets=True) as store:
        for i in range(count):
            store.put(f"{i:064}", "x" * 2000)
    tracemalloc.start()
    with Store(path, HEADER, offsets=True) as store:
        assert len(store.values) == count and store.get(f"{7:064}") == "x" * 2000
        assert tracemalloc.get_traced_memory()[1] < 400 * count
    tracemalloc.stop()


def test_threads_do_not_mix_their_lines(tmp_path):
    def work(i):
        store.put(str(i), f"{i} " * 500)
        return store.get(str(i // 2)) in (None, f"{i // 2} " * 500)

    for offsets in (False, True):
        path = tmp_path / f"{offsets}.jsonl"
        with Store(path, HEADER, offsets=offsets) as store, ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(200)))
        with Store(path, HEADER) as store:
            assert store.values == {str(i): f"{i} " * 500 for i in range(200)}
