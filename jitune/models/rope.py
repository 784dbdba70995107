"""Which rotary embedding each layer has, read from a config's keys; no arrays (those are in `models.rotary`).

    ropes, rope_of_layer = read_ropes(keys, head_dim=64, sliding=(True, True, False))

In: v5's `rope_parameters`, flat or nested by layer type, and the older `rope_theta`, `rope_scaling` and
`rope_local_base_freq`. Where several say something, that counts which counts in transformers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from jitune.models.keys import Keys
from jitune.types import UserError

LAYER_TYPES = ("full_attention", "sliding_attention")


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding of a layer.

    kind: none (the layer is not turned), default, linear, llama3, yarn or longrope. theta: the base. partial: the share
    of a head's features that turn, the first ones. factor: how much longer contexts are than original_max_position.
    attention_factor: cosines and sines are multiplied by it. beta_fast, beta_slow, truncate: where yarn's ramp
    begins and ends. short, long: longrope's divisors of the frequencies, for documents of up to original_max_position
    tokens, and for longer ones.
    """

    kind: str = "default"
    theta: float = 10_000.0
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 0
    partial: float = 1.0
    attention_factor: float = 1.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()

    def width(self, head_dim: int) -> int:
        """How many features of a head turn."""
        return int(head_dim * self.partial)


def read_ropes(keys: Keys, *, head_dim: int, sliding: tuple[bool, ...]) -> tuple[tuple[Rope, ...], tuple[int, ...]]:
    """(the ropes that layers have, the index of each layer's). sliding: which layers have a window.

    Raises UserError for kinds and settings that are not understood.
    """
    if keys.family.learned_positions:
        return (Rope("none"),), (0,) * len(sliding)
    full, local = _by_type(keys, head_dim)
    turned = turned_layers(keys, len(sliding))
    of_layer = [(local if s else full) if t else replace(NONE, partial=full.partial)
                for s, t in zip(sliding, turned, strict=True)]  # fmt: skip
    ropes = tuple(dict.fromkeys(of_layer))
    if len({r.partial for r in ropes}) > 1:
        raise UserError(f"{keys.where}: partial_rotary_factor must be the same in all layers")
    return ropes, tuple(ropes.index(r) for r in of_layer)


NONE = Rope("none")


def turned_layers(keys: Keys, layers: int) -> list[bool]:
    """Which layers have a rope at all."""
    if "no_rope_layers" not in keys.family.defaults:
        return [True] * layers
    interval, given = keys.size("no_rope_layer_interval"), keys.get("no_rope_layers")
    if given is None:
        return [(i + 1) % interval != 0 for i in range(layers)]
    if not isinstance(given, list) or len(given) < layers:
        raise UserError(f"{keys.where}: no_rope_layers must be a list of 0 or 1 for each of {layers} layers")
    return [bool(x) for x in given[:layers]]


def _by_type(keys: Keys, head_dim: int) -> tuple[Rope, Rope]:
    """The ropes of layers with full attention and of sliding ones."""
    theta, given, scaling = keys.number("rope_theta"), keys.get("rope_parameters") or {}, keys.get("rope_scaling")
    for name, settings in (("rope_parameters", given), ("rope_scaling", scaling or {})):
        if not isinstance(settings, dict):
            raise UserError(f"{keys.where}: {name} is {settings!r:.60}, an object is needed")
    given = dict(given)
    top = keys.get("original_max_position_embeddings")
    local_theta = keys.optional("rope_local_base_freq")
    if local_theta is None and (scaling or not given.keys() & set(LAYER_TYPES)):
        rope = _read(keys, scaling or given, given.get("rope_theta", theta), top, head_dim)
        return rope, rope
    types = [given.pop(name, None) or {} for name in LAYER_TYPES]
    if given:
        raise UserError(f"{keys.where}: rope settings not understood beside those by layer type: "
                        f"{', '.join(sorted(given))}")  # fmt: skip
    thetas = (theta, theta if local_theta is None else local_theta)
    types[0] = {**types[0], **(scaling or {})}
    full, local = (_read(keys, one, t, None, head_dim) for one, t in zip(types, thetas, strict=True))
    return full, local


def _read(keys: Keys, given: dict, theta, top: int | None, head_dim: int) -> Rope:
    """One rope from its settings. theta: by default. top: original_max_position_embeddings of the config itself."""
    rest, where = dict(given), keys.where
    old = rest.pop("type", None)
    kind = rest.pop("rope_type", None) or old or "default"
    kind = keys.family.rope_kinds.get(str(kind), kind)
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"{where}: rope type {kind!r} is not supported; known are {', '.join(KINDS)}")
    partial, outside = rest.pop("partial_rotary_factor", None), keys.optional("partial_rotary_factor")
    partial = outside if partial is None else partial
    if "partial_rotary_factor" not in keys.family.defaults and partial not in (1, 1.0, None):
        raise UserError(f"{where}: partial_rotary_factor other than 1 is not supported by {keys.family.name}")
    rope = Rope(kind, float(rest.pop("rope_theta", None) or theta), partial=float(1 if partial is None else partial))
    if rope.width(head_dim) % 2:
        raise UserError(f"{where}: {rope.width(head_dim)} features of a head turn, an even number is needed")
    original = rest.pop("original_max_position_embeddings", None)
    original = int(top or original or keys.get("max_position_embeddings") or 0)
    try:
        rope = KINDS[kind](replace(rope, original_max_position=original), rest, keys, head_dim)
    except KeyError as missing:
        raise UserError(f"{where}: rope type {kind!r} needs {missing}") from None
    if rest := sorted(k for k, v in rest.items() if v is not None):
        raise UserError(f"{where}: rope settings not understood: {', '.join(rest)}")
    return rope


# By kind: (rope, settings, keys, head_dim) -> rope. They take their settings out; a missing one is a KeyError.


def _default(rope: Rope, rest: dict, keys: Keys, head_dim: int) -> Rope:
    rest.pop("factor", None)
    return replace(rope, original_max_position=0)


def _linear(rope: Rope, rest: dict, keys: Keys, head_dim: int) -> Rope:
    return replace(rope, factor=float(rest.pop("factor")), original_max_position=0)


def _llama3(rope: Rope, rest: dict, keys: Keys, head_dim: int) -> Rope:
    _check_original(rope)
    return replace(
        rope,
        factor=float(rest.pop("factor")),
        low_freq_factor=float(rest.pop("low_freq_factor")),
        high_freq_factor=float(rest.pop("high_freq_factor")),
    )


def _yarn(rope: Rope, rest: dict, keys: Keys, head_dim: int) -> Rope:
    """YaRN (arXiv 2309.00071), with the attention factors of DeepSeek where both mscales are given."""
    factor = _stretch(rope, rest.pop("factor"), keys)
    given, mscale, all_dim = (rest.pop(k, None) for k in ("attention_factor", "mscale", "mscale_all_dim"))

    def scale(by: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * by * math.log(factor) + 1.0

    attention = scale(mscale) / scale(all_dim) if mscale and all_dim else scale(1.0)
    fast, slow, truncate = (rest.pop(k, None) for k in ("beta_fast", "beta_slow", "truncate"))
    return replace(
        rope, factor=factor, attention_factor=float(attention if given is None else given),
        beta_fast=float(fast or 32), beta_slow=float(slow or 1), truncate=truncate is not False,
    )  # fmt: skip


def _longrope(rope: Rope, rest: dict, keys: Keys, head_dim: int) -> Rope:
    """LongRoPE (arXiv 2402.13753) as Phi-3 has it."""
    short, long = rest.pop("short_factor"), rest.pop("long_factor")
    factor, given = _stretch(rope, rest.pop("factor", None), keys), rest.pop("attention_factor", None)
    for name, values in (("short_factor", short), ("long_factor", long)):
        if not isinstance(values, list) or len(values) != rope.width(head_dim) // 2:
            count = len(values) if isinstance(values, list) else repr(values)
            raise UserError(f"{keys.where}: longrope's {name} must have {rope.width(head_dim) // 2} numbers, "
                            f"one for two features that turn; it has {count}")  # fmt: skip
    length = rope.original_max_position
    attention = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(length))
    return replace(rope, factor=factor, attention_factor=float(attention if given is None else given),
                   short=tuple(map(float, short)), long=tuple(map(float, long)))  # fmt: skip


def _check_original(rope: Rope) -> None:
    if not rope.original_max_position:
        raise KeyError("original_max_position_embeddings")


def _stretch(rope: Rope, factor, keys: Keys) -> float:
    """The factor, by default the ratio of the context to the original one."""
    _check_original(rope)
    if factor is not None:
        return float(factor)
    longest = keys.get("max_position_embeddings")
    if not longest:
        raise KeyError("factor")
    return longest / rope.original_max_position


KINDS = {"default": _default, "linear": _linear, "llama3": _llama3, "yarn": _yarn, "longrope": _longrope}
