"""An adapter by its modules, as files name them: taken out of the trees of a transform, and put back into one.

    parts = take(frozen, trainable, config)             # numpy arrays on the host, layers apart
    transform, frozen, trainable = build(parts, pretrained)

Between the two lie file formats (see `peft`) and changes of form, such as one rank for all modules.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from jitune import sharding, tree
from jitune.hub import stored, weights
from jitune.hub.fused import Factors, fuse, split
from jitune.models.config import ModelConfig
from jitune.models.names import names
from jitune.transforms.chain import chain
from jitune.transforms.dora import dora
from jitune.transforms.lora import lora
from jitune.transforms.partial import select
from jitune.transforms.prefix import prefix, project
from jitune.transforms.prompt import prompt
from jitune.transforms.tokens import tokens
from jitune.transforms.weights import base_of, by_path, dense, flatten
from jitune.types import Pretrained, Transform, UserError


class Parts(NamedTuple):
    """What an adapter changes; everything that it leaves is empty or None.

    factors: by module. saved: whole tensors by their name in a checkpoint, as they are stored there. rows: {module:
    (token ids, [tokens, dim])} of embedding and head. prefix: [tokens, layers, 2 (key, value), kv_heads, head_dim].
    prompt: [tokens, dim].
    """

    factors: dict[str, Factors]
    saved: dict[str, np.ndarray]
    rows: dict[str, tuple[list[int], np.ndarray]]
    prefix: np.ndarray | None = None
    prompt: np.ndarray | None = None


class Place(NamedTuple):
    """What a tensor holds: parameters by path, in order, at (layer, expert); `shape` is that of all together here.

    A kernel's shape is [in, out] here, and turned says that it is stored [out, in]; widths are those of the parts.
    """

    paths: tuple[str, ...]
    at: tuple[int, ...]
    shape: tuple[int, ...]
    turned: bool
    widths: tuple[int, ...]

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The tensor's shape on disk."""
        return self.shape[::-1] if self.turned else self.shape


@functools.lru_cache(maxsize=4)
def places(config: ModelConfig) -> dict[str, Place]:
    """{name of the tensor in a checkpoint: its place}; do not change what comes back."""
    table, leaves = names(config), tree.flatten(weights.abstract_params(config))
    found = {}
    for name, held in stored.holders(table, {path: leaf.shape for path, leaf in leaves.items()}).items():
        turned = table[held.paths[0]].transposed
        widths = tuple(leaves[path].shape[-1] for path in held.paths)
        found[name] = Place(held.paths, held.at, held.shape[::-1] if turned else held.shape, turned, widths)
    return found


def modules(config: ModelConfig) -> dict[str, str]:
    """{module: linear | embedding | other} of a model; a tied head is a module of its own."""
    found = {}
    for name, place in places(config).items():
        kind = {"kernel": "linear", "embedding": "embedding"}.get(place.paths[0].rpartition("/")[2], "other")
        module = name.rpartition(".")[0]
        found[module] = kind if found.get(module, "other") == "other" else found[module]
    return found | ({"lm_head": "linear"} if config.tied else {})


def embedding(config: ModelConfig) -> str:
    """The module of the embedding: model.embed_tokens, or what the family calls it."""
    return names(config)["embed/embedding"].name.removesuffix(".weight")


# From trees to parts.


def take(frozen, trainable, config: ModelConfig) -> Parts:
    """The parts of a transform's adapter, on the host. All processes call this.

    Raises UserError where every parameter is trained, for then there is no adapter.
    """
    parts, base = Parts({}, {}, {}), flatten(base_of(frozen) or {})
    for still, moving in _links(frozen, trainable):
        leaves = tree.flatten(moving)
        ends = {path.rpartition("/")[2] for path in leaves}
        if "prefix" in moving:
            k, v = (weights.to_host(x).astype(np.float32) for x in project(moving))
            parts = parts._replace(prefix=np.stack([k, v], axis=1).transpose(2, 0, 1, 3, 4))
        elif "prompt" in moving:
            parts = parts._replace(prompt=weights.to_host(moving["prompt"]).astype(np.float32))
        elif "lora_a" in ends:
            parts.factors.update(_by_module(_take_factors(still, moving), base, config))
        elif "rows" in ends:
            parts.rows.update(_take_rows(still, moving, config))
        elif leaves.keys() == tree.flatten(weights.abstract_params(config)).keys():
            raise UserError("every parameter is trained, so there is no adapter; export the whole model (--to merged)")
        else:
            whole = {p for place in places(config).values() if {*place.paths} & leaves.keys() for p in place.paths}
            rest = {path: dense(base[path]).astype("float32") for path in whole - leaves.keys()}
            parts.saved.update(weights.export_tensors(tree.unflatten({**leaves, **rest}), config))
    return parts


def _by_module(found: dict, base: dict, config: ModelConfig) -> dict[str, Factors]:
    """Factors by module from those by (path, layer and expert), those of fused weights together."""

    def norms(path, at):
        return np.linalg.norm(weights.to_host(dense(base[path])[at]).astype(np.float32), axis=0)

    made = {}
    for name, place in places(config).items():
        parts = [found.get((path, place.at)) for path in place.paths]
        if any(parts):
            lengths = functools.partial(lambda place, i: norms(place.paths[i], place.at), place)
            made[name.removesuffix(".weight")] = fuse(parts, place.widths, lengths)
    return made


def _links(frozen, trainable):
    """The pairs of a chain's transforms, or the pair itself."""
    if isinstance(trainable, dict) and trainable and all(name.isdigit() for name in trainable):
        for name in sorted(trainable, key=int):
            yield from _links(frozen.get(name, {}), trainable[name])
    else:
        yield frozen, trainable


def _take_factors(frozen, trainable) -> dict[tuple[str, tuple], Factors]:
    scales, minus = tree.flatten(frozen["scale"]), by_path(frozen.get("minus", {}), "lora_a")
    found = {}
    for path, arrays in by_path(trainable, "lora_a").items():
        arrays = {name: weights.to_host(x).astype(np.float32) for name, x in arrays.items()}
        first = {name: weights.to_host(x).astype(np.float32) for name, x in minus.get(path, {}).items()}
        a, b, magnitude = (arrays.get(name) for name in ("lora_a", "lora_b", "magnitude"))
        spots = list(np.ndindex(a.shape[:-2]))
        kept = _ranks([(a[at], b[at]) for at in spots], always=magnitude is not None)
        scale = weights.to_host(scales[path])
        for at, rank in zip(spots, kept, strict=True):
            left, right = a[at][:, :rank], b[at][:rank]
            if first:
                left = np.concatenate([left, first["lora_a"][at]], 1)
                right = np.concatenate([right, -first["lora_b"][at]])
            if rank:
                own = None if magnitude is None else magnitude[at]
                found[path, at] = Factors(left, right, float(scale[at[: scale.ndim]]), own)
    return found


def _ranks(layers, *, always: bool) -> list[int]:
    """The rank of each layer without the zeros that fill it up to the largest; 0: the layer has no factors.

    always: keep at least one. Example: of (a [4, 3], b [3, 5]) whose third column and row are zero, 2.
    """
    used = [np.flatnonzero(a.any(axis=0) | b.any(axis=1)) for a, b in layers]
    ranks = [int(u[-1]) + 1 if len(u) else 0 for u in used]
    widest, width = max(ranks), layers[0][0].shape[1]
    return [width if r == widest else max(r, int(always)) for r in ranks]


def _take_rows(frozen, trainable, config: ModelConfig) -> dict[str, tuple[list[int], np.ndarray]]:
    ids = weights.to_host(frozen["ids"]).tolist()
    found = {}
    for path, arrays in by_path(trainable, "rows").items():
        rows = weights.to_host(arrays["rows"]).astype(np.float32)
        name = names(config)[path].name
        found[name.removesuffix(".weight")] = ids, rows.T if path.endswith("/kernel") else rows
    return found


# From parts to trees.


def build(parts: Parts, pretrained: Pretrained) -> tuple[Transform, dict, dict]:
    """The transform of an adapter over a model, with its pair (frozen, trainable), laid out as the model is.

    frozen holds the model's own arrays. Modules of a stack that have no factors get zeros, and smaller ranks are filled
    up with zeros. Raises UserError for shapes that are not the model's.
    """
    made = [make for make, wanted in (
        (_build_factors, parts.factors), (_build_saved, parts.saved), (_build_rows, parts.rows),
        (_build_prefix, parts.prefix is not None), (_build_prompt, parts.prompt is not None)) if wanted]  # fmt: skip
    if not made:
        raise UserError("the adapter changes nothing")
    links = [make(parts, pretrained) for make in made]
    transform = links[0][0] if len(links) == 1 else chain(*(link[0] for link in links))
    # The transform's own init gives what is frozen; with factors of rank 1, for their numbers are replaced anyway.
    start = links[0][1] if len(links) == 1 else chain(*(link[1] for link in links))
    frozen, trainable = start.init(jax.random.key(0), pretrained.params)
    place = _placer(pretrained.params)
    for i, (_, _, fill) in enumerate(links):
        moving = trainable if len(links) == 1 else trainable[str(i)]
        extras, arrays = fill(moving)
        moving.update(place(arrays))
        if extras:
            (frozen if len(links) == 1 else frozen[str(i)]).update(place(extras))
    return transform, frozen, trainable


def _pattern(paths) -> str:
    return "^(" + "|".join(map(re.escape, paths)) + ")$"


def _build_factors(parts: Parts, pretrained: Pretrained):
    where = places(pretrained.config)
    by_weight: dict[str, dict[tuple, Factors]] = {}
    for module, factors in parts.factors.items():
        place = where[f"{module}.weight"]
        for path, own in zip(place.paths, split(factors, place.widths), strict=True):
            if own is not None:
                by_weight.setdefault(path, {})[place.at] = own
    method = dora if next(iter(parts.factors.values())).magnitude is not None else lora
    ranks = {path: max(f.a.shape[1] for f in group.values()) for path, group in by_weight.items()}
    firsts = {path: next(iter(group.values())) for path, group in by_weight.items()}
    alphas = {path: firsts[path].scale * ranks[path] for path in by_weight}
    rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
    options = {
        "rank_pattern": {_pattern([p]): r for p, r in ranks.items() if r != rank},
        "alpha_pattern": {_pattern([p]): a for p, a in alphas.items() if a != alpha},
    }
    leads = _leads(by_weight, pretrained.config)

    def fill(fresh):
        """The loaded factors; of layers without any the magnitude that changes nothing."""
        arrays, scales = {}, {}
        for path, group in by_weight.items():
            spots = list(np.ndindex(leads[path]))
            found = [group.get(at) for at in spots]
            lists = {
                "lora_a": [_fill_up(f or firsts[path], "a", ranks[path], f is None) for f in found],
                "lora_b": [_fill_up(f or firsts[path], "b", ranks[path], f is None) for f in found],
            }
            if method is dora:
                same = weights.to_host(by_path(fresh, "lora_a")[path]["magnitude"])
                lists["magnitude"] = [f.magnitude if f else same[at] for f, at in zip(found, spots, strict=True)]
            scale = [np.float32((f or firsts[path]).scale) for f in found]
            scales[path] = np.asarray(scale, np.float32).reshape(leads[path])
            for name, own in lists.items():
                arrays[f"{path}/{name}"] = np.stack(own).reshape(*leads[path], *own[0].shape).astype(np.float32)
        return {"scale": tree.unflatten(scales)}, tree.unflatten(arrays)

    pattern = _pattern(by_weight)
    return method(rank, alpha, select=pattern, **options), method(1, 1.0, select=pattern), fill


def _leads(paths, config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """{path: the axes of layers and experts in front of a parameter}."""
    table, leaves = names(config), tree.flatten(weights.abstract_params(config))
    return {path: leaves[path].shape[: stored.depth(table[path])] for path in paths}


def _fill_up(factors: Factors, which: str, rank: int, zero: bool) -> np.ndarray:
    """A [in, r] or B [r, out] with zeros up to a rank, or of zeros alone."""
    array = getattr(factors, which)
    more = ((0, 0), (0, rank - array.shape[1])) if which == "a" else ((0, rank - array.shape[0]), (0, 0))
    return np.pad(np.zeros_like(array) if zero else array, more)


def _build_saved(parts: Parts, pretrained: Pretrained):
    where = places(pretrained.config)
    by_weight: dict[str, dict[tuple, np.ndarray]] = {}
    for name, array in parts.saved.items():
        place = where[name]
        pieces = np.split(array.T if place.turned else array, np.cumsum(place.widths)[:-1], axis=-1)
        for path, piece in zip(place.paths, pieces, strict=True):
            by_weight.setdefault(path, {})[place.at] = piece
    base, arrays = flatten(pretrained.params), {}
    for path, lead in _leads(by_weight, pretrained.config).items():
        # A stacked weight is trained as a whole; layers that were not are the base's.
        group, spots = by_weight[path], list(np.ndindex(lead))
        rest = None if len(group) == len(spots) else weights.to_host(dense(base[path]))
        found = [np.asarray(group[at] if at in group else rest[at], np.float32) for at in spots]
        arrays[path] = np.stack(found).reshape(*lead, *found[0].shape)
    transform = select(_pattern(arrays))
    return transform, transform, lambda fresh: ({}, tree.unflatten(arrays))


def _build_rows(parts: Parts, pretrained: Pretrained):
    where = places(pretrained.config)
    ids = list(dict.fromkeys(i for own, _ in parts.rows.values() for i in own))
    transform = tokens(ids)

    def fill(fresh):
        """Rows that only the other table trains keep their values."""
        arrays = {path: np.array(weights.to_host(x)) for path, x in tree.flatten(fresh).items()}
        for module, (own, rows) in parts.rows.items():
            (path,) = where[f"{module}.weight"].paths
            at = [ids.index(i) for i in own]
            if path.endswith("/kernel"):
                arrays[f"{path}/rows"][:, at] = rows.T
            else:
                arrays[f"{path}/rows"][at] = rows
        return {}, tree.unflatten(arrays)

    return transform, transform, fill


def _limits(pretrained: Pretrained) -> dict:
    model, _, _, config = pretrained
    return {"model": model, "windows": config.windows, "max_positions": config.max_positions}


def _build_prefix(parts: Parts, pretrained: Pretrained):
    transform = prefix(parts.prefix.shape[0], init="zero", **_limits(pretrained))
    k, v = (np.ascontiguousarray(parts.prefix[:, :, i].swapaxes(0, 1)) for i in (0, 1))
    return transform, transform, lambda fresh: ({}, {"prefix": {"k": k, "v": v}})


def _build_prompt(parts: Parts, pretrained: Pretrained):
    transform = prompt(parts.prompt.shape[0], **_limits(pretrained))
    return transform, transform, lambda fresh: ({}, {"prompt": parts.prompt})


def _placer(params):
    """`place(tree of numpy arrays)`: on the mesh of the parameters, if any, by `sharding.RULES`."""
    homes = (getattr(x, "sharding", None) for x in jax.tree.leaves(params))
    mesh = next((home.mesh for home in homes if isinstance(home, NamedSharding)), None)
    if mesh is None:
        return lambda arrays: jax.tree.map(jnp.asarray, arrays)

    def put(x, home):
        return jax.make_array_from_callback(x.shape, home, lambda index: x[index])

    return lambda arrays: jax.tree.map(put, arrays, sharding.shardings(arrays, mesh))
