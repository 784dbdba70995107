"""Rotary embeddings against transformers: frequencies of every kind, and documents beyond the original context."""

import pytest

torch = pytest.importorskip("torch", reason="the reference implementations need torch")

import jax
import numpy as np
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import jitune
from jitune.models.config import ModelConfig
from jitune.models.rotary import frequencies
from tests.references import ATOL, CONFIGS, LLAMA3_ROPE, RTOL, make_tokens, make_weights, write_checkpoint

torch.set_num_threads(1)
SHORT, LONG = [1.0 + i / 40 for i in range(16)], [1.2 + i / 2 for i in range(16)]
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10_000.0}
LONGROPE = {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "rope_theta": 10_000.0}
KINDS = {
    "linear": {"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0},
    "llama3": {**LLAMA3_ROPE, "rope_theta": 10_000.0},
    "yarn": YARN,
    "yarn, not rounded": {**YARN, "truncate": False},
    "yarn, other betas": {**YARN, "beta_fast": 16, "beta_slow": 2, "attention_factor": 0.8},
    "yarn, DeepSeek's factors": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.3},
    "yarn, one factor alone": {**YARN, "mscale": 0.7},
    "yarn of a ratio": {**YARN, "factor": None},
    "yarn of no longer a context": {**YARN, "factor": 1.0},
    "yarn from the whole context": {k: v for k, v in YARN.items() if k != "original_max_position_embeddings"},
    "longrope": {**LONGROPE, "original_max_position_embeddings": 64},
    "longrope, a factor": {**LONGROPE, "original_max_position_embeddings": 64, "factor": 7.0},
    "longrope, its attention": {**LONGROPE, "original_max_position_embeddings": 64, "attention_factor": 1.5},
    "longrope, no longer": LONGROPE,
}


@pytest.mark.parametrize("kind", KINDS)
def test_frequencies(kind):
    config = transformers.AutoConfig.for_model(
        "llama", hidden_size=128, num_attention_heads=4, num_key_value_heads=4, num_hidden_layers=1,
        intermediate_size=32, vocab_size=32, max_position_embeddings=256, rope_parameters=dict(KINDS[kind]),
    )  # fmt: skip
    (rope,) = ModelConfig.from_hf(config.to_dict()).ropes
    for long in (False, True) if rope.kind == "longrope" else (False,):
        wanted, attention = ROPE_INIT_FUNCTIONS[rope.kind](config, "cpu", seq_len=300 if long else 10)
        if not long or rope.original_max_position < 256:
            np.testing.assert_allclose(frequencies(rope, 32, long=long), wanted.numpy(), 1e-6)
        assert rope.attention_factor == pytest.approx(attention)


@pytest.mark.parametrize("family", ["phi3", "llama"])
@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_which_original_context_counts(family, outside, inside):
    raw = {**CONFIGS["phi3"], "model_type": family, "rope_scaling": {
        "type": "longrope", "short_factor": SHORT[:8], "long_factor": LONG[:8]}}  # fmt: skip
    for key in ("sliding_window", "resid_pdrop", "original_max_position_embeddings"):
        raw.pop(key)
    if outside:
        raw["original_max_position_embeddings"] = 40
    if inside:
        raw["rope_scaling"] = {**raw["rope_scaling"], "original_max_position_embeddings": 50}
    (found,) = ModelConfig.from_hf(raw).ropes
    config = transformers.AutoConfig.for_model(**raw)
    config.standardize_rope_params()
    assert found.original_max_position == config.rope_parameters["original_max_position_embeddings"]


@pytest.mark.parametrize("case", ["llama3", "qwen3_yarn", "phi3_longrope"])
def test_documents_beyond_the_original_context(case, tmp_path):
    """Rows on either side of the switch of longrope, at 17 tokens, and far beyond all."""
    raw = {**CONFIGS[case], "max_position_embeddings": 512, "num_hidden_layers": 2}
    path = write_checkpoint(tmp_path, raw, make_weights(raw))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    loaded = jitune.load(path, dtype="float32")
    tokens = make_tokens(raw, 4, 300)
    segments = np.zeros_like(tokens)
    for row, length in enumerate((300, 16, 17, 18)):
        segments[row, 300 - length :] = 1
    run = jax.jit(lambda params: jitune.logits(loaded.model, params, tokens, segment_ids=segments))
    found = np.asarray(run(loaded.params))
    for row, length in enumerate((300, 16, 17, 18)):
        with torch.no_grad():
            wanted = theirs(torch.tensor(tokens[row : row + 1, -length:], dtype=torch.long)).logits[0].numpy()
        np.testing.assert_allclose(found[row, -length:], wanted, RTOL, ATOL)
