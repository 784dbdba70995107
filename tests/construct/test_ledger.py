"""Files that grow together go on where they stood at the last commit."""

import errno

import pytest

from jitune.construct.ledger import Ledger
from jitune.types import UserError

FILES = ("a.jsonl", "b.jsonl")


def test_what_came_after_the_last_commit_is_cut_off(tmp_path):
    with Ledger(tmp_path, FILES, {"x": 1}) as ledger:
        ledger.write("a.jsonl", b"1\n")
        ledger.commit(1, kept=1)
        ledger.write("a.jsonl", b"2\n")
        ledger.write("b.jsonl", b"3\n")
    with open(tmp_path / "ledger.jsonl", "ab") as stream:
        stream.write(b'{"done": 2, "si')
    with Ledger(tmp_path, FILES, {"x": 1}) as ledger:
        assert (ledger.done, ledger.notes) == (1, {"kept": 1})
        ledger.write("b.jsonl", b"4\n")
        ledger.commit(2)
    assert (tmp_path / "a.jsonl").read_bytes() == b"1\n"
    assert (tmp_path / "b.jsonl").read_bytes() == b"4\n"


def test_files_that_come_and_go(tmp_path):
    with Ledger(tmp_path, ("a.jsonl",), {}) as ledger:
        ledger.add("work/b")
        assert [ledger.write("work/b", b"12"), ledger.write("work/b", b"3")] == [0, 2]
        ledger.commit(1)
        ledger.write("work/b", b"4")
        ledger.flush()
        assert (tmp_path / "work" / "b").read_bytes() == b"1234"
    with Ledger(tmp_path, ("a.jsonl",), {}) as ledger:
        assert ledger.sizes == {"a.jsonl": 0}
        ledger.add("work/b")
        assert (tmp_path / "work" / "b").read_bytes() == b"123" and ledger.write("work/b", b"5") == 3
        ledger.commit(2)
        ledger.drop("work/b")
        ledger.drop("work/never")
        ledger.commit(3)
    assert not (tmp_path / "work" / "b").exists()
    with Ledger(tmp_path, ("a.jsonl",), {}) as ledger:
        assert ledger.done == 3
        ledger.add("work/b")
        assert ledger.sizes["work/b"] == 0


def test_another_header_a_second_process_and_files_of_others_are_refused(tmp_path):
    with Ledger(tmp_path, FILES, {"x": 1}) as ledger:
        with pytest.raises(UserError, match="in use by another process"):
            Ledger(tmp_path, FILES, {"x": 1})
        ledger.write("a.jsonl", b"1\n")
        ledger.commit(1)
    with pytest.raises(UserError, match="x 1 there, 2 here"):
        Ledger(tmp_path, FILES, {"x": 2})
    with Ledger(tmp_path / "failed", FILES, {"x": 1}) as ledger:
        ledger.write("a.jsonl", b"1\n")
    with Ledger(tmp_path / "failed", FILES, {"x": 2}) as ledger:  # nothing was committed
        ledger.commit(1)
    assert (tmp_path / "failed" / "a.jsonl").read_bytes() == b""
    with pytest.raises(UserError, match="x 2 there, 1 here"):
        Ledger(tmp_path / "failed", FILES, {"x": 1})
    many = {f"option {i}": i for i in range(9)}
    with pytest.raises(UserError, match="x 1 there, 2 here; option 0 None there, 0 here; .*; and 6 more"):
        Ledger(tmp_path, FILES, {"x": 2, **many})
    (tmp_path / "a.jsonl").write_bytes(b"")
    with pytest.raises(UserError, match="shorter"):
        Ledger(tmp_path, FILES, {"x": 1})
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.jsonl").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        Ledger(tmp_path / "new", FILES, {})
    assert (tmp_path / "new" / "a.jsonl").read_text() == "mine"
    with pytest.raises(UserError, match="a.jsonl: is there already"):
        Ledger(tmp_path / "new", ("b.jsonl",), {}, others=("a.jsonl",))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.jsonl"], "nothing is left there"
    with pytest.raises(UserError, match="a.jsonl: is a file; a folder is needed"):
        Ledger(tmp_path / "new" / "a.jsonl", FILES, {})


def test_a_disk_that_is_full_at_the_end_is_no_success(tmp_path, monkeypatch):
    """What is still in memory when the files are closed may find no place; an error before it is told first."""
    class Full:
        def close(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"), Ledger(tmp_path / "a", FILES, {}) as ledger:
        ledger.commit(1)
        monkeypatch.setitem(ledger.streams, "b.jsonl", Full())
    assert ledger.file.closed
    with pytest.raises(ZeroDivisionError), Ledger(tmp_path / "b", FILES, {}) as ledger:
        monkeypatch.setitem(ledger.streams, "b.jsonl", Full())
        raise ZeroDivisionError
    assert ledger.file.closed
