"""The architecture of a decoder as one frozen record, made from a Hugging Face config.json.

`ModelConfig.from_hf(dict)` in, `config.to_hf()` out. Every key of the file is either understood, known
to have no effect on the computation, or refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from jitune.models.families import FAMILIES, Family
from jitune.types import UserError

# Keys that do not change what the model computes: names, bookkeeping, generation and training defaults.
NEUTRAL_KEYS = frozenset(
    """architectures model_type _name_or_path name_or_path transformers_version torch_dtype dtype use_cache
    bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id decoder_start_token_id
    initializer_range max_position_embeddings is_llama_config transformers.js_config unsloth_fixed
    unsloth_version id2label label2id return_dict output_hidden_states output_attentions
    chunk_size_feed_forward problem_type task_specific_params _attn_implementation return_dict_in_generate
    _attn_implementation_autoset attn_implementation finetuning_task is_encoder_decoder is_decoder
    max_length min_length do_sample temperature top_k top_p num_beams repetition_penalty output_scores""".split()
)
# Keys that a config may carry only with the value that means "not used".
REQUIRED_VALUES = {
    "pretraining_tp": (1, None),
    "attention_dropout": (0, 0.0, None),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "rope_interleaved": (False, None),
    "add_cross_attention": (False, None),
    "cross_attention_hidden_size": (None,),
    "pruned_heads": ({}, None),
    "tie_encoder_decoder": (False, None),
    "torchscript": (False, None),
}
REFUSALS = {
    "quantization_config": "quantized checkpoints are not loaded; bring the unquantized weights",
    "auto_map": "the checkpoint asks for code of its own, and remote code is never loaded",
}


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding: kind is default, linear or llama3; theta is the base."""

    kind: str = "default"
    theta: float = 10_000.0
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """What the decoder computes. Sizes are counts; `windows` has one entry a layer (0: full attention).

    dtype is the dtype of the computation, param_dtype that of the stored weights; scan_layers, remat
    and attention choose how the layers run, never what they compute. hf and generation keep the JSON texts of
    config.json and generation_config.json, so that saving loses nothing.
    """

    family: str
    vocab_size: int
    dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    norm_eps: float
    rope: Rope
    windows: tuple[int, ...]
    activation: str
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    qk_norm: bool
    tied: bool
    init_std: float
    max_positions: int
    attn_scale: float = 0.0  # of the scores; 0: head_dim ** -0.5
    attn_softcap: float = 0.0  # scores become cap * tanh(score / cap); 0: they stay
    final_softcap: float = 0.0  # the same of the logits
    num_experts: int = 0  # 0: a dense MLP
    experts_per_token: int = 0
    expert_dim: int = 0  # width of one expert
    norm_topk: bool = True  # the weights of a token's experts sum to one
    shared_dim: int = 0  # width of the expert that all tokens go through, behind a gate; 0: none
    router_coef: float = 0.0  # of the load-balancing loss
    dtype: str = "float32"
    param_dtype: str = "float32"
    scan_layers: bool = True
    remat: str = "none"
    attention: str = "auto"
    hf: str = "{}"
    generation: str = "{}"

    @classmethod
    def from_hf(cls, raw: dict[str, Any], *, where: str = "config.json", generation: dict | None = None):
        """Reads a config.json. Raises UserError for families, keys and values that are not understood."""
        raw = dict(raw)
        family = _family(raw, where)
        keys = _Keys(raw, family, where)
        dim, heads = keys.size("hidden_size"), keys.size("num_attention_heads")
        head_dim = keys.get("head_dim") or dim // heads
        layers = keys.size("num_hidden_layers")
        kv_heads = keys.get("num_key_value_heads") or heads
        if heads % kv_heads:
            raise UserError(f"{where}: {heads} attention heads do not divide by {kv_heads} key-value heads")
        attention_bias, mlp_bias = (
            bool(keys.get(k)) if k in family.defaults else False for k in ("attention_bias", "mlp_bias")
        )
        config = cls(
            family=family.name,
            vocab_size=keys.size("vocab_size"),
            dim=dim,
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            mlp_dim=keys.size("intermediate_size"),
            norm_eps=float(keys.get("rms_norm_eps")),
            rope=_rope(keys, where),
            windows=_windows(keys, family, layers, where),
            activation=_activation(keys, where),
            qkv_bias=attention_bias or family.qkv_bias,
            out_bias=attention_bias and family.out_bias_follows,
            mlp_bias=mlp_bias,
            qk_norm=family.qk_norm,
            tied=bool(keys.get("tie_word_embeddings")),
            init_std=float(raw.get("initializer_range", 0.02)),
            max_positions=int(raw.get("max_position_embeddings", 0) or 0),
            hf=json.dumps(raw),
            generation=json.dumps(generation or {}),
        )
        keys.finish()
        return config

    def to_hf(self) -> dict[str, Any]:
        """The config.json to save: the one that was read, with dtype and architectures brought up to date."""
        raw = json.loads(self.hf)
        raw.pop("torch_dtype", None)
        raw.update(model_type=self.family, architectures=[FAMILIES[self.family].architecture])
        raw.update(dtype=self.param_dtype)
        return raw

    @property
    def generation_config(self) -> dict[str, Any]:
        """generation_config.json as a dict, empty where there was none."""
        return json.loads(self.generation)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Stop ids: those of generation_config.json, else those of config.json."""
        for source in (self.generation_config, json.loads(self.hf)):
            ids = source.get("eos_token_id")
            if ids is not None:
                return tuple(ids) if isinstance(ids, (list, tuple)) else (ids,)
        return ()

    def replace(self, **changes) -> ModelConfig:
        """A copy with fields changed."""
        return replace(self, **changes)


class _Keys:
    """Reads the keys of one config, remembers which were used, and refuses the rest."""

    def __init__(self, raw: dict, family: Family, where: str):
        self.raw, self.family, self.where = raw, family, where
        self.used: set[str] = set()

    def get(self, key: str):
        self.used.add(key)
        return self.raw[key] if key in self.raw else self.family.defaults.get(key)

    def size(self, key: str) -> int:
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{self.where}: {key} is {value!r}, a positive integer is needed")
        return value

    def finish(self):
        from jitune.tree import nearest

        known = self.used | NEUTRAL_KEYS
        for key, allowed in REQUIRED_VALUES.items():
            if key in self.raw and key not in self.used and self.raw[key] not in allowed:
                raise UserError(
                    f"{self.where}: {key}={self.raw[key]!r} is not supported, only {allowed[0]!r} is"
                )
        for key in sorted(self.raw.keys() - known - REQUIRED_VALUES.keys()):
            hint = nearest(key, known, 2)
            like = f"; the nearest known keys are {', '.join(hint)}" if hint else ""
            reason = REFUSALS.get(key, f"it is not a key of the {self.family.name} family{like}")
            raise UserError(f"{self.where}: unknown key {key!r} ({self.raw[key]!r:.60}): {reason}")


def _family(raw: dict, where: str) -> Family:
    name = raw.get("model_type")
    if name not in FAMILIES:
        raise UserError(f"{where}: model_type {name!r} is not supported; known are {', '.join(FAMILIES)}")
    for key in ("auto_map", "quantization_config"):
        if raw.get(key):
            raise UserError(f"{where}: {key} is set: {REFUSALS[key]}")
        raw.pop(key, None)
    return FAMILIES[name]


def _activation(keys: _Keys, where: str) -> str:
    name = keys.get("hidden_act")
    if name not in ("silu", "swish"):
        raise UserError(f"{where}: hidden_act={name!r} is not supported by the {keys.family.name} family, "
                        "only 'silu' is")
    return "silu"


def _rope(keys: _Keys, where: str) -> Rope:
    """Reads v5's rope_parameters and the older rope_theta with rope_scaling, which wins if both are there."""
    merged = dict(keys.get("rope_parameters") or {})
    scaling = keys.get("rope_scaling")
    if keys.get("rope_theta") is not None and "rope_theta" not in merged:
        merged["rope_theta"] = keys.get("rope_theta")
    if scaling:
        merged = {**{k: v for k, v in merged.items() if k == "rope_theta"}, **scaling}
    kind = merged.pop("rope_type", None) or merged.pop("type", None) or "default"
    merged.pop("type", None)
    theta = float(merged.pop("rope_theta", keys.family.defaults.get("rope_theta", 10_000.0)))
    try:
        if kind == "default":
            rope = Rope(theta=theta)
            merged.pop("factor", None)
        elif kind == "linear":
            rope = Rope("linear", theta, float(merged.pop("factor")))
        elif kind == "llama3":
            rope = Rope(
                "llama3",
                theta,
                float(merged.pop("factor")),
                float(merged.pop("low_freq_factor")),
                float(merged.pop("high_freq_factor")),
                int(merged.pop("original_max_position_embeddings")),
            )
        else:
            raise UserError(f"{where}: rope type {kind!r} is not supported; known are default, linear, llama3")
    except KeyError as missing:
        raise UserError(f"{where}: rope type {kind!r} needs {missing}") from None
    if merged.pop("partial_rotary_factor", 1.0) not in (1, 1.0, None):
        raise UserError(f"{where}: partial_rotary_factor other than 1 is not supported")
    if merged:
        raise UserError(f"{where}: rope settings not understood: {', '.join(sorted(merged))}")
    return rope


def _windows(keys: _Keys, family: Family, layers: int, where: str) -> tuple[int, ...]:
    """One sliding window a layer, 0 for full attention, from sliding_window and layer_types."""
    if not family.sliding:
        return (0,) * layers
    window = keys.get("sliding_window") or 0
    if family.sliding == "always":
        return (window,) * layers
    use, first, types = (keys.get(k) for k in ("use_sliding_window", "max_window_layers", "layer_types"))
    window = window if use else 0
    if types is None:
        return tuple(window if i >= first else 0 for i in range(layers))
    if len(types) != layers or set(types) - {"full_attention", "sliding_attention"}:
        raise UserError(f"{where}: layer_types must name full_attention or sliding_attention for each of "
                        f"{layers} layers")
    if "sliding_attention" in types and not window:
        raise UserError(f"{where}: layer_types has sliding_attention but sliding_window is not set")
    return tuple(window if t == "sliding_attention" else 0 for t in types)


def preset_sizes(family: str, preset: str) -> dict[str, Any]:
    """A preset's entries of config.json. Raises UserError for an unknown family or preset, listing the known."""
    if family not in FAMILIES:
        raise UserError(f"family {family!r} is not known; known are {', '.join(FAMILIES)}")
    presets = FAMILIES[family].presets
    if preset not in presets:
        raise UserError(f"{family} has no preset {preset!r}; it has {', '.join(presets)}")
    return {"model_type": family, **presets[preset]}
