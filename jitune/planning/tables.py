"""Studies as text: tables of at most 80 columns, without lines, so that a pipe gets the same as a terminal.

    console = open_console()
    print_study(console, study, hardware)
"""

from __future__ import annotations

import re

from jitune import companions, flops, tree
from jitune.planning import collectives
from jitune.planning.study import Study, device_bytes

GIB = 2**30
# How much of a device's memory a step may take: the rest is for drivers, the runtime and fragmentation.
ROOM = 0.92
# Assumed wherever a time is shown: the part of the peak FLOP/s at which all products run.
UTILISATION = 0.4
GROUPS = (
    ("embedding", r"^embed/"), ("attention", r"^layers/attn/.*(kernel|bias)$"), ("experts", r"^layers/mlp/experts/"),
    ("router", r"^layers/mlp/(router|shared_gate)/"), ("mlp", r"^layers/mlp/"),
    ("norms", r"norm/(scale|bias)$"), ("head", r"^lm_head/"),
)
# What a transform adds.
ADDED = r"/(lora_[ab]|magnitude|rows)$|^(prefix|prompt)\b"


def open_console():
    """Standard output: 80 columns where it is a pipe, and no wrapping of what is longer."""
    from rich.console import Console

    return Console(highlight=False, emoji=False, markup=False)


def size(count: float) -> str:
    """Bytes for a reader: 1610612736 -> "1.50 GiB"."""
    for unit, name in ((2**40, "TiB"), (GIB, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:,.2f} {name}"
    return f"{count:,.0f} B"


def big(count: float) -> str:
    """A count for a reader: 1.98e15 -> "1.98 P"."""
    for unit, name in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if count >= unit:
            return f"{count / unit:,.2f} {name}"
    return f"{count:,.0f} "


def table(*columns: str, title: str = ""):
    """A table without lines; a column whose name begins with > is of numbers, to the right."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, title=title or None, title_justify="left", title_style="bold",
                 header_style="dim")
    for name in columns:
        made.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left",
                        no_wrap=True, overflow="ellipsis")
    return made


def print_study(console, study: Study, hardware=None, *, lengths=None) -> None:
    """Everything about one configuration. hardware: its entry, None where it is not known.

    lengths: of the documents of a batch; by default every row is one document.
    """
    for part in (head(study, hardware), parameters(study), layout(study), memory(study, hardware),
                 work(study, hardware, lengths), moved(study, hardware)):
        console.print(part, soft_wrap=isinstance(part, str))
        console.print()


def head(study: Study, hardware=None) -> str:
    """What is studied, in three lines."""
    m, c = study.model_config, study.config
    mesh = " x ".join(f"{name} {count}" for name, count in study.mesh.shape.items())
    parts = f" in {c.microbatches} microbatches" if c.microbatches > 1 else ""
    aim = companions.aim(c)
    experts = f", {m.experts_per_token} of {m.num_experts} experts a token" if m.num_experts else ""
    return (
        f"{m.family}: {study.counts['parameters']:,} parameters, {m.num_layers} layers "
        f"of width {m.dim}{experts}, vocabulary {m.vocab_size:,}\n"
        f"{mesh}{f' of {hardware.name}' if hardware else ''}; a step of {c.batch_size} x {c.seq_len} tokens{parts}\n"
        f"{m.dtype} over {kept(c)}, remat {m.remat}, {c.optimizer.name}, loss_chunk {c.loss_chunk}"
        + (f"\nobjective {aim}" if aim else "")
    )


def kept(config) -> str:
    """What the products are taken with: float32 weights, or frozen ones and what is trained."""
    t = config.transform
    if t.name == "full":
        return "float32 weights"
    return f"{t.quantize or config.model.dtype} frozen weights with {t.name}"


def parameters(study: Study):
    """Parameters by group."""
    rows = table("parameters", ">count", ">share", ">trained", ">a device", ">its state")
    trained, frozen = tree.flatten(study.state.trainable), tree.flatten(study.frozen)
    state, whole = tree.flatten(study.state.opt_state), study.counts["parameters"]
    names = dict.fromkeys([group_of(p) for p in (*trained, *frozen)])
    for name in (*names, "all"):
        mine = [x for p, x in trained.items() if name in (group_of(p), "all")]
        still = [x for p, x in frozen.items() if name in (group_of(p), "all")]
        beside = [x for p, x in state.items() if name in (group_of(_tail(p, trained)), "all")]
        count = tree.count_params(mine) + sum(
            count_weights(p, x) for p, x in frozen.items() if name in (group_of(p), "all")
        )
        rows.add_row(name, f"{count:,}", f"{count / whole:.1%}", f"{tree.count_params(mine):,}",
                     size(device_bytes((mine, still))), size(device_bytes(beside)))
    return rows


def group_of(path: str) -> str:
    """The group of a parameter: one of GROUPS, added (by a transform), or other."""
    path = _own(path)
    if re.search(ADDED, path):
        return "added"
    path = re.sub(r"/codes/\d$", "", path)
    return next((name for name, pattern in GROUPS if re.search(pattern, path)), "other")


def _own(path: str) -> str:
    """A path without the part of a chain that it is in, and without base."""
    return re.sub(r"^(\d+/)?(base/)?", "", path)


def count_weights(path: str, leaf) -> int:
    """The parameters that a frozen array stands for: of two codes in a byte, two; of scales, none."""
    path = re.sub(r"^(\d+/)?", "", path)
    if not path.startswith("base/") or re.search(r"/codes/[12]$", path):
        return 0
    return leaf.size * 2 if leaf.dtype == "uint8" else leaf.size


def _tail(path: str, names) -> str:
    """The parameter that a leaf of the optimizer's state belongs to, or ""."""
    parts = path.split("/")
    return next((t for t in ("/".join(parts[i:]) for i in range(len(parts))) if t in names), "")


def layout(study: Study):
    """Every parameter's shape and how it lies on the mesh."""
    rows = table("sharding", "shape", "split over", "a device's part")
    for path, leaf in {**tree.flatten(study.frozen), **tree.flatten(study.state.trainable)}.items():
        axes = [", ".join([e] if isinstance(e, str) else e or ["-"]) for e in leaf.sharding.spec]
        axes = [axis if study.mesh.shape.get(axis, 2) > 1 else "-" for axis in axes]
        part = leaf.sharding.shard_shape(leaf.shape)
        rows.add_row(_own(path), _shape(leaf.shape), ", ".join(axes) if set(axes) - {"-"} else "whole everywhere",
                     _shape(part))
    return rows


def _shape(shape) -> str:
    return "x".join(map(str, shape)) or "1"


def memory(study: Study, hardware=None):
    """The memory of one device at its worst moment."""
    m = study.memory
    rows = table("memory of a device", ">bytes", ">of it")
    whole = hardware.memory_bytes if hardware else m.peak
    for name, count in (
        ("weights", m.weights), *([("a teacher's weights", m.beside)] if m.beside else []),
        ("optimizer state", m.opt_state), ("batch", m.inputs),
        ("gradients, activations, gathered weights", m.temporary), ("other results", m.results), ("peak", m.peak),
    ):
        rows.add_row(name, size(count), f"{count / whole:.1%}")
    if hardware:
        rows.add_row(f"{hardware.name} has", size(hardware.memory_bytes), verdict(m.peak, hardware))
    return rows


def verdict(peak: int, hardware) -> str:
    """fits, tight (more than ROOM of the memory) or too big."""
    share = peak / hardware.memory_bytes
    return "fits" if share <= ROOM else "tight" if share <= 1 else "too big"


def count_model_flops(study: Study, lengths=None) -> float:
    """Model FLOPs of a step; lengths of its documents, by default one of seq_len for every row."""
    c = study.config
    lengths = [c.seq_len] * c.batch_size if lengths is None else list(lengths)
    pairs = flops.count_all_pairs(study.model_config, lengths)
    found = flops.train_flops(study.model_config, sum(lengths), pairs, **study.trained)
    for other in study.others:
        found += flops.forward_flops(other, sum(lengths), flops.count_all_pairs(other, lengths))
    return found


def work(study: Study, hardware=None, lengths=None):
    """FLOPs and bytes of a step, and with a known device how long it would take."""
    rows = table("a step's work", ">all devices", ">a device")
    devices, model = study.mesh.size, count_model_flops(study, lengths)
    rows.add_row("model FLOPs (causal, within documents)", f"{big(model)}FLOP", f"{big(model / devices)}FLOP")
    rows.add_row("matrix products as compiled, recomputation too", f"{big(study.products)}FLOP",
                 f"{big(study.products / devices)}FLOP")
    rows.add_row("read from and written to memory", size(study.traffic * devices), size(study.traffic))
    seconds = step_seconds(study, hardware)
    if seconds:
        tokens = study.config.batch_size * study.config.seq_len if lengths is None else sum(lengths)
        rows.add_row(f"time, assuming the products at {UTILISATION:.0%} of peak", "", f"{seconds:,.2f} s")
        rows.add_row("  tokens a second", f"{tokens / seconds:,.0f}", f"{tokens / seconds / devices:,.0f}")
    return rows


def step_seconds(study: Study, hardware) -> float | None:
    """How long the products take at UTILISATION of the peak; None where the peak is not known."""
    peak = hardware.peak_flops.get(study.config.model.dtype) if hardware else None
    return study.products / study.mesh.size / (peak * UTILISATION) if peak else None


def moved(study: Study, hardware=None):
    """What moves between devices, by collective."""
    found = collectives.by_kind(study.collectives)
    if not found:
        return "between devices nothing moves"
    rows = table("between devices", ">among", ">times", ">largest", ">a device sends")
    for c in found:
        rows.add_row(c.kind, str(c.devices), f"{c.count:,}", size(c.payload), size(c.moved))
    total = sum(c.moved for c in found)
    rows.add_row("all", "", f"{sum(c.count for c in found):,}", "", size(total))
    if hardware:
        rows.add_row("  at the links' full rate", "", "", "", f"{total / (hardware.link_bytes / 2):,.2f} s")
    return rows
