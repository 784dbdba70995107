"""Checkpoint directories in Hugging Face layout, loaded into sharded arrays and saved from them.

    pretrained = load("path", dtype="bfloat16", mesh=make_mesh(fsdp=8))
    save("out", pretrained)

Loading streams: each tensor is read, one shard at a time, into arrays that already lie on their devices;
the host holds a few tensors more than its own shards.
"""

from __future__ import annotations

import collections
import functools
import json
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jitune import limits, sharding, tree
from jitune.hub import files, stored
from jitune.hub.tokenizer import load_tokenizer
from jitune.models import decoder
from jitune.models.config import ModelConfig
from jitune.models.names import EXPERTS, Stored, experts_in_one, ignored
from jitune.models.names import names as name_table
from jitune.types import Params, Pretrained, UserError

DTYPES = ("float32", "bfloat16", "float16")
MAX_SHARD_BYTES = 2 << 30
READERS = 4  # layers of a parameter that are read at once
# What is downloaded of a checkpoint: no pickles, no code.
PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model")


def resolve(path: str | Path, patterns=PATTERNS) -> Path:
    """The local directory of a checkpoint; of a hub name `org/name`, the files of these patterns are downloaded."""
    local = Path(path).expanduser()
    if local.is_dir():
        return local
    if local.exists():
        raise UserError(f"{path}: is a file; a checkpoint directory is needed")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) or str(path).startswith("."):
        near = tree.nearest(local.name, [p.name for p in local.parent.glob("*")]) if local.parent.is_dir() else []
        raise UserError(f"{path}: no such checkpoint directory" + (f"; near it: {', '.join(near)}" if near else ""))
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(path), allow_patterns=list(patterns)))
    except Exception as error:  # many kinds: offline, gated, missing
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: no such directory here, and the hub does not give it: {reason}") from error


def read_config(directory: Path) -> ModelConfig:
    """Reads config.json and generation_config.json. Raises UserError for what is not understood."""
    where = directory / "config.json"
    generation = directory / "generation_config.json"
    extra = files.read_json(generation) if generation.exists() else {}
    return ModelConfig.from_hf(files.read_json(where), where=str(where), generation=extra)


def load(path: str | Path, *, dtype: str, mesh: Mesh | None = None, param_dtype: str | None = None,
         scan_layers: bool = True, remat: str = "none", allow_longer_context: bool = False) -> Pretrained:
    """Loads a checkpoint directory (or a hub name).

    dtype: of the computation and, unless param_dtype says otherwise, of the weights. mesh: where the
    weights lie, by `sharding.RULES`; the default is one device. allow_longer_context: texts may be longer than the
    model was made for. Raises UserError for unknown config keys, missing, extra or wrongly shaped tensors, broken
    files, and a longer context where positions are learned.
    """
    directory = resolve(path)
    for name in (dtype, param_dtype or dtype):
        if name not in DTYPES:
            raise UserError(f"dtype {name!r} is not supported; known are {', '.join(DTYPES)}")
    config = read_config(directory).replace(
        dtype=dtype, param_dtype=param_dtype or dtype, scan_layers=scan_layers, remat=remat
    )
    config = limits.lift(config, allow_longer_context, limits.IN_COMMANDS)
    model = decoder.build(config)
    return Pretrained(model, load_params(directory, config, mesh), load_tokenizer(directory), config)


@functools.lru_cache(maxsize=4)  # tracing a model takes a good part of a second, and a run asks several times
def abstract_params(config: ModelConfig) -> Params:
    """The shapes and dtypes of a model's parameters, without any array; do not change the tree that comes back."""
    return jax.eval_shape(decoder.build(config).init, jax.random.key(0))


def load_params(directory: Path, config: ModelConfig, mesh: Mesh | None, *, keep=None) -> Params:
    """Streams the tensors of a checkpoint into sharded arrays. See `load`.

    keep: `(path, array) -> what is kept in its place` (fewer bits, say), done with each before the next is read.
    """
    mesh = mesh or sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
    abstract = abstract_params(config)
    found = files.find_tensors(directory)
    plan = match_names(abstract, found, config, directory)
    homes = tree.flatten(sharding.shardings(abstract, mesh))
    leaves = tree.flatten(abstract)
    params = {}
    for path, leaf in leaves.items():
        params[path] = _load_leaf(plan[path], leaf, homes[path])
        if keep is not None:
            params[path] = _keep(keep, path, params[path], mesh)
    return tree.unflatten(params)


def _keep(keep, path: str, array: jax.Array, mesh: Mesh):
    shape = jax.eval_shape(functools.partial(keep, path), array)
    if isinstance(shape, jax.ShapeDtypeStruct) and (shape.shape, shape.dtype) == (array.shape, array.dtype):
        return array
    homes = tree.at(sharding.shardings(tree.unflatten({path: shape}), mesh), path)
    return jax.block_until_ready(jax.jit(functools.partial(keep, path), out_shardings=homes)(array))


class Source(NamedTuple):
    """Where a parameter is read from: its place in the table, and its tensors by their leading index (see `stored`)."""

    place: Stored
    tensors: dict[tuple[int, ...], files.Tensor]


def match_names(abstract: Params, found: dict[str, files.Tensor], config: ModelConfig, where) -> dict[str, Source]:
    """Pairs every parameter with its tensors, and refuses what is missing, left over, or of another shape or type."""
    table = stored.localize(experts_in_one(config) if EXPERTS.format(i=0) in found else name_table(config), found)
    held = stored.holders(table, {path: leaf.shape for path, leaf in tree.flatten(abstract).items()})
    plan = {path: Source(table[path], {}) for one in held.values() for path in one.paths}
    for name, one in held.items():
        if (tensor := found.get(name)) is None:
            continue
        if tensor.shape != one.shape:
            raise UserError(f"{where}: {name} has shape {tensor.shape}, the config asks for {one.shape}")
        if tensor.dtype not in files.FLOAT_DTYPES:
            raise UserError(f"{where}: {name} has dtype {tensor.dtype}, only floats are loaded")
        for path in one.paths:
            plan[path].tensors[one.at] = tensor
    missing = [n for n in held if n not in found]
    extra = sorted(n for n in found.keys() - held.keys() if not re.search(ignored(config), n))
    head = table["lm_head/kernel"].name
    if config.tied and head in extra:
        _check_tied(found, head, table["embed/embedding"].name, where)
        extra.remove(head)
    for kind, names in (("missing", missing), ("extra", extra)):
        if names:
            near = tree.nearest(names[0], extra if kind == "missing" else missing, 1)
            more = f", and {len(names) - 3} more" if len(names) > 3 else ""
            hint = f"; the file has {near[0]}" if kind == "missing" and near else ""
            raise UserError(f"{where}: {kind} tensors: {', '.join(names[:3])}{more}{hint}")
    return plan


def _check_tied(found, head: str, embedding: str, where):
    if not np.array_equal(*(files.read_slice(found[n], ()) for n in (head, embedding))):
        raise UserError(f"{where}: the config ties lm_head to the embedding, but the file holds another lm_head")


def _load_leaf(source: Source, leaf, home: NamedSharding) -> jax.Array:
    """Reads one parameter; a stacked one is filled in place, a layer at a time, with the next ones read ahead."""
    if not stored.depth(source.place):
        return _read(source, leaf.shape, leaf.dtype, home)
    inner = NamedSharding(home.mesh, PartitionSpec(*home.spec[1:]))
    stacked = jax.jit(lambda: jnp.zeros(leaf.shape, leaf.dtype), out_shardings=home)()
    fill = jax.jit(
        lambda all_, one, i: jax.lax.dynamic_update_index_in_dim(all_, one, i, 0),
        donate_argnums=0,
        out_shardings=home,
    )

    def read(i):
        layer = {at[1:]: tensor for at, tensor in source.tensors.items() if at[0] == i}
        return _read(source._replace(tensors=layer), leaf.shape[1:], leaf.dtype, inner)

    for i, one in enumerate(_ahead(read, leaf.shape[0])):
        stacked = fill(stacked, one, i)
        stacked.block_until_ready()
    return stacked


def _ahead(read, count: int) -> Iterator:
    """Yields read(0), read(1), ...; as many as READERS, or cores, are read at once, and no more are held."""
    readers = min(READERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else READERS, count)
    with ThreadPoolExecutor(readers) as pool:
        waiting = collections.deque(pool.submit(read, i) for i in range(readers))
        for i in range(readers, count + readers):
            yield waiting.popleft().result()
            if i < count:
                waiting.append(pool.submit(read, i))


def _read(source: Source, shape, dtype, home: NamedSharding) -> jax.Array:
    """One layer, or what has none, as a sharded array: each process reads the slices of its own devices only."""
    levels = len(next(iter(source.tensors)))

    def read(index):
        rest, whole = stored.index_on_disk(source.place, index[levels:]), files.scratch(home.shard_shape(shape), dtype)
        for spot in np.ndindex(whole.shape[:levels]):
            at = tuple((i.start or 0) + n for i, n in zip(index, spot, strict=False))
            stored.from_disk(source.place, files.view(source.tensors[at])[rest], whole[spot])
        return whole

    return jax.make_array_from_callback(shape, home, read)


def save(path: str | Path, pretrained: Pretrained, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Saves in the layout that transformers loads: weights, config, generation config, tokenizer files.

    Everything is written beside `path` and then moved there, so that no half-written checkpoint is left.
    A directory that stands there must be a checkpoint; its other files are kept. All processes call this;
    the first one writes.
    """

    def fill(draft: Path) -> None:
        layout = export_layout(pretrained.params, pretrained.config)
        files.write_shards(draft, layout, export_tensors(pretrained.params, pretrained.config), max_shard_bytes)
        _write_config(draft, pretrained)

    def follow() -> None:
        for _ in export_tensors(pretrained.params, pretrained.config):
            pass

    put_directory(Path(path), fill, follow, mark="config.json", holds="checkpoint")


def put_directory(target: Path, fill, follow=lambda: None, *, mark: str, holds: str) -> None:
    """Puts a directory there that the first process fills, `fill(draft)`, while the others `follow()`.

    mark: the file that tells what may be replaced. Raises UserError where something else stands there.
    """
    if target.exists() and not target.is_dir():
        raise UserError(f"{target}: exists and is not a directory")
    if target.is_dir() and any(target.iterdir()) and not (target / mark).exists():
        raise UserError(f"{target}: is not empty and holds no {holds}; choose another directory")
    draft = target.with_name(target.name + ".partial")
    if jax.process_index() == 0:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        fill(draft)
        _swap(draft, target)
    else:
        follow()
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(f"saved {target.name}")


def export_layout(params: Params, config: ModelConfig) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """{name: (shape, dtype)} of what `export_tensors` yields, in its order."""
    leaves = tree.flatten(params)
    held = stored.holders(name_table(config), {path: leaf.shape for path, leaf in leaves.items()})
    return {name: (one.shape, np.dtype(leaves[one.paths[0]].dtype)) for name, one in held.items()}


def export_tensors(params: Params, config: ModelConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (Hugging Face name, array as stored there), gathering one tensor at a time to the host.

    Raises UserError where a tensor would hold parameters that are not among these.
    """
    table, leaves = name_table(config), tree.flatten(params)
    for name, held in stored.holders(table, {path: leaf.shape for path, leaf in leaves.items()}).items():
        yield name, stored.join(table[held.paths[0]], [to_host(leaves[p][held.at]) for p in held.paths])


def to_host(x: jax.Array | np.ndarray) -> np.ndarray:
    """A whole array on the host; all processes call this for one that is spread over them."""
    if getattr(x, "is_fully_addressable", True):
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(x, tiled=True)


def _write_config(directory: Path, pretrained: Pretrained) -> None:
    config = pretrained.config
    dtype = str(jax.tree.leaves(pretrained.params)[0].dtype)
    files.write_json(directory / "config.json", config.replace(param_dtype=dtype).to_hf())
    raw = json.loads(config.hf)
    ids = {k: raw[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id") if raw.get(k) is not None}
    files.write_json(directory / "generation_config.json", {**ids, **config.generation_config})
    if pretrained.tokenizer is not None:
        pretrained.tokenizer.save_pretrained(str(directory))


def _swap(draft: Path, target: Path) -> None:
    """Moves the finished draft into place; files of the old directory that are not a checkpoint's stay."""
    if not target.exists():
        draft.rename(target)
        return
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    target.rename(old)
    draft.rename(target)
    stale = re.compile(r"model.*\.safetensors(\.index\.json)?|pytorch_model.*|.*\.(bin|pt)")
    for item in old.iterdir():
        if not (target / item.name).exists() and not stale.fullmatch(item.name):
            item.rename(target / item.name)
    shutil.rmtree(old)
