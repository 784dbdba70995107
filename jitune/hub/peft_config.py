"""PEFT's adapter_config.json: read and checked, the modules that it names found, and written again.

    config = read(directory)                        # refused: what would change the result and is not supported
    found = target_modules(config, modules, where)  # modules: {"model.layers.0.self_attn.q_proj": "linear", ...}
    scale = scale_of(config, found[0])

The rules by which names match are those of PEFT 0.21 (tuners/tuners_utils.py, utils/other.py).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jitune import tree
from jitune.hub import files
from jitune.types import UserError

FILE = "adapter_config.json"
TYPES = ("LORA", "PREFIX_TUNING", "PROMPT_TUNING", "TRAINABLE_TOKENS")
# PEFT's name for "no module has factors": the adapter is made of saved modules or token rows alone.
NO_TARGETS = "dummy-target-modules"
HEAD = "lm_head"
# Names of modules that make PEFT keep embedding and head one weight (ensure_weight_tying); GPT-2's wte does not.
TYING = ("embed_tokens", HEAD)
# Initializations that leave the base as it is, so that the factors alone say what was trained.
PLAIN_INITS = (True, False, None, "gaussian", "eva", "orthogonal")
UNDERSTOOD = frozenset(
    """peft_type task_type r lora_alpha target_modules exclude_modules modules_to_save trainable_token_indices bias
    use_rslora use_dora rank_pattern alpha_pattern layers_to_transform layers_pattern ensure_weight_tying
    init_lora_weights base_model_name_or_path token_indices num_virtual_tokens num_transformer_submodules
    num_attention_heads num_layers token_dim""".split()
)
# Of training only, or bookkeeping. fan_in_fan_out is about how a base is stored, which the family tells.
NEUTRAL = frozenset(
    """auto_mapping peft_version revision inference_mode lora_dropout fan_in_fan_out loftq_config eva_config
    corda_config lora_ga_config velora_config qalora_group_size megatron_core runtime_config init_weights
    encoder_hidden_size prefix_projection prompt_tuning_init prompt_tuning_init_text tokenizer_name_or_path
    tokenizer_kwargs""".split()
)


def read(directory: Path) -> dict[str, Any]:
    """The config of an adapter directory.

    Raises UserError for a kind of adapter that is not supported, and for options that would change what the adapter
    computes and are not understood.
    """
    where = directory / FILE
    config = files.read_json(where)
    kind = config.get("peft_type")
    if kind not in TYPES:
        raise UserError(f"{where}: peft_type {kind!r} is not supported; supported are {', '.join(TYPES)}")
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise UserError(f"{where}: task_type {config['task_type']!r} is not supported; supported is CAUSAL_LM")
    if config.get("bias", "none") != "none":
        raise UserError(f"{where}: bias={config['bias']!r} is not supported; supported is 'none'")
    if config.get("init_lora_weights") not in PLAIN_INITS:
        raise UserError(f"{where}: init_lora_weights={config['init_lora_weights']!r} changes the base on loading; "
                        "convert the adapter with PEFT (path_initial_model_for_weight_conversion)")  # fmt: skip
    for key, value in config.items():
        if key not in UNDERSTOOD | NEUTRAL and value not in (None, False, 0, "", [], {}):
            raise UserError(f"{where}: {key}={value!r:.60} is not supported; supported is an adapter without it")
    _check_types(config, where)
    return config


def _check_types(config: dict, where: Path) -> None:
    """Raises UserError for ranks, names and patterns of another type, and for broken regular expressions."""
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(config.get(key) or {}, dict):
            raise UserError(f"{where}: {key}={config[key]!r:.60} must be an object of patterns and numbers")
    ranks = {"r": config.get("r", 8), **(patterns := config.get("rank_pattern") or {})}
    alphas = {"lora_alpha": config.get("lora_alpha", 8), **(config.get("alpha_pattern") or {})}
    names = {key: config.get(key) for key in ("target_modules", "exclude_modules", "modules_to_save")}
    for name, value in ranks.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{where}: {name}={value!r} must be a positive integer")
    for name, value in alphas.items():
        if not isinstance(value, (int, float)):
            raise UserError(f"{where}: {name}={value!r} must be a number")
    for name, value in names.items():
        if not isinstance(value, (str, list, type(None))) or not all(isinstance(v, str) for v in value or ()):
            raise UserError(f"{where}: {name}={value!r:.60} must be a list of names")
    whole = [names[key] for key in ("target_modules", "exclude_modules") if isinstance(names[key], str)]
    for pattern in (*whole, *patterns, *alphas):
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f"{where}: {pattern!r} is not a regular expression: {error}") from None


def _as_list(value) -> list:
    return [] if value is None else [value] if isinstance(value, (str, int)) else list(value)


def target_modules(config: dict, modules: dict[str, str], where: Path) -> list[str] | None:
    """The modules that have factors, in the order of `modules`; None: the config leaves it to the tensors.

    modules: {name: linear | embedding | other}. A list names modules or their last parts, a text is a regular
    expression for the whole name. Raises UserError for one that matches nothing.
    """
    wanted = config.get("target_modules")
    if wanted is None:
        return None
    if wanted == NO_TARGETS:
        return []
    if isinstance(wanted, str):
        linear = wanted.lower() == "all-linear"
        hits = [m for m in modules if (modules[m] == "linear" and m != HEAD if linear else re.fullmatch(wanted, m))]
        if not hits:
            raise _no_match("target_modules", wanted, modules, where)
    else:
        for entry in wanted:
            if not any(_names(entry, m) for m in modules):
                raise _no_match("target_modules", entry, modules, where)
        hits = [m for m in modules if any(_names(entry, m) for entry in wanted) and _in_layers(config, m)]
    excluded, saved = config.get("exclude_modules") or [], _as_list(config.get("modules_to_save"))

    def out(module):
        if isinstance(excluded, str):
            return re.fullmatch(excluded, module)
        return any(_names(e, module) for e in excluded) or any(
            re.match(rf"(^|.*\.){s}($|\..*)", module) for s in saved)

    hits = [m for m in hits if not out(m)]
    if other := [m for m in hits if modules[m] == "other"]:
        raise UserError(f"{where}: target_modules names {other[0]}, which is neither a linear layer nor an embedding")
    return hits


def _no_match(key: str, entry: str, modules: Iterable[str], where: Path) -> UserError:
    tails = dict.fromkeys(m.rpartition(".")[2] for m in modules)
    near = tree.nearest(entry, tails) or tree.nearest(entry, modules) or list(tails)
    return UserError(f"{where}: {key} {entry!r} matches no module of the base; the nearest are {', '.join(near[:3])}")


def _names(entry: str, module: str) -> bool:
    return module == entry or module.endswith(f".{entry}")


def _in_layers(config: dict, module: str) -> bool:
    """Whether layers_to_transform, if given, holds the module's layer."""
    layers = config.get("layers_to_transform")
    if layers is None or layers == []:
        return True
    patterns = [rf"(?:^|.*?\.){p}\.(?P<i>\d+)\." for p in _as_list(config.get("layers_pattern"))]
    found = next((m for p in patterns or [r".*?\.[^.]*\.(?P<i>\d+)\."] if (m := re.match(p, module))), None)
    return found is not None and int(found["i"]) in _as_list(layers)


def saved_modules(config: dict, modules: Iterable[str], where: Path) -> list[str]:
    """The modules of modules_to_save: those whose name ends so. Raises UserError for one that matches nothing."""
    modules = list(modules)
    entries = _as_list(config.get("modules_to_save"))
    for entry in entries:
        if not any(m.endswith(entry) for m in modules):
            raise _no_match("modules_to_save", entry, modules, where)
    return [m for m in modules if any(m.endswith(entry) for entry in entries)]


def token_rows(config: dict, tables: Sequence[str], where: Path) -> dict[str, list[int]]:
    """{module: token ids} of what is trained token by token; tables: embedding and head. Raises UserError."""
    given = config.get("trainable_token_indices")
    if config["peft_type"] == "TRAINABLE_TOKENS":
        named = _as_list(config.get("target_modules")) or [tables[0]]
        given = {name: config.get("token_indices") for name in named}
    if given is None:
        return {}
    given = given if isinstance(given, dict) else {tables[0]: given}
    found = {}
    for name, ids in given.items():
        hits = [t for t in tables if _names(name, t)]
        if not hits:
            raise _no_match("trainable_token_indices", name, tables, where)
        if not ids or not all(isinstance(i, int) and i >= 0 for i in ids) or len(set(ids)) != len(ids):
            raise UserError(f"{where}: token ids of {name}: {str(ids)[:60]}; a list of token ids, each once, is needed")
        found[hits[0]] = ids
    return found


def pattern_value(patterns: dict | None, module: str, default):
    """The value of the first pattern that matches the end of the module's name."""
    return next((v for p, v in (patterns or {}).items() if re.match(rf"(.*\.)?({p})$", module)), default)


def rank_of(config: dict, module: str) -> int:
    """The rank of a module's factors."""
    return pattern_value(config.get("rank_pattern"), module, config.get("r", 8))


def scale_of(config: dict, module: str) -> float:
    """What the product of a module's factors is multiplied with: alpha / r, or alpha / sqrt(r) with rsLoRA."""
    rank = rank_of(config, module)
    alpha = pattern_value(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _common(base: str) -> dict[str, Any]:
    return {"auto_mapping": None, "base_model_name_or_path": base or None, "inference_mode": True, "revision": None,
            "task_type": "CAUSAL_LM"}  # fmt: skip


def write_lora(
    base: str, ranks: dict[str, int], scales: dict[str, float], modules: dict[str, str], *, dora: bool,
    saved: Sequence[str], rows: dict[str, list[int]], tied: bool, rslora: bool | None = None,
    fan_in_fan_out: bool = False,
) -> dict:  # fmt: skip
    """The config of factors, saved modules and token rows, as PEFT 0.21 writes it.

    ranks, scales: of each module that has factors; modules: all of the base. tied: the head is the embedding, and one
    of them is changed. rslora: whether scales are alpha / sqrt(r); None: if that makes every alpha a round number and
    alpha / r does not. fan_in_fan_out: the weights of some modules with factors are stored [in, out].
    """
    if rslora is None:
        plain, root = ([_is_round(_alpha(s, ranks[m], rs)) for m, s in scales.items()] for rs in (False, True))
        rslora = all(root) and not all(plain)
    alphas = {m: _alpha(s, ranks[m], rslora) for m, s in scales.items()}
    rank, alpha = (Counter(v.values()).most_common(1)[0][0] if v else 8 for v in (ranks, alphas))
    named = any(m.rpartition(".")[2] in TYING for m in (*ranks, *saved) if m != HEAD)
    targets, ids = [m for m in ranks if not (tied and named and m == HEAD)], list(rows.values())
    return {
        **_common(base), "peft_type": "LORA", "bias": "none", "fan_in_fan_out": fan_in_fan_out,
        "init_lora_weights": True, "layers_pattern": None, "layers_to_transform": None, "lora_dropout": 0.0,
        "exclude_modules": None,
        "target_modules": shorten(targets, modules, _names) if targets else NO_TARGETS, "r": rank, "lora_alpha": alpha,
        "rank_pattern": _exceptions(ranks, rank), "alpha_pattern": _exceptions(alphas, alpha),
        "use_rslora": rslora, "use_dora": dora, "ensure_weight_tying": tied,
        "modules_to_save": shorten(saved, modules, lambda entry, m: m.endswith(entry)) or None,
        "trainable_token_indices": None if not rows else ids[0] if len(rows) == 1 else {
            m.rpartition(".")[2]: i for m, i in rows.items()},
    }  # fmt: skip


def write_prompt(base: str, kind: str, tokens: int, layers: int, heads: int, width: int) -> dict:
    """The config of a prefix or a prompt. heads, width: of keys and values for a prefix, of the model for a prompt."""
    own = {
        "PREFIX_TUNING": {"prefix_projection": False, "encoder_hidden_size": width, "init_weights": None},
        "PROMPT_TUNING": {"prompt_tuning_init": "RANDOM", "prompt_tuning_init_text": None,
                          "tokenizer_name_or_path": None, "tokenizer_kwargs": None},
    }[kind]  # fmt: skip
    return {**_common(base), "peft_type": kind, "num_virtual_tokens": tokens, "num_transformer_submodules": 1,
            "num_layers": layers, "num_attention_heads": heads, "token_dim": width, "modules_to_save": None, **own}


def _alpha(scale: float, rank: int, rslora: bool):
    """alpha for a float32 scale, with as few digits as give that scale back: 5.3333335 of rank 3 -> 16."""
    import numpy as np

    size = math.sqrt(rank) if rslora else rank
    alpha = scale * size
    short = next(a for n in range(17) if np.float32((a := round(alpha, n)) / size) == np.float32(scale) or n == 16)
    return int(short) if short == int(short) else short


def _is_round(alpha: float) -> bool:
    return round(alpha, 4) == alpha


def _exceptions(values: dict[str, Any], default) -> dict[str, Any]:
    """Patterns for the modules with another value; one for all layers where they agree."""
    groups: dict[str, dict[str, Any]] = {}
    for module, value in values.items():
        groups.setdefault(module.rpartition(".")[2], {})[module] = value
    found = {}
    for tail, group in groups.items():
        same = len(set(group.values())) == 1
        found |= {tail if same else module: value for module, value in group.items() if value != default}
    return found


def shorten(chosen: Iterable[str], modules: Iterable[str], hits) -> list[str]:
    """Ends of names that mean exactly the chosen modules: q_proj for those of all layers, else whole names.

    hits: `(entry, module)`, whether an entry of the list means a module.
    """
    chosen, modules, found = set(chosen), list(modules), []
    for module in (m for m in modules if m in chosen):
        if any(hits(entry, module) for entry in found):
            continue
        parts = module.split(".")
        ends = (".".join(parts[i:]) for i in reversed(range(len(parts))) if not any(p.isdigit() for p in parts[i:]))
        found.append(next((e for e in ends if {m for m in modules if hits(e, m)} <= chosen), module))
    return found
