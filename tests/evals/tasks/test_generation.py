"""Generation against references: rows of all kinds, metrics of perfect, partial and empty answers."""

import json
import sys

import pytest

from jitune.evals import catalogue
from jitune.evals.task import Generated
from jitune.evals.tasks import generation
from jitune.types import UserError

pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score")
NAMES = {m.name for m in generation.METRICS if m.corpus is None}


def load(tmp_path, *found):
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return generation.load([str(tmp_path / "x.jsonl")])


def judge(document, text):
    return generation.score(document, (Generated(text, "stop", 1),), ())


@pytest.mark.parametrize(("row", "prompt", "references"), [
    ({"prompt": "p", "reference": "r"}, (("user", "p"),), ["r"]),
    ({"prompt": "p", "references": ["r", "s"]}, (("user", "p"),), ["r", "s"]),
    ({"instruction": "i", "input": "x", "output": "r"}, (("user", "i\n\nx"),), ["r"]),
    ({"instruction": "i", "input": "", "output": "r"}, (("user", "i"),), ["r"]),
    ({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"},
                   {"role": "assistant", "content": "r"}]}, (("system", "s"), ("user", "p")), ["r"]),
    ({"messages": [{"role": "user", "content": "p"}], "target": "r"}, (("user", "p"),), ["r"]),
])
def test_forms_of_rows(tmp_path, row, prompt, references):
    document, = load(tmp_path, row)
    assert document.requests[0].prompt == prompt and document.row["references"] == references


def test_perfect_and_empty_answers(tmp_path):
    documents = load(tmp_path, {"prompt": "p", "reference": "The quick brown fox jumps."},
                     {"prompt": "p", "references": ["我们今天去北京。"], "language": "zh"})
    perfect = [judge(d, d.target) for d in documents]
    for outcome in perfect:
        assert set(outcome.scores) == NAMES
        assert outcome.scores == pytest.approx(dict.fromkeys(NAMES, 1.0) | {"chrf": 100.0})
    assert generation.bleu(documents, perfect) == pytest.approx(100)
    empty = [judge(d, "") for d in documents]
    assert all(o.scores == dict.fromkeys(NAMES, 0.0) for o in empty)
    assert generation.bleu(documents, empty) == 0.0


def test_the_sets_bleu_is_sacrebleus(tmp_path):
    import sacrebleu

    texts = ["the dog bit the man today", "it was not surprising at all"]
    found = [["the dog bit the man", "a dog bit the man today"], ["it was not unexpected at all", "nobody was"]]
    documents = load(tmp_path, *({"prompt": "p", "references": r} for r in found))
    outcomes = [judge(d, t) for d, t in zip(documents, texts, strict=True)]
    expected = sacrebleu.corpus_bleu(texts, [list(column) for column in zip(*found, strict=True)]).score
    assert generation.bleu(documents, outcomes) == pytest.approx(expected)
    json.dumps([o.details for o in outcomes])


@pytest.mark.parametrize(("row", "message"), [
    ({"prompt": "p"}, "has no reference; one of references, reference"), ({"reference": "r"}, "has no field 'prompt'"),
    ({"prompt": "p", "reference": 3}, "reference is 3; a text, or a list of texts"),
    ({"prompt": "p", "references": ["r", ""]}, "references is"),
    ({"messages": [{"role": "assistant", "content": "r"}]}, "no question before the answer"),
])
def test_what_is_refused(tmp_path, row, message):
    with pytest.raises(UserError, match=rf"x.jsonl:2: .*{message}"):
        load(tmp_path, {"prompt": "p", "reference": "r"}, row)


def test_the_catalogue_makes_it(tmp_path, monkeypatch):
    (tmp_path / "mine.jsonl").write_text(json.dumps({"prompt": "p", "reference": "r"}))
    task = catalogue.find_task(f"generation:{tmp_path / 'mine.jsonl'}@32")
    assert task.name == "generation:mine.jsonl" and task.load(task.hub)[0].requests[0].max_new_tokens == 32
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(UserError, match=r"jitune\[eval\]"):
        generation.make("mine.jsonl")
