"""Tiny models with random weights, the same in every test and in the golden files: configs and arrays by HF names.

    raw = CONFIGS["qwen3"]                      # a config.json as the hub has it
    write_checkpoint(path, raw, make_weights(raw))

Norm scales and biases are random too: at their initial 1 and 0 mistakes in their use would not show.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np

ATOL, RTOL = 5e-5, 1e-4  # logits against torch, float32
LOSS = 1e-5
GRADIENT = 1e-4  # norm of the difference, relative to the norm


def _config(family: str, **changes) -> dict:
    sizes = {
        "model_type": family, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 160, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "float32",
        "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    if family not in ("llama", "mistral", "qwen2", "qwen3"):
        sizes["pad_token_id"] = None  # torch gives the row of a pad no gradient, and some have one by default
    return {**sizes, **changes}


LLAMA3_ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
CONFIGS = {
    "llama2": _config("llama", num_key_value_heads=4, rms_norm_eps=1e-6),
    # Of its 8 frequencies 2 are kept, 2 smoothed and 4 divided by 8.
    "llama3": _config("llama", rope_theta=300.0, rope_scaling=LLAMA3_ROPE, attention_bias=True, mlp_bias=True,
                      rms_norm_eps=1e-3),
    "smollm2": _config("llama", tie_word_embeddings=True, rope_theta=100000.0, num_attention_heads=3,
                       num_key_value_heads=1, hidden_size=48, vocab_size=151),
    "llama_linear": _config("llama", rope_scaling={"rope_type": "linear", "factor": 4.0}, head_dim=24),
    "mistral": _config("mistral", sliding_window=7, head_dim=24),
    "mistral_full": _config("mistral", sliding_window=None, rope_theta=1e6),
    "qwen2": _config("qwen2", use_sliding_window=False, sliding_window=8, max_window_layers=1),
    "qwen2_sliding": _config("qwen2", use_sliding_window=True, sliding_window=9, max_window_layers=2,
                             num_hidden_layers=4, tie_word_embeddings=True),
    "qwen3": _config("qwen3", head_dim=32, tie_word_embeddings=True, rope_theta=1e6, rms_norm_eps=1e-3),
    "qwen3_sliding": _config("qwen3", head_dim=8, attention_bias=True, use_sliding_window=True, sliding_window=5,
                             max_window_layers=1),
    # Of its 16 frequencies 1 is kept, and more than half are divided by 4.
    "qwen3_yarn": _config("qwen3", head_dim=32, rope_scaling={
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 8}),
    # Caps of the size of the scores and logits, so that they bend them.
    "gemma2": _config("gemma2", hidden_size=48, head_dim=24, sliding_window=7, query_pre_attn_scalar=20,
                      attn_logit_softcapping=4.0, final_logit_softcapping=3.0, tie_word_embeddings=True,
                      hidden_activation="gelu_pytorch_tanh", cache_implementation="hybrid"),
    "gemma3": _config("gemma3_text", hidden_size=48, head_dim=16, sliding_window=6, sliding_window_pattern=3,
                      num_hidden_layers=4, query_pre_attn_scalar=24, tie_word_embeddings=True, rope_theta=1000.0,
                      rope_local_base_freq=100.0, rope_scaling={"rope_type": "linear", "factor": 8.0}),
    "phi3": _config("phi3", sliding_window=9, resid_pdrop=0.0, original_max_position_embeddings=4096),
    # Short and long documents of the packed rows turn differently; 12 of 16 features turn at all.
    "phi3_longrope": _config("phi3", partial_rotary_factor=0.75, tie_word_embeddings=True, rope_scaling={
        "type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.5, 2.0, 2.5],
        "long_factor": [1.1, 1.5, 2.5, 4.0, 6.0, 9.0]}, original_max_position_embeddings=17),
    "smollm3": _config("smollm3", num_hidden_layers=4, no_rope_layer_interval=2, use_sliding_window=True,
                       sliding_window=9, tie_word_embeddings=True, pretraining_tp=2),
    "olmo2": _config("olmo2", attention_bias=True, rms_norm_eps=1e-3),
    "gpt2": {"model_type": "gpt2", "n_embd": 48, "n_layer": 3, "n_head": 3, "n_positions": 64, "n_ctx": 64,
             "vocab_size": 160, "tie_word_embeddings": True, "attn_pdrop": 0.1, "resid_pdrop": 0.1, "embd_pdrop": 0.1,
             "layer_norm_epsilon": 1e-3, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"},
    "mixtral": _config("mixtral", intermediate_size=40, num_local_experts=4, num_experts_per_tok=2, sliding_window=9,
                       router_aux_loss_coef=0.5, rope_theta=1e6),
    "qwen2_moe": _config("qwen2_moe", num_experts=5, num_experts_per_tok=2, moe_intermediate_size=24,
                         shared_expert_intermediate_size=40, norm_topk_prob=False, router_aux_loss_coef=0.3),
    "qwen3_moe": _config("qwen3_moe", head_dim=24, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=16,
                         norm_topk_prob=True, router_aux_loss_coef=0.4, max_window_layers=3, decoder_sparse_step=1),
}  # fmt: skip
# One row of one document, and one of two with padding before and between them, as left-padded and packed rows have.
GOLDEN_SEGMENTS = np.array([[1] * 40, [0] * 5 + [1] * 14 + [2] * 20 + [0]], np.int32)
GOLDEN_POSITIONS = ((0, 2), (0, 39), (1, 18), (1, 38))
# In these every difference of a family is found; the others take their time where a difference could show.
DIFFERENT_CASES = ("llama3", "gemma2", "gemma3", "phi3_longrope", "smollm3", "olmo2", "gpt2", "qwen2_moe")
EXPERT_CASES = ("mixtral", "qwen2_moe", "qwen3_moe")
EXPERT_NAMES = ("w1", "w3", "w2"), ("gate_proj", "up_proj", "down_proj")  # Mixtral's, and those of the others


def shapes(raw: dict) -> dict[str, tuple[int, ...]]:
    """The tensors of a checkpoint as Hugging Face stores them, by its family's names, all of which it must know."""
    from jitune import tree
    from jitune.hub import stored, weights
    from jitune.models.config import ModelConfig
    from jitune.models.names import names

    config = ModelConfig.from_hf(raw)
    leaves = tree.flatten(weights.abstract_params(config))
    held = stored.holders(names(config), {path: leaf.shape for path, leaf in leaves.items()})
    return {name: one.shape for name, one in held.items()}


def gradients(model) -> dict[str, np.ndarray]:
    """The gradients of a torch model by the names of tensors on disk, where every expert has tensors of its own."""
    found, mixtral = {}, model.config.model_type == "mixtral"
    gate, up, down = EXPERT_NAMES[0 if mixtral else 1]
    for name, parameter in model.named_parameters():
        grad, name = parameter.grad.numpy(), name.replace(".mlp.", ".block_sparse_moe.") if mixtral else name
        if ".experts." not in name:
            found[name] = grad
            continue
        stem, _, kind = name.rpartition(".")
        for e, own in enumerate(grad):
            parts = np.split(own, 2) if kind == "gate_up_proj" else [own]
            names = (gate, up) if kind == "gate_up_proj" else (down,)
            found |= {f"{stem}.{e}.{n}.weight": part for n, part in zip(names, parts, strict=True)}
    return found


def make_weights(raw: dict, seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 tensors; each depends on the seed and its own name only."""
    from jitune.models.families import FAMILIES

    counts_from_one = FAMILIES[raw["model_type"]].norm == "rms_plus_one"

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        noise = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape, np.float32)
        if name.endswith("bias"):
            return noise * np.float32(0.3)
        if len(shape) == 1:
            return (0 if counts_from_one else 1) + noise * np.float32(0.3)
        return noise * np.float32(0.3 if "embed" in name or "wpe" in name else shape[1] ** -0.5)

    return {name: draw(name, shape) for name, shape in shapes(raw).items()}


def make_tokens(raw: dict, rows: int = 2, length: int = 40, seed: int = 0) -> np.ndarray:
    """Random token ids, int32 [rows, length]."""
    return np.random.default_rng([seed, 1]).integers(0, raw["vocab_size"], (rows, length), np.int32)


def write_checkpoint(directory: Path, raw: dict, weights: dict[str, np.ndarray]) -> Path:
    """Writes config.json and model.safetensors without torch or transformers."""
    from safetensors.numpy import save_file

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(raw))
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def documents(segment_ids: np.ndarray):
    """Yields (row, slice) of each document."""
    for row, segments in enumerate(segment_ids):
        for segment in sorted(set(segments.tolist()) - {0}):
            (places,) = np.nonzero(segments == segment)
            yield row, slice(int(places[0]), int(places[-1]) + 1)


def plain_batch(tokens: np.ndarray, segment_ids: np.ndarray | None = None):
    """Rows whose every next token is trained; by default one document a row."""
    from jitune.data.packing import shift

    segment_ids = np.ones_like(tokens) if segment_ids is None else segment_ids
    positions = np.zeros_like(tokens)
    for row, segments in enumerate(segment_ids):
        for i in range(1, len(segments)):
            positions[row, i] = positions[row, i - 1] + 1 if segments[i] == segments[i - 1] else 0
    return shift(tokens, np.ones(tokens.shape, np.float32), segment_ids, positions)


def evaluate(model, params, batch, config, *, chunk: int = 32):
    """Logits, mean loss and the gradients by HF name, of one compiled forward and backward pass.

    The batch is an argument of it, so that batches of one shape have one program in the cache of compiled ones.
    """
    import jax

    import jitune
    from jitune.hub.weights import export_tensors
    from jitune.objectives.sft import sft

    def loss(params, batch):
        total, weight, _ = sft(chunk=chunk)(model, params, batch, None)
        logits = jitune.logits(model, params, batch["tokens"], segment_ids=batch["segment_ids"],
                               positions=batch["positions"])  # fmt: skip
        return total / weight, logits

    (value, logits), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, batch)
    return np.asarray(logits), float(value), dict(export_tensors(grads, config))


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """Norm of the difference, relative to the norm of what is wanted."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    off, size = float(np.linalg.norm(found - wanted)), float(np.linalg.norm(wanted))
    return off / size if size else off  # an expert that no token was sent to has a gradient of zeros
