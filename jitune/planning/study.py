"""One configuration, compiled but not run: its memory, FLOPs and bytes, and what moves between devices.

    study(config, model_config, mesh) -> Study

The compiled program is the one that training runs, over shapes in the place of arrays: nothing is allocated.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax

from jitune import companions, compiling, optimizers
from jitune import state as states
from jitune.models import backends, decoder
from jitune.planning import collectives, hlo
from jitune.planning.count import count_products

# LLVM's part, which changes no buffer: memory is laid out before it.
QUICK = {"xla_backend_optimization_level": 0}


class Memory(NamedTuple):
    """Bytes of one device. peak: all that a step holds at its worst moment.

    weights, opt_state, inputs (batch, key), beside (a teacher's weights): what goes in. temporary: gradients,
    activations, gathered weights, what XLA gave room to beyond these. results: what comes out besides the new state,
    which takes the old one's place.
    """

    weights: int
    opt_state: int
    inputs: int
    temporary: int
    results: int
    beside: int = 0

    @property
    def peak(self) -> int:
        return sum(self)


class Study(NamedTuple):
    """A compiled step. state, frozen: shapes with shardings. products: FLOPs of all matrix products, over all devices.

    traffic: bytes that one device reads and writes. collectives: see there. seconds: that compiling took. counts,
    trained: see `state.count` and `state.work`. others: configs of the models that the step runs forward besides.
    """

    config: Any
    model_config: Any
    mesh: Any
    frozen: Any
    state: Any
    memory: Memory
    products: int
    traffic: int
    collectives: list[collectives.Collective]
    seconds: float
    counts: dict[str, int]
    trained: dict[str, int]
    others: tuple = ()


def study(config, model_config, mesh, *, elsewhere: bool = False) -> Study:
    """Compiles the train step of `config` for the mesh and reads what it costs, with a teacher beside where it has one.

    elsewhere: the mesh is of CPU devices that stand for other hardware. bfloat16 is then compiled as float16, which
    is as wide: XLA makes most of bfloat16 float32 on a CPU, buffers and collectives of twice the size, and leaves
    float16 as it is but for the operands of products.
    """
    half = elsewhere and config.model.dtype == "bfloat16"
    compiled_as = config
    if elsewhere:
        compiled_as = config.copy_and_resolve_references()
        compiled_as.model.attention = stand_in(config.model.attention, config.seq_len)
    model_config = model_config.replace(**compiling.model_options(compiled_as))
    standing = model_config.replace(dtype="float16") if half else model_config
    with jax.set_mesh(mesh), decoder.precision(config.model.dtype):
        tuning = states.make_tuning(config, standing)
        optimizer, _ = optimizers.make_optimizer(config.optimizer, config.steps or 1000)
        frozen, state = compiling.abstract_state(tuning, mesh, optimizer)
        company, others = companions.abstract(compiled_as, tuning, mesh, dtype=standing.dtype)
        began = time.perf_counter()
        key = jax.random.key(config.seed)
        traced = compiling.trace_step(
            config, tuning.model, optimizer, state, companions.stand_beside(frozen, others), mesh, key,
            objective=company.objective, windows=standing.windows, others=company.windows, extras=company.extras,
        )
        compiled = traced.lower().compile(QUICK if elsewhere else None)
        seconds = time.perf_counter() - began
    program = hlo.parse(compiled.as_text())
    return Study(
        config, model_config, mesh, frozen, state, read_memory(compiled, state, frozen, others),
        count_products(traced.jaxpr), hlo.count_traffic(program), collectives.find_collectives(program), seconds,
        states.count(tuning, state.trainable), states.work(tuning, state.trainable, config.transform),
        company.others,
    )


def stand_in(attention: str, length: int) -> str:
    """The attention to compile on CPUs for other hardware: what auto is there; chunks for a kernel.

    A kernel compiles nowhere else; chunks keep as little as it does for the backward pass.
    """
    return "chunked" if attention in backends.BACKENDS else backends.form(attention, length, "")


def read_memory(compiled, state, frozen, others=None) -> Memory:
    """The memory of one device, from XLA's own account of the compiled step. others: a teacher's weights."""
    given = compiled.memory_analysis()
    weights = device_bytes((state.trainable, frozen))
    opt_state, beside = device_bytes(state.opt_state), device_bytes(others)
    inputs = max(0, given.argument_size_in_bytes - weights - opt_state - beside)
    return Memory(
        weights, opt_state, inputs, given.temp_size_in_bytes,
        max(0, given.output_size_in_bytes - given.alias_size_in_bytes), beside,
    )


def device_bytes(tree: Any) -> int:
    """The bytes of a tree's arrays on one device, from their shapes and shardings."""
    return sum(_shard_size(x) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _shard_size(leaf) -> int:
    size = 1
    for length in leaf.sharding.shard_shape(leaf.shape):
        size *= length
    return size
