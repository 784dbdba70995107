"""A compiled program, read from its text: how often each instruction runs, and the bytes it reads and writes.

    program = parse(compiled.as_text())
    for computation, instruction, times in walk(program): ...
    count_traffic(program)

XLA's own cost analysis counts the body of a loop once; here a body counts as often as its loop runs, which
XLA writes beside the loop (known_trip_count) or else in its condition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

BITS = {"pred": 8, "token": 0, "opaque": 0, "c64": 64, "c128": 128}
ARRAY = re.compile(r"\b(pred|token|opaque|[a-z]+\d+[a-z0-9]*)\[([\d,<= ]*)\]")
HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
CALLED = re.compile(r"(?:calls|to_apply|condition|body|true_computation|false_computation)=%?([\w.\-]+)")
BRANCHES = re.compile(r"(?:branch_computations|called_computations|calls)=\{([^}]*)\}")
# These move no data of their own.
FREE = frozenset("""parameter constant get-tuple-element tuple bitcast while conditional call after-all
    partition-id replica-id add-dependency opt-barrier domain async-start async-update async-done""".split())
# A value keeps its elements through these.
SAME = frozenset(("bitcast", "copy", "convert", "reshape", "transpose", "get-tuple-element"))


class Instruction(NamedTuple):
    """One line: `%name = shape opcode(operands), attributes`."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    inside: str  # the text between the parentheses
    attributes: str
    root: bool


class Program(NamedTuple):
    """computations: {name: {instruction name: Instruction}}. header: the first line, with num_partitions."""

    computations: dict[str, dict[str, Instruction]]
    entry: str
    header: str


def count_bytes(shape: str) -> int:
    """The bytes of a shape or a tuple of shapes: "(f32[2,3]{1,0}, bf16[4])" -> 32."""
    total = 0
    for kind, dims in ARRAY.findall(shape):
        size = 1
        for dim in dims.split(","):
            size *= int(dim.strip(" <=")) if dim.strip() else 1
        total += -(-size * _bits(kind) // 8)
    return total


def _bits(kind: str) -> int:
    """bf16 -> 16, f8e4m3fn -> 8, pred -> 8."""
    return BITS[kind] if kind in BITS else int(re.search(r"\d+", kind)[0])


def parse(text: str) -> Program:
    """Reads the text of an HLO module. Raises ValueError where it holds no entry computation."""
    computations, entry, current = {}, "", None
    for line in text.splitlines():
        if current is None or not line.startswith(" "):
            header = HEADER.match(line)
            if header and not line.startswith("HloModule"):
                current = computations[header[2]] = {}
                entry = header[2] if header[1] else entry
            continue
        if found := INSTRUCTION.match(line):
            current[found[2]] = _instruction(found[2], found[3], bool(found[1]))
    if not entry:
        raise ValueError("the text of a compiled program has no ENTRY")
    return Program(computations, entry, text.partition("\n")[0])


def _instruction(name: str, rest: str, root: bool) -> Instruction:
    end = _close(rest, 0) if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    start = rest.index("(")
    end = _close(rest, start)
    inside = rest[start + 1 : end - 1]
    operands = tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(name, shape, rest[:start], operands, inside, rest[end:], root)


def _close(text: str, start: int) -> int:
    """The index after the parenthesis that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index + 1
    raise ValueError(f"unbalanced parentheses in {text[:80]!r}")


def called(instruction: Instruction) -> list[str]:
    """The computations that an instruction runs."""
    names = CALLED.findall(instruction.attributes)
    for group in BRANCHES.findall(instruction.attributes):
        names += re.findall(r"%?([\w.\-]+)", group)
    return names


def count_trips(program: Program, loop: Instruction) -> int:
    """How often a while loop runs; 1 where neither XLA nor a constant in its condition says it."""
    if known := re.search(r'known_trip_count"?:\{"?n"?:"?(\d+)', loop.attributes):
        return int(known[1])
    condition = program.computations[re.search(r"condition=%?([\w.\-]+)", loop.attributes)[1]]
    limits = [int(i.inside) for i in condition.values() if i.opcode == "constant" and i.inside.isdigit()]
    return max([1, *limits])


def walk(program: Program, *, fusions: bool = True) -> Iterator[tuple[str, Instruction, int]]:
    """Yields (computation, instruction, how often it runs in one run of the program).

    Every branch of a conditional counts. fusions: also what is fused into one kernel.
    """

    def visit(name, times):
        for instruction in program.computations[name].values():
            yield name, instruction, times
            if not fusions and instruction.opcode not in ("while", "call", "conditional", "async-start"):
                continue
            more = count_trips(program, instruction) if instruction.opcode == "while" else 1
            for inner in called(instruction):
                yield from visit(inner, times * more)

    yield from visit(program.entry, 1)


def users(program: Program, computation: str, name: str) -> list[Instruction]:
    """The instructions of a computation that take `name`."""
    return [i for i in program.computations[computation].values() if name in i.operands]


def slices(program: Program, computation: str, name: str) -> list[Instruction] | None:
    """The dynamic-slices that are all that is ever taken of a value; None where something takes it whole."""
    found: list[Instruction] = []
    if program.computations[computation][name].root:
        return None
    for user in users(program, computation, name):
        if user.opcode == "dynamic-slice" and user.operands[0] == name:
            found.append(user)
            continue
        inner = None
        if user.opcode in SAME:
            inner = slices(program, computation, user.name)
        elif user.opcode == "fusion":
            inner = _slices_in_fusion(program, user, name)
        if inner is None:
            return None
        found += inner
    return found


def _slices_in_fusion(program: Program, fusion: Instruction, name: str) -> list[Instruction] | None:
    body, found = called(fusion)[0], []
    for parameter in program.computations[body].values():
        if parameter.opcode == "parameter" and fusion.operands[int(parameter.inside)] == name:
            inner = slices(program, body, parameter.name)
            if inner is None:
                return None
            found += inner
    return found


def count_traffic(program: Program) -> int:
    """Bytes that a device's kernels read from and write to its memory in one run.

    A kernel (a fusion, or an instruction by itself) reads its operands and writes its result once; of an
    operand that it only slices, and of a result that it only updates in part, that part counts.
    """
    return sum(times * _traffic(program, computation, i) for computation, i, times in walk(program, fusions=False)
               if i.opcode not in FREE and not i.opcode.endswith("-done"))


def _traffic(program: Program, computation: str, i: Instruction) -> int:
    here = program.computations[computation]
    sizes = [count_bytes(here[o].shape) if o in here else 0 for o in i.operands]
    result = count_bytes(i.shape)
    if i.opcode in ("dynamic-slice", "gather", "broadcast", "iota"):
        return 2 * result if i.opcode in ("dynamic-slice", "gather") else result
    if i.opcode == "dynamic-update-slice":
        return 2 * sizes[1]
    if i.opcode == "scatter":
        return 3 * sum(sizes[len(sizes) // 2 + 1 :])
    return _fusion_traffic(program, i, sizes) if i.opcode == "fusion" else sum(sizes) + result


def _fusion_traffic(program: Program, fusion: Instruction, sizes: list[int]) -> int:
    name = called(fusion)[0]
    body = program.computations[name]
    updates = {_origin(body, u.operands[0]): u for u in body.values() if u.opcode == "dynamic-update-slice"}
    total = count_bytes(fusion.shape)
    for parameter in (p for p in body.values() if p.opcode == "parameter"):
        size = sizes[int(parameter.inside)]
        parts = slices(program, name, parameter.name)
        if parameter.name in updates and len(users(program, name, parameter.name)) == 1:
            # Updated in place: neither read nor written but for the part.
            total += count_bytes(body[updates[parameter.name].operands[1]].shape) - size
        else:
            total += sum(count_bytes(p.shape) for p in parts) if parts else size
    return max(total, 0)


def _origin(body: dict[str, Instruction], name: str) -> str:
    """The value that `name` is only another view of."""
    while name in body and body[name].opcode in SAME and body[name].operands:
        name = body[name].operands[0]
    return name
