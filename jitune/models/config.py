"""The architecture of a decoder as one frozen record, made from a Hugging Face config.json.

`ModelConfig.from_hf(dict)` in, `config.to_hf()` out. Every key of the file is either understood, known
to have no effect on the computation, or refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from jitune.models.families import FAMILIES
from jitune.models.keys import Keys
from jitune.models.rope import LAYER_TYPES, Rope, read_ropes, turned_layers
from jitune.types import UserError

# Names of activations in configs, and which of `models.layers.ACTIVATIONS` each is.
ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh", "relu": "relu",
}  # fmt: skip


@dataclass(frozen=True)
class ModelConfig:
    """What the decoder computes. Sizes are counts; `windows` has one entry a layer (0: full attention).

    ropes: the different ones; rope_of_layer: each layer's index among them.

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
    ropes: tuple[Rope, ...]
    rope_of_layer: tuple[int, ...]
    windows: tuple[int, ...]
    activation: str
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    qk_norm: str
    tied: bool
    init_std: float
    max_positions: int
    norm: str = "rms"  # kind, see `models.layers`
    norms: str = "pre"  # of attention and MLP: pre, post or both
    gated: bool = True  # the MLP: down(act(gate(x)) * up(x)), else down(act(up(x)))
    embed_scale: float = 0.0  # embeddings are multiplied by it; 0: they stay
    learned_positions: bool = False  # max_positions vectors, which are added to the embeddings
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
        keys = Keys(raw, where)
        try:
            config = cls(**_fields(keys), hf=json.dumps(keys.raw), generation=json.dumps(generation or {}))
        except UserError:
            raise
        except (TypeError, ValueError, ArithmeticError, AttributeError) as error:  # of a value that nobody foresaw
            raise UserError(f"{where}: has a value of the wrong kind, near {keys.last}: {error}") from error
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


# Of a family, and of a config as they are.
OWN = ("norm", "norms", "gated", "learned_positions", "qk_norm")


def _fields(keys: Keys) -> dict[str, Any]:
    """The fields that a config.json tells, besides its own text."""
    family, heads = keys.family, _heads(keys)
    dim, layers = heads["dim"], keys.size("num_hidden_layers")
    attention_bias, mlp_bias = (bool(keys.optional(k)) for k in ("attention_bias", "mlp_bias"))
    windows = _windows(keys, layers)
    ropes, of_layer = read_ropes(keys, head_dim=heads["head_dim"], sliding=tuple(map(bool, windows)))
    caps = [keys.number(k) if keys.optional(k) else 0.0 for k in ("attn_logit_softcapping", "final_logit_softcapping")]
    return {
        "family": family.name,
        "vocab_size": keys.size("vocab_size"),
        "num_layers": layers,
        **heads,
        "mlp_dim": _mlp_dim(keys, dim),
        "norm_eps": keys.number("rms_norm_eps"),
        "ropes": ropes,
        "rope_of_layer": of_layer,
        "windows": windows,
        "activation": _activation(keys),
        "qkv_bias": attention_bias or family.qkv_bias or bool(keys.optional("qkv_bias")),
        "out_bias": attention_bias and family.out_bias_follows or family.out_bias,
        "mlp_bias": mlp_bias or family.mlp_bias,
        "tied": bool(keys.get("tie_word_embeddings")),
        "init_std": keys.number("initializer_range") if "initializer_range" in keys.raw else 0.02,
        "max_positions": keys.least("max_position_embeddings"),
        **{name: getattr(family, name) for name in OWN},
        "embed_scale": dim**0.5 if family.embed_scale else 0.0,
        "attn_scale": _attn_scale(keys),
        "attn_softcap": caps[0],
        "final_softcap": caps[1],
        **_experts(keys, layers),
    }


def _heads(keys: Keys) -> dict[str, int]:
    """The width of the model, and how it is cut."""
    dim, heads = keys.size("hidden_size"), keys.size("num_attention_heads")
    kv_heads = keys.least("num_key_value_heads") or heads
    if heads % kv_heads:
        raise UserError(f"{keys.where}: {heads} attention heads do not divide by {kv_heads} key-value heads")
    head_dim = keys.least("head_dim") or dim // heads
    return {"dim": dim, "num_heads": heads, "num_kv_heads": kv_heads, "head_dim": head_dim}


def _mlp_dim(keys: Keys, dim: int) -> int:
    """The width of the MLP; a model without gates (GPT-2) may leave it to be four times its own."""
    if not keys.family.gated and keys.get("intermediate_size") is None:
        return 4 * dim
    return keys.size("intermediate_size")


def _experts(keys: Keys, layers: int) -> dict[str, Any]:
    """The fields of a config with experts in all of its layers; none where the family has no experts."""
    if "num_experts" not in keys.family.defaults:
        return {}
    count, chosen = _num_experts(keys), keys.size("num_experts_per_tok")
    if chosen > count:
        raise UserError(f"{keys.where}: num_experts_per_tok={chosen} is more than the {count} experts")
    step, dense = keys.optional("decoder_sparse_step") or 1, keys.optional("mlp_only_layers") or ()
    if step != 1 or set(dense) & set(range(layers)):
        raise UserError(f"{keys.where}: decoder_sparse_step={step}, mlp_only_layers={list(dense)}: layers without "
                        "experts beside layers with them are not supported")  # fmt: skip
    return {
        "num_experts": count,
        "experts_per_token": chosen,
        "expert_dim": keys.size("moe_intermediate_size"),
        "norm_topk": bool(keys.get("norm_topk_prob")),
        "shared_dim": keys.optional("shared_expert_intermediate_size") or 0,
        "router_coef": keys.number("router_aux_loss_coef") if keys.get("router_aux_loss_coef") else 0.0,
    }


def _num_experts(keys: Keys) -> int:
    """The number of experts, under either of its names: published files have one, saved by transformers 5 another."""
    given = {name: keys.raw[name] for name in ("num_experts", "num_local_experts") if name in keys.raw}
    keys.used.update(given)
    if len(set(given.values())) > 1:
        raise UserError(f"{keys.where}: num_experts={given['num_experts']} and num_local_experts="
                        f"{given['num_local_experts']} are two numbers of one thing")  # fmt: skip
    count = next(iter(given.values()), keys.family.defaults["num_experts"])
    if not isinstance(count, int) or count < 1:
        raise UserError(f"{keys.where}: {next(iter(given))} is {count!r}, a positive integer is needed")
    return count


def _activation(keys: Keys) -> str:
    name = keys.get("hidden_act")
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UserError(f"{keys.where}: {keys.name('hidden_act')}={name!r} is not supported; known are "
                        f"{', '.join(ACTIVATIONS)}")  # fmt: skip
    return ACTIVATIONS[name]


def _attn_scale(keys: Keys) -> float:
    """What scores are multiplied by, 0 for the usual head_dim ** -0.5."""
    if keys.optional("scale_attn_weights") is False:
        return 1.0
    return keys.number("query_pre_attn_scalar") ** -0.5 if keys.optional("query_pre_attn_scalar") else 0.0


def _windows(keys: Keys, layers: int) -> tuple[int, ...]:
    """One sliding window a layer, 0 for full attention, from sliding_window and layer_types."""
    family = keys.family
    if not family.sliding:
        return (0,) * layers
    window = keys.least("sliding_window")
    if family.sliding == "always":
        return (window,) * layers
    use = keys.get("use_sliding_window") if family.sliding != "pattern" else True
    window = window if use else 0
    if family.sliding == "all":
        return (window,) * layers
    otherwise = _layer_types(keys, layers, window)
    types = keys.get("layer_types") or otherwise
    if len(types) != layers or set(types) - set(LAYER_TYPES):
        raise UserError(f"{keys.where}: layer_types must name full_attention or sliding_attention for each of "
                        f"{layers} layers")  # fmt: skip
    if "sliding_attention" in types and not window:
        raise UserError(f"{keys.where}: layer_types has sliding_attention but sliding_window is not set")
    return tuple(window if t == "sliding_attention" else 0 for t in types)


def _layer_types(keys: Keys, layers: int, window: int) -> list[str]:
    """The types of layers where the config does not list them."""
    first, every = keys.optional("max_window_layers"), keys.optional("sliding_window_pattern")
    if keys.family.sliding == "even":
        slides = [i % 2 == 0 and i < first for i in range(layers)]
    elif every:
        slides = [(i + 1) % every != 0 for i in range(layers)]
    elif first is None:
        slides = [not t for t in turned_layers(keys, layers)]  # SmolLM3: those that RoPE does not turn
    else:
        slides = [i >= first for i in range(layers)]
    return [LAYER_TYPES[bool(window and s)] for s in slides]


def preset_sizes(family: str, preset: str) -> dict[str, Any]:
    """A preset's entries of config.json. Raises UserError for an unknown family or preset, listing the known."""
    if family not in FAMILIES:
        raise UserError(f"family {family!r} is not known; known are {', '.join(FAMILIES)}")
    presets = FAMILIES[family].presets
    if preset not in presets:
        raise UserError(f"{family} has no preset {preset!r}; it has {', '.join(presets)}")
    return {"model_type": family, **presets[preset]}
