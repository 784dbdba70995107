"""Where each parameter lies in a Hugging Face checkpoint: the two-way name table of a config's family.

    names(config)["layers/attn/q_proj/kernel"]   # Stored("model.layers.{i}.self_attn.q_proj.weight", True, None)

Loading, saving and adapters read this table, in both directions, and nothing else of a family.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES, IGNORED_TENSORS, NAMES


class Stored(NamedTuple):
    """One parameter's place on disk.

    name: of the tensor, `{i}` standing for the layer and `{e}` for the expert. transposed: it is stored [out, in],
    where the parameter is [in, out]. rows: (first, count) along the tensor's output axis, of a tensor that holds
    several parameters end to end (a fused projection); None: it is the whole tensor.
    """

    name: str
    transposed: bool
    rows: tuple[int, int] | None = None


@lru_cache(maxsize=32)
def names(config: ModelConfig) -> dict[str, Stored]:
    """{path of a parameter in jitune: its place on disk}, for all that a model of this family may have."""
    family = FAMILIES[config.family]
    found = {}
    for path, name in (NAMES | family.names).items():
        kept = family.conv1d and path.startswith("layers/")
        found[path] = Stored(name, path.endswith("/kernel") and not kept)
    for module, parts in family.fused.items():
        first = 0
        for part in parts:
            count = _width(config, part)
            for leaf, ending in (("kernel", "weight"), ("bias", "bias")):
                path = f"layers/{part}/{leaf}"
                found[path] = Stored(f"{module}.{ending}", found[path].transposed, (first, count))
            first += count
    return found


EXPERTS = "model.layers.{i}.mlp.experts.gate_up_proj"


def experts_in_one(config: ModelConfig) -> dict[str, Stored]:
    """The table of a file whose tensors hold all experts of a layer, [experts, out, in].

    So transformers 5 has them in memory, and saves them with `save_original_format=False`.
    """
    layer, experts, width = "model.layers.{i}.mlp.", "layers/mlp/experts/", config.expert_dim
    return {
        **names(config),
        "layers/mlp/router/kernel": Stored(f"{layer}gate.weight", True),
        f"{experts}gate_proj/kernel": Stored(EXPERTS, True, (0, width)),
        f"{experts}up_proj/kernel": Stored(EXPERTS, True, (width, width)),
        f"{experts}down_proj/kernel": Stored(f"{layer}experts.down_proj", True),
    }


def _width(config: ModelConfig, part: str) -> int:
    """The output features of a module that is a part of a fused one: "attn/k_proj"."""
    heads = {"attn/q_proj": config.num_heads, "attn/k_proj": config.num_kv_heads, "attn/v_proj": config.num_kv_heads}
    return heads[part] * config.head_dim if part in heads else config.mlp_dim


def ignored(config: ModelConfig) -> str:
    """A regular expression for tensors on disk that hold no parameter: buffers, and parts that are not of the text."""
    return "|".join(filter(None, (IGNORED_TENSORS, FAMILIES[config.family].ignored)))
