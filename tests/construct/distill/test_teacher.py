"""jitune data teacher: what is stored is what the teacher says, a kill changes no byte, bad input is one line."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import jitune
from jitune.construct.distill import teacher as teachers
from jitune.construct.distill.teacher import fill, write_stores
from jitune.data import token_store
from jitune.data.pipeline import prepare
from jitune.hub import fresh, peft
from jitune.hub.tokenizer import load_tokenizer
from jitune.hub.vocabulary import vocabulary_digest
from jitune.objectives.loss import logits
from jitune.transforms.lora import lora
from jitune.types import UserError
from tests.conftest import PATIENCE, QUICK, ROOT

K = 5
# Told to end after its second batch, of which the first is committed.
TOLD = """
import os, signal
from jitune.cli import run
from jitune.construct.distill import teacher
teacher.EVERY, put, calls = 0.0, teacher._put, []
def told(*given):
    put(*given)
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGTERM)
teacher._put = told
run()
"""


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


def said_of(model, params, documents, i, seq_len):
    """Log-probabilities of all next tokens of one document, by a model that sees it alone: [length, vocab]."""
    tokens = np.zeros((1, seq_len), np.int32)
    length = len(documents[i]["tokens"])
    tokens[0, :length] = documents[i]["tokens"]
    return jax.nn.log_softmax(logits(model, params, tokens))[0, :length]


def assert_stored(arrays, documents, i, logs):
    values, ids = jax.lax.top_k(logs, K)
    at = slice(documents.offsets[i], documents.offsets[i + 1])
    np.testing.assert_allclose(arrays["teacher_logprobs"][at], values, atol=5e-5)
    assert (arrays["teacher_ids"][at] == ids).mean() > 0.99  # but for ties


def test_what_is_stored_and_a_run_that_was_killed(config, teacher_path, tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, "EVERY", 0.0)
    assert write_stores(config, tmp_path / "a", k=K) == [tmp_path / "a", tmp_path / "a/eval"]
    pretrained = jitune.load(teacher_path, dtype="float32")
    for folder, options in (("a", {}), ("a/eval", {"eval": True})):
        prepared, arrays = opened(tmp_path / folder, config, **options)
        (source,) = prepared.sources
        for i in (0, len(source) - 1):
            logs = said_of(pretrained.model, pretrained.params, source, i, config.seq_len)
            assert_stored(arrays, source, i, logs)

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


def test_a_run_that_is_told_to_end_says_so_and_goes_on(config, tmp_path):
    config.data.eval = ""
    words = [f"--config.{name}={value}" for name, value in (
        ("model.path", config.model.path), ("data.train", config.data.train), ("seq_len", config.seq_len),
        ("batch_size", config.batch_size), ("loss_chunk", config.loss_chunk), ("mesh.fsdp", config.mesh.fsdp),
        ("objective.teacher", config.objective.teacher))]  # fmt: skip
    out = tmp_path / "out"
    flags = f"{PATIENCE} {QUICK} --xla_force_host_platform_device_count=8"
    done = subprocess.run([sys.executable, "-c", TOLD, "data", "teacher", "--out", out, "--k", str(K), *words],
                          cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True, text=True,
                          timeout=300)  # fmt: skip
    assert done.returncode == 143 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.splitlines()[-1] == "jitune: stopped; the same command goes on from here"
    count = json.loads((out / "ledger.jsonl").read_text().splitlines()[-1])["done"]
    prepared = prepare(config.data, load_tokenizer(config.model.path), config.seq_len)
    (source,) = prepared.sources
    assert 0 < count < len(source)
    size = int(source.offsets[count]) * K * 4
    first = (out / "teacher_logprobs.bin").read_bytes()[:size]
    assert len(first) == size
    write_stores(config, out, k=K)
    write_stores(config, tmp_path / "whole", k=K)
    found, wanted = (opened(tmp_path / name, config)[1]["teacher_logprobs"] for name in ("out", "whole"))
    assert found[: source.offsets[count]].tobytes() == first  # not asked for again
    np.testing.assert_allclose(found, wanted, atol=5e-5)


def test_an_adapter_teaches_with_its_base(config, teacher_path, tmp_path):
    pretrained, transform = jitune.load(teacher_path, dtype="float32"), lora(2, 4, select="q_proj/kernel")
    frozen, trainable = jax.jit(transform.init)(jax.random.key(0), pretrained.params)
    rng = np.random.default_rng(0)
    trainable = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), trainable)
    peft.save(tmp_path / "adapter", pretrained, transform, trainable, frozen=frozen, base=str(teacher_path))
    config.objective.teacher, config.data.train, config.data.eval = str(tmp_path / "adapter"), config.data.eval, ""
    write_stores(config, tmp_path / "out", k=K)
    prepared, arrays = opened(tmp_path / "out", config)
    (source,) = prepared.sources
    tuned = said_of(transform.apply(pretrained.model), (frozen, trainable), source, 0, config.seq_len)
    assert_stored(arrays, source, 0, tuned)
    base = said_of(pretrained.model, pretrained.params, source, 0, config.seq_len)
    assert abs(jax.lax.top_k(base, K)[0] - arrays["teacher_logprobs"][: len(base)]).max() > 1e-2
    said = token_store.read_header(tmp_path / "out")["teacher"]
    assert len(said["adapter"]) == 64 and said["path"] == str(tmp_path / "adapter")


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
    config.objective.teacher, config.model.dtype = config.model.path, "int4"
    with pytest.raises(UserError, match="config.model.dtype='int4' is not known; known are float32, bfloat16"):
        write_stores(config, tmp_path / "c", k=K)
    config.model.dtype = "float32"
    for name in ("seq_len", "batch_size", "loss_chunk"):
        before, config[name] = config[name], 0
        with pytest.raises(UserError, match=f"config.{name}=0 must be at least 1"):
            write_stores(config, tmp_path / "c", k=K)
        config[name] = before
    config.data.add_tokens = "<think>"
    with pytest.raises(UserError, match="tokens that the student alone has cannot be distilled"):
        write_stores(config, tmp_path / "c", k=K)  # no run could read the store
    assert not (tmp_path / "c").exists()
