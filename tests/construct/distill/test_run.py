"""A run's folder: whatever kills it on the way, it ends as the uninterrupted one, and pays for nothing twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from jitune.construct.distill import asking, card, folder, respond, table
from jitune.construct.distill.run import distill, goes_on, summary
from jitune.construct.ledger import Ledger
from jitune.data.record_rows import from_row
from jitune.generators.cached import Cached
from jitune.generators.call import Call, Lost, Reply, key
from jitune.generators.purse import Purse
from jitune.generators.replay import Replay
from jitune.types import UserError
from tests.conftest import ROOT
from tests.construct.distill.made import config, read, seeds, teacher, write
from tests.evals.judge.fake import reply, serve

METHODS = {
    "respond": {"respond__n": 2, "respond__systems": "Be brief.|Be long."},
    "self_instruct": {"self_instruct__count": 40, "self_instruct__requests": 2},
    "alpaca": {"alpaca__count": 30, "alpaca__requests": 2},
}
FILES = ("kept.jsonl", "rejected.jsonl", "memory.jsonl")


class Killed(BaseException):
    """As if the process ended here."""


class Source:
    """Answers a call as `teacher` does, and counts what is paid for."""

    identity, raw, shared, free = {"kind": "fake", "model": "a-teacher"}, True, False, False

    def __init__(self, paid: Counter, answer=teacher):
        self.paid, self.answer = paid, answer

    def check(self, call) -> None:
        """All calls can be asked."""

    def ask(self, calls, purse, keep, tell, proven) -> None:
        """One after the other."""
        for n, call in enumerate(calls):
            said = self.answer(call)
            said = Reply(said, "stop", 10, 10) if isinstance(said, str) else said
            used = (said.input_tokens, said.output_tokens) if isinstance(said, Reply) else (0, 0)
            if not purse.reserve(*used, wait=False):
                tell(n, Lost("budget"))
                continue
            purse.settle(*used, used=used)
            if isinstance(said, Reply):
                self.paid[key(self.identity, call)] += 1
                keep(n, said)
            tell(n, said)


def inputs(tmp_path):
    """Prompts, which are seeds as well; one row is broken."""
    path = tmp_path / "seeds.jsonl"
    return path if path.exists() else write(path, [*seeds(20), "{broken"])


def run(tmp_path, name: str, method: str, paid: Counter, *, purse=None, answer=teacher, **options):
    """A run with a cache of its own; returns its folder."""
    out = tmp_path / name
    generator = Cached(Source(paid, answer), cache=out / "generations.jsonl", purse=purse)
    try:
        return distill(config(method, out, input=inputs(tmp_path), **{**METHODS[method], **options}),
                       teacher=generator)
    finally:
        generator.close()


def outputs(path) -> dict[str, bytes]:
    """What must be the same."""
    return {name: (path / name).read_bytes() for name in FILES}


def dying(monkeypatch, rng: random.Random):
    """Lets the run die at the next of many places: as an answer comes, or before, within or behind a commit."""
    left = [rng.randrange(1, rng.choice((10, 60, 200)))]

    def count():
        left[0] -= 1
        if not left[0]:
            raise Killed

    def wrap(owner, name, *, after: bool):
        plain = getattr(owner, name)

        def wrapped(*given, **options):
            count()
            found = plain(*given, **options)
            if after:
                count()
            return found

        monkeypatch.setattr(owner, name, wrapped)

    wrap(Ledger, "commit", after=True)
    wrap(Ledger, "write", after=False)
    wrap(asking.Asking, "_looked_at", after=False)
    wrap(folder.State, "step", after=True)
    plain = Source.ask
    monkeypatch.setattr(Source, "ask", lambda self, calls, purse, keep, tell, proven: plain(
        self, calls, purse, lambda n, said: (keep(n, said), count()), tell, proven))


def run_until_it_ends(tmp_path, name: str, method: str, paid: Counter, rng: random.Random, monkeypatch):
    """(the folder, how often it was killed on the way)."""
    for kills in range(400):
        with monkeypatch.context() as patch:
            dying(patch, rng)
            try:
                return run(tmp_path, name, method, paid), kills
            except Killed:
                pass
    raise AssertionError("it never ends")


@pytest.mark.parametrize("method", METHODS)
def test_killed_anywhere_it_ends_the_same(tmp_path, method, monkeypatch):
    monkeypatch.setattr(respond, "AT_ONCE", 6)
    once, rng, total = Counter(), random.Random(method), 0
    whole = run(tmp_path, "whole", method, once)
    assert len(read(whole / "kept.jsonl")) > 10 and set(once.values()) == {1}
    for trial in range(4):
        paid = Counter()
        found, kills = run_until_it_ends(tmp_path, f"killed {trial}", method, paid, rng, monkeypatch)
        assert outputs(found) == outputs(whole) and paid == once
        result = [json.loads((path / "funnel.json").read_text()) for path in (found, whole)]
        for name in ("records", "reasons", "unread", "before", "after", "inputs"):
            assert result[0][name] == result[1][name]
        total += kills
    assert total > 5


@pytest.mark.parametrize("method", METHODS)
def test_the_counts_are_those_of_the_files(tmp_path, method):
    path = run(tmp_path, "out", method, Counter())
    result, kept, rejected = json.loads((path / "funnel.json").read_text()), read(path / "kept.jsonl"), read(
        path / "rejected.jsonl")
    counts = result["records"]
    assert (counts["kept"], counts["read"], counts["malformed"]) == (len(kept), 21, 1)
    assert result["reasons"] == Counter(row["reason"] for row in rejected if row["stage"] == method)
    assert result["unread"] == {"json": 1} and counts["rejected"] == len(rejected) - 1
    assert sum(result["after"]["prompt"].values()) == len(kept) and result["after"]["model"] == {
        "a-teacher": len(kept)}
    ids = [row["id"] for row in kept]
    assert len(set(ids)) == len(ids)
    for row in kept:
        record = from_row(row, ("kept", 1))
        assert record.provenance.prompt_hash and record.provenance.parents and record.provenance.steps
    told = summary(path)
    assert f"{len(kept):,} kept" in told and "a-teacher" in told


def test_a_budget_stops_it_and_a_larger_one_goes_on(tmp_path):
    whole, paid = Counter(), Counter()
    expected = outputs(run(tmp_path, "whole", "self_instruct", whole))
    sizes, ended = [], "the budget is spent"
    for tokens in (1500, 4000, 100_000):
        path = run(tmp_path, "capped", "self_instruct", paid, purse=Purse(tokens=tokens))
        result = json.loads((path / "funnel.json").read_text())
        sizes.append(result["records"]["kept"])
        assert result["ended"] == (ended if tokens < 100_000 else "")
        assert goes_on(path) == (tokens < 100_000) == ("goes on from here" in summary(path))
        assert (ended in (path / "card.md").read_text()) == (tokens < 100_000)
        account = result["generators"]["teacher"]["account"]
        assert account["earlier_tokens"] + account["input_tokens"] + account["output_tokens"] <= tokens
    assert 0 < sizes[0] < sizes[1] < sizes[2]  # what was paid for is there at once
    assert outputs(path) == expected and paid == whole


def test_an_endpoint_that_keeps_failing_stops_it(tmp_path):
    paid, down = Counter(), [True]

    def answer(call):
        return Lost("failed", "HTTP 500") if down[0] and len(paid) >= 30 else teacher(call)

    path = run(tmp_path, "out", "respond", paid, answer=answer)
    result = json.loads((path / "funnel.json").read_text())
    assert result["ended"].startswith("10 calls failed in a row; the last: HTTP 500")
    assert result["reasons"]["failed"] == 10 and result["records"]["kept"] > 0
    down[0] = False
    again = run(tmp_path, "out", "respond", paid, answer=answer)
    assert outputs(again) == outputs(run(tmp_path, "whole", "respond", Counter()))
    assert set(paid.values()) == {1}


def test_what_a_template_refuses_does_not_stop_a_model_of_ones_own():
    for kind, why in (("local", ""), ("endpoint", "10 calls failed in a row; the last: no system")):
        ask = asking.Asking(Replay(lambda call: Lost("failed", "no system"), identity={"kind": kind}))
        assert {one.reason for one in ask([Call("Hi", seed=i) for i in range(12)])} == {"failed"} and ask.why == why


def test_another_run_is_not_mixed_in(tmp_path):
    path = run(tmp_path, "out", "respond", Counter())
    before = outputs(path)
    with pytest.raises(UserError, match=r"was written for something else \(config.respond.temperature 0.7 there, 0.1"):
        run(tmp_path, "out", "respond", Counter(), respond__temperature=0.1)
    with pytest.raises(UserError, match="written for something else .*; teacher.model 'a-teacher' there, 'another'"):
        distill(config("respond", path, input=inputs(tmp_path), **METHODS["respond"]),
                teacher=Replay(teacher, name="another"))
    assert outputs(path) == before
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/kept.jsonl").write_text("mine")
    with pytest.raises(UserError, match="kept.jsonl: is there already"):
        distill(config("respond", tmp_path / "taken", input=inputs(tmp_path)), teacher=Replay(teacher))
    assert os.listdir(tmp_path / "taken") == ["kept.jsonl"]


def test_a_method_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "shouting.py").write_text(
        "from jitune.construct.distill.method import Step\n"
        "from jitune.data.record import Record\n"
        "def defaults():\n    return {'mark': '!'}\n"
        "def run(given):\n"
        "    yield Step([Record('', text=((r.messages[0]['content'].upper() + given.options.mark, 1.0),))\n"
        "                for r in given.records])\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "shouting.py").rename(tmp_path / "own/shouting.py")
    monkeypatch.syspath_prepend(tmp_path)
    given = config("own.shouting", tmp_path / "out", input=inputs(tmp_path), shouting__mark="?")
    rows = read(distill(given, teacher=Replay(teacher)) / "kept.jsonl")
    assert len(rows) == 20 and rows[0]["text"].startswith("TELL ME") and rows[0]["text"].endswith("?")
    with pytest.raises(UserError, match="config.method='respnd' is not known; the nearest are respond"):
        table.load("respnd")
    with pytest.raises(UserError, match="config.method: jitune.types has no defaults"):
        table.load("jitune.types")


def test_the_page_shows_what_models_say_as_text(tmp_path):
    nasty = "<script>alert(1)</script> & \u202eevil"
    data = write(tmp_path / "in.jsonl", [{"prompt": f"{nasty} {i}"} for i in range(4)])
    path = distill(config("respond", tmp_path / "out", input=data), teacher=Replay(
        lambda call: nasty if call.prompt[-1][1].endswith("2") else f"{nasty} " * 100))
    page = (path / "report.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page and "\u202e" not in page
    assert json.loads((path / "funnel.json").read_text())["reasons"] == {"loop": 3}


def cli(tmp_path, out: str, url: str, *words: str) -> subprocess.Popen:
    """The command in a process of its own, against an endpoint."""
    return subprocess.Popen(
        [sys.executable, "-m", "jitune", "data", "distill", "--config", "respond", f"--config.input={inputs(tmp_path)}",
         f"--config.output_dir={tmp_path / out}", f"--config.teacher.model=m@{url}", "--config.respond.n=3",
         "--config.teacher.concurrency=1", "--config.teacher.key_env=A_KEY", "--config.teacher.prices=1,2", *words],
        cwd=ROOT, env={**os.environ, "A_KEY": "sk-not-to-be-seen", "JAX_PLATFORMS": "cpu"}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)  # fmt: skip


def test_the_command_against_an_endpoint_is_killed_and_goes_on(tmp_path):
    def answer(body):
        time.sleep(0.02)
        text = json.dumps([body["messages"], body.get("seed")], sort_keys=True)
        return reply("I'm sorry, but I can't help with that." if "number 7" in text else
                     f"Answer {random.Random(text).random()} to it.", usage=(30, 10))

    with serve(answer) as fake:
        whole = cli(tmp_path, "whole", fake.url)
        out, err = whole.communicate(timeout=60)
        assert whole.returncode == 0 and "57 kept" in out and "3 refusal" in out, err
        asked = len(fake.requests)
        assert asked == 60
        for number, how in enumerate((signal.SIGKILL, signal.SIGTERM)):
            process = cli(tmp_path, "killed", fake.url)
            until = asked + 15 * (number + 1)
            while len(fake.requests) < until and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(how)
            _, err = process.communicate(timeout=60)
            assert process.returncode in ((-9,) if how == signal.SIGKILL else (143,)), err
        assert "jitune: stopped; the same command goes on from here" in err
        last = cli(tmp_path, "killed", fake.url)
        out, err = last.communicate(timeout=60)
        assert last.returncode == 0, err
        # What was on its way as the process was killed is not known to have been paid for: one call each time.
        assert len(fake.requests) - asked <= 60 + 2
    for name in FILES:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    result = json.loads((tmp_path / "killed/funnel.json").read_text())
    account = result["generators"]["teacher"]["account"]
    assert account["cost"] + account["earlier_cost"] == pytest.approx(60 * (30 + 2 * 10) / 1e6)
    for path in (tmp_path / "killed").iterdir():
        assert "sk-not-to-be-seen" not in path.read_text(), path
    assert "sk-not-to-be-seen" not in out + err


def test_an_input_of_broken_rows_alone_is_one_error(tmp_path):
    data = write(tmp_path / "in.jsonl", ["{broken", "[1,"])
    with pytest.raises(UserError, match=r"in.jsonl:1: not valid JSON: .*; none of 2 rows of config.input can be read"):
        distill(config("respond", tmp_path / "out", input=data), teacher=Replay(teacher))


def test_a_file_in_the_place_of_the_folder_is_one_error(tmp_path):
    data = write(tmp_path / "in.jsonl", [{"prompt": "Hi"}])
    with pytest.raises(UserError, match="in.jsonl: is a file; a folder is needed"):
        distill(config("respond", data, input=data), teacher=Replay(teacher))


def test_what_failed_can_be_asked_alone_in_a_new_folder(tmp_path):
    """As the summary says."""
    down = [True]

    def answer(call):
        number = int(call.prompt[-1][1].split()[4])
        return Lost("failed", "HTTP 500") if down[0] and number in (2, 4) else f"It is fact {number} of them."

    paid = Counter()
    first = run(tmp_path, "first", "respond", paid, answer=answer, respond__n=1, respond__systems="", limit=6)
    assert "2 answers failed; a new folder with a copy of the files generations*.jsonl" in summary(first)
    (tmp_path / "second").mkdir()
    (tmp_path / "second/generations.jsonl").write_bytes((first / "generations.jsonl").read_bytes())
    down[0] = False
    second = run(tmp_path, "second", "respond", paid, answer=answer, respond__n=1, respond__systems="", limit=6)
    assert set(paid.values()) == {1} and len(read(second / "kept.jsonl")) == len(paid) == 6
    assert "answers failed" not in summary(second)


@pytest.mark.parametrize("second, who", [("", "large"), ("m/large", "large"), ("m/judge", "large, with judge,")])
def test_the_card_names_both_models(second, who):
    models = {"teacher": "models/large"} | ({"second": second} if second else {})
    result = {"records": {"kept": 2}, "inputs": [], "method": "magpie",
              "generators": {name: {"identity": {"model": model}} for name, model in models.items()}}
    assert card.opening(result) == f"2 records that {who} wrote by the method magpie."


def test_models_that_change_on_the_way_are_told(tmp_path):
    names = iter(f"m-{n}" for n in range(99))
    path = run(tmp_path, "out", "respond", Counter(), limit=3, respond__n=1,
               answer=lambda call: Reply("A fine and long answer to it.", "stop", 5, 5, next(names)))
    words = "Not one model but 3 answered as the teacher, by what its endpoint says: m-0, m-1, m-2."
    assert words in (path / "card.md").read_text() and words in (path / "report.html").read_text()
