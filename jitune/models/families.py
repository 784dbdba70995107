"""The model families: for each, what differs from Llama, its names on disk, its ready-made sizes.

A family is one entry of `FAMILIES`. `NAMES` maps a parameter's path in jitune to its name in a Hugging
Face checkpoint, `{i}` standing for the layer; kernels are stored transposed there ([out, in]).
"""

from __future__ import annotations

from jitune.models import presets
from jitune.models.family import Family

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

_COMMON = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
}
_QWEN = {**_COMMON, "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28, "layer_types": None}
_GEMMA = {**_COMMON, "hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": True, "num_key_value_heads": 4,
          "head_dim": 256, "attention_bias": False, "query_pre_attn_scalar": 256, "sliding_window": 4096,
          "layer_types": None}  # fmt: skip
_GEMMA_NAMES = {
    "layers/attn_post_norm/scale": "model.layers.{i}.post_attention_layernorm.weight",
    "layers/mlp_norm/scale": "model.layers.{i}.pre_feedforward_layernorm.weight",
    "layers/mlp_post_norm/scale": "model.layers.{i}.post_feedforward_layernorm.weight",
}
_MOE = {"num_experts_per_tok": 8, "norm_topk_prob": False, "router_aux_loss_coef": 0.001, "decoder_sparse_step": 1,
        "mlp_only_layers": None}  # fmt: skip
_QWEN_MOE_NAMES = {
    "layers/mlp/router/kernel": "model.layers.{i}.mlp.gate.weight",
    "layers/mlp/experts/gate_proj/kernel": "model.layers.{i}.mlp.experts.{e}.gate_proj.weight",
    "layers/mlp/experts/up_proj/kernel": "model.layers.{i}.mlp.experts.{e}.up_proj.weight",
    "layers/mlp/experts/down_proj/kernel": "model.layers.{i}.mlp.experts.{e}.down_proj.weight",
}

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "llama",
            "LlamaForCausalLM",
            {**_COMMON, "attention_bias": False, "mlp_bias": False},
            presets=presets.LLAMA,
        ),
        Family(
            "mistral",
            "MistralForCausalLM",
            {**_COMMON, "num_key_value_heads": 8, "sliding_window": 4096},
            sliding="always",
            presets=presets.MISTRAL,
        ),
        Family(
            "qwen2",
            "Qwen2ForCausalLM",
            _QWEN,
            qkv_bias=True,
            out_bias_follows=False,
            sliding="optional",
            presets=presets.QWEN2,
        ),
        Family(
            "qwen3",
            "Qwen3ForCausalLM",
            {**_QWEN, "head_dim": 128, "attention_bias": False},
            qk_norm="head",
            sliding="optional",
            presets=presets.QWEN3,
        ),
        Family(
            "gemma2",
            "Gemma2ForCausalLM",
            {**_GEMMA, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window_pattern": 2,
             "max_position_embeddings": 8192},
            keys={"hidden_act": "hidden_activation"},
            neutral="hidden_act cache_implementation sliding_window_size",
            norm="rms_plus_one",
            norms="both",
            embed_scale=True,
            sliding="pattern",
            names=_GEMMA_NAMES,
            presets=presets.GEMMA2,
        ),
        Family(
            "gemma3_text",
            "Gemma3ForCausalLM",
            {**_GEMMA, "final_logit_softcapping": None, "sliding_window_pattern": 6, "rope_theta": 1e6,
             "rope_local_base_freq": 10_000.0, "max_position_embeddings": 131072, "hidden_size": 2304,
             "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8, "vocab_size": 262208},
            keys={"hidden_act": "hidden_activation"},
            neutral="hidden_act cache_implementation _sliding_window_pattern",
            wrapped_by="gemma3",
            norm="rms_plus_one",
            norms="both",
            qk_norm="head",
            embed_scale=True,
            sliding="pattern",
            names=_GEMMA_NAMES,
            ignored=r"(^|\.)(vision_tower|multi_modal_projector)\.",
            presets=presets.GEMMA3_TEXT,
        ),
        Family(
            "phi3",
            "Phi3ForCausalLM",
            {**_COMMON, "rms_norm_eps": 1e-5, "sliding_window": None, "partial_rotary_factor": 1.0,
             "max_position_embeddings": 4096, "original_max_position_embeddings": 4096},
            neutral="embd_pdrop resid_pdrop",
            own_code=True,
            rope_kinds={"su": "longrope", "yarn": "longrope"},
            sliding="always",
            fused={
                "model.layers.{i}.self_attn.qkv_proj": ("attn/q_proj", "attn/k_proj", "attn/v_proj"),
                "model.layers.{i}.mlp.gate_up_proj": ("mlp/gate_proj", "mlp/up_proj"),
            },
            presets=presets.PHI3,
        ),
        Family(
            "smollm3",
            "SmolLM3ForCausalLM",
            {**_COMMON, "tie_word_embeddings": True, "rope_theta": 2e6, "num_key_value_heads": 4,
             "attention_bias": False, "mlp_bias": False, "use_sliding_window": False, "sliding_window": None,
             "no_rope_layers": None, "no_rope_layer_interval": 4, "layer_types": None,
             "max_position_embeddings": 32768},
            neutral="max_window_layers pretraining_tp",
            sliding="optional",
            presets=presets.SMOLLM3,
        ),
        Family(
            "olmo2",
            "Olmo2ForCausalLM",
            {**_COMMON, "rms_norm_eps": 1e-5, "attention_bias": False, "max_position_embeddings": 2048},
            norm="rms_scaled",
            norms="post",
            qk_norm="width",
            names={
                "layers/attn_post_norm/scale": "model.layers.{i}.post_attention_layernorm.weight",
                "layers/mlp_post_norm/scale": "model.layers.{i}.post_feedforward_layernorm.weight",
            },
            presets=presets.OLMO2,
        ),
        Family(
            "gpt2",
            "GPT2LMHeadModel",
            {"hidden_act": "gelu_new", "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
             "max_position_embeddings": 1024, "scale_attn_weights": True, "hidden_size": 768,
             "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 50257},
            keys={
                "hidden_size": "n_embd", "intermediate_size": "n_inner", "num_hidden_layers": "n_layer",
                "num_attention_heads": "n_head", "max_position_embeddings": "n_positions",
                "rms_norm_eps": "layer_norm_epsilon", "hidden_act": "activation_function",
            },
            # Dropout is not a part of what is computed here, in training neither.
            neutral="""n_ctx attn_pdrop embd_pdrop resid_pdrop reorder_and_upcast_attn summary_type summary_use_proj
            summary_activation summary_proj_to_labels summary_first_dropout""",
            qkv_bias=True,
            out_bias=True,
            mlp_bias=True,
            norm="layer",
            gated=False,
            learned_positions=True,
            names={
                "embed/embedding": "transformer.wte.weight",
                "embed/positions": "transformer.wpe.weight",
                "layers/attn_norm/scale": "transformer.h.{i}.ln_1.weight",
                "layers/attn_norm/bias": "transformer.h.{i}.ln_1.bias",
                "layers/attn/o_proj/kernel": "transformer.h.{i}.attn.c_proj.weight",
                "layers/attn/o_proj/bias": "transformer.h.{i}.attn.c_proj.bias",
                "layers/mlp_norm/scale": "transformer.h.{i}.ln_2.weight",
                "layers/mlp_norm/bias": "transformer.h.{i}.ln_2.bias",
                "layers/mlp/up_proj/kernel": "transformer.h.{i}.mlp.c_fc.weight",
                "layers/mlp/up_proj/bias": "transformer.h.{i}.mlp.c_fc.bias",
                "layers/mlp/down_proj/kernel": "transformer.h.{i}.mlp.c_proj.weight",
                "layers/mlp/down_proj/bias": "transformer.h.{i}.mlp.c_proj.bias",
                "norm/scale": "transformer.ln_f.weight",
                "norm/bias": "transformer.ln_f.bias",
            },
            fused={"transformer.h.{i}.attn.c_attn": ("attn/q_proj", "attn/k_proj", "attn/v_proj")},
            conv1d=True,
            ignored=r"(^|\.)attn\.(masked_)?bias$",  # the causal mask
            presets=presets.GPT2,
        ),
        Family(
            "mixtral",
            "MixtralForCausalLM",
            {**_COMMON, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_key_value_heads": 8, "sliding_window": None,
             "num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": True, "router_aux_loss_coef": 0.001},
            keys={"moe_intermediate_size": "intermediate_size"},
            neutral="output_router_logits",
            sliding="always",
            names={
                "layers/mlp/router/kernel": "model.layers.{i}.block_sparse_moe.gate.weight",
                "layers/mlp/experts/gate_proj/kernel": "model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight",
                "layers/mlp/experts/up_proj/kernel": "model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight",
                "layers/mlp/experts/down_proj/kernel": "model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight",
            },
            presets=presets.MIXTRAL,
        ),
        Family(
            "qwen2_moe",
            "Qwen2MoeForCausalLM",
            {**_QWEN, **_MOE, "qkv_bias": True, "num_key_value_heads": 16, "num_experts": 60,
             "num_experts_per_tok": 4, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632},
            neutral="output_router_logits max_window_layers",
            out_bias_follows=False,
            sliding="even",
            names={
                **_QWEN_MOE_NAMES,
                "layers/mlp/shared/gate_proj/kernel": "model.layers.{i}.mlp.shared_expert.gate_proj.weight",
                "layers/mlp/shared/up_proj/kernel": "model.layers.{i}.mlp.shared_expert.up_proj.weight",
                "layers/mlp/shared/down_proj/kernel": "model.layers.{i}.mlp.shared_expert.down_proj.weight",
                "layers/mlp/shared_gate/kernel": "model.layers.{i}.mlp.shared_expert_gate.weight",
            },
            presets=presets.QWEN2_MOE,
        ),
        Family(
            "qwen3_moe",
            "Qwen3MoeForCausalLM",
            {**_QWEN, **_MOE, "num_key_value_heads": 4, "attention_bias": False, "num_experts": 128,
             "moe_intermediate_size": 768},
            neutral="output_router_logits max_window_layers",
            qk_norm="head",
            sliding="all",
            names=_QWEN_MOE_NAMES,
            presets=presets.QWEN3_MOE,
        ),
    )
}
