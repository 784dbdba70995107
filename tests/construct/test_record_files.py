"""Files of records: Parquet that is whole or not there, ids that were there before, inputs known again."""

import os
import random
import re
import resource
import tracemalloc

import pytest

from jitune.construct import record_files
from jitune.construct.record_files import Seen, fingerprint, read, to_parquet
from jitune.data.record import Provenance, Record
from jitune.data.record_rows import to_line
from jitune.types import UserError


def records(count: int, text: str = "x") -> list[Record]:
    return [Record(str(n), text=((f"{n} {text}", 1.0),), meta={"n": n}, provenance=Provenance(f"a.jsonl:{n}"))
            for n in range(count)]


def test_parquet_out_of_lines(tmp_path, monkeypatch):
    import pyarrow.parquet

    made = records(25)
    (tmp_path / "a.jsonl").write_bytes(b"".join(map(to_line, made)))
    monkeypatch.setattr(record_files, "ROWS", 10)
    told = []
    assert to_parquet(tmp_path / "a.jsonl", tmp_path / "a.parquet", advance=told.append) == 25
    assert list(read(str(tmp_path / "a.parquet"))) == list(read(str(tmp_path / "a.jsonl"))) == made
    assert pyarrow.parquet.ParquetFile(tmp_path / "a.parquet").num_row_groups == 3
    assert sum(told) == (tmp_path / "a.jsonl").stat().st_size
    assert sorted(os.listdir(tmp_path)) == ["a.jsonl", "a.parquet"]


def test_large_rows_end_a_group_early_and_memory_stays_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(record_files, "SIZE", 1 << 20)

    def most(count):
        with open(tmp_path / "a.jsonl", "wb") as file:
            file.writelines(map(to_line, records(count, "word " * 40_000)))
        tracemalloc.start()
        try:
            to_parquet(tmp_path / "a.jsonl", tmp_path / "a.parquet")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert most(40) < most(12) + 500_000  # 8 MB and 2.4 MB


def test_what_fails_leaves_the_file_that_was_there(tmp_path):
    (tmp_path / "a.parquet").write_text("old")
    (tmp_path / "a.jsonl").write_bytes(to_line(records(1)[0]) + b"{")
    with pytest.raises(ValueError):
        to_parquet(tmp_path / "a.jsonl", tmp_path / "a.parquet")
    rows = random.Random(0)
    (tmp_path / "a.jsonl").write_bytes(b"".join(to_line(r) for r in records(30, f"{rows.getrandbits(80_000):x}")))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError):
            to_parquet(tmp_path / "a.jsonl", tmp_path / "a.parquet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "a.parquet").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a.jsonl", "a.parquet"]


def test_a_row_that_is_no_record_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "1", "text": "x", "provenance": {}}\n{"id": "2"}\n')
    with pytest.raises(UserError, match=re.escape("a.jsonl:2: 'provenance' is missing")):
        list(read(str(tmp_path / "a.jsonl")))


def test_seen_is_a_set_that_stays_small():
    rng, seen, known = random.Random(0), Seen(), set()
    for _ in range(20_000):
        one = f"{rng.randrange(15_000)}\u2028"
        assert seen.add(one) == (one not in known)
        known.add(one)
    assert seen.count == len(known)
    assert len(seen.table) * 8 < 22 * len(known)


def test_an_input_is_known_again(tmp_path, monkeypatch):
    monkeypatch.setattr(record_files, "WHOLE", 1 << 22)
    (tmp_path / "d").mkdir()
    for path in (tmp_path / "a.jsonl", tmp_path / "d" / "b.jsonl"):
        path.write_bytes(b'{"n": 1}\n' * 3)
    one, other = str(tmp_path / "a.jsonl"), str(tmp_path / "d")
    assert fingerprint([one]) == fingerprint([other]) != fingerprint([one, other])
    big = tmp_path / "a.jsonl"
    found = set()
    for data in (b"x" * 40_000_000, b"x" * 39_999_999 + b"y", b"y" + b"x" * 39_999_999, b"x" * 40_000_001):
        big.write_bytes(data)
        found.add(fingerprint([one]))
    assert len(found) == 4
