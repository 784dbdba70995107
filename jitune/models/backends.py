"""Which attention runs where, and what it cannot honour: `config.model.attention` as pure functions.

    refused("cudnn", platform="cpu", dtype="bfloat16", head_dim=64)    # "config.model.attention=cudnn needs an ..."
    lacking("pallas", {"window"})                                      # "has no sliding windows"
    form("auto", 512, "cpu")                                           # "xla"

What no call of a run could use is refused; what some calls need and a kernel has not makes these calls fall back.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Set
from typing import NamedTuple

# From how many tokens on `auto` takes chunks. Measured forward and backward on a CPU beside blocks of queries: 512
# tokens take 1.1 of their time, 1,024 take 0.56 in 0.31 of the memory, 4,096 take 0.56 in 0.10 of it. On other
# devices, where nothing has been measured, only rows whose scores alone could take all memory.
CHUNKS_FROM = {"cpu": 1024}
ELSEWHERE = 8193
# What each need is called in "has no ...".
WORDS = {
    "softcap": "soft caps of scores",
    "window": "sliding windows",
    "traced window": "windows that differ from layer to layer in ways that are not told beforehand",
    "prefix": "trained tokens in front of every document",
    "tree": "documents that share their beginning",
    "split": "sequences that are split over devices",
}


class Backend(NamedTuple):
    """A kernel. platform: as jax calls it, "" for all; device: in words. head_dim: the largest; lacks: of WORDS."""

    platform: str
    device: str
    head_dim: int
    lacks: tuple[str, ...]


# tokamax, cudnn: masks say what is seen, so that they have windows, prefixes and trees.
BACKENDS = {
    "cudnn": Backend("gpu", "an NVIDIA GPU", 256, ("softcap", "split")),
    "pallas": Backend("gpu", "an NVIDIA GPU", 128, ("softcap", "window", "traced window", "prefix", "tree", "split")),
    "splash": Backend("tpu", "a TPU", 256, ("traced window", "prefix", "tree", "split")),
    "tokamax": Backend("", "", 256, ("split",)),
}  # fmt: skip


def form(kind: str, length: int, platform: str) -> str:
    """What `auto` is for rows of so many tokens on a platform: xla, or chunked; other kinds are what they are."""
    if kind != "auto":
        return kind
    return "chunked" if length >= CHUNKS_FROM.get(platform, ELSEWHERE) else "xla"


def refused(kind: str, *, platform: str, dtype: str, head_dim: int, softcap: float = 0.0, here: bool = True) -> str:
    """Why no call of a model with these could run as `kind`, in one line; "" where it could.

    here: False of another machine, whose packages are not known.
    """
    backend, given = BACKENDS.get(kind), f"config.model.attention={kind}"
    if backend is None:
        return ""
    if backend.platform and (platform != backend.platform or dtype == "float32"):
        return (f"{given} needs {backend.device} and config.model.dtype=bfloat16, "
                f"not {platform} with {dtype}. auto works everywhere")  # fmt: skip
    if kind == "tokamax" and here and importlib.util.find_spec("tokamax") is None:
        return f"{given} needs the package tokamax: pip install 'jitune[tokamax]'"
    if kind == "tokamax" and platform != "cpu" and dtype == "float32":
        return f"{given} is exact in config.model.dtype=float32 on a CPU only; bfloat16, or auto, works here"
    if head_dim > backend.head_dim or (backend.platform and head_dim % 8):
        return (f"{given} takes heads of up to {backend.head_dim} features, a multiple of 8; this model's have "
                f"{head_dim}. auto works with all")  # fmt: skip
    if softcap and "softcap" in backend.lacks:
        able = [name for name, other in BACKENDS.items() if "softcap" not in other.lacks]
        return f"{given} has no {WORDS['softcap']}, which this model has; auto, xla, chunked, {', '.join(able)} have"
    return ""


def refused_split(kind: str) -> str:
    """Why no sequence that lies on several devices can run as `kind`, in one line; "" where it can."""
    if kind not in BACKENDS:
        return ""
    return (f"config.model.attention={kind} has no form for a sequence that is split over mesh.context; "
            "auto works everywhere")  # fmt: skip


def lacking(kind: str, needs: Set[str]) -> str:
    """What a call needs, of WORDS, and the kernel `kind` has not: "has no ... and no ..."; "" for nothing."""
    missing = [WORDS[need] for need in BACKENDS[kind].lacks if need in needs]
    return f"has no {' and no '.join(missing)}" if missing else ""
