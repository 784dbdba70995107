"""jitune data teacher: what is stored is what the teacher says, a kill changes no byte, bad input is one line."""

import jax
import numpy as np
import pytest

import jitune
from jitune.construct.distill import teacher as teachers
from jitune.construct.distill.teacher import fill, write_stores
from jitune.data import token_store
from jitune.data.pipeline import prepare
from jitune.hub import fresh
from jitune.hub.tokenizer import load_tokenizer
from jitune.hub.vocabulary import vocabulary_digest
from jitune.objectives.loss import logits
from jitune.types import UserError

K = 5


@pytest.fixture(scope="module")
def teacher_path(tmp_path_factory, toy_model):
    path = tmp_path_factory.mktemp("teacher") / "llama"
    fresh.create(path, family="llama", preset="tiny", tokenizer_from=str(toy_model), seed=3)
    return path


@pytest.fixture
def config(toy_config, teacher_path, tmp_path):
    lines = open(toy_config.data.train).read().splitlines()
    for name, rows in (("train", lines[:30]), ("eval", lines[30:35])):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(rows) + "\n")
        toy_config.data[name] = str(path)
    toy_config.objective.teacher = str(teacher_path)
    return toy_config


def opened(folder, config, **options):
    tokenizer = load_tokenizer(config.model.path)
    prepared = prepare(config.data, tokenizer, config.seq_len, **options)
    return prepared, token_store.open_store(folder, prepared, vocabulary=vocabulary_digest(tokenizer), k=K)


def test_what_is_stored_and_a_run_that_was_killed(config, teacher_path, tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, "EVERY", 0.0)
    assert write_stores(config, tmp_path / "a", k=K) == [tmp_path / "a", tmp_path / "a/eval"]
    pretrained = jitune.load(teacher_path, dtype="float32")
    for folder, options in (("a", {}), ("a/eval", {"eval": True})):
        prepared, arrays = opened(tmp_path / folder, config, **options)
        (source,) = prepared.sources
        for i in (0, len(source) - 1):
            tokens = np.zeros((1, config.seq_len), np.int32)
            tokens[0, : len(source[i]["tokens"])] = source[i]["tokens"]
            logs = jax.nn.log_softmax(logits(pretrained.model, pretrained.params, tokens))[0]
            values, ids = jax.lax.top_k(logs, K)
            at = slice(source.offsets[i], source.offsets[i + 1])
            length = at.stop - at.start
            np.testing.assert_allclose(arrays["teacher_logprobs"][at], values[:length], atol=5e-5)
            assert (arrays["teacher_ids"][at] == ids[:length]).mean() > 0.99  # but for ties

    put, calls = teachers._put, []

    def killed(ledger, *rest):
        if len(calls) == 2:
            ledger.write("teacher_ids.bin", b"half of a batch")
            raise KeyboardInterrupt
        calls.append(1)
        put(ledger, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(teachers, "_put", killed)
        with pytest.raises(KeyboardInterrupt):
            write_stores(config, tmp_path / "b", k=K)
    with pytest.raises(UserError, match="not written to its end"):
        opened(tmp_path / "b", config)
    write_stores(config, tmp_path / "b", k=K)
    for name in ("teacher_ids.bin", "teacher_logprobs.bin", "header.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with pytest.raises(UserError, match="was written for something else"):
        write_stores(config, tmp_path / "b", k=K + 1)


def test_batches_follow_from_where_they_begin():
    documents = [np.arange(n) + 10 for n in (5, 3, 4, 8, 2, 1, 7)]
    whole = list(fill(iter(documents), 2, 8))
    assert [len(filled.places) for filled in whole] == [3, 3, 1]
    assert whole[0].places == [(0, 0, 5), (0, 5, 3), (1, 0, 4)]
    assert whole[0].batch["segment_ids"].tolist() == [[1] * 5 + [2] * 3, [1] * 4 + [0] * 4]
    assert whole[0].batch["positions"][0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    again = list(fill(iter(documents[len(whole[0].places) :]), 2, 8))
    for a, b in zip(whole[1:], again, strict=True):
        assert a.places == b.places
        np.testing.assert_array_equal(a.batch["tokens"], b.batch["tokens"])


def test_bad_input_is_one_line(config, tmp_path, toy_data):
    other = tmp_path / "other"
    fresh.create(other, family="llama", preset="tiny", tokenizer_from=str(toy_data), vocab_size=300)
    for name, value, message in (("teacher", "", "config.objective.teacher is not set"),
                                 ("teacher", str(tmp_path / "none"), "config.objective.teacher="),
                                 ("teacher", str(other), "need the same vocabulary; the teacher has")):  # fmt: skip
        config.objective[name] = value
        with pytest.raises(UserError, match=message):
            write_stores(config, tmp_path / "c", k=K)
    with pytest.raises(UserError, match="--k 0"):
        write_stores(config, tmp_path / "c", k=0)
    with pytest.raises(UserError, match="--batch_size -3: must be at least 1"):
        write_stores(config, tmp_path / "c", k=K, batch_size=-3)
    assert not (tmp_path / "c").exists()
