"""Products of rows with the matrix of their own group: y_i = x_i W_g(i), rows in the order of their groups.

    x [5, 8], weights [3, 8, 4], sizes [2, 0, 3]     # rows 0 and 1 are of group 0, rows 2, 3 and 4 of group 2
    product(x[None], weights, sizes[None])            # [1, 5, 4]

Accelerators take `jax.lax.ragged_dot`. On CPUs that costs as many times too much as there are groups, so they go from
block of rows to block of rows, each with its group's matrix, as far as rows are routed; so does the gradient.

On a mesh the first axis counts the devices' own rows, split over ROWS; groups are split over `expert`, and `sizes`
counts a device's own groups. A product may be split over `tensor` along what is summed over, or along what comes out.
It is a jitted function with a name of its own, by which `structured` finds it: a leaf in the weights' place takes it in
its own form, by `Leaf.grouped`.
"""

from __future__ import annotations

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P

# The mesh axes that tokens are split over, each device having some of its own.
ROWS = ("data", "fsdp", "expert", "context")
NAME = "grouped product"
MOST = 128  # rows of a block, on CPUs


def product(x, weights, sizes, *, ins: str | None = None, outs: str | None = None,
            precision: str | None = None, layer: int | None = None) -> jax.Array:  # fmt: skip
    """x: [shards, rows, in], weights: [groups, in, out], sizes: int32 [shards, own groups] -> [shards, rows, out].

    Rows beyond the sum of the sizes give zeros. ins, outs: "tensor" where the mesh splits that axis. shards is 1
    without a mesh. precision: of the products, by default that of the context (`jax.default_matmul_precision`).
    layer: weights are [layers, groups, in, out], and those of this layer are meant; without a mesh and gradients.
    """
    if layer is not None:
        return _of_layer(x[0], weights, sizes[0], precision, layer)[None]
    return _jitted(ins, outs, precision or jax.config.jax_default_matmul_precision)(x, weights, sizes)


def options(name: str) -> dict[str, str | None] | None:
    """What a jitted function of this name was made with, as keyword arguments of `product`; None for all others."""
    kind, *values = name.split("/")
    return dict(zip(("ins", "outs", "precision"), (v or None for v in values), strict=True)) if kind == NAME else None


@cache
def _jitted(*options):
    def function(x, weights, sizes):
        return _on_mesh(x, weights, sizes, *options)

    function.__name__ = "/".join((NAME, *(option or "" for option in options)))
    return jax.jit(function)


def mesh_axes() -> dict[str, int]:
    """The mesh that is set, as {axis: size}; empty without one that has the axes of rows, or of one device."""
    mesh = jax.sharding.get_abstract_mesh()
    shape = dict(mesh.shape) if not mesh.empty and mesh.size > 1 else {}
    return shape if set(ROWS) <= shape.keys() else {}


def _on_mesh(x, weights, sizes, ins, outs, precision):
    """`product` on the devices of the mesh: weights that are stored in parts over fsdp are gathered where used."""
    mesh = mesh_axes()
    if not mesh:
        return _local(x[0], weights, sizes[0], precision)[None]
    experts = "expert" if weights.shape[0] % mesh["expert"] == 0 and mesh["expert"] > 1 else None
    ins, outs = (a if a and n % mesh[a] == 0 else None for a, n in zip((ins, outs), weights.shape[1:], strict=True))
    # As the sharding rules have it: of the two axes, fsdp cuts the one that tensor does not.
    stored = 2 if ins else 1
    cut = mesh["fsdp"] > 1 and weights.shape[stored] % mesh["fsdp"] == 0
    spec = [experts, ins, outs]
    if cut:
        spec[stored] = "fsdp"

    def shard(x, weights, sizes):
        if cut:
            weights = lax.all_gather(weights, "fsdp", axis=stored, tiled=True)
        y = _local(x[0], weights, sizes[0], precision)[None]
        return lax.psum(y, "tensor") if ins else y

    return jax.shard_map(
        shard, in_specs=(P(ROWS, None, ins), P(*spec), P(ROWS, None)), out_specs=P(ROWS, None, outs), check_vma=False,
    )(x, weights, sizes)  # fmt: skip


def _of_layer(x, stack, sizes, precision, layer):
    """`_local` with weights that lie in a stack of layers: on CPUs no other group is read than those with rows."""
    return lax.platform_dependent(
        x, stack, sizes, cpu=lambda x, stack, sizes: _blocks(
            x, stack.reshape(-1, *stack.shape[2:]), sizes, precision, first=layer * stack.shape[1]),
        default=lambda x, stack, sizes: lax.ragged_dot(x, stack[layer], sizes, precision=precision),
    )  # fmt: skip


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _local(x, weights, sizes, precision):
    """x: [rows, in], weights: [groups, in, out], sizes: [groups] -> [rows, out], on one device."""
    return lax.platform_dependent(
        x, weights, sizes, cpu=partial(_blocks, precision=precision),
        default=partial(lax.ragged_dot, precision=precision),
    )  # fmt: skip


def _forward(x, weights, sizes, precision):
    # x is kept for the weights' gradient alone, and weights for that of x. An empty array stands for what is not kept:
    # jax takes the tree of residuals to be the same, whatever moves.
    empty = [jnp.zeros(0, a.value.dtype) for a in (x, weights)]
    kept = x.value if weights.perturbed else empty[0], weights.value if x.perturbed else empty[1], sizes.value
    return _local(x.value, weights.value, sizes.value, precision), kept


def _backward(precision, kept, cotangent):
    (x, weights, sizes), dx, dw = kept, None, None
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return None, None, None
    if weights.ndim == 3:
        dx = lax.platform_dependent(
            cotangent, weights, sizes, cpu=partial(_blocks, precision=precision, turned=True),
            default=partial(_ragged_turned, precision=precision))  # fmt: skip
    if x.ndim == 2:
        dw = lax.platform_dependent(
            x, cotangent, sizes, cpu=partial(_sum_blocks, dtype=weights.dtype, precision=precision),
            default=partial(_ragged_sums, dtype=weights.dtype, precision=precision))  # fmt: skip
    return dx, dw, None


_local.defvjp(_forward, _backward, symbolic_zeros=True)


def _ragged_turned(g, weights, sizes, precision):
    """g [rows, out] with every group's matrix turned round -> [rows, in]."""
    dims = lax.RaggedDotDimensionNumbers((((1,), (2,)), ((), ())), (0,), (0,))
    return lax.ragged_dot_general(g, weights, sizes, dims, precision=precision)


def _ragged_sums(x, g, sizes, dtype, precision):
    """The sum of x_i^T g_i over the rows of every group: [groups, in, out]."""
    dims = lax.RaggedDotDimensionNumbers((((0,), (0,)), ((), ())), (0,), ())
    return lax.ragged_dot_general(x, g, sizes, dims, precision=precision).astype(dtype)


def _plan(rows: int, sizes):
    """(rows of a block, how many blocks there are, a function of a block's number: its group, first row and end).

    Blocks of a group's own rows: of sizes [5, 0, 2] with blocks of 4 they are rows 0-3, 4 and 5-6.
    """
    size = min(MOST, 1 << max(0, (rows // len(sizes) - 1).bit_length()))
    ends = jnp.cumsum(sizes)
    counts = (sizes + size - 1) // size
    last = jnp.cumsum(counts)

    def block(i):
        group = jnp.searchsorted(last, i, side="right", method="compare_all")
        first = ends[group] - sizes[group] + (i - (last[group] - counts[group])) * size
        return group, first, ends[group]

    return size, last[-1], block


def _blocks(x, weights, sizes, precision, turned=False, first=0):
    """`lax.ragged_dot` block by block. What a block writes beyond its group's end, the next one writes again.

    first: the number of the first group's matrix.
    """
    rows, last = x.shape[0], len(sizes) - 1
    size, count, block = _plan(rows, sizes)
    out = weights.shape[1 if turned else 2]
    x = jnp.pad(x, ((0, size), (0, 0)))
    dims = (((1,), (1 if turned else 0,)), ((), ()))

    def step(i, y):
        group, start, _ = block(i)
        part = lax.dynamic_slice_in_dim(x, start, size)
        matrix = lax.dynamic_index_in_dim(weights, first + jnp.minimum(group, last), 0, False)
        new = lax.dot_general(part, matrix, dims, precision, x.dtype)
        return lax.dynamic_update_slice_in_dim(y, new, start, 0)

    y = lax.fori_loop(0, count, step, jnp.zeros((rows + size, out), x.dtype))[:rows]
    return jnp.where((jnp.arange(rows) < sizes.sum())[:, None], y, 0)


def _sum_blocks(x, g, sizes, dtype, precision):
    """`_ragged_sums` block by block."""
    size, count, block = _plan(x.shape[0], sizes)
    x, g = (jnp.pad(a, ((0, size), (0, 0))) for a in (x, g))

    def step(i, sums):
        group, first, end = block(i)
        own = (first + np.arange(size) < end)[:, None]
        part, grad = (lax.dynamic_slice_in_dim(a, first, size) for a in (x, g))
        new = lax.dot_general(part, jnp.where(own, grad, 0), (((0,), (0,)), ((), ())), precision, jnp.float32)
        old = lax.dynamic_index_in_dim(sums, group, 0)
        return lax.dynamic_update_index_in_dim(sums, old + new[None], group, 0)

    start = jnp.zeros((len(sizes), x.shape[1], g.shape[1]), jnp.float32)
    return lax.fori_loop(0, count, step, start).astype(dtype)
