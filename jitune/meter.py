"""What a run measures of itself: the time to its first step, model FLOPs utilization, memory.

    startup = Startup(process_start()); ...; startup.lap("data"); ...
    peak = find_peak(mesh, "bfloat16")
    measure = make_measure(...)             # called by the recorder with the numbers of each step
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

import jitune
from jitune import flops, hardware
from jitune.runlog import write_atomically


def process_start() -> float:
    """When this process began, on the clock of `time.perf_counter`; jitune's import where /proc does not tell."""
    try:
        # The name, second of the fields, may hold spaces; the 22nd is the start in ticks since the machine's.
        ticks = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return jitune.IMPORTED
    return min(jitune.IMPORTED, time.perf_counter() - age)


class Startup:
    """Splits the time from `began` to the first step: each lap gives what passed since the last one to a name."""

    def __init__(self, began: float | None = None):
        self.began = self.last = time.perf_counter() if began is None else began
        self.seconds: dict[str, float] = {}
        self.from_cache: bool | None = None

    def lap(self, name: str, now: float | None = None) -> None:
        """Ends a lap, now or at a time of `time.perf_counter`."""
        now = time.perf_counter() if now is None else now
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.last = now

    def line(self) -> str:
        """"first step after 9.8 s: import 2.1, devices 0.1, ..."."""
        notes = {True: " (from the cache)", False: "", None: ""}
        parts = [
            f"{name} {seconds:.1f}{notes[self.from_cache] if name == 'compile' else ''}"
            for name, seconds in self.seconds.items()
        ]
        return f"first step after {self.last - self.began:.1f} s: {', '.join(parts)}"


class Peak(NamedTuple):
    """FLOP/s that all devices of a run reach at most, and whose word that is; None where nobody knows."""

    flops: float | None
    source: str | None


def find_peak(mesh, dtype: str) -> Peak:
    """The peak of a mesh in a dtype: data sheets, or on CPUs what this process measures, times the processes.

    The devices of a CPU process share its cores, so they are not counted.
    """
    device = mesh.devices.flat[0]
    if device.platform == "cpu":
        return Peak(hardware.measure_peak(dtype) * jax.process_count(), "measured")
    entry = hardware.of_device(device)
    peak = entry.peak_flops.get(dtype) if entry else None
    return Peak(peak * mesh.size, "data sheet") if peak else Peak(None, None)


def explain(peak: Peak, mesh, dtype: str) -> str:
    """A line that says what MFU is measured against."""
    kind = mesh.devices.flat[0].device_kind
    if peak.flops is None:
        return f"MFU is left out: the peak of {kind} in {dtype} is not known"
    if peak.source == "measured":
        return f"MFU is against {peak.flops / 1e9:,.0f} GFLOP/s in {dtype}, measured on this machine"
    return f"MFU is against {peak.flops / 1e12:,.1f} TFLOP/s in {dtype}: {mesh.size} x {kind}, data sheet"


def memory_kind(device) -> str:
    """What `read_memory` reads: "peak" of an accelerator, or "resident" of a process on a CPU."""
    return "resident" if device.platform == "cpu" else "peak"


def read_memory(device) -> int | None:
    """Bytes: the most that were in use on an accelerator, or what a process on a CPU holds now; None: not known."""
    if device.platform == "cpu":
        try:
            pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
        except OSError:
            return None
        return pages * os.sysconf("SC_PAGE_SIZE")
    return (device.memory_stats() or {}).get("peak_bytes_in_use")


def make_first(directory: Path | None, startup: Startup, peak: Peak, mesh, counts: dict[str, int], say):
    """Makes `first(step, done)`, which ends the start: says how long it took and writes startup.json, if anywhere.

    counts: more numbers for the file, such as the number of parameters.
    """

    def first(step: int, done: float) -> None:
        startup.lap("step", done)
        say(startup.line())
        if directory is not None:
            found = describe_start(startup, step, peak, mesh, counts)
            write_atomically(directory / "startup.json", json.dumps(found, indent=2) + "\n")

    return first


def describe_start(startup: Startup, step: int, peak: Peak, mesh, counts: dict[str, int]) -> dict:
    """The content of startup.json."""
    device = mesh.devices.flat[0]
    return {
        "step": step,
        "seconds": {name: round(seconds, 3) for name, seconds in startup.seconds.items()},
        "total_seconds": round(startup.last - startup.began, 3),
        "step_from_cache": startup.from_cache,
        "device": device.device_kind,
        "platform": device.platform,
        "devices": mesh.size,
        "processes": jax.process_count(),
        "peak_flops": peak.flops,
        "peak_source": peak.source,
        "memory": memory_kind(device),
        **counts,
        "versions": {"jitune": jitune.__version__, "jax": jax.__version__, "python": platform.python_version()},
    }


def make_measure(model_config, peak: Peak, device, first: Callable[[int, float], None], others=(), **trained):
    """Makes `measure(step, numbers, seconds, done) -> more numbers`: mfu and memory_bytes, where they are known.

    numbers: the metrics of a step, of all devices. first: called once, with the first step and when it was done.
    trained: what `flops.train_flops` needs to know of what is trained. others: configs of the models that a step runs
    forward besides.
    """
    steps: list[int] = []

    def measure(step: int, numbers: dict, seconds: float, done: float) -> dict:
        if not steps:
            steps.append(step)
            first(step, done)
        found = {}
        if peak.flops:
            work = flops.train_flops(model_config, numbers["tokens"], numbers["pairs"], **trained)
            pairs = numbers.get("other_pairs", numbers["pairs"])
            work += sum(flops.forward_flops(config, numbers["tokens"], pairs) for config in others)
            found["mfu"] = work / seconds / peak.flops
        memory = read_memory(device)
        return found if memory is None else {**found, "memory_bytes": memory}

    return measure
