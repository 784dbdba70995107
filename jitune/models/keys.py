"""The keys of one config.json: which are understood, which change nothing, and that no other is let through.

    keys = Keys({"model_type": "gpt2", "n_embd": 768, ...}, "config.json")
    keys.size("hidden_size")    # 768: asked for by Llama's name of the key
    keys.finish()               # raises for what nobody asked for
"""

from __future__ import annotations

import math
from typing import Any

from jitune.models.families import FAMILIES
from jitune.models.family import Family
from jitune.tree import nearest
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
    "attn_logit_softcapping": (None,),
    "use_bidirectional_attention": (False, None),
    "scale_attn_by_inverse_layer_idx": (False, None),
    "lm_head_bias": (False, None),
    "full_attn_mod": (1, None),
    "interpolate_factor": (1, None),
    "router_jitter_noise": (0, 0.0, None),
}
# Keys of a config that holds this one as its text_config which say nothing of the text model.
WRAPPING_KEYS = frozenset(
    """text_config vision_config mm_tokens_per_image boi_token_index eoi_token_index image_token_index
    boi_token_id eoi_token_id image_token_id""".split()
)
REFUSALS = {
    "quantization_config": "quantized checkpoints are not loaded; bring the unquantized weights",
    "auto_map": "the checkpoint asks for code of its own, and remote code is never loaded",
}


class Keys:
    """Reads the keys of one config, remembers which were used, and refuses the rest.

    Raises UserError for a model_type that is not supported.
    """

    def __init__(self, raw: dict[str, Any], where: str):
        self.raw = _unwrapped(dict(raw), where)
        self.where = where
        self.family = _family(self.raw, where)
        self.used: set[str] = set()
        self.last = ""  # the key that was asked for last, by its own name

    def name(self, key: str) -> str:
        """The family's name of a key, given Llama's."""
        return self.family.keys.get(key, key)

    def get(self, key: str):
        """The value of a key, by default that of the family."""
        name = self.last = self.name(key)
        self.used.add(name)
        return self.raw[name] if name in self.raw else self.family.defaults.get(key)

    def optional(self, key: str):
        """The value of a key that only some families have; None in the others, where it is refused if it is there."""
        return self.get(key) if key in self.family.defaults else None

    def size(self, key: str) -> int:
        """The value of a key that must be a positive integer."""
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{self.where}: {self.name(key)} is {value!r}, a positive integer is needed")
        return value

    def least(self, key: str) -> int:
        """The value of a key that is a positive integer, or 0 where it is absent, null or 0."""
        return self.size(key) if self.get(key) else 0

    def number(self, key: str) -> float:
        """The value of a key that must be a number."""
        value = self.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise UserError(f"{self.where}: {self.name(key)} is {value!r:.60}, a number is needed")
        return float(value)

    def finish(self) -> None:
        """Raises UserError for a key that is not understood, or has a value that is not."""
        known = self.used | NEUTRAL_KEYS | set(self.family.neutral.split())
        for key, allowed in REQUIRED_VALUES.items():
            if key in self.raw and key not in known and self.raw[key] not in allowed:
                raise UserError(
                    f"{self.where}: {key}={self.raw[key]!r} is not supported, only {allowed[0]!r} is"
                )
        for key in sorted(self.raw.keys() - known - REQUIRED_VALUES.keys()):
            hint = nearest(key, known, 2)
            like = f"; the nearest known keys are {', '.join(hint)}" if hint else ""
            reason = REFUSALS.get(key, f"it is not a key of the {self.family.name} family{like}")
            raise UserError(f"{self.where}: unknown key {key!r} ({self.raw[key]!r:.60}): {reason}")


def _unwrapped(raw: dict, where: str) -> dict:
    """The config of the text model where it stands inside that of a larger one."""
    for family in FAMILIES.values():
        if family.wrapped_by and family.wrapped_by == raw.get("model_type"):
            text = raw.get("text_config")
            if not isinstance(text, dict) or text.get("model_type", family.name) != family.name:
                raise UserError(f"{where}: {family.wrapped_by} needs a text_config of model_type {family.name}")
            outer = {k: v for k, v in raw.items() if k not in WRAPPING_KEYS}
            ids = {k: v for k, v in outer.items() if k.endswith("_token_id") and v is not None}
            return {**outer, **text, **ids, "model_type": family.name}
    return raw


def _family(raw: dict, where: str) -> Family:
    name = raw.get("model_type")
    if not isinstance(name, str) or name not in FAMILIES:
        known = [*FAMILIES, *filter(None, (family.wrapped_by for family in FAMILIES.values()))]
        raise UserError(f"{where}: model_type {name!r} is not supported; known are {', '.join(known)}")
    family = FAMILIES[name]
    if family.own_code and _is_copied(raw.get("auto_map"), family):
        raw.pop("auto_map")
    for key in ("auto_map", "quantization_config"):
        if raw.get(key):
            raise UserError(f"{where}: {key} is set: {REFUSALS[key]}")
        raw.pop(key, None)
    return family


def _is_copied(auto_map: Any, family: Family) -> bool:
    """Whether the code that a config names is of transformers' own classes: {"AutoConfig": "x.Phi3Config", ...}."""
    own = {family.architecture, family.architecture.removesuffix("ForCausalLM") + "Config"}
    named = {k: v for k, v in auto_map.items() if k != "AutoTokenizer"} if isinstance(auto_map, dict) else {}
    return bool(named) and {str(v).rpartition(".")[2] for v in named.values()} <= own
