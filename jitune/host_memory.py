"""Memory of the host between steps: kept by the process, or given back to the system.

On CPU a step's intermediate values come from malloc. glibc gives large blocks back as soon as they are free, so that
every step faults each of its pages in again: hundreds of thousands of faults, a sixth of the time of a step.
"""

from __future__ import annotations

import ctypes
import math
from pathlib import Path

# mallopt's numbers in glibc's malloc.h: one arena, no mmap for large blocks, no trimming, 256 MiB a growth.
SETTINGS = ((-8, 1), (-4, 0), (-1, -1), (-2, 1 << 28))


def keep_pages() -> bool:
    """Makes glibc keep freed memory; call it before the first array. Returns False where there is no glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return False
    return all(mallopt(number, value) == 1 for number, value in SETTINGS)


def available(root: Path = Path("/")) -> float:
    """Bytes that this process could still get: of the system's, or what its control groups (containers) leave of them.

    Infinity where nothing tells of it; Linux does. root: where /proc and /sys are.
    """
    meminfo = _read(root / "proc/meminfo").splitlines()
    system = next((1024 * int(line.split()[1]) for line in meminfo if line.startswith("MemAvailable")), math.inf)
    found = [system]
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            found += _left(root / "sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            found += _left(root / "sys/fs/cgroup/memory", path, *names)
    return min(found)


def _left(mount: Path, path: str, limit: str, usage: str, idle: str) -> list[int]:
    """What a control group and those above it still allow; pages of files that nobody reads are given up first."""
    folder, found = Path(path.strip("/")), []
    for one in (folder, *folder.parents):
        most, used = _read(mount / one / limit).strip(), _read(mount / one / usage).strip()
        if most.isdigit() and used.isdigit():
            lines = map(str.split, _read(mount / one / "memory.stat").splitlines())
            files = next((int(line[1]) for line in lines if line[:1] == [idle]), 0)
            found.append(max(int(most) - int(used) + files, 0))
    return found


def _read(path: Path) -> str:
    """The text of a file; nothing where it is not there or not ours to read."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
