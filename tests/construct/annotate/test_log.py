"""The log: what a kill leaves, what counts once, what a full disk does, and who may not write."""

import errno
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.annotate.log import Log, load
from jitune.types import UserError

HEADER = {"items": 3, "digest": "d"}


def answer(event, item="a", value=1, name="ann"):
    return {"kind": "answer", "event": event, "annotator": name, "item": item, "state": "done",
            "answers": {"rating": {"state": "labelled", "value": value}}}


def test_answers_come_back_and_later_ones_count(tmp_path):
    with Log(tmp_path / "log") as log:
        log.start(HEADER)
        assert log.append(answer("1", value=1)) and log.append(answer("2", value=2)) and not log.append(answer("2"))
        log.append({"kind": "draft", "event": "3", "annotator": "ann", "item": "b", "draft": {"answer": "h\u00f6"}})
        log.append({"kind": "answer", "event": "4", "annotator": "bo", "item": "a", "state": "skipped"})
    with Log(tmp_path / "log") as log:
        log.start(HEADER)
        assert log.latest("ann", "a")["answers"]["rating"]["value"] == 2 and log.latest("ann", "b") is None
        assert log.draft("ann", "b")["draft"] == {"answer": "h\u00f6"}
        assert [log.marks.state(*who) for who in (("ann", "a"), ("bo", "a"), ("cy", "a"))] == ["l", "s", "."]
        log.append({"kind": "undo", "event": "5", "annotator": "ann", "item": "a"})
        assert log.latest("ann", "a")["answers"]["rating"]["value"] == 1  # what was there before
        log.append({"kind": "undo", "event": "6", "annotator": "ann", "item": "a"})
        assert log.latest("ann", "a") is None and log.marks.recent["ann"] == []
    assert len((tmp_path / "log").read_bytes().splitlines()) == 7  # nothing is ever taken out


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_log_cut_off_anywhere_holds_all_whole_lines(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "log"
    with Log(path) as log:
        log.start(HEADER)
        for i in range(4):
            log.append(answer(str(i), item=f"item {i}", value="x\u2028" * i))
    data = path.read_bytes()[: cut % (path.stat().st_size + 1)]
    path.write_bytes(data)
    whole = max(0, data.count(b"\n") - 1)
    if b"\n" in data:
        assert len(load(path)[1].events) == whole and path.read_bytes() == data  # reading changes nothing
    with Log(path) as log:
        log.start(HEADER)
        assert len(log.marks.events) == whole
        log.append(answer("new", item="more"))
    lines = path.read_bytes().splitlines()
    assert len(lines) == whole + 2 and all(map(json.loads, lines))


def test_a_second_writer_is_kept_out(tmp_path):
    with Log(tmp_path / "log") as log:
        log.start(HEADER)
        with pytest.raises(UserError, match="another server writes this log"):
            Log(tmp_path / "log")


class Full:
    """A disk with room for ten more bytes."""

    def __init__(self, file):
        self.file, self.room = file, 10

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room = 0
        return self.file.write(bytes(data[:10]))

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_leaves_no_half_line(tmp_path):
    with Log(tmp_path / "log") as log:
        log.start(HEADER)
        log.append(answer("1"))
        before, disk = (tmp_path / "log").read_bytes(), log.file
        log.file = Full(disk)
        with pytest.raises(OSError, match="No space left"):
            log.append(answer("2"))
        assert log.file.room == 0 and (tmp_path / "log").read_bytes() == before and "2" not in log.marks.events
        log.file = disk
        assert log.append(answer("2"))  # the same event, once there is room
    assert load(tmp_path / "log")[1].events == {"1", "2"}


@pytest.mark.parametrize(("text", "what"), [
    ('{"header": {}}\n', "log:1: is not a log of annotations"),
    ("id,text\n1,a\n", "log:1: is not a log of annotations"),
    ("a text", "log:1: is not a log of annotations"),
    ('{"annotations": {"format": 9}}\n', "log:1: is a log of a format"),
    ('{"annotations": {"format": 1}}\n{"kind": "answer"}\n', "log:2: is not a line of a log"),
])
def test_what_is_no_log_is_left_alone(tmp_path, text, what):
    (tmp_path / "log").write_text(text)
    with pytest.raises(UserError, match=what):
        Log(tmp_path / "log")
    assert (tmp_path / "log").read_text() == text


def test_a_log_of_another_file_is_refused(tmp_path):
    with Log(tmp_path / "log") as log:
        log.start(HEADER)
        log.append(answer("1"))
    with Log(tmp_path / "log") as log, pytest.raises(UserError, match="\\(the file's records are others now\\)"):
        log.start({**HEADER, "digest": "e"})


def test_a_log_in_which_nobody_said_anything_can_be_begun_anew(tmp_path):
    for header in (HEADER, HEADER, {**HEADER, "digest": "e"}):
        with Log(tmp_path / "log") as log:
            log.start(header)
            assert log.header == {"format": 1, **header}
    with Log(tmp_path / "log") as log:
        log.append(answer("1"))
    header, marks = load(tmp_path / "log")
    assert header["digest"] == "e" and marks.events == {"1"}


def test_a_log_that_was_never_begun_leaves_no_file(tmp_path):
    Log(tmp_path / "log").close()
    assert list(tmp_path.iterdir()) == []
