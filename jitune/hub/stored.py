"""Parameters and the tensors that hold them on disk, by the table of `models.names`: who holds what, and where in it.

    held = holders(table, {"layers/attn/q_proj/kernel": (2, 64, 64), ...})
    held["model.layers.1.self_attn.qkv_proj.weight"]    # Held(paths=(q, k, v), at=(1,), shape=(128, 64))

A tensor may hold one parameter, a layer or an expert of one, or several end to end (a fused projection). Nothing is
read here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jitune.models.names import Stored
from jitune.types import UserError


class Held(NamedTuple):
    """What one tensor on disk holds: parameters by path, in order, at this layer and expert; its shape there."""

    paths: tuple[str, ...]
    at: tuple[int, ...]
    shape: tuple[int, ...]


def depth(stored: Stored) -> int:
    """How many leading axes of the parameter are tensors of their own on disk: layers, experts."""
    return ("{i}" in stored.name) + ("{e}" in stored.name)


def fill(stored: Stored, at: Sequence[int]) -> str:
    """The tensor's name at a layer and an expert: at is (), (layer,), (expert,) or (layer, expert)."""
    letters = [letter for letter in "ie" if f"{{{letter}}}" in stored.name]
    return stored.name.format(**dict(zip(letters, at, strict=True)))


def groups(table: dict[str, Stored], paths: Iterable[str]) -> list[tuple[str, ...]]:
    """The paths whose parameters lie in one tensor, in its order; a parameter that has one to itself is a group.

    Raises UserError where a part of a tensor is not among the paths, or where the table's parts do not join.
    """
    by_name: dict[str, list[str]] = {}
    for path in paths:
        if path not in table:
            raise UserError(f"{path}: has no name in a Hugging Face checkpoint")
        by_name.setdefault(table[path].name, []).append(path)
    whole: dict[str, list[str]] = {}
    for path, stored in table.items():
        if stored.rows is not None and stored.name in by_name:
            whole.setdefault(stored.name, []).append(path)
    found = []
    for name, members in by_name.items():
        parts = sorted(whole.get(name, members), key=lambda p: table[p].rows or (0, 0))
        if lost := [p for p in parts if p not in members]:
            raise UserError(f"{name} holds {', '.join(parts)} in one; missing: {', '.join(lost)}")
        rows = [table[p].rows or (0, 0) for p in parts]
        ends = itertools.accumulate(count for _, count in rows)
        if [first for first, _ in rows] != [0, *ends][:-1] or (len(parts) > 1 and not all(n for _, n in rows)):
            raise UserError(f"{name}: its parts {', '.join(parts)} do not lie end to end")
        found.append(tuple(parts))
    return found


def holders(table: dict[str, Stored], shapes: dict[str, tuple[int, ...]]) -> dict[str, Held]:
    """{name on disk: what it holds} of parameters of these shapes. Raises UserError as `groups` does."""
    found = {}
    for paths in groups(table, shapes):
        stored, shape = table[paths[0]], shapes[paths[0]]
        levels = depth(stored)
        width = sum(shapes[p][-1] for p in paths)
        inner = (*shape[levels:-1], width)
        inner = (*inner[:-2], width, inner[-2]) if stored.transposed else inner
        for at in np.ndindex(*shape[:levels]):
            found[fill(stored, at)] = Held(paths, at, inner)
    return found


def on_disk(stored: Stored, array: np.ndarray) -> np.ndarray:
    """A parameter, or a part of it, as it lies on disk, and back: kernels stored [out, in] are transposed."""
    return np.swapaxes(array, -1, -2) if stored.transposed else array


def join(stored: Stored, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """One tensor as it lies on disk, of the parameters that it holds, in order, [..., out] each."""
    return on_disk(stored, arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1))


def index_on_disk(stored: Stored, index: Sequence[slice]) -> tuple[slice, ...]:
    """The slices of the tensor on disk that hold these slices of the parameter (leading axes left out)."""
    index = list(index)
    if stored.rows is not None:
        first, count = stored.rows
        start, stop, _ = index[-1].indices(count)
        index[-1] = slice(first + start, first + stop)
    if stored.transposed:
        index[-1], index[-2] = index[-2], index[-1]
    return tuple(index)


def localize(table: dict[str, Stored], found: Iterable[str]) -> dict[str, Stored]:
    """The table with the names that a file uses where its modules have another prefix than the family's.

    Example: a file with `wte.weight` for `transformer.wte.weight`, or with `language_model.model.embed_tokens.weight`.
    """
    found = list(found)
    embedding, head = table["embed/embedding"].name, table["lm_head/kernel"].name if "lm_head/kernel" in table else ""
    own, _, stem = embedding.partition(".")
    ends = [n.removesuffix(stem) for n in found if n == stem or n.endswith(f".{stem}")]
    if embedding in found or len(ends) != 1:
        return table
    heads = [n for n in found if n.endswith(f".{head}")] if head and head not in found else []
    renamed = {}
    for path, stored in table.items():
        name = stored.name
        if name.startswith(f"{own}."):
            name = ends[0] + name.removeprefix(f"{own}.")
        elif name == head and len(heads) == 1:
            name = heads[0]
        renamed[path] = stored._replace(name=name)
    return renamed

