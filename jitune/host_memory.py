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


def available() -> float:
    """Bytes that the system could still give; infinity where it does not say (Linux does, in /proc/meminfo)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.inf
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), math.inf)
