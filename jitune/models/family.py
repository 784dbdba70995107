"""What one model family may have that Llama has not: the record that an entry of `models.families` fills.

    Family("olmo2", "Olmo2ForCausalLM", {...}, norm="rms_scaled", norms="post", qk_norm="width")

docs/adding_a_family.md lists the differences by example.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """Differences of one family from Llama.

    name: model_type. architecture: the class in transformers. defaults: those of its transformers config class, for
    absent keys, by Llama's names of the keys; a key of `models.config` that only some families have (attention_bias,
    query_pre_attn_scalar, partial_rotary_factor, ...) is one of this family where it stands here.

    sliding: "" (never), "always" (sliding_window counts wherever it is set), "optional" (only with
    use_sliding_window), "pattern" (by layer_types; without them every sliding_window_pattern-th layer is full); like
    "optional" but for the layers that slide are "all" (all of them) and "even" (every other one).
    """

    name: str
    architecture: str
    defaults: dict[str, Any]
    keys: dict[str, str] = field(default_factory=dict)  # names of keys in config.json that are others here
    neutral: str = ""  # more keys, separated by spaces, that do not change what is computed
    wrapped_by: str = ""  # model_type of configs that hold this family's as their text_config
    own_code: bool = False  # published checkpoints name copies of transformers' classes as code of their own
    qkv_bias: bool = False  # always, whatever the config says
    out_bias: bool = False
    mlp_bias: bool = False
    out_bias_follows: bool = True  # attention_bias gives the output projection a bias too
    norm: str = "rms"  # see `models.layers.Norm`: rms, rms_scaled, rms_plus_one, layer
    norms: str = "pre"  # of attention and MLP: pre, post or both
    qk_norm: str = ""  # of queries and keys: head (each head alone), width (the whole projection)
    gated: bool = True  # down(act(gate(x)) * up(x)); else down(act(up(x)))
    embed_scale: bool = False  # embeddings are multiplied by sqrt(hidden_size)
    learned_positions: bool = False  # added to the embeddings, in the place of rotary ones
    rope_kinds: dict[str, str] = field(default_factory=dict)  # names of rope kinds that mean another one here
    sliding: str = ""
    names: dict[str, str] = field(default_factory=dict)  # entries of `NAMES` that are others here
    fused: dict[str, tuple[str, ...]] = field(default_factory=dict)  # module on disk: the modules here that it holds
    conv1d: bool = False  # kernels of the layers are stored as here, [in, out]
    ignored: str = ""  # a regular expression for more tensors to pass over than IGNORED_TENSORS
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
