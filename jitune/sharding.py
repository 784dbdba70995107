"""Meshes, and which axis of which array lies on which mesh axis.

Rules are ordered `(regular expression, axes)`: the first that matches a leaf's path decides, and a leaf
that no rule covers is an error. An axis that does not divide its dimension evenly is dropped for it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jitune import cpu_threads, tree
from jitune.types import BATCH_AXES, MESH_AXES, UserError

# For the decoder's layout: kernels are [in, out], stacked ones [layers, in, out].
# Codes lie as their weights do; factors are small, and split over tensor only, where an axis of their weight is.
RULES: tuple[tuple[str, tuple], ...] = (
    (r"(^|/)(scale|norm)/.*(kernel|embedding)$", ()),
    (r"embed/embedding(/codes/\d)?$", ("tensor", "fsdp")),
    (r"embed/positions$", (None, "fsdp")),
    (r"lm_head/kernel(/codes/\d)?$", ("fsdp", "tensor")),
    # Experts [layers, experts, in, out], and what chooses among them, which is small.
    (r"experts/(gate|up)_proj/kernel(/codes/\d)?$", (None, "expert", "fsdp", "tensor")),
    (r"experts/down_proj/kernel(/codes/\d)?$", (None, "expert", "tensor", "fsdp")),
    (r"experts/(gate|up)_proj/kernel/lora_b$", (None, "expert", None, "tensor")),
    (r"experts/down_proj/kernel/lora_a$", (None, "expert", "tensor", None)),
    (r"experts/\w+_proj/kernel/lora_[ab]$", (None, "expert")),
    (r"/(router|shared_gate)/kernel(/codes/\d)?$", ()),
    (r"(q|k|v|gate|up)_proj/kernel(/codes/\d)?$", (None, "fsdp", "tensor")),
    (r"(o|down)_proj/kernel(/codes/\d)?$", (None, "tensor", "fsdp")),
    (r"embed/embedding/lora_a$", ("tensor", None)),
    (r"lm_head/kernel/lora_b$", (None, "tensor")),
    (r"(q|k|v|gate|up)_proj/kernel/lora_b$", (None, None, "tensor")),
    (r"(o|down)_proj/kernel/lora_a$", (None, "tensor", None)),
    (r"/(lora_[ab]|magnitude|rows|ids)$", ()),
    (r"(q|k|v|gate|up)_proj/bias$", (None, "tensor")),
    (r"(o|down)_proj/bias$", (None, None)),
    (r"norm/(scale|bias)$", ()),
    # Trained tokens in front, alone or as a part of a chain.
    (r"^(\d+/)?(prefix/(k|v|embedding|mlp/(hidden|out)/(kernel|bias))|prompt)$", ()),
)


def make_mesh(data: int = 1, fsdp: int = -1, tensor: int = 1, *, expert: int = 1, context: int = 1,
              devices=None) -> Mesh:  # fmt: skip
    """A mesh with the axes of `types.MESH_AXES`; one size may be -1, for all devices that are left.

    Raises UserError where the sizes do not multiply to the number of devices.
    """
    cpu_threads.make_enough(jax.config.jax_num_cpu_devices)
    devices = jax.devices() if devices is None else devices
    sizes = dict(zip(MESH_AXES, (data, fsdp, expert, context, tensor), strict=True))
    shape = describe(sizes, ", ", "=")
    free = [k for k, v in sizes.items() if v == -1]
    if len(free) > 1 or any(v < 1 and v != -1 for v in sizes.values()):
        raise UserError(f"mesh: sizes are positive, and at most one is -1; got {shape}")
    fixed = math.prod(v for v in sizes.values() if v != -1)
    if free and len(devices) % fixed == 0:
        sizes[free[0]] = len(devices) // fixed
    if math.prod(sizes.values()) != len(devices):
        raise UserError(f"mesh: {shape} does not multiply to the {len(devices)} devices that are here")
    return jax.make_mesh(
        tuple(sizes.values()), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES), devices=devices
    )


def mesh_of_options(options: Any) -> Mesh:
    """The mesh of a command's options `--mesh.data`, `--mesh.fsdp`, ... (`mesh_data`, ... once they are read)."""
    return make_mesh(**{axis: getattr(options, f"mesh_{axis}") for axis in MESH_AXES})


def describe(sizes: Mapping[str, int], between: str = " x ", sign: str = " ") -> str:
    """The sizes of a mesh for a reader, without the axes of few models: "data 1 x fsdp 8 x tensor 1".

    expert and context are named where they are not 1.
    """
    return between.join(f"{axis}{sign}{sizes[axis]}" for axis in MESH_AXES
                        if axis in sizes and (axis not in ("expert", "context") or sizes[axis] != 1))


def _fit(spec: tuple, shape: tuple[int, ...], mesh: Mesh) -> P:
    """Drops the axes that do not divide their dimension: ('fsdp',), (10,), fsdp=4 -> P(None).

    What lies on fsdp lies on context too, where that divides: devices that share a row's tokens need not each hold
    the same parameters.
    """

    def choose(entry, length: int):
        both = (("fsdp", "context"),) if entry == "fsdp" and mesh.shape.get("context", 1) > 1 else ()
        for axes in (*both, entry):
            if length % math.prod(mesh.shape[a] for a in ([axes] if isinstance(axes, str) else axes or [])) == 0:
                return axes
        return None

    return P(*(choose(entry, length) for entry, length in zip(spec, shape, strict=False)))


def shardings(abstract: Any, mesh: Mesh, rules=RULES) -> Any:
    """A NamedSharding for each leaf of a tree of arrays or ShapeDtypeStructs.

    Raises UserError naming the leaf where no rule covers it, or where its rank is not the rule's.
    """

    def place(path, leaf):
        for pattern, spec in rules:
            if tree.matches(pattern, path):
                if len(spec) > len(leaf.shape):
                    raise UserError(f"sharding: rule {pattern!r} has {len(spec)} axes, {path} has {leaf.shape}")
                return NamedSharding(mesh, _fit(spec, leaf.shape, mesh))
        if not leaf.shape:
            return NamedSharding(mesh, P())
        raise UserError(f"sharding: no rule covers {path} {leaf.shape}; add one to the rules")

    return tree.map_with_path(place, abstract)


def state_shardings(abstract: Any, params: Any, placed: Any, mesh: Mesh) -> Any:
    """Shardings of an optimizer state: a leaf that mirrors a parameter lies as it does, others everywhere.

    abstract: the state's shapes; params and placed: the parameters' shapes and shardings.
    """
    shapes, homes = tree.flatten(params), tree.flatten(placed)
    everywhere = NamedSharding(mesh, P())

    def place(path, leaf):
        parts = path.split("/")
        tails = ("/".join(parts[i:]) for i in range(len(parts)))
        mirrored = next((t for t in tails if t in shapes), None)
        if mirrored is not None and shapes[mirrored].shape == leaf.shape:
            return homes[mirrored]
        return everywhere

    return tree.map_with_path(place, abstract)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """[rows, tokens, ...]: rows of a batch are split over data, fsdp and expert, their tokens over context."""
    return NamedSharding(mesh, P(BATCH_AXES, "context"))


def batch_shards(mesh: Mesh) -> int:
    """Into how many parts a batch's rows are split."""
    return math.prod(mesh.shape[a] for a in BATCH_AXES)


def process_share(mesh: Mesh, batch_size: int) -> tuple[int, int]:
    """Which rows of a global batch lie on this process's devices, as (index, number of parts).

    Processes whose devices hold other tokens of the same rows have the same share.
    """
    indices = _rows(mesh).addressable_devices_indices_map((batch_size,)).values()
    ranges = [rows.indices(batch_size)[:2] for (rows,) in indices]
    start, stop = min(r[0] for r in ranges), max(r[1] for r in ranges)
    return start // (stop - start), batch_size // (stop - start)


def _rows(mesh: Mesh) -> NamedSharding:
    """Rows are split as a batch's, and everything else of them is whole."""
    return NamedSharding(mesh, P(BATCH_AXES))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh, batch_size: int) -> dict[str, jax.Array]:
    """Lays a batch of `batch_size` rows on the mesh; `batch` holds this process's share of them, each of them whole.

    Raises UserError where the tokens of a row do not divide by the mesh.
    """
    home, index = batch_sharding(mesh), process_share(mesh, batch_size)[0]

    def lay(x):
        if x.shape[1] % mesh.shape["context"]:
            raise UserError(f"a row of {x.shape[1]} tokens does not divide by the mesh: "
                            f"context = {mesh.shape['context']}")
        first = index * len(x)
        return jax.make_array_from_callback(
            (batch_size, *x.shape[1:]), home,
            lambda place: x[place[0].indices(batch_size)[0] - first : place[0].indices(batch_size)[1] - first,
                            *place[1:]],
        )  # fmt: skip

    return {name: lay(x) for name, x in batch.items()}


def mesh_of(params: Any) -> Mesh | None:
    """The mesh that params lie on, if it has the axes of a batch; else None."""
    for leaf in jax.tree.leaves(params):
        home = getattr(leaf, "sharding", None)
        if isinstance(home, NamedSharding) and set(BATCH_AXES) <= set(home.mesh.axis_names):
            return home.mesh
    return None


def put_whole(batch: Any, mesh: Mesh | None) -> Any:
    """Lays arrays, which every process holds whole, on the mesh, rows split; without a mesh they stay as they are."""
    if mesh is None:
        return batch
    home = _rows(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, home, lambda index: x[index]), batch)


def join_processes() -> None:
    """Joins the other processes of the run, as the environment describes them: TPU, SLURM, MPI, or variables."""
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    given = [os.environ.get(name) for name in names]
    if all(given):
        jax.distributed.initialize(given[0], int(given[1]), int(given[2]))
    else:
        jax.distributed.initialize()
