"""Perplexities by hand and as lm-evaluation-harness adds them up."""

import json
import math

import pytest

from jitune.evals import catalogue
from jitune.evals.task import LogLikelihood, Rolling
from jitune.evals.tasks import perplexity
from jitune.types import UserError


@pytest.fixture
def documents(tmp_path):
    texts = ["one two three", "vier fünf\nsechs  sieben acht", " leading"]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    return perplexity.load([str(tmp_path / "x.jsonl")])


def numbers(documents, *logprobs):
    answers = [(d, (LogLikelihood(v, False, 1),)) for d, v in zip(documents, logprobs, strict=True)]
    outcomes = [perplexity.score(document, responses, ()) for document, responses in answers]
    return {m.name: m.corpus(documents, outcomes) for m in perplexity.METRICS}, outcomes


def test_by_hand(documents):
    assert documents[0].requests == (Rolling("one two three"),)
    found, outcomes = numbers(documents[:1], -13 * math.log(2) * 3)  # 13 bytes, 3 words, 3 bits a byte
    assert found == pytest.approx({"bits_per_byte": 3, "byte_perplexity": 8, "word_perplexity": 2**13})
    assert outcomes[0].scores == {"bits_per_byte": pytest.approx(3)}


def test_as_lm_evaluation_harness(documents):
    tasks, metrics = pytest.importorskip("lm_eval.api.task"), pytest.importorskip("lm_eval.api.metrics")
    logprobs = (-12.5, -40.0, -3.25)
    words = [(v, tasks.PerplexityTask.count_words(d.row["text"])) for d, v in zip(documents, logprobs, strict=True)]
    sizes = [(v, tasks.PerplexityTask.count_bytes(d.row["text"])) for d, v in zip(documents, logprobs, strict=True)]
    found, _ = numbers(documents, *logprobs)
    assert found["word_perplexity"] == pytest.approx(metrics.weighted_perplexity(words))
    assert found["byte_perplexity"] == pytest.approx(metrics.weighted_perplexity(sizes))
    assert found["bits_per_byte"] == pytest.approx(metrics.bits_per_byte(sizes))


def test_beyond_a_float_there_is_no_number(documents):
    assert numbers(documents[:1], -1e6)[0]["word_perplexity"] is None


def test_what_is_refused(documents, tmp_path):
    for value in (math.nan, -math.inf):
        with pytest.raises(UserError, match="perplexity 0: the log-likelihood is"):
            numbers(documents[:1], value)
    (tmp_path / "y.jsonl").write_text('{"text": "a"}\n{"text": " "}\n')
    with pytest.raises(UserError, match="y.jsonl:2: text is white space"):
        perplexity.load([str(tmp_path / "y.jsonl")])


def test_a_text_file_is_one_text(tmp_path):
    (tmp_path / "book.txt").write_text("A whole book.\n")
    task = catalogue.find_task(f"perplexity:{tmp_path / 'book.txt'}")
    document, = task.load(task.hub)
    assert task.name == "perplexity:book.txt" and document.row["text"] == "A whole book.\n"
