"""A recording gives what was recorded, and says what is not in it."""

import json

import pytest

from jitune.generators.account import line
from jitune.generators.cached import Cached
from jitune.generators.call import Call, Lost, Reply, key, provenance
from jitune.generators.open import open_generator
from jitune.generators.replay import Replay
from jitune.types import UserError

CALLS = [Call("2 + 2 =", 4), Call((("user", "Name a prime."),), 9, 0.7, top_p=0.9, seed=4)]


class Source:
    """Says the prompt in capitals."""

    raw, shared = True, False

    def __init__(self, model="m", **identity):
        self.identity = {"kind": "local", "model": model, **identity}

    def check(self, call):
        pass

    def ask(self, calls, purse, keep, tell, proven):
        for i, call in enumerate(calls):
            reply = Reply(f"{self.identity['model']}: {call.prompt}", "stop", 3, 4)
            keep(i, reply)
            tell(i, reply)


def record(path, *models):
    found = []
    for model in models:
        generator = Cached(Source(model, digest=f"digest of {model}"), cache=path)
        found.append(generator.answer(CALLS))
        generator.close()
    return found


def test_a_recording_is_played_back_as_its_generator(tmp_path):
    path = tmp_path / "c.jsonl"
    (said,) = record(path, "m")
    before = path.read_bytes()
    replay = open_generator({"replay": str(path)})
    assert replay.answer(CALLS[::-1]) == said[::-1] and path.read_bytes() == before
    assert replay.identity == {"kind": "local", "model": "m", "digest": "digest of m"}
    assert provenance(replay.identity, CALLS[1], method="distillation").model_digest == "digest of m"
    for other in (Call("2 + 2 =", 5), Call("2 + 3 =", 4), Call(CALLS[1].prompt, 9, 0.7, top_p=0.9, seed=5)):
        with pytest.raises(UserError, match="c.jsonl: has no answer to '2|Name"):
            replay.answer([other])
    lost = open_generator({"replay": str(path), "replay_missing": "lost"})
    assert lost.answer([Call("2 + 2 =", 5), CALLS[0]]) == [Lost("failed", "not in the recording"), said[0]]
    assert lost.account["failed"] == 1 and lost.account["output_tokens"] == 4
    with path.open("ab") as file:
        file.write(b'{"key": "cut o')
    assert open_generator({"replay": str(path)}).answer(CALLS) == said


def test_of_several_models_one_is_chosen(tmp_path):
    path = tmp_path / "c.jsonl"
    a, b = record(path, "a", "b")
    assert open_generator({"replay": str(path), "model": "b"}).answer(CALLS) == b
    assert open_generator({"replay": str(path)}).answer(CALLS) == a
    with pytest.raises(UserError, match="has no answers of 'c'; it has those of a, b"):
        open_generator({"replay": str(path), "model": "c"})


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "c.jsonl"
    for text, expected in (("", "is empty"), ("hello\n", "is no file of generations"),
                           (json.dumps({"header": {"kind": "judge"}}) + "\n", "is no file of generations"),
                           (json.dumps({"header": {"kind": "generations"}}) + "\n", "does not say who answered")):
        path.write_text(text)
        with pytest.raises(UserError, match=expected):
            open_generator({"replay": str(path)})
    with pytest.raises(UserError, match="replay_missing"):
        open_generator({"replay": str(path), "replay_missing": "x"})


def test_a_function_is_a_generator():
    replay = Replay(lambda call: Lost("filtered") if "bad" in call.prompt else call.prompt.upper())
    seen = []
    assert replay.answer([Call("a b"), Call("bad")], seen.extend) == [Reply("A B", "stop", None, 2), Lost("filtered")]
    assert [i for i, _ in seen] == [0, 1] and replay.asked[1].prompt == "bad"
    assert line(replay.account) == "replay: 1 answers, 1 failed; 0 tokens in, 2 out"


def test_what_a_key_is_of():
    who = {"kind": "local", "model": "here", "digest": "d"}
    cold, hot = Call("Hi"), Call("Hi", temperature=0.7)
    assert key(who, cold) == key(who, Call("Hi", seed=9, temperature=0, top_p=1)) != key(who, hot)
    assert key(who, hot) != key(who, Call("Hi", temperature=0.7, seed=1))
    assert key({**who, "model": "there"}, cold) == key(who, cold) != key({**who, "digest": "e"}, cold)
    assert key({"kind": "endpoint", "model": "a"}, cold) != key({"kind": "endpoint", "model": "b"}, cold)
    assert key(who, Call("Hi", max_tokens=3)) != key(who, cold) != key(who, Call((("user", "Hi"),)))
