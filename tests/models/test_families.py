"""Configs as they are published: their keys are understood, or refused and named."""

import pytest

from jitune.models.config import ModelConfig
from jitune.types import UserError
from tests.references import CONFIGS

pytestmark = pytest.mark.core
# Keys that stand in published files besides those of tests.references.
PUBLISHED = {
    "gemma2": {"hidden_act": "gelu_pytorch_tanh", "sliding_window_size": 4096, "attention_bias": False,
               "attention_dropout": 0.0},
    "gemma3": {"attn_logit_softcapping": None, "final_logit_softcapping": None, "cache_implementation": "hybrid",
               "attention_bias": False, "use_bidirectional_attention": False, "unsloth_fixed": True},
    "phi3": {"rope_scaling": None, "embd_pdrop": 0.0, "attention_bias": False},
    "phi3_longrope": {"full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False, "mlp_bias": False,
                      "attention_bias": False, "sliding_window": 262144},
    "smollm3": {"pretraining_tp": 2, "max_window_layers": 28, "rope_scaling": None, "mlp_bias": False},
    "olmo2": {"attention_dropout": 0.0, "rope_scaling": None},
    "gpt2": {"summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
             "summary_type": "cls_index", "summary_use_proj": True, "activation_function": "gelu_new",
             "initializer_range": 0.02, "task_specific_params": {"text-generation": {"do_sample": True}}},
}  # fmt: skip


def read(case, **changes):
    return ModelConfig.from_hf({**CONFIGS[case], **changes})


@pytest.mark.parametrize("case", PUBLISHED)
def test_published_keys_are_understood(case):
    changed = read(case, **PUBLISHED[case]).replace(hf="")
    if case == "phi3_longrope":
        changed = changed.replace(windows=(0, 0, 0))
    assert changed == read(case).replace(hf="")


@pytest.mark.parametrize("case, changes, message", [
    ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0 is not supported"),
    ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True is not supported"),
    ("gemma2", {"hidden_activation": "mish"}, "hidden_activation='mish' is not supported; known are silu, swish, gelu"),
    ("phi3", {"lm_head_bias": True}, "lm_head_bias=True is not supported"),
    ("olmo2", {"partial_rotary_factor": 0.5}, "unknown key 'partial_rotary_factor'"),
    ("olmo2", {"query_pre_attn_scalar": 20}, "it is not a key of the olmo2 family"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True is not supported"),
    ("gpt2", {"n_layer": 0}, "n_layer is 0, a positive integer"),
    ("gpt2", {"rope_theta": 10.0}, "unknown key 'rope_theta'"),
    ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers must be a list of 0 or 1 for each of 4 layers"),
    ("llama2", {"model_type": "gemma4"}, "'gemma4' is not supported; known are llama, .*gpt2.*, gemma3"),
])
def test_other_values_are_refused(case, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        read(case, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case, changes, message", [
    ("llama2", {"model_type": []}, r"model_type \[\] is not supported; known are llama"),
    ("llama2", {"rms_norm_eps": None}, "rms_norm_eps is None, a number is needed"),
    ("gpt2", {"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon is '1e-5', a number is needed"),
    ("llama2", {"rope_theta": "x"}, "rope_theta is 'x', a number is needed"),
    ("llama2", {"rope_scaling": "linear"}, "rope_scaling is 'linear', an object is needed"),
    ("llama2", {"rope_scaling": {"type": "linear", "factor": None}}, "has a value of the wrong kind, near"),
    ("llama2", {"num_key_value_heads": -2}, "num_key_value_heads is -2, a positive integer"),
    ("llama2", {"head_dim": 2.5}, "head_dim is 2.5, a positive integer"),
    ("llama2", {"hidden_act": ["silu"]}, r"hidden_act=\['silu'\] is not supported"),
    ("mistral", {"sliding_window": -1}, "sliding_window is -1, a positive integer"),
    ("gemma2", {"query_pre_attn_scalar": "x"}, "query_pre_attn_scalar is 'x', a number"),
    ("gemma3", {"layer_types": 4}, "has a value of the wrong kind, near layer_types"),
    ("mixtral", {"num_experts_per_tok": 0}, "num_experts_per_tok is 0, a positive integer"),
])
def test_values_of_the_wrong_kind_are_named(case, changes, message):
    with pytest.raises(UserError, match=f"^config.json: {message}") as caught:
        read(case, **changes)
    assert "\n" not in str(caught.value)


def test_a_text_config_inside_another_is_read():
    inner = {**CONFIGS["gemma3"], "eos_token_id": 7}
    outer = {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": inner,
             "vision_config": {"hidden_size": 8}, "mm_tokens_per_image": 4, "eos_token_id": [1, 2]}  # fmt: skip
    found = ModelConfig.from_hf(outer)
    assert found.replace(hf="") == read("gemma3").replace(hf="")
    assert found.to_hf()["model_type"] == "gemma3_text" and found.eos_token_ids == (1, 2)
    with pytest.raises(UserError, match="gemma3 needs a text_config of model_type gemma3_text"):
        ModelConfig.from_hf({"model_type": "gemma3"})


def test_codes_of_their_own_are_taken_for_what_they_are():
    own = {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
    assert "auto_map" not in read("phi3", auto_map=own).to_hf()
    for case, auto_map in (("phi3", {**own, "AutoConfig": "x.PhiConfig"}), ("llama2", own)):
        with pytest.raises(UserError, match="remote code is never loaded"):
            read(case, auto_map=auto_map)


def test_scores_of_gpt2_that_are_not_divided():
    assert read("gpt2").attn_scale == 0.0 and read("gpt2", scale_attn_weights=False).attn_scale == 1.0
