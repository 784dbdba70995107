"""The model families: for each, what differs from Llama, its names on disk, its ready-made sizes.

A family is one entry of `FAMILIES`. `NAMES` maps a parameter's path in jitune to its name in a Hugging
Face checkpoint, `{i}` standing for the layer; kernels are stored transposed there ([out, in]).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NAMES = {
    "embed/embedding": "model.embed_tokens.weight",
    "layers/attn_norm/scale": "model.layers.{i}.input_layernorm.weight",
    "layers/attn/q_proj/kernel": "model.layers.{i}.self_attn.q_proj.weight",
    "layers/attn/q_proj/bias": "model.layers.{i}.self_attn.q_proj.bias",
    "layers/attn/k_proj/kernel": "model.layers.{i}.self_attn.k_proj.weight",
    "layers/attn/k_proj/bias": "model.layers.{i}.self_attn.k_proj.bias",
    "layers/attn/v_proj/kernel": "model.layers.{i}.self_attn.v_proj.weight",
    "layers/attn/v_proj/bias": "model.layers.{i}.self_attn.v_proj.bias",
    "layers/attn/o_proj/kernel": "model.layers.{i}.self_attn.o_proj.weight",
    "layers/attn/o_proj/bias": "model.layers.{i}.self_attn.o_proj.bias",
    "layers/attn/q_norm/scale": "model.layers.{i}.self_attn.q_norm.weight",
    "layers/attn/k_norm/scale": "model.layers.{i}.self_attn.k_norm.weight",
    "layers/mlp_norm/scale": "model.layers.{i}.post_attention_layernorm.weight",
    "layers/mlp/gate_proj/kernel": "model.layers.{i}.mlp.gate_proj.weight",
    "layers/mlp/gate_proj/bias": "model.layers.{i}.mlp.gate_proj.bias",
    "layers/mlp/up_proj/kernel": "model.layers.{i}.mlp.up_proj.weight",
    "layers/mlp/up_proj/bias": "model.layers.{i}.mlp.up_proj.bias",
    "layers/mlp/down_proj/kernel": "model.layers.{i}.mlp.down_proj.weight",
    "layers/mlp/down_proj/bias": "model.layers.{i}.mlp.down_proj.bias",
    "norm/scale": "model.norm.weight",
    "lm_head/kernel": "lm_head.weight",
}
# Buffers that old checkpoints carry and that are computed here.
IGNORED_TENSORS = r"\.rotary_emb\.inv_freq$"


@dataclass(frozen=True)
class Family:
    """Differences of one family. `defaults` are those of its transformers config class, for absent keys.

    sliding: "" (never), "always" (sliding_window counts wherever it is set), "optional" (only with
    use_sliding_window). out_bias_follows: attention_bias gives the output projection a bias too.
    """

    name: str
    architecture: str
    defaults: dict[str, Any]
    qkv_bias: bool = False
    out_bias_follows: bool = True
    qk_norm: bool = False
    sliding: str = ""
    names: dict[str, Any] = field(default_factory=dict)  # entries of `NAMES` that are others here
    ignored: str = ""  # a regular expression for more tensors to pass over than IGNORED_TENSORS
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)


def _sizes(hidden, mlp, layers, heads, kv_heads, head_dim, **more) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        **more,
    }


_TINY = _sizes(64, 192, 2, 4, 2, 16, max_position_embeddings=2048, rms_norm_eps=1e-6)
_SMALL = _sizes(512, 1408, 8, 8, 4, 64, max_position_embeddings=4096, rms_norm_eps=1e-6)
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_COMMON = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
}
_QWEN = {**_COMMON, "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "llama",
            "LlamaForCausalLM",
            {**_COMMON, "attention_bias": False, "mlp_bias": False},
            presets={
                "tiny": {**_TINY, "rope_theta": 10_000.0},
                # For the quickstart: learns to look things up within minutes. Larger initial weights than 0.02, which
                # is for wide models; heads of 32 and a low theta to tell near positions apart.
                "quick": {**_sizes(64, 192, 3, 4, 4, 32, max_position_embeddings=1024, rms_norm_eps=1e-6),
                          "rope_theta": 1000.0, "tie_word_embeddings": True, "initializer_range": 0.06},
                "small": {**_SMALL, "rope_theta": 10_000.0},
                "1b": _sizes(
                    2048, 8192, 16, 32, 8, 64, vocab_size=128256, rms_norm_eps=1e-5, rope_theta=500_000.0,
                    rope_scaling={**_LLAMA3_ROPE, "factor": 32.0}, max_position_embeddings=131072,
                    tie_word_embeddings=True,
                ),
                "8b": _sizes(
                    4096, 14336, 32, 32, 8, 128, vocab_size=128256, rms_norm_eps=1e-5, rope_theta=500_000.0,
                    rope_scaling=_LLAMA3_ROPE, max_position_embeddings=131072,
                ),
                "70b": _sizes(
                    8192, 28672, 80, 64, 8, 128, vocab_size=128256, rms_norm_eps=1e-5, rope_theta=500_000.0,
                    rope_scaling=_LLAMA3_ROPE, max_position_embeddings=131072,
                ),
            },
        ),
        Family(
            "mistral",
            "MistralForCausalLM",
            {**_COMMON, "num_key_value_heads": 8, "sliding_window": 4096},
            sliding="always",
            presets={
                "tiny": {**_TINY, "sliding_window": None, "rope_theta": 10_000.0},
                "small": {**_SMALL, "sliding_window": None, "rope_theta": 10_000.0},
                "7b": _sizes(
                    4096, 14336, 32, 32, 8, 128, vocab_size=32768, rms_norm_eps=1e-5, rope_theta=1e6,
                    sliding_window=None, max_position_embeddings=32768,
                ),
            },
        ),
        Family(
            "qwen2",
            "Qwen2ForCausalLM",
            _QWEN,
            qkv_bias=True,
            out_bias_follows=False,
            sliding="optional",
            presets={
                "tiny": {k: v for k, v in _TINY.items() if k != "head_dim"} | {"rope_theta": 10_000.0},
                "small": {k: v for k, v in _SMALL.items() if k != "head_dim"} | {"rope_theta": 10_000.0},
            },
        ),
        Family(
            "qwen3",
            "Qwen3ForCausalLM",
            {**_QWEN, "head_dim": 128, "attention_bias": False},
            qk_norm=True,
            sliding="optional",
            presets={
                "tiny": {**_TINY, "rope_theta": 10_000.0, "tie_word_embeddings": True},
                "small": {**_SMALL, "rope_theta": 10_000.0, "tie_word_embeddings": True},
                "0.6b": _sizes(
                    1024, 3072, 28, 16, 8, 128, vocab_size=151936, rope_theta=1e6, tie_word_embeddings=True,
                    max_position_embeddings=40960,
                ),
                "8b": _sizes(
                    4096, 12288, 36, 32, 8, 128, vocab_size=151936, rope_theta=1e6,
                    max_position_embeddings=40960,
                ),
            },
        ),
    )
}
