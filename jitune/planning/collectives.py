"""What moves between devices in one run of a compiled program: every collective, with its bytes.

    for c in find_collectives(hlo.parse(compiled.as_text())): print(c.kind, c.count, c.payload, c.moved)
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from jitune.planning import hlo

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute",
         "collective-broadcast")
SCATTERED = "all-reduce, sliced"


class Collective(NamedTuple):
    """One collective of a program.

    kind: of KINDS, or SCATTERED: an all-reduce of which each device only takes its slice, which XLA makes a
    reduce-scatter of on GPUs and TPUs. devices: that take part in one. count: how often it runs in a step.
    payload: bytes of the whole array in one run: what all-gather gives, what the others take. moved: bytes
    that each device sends in all runs, in rings.
    """

    kind: str
    devices: int
    count: int
    payload: int
    moved: int


def find_collectives(program: hlo.Program) -> list[Collective]:
    """Every collective between more than one device, in the order of the program."""
    found = []
    for computation, i, times in hlo.walk(program):
        kind = i.opcode.removesuffix("-start")
        devices = count_devices(i, program.header) if kind in KINDS else 1
        if devices == 1:
            continue
        payloads = {kind: _payload(program, computation, i, kind, devices)}
        if kind == "all-reduce":
            sliced = _sliced_bytes(program, computation, i)
            payloads = {SCATTERED: sliced, kind: payloads[kind] - sliced}
        for name, payload in payloads.items():
            if payload:
                moved = round(payload * _sent(name, devices)) * times
                found.append(Collective(name, devices, times, payload, moved))
    return found


def by_kind(collectives: list[Collective]) -> list[Collective]:
    """One entry for each kind and number of devices: counts and moved bytes are sums, payload the largest."""
    groups: dict[tuple[str, int], list[Collective]] = {}
    for c in collectives:
        groups.setdefault((c.kind, c.devices), []).append(c)
    sums = [
        Collective(kind, devices, sum(c.count for c in g), max(c.payload for c in g), sum(c.moved for c in g))
        for (kind, devices), g in groups.items()
    ]
    return sorted(sums, key=lambda c: -c.moved)


def _sent(kind: str, devices: int) -> float:
    """What one device sends, as a part of the payload: rings (Patarasuk and Yuan 2009, bandwidth optimal)."""
    others = (devices - 1) / devices
    return {"all-reduce": 2 * others, "collective-permute": 1.0}.get(kind, others)


def _payload(program: hlo.Program, computation: str, i: hlo.Instruction, kind: str, devices: int) -> int:
    here = program.computations[computation]
    taken = sum(hlo.count_bytes(here[o].shape) for o in i.operands if o in here)
    return taken * devices if kind == "all-gather" else taken


def _sliced_bytes(program: hlo.Program, computation: str, i: hlo.Instruction) -> int:
    """The bytes of an all-reduce's results of which each device only takes a slice."""
    values = [i]
    if i.opcode.endswith("-start"):
        values = [u for u in hlo.users(program, computation, i.name) if u.opcode == "all-reduce-done"]
    if i.shape.startswith("(") and not i.opcode.endswith("-start"):
        values = [u for u in hlo.users(program, computation, i.name) if u.opcode == "get-tuple-element"]
    whole = {v.name: hlo.count_bytes(v.shape) for v in values}
    parts = {v.name: hlo.slices(program, computation, v.name) for v in values}
    return sum(size for name, size in whole.items()
               if parts[name] and all(hlo.count_bytes(s.shape) < size for s in parts[name]))


def count_devices(i: hlo.Instruction, header: str) -> int:
    """How many devices take part in one collective.

    replica_groups is written {{0,1},{2,3}}, [2,2]<=[4], or mesh['a'=2,'b'=2] {'b'} with the axes that take part,
    of which 'a':(1)2 takes a part of size 2 only; {} is all. A permutation is between pairs.
    """
    if i.opcode.startswith("collective-permute"):
        pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", i.attributes)
        return 2 if pairs and any(a != b for a, b in re.findall(r"(\d+),(\d+)", pairs[1])) else 1
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", i.attributes):
        return found[1].count(",") + 1
    if found := re.search(r"replica_groups=\[(\d+),(\d+)\]", i.attributes):
        return int(found[2])
    if found := re.search(r"replica_groups=@?mesh\w*\[(.*?)\](?: ?\S*?)? ?\{(.*?)\}", i.attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", found[1])}
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", found[2])
        return math.prod(int(part) if part else sizes[name] for name, part in axes)
    counts = [int(n) for n in re.findall(r"(?:num_partitions|replica_count)=(\d+)", header)]
    return math.prod(counts) if counts else 1
