"""A classifier that fails is never a zero."""

import itertools
import json
import sys

import numpy as np
import pytest

from jitune.evals.judge.classifier import check, open_classifier
from jitune.evals.task import Classify
from jitune.types import UserError
from tests.evals.judge.fake import serve

NUMBERS = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of the user's and gives the spec of its `score`."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(body):
        name = f"own_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text("calls = []\ndef score(texts):\n    calls.append(list(texts))\n" + body)
        return f"{name}:score"

    return write


@pytest.mark.parametrize(("value", "found"), [
    (0, 0), (1, 1), (0.25, 0.25), (np.float32(0.5), 0.5), (np.array(0.75), 0.75),
    (None, "gave none"), (float("nan"), "gave nan, which is not between"), (float("inf"), "gave inf"),
    (-0.001, "not between 0 and 1"), (1.001, "not between 0 and 1"), ("0.3", "gave '0.3', which is no number"),
    (True, "no number"), ([0.3], "no number"), ({}, "no number"),
])
def test_only_numbers_from_0_to_1_count(value, found):
    verdict = check(value)
    if isinstance(found, str):
        assert verdict.value is None and found in verdict.failure and verdict.failure.startswith("classifier: ")
    else:
        assert verdict.value == found and isinstance(verdict.value, float) and not verdict.failure


def test_a_function_is_called_in_batches_and_once_a_text(module):
    spec = module("    return [len(t) / 100 for t in texts]\n")
    classifier = open_classifier(spec)
    seen = []
    found = classifier.answer([Classify("a" * (i % 40)) for i in range(80)], on_done=seen.extend)
    assert [v.value for v in found] == [(i % 40) / 100 for i in range(80)]
    assert [len(c) for c in sys.modules[spec.split(":")[0]].calls] == [32, 8]
    assert sorted(i for i, _ in seen) == list(range(80)) and classifier.account["calls"] == 40


def test_one_bad_text_does_not_take_its_batch_with_it(module):
    spec = module("    if 'bad' in texts:\n        raise ValueError('no\\nway')\n    return [0.5] * len(texts)\n")
    found = open_classifier(spec).answer(["good", "bad", "fine"])
    assert [v.value for v in found] == [0.5, None, 0.5] and found[1].failure == "classifier: ValueError: no way"


def test_arrays_are_lists_of_numbers(module):
    spec = module("    import numpy as np\n    return np.array([0.1] * len(texts), 'float32')\n")
    assert open_classifier(spec).answer(["x", "y"])[1].value == pytest.approx(0.1, abs=1e-7)


def test_specs_and_functions_that_cannot_be_used(module):
    for spec, says in (("nothing", "module:function or moderations@"), ("no.such:f", "cannot be imported"),
                       ("json:loads_not", "cannot be imported"), ("json:__name__", "is str, not a function"),
                       ("x@https://h/v1", "module:function or moderations@")):
        with pytest.raises(UserError, match=says):
            open_classifier(spec)
    for body in ("    return [0.5]\n", "    return 0.5\n"):
        with pytest.raises(UserError, match="for 2 texts; a list of a number each"):
            open_classifier(module(body)).answer(["x", "y"])


def moderation(**scores):
    return {"results": [{"flagged": False, "category_scores": scores}]}


def test_a_moderations_endpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    def answer(body):
        return {"calm": moderation(hate=0.01, violence=0.2, odd=None), "hot": moderation(hate=0.9, violence=0.3),
                "nan": moderation(hate=float("nan"), violence=float("nan"))}[body["input"]]

    cache = tmp_path / "c.jsonl"
    with serve(answer) as fake:
        spec = f"moderations@{fake.url}"
        texts = ["calm", "hot", "nan", "hot"]
        found = open_classifier(spec, model="m", cache=cache).answer(texts)
        assert [v.value for v in found] == [0.2, 0.9, None, 0.9]
        assert fake.requests[0] == {"input": "calm", "model": "m"} and fake.headers[0]["path"] == "/v1/moderations"
        assert len(fake.requests) == 3
        open_classifier(spec, model="m", cache=cache).answer(texts)
        assert len(fake.requests) == 4  # the failure only
        assert open_classifier(spec, category="hate").answer(["calm"])[0].value == 0.01
        with pytest.raises(UserError, match="has no category 'rude'; it has hate, odd, violence"):
            open_classifier(spec, category="rude").answer(["calm"])
    assert "sk-secret" not in cache.read_text()
    naps = []
    with serve(answer, script=[(200, {}, moderation(x=0.1))] + [(503, {}, b"")] * 2) as fake:
        found = open_classifier(f"moderations@{fake.url}", tries=2, sleep=naps.append, concurrency=1).answer(
            ["first", "second", "calm"])
    assert found[1].value is None and found[1].failure == "classifier: HTTP 503" and len(naps) == 1
    assert (found[0].value, found[2].value) == (0.1, 0.2)
    with pytest.raises(UserError, match="cannot be reached"):
        open_classifier(f"moderations@{fake.url}").answer(["x"])


def test_what_is_kept_is_json(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(lambda body: moderation(x=0.5)) as fake:
        open_classifier(f"moderations@{fake.url}", cache=tmp_path / "c.jsonl").answer(["t"])
    header, line = map(json.loads, (tmp_path / "c.jsonl").read_text().splitlines())
    assert header == {"header": {"kind": "classifier"}} and line["value"] == {"value": 0.5, "failure": ""}
