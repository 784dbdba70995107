"""Runs on real instructions: honest losses, and a final model that is the same model in transformers."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference implementation is torch")

import transformers

import jitune
from jitune.cli import main
from tests.conftest import SHARED, once, run_cli

SFT = SHARED / "data" / "sft"
PROMPTS = ("Who are you?", "Give three tips for staying healthy.", "What is 2 + 2?", "Write a haiku about rain.")


@pytest.fixture(scope="module", params=["qwen3", "llama"])
def run(request, tmp_path_factory, shared):
    """`jitune init` and `jitune train` on two sources, evaluated on a third; the run's directory."""
    return once(tmp_path_factory, request.param, lambda folder: make_run(request.param, folder)) / "run"


def make_run(family: str, folder):
    train = f"{SFT / 'cherry_alpaca_5_percent.json'},{SFT / 'sharegpt_dummy_conversation.json'}"
    made = run_cli("init", "--family", family, "--preset", "tiny", "--vocab-size", 1024, "--tokenizer-from",
                   SFT / "cherry_alpaca_5_percent.json", "--out", folder / "model")
    assert made.returncode == 0, made.stderr
    options = {
        "model.path": folder / "model", "data.train": train, "data.weights": "0.7,0.3",
        "data.eval": SFT / "alpaca_en_demo.json", "seq_len": 512, "batch_size": 8, "steps": 60, "eval_every": 30,
        "optimizer.learning_rate": 5e-3, "optimizer.warmup_steps": 5, "loggers": "", "output_dir": folder / "run",
        "mesh.fsdp": 4, "mesh.tensor": 2,
    }
    trained = run_cli("train", *(f"--config.{k}={v}" for k, v in options.items()), devices=8, timeout=900)
    assert trained.returncode == 0, trained.stderr


@pytest.fixture(scope="module")
def reference(run):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        run / "final", dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def test_the_loss_falls_as_an_honest_runs_does(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows]
    assert abs(losses[0] - np.log(1024)) < 0.15  # a fresh model knows nothing
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    evaluated = [row["eval_loss"] for row in rows if "eval_loss" in row]
    assert evaluated[1] < evaluated[0] < losses[0]
    assert all(0.5 < row["supervised_share"] < 1 for row in rows)


def test_final_gives_the_same_logits_in_transformers(run, reference):
    tuned = jitune.load(run / "final", dtype="float32")
    tokenizer = transformers.AutoTokenizer.from_pretrained(run / "final")
    text = json.loads((SFT / "alpaca_en_demo.json").read_text())[0]["output"]
    tokens = tokenizer(text).input_ids[:200]
    assert tokens == tuned.tokenizer(text).input_ids[:200]
    with torch.no_grad():
        expected = reference(torch.tensor([tokens])).logits.numpy()
    found = jitune.logits(tuned.model, tuned.params, np.array([tokens]))
    np.testing.assert_allclose(found, expected, atol=5e-5, rtol=1e-4)


def test_greedy_generation_gives_the_same_tokens_in_transformers(run, reference, tmp_path):
    rows = [{"messages": [{"role": "user", "content": p}]} for p in PROMPTS]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    words = ["--model", run / "final", "--prompts", tmp_path / "p.jsonl", "--max_new_tokens", 40, "--temperature", 0,
             "--out", tmp_path / "out.jsonl"]
    assert main(["generate", *map(str, words)]) == 0
    found = [json.loads(line)["tokens"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    tokenizer = transformers.AutoTokenizer.from_pretrained(run / "final", padding_side="left")
    texts = [tokenizer.apply_chat_template(r["messages"], add_generation_prompt=True, tokenize=False) for r in rows]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    out = reference.generate(**batch, max_new_tokens=40, do_sample=False)[:, batch.input_ids.shape[1] :]
    for mine, theirs in zip(found, out.tolist(), strict=True):
        assert mine == theirs[: len(mine)]
        assert set(theirs[len(mine) :]) <= {tokenizer.pad_token_id}
