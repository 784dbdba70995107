"""Ready-made sizes of every family, as entries of its config.json: `jitune init --family NAME --preset tiny`.

    LLAMA["tiny"]["hidden_size"]    # 64

`tiny` is for tests, `small` for work on a laptop; the others are sizes that were published.
"""

from __future__ import annotations

from typing import Any


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


def _without(sizes: dict[str, Any], *keys: str, **more) -> dict[str, Any]:
    return {k: v for k, v in sizes.items() if k not in keys} | more


_TINY = _sizes(64, 192, 2, 4, 2, 16, max_position_embeddings=2048, rms_norm_eps=1e-6)
_SMALL = _sizes(512, 1408, 8, 8, 4, 64, max_position_embeddings=4096, rms_norm_eps=1e-6)
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_LLAMA3 = {"vocab_size": 128256, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "rope_scaling": _LLAMA3_ROPE,
           "max_position_embeddings": 131072}  # fmt: skip
LLAMA = {
    "tiny": {**_TINY, "rope_theta": 10_000.0},
    # For the quickstart: learns to look things up within minutes. Larger initial weights than 0.02, which
    # is for wide models; heads of 32 and a low theta to tell near positions apart.
    "quick": {**_sizes(64, 192, 3, 4, 4, 32, max_position_embeddings=1024, rms_norm_eps=1e-6),
              "rope_theta": 1000.0, "tie_word_embeddings": True, "initializer_range": 0.06},
    "small": {**_SMALL, "rope_theta": 10_000.0},
    "1b": _sizes(2048, 8192, 16, 32, 8, 64, **_LLAMA3 | {"rope_scaling": {**_LLAMA3_ROPE, "factor": 32.0}},
                 tie_word_embeddings=True),
    "8b": _sizes(4096, 14336, 32, 32, 8, 128, **_LLAMA3),
    "70b": _sizes(8192, 28672, 80, 64, 8, 128, **_LLAMA3),
}  # fmt: skip
MISTRAL = {
    "tiny": {**_TINY, "sliding_window": None, "rope_theta": 10_000.0},
    "small": {**_SMALL, "sliding_window": None, "rope_theta": 10_000.0},
    "7b": _sizes(4096, 14336, 32, 32, 8, 128, vocab_size=32768, rms_norm_eps=1e-5, rope_theta=1e6,
                 sliding_window=None, max_position_embeddings=32768),
}  # fmt: skip
QWEN2 = {
    "tiny": _without(_TINY, "head_dim", rope_theta=10_000.0),
    "small": _without(_SMALL, "head_dim", rope_theta=10_000.0),
}
QWEN3 = {
    "tiny": {**_TINY, "rope_theta": 10_000.0, "tie_word_embeddings": True},
    "small": {**_SMALL, "rope_theta": 10_000.0, "tie_word_embeddings": True},
    "0.6b": _sizes(1024, 3072, 28, 16, 8, 128, vocab_size=151936, rope_theta=1e6, tie_word_embeddings=True,
                   max_position_embeddings=40960),
    "8b": _sizes(4096, 12288, 36, 32, 8, 128, vocab_size=151936, rope_theta=1e6, max_position_embeddings=40960),
}  # fmt: skip
# Windows shorter than a test's rows, so that layers differ there too.
_GEMMA = {"vocab_size": 256000, "rms_norm_eps": 1e-6, "sliding_window": 4096, "max_position_embeddings": 8192}
GEMMA2 = {
    "tiny": {**_TINY, "sliding_window": 8, "query_pre_attn_scalar": 16},
    "small": {**_SMALL, "sliding_window": 1024, "query_pre_attn_scalar": 64},
    "2b": _sizes(2304, 9216, 26, 8, 4, 256, **_GEMMA, query_pre_attn_scalar=256),
    "9b": _sizes(3584, 14336, 42, 16, 8, 256, **_GEMMA, query_pre_attn_scalar=256),
}
GEMMA3_TEXT = {
    "tiny": {**_TINY, "sliding_window": 8, "sliding_window_pattern": 2, "query_pre_attn_scalar": 16},
    "small": {**_SMALL, "sliding_window": 512, "query_pre_attn_scalar": 64},
    "1b": _sizes(1152, 6912, 26, 4, 1, 256, vocab_size=262144, rms_norm_eps=1e-6, sliding_window=512,
                 query_pre_attn_scalar=256, rope_theta=1e6, rope_local_base_freq=10_000.0,
                 max_position_embeddings=32768),
}  # fmt: skip
_PHI3 = {"rms_norm_eps": 1e-5, "rope_theta": 10_000.0}
PHI3 = {
    "tiny": _without(_TINY, "head_dim", rope_theta=10_000.0),
    "small": _without(_SMALL, "head_dim", rope_theta=10_000.0),
    "mini": _without(_sizes(3072, 8192, 32, 32, 32, 96, **_PHI3, vocab_size=32064, sliding_window=2047,
                            max_position_embeddings=4096), "head_dim"),
    "phi4": _without(_sizes(5120, 17920, 40, 40, 10, 128, **_PHI3 | {"rope_theta": 250_000.0}, vocab_size=100352,
                            max_position_embeddings=16384), "head_dim"),
}  # fmt: skip
SMOLLM3 = {
    "tiny": _without(_TINY, "head_dim", no_rope_layer_interval=2),
    "small": _without(_SMALL, "head_dim"),
    "3b": _without(_sizes(2048, 11008, 36, 16, 4, 128, vocab_size=128256, rms_norm_eps=1e-6, rope_theta=5e6,
                          max_position_embeddings=65536), "head_dim"),
}  # fmt: skip
_OLMO2 = {"vocab_size": 100352, "rms_norm_eps": 1e-6, "rope_theta": 500_000.0, "max_position_embeddings": 4096}
OLMO2 = {
    "tiny": _without(_TINY, "head_dim"),
    "small": _without(_SMALL, "head_dim"),
    "1b": _without(_sizes(2048, 8192, 16, 16, 16, 128, **_OLMO2), "head_dim"),
    "7b": _without(_sizes(4096, 11008, 32, 32, 32, 128, **_OLMO2), "head_dim"),
}
GPT2 = {
    "tiny": {"n_embd": 64, "n_inner": 192, "n_layer": 2, "n_head": 4, "n_positions": 2048},
    "small": {"n_embd": 512, "n_layer": 8, "n_head": 8, "n_positions": 2048},
    "124m": {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257},
}
_EXPERTS = {"num_experts_per_tok": 2, "rope_theta": 10_000.0}
MIXTRAL = {
    "tiny": {**_TINY, **_EXPERTS, "num_local_experts": 4},
    "small": {**_SMALL, **_EXPERTS, "num_local_experts": 8},
    "8x7b": _sizes(4096, 14336, 32, 32, 8, 128, vocab_size=32000, rms_norm_eps=1e-5, rope_theta=1e6,
                   max_position_embeddings=32768, num_local_experts=8, num_experts_per_tok=2,
                   router_aux_loss_coef=0.02),
}  # fmt: skip
QWEN2_MOE = {
    "tiny": _without(_TINY, "head_dim", **_EXPERTS, num_experts=4, moe_intermediate_size=64,
                     shared_expert_intermediate_size=96),
    "small": _without(_SMALL, "head_dim", **_EXPERTS, num_experts=16, moe_intermediate_size=352,
                      shared_expert_intermediate_size=704),
    "a2.7b": _without(_sizes(2048, 5632, 24, 16, 16, 128, vocab_size=151936, rms_norm_eps=1e-6, rope_theta=1e6,
                             max_position_embeddings=8192, num_experts=60, num_experts_per_tok=4,
                             moe_intermediate_size=1408, shared_expert_intermediate_size=5632), "head_dim"),
    "57b-a14b": _without(_sizes(3584, 18944, 28, 28, 4, 128, vocab_size=151936, rms_norm_eps=1e-6, rope_theta=1e6,
                                max_position_embeddings=131072, num_experts=64, num_experts_per_tok=8,
                                moe_intermediate_size=2560, shared_expert_intermediate_size=20480), "head_dim"),
}  # fmt: skip
QWEN3_MOE = {
    "tiny": {**_TINY, **_EXPERTS, "num_experts": 4, "moe_intermediate_size": 64, "norm_topk_prob": True},
    "small": {**_SMALL, **_EXPERTS, "num_experts": 16, "moe_intermediate_size": 352, "norm_topk_prob": True},
    "30b-a3b": _sizes(2048, 6144, 48, 32, 4, 128, vocab_size=151936, rms_norm_eps=1e-6, rope_theta=1e6,
                      max_position_embeddings=40960, num_experts=128, num_experts_per_tok=8, norm_topk_prob=True,
                      moe_intermediate_size=768),
}  # fmt: skip
