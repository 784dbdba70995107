"""Trees of arrays addressed by path: `layers/attn/q_proj/kernel`.

A path joins the keys from the root to a leaf with `/`. Only nested dicts (and NamedTuples and tuples,
whose fields and indices become keys) are met here; jax does the flattening.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

import jax


def path_str(path: tuple) -> str:
    """Joins the keys of a jax key path: (DictKey('a'), SequenceKey(0)) -> 'a/0'."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """Returns {path: leaf} in the tree's own order."""
    return {path_str(p): leaf for p, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf)[0]}


def unflatten(leaves: dict[str, Any]) -> dict:
    """Builds nested dicts from {path: leaf}: {'a/b': 1} -> {'a': {'b': 1}}."""
    root: dict = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = root
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = leaf
    return root


def at(tree: Any, path: str) -> Any:
    """What is at a path: at({'a': {'b': 1}}, 'a/b') is 1."""
    for key in path.split("/"):
        tree = tree[key]
    return tree


def map_with_path(function: Callable[[str, Any], Any], tree: Any) -> Any:
    """Maps `function(path, leaf)` over a tree."""
    return jax.tree_util.tree_map_with_path(lambda p, leaf: function(path_str(p), leaf), tree)


def matches(pattern: str, path: str) -> bool:
    """True where the regular expression matches somewhere in the path."""
    return re.search(pattern, path) is not None


def split(tree: Any, predicate: Callable[[str], bool]) -> tuple[dict, dict]:
    """Splits nested dicts into (leaves whose path satisfies the predicate, the rest)."""
    leaves = flatten(tree)
    chosen = {p: x for p, x in leaves.items() if predicate(p)}
    return unflatten(chosen), unflatten({p: x for p, x in leaves.items() if p not in chosen})


def join(first: dict, second: dict) -> dict:
    """The inverse of `split`. Raises ValueError where both hold the same path."""
    left, right = flatten(first), flatten(second)
    if both := sorted(left.keys() & right.keys()):
        raise ValueError(f"join: both trees hold {', '.join(both[:5])}")
    return unflatten({**left, **right})


def nearest(name: str, names, count: int = 3) -> list[str]:
    """The `count` names most like `name`, for error messages."""
    return difflib.get_close_matches(name, list(names), count, 0.3)


def count_params(tree: Any) -> int:
    """The number of array elements in a tree."""
    return sum(int(x.size) for x in jax.tree.leaves(tree))


def count_bytes(tree: Any) -> int:
    """The bytes held by a tree's arrays (global shapes)."""
    return sum(int(x.size) * x.dtype.itemsize for x in jax.tree.leaves(tree))
