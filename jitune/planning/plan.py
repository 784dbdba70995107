"""`jitune plan`: a step on hardware that is not here, from its config alone: no weights, no data.

    jitune plan --family llama --preset 8b --mesh fsdp=16 --hardware h200
    jitune plan --config configs/sft.py --config.model.path=DIR --mesh fsdp=8 --hardware h100-sxm

The real train step is compiled for as many virtual CPU devices as the mesh has, over shapes in the place of
arrays. XLA's account of that program stands for the one that its compiler for the hardware would give.
"""

from __future__ import annotations

import math

import jax

from jitune import compiling, sharding
from jitune import config as configs
from jitune import hardware as machines
from jitune.hub import weights
from jitune.models.config import ModelConfig, preset_sizes
from jitune.planning import tables
from jitune.planning.collectives import SCATTERED
from jitune.planning.compare import compare, comparison, conclude
from jitune.planning.study import study
from jitune.types import BATCH_AXES, MESH_AXES, UserError

# Of presets that have no vocabulary of their own, as `jitune init` makes them.
VOCAB_SIZE = 4096
MAX_DEVICES = 1024
NOTES = """\
Compiled for {devices} virtual CPU devices, which stand for {name}:
- Memory is XLA:CPU's account. XLA for GPUs and TPUs orders and fuses otherwise,
  so that its own account differs.{half}
- Attention counts without kernels: in blocks of queries, with the scores of a
  block in memory, or in chunks (rows above 8,192 tokens, or for a kernel).
- "{sliced}" is a reduce-scatter on GPUs and TPUs, and counts as such.
- Not counted: the runtime, batches on their way, evaluation, samples,
  checkpoints. "fits" leaves {left:.0%} of the memory to these.
- A time is arithmetic on what it assumes, not a measurement.
`jitune train --dry_run` on the hardware gives its own compiler's account."""
HALF = """ bfloat16 is compiled as float16, as wide,
  but a CPU copies the operands of products to float32: the peak given is
  rather too high."""


def plan(config_file, words, *, hardware, family=None, preset=None, mesh=None, devices=None, rows="1,2,4", only=False):
    """Prints what a step costs, then what of remat policies and batch sizes fits.

    config_file, words: as `config.from_words` takes them. hardware: a name of `hardware.HARDWARE`. family, preset: the
    model, else config.model.path. mesh: "fsdp=16", else config.mesh. rows: rows a device to compare. only: no
    comparison. Raises UserError for anything given that cannot work.
    """
    machine = machines.find(hardware)
    counts = parse_rows(rows)
    config = configs.from_words(config_file, words)
    sizes = parse_mesh(mesh) if mesh else config.mesh.to_dict()
    sizes = settle_mesh(sizes, devices)
    config.mesh.update(sizes)
    if config_file is None:
        set_defaults(config, {word.partition("=")[0].removeprefix("--config.") for word in words})
    configs.check(config, needed=())
    model_config = read_model(config, family, preset)
    made = sharding.make_mesh(**sizes, devices=start_devices(math.prod(sizes.values())))
    compiling.check_batch(config, made)
    compiling.check_attention(model_config.replace(**compiling.model_options(config)), machine.platform)
    console = tables.open_console()
    first = study(config, model_config, made, elsewhere=True)
    tables.print_study(console, first, machine)
    if not only:
        cells = compare(first, model_config, machine, rows=counts)
        console.print(comparison(cells, machine))
        console.print()
        console.print(conclude(cells, machine) + "\n", soft_wrap=True)
    half = HALF if config.model.dtype == "bfloat16" else ""
    console.print(NOTES.format(devices=made.size, name=machine.name, sliced=SCATTERED, left=1 - tables.ROOM, half=half),
                  soft_wrap=True)


def parse_rows(text: str) -> tuple[int, ...]:
    """"1,2,4" -> (1, 2, 4). Raises UserError for anything but positive numbers."""
    try:
        counts = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        counts = ()
    if not counts or counts[0] < 1:
        raise UserError(f"--rows {text}: positive numbers joined by commas are needed, such as 1,2,4")
    return counts


def parse_mesh(text: str) -> dict[str, int]:
    """"fsdp=16" -> {"data": 1, "fsdp": 16, "expert": 1, "context": 1, "tensor": 1}; UserError for others."""
    sizes = dict.fromkeys(MESH_AXES, 1)
    for part in text.split(","):
        name, _, count = (piece.strip() for piece in part.partition("="))
        if name not in sizes or not count.removeprefix("-").isdigit():
            raise UserError(f"--mesh {text}: {part!r} is not an axis and its size; a mesh is written as "
                            f"data=2,fsdp=8,tensor=1, of the axes {', '.join(MESH_AXES)}")
        sizes[name] = int(count)
    return sizes


def settle_mesh(sizes: dict[str, int], devices: int | None) -> dict[str, int]:
    """The mesh with its -1 filled in. Raises UserError where the number of devices is not known, or is another."""
    given = sharding.describe(sizes, ", ", "=")
    free = [name for name, count in sizes.items() if count == -1]
    if len(free) > 1 or any(count < 1 and count != -1 for count in sizes.values()):
        raise UserError(f"mesh: sizes are positive, and at most one is -1; got {given}")
    fixed = math.prod(count for count in sizes.values() if count != -1)
    if free and not devices:
        raise UserError(f"mesh: {given} takes the devices that are there; give their number as --devices, or sizes "
                        "as --mesh fsdp=16")
    devices = devices or fixed
    if devices < 1 or devices % fixed or (not free and devices != fixed):
        raise UserError(f"mesh: {given} does not multiply to {devices} devices")
    if devices > MAX_DEVICES:
        raise UserError(f"mesh: {given} has {devices} devices; a plan is of at most {MAX_DEVICES}")
    return {name: devices // fixed if count == -1 else count for name, count in sizes.items()}


def start_devices(count: int) -> list:
    """`count` CPU devices. The backend starts here: no accelerator of this machine is touched."""
    try:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:
        pass  # it has started already, in a process that does more than plan
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise RuntimeError(f"{len(devices)} CPU devices have started in this process, the plan needs {count}")
    return devices[:count]


def set_defaults(config, given: set[str]) -> None:
    """What a plan without a config file assumes, where an option is not given: bfloat16, layers computed again in
    the backward pass, a row and 1024 tokens of logits on each device that has rows of its own."""
    shards = math.prod(config.mesh[axis] for axis in BATCH_AXES)
    assumed = {"model.dtype": "bfloat16", "model.remat": "full", "batch_size": shards * config.microbatches,
               "loss_chunk": 1024 * shards}
    for name, value in assumed.items():
        if name not in given:
            configs.override(config, name, str(value))


def read_model(config, family: str | None, preset: str | None) -> ModelConfig:
    """The architecture: of a preset, or of config.model.path (of a hub name, only its config.json is downloaded)."""
    if family or preset:
        if not (family and preset):
            raise UserError("--family and --preset go together")
        return ModelConfig.from_hf({"vocab_size": VOCAB_SIZE, **preset_sizes(family, preset)})
    if not config.model.path:
        raise UserError("no model: give --family and --preset, or --config.model.path")
    return weights.read_config(weights.resolve(config.model.path, ("config.json", "generation_config.json")))
